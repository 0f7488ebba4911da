"""What the znodes hold."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.errors import InvalidRequestError
from minikafka.model import (
    Assignment,
    BrokerInfo,
    KafkaListener,
    PartitionState,
    SecurityProtocol,
    TopicDescription,
    TopicPartition,
)
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.json_data import MAX_DATA_BYTES
from tests.helpers.listeners import plaintext_at

BROKER = BrokerInfo(
    broker_id=5,
    name="E",
    grpc_host="10.0.0.5",
    grpc_port=19092,
    kafka_listeners=plaintext_at("kafka.example", 9092),
    rack="r1",
    storage_id="disk",
    dirty=True,
    broker_epoch=77,
)
STATE = PartitionState(1, 2, (1, 2, 3), 4, 9, {1: "a", 2: "b", 3: "c"})

broker_ids = st.lists(st.integers(1, 50), unique=True, max_size=6).map(tuple)


def fields_of(data: bytes) -> dict:
    return json.loads(data)


def test_a_broker_is_kept_under_kafkas_names_and_some_of_our_own():
    assert fields_of(codec.encode_broker(BROKER, 1_700_000_000_000)) == {
        "version": 1,
        "host": "kafka.example",
        "port": 9092,
        "endpoints": ["PLAINTEXT://kafka.example:9092"],
        "listener_security_protocol_map": {"PLAINTEXT": "PLAINTEXT"},
        "rack": "r1",
        "timestamp": "1700000000000",
        "name": "E",
        "grpc_host": "10.0.0.5",
        "grpc_port": 19092,
        "storage_id": "disk",
        "dirty": True,
        "features": {},
    }
    data = codec.encode_broker(BROKER, 0)
    assert codec.decode_broker("/brokers/ids/5", data, 5, 77) == BROKER


def test_a_broker_may_have_several_listeners():
    broker = replace(
        BROKER,
        kafka_listeners=(
            KafkaListener("INSIDE", SecurityProtocol.PLAINTEXT, "::1", 9092),
            KafkaListener("OUTSIDE", SecurityProtocol.SASL_SSL, "kafka.example", 443),
        ),
    )
    data = codec.encode_broker(broker, 0)
    fields = fields_of(data)
    assert (fields["host"], fields["port"]) == (None, -1)  # none is named PLAINTEXT
    assert fields["endpoints"] == ["INSIDE://[::1]:9092", "OUTSIDE://kafka.example:443"]
    assert codec.decode_broker("/brokers/ids/5", data, 5, 77) == broker


def test_a_broker_from_before_there_were_several_has_one_listener():
    fields = fields_of(codec.encode_broker(BROKER, 0))
    del fields["endpoints"], fields["listener_security_protocol_map"]
    assert codec.decode_broker("/b", json.dumps(fields).encode(), 5, 77) == BROKER
    fields["port"] = -1
    found = codec.decode_broker("/b", json.dumps(fields).encode(), 5, 77)
    assert found.kafka_listeners == ()


@pytest.mark.parametrize(
    ("endpoints", "protocols", "why"),
    [
        (["PLAINTEXT:9092"], {}, "expected NAME://HOST:PORT"),
        (["PLAINTEXT://a:70000"], {}, "expected NAME://HOST:PORT"),
        (["PLAINTEXT://a:-1"], {}, "expected NAME://HOST:PORT"),
        (["INSIDE://a:1"], {}, "expected one of PLAINTEXT"),
        (["INSIDE://a:1"], {"INSIDE": "TLS"}, "expected one of PLAINTEXT"),
        (["PLAINTEXT://a:1"] * 65, {}, "expected 64 texts at most"),
        ([1], {}, "expected 64 texts at most"),
    ],
)
def test_listeners_that_cannot_be_are_corrupt(endpoints, protocols, why):
    fields = fields_of(codec.encode_broker(BROKER, 0))
    fields |= {"endpoints": endpoints, "listener_security_protocol_map": protocols}
    with pytest.raises(CorruptNodeError, match=why):
        codec.decode_broker("/b", json.dumps(fields).encode(), 5, 77)


def test_a_broker_says_what_it_can_do_of_transactions():
    data = codec.encode_broker(replace(BROKER, transaction_level=2), 0)
    features = {"transaction.version": {"min_version": 1, "max_version": 2}}
    assert fields_of(data)["features"] == features
    assert codec.decode_broker("/brokers/ids/5", data, 5, 77).transaction_level == 2


def test_a_broker_without_a_kafka_listener_has_port_minus_1_as_in_kafka():
    broker = BrokerInfo(1, "A", "127.0.0.1", 19092)
    data = codec.encode_broker(broker, 0)
    assert fields_of(data)["host"] is None
    assert fields_of(data)["port"] == -1
    assert codec.decode_broker("/brokers/ids/1", data, 1, -1) == broker


def test_a_state_is_kept_under_kafkas_names():
    data = codec.encode_state(STATE)
    assert fields_of(data) == {
        "version": 1,
        "leader": 1,
        "leader_epoch": 2,
        "isr": [1, 2, 3],
        "controller_epoch": 4,
        "isr_storage": {"1": "a", "2": "b", "3": "c"},
    }
    assert codec.decode_state("/s", data, 9) == STATE


@given(st.data(), st.integers(0, 2**31 - 2), broker_ids)
def test_every_state_is_read_back_and_gives_the_same_bytes_again(data, leader_epoch, isr):
    leader = data.draw(st.sampled_from((-1, *isr)))
    storage = {member: data.draw(st.text()) for member in isr if data.draw(st.booleans())}
    state = PartitionState(leader, leader_epoch, isr, 1, 0, storage)
    data = codec.encode_state(state)
    found = codec.decode_state("/s", data, 0)
    assert found == state
    assert codec.encode_state(found) == data


def test_a_topic_is_kept_as_kafka_keeps_it():
    topic = TopicDescription(
        "words", "t" * 22, {0: Assignment((1, 2, 3), (3,), (1,)), 1: Assignment((2, 1))}
    )
    data = codec.encode_topic(topic)
    assert fields_of(data) == {
        "version": 3,
        "topic_id": "t" * 22,
        "partitions": {"0": [1, 2, 3], "1": [2, 1]},
        "adding_replicas": {"0": [3]},
        "removing_replicas": {"0": [1]},
    }
    assert codec.decode_topic("/t", data, "words") == topic


def test_replicas_with_a_log_to_delete_are_kept_beside_the_others():
    topic = TopicDescription("words", "t" * 22, {0: Assignment((1,), dropped=(2, 3))})
    data = codec.encode_topic(topic)
    assert fields_of(data)["dropped_replicas"] == {"0": [2, 3]}
    assert codec.decode_topic("/t", data, "words") == topic


@given(st.lists(broker_ids.filter(len), min_size=1, max_size=20))
def test_every_topic_is_read_back(assignments):
    topic = TopicDescription(
        "words",
        "t" * 22,
        {
            number: Assignment(replicas, replicas[:1], replicas[1:2])
            for number, replicas in enumerate(assignments)
        },
    )
    assert codec.decode_topic("/t", codec.encode_topic(topic), "words") == topic


def test_the_order_in_which_a_value_was_built_does_not_show():
    forth = PartitionState(1, 0, (1, 2), 1, 0, {1: "a", 2: "b"})
    back = PartitionState(1, 0, (1, 2), 1, 0, {2: "b", 1: "a"})
    assert codec.encode_state(forth) == codec.encode_state(back)
    assert codec.encode_config({"a": "1", "b": "2"}) == codec.encode_config({"b": "2", "a": "1"})


def test_the_small_ones_are_read_back():
    node = codec.ControllerNode(3, 1_700_000_000_000)
    assert codec.encode_controller(node) == (
        b'{"version":1,"brokerid":3,"timestamp":"1700000000000"}'
    )
    assert codec.decode_controller("/c", codec.encode_controller(node)) == node
    assert codec.encode_controller_epoch(12) == b"12"
    assert codec.decode_controller_epoch("/e", b"12") == 12
    block = codec.ProducerIdBlock(2, 1000, 1999)
    assert codec.encode_producer_id_block(block) == (
        b'{"version":1,"broker":2,"block_start":"1000","block_end":"1999"}'
    )
    assert codec.decode_producer_id_block("/b", codec.encode_producer_id_block(block)) == block
    assert codec.decode_config("/f", codec.encode_config({"a": "b"})) == {"a": "b"}
    assert codec.decode_cluster_id("/i", codec.encode_cluster_id("abc")) == "abc"
    partitions = [TopicPartition("words", 0), TopicPartition("words", 3)]
    election = codec.encode_preferred_election(partitions)
    assert codec.decode_preferred_election("/p", election) == partitions
    assert codec.encode_config_change("topics/words") == (
        b'{"version":2,"entity_path":"topics/words"}'
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"leader": None}, "leader is None, expected a whole number"),
        ({"leader": True}, "leader is True, expected a whole number"),
        ({"isr": "1,2"}, "isr is '1,2', expected a list of broker ids"),
        ({"isr": [1, "2"]}, r"isr has \[1, '2'\], expected distinct broker ids"),
        ({"isr": [1, 1]}, r"isr has \[1, 1\]"),
        ({"isr_storage": {"1": 2}}, r"isr_storage\.1 is 2, expected text"),
        ({"isr_storage": {"x": "a"}}, "isr_storage has the key 'x', expected a number"),
        ({"version": 2}, "its version is 2, and this minikafka reads version 1"),
        ({"version": "1"}, "its version is '1'"),
        ({"version": True}, "its version is True"),
    ],
)
def test_a_state_with_a_wrong_field_is_refused_by_path_and_field(change, complaint):
    data = json.dumps(fields_of(codec.encode_state(STATE)) | change).encode()
    with pytest.raises(CorruptNodeError, match=complaint) as refused:
        codec.decode_state("/brokers/topics/words/partitions/0/state", data, 0)
    assert "/brokers/topics/words/partitions/0/state cannot be read" in str(refused.value)
    assert refused.value.path == "/brokers/topics/words/partitions/0/state"


@pytest.mark.parametrize(
    "field", ["leader", "leader_epoch", "isr", "controller_epoch", "isr_storage", "version"]
)
def test_a_state_without_one_of_its_fields_is_refused(field):
    fields = fields_of(codec.encode_state(STATE))
    del fields[field]
    with pytest.raises(CorruptNodeError, match="version is None" if field == "version" else field):
        codec.decode_state("/s", json.dumps(fields).encode(), 0)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"x" * 500])
def test_what_is_no_json_object_is_refused_and_shown_in_short(data):
    with pytest.raises(CorruptNodeError, match="JSON") as refused:
        codec.decode_config("/config/topics/words", data)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("decode", "data", "complaint"),
    [
        (codec.decode_controller_epoch, b"-1", "is not a number"),
        (codec.decode_controller_epoch, b"", "is not a number"),
        (
            codec.decode_controller,
            b'{"version":1,"brokerid":1,"timestamp":"now"}',
            "timestamp is 'now', expected digits as text",
        ),
        (
            codec.decode_preferred_election,
            b'{"version":1,"partitions":[1]}',
            "expected a list of objects",
        ),
        (codec.decode_config, b'{"version":1,"config":[]}', "expected an object of texts"),
    ],
)
def test_other_wrong_fields_are_refused(decode, data, complaint):
    with pytest.raises(CorruptNodeError, match=complaint):
        decode("/path", data)


def test_a_topic_with_a_gap_in_its_partitions_is_refused():
    data = (
        b'{"version":3,"topic_id":"t","partitions":{"0":[1],"2":[1]},'
        b'"adding_replicas":{},"removing_replicas":{}}'
    )
    with pytest.raises(CorruptNodeError, match=r"partitions are \[0, 2\]"):
        codec.decode_topic("/t", data, "words")


def test_a_dirty_flag_that_is_a_number_is_refused():
    data = codec.encode_broker(BROKER, 0).replace(b"true", b"1")
    with pytest.raises(CorruptNodeError, match="dirty is 1, expected true or false"):
        codec.decode_broker("/brokers/ids/5", data, 5, 1)


def test_what_is_too_large_for_a_node_is_refused():
    with pytest.raises(InvalidRequestError, match="at most 1000000"):
        codec.encode_config({"a": "x" * MAX_DATA_BYTES})
