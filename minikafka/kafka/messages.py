"""Every message but Produce and Fetch, by the definitions of the kio library.

kio has a class per message and version, generated from Kafka's own definitions. Handlers do not
want to know of versions: what they read is of one form whatever its version (requests.py), and what
they answer is a tree of plain mappings, from which `write` takes the fields that the version has.
Names are kio's, which are Kafka's in snake_case without their units (`throttle_time_ms` is
`throttle_time`, in milliseconds).

Requests are read by decoding.py and answers written by encoding.py; kio's own readers and writers
are not even imported. Its definitions are, when the first client connects and when the first
request of a version comes: an idle broker does without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from minikafka.kafka import definitions
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.decoding import Structure, reader_of
from minikafka.kafka.encoding import Output, PacedOutput, Values, Write, writer_of
from minikafka.kafka.wire import MAX_ITEMS, PacedReader, Reader

S = TypeVar("S", bound=Structure)

load = definitions.load

_readers: dict[tuple[ApiKey, int, type[Structure]], Callable[[Reader], Structure]] = {}


def read(
    api: ApiKey, version: int, body: memoryview, form: type[S], quick_items: int = MAX_ITEMS
) -> S:
    """The request. MalformedRequestError if the bytes are none, LongRequestError if it has more
    than `quick_items`. Bytes after its end are ignored, as Kafka does: librdkafka sends some."""
    flexible = version >= APIS[api].first_flexible
    return _read(api, version, Reader(body, flexible=flexible, quick_items=quick_items), form)


def read_paced(api: ApiKey, version: int, body: memoryview, form: type[S]) -> S:
    """The same of a request of any length, for a thread beside the loop."""
    flexible = version >= APIS[api].first_flexible
    return _read(api, version, PacedReader(body, flexible=flexible), form)


def _read(api: ApiKey, version: int, reader: Reader, form: type[S]) -> S:
    known = _readers.get((api, version, form))
    if known is None:
        known = _readers[api, version, form] = reader_of(definitions.request(api, version), form)
    request = known(reader)
    assert isinstance(request, form)
    return request


def write(api: ApiKey, version: int, values: Values) -> bytes:
    """The body of a response, after its header. LongAnswerError."""
    out = Output()
    _writer(api, version)(out, values)
    return bytes(out)


def write_paced(api: ApiKey, version: int, values: Values) -> bytes:
    """The same of an answer of any length, for a thread beside the loop."""
    out = PacedOutput()
    _writer(api, version)(out, values)
    return bytes(out)


@cache
def _writer(api: ApiKey, version: int) -> Write:
    return writer_of(definitions.response(api, version))
