"""Every message but Produce and Fetch, by the definitions of the kio library.

kio has a class per message and version, generated from Kafka's own definitions. Handlers do not
want to know of versions: what they read is an object whose fields are those of its version (`get`
for fields that a version may lack), and what they answer is a tree of plain mappings, from which
`write` takes the fields that the version has. Names are kio's, which are Kafka's in snake_case
without their units (`throttle_time_ms` is `throttle_time`, in milliseconds).

Requests are read by decoding.py, since kio's reader trusts what it reads; answers are written by
kio, which reads only what is ours.

kio is imported when the first client connects: an idle broker does without.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin

from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.decoding import Read, reader_of
from minikafka.kafka.wire import Reader

Values = Mapping[str, Any]


def load() -> None:
    """Import kio, which takes a while; for a thread."""
    with _kept_out("hypothesis"):
        import kio.index
        import kio.serial  # noqa: F401


@contextmanager
def _kept_out(module: str) -> Iterator[None]:
    """kio teaches hypothesis its types wherever that is installed, as it is for tests of a broker:
    an import of 12 MB, and of nothing that a broker needs."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def read(api: ApiKey, version: int, body: memoryview) -> Any:
    """The request. MalformedRequestError if the bytes are none. Bytes after its end are ignored, as
    Kafka does: librdkafka sends some."""
    return _reader(api, version)(Reader(body, flexible=version >= APIS[api].first_flexible))


def get(request: Any, name: str, default: Any = None) -> Any:
    """A field that not every version has."""
    return getattr(request, name, default)


def write(api: ApiKey, version: int, values: Values) -> bytes:
    """The body of a response, after its header."""
    response_type, write_entity = _writer(api, version)
    out = io.BytesIO()
    write_entity(out, _build(response_type, values))
    return out.getvalue()


@cache
def _reader(api: ApiKey, version: int) -> Read:
    from kio.index import load_request_schema

    return reader_of(load_request_schema(int(api), version))


@cache
def _writer(api: ApiKey, version: int) -> tuple[type[Any], Callable[[io.BytesIO, Any], None]]:
    from kio.index import load_response_schema
    from kio.serial import entity_writer

    response_type = load_response_schema(int(api), version)
    return response_type, entity_writer(response_type)


# --- from plain values to the classes of a version -----------------------------------------------


def _build(entity_type: type[Any], values: Values) -> Any:
    """The fields that this version has; a field that is not given gets the protocol's default."""
    plan = _plan(entity_type)
    arguments = {name: convert(values[name]) for name, convert in plan.items() if name in values}
    return entity_type(**arguments)


_plans: dict[type[Any], dict[str, Callable[[Any], Any]]] = {}


def _plan(entity_type: type[Any]) -> dict[str, Callable[[Any], Any]]:
    """For each field of a class, what makes its value of a plain one."""
    plan = _plans.get(entity_type)
    if plan is None:
        plan = _plans[entity_type] = {
            each.name: _conversion(each.type, each.metadata) for each in fields(entity_type)
        }
    return plan


def _conversion(hint: Any, metadata: Mapping[str, Any]) -> Callable[[Any], Any]:
    arguments = [argument for argument in get_args(hint) if argument is not NoneType]
    if NoneType in get_args(hint):
        convert = _conversion(arguments[0], metadata)
        return lambda value: None if value is None else convert(value)
    if get_origin(hint) is tuple:
        convert_item = _conversion(arguments[0], metadata)
        return lambda items: tuple([convert_item(item) for item in items])
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return lambda values: _build(hint, values)
    kafka_type = metadata.get("kafka_type")
    if kafka_type == "error_code":
        from kio.schema.errors import ErrorCode

        return ErrorCode
    if kafka_type in ("timedelta_i32", "timedelta_i64"):
        return lambda milliseconds: timedelta(milliseconds=milliseconds)
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value
