"""Answers are written byte for byte as kio writes them, in every version that is served."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikafka.kafka import messages
from minikafka.kafka.apis import ApiKey
from tests.helpers.amounts import amount, sample
from tests.helpers.kio_messages import BY_DEFINITION, response_values, written_response


@settings(max_examples=amount(10), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
@pytest.mark.parametrize(("key", "version"), sample(BY_DEFINITION))
def test_an_answer_is_what_kio_writes(key: ApiKey, version: int, data: st.DataObject) -> None:
    values = data.draw(response_values(key, version))
    assert messages.write(key, version, values) == written_response(key, version, values)


def created(**more: Any) -> dict[str, Any]:
    topic: dict[str, Any] = {"name": "t", "topic_id": uuid.UUID(int=7), "configs": None}
    topic |= {"error_code": 0, "error_message": None}
    return {"throttle_time": 0, "topics": [topic | more]}


def test_a_tagged_field_is_there_only_if_it_says_something() -> None:
    default = messages.write(ApiKey.CREATE_TOPICS, 5, created())
    assert default == messages.write(ApiKey.CREATE_TOPICS, 5, created(topic_config_error_code=0))
    tagged = messages.write(ApiKey.CREATE_TOPICS, 5, created(topic_config_error_code=29))
    assert default[-2:] == b"\x00\x00"  # no tags of the topic, none of the whole
    assert tagged == default[:-2] + b"\x01\x00\x02\x00\x1d" + b"\x00"


def test_fields_that_the_version_does_not_have_are_left_out() -> None:
    values = {"throttle_time": 5, "error_code": 25, "of_no_version": "x"}
    assert messages.write(ApiKey.HEARTBEAT, 0, values) == b"\x00\x19"


def test_a_field_without_a_default_must_be_given() -> None:
    with pytest.raises(KeyError, match="error_code"):
        messages.write(ApiKey.HEARTBEAT, 4, {"throttle_time": 0})


def test_what_must_be_there_must_not_be_null() -> None:
    with pytest.raises(AssertionError, match="topics must not be null"):
        messages.write(ApiKey.LIST_OFFSETS, 5, {"throttle_time": 0, "topics": None})
    topics = [{"name": None, "partitions": []}]
    with pytest.raises(AssertionError, match="a string must not be null"):
        messages.write(ApiKey.LIST_OFFSETS, 5, {"throttle_time": 0, "topics": topics})
