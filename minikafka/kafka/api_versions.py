"""ApiVersions, versions 0 to 3, by hand: it is asked first on every connection.

    response   error, APIs: key, first and last version; throttle time (1+);
               [supported features, epoch of the features, finalized features] (3+)

Who asks in a version that is not served is told, in version 0, those of ApiVersions alone
(KIP-511), and asks again. With the whole table franz-go would make do, without the features.

The features are tags, and left out where nothing is known of them: clients then take none for
finalized, and speak of two protocols the older one (TV1).
"""

from __future__ import annotations

from struct import Struct

from minikafka.api.features import Features
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.kafka.wire import INT16, INT32, INT64, count, string, varint

_FIRST_FLEXIBLE = 3
_UNSUPPORTED_VERSION = 35
_LEVELS = Struct(">hh")
_NO_TAGS = b"\x00"


def write_unsupported() -> bytes:
    """The body for a version that is not served. See the module."""
    key, api = ApiKey.API_VERSIONS, APIS[ApiKey.API_VERSIONS]
    served = (INT16.pack(each) for each in (key, api.min_version, api.max_version))
    return b"".join((INT16.pack(_UNSUPPORTED_VERSION), count(1, flexible=False), *served))


def write_response(version: int, features: Features | None = None) -> bytes:
    """The body. Its header never has tags, so that whoever asks in a version that is not served can
    read the answer."""
    flexible = version >= _FIRST_FLEXIBLE
    tags = _NO_TAGS if flexible else b""
    out = [INT16.pack(0), count(len(APIS), flexible=flexible)]
    for key, api in APIS.items():
        out += (INT16.pack(key), INT16.pack(api.min_version), INT16.pack(api.max_version), tags)
    if version >= 1:
        out.append(INT32.pack(0))
    out.append(_tags(features) if flexible and features is not None else tags)
    return b"".join(out)


def _tags(features: Features) -> bytes:
    told = features.features
    supported = [(each.name, each.min_level, each.max_level) for each in told]
    finalized = [(each.name, each.finalized_level, each.finalized_level) for each in told]
    fields = (_levels(supported), INT64.pack(features.epoch), _levels(finalized))
    return varint(len(fields)) + b"".join(
        varint(tag) + varint(len(data)) + data for tag, data in enumerate(fields)
    )


def _levels(features: list[tuple[str, int, int]]) -> bytes:
    """A name and two levels of each. (Of finalized ones the larger is first, and both are one.)"""
    return count(len(features), flexible=True) + b"".join(
        string(name, flexible=True) + _LEVELS.pack(first, second) + _NO_TAGS
        for name, first, second in features
    )
