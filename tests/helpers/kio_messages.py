"""Kafka's messages as kio writes and reads them: the oracle for our own readers and writers.

Values are plain: mappings by kio's field names, durations and times in milliseconds, error codes as
numbers.
"""

from __future__ import annotations

import io
import uuid
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, get_args, get_origin

from hypothesis import strategies as st
from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.serial.errors import OutOfBoundValue

from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.decoding import Structure, reader_of
from minikafka.kafka.wire import Reader

BY_HAND = {
    ApiKey.PRODUCE,
    ApiKey.FETCH,
    ApiKey.API_VERSIONS,
    ApiKey.SASL_HANDSHAKE,
    ApiKey.SASL_AUTHENTICATE,
}
# What is read and written by the definitions, with every version that is served.
BY_DEFINITION = [
    (key, version)
    for key, api in APIS.items()
    if key not in BY_HAND
    for version in range(api.min_version, api.max_version + 1)
]
# Python's timedelta does not hold every int64 of milliseconds, nor its datetime.
_BITS = {
    "int8": 7,
    "int16": 15,
    "int32": 31,
    "int64": 63,
    "timedelta_i32": 31,
    "timedelta_i64": 53,
    "datetime_i64": 45,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def written_request(api: ApiKey, version: int, values: dict[str, Any]) -> bytes:
    return _written(load_request_schema(int(api), version), values)


def written_response(api: ApiKey, version: int, values: dict[str, Any]) -> bytes:
    return _written(load_response_schema(int(api), version), values)


def _written(definition: Any, values: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    entity_writer(definition)(out, built(definition, values))
    return out.getvalue()


def read_request(api: ApiKey, version: int, raw: bytes) -> Any:
    request, _ = entity_reader(load_request_schema(int(api), version))(raw, 0)
    return request


def read_response(api: ApiKey, version: int, raw: bytes, offset: int = 0) -> Any:
    """To the last byte. Kafka says -1 where there is no time, which kio cannot read: what has that
    is read by our own reader, by kio's definition."""
    definition = load_response_schema(int(api), version)
    try:
        response, size = entity_reader(definition)(raw, offset)
    except OutOfBoundValue:
        reader = Reader(memoryview(raw), offset, flexible=definition.__flexible__)
        response = reader_of(definition, Structure)(reader)
        size = reader.position - offset
    assert offset + size == len(raw)
    return response


def request_values(api: ApiKey, version: int) -> st.SearchStrategy[dict[str, Any]]:
    return _values(load_request_schema(int(api), version))


def response_values(api: ApiKey, version: int) -> st.SearchStrategy[dict[str, Any]]:
    return _values(load_response_schema(int(api), version))


# --- plain values and kio's classes --------------------------------------------------------------


def built(definition: Any, values: dict[str, Any]) -> Any:
    """The kio object: the fields that this version has, of which those with a default need not be
    given."""
    known = [each for each in fields(definition) if each.name in values]
    return definition(**{f.name: _built(f.type, f.metadata, values[f.name]) for f in known})


def _built(hint: Any, metadata: Any, value: Any) -> Any:
    if value is None:
        return None
    hint = without_none(hint)
    if get_origin(hint) is tuple:
        return tuple(_built(get_args(hint)[0], metadata, item) for item in value)
    if is_dataclass(hint):
        return built(hint, value)
    kafka_type = metadata["kafka_type"]
    if kafka_type == "error_code":
        return ErrorCode(value)
    if kafka_type in ("timedelta_i32", "timedelta_i64"):
        return value * _MILLISECOND
    if kafka_type == "datetime_i64":
        return _EPOCH + value * _MILLISECOND
    return value


def without_none(hint: Any) -> Any:
    arguments = get_args(hint)
    if NoneType not in arguments:
        return hint
    return next(argument for argument in arguments if argument is not NoneType)


def plain(value: Any) -> Any:
    """A kio object, or a namespace of ours, as plain values."""
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, timedelta):
        return value // _MILLISECOND
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MILLISECOND
    if isinstance(value, bool | int | str | bytes | uuid.UUID | None):
        return value
    return {name: plain(item) for name, item in vars(value).items()}


# --- any message ---------------------------------------------------------------------------------


def _values(definition: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Plain values of a message; what has a default may be left out."""
    required = {f.name: _values_of(f.type, f.metadata) for f in fields(definition) if _needed(f)}
    others = {f.name: _values_of(f.type, f.metadata) for f in fields(definition) if not _needed(f)}
    return st.fixed_dictionaries(required, optional=others)


def _needed(field: Any) -> bool:
    return bool(field.default is MISSING)


def _values_of(hint: Any, metadata: Any) -> st.SearchStrategy[Any]:
    inner = without_none(hint)
    if inner is not hint:
        return st.none() | _values_of(inner, metadata)
    if get_origin(hint) is tuple:
        return st.lists(_values_of(get_args(hint)[0], metadata), max_size=3)
    if is_dataclass(hint):
        return _values(hint)
    kafka_type = metadata["kafka_type"]
    if kafka_type in _BITS:
        bits = _BITS[kafka_type]
        return st.integers(-(2**bits), 2**bits - 1)
    others: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(max_size=10) | st.just("longer than a varint of one byte holds " * 4),
        "bytes": st.binary(max_size=20),
        "bool": st.booleans(),
        "uuid": st.uuids(),
        "error_code": st.sampled_from([code.value for code in ErrorCode]),
    }
    return others[kafka_type]
