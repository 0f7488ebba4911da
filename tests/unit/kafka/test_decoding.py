"""Requests are read as kio reads them, and whatever kio cannot bear is malformed."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikafka.kafka import messages
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.decoding import Structure
from minikafka.kafka.handlers.cluster import HANDLERS
from minikafka.kafka.requests import CreateTopics, Metadata
from minikafka.kafka.wire import MalformedRequestError
from tests.helpers.amounts import amount
from tests.helpers.kio_messages import (
    BY_DEFINITION,
    plain,
    read_request,
    request_values,
    written_request,
)


def form_of(served: tuple[ApiKey, int]) -> type[Structure]:
    return HANDLERS[served[0]].request


@settings(max_examples=amount(150), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data(), served=st.sampled_from(BY_DEFINITION))
def test_what_kio_writes_is_read_as_kio_reads_it(
    data: st.DataObject, served: tuple[ApiKey, int]
) -> None:
    raw = written_request(*served, data.draw(request_values(*served)))
    assert plain(messages.read(*served, memoryview(raw), form_of(served))) == plain(
        read_request(*served, raw)
    )


@settings(max_examples=amount(500), deadline=None)
@given(raw=st.binary(max_size=200), served=st.sampled_from(BY_DEFINITION))
def test_any_bytes_are_read_or_malformed(raw: bytes, served: tuple[ApiKey, int]) -> None:
    with suppress(MalformedRequestError):
        messages.read(*served, memoryview(raw), form_of(served))


@pytest.mark.parametrize("count", [2**31 - 1, 2**30, -2, -(2**31)])
def test_an_array_that_claims_to_be_too_large_is_malformed(count: int) -> None:
    with pytest.raises(MalformedRequestError):
        messages.read(ApiKey.CREATE_TOPICS, 2, memoryview(struct.pack(">i", count)), CreateTopics)


def test_a_compact_array_that_claims_to_be_too_large_is_malformed() -> None:
    with pytest.raises(MalformedRequestError):
        messages.read(ApiKey.METADATA, 9, memoryview(b"\xff\xff\xff\xff\x0f"), Metadata)


def test_tags_that_nobody_knows_are_skipped() -> None:
    # A null array, three flags, then two tags.
    raw = b"\x00" + b"\x01\x00\x00" + b"\x02" + b"\x00\x03abc" + b"\x63\x00"
    request = messages.read(ApiKey.METADATA, 9, memoryview(raw), Metadata)
    assert (request.topics, request.allow_auto_topic_creation) == (None, True)


def test_text_that_is_no_unicode_is_malformed() -> None:
    with pytest.raises(MalformedRequestError, match="UTF-8"):
        messages.read(ApiKey.METADATA, 0, memoryview(b"\x00\x00\x00\x01\x00\x01\xff"), Metadata)


def test_what_must_be_there_must_not_be_null() -> None:
    with pytest.raises(MalformedRequestError, match="is null"):
        messages.read(ApiKey.METADATA, 0, memoryview(b"\x00\x00\x00\x01\xff\xff"), Metadata)
