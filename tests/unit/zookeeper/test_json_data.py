"""zookeeper/json_data.py, and with it what nodes and jobs hold: the bytes, and what is refused."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import pytest

from minikafka.api.jobs import JobSpec
from minikafka.api.nodes import NodeStatus
from minikafka.broker.jobs.ports import JobResult
from minikafka.core.jobs.master import Entry, JobState
from minikafka.errors import InvalidRequestError
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.json_data import MAX_DATA_BYTES, Fields, decode, encode
from minikafka.zookeeper.stores import jobs, nodes
from minikafka.zookeeper.unreadable import UnreadableNodes

PATH = "/node"
STATUS = NodeStatus(1, "A", 5, 12.5, rss_bytes=2**40, offline=("t-0",))
STATUS_BYTES = (
    b'{"version":1,"broker_id":1,"name":"A","started_at_ms":5,"cpu_percent":12.5,'
    b'"rss_bytes":1099511627776,"disk_used_bytes":0,"disk_free_bytes":0,"bytes_in_per_s":0,'
    b'"bytes_out_per_s":0,"partitions_led":0,"partitions_held":0,"partitions_offline":0,'
    b'"offline":["t-0"]}'
)
TASK_BYTES = (
    b'{"version":1,"kind":"scrub","topic":"t","partitions":[0,2],"replicas":[],"submitted_at_ms":5}'
)


def test_the_status_of_a_node_keeps_its_bytes_and_is_read_back():
    assert encode(asdict(STATUS)) == STATUS_BYTES
    assert decode(PATH, STATUS_BYTES, partial(nodes._status, 1)) == STATUS


def test_a_status_of_another_version_of_minikafka_has_defaults_for_what_it_lacks():
    data = b'{"version":1,"name":"A","started_at_ms":5,"cpu_percent":7,"colour":"red"}'
    assert decode(PATH, data, partial(nodes._status, 3)) == NodeStatus(3, "A", 5, 7)


def test_the_status_of_a_job_keeps_its_bytes():
    entry, result = Entry("task-x", 1, 77, 2), JobResult(True, "no damage", ("one", "two"))
    assert encode(jobs._status_fields(JobState.DONE, entry, result)) == (
        b'{"version":1,"state":"done","attempt":2,"node_id":1,"incarnation":77,"ok":true,'
        b'"summary":"no damage","details":["one","two"]}'
    )


def test_the_task_of_a_job_is_read():
    assert decode(PATH, TASK_BYTES, jobs._spec) == (JobSpec("scrub", "t", (0, 2)), 5)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (b'"cpu_percent":12.5', b'"cpu_percent":true', "cpu_percent is True, expected a number"),
        (b'"cpu_percent":12.5', b'"cpu_percent":NaN', "cpu_percent is nan"),
        (b'"cpu_percent":12.5', b'"cpu_percent":1e999', "cpu_percent is inf"),
        (b'"name":"A",', b"", "name is missing"),
        (b'"rss_bytes":1099511627776', b'"rss_bytes":9223372036854775808', "rss_bytes is 92"),
        (b'"offline":["t-0"]', b'"offline":"t-0"', "offline is 't-0', expected a list"),
    ],
)
def test_a_wrong_status_is_named_with_what_is_wrong(before, after, complaint):
    assert before in STATUS_BYTES
    data = STATUS_BYTES.replace(before, after)
    with pytest.raises(CorruptNodeError, match=complaint) as refused:
        decode(PATH, data, partial(nodes._status, 1))
    assert refused.value.path == PATH


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (b"[0,2]", b"[0,true]", "partitions is .*, expected a list of numbers"),
        (b"[0,2]", b"[0,9223372036854775808]", "partitions is"),
        (b'"topic":"t"', b'"topic":7', "topic is 7, expected text"),
        (b'"version":1', b'"version":2', "its version is 2, and this minikafka reads version 1"),
        (b'"version":1', b'"version":true', "its version is True"),
    ],
)
def test_a_wrong_task_is_named_with_what_is_wrong(before, after, complaint):
    with pytest.raises(CorruptNodeError, match=complaint):
        decode(PATH, TASK_BYTES.replace(before, after), jobs._spec)


def test_a_state_that_no_job_has_is_named_with_those_that_there_are():
    data = b'{"version":1,"state":"asleep"}'
    with pytest.raises(CorruptNodeError, match="state is 'asleep', expected one of submitted, "):
        decode(PATH, data, jobs._state)


def test_an_object_within_is_read_by_its_own_fields():
    data = b'{"version":1,"status":{"name":"A"},"list":[1]}'
    assert decode(PATH, data, lambda fields: fields.object("status").text("name")) == "A"
    with pytest.raises(CorruptNodeError, match=r"list is \[1\], expected an object"):
        decode(PATH, data, lambda fields: fields.object("list"))


def test_who_can_go_on_without_a_node_notes_it_and_forgets_it_when_it_is_right():
    unreadable = UnreadableNodes()

    def read(data: bytes) -> str | None:
        return unreadable.decode(PATH, lambda: decode(PATH, data, partial(Fields.text, name="a")))

    assert read(b'{"version":1}') is None
    assert unreadable.nodes[PATH].startswith("a is missing")
    assert read(b'{"version":1,"a":"b"}') == "b"
    assert PATH not in unreadable


def test_what_is_too_large_for_a_node_is_refused_with_advice():
    with pytest.raises(InvalidRequestError, match=r"at most 1000000 \(say less\)"):
        encode({"a": "x" * MAX_DATA_BYTES}, advice="say less")
    assert len(encode({"a": "x" * (MAX_DATA_BYTES - 20)})) == MAX_DATA_BYTES
