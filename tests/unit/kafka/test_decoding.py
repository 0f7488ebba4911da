"""Requests are read as kio reads them, and whatever kio cannot bear is malformed."""

from __future__ import annotations

import io
import struct
import uuid
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kio.index import load_request_schema
from kio.serial import entity_reader, entity_writer

from minikafka.kafka import messages
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.wire import MalformedRequestError

SERVED = [
    (key, version)
    for key, api in APIS.items()
    if key not in (ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.API_VERSIONS)
    for version in range(api.min_version, api.max_version + 1)
]
# A Python timedelta does not hold every int64 of milliseconds.
_RANGES = {
    "int8": 7,
    "int16": 15,
    "int32": 31,
    "int64": 63,
    "timedelta_i32": 31,
    "timedelta_i64": 53,
}


def values_of(hint: Any, metadata: Any) -> st.SearchStrategy[Any]:
    """Plain values for a field of a kio class."""
    arguments = get_args(hint)
    if NoneType in arguments:
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return st.none() | values_of(inner, metadata)
    if get_origin(hint) is tuple:
        return st.lists(values_of(arguments[0], metadata), max_size=3)
    if is_dataclass(hint):
        return request_values(hint)
    kafka_type = metadata["kafka_type"]
    if kafka_type in _RANGES:
        bits = _RANGES[kafka_type]
        return st.integers(-(2**bits), 2**bits - 1)
    plain: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(max_size=10),
        "bytes": st.binary(max_size=20),
        "bool": st.booleans(),
        "uuid": st.uuids(),
    }
    return plain[kafka_type]


def request_values(definition: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {each.name: values_of(each.type, each.metadata) for each in fields(definition)}
    )


def plain(value: Any) -> Any:
    """A kio object, or a namespace of ours, as plain values."""
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    if isinstance(value, bool | int | str | bytes | uuid.UUID | datetime | None):
        return value
    return {name: plain(item) for name, item in vars(value).items()}


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), served=st.sampled_from(SERVED))
def test_what_kio_writes_is_read_as_kio_reads_it(
    data: st.DataObject, served: tuple[ApiKey, int]
) -> None:
    key, version = served
    definition: Any = load_request_schema(int(key), version)
    out = io.BytesIO()
    values = data.draw(request_values(definition))
    entity_writer(definition)(out, messages._build(definition, values))
    expected, _ = entity_reader(definition)(out.getvalue(), 0)
    found = messages.read(key, version, memoryview(out.getvalue()))
    assert plain(found) == plain(expected)


@settings(max_examples=500)
@given(raw=st.binary(max_size=200), served=st.sampled_from(SERVED))
def test_any_bytes_are_read_or_malformed(raw: bytes, served: tuple[ApiKey, int]) -> None:
    with suppress(MalformedRequestError):
        messages.read(*served, memoryview(raw))


@pytest.mark.parametrize("count", [2**31 - 1, 2**30, -2, -(2**31)])
def test_an_array_that_claims_to_be_too_large_is_malformed(count: int) -> None:
    with pytest.raises(MalformedRequestError):
        messages.read(ApiKey.CREATE_TOPICS, 2, memoryview(struct.pack(">i", count)))


def test_a_compact_array_that_claims_to_be_too_large_is_malformed() -> None:
    with pytest.raises(MalformedRequestError):
        messages.read(ApiKey.METADATA, 9, memoryview(b"\xff\xff\xff\xff\x0f"))


def test_tags_that_nobody_knows_are_skipped() -> None:
    # A null array, three flags, then two tags.
    raw = b"\x00" + b"\x01\x00\x00" + b"\x02" + b"\x00\x03abc" + b"\x63\x00"
    request = messages.read(ApiKey.METADATA, 9, memoryview(raw))
    assert (request.topics, request.allow_auto_topic_creation) == (None, True)


def test_text_that_is_no_unicode_is_malformed() -> None:
    with pytest.raises(MalformedRequestError, match="UTF-8"):
        messages.read(ApiKey.METADATA, 0, memoryview(b"\x00\x00\x00\x01\x00\x01\xff"))


def test_what_must_be_there_must_not_be_null() -> None:
    with pytest.raises(MalformedRequestError, match="is null"):
        messages.read(ApiKey.METADATA, 0, memoryview(b"\x00\x00\x00\x01\xff\xff"))
