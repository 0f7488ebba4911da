"""Kafka's listeners as they are configured: names, addresses, and how each is spoken with.

    listeners=INSIDE://10.0.0.5:9092,OUTSIDE://:9094
    advertised.listeners=INSIDE://10.0.0.5:9092,OUTSIDE://kafka.example:9094
    listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:SASL_SSL

A name that the map does not have is itself a security protocol. Names are in upper case, whatever
was written. gRPC is no listener of Kafka's, and its name is taken: GRPC. Pure, without state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from minikafka.config.properties import Endpoint, address_hint, read_address, text_value
from minikafka.model import SecurityProtocol
from minikafka.security.principal import Principal, parse_principal

GRPC = "GRPC"
MAX_LISTENERS = 64
_PROTOCOLS = ", ".join(SecurityProtocol)
_LISTENER = re.compile(r"(?P<name>[A-Za-z0-9_-]{1,128})://(?P<address>.*)")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Listener(NamedTuple):
    """Of its address, the host is without brackets."""

    name: str
    host: str
    port: int

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.name}://{self.endpoint}"


class Listeners(tuple[Listener, ...]):
    """In the order in which they were written; each name once."""

    __slots__ = ()

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @property
    def names(self) -> list[str]:
        return [each.name for each in self]


class ProtocolMap(dict[str, SecurityProtocol]):
    """Security protocols by the names of listeners."""

    def __str__(self) -> str:
        return ",".join(f"{name}:{protocol}" for name, protocol in self.items())

    def __hash__(self) -> int:  # type: ignore[override]  # a value, as the other properties' are
        return hash(tuple(self.items()))


NO_PROTOCOLS = ProtocolMap()


def listener_list(default: Any, doc: str, lowest_port: int) -> Any:
    """`NAME://HOST:PORT,...`; without a host a listener is on every address."""
    expects = (
        f"NAME://HOST:PORT,... with ports from {lowest_port} to 65535, such as "
        "PLAINTEXT://127.0.0.1:9092"
    )

    def read(text: str) -> Listeners:
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > MAX_LISTENERS:
            raise ValueError(f"expected {MAX_LISTENERS} listeners at most")
        found = Listeners([_read_listener(part, lowest_port, expects) for part in parts])
        _check_different(found)
        return found

    return text_value(default, doc, expects, read)


def _read_listener(text: str, lowest_port: int, expects: str) -> Listener:
    parts = _LISTENER.fullmatch(text)
    if parts is None:
        raise ValueError(f"expected {expects}")
    name, address = parts["name"].upper(), parts["address"]
    if name == GRPC:
        raise ValueError(f"{GRPC} names grpc.listener: expected another name")
    everywhere = re.fullmatch(r":[0-9]*", address)
    found = read_address(f"0.0.0.0{address}" if everywhere else address, lowest_port)
    if found is None:
        raise ValueError(f"expected {expects}{address_hint(address)}")
    return Listener(name, found.host, found.port)


def _check_different(found: Listeners) -> None:
    for twice in _repeated(found.names):
        raise ValueError(f"expected each name once: {twice} is there twice")
    for twice in _repeated([str(each.port) for each in found if each.port]):
        raise ValueError(f"expected a port for each listener: {twice} is there twice")


def _repeated(items: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for each in items:
        if each in seen:
            yield each
        seen.add(each)


PROTOCOLS_EXPECTED = f"NAME:PROTOCOL,... of {_PROTOCOLS}, such as INSIDE:PLAINTEXT"


def read_protocols(text: str) -> ProtocolMap:
    """ValueError, with what would be right."""
    found = ProtocolMap()
    for part in text.split(","):
        name, colon, protocol = (each.strip().upper() for each in part.partition(":"))
        if not colon or not _NAME.fullmatch(name):
            raise ValueError(f"expected {PROTOCOLS_EXPECTED}")
        if protocol not in SecurityProtocol.__members__:
            raise ValueError(f"{protocol[:64]} is no security protocol: expected {_PROTOCOLS}")
        if name in found:
            raise ValueError(f"expected each name once: {name} is there twice")
        if len(found) > MAX_LISTENERS:
            raise ValueError(f"expected {MAX_LISTENERS} names at most")
        found[name] = SecurityProtocol(protocol)
    return found


MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
MECHANISMS_EXPECTED = f"a list of {', '.join(MECHANISMS)}"


class Mechanisms(tuple[str, ...]):
    """SASL mechanisms, each once, in the order in which they were written."""

    __slots__ = ()

    def __str__(self) -> str:
        return ",".join(self)


NO_MECHANISMS = Mechanisms()


def read_mechanisms(text: str) -> Mechanisms:
    """ValueError, with what would be right."""
    parts = (part.strip().upper() for part in text.split(","))
    found = Mechanisms(dict.fromkeys(part for part in parts if part))
    for each in found:
        if each not in MECHANISMS:
            raise ValueError(f"{each[:64]} is not supported: expected {MECHANISMS_EXPECTED}")
    return found


class Principals(tuple[Principal, ...]):
    __slots__ = ()

    def __str__(self) -> str:
        return ";".join(map(str, self))


NOBODY = Principals()
PRINCIPALS_EXPECTED = "User:NAME;..., such as User:admin;User:ops"


def read_principals(text: str) -> Principals:
    """ValueError, with what would be right. A name may hold commas (it may be a certificate's)."""
    parts = [part.strip() for part in text.split(";")]
    return Principals([parse_principal(part) for part in parts if part])


_OF_A_LISTENER = re.compile(
    r"listener\.name\.(?P<listener>[^.]+)\."
    r"(?:(?P<mechanism>plain|scram-sha-256|scram-sha-512|oauthbearer|gssapi)\.)?(?P<name>.+)"
)


class ListenerKey(NamedTuple):
    """Which property of which listener. `listener` and `mechanism` in upper case; the latter is
    empty for a property of all mechanisms."""

    listener: str
    mechanism: str
    name: str


def listener_key(name: str) -> ListenerKey | None:
    """What `listener.name.inside.plain.sasl.jaas.config` is about; None for any other name."""
    parts = _OF_A_LISTENER.fullmatch(name)
    if parts is None:
        return None
    return ListenerKey(parts["listener"].upper(), (parts["mechanism"] or "").upper(), parts["name"])


def protocol_of(name: str, protocols: Mapping[str, SecurityProtocol]) -> SecurityProtocol:
    """ValueError if nobody said how this listener is to be spoken with."""
    found = protocols.get(name)
    if found is None and name in SecurityProtocol.__members__:
        return SecurityProtocol(name)
    if found is None:
        raise ValueError(
            f"the listener {name} has no security protocol: add {name}: and one of {_PROTOCOLS} "
            "to listener.security.protocol.map"
        )
    return found
