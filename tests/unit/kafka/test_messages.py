"""The messages that kio reads and writes: every version that is served is one that kio knows."""

from __future__ import annotations

import struct
import subprocess
import sys
import uuid

import pytest
from kio.index import load_request_schema, load_response_schema

from minikafka.kafka import ids, messages
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.handlers import HANDLERS

BY_HAND = {ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.API_VERSIONS}
BY_KIO = [
    (key, version)
    for key, api in APIS.items()
    if key not in BY_HAND
    for version in range(api.min_version, api.max_version + 1)
]


@pytest.mark.parametrize(("key", "version"), BY_KIO)
def test_every_version_that_is_served_is_known(key: ApiKey, version: int) -> None:
    request, response = load_request_schema(key, version), load_response_schema(key, version)
    flexible = version >= APIS[key].first_flexible
    assert request.__flexible__ == response.__flexible__ == flexible


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
    request = messages.read(ApiKey.CREATE_TOPICS, 2, memoryview(struct.pack(">ii?", 0, 2500, True)))
    assert (request.timeout, request.validate_only) == (2500, True)
    topic_id = uuid.uuid4()
    assert ids.uuid_of(ids.text_of(topic_id)) == topic_id
    assert ids.uuid_of("") is None
    assert ids.text_of(None) == ""


def test_a_broker_does_not_import_what_only_tests_need() -> None:
    """kio would import hypothesis, 12 MB of it, wherever that is installed."""
    words = (
        "from minikafka.kafka import messages; messages.load(); "
        "import sys, kio.schema.metadata.v9.response; assert 'hypothesis' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
