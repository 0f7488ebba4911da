"""The messages of kio's definitions: every version that is served is one that kio knows."""

from __future__ import annotations

import struct
import subprocess
import sys
import uuid

import pytest

from minikafka.kafka import definitions, ids, messages
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.handlers.cluster import HANDLERS
from minikafka.kafka.requests import CreateTopics
from tests.helpers.kio_messages import BY_DEFINITION, BY_HAND


@pytest.mark.parametrize(("key", "version"), BY_DEFINITION)
def test_every_version_that_is_served_is_known(key: ApiKey, version: int) -> None:
    flexible = version >= APIS[key].first_flexible
    assert definitions.is_flexible(definitions.request(key, version)) == flexible
    assert definitions.is_flexible(definitions.response(key, version)) == flexible


def test_every_api_that_is_advertised_is_served() -> None:
    assert set(HANDLERS) | BY_HAND == set(APIS)


def test_an_answer_has_the_fields_of_its_version_and_no_others() -> None:
    values = {
        "throttle_time": 1500,
        "brokers": [],
        "cluster_id": "c",
        "controller_id": 3,
        "topics": [],
        "cluster_authorized_operations": 7,
    }
    oldest = messages.write(ApiKey.METADATA, 0, values)
    assert oldest == struct.pack(">ii", 0, 0)
    newer = messages.write(ApiKey.METADATA, 3, values)
    assert newer == struct.pack(">iih1sii", 1500, 0, 1, b"c", 3, 0)


def test_times_are_milliseconds_and_ids_are_text() -> None:
    raw = memoryview(struct.pack(">ii?", 0, 2500, True))
    request = messages.read(ApiKey.CREATE_TOPICS, 2, raw, CreateTopics)
    assert (request.timeout, request.validate_only) == (2500, True)
    topic_id = uuid.uuid4()
    assert ids.uuid_of(ids.text_of(topic_id)) == topic_id
    assert ids.uuid_of("") is None
    assert ids.text_of(None) == ""


def test_neither_kios_readers_and_writers_nor_its_index_nor_hypothesis_are_imported() -> None:
    """What a broker does for its first client, in a process of its own."""
    program = """
import sys
from minikafka.kafka import messages
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.requests import Metadata
assert not [name for name in sys.modules if name.startswith("kio")], "before the first client"
messages.load()
messages.read(ApiKey.METADATA, 9, memoryview(b"\\x00\\x01\\x00\\x00\\x00"), Metadata)
messages.write(ApiKey.HEARTBEAT, 4, {"throttle_time": 0, "error_code": 0})
print(sorted({"kio.serial", "kio.index", "kio.schema.index", "hypothesis"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
