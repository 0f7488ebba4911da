"""How a configuration property is declared, read from text and spelt: the machinery of config/.

A property is a dataclass field made by one of the functions below (`whole`, `boolean`, `text`,
...); its metadata holds a `Property`'s parts. Reading turns stripped, non-blank text into a value
(blank only for a list), or raises ValueError with a sentence that says what would be
right. Pure, without state.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, field, fields
from typing import Any, NamedTuple

from minikafka.errors import PortTakenError, UsageError
from minikafka.security.secret import Secret

INT32_MAX = 2**31 - 1
INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1

_DURATION_UNITS_MS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
_SIZE_UNITS_BYTES = {
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}


class Endpoint(NamedTuple):
    """A host (name or address, IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def cannot_listen(self, failure: OSError, property_name: str = "") -> UsageError:
        """What to raise when the system refuses this address to a server; `property_name` is where
        a person has configured it."""
        if failure.errno != errno.EADDRINUSE:
            return UsageError(f"cannot listen on {self}: {failure.strerror}")
        configured = f" ({property_name})" if property_name else ""
        return PortTakenError(
            f"port {self.port} on {self.host} is taken by another process{configured}: "
            "choose another one, or 0 for a free one"
        )


class Property(NamedTuple):
    """The declaration of one property.

    `read` turns stripped, non-blank text into the value or raises ValueError with a sentence that
    says what would be right. `broker_property` names, for a topic's property, the broker's one
    that is its default. `dynamic`: may change without a restart. `no_effect` is empty, or says why
    the value is taken and checked but changes nothing here (Kafka has a use for it).
    """

    name: str
    scope: str  # "broker" or "topic"
    kind: str
    default: Any
    expects: str
    doc: str
    dynamic: bool
    read: Callable[[str], Any]
    broker_property: str | None = None
    no_effect: str = ""

    @property
    def explained(self) -> str:
        """`doc`, and that the value changes nothing where that is so."""
        return f"{self.doc} Without effect: {self.no_effect}." if self.no_effect else self.doc

    @property
    def may_be_blank(self) -> bool:
        """Whether nothing is a value: no members of a list."""
        return self.kind == "list"

    @property
    def required(self) -> bool:
        return self.default is MISSING


class ConfigEntry(NamedTuple):
    """One line of a configuration as people see it; `value` is the text that would set it."""

    name: str
    value: str
    is_default: bool
    dynamic: bool
    doc: str


# --- Kinds of values: each returns a dataclass field that carries its own reader. ---------------


def declare(
    kind: str,
    default: Any,
    doc: str,
    expects: str,
    read: Callable[[str], Any],
    *,
    dynamic: bool = False,
    broker: str | None = None,
    no_effect: str = "",
) -> Any:
    metadata = dict(
        zip(
            _PARTS,
            (kind, default, expects, doc, dynamic or broker is not None, read, broker, no_effect),
            strict=True,
        )
    )
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


_PARTS = ("kind", "default", "expects", "doc", "dynamic", "read", "broker_property", "no_effect")


def declarations(config_class: type[Any], scope: str) -> tuple[Property, ...]:
    """The properties that the fields of a dataclass declare, in the order of the source. Those of
    topics are dynamic, all of them."""
    always = {"dynamic": True} if scope == "topic" else {}
    return tuple(
        Property(name=each.name.replace("_", "."), scope=scope, **{**each.metadata, **always})
        for each in fields(config_class)
        if each.metadata
    )


def whole(
    default: Any,
    doc: str,
    low: int = 0,
    high: int = INT32_MAX,
    *,
    or_also: int | None = None,
    kind: str = "integer",
    **more: Any,
) -> Any:
    """A number from `low` to `high`, or `or_also`; `more` as `declare` has it."""
    expects = f"a whole number from {low} to {high}"
    if or_also is not None:
        expects = f"{or_also}, or {expects}"

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
            raise ValueError(f"expected {expects}{_in_plain_units(text)}")
        if not low <= int(text) <= high and int(text) != or_also:
            raise ValueError(f"expected {expects}")
        return int(text)

    return declare(kind, default, doc, expects, read, **more)


def _in_plain_units(text: str) -> str:
    """For `7d` or `1 GiB`, what a person probably meant; empty for anything else."""
    parts = re.fullmatch(r"([0-9]{1,15})\s*([A-Za-z]+)", text)
    if parts is None:
        return ""
    amount, unit = int(parts[1]), parts[2].lower()
    for units, plain in ((_DURATION_UNITS_MS, "milliseconds"), (_SIZE_UNITS_BYTES, "bytes")):
        if unit in units:
            return f", without a unit ({text} is {amount * units[unit]} {plain})"
    return ", without a unit"


def long(default: Any, doc: str, low: int = 0, **more: Any) -> Any:
    return whole(default, doc, low, INT64_MAX, kind="long", **more)


_DECIMAL = re.compile(r"[+-]?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?")


def ratio(default: float, doc: str, **more: Any) -> Any:
    """A share between 0 and 1."""
    expects = "a number from 0 to 1, such as 0.5"

    def read(text: str) -> float:
        if not _DECIMAL.fullmatch(text) or not 0 <= float(text) <= 1:
            raise ValueError(f"expected {expects}")
        return float(text)

    return declare("double", default, doc, expects, read, **more)


def any_of(default: str, choices: tuple[str, ...], doc: str, **more: Any) -> Any:
    """Any of `choices` with commas between, in the order given; blank is none of them."""
    expects = f"{' or '.join(choices)}, or several with commas between"

    def read(text: str) -> str:
        given = [part.strip() for part in text.split(",")] if text else []
        if not set(given) <= set(choices):
            raise ValueError(f"expected {expects}")
        return ",".join(given)

    return declare("list", default, doc, expects, read, **more)


def one_of(default: str, choices: tuple[str, ...], doc: str, **more: Any) -> Any:
    """Exactly one of `choices`, spelt as here."""
    expects = f"one of {', '.join(choices)}"

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected {expects}")
        return text

    return declare("text", default, doc, expects, read, **more)


def boolean(default: bool, doc: str, **more: Any) -> Any:
    def read(text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("expected true or false")
        return text.lower() == "true"

    return declare("boolean", default, doc, "true or false", read, **more)


def text_value(
    default: Any, doc: str, expects: str, read: Callable[[str], Any], **more: Any
) -> Any:
    return declare("text", default, doc, expects, read, **more)


def password(doc: str, expects: str, check: Callable[[str], Any], **more: Any) -> Any:
    """A text that nobody is shown; none by default. `check` raises ValueError, which shows nothing
    of it."""

    def read(text: str) -> Secret:
        check(text)
        return Secret(text)

    return declare("password", None, doc, expects, read, **more)


def tls_text(doc: str) -> Any:
    """One of ssl.*, as it stands there; config/tls.py reads them together."""
    return declare("text", None, doc, "text", str)


def tls_secret(doc: str) -> Any:
    return password(doc, "text", str)


VERSION_EXPECTED = "a version of Apache Kafka, such as 3.0 or 3.0-IV1"


def read_kafka_version(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){1,3}(-IV[0-9]{1,3})?", text):
        raise ValueError(f"expected {VERSION_EXPECTED}")
    return text


ALL_REPLICAS = "*"


def replica_list(doc: str) -> Any:
    """Replicas of a topic as Kafka spells them, none by default; blank is right, too. Only a topic
    has such a property."""
    expects = f"{ALL_REPLICAS} for all, or PARTITION:BROKER,... such as 0:1,0:2"

    def read(text: str) -> str:
        if text in (ALL_REPLICAS, ""):
            return text
        parts = [part.strip() for part in text.split(",")]
        if not all(re.fullmatch(r"[0-9]{1,10}:[0-9]{1,10}", part) for part in parts):
            raise ValueError(f"expected {expects}")
        return ",".join(parts)

    return declare("list", "", doc, expects, read, dynamic=True)


ADDRESS = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+)\]|(?P<plain>[^\s:/\[\],]+)):(?P<port>[0-9]{1,5})"
)


BRACKETS = "an IPv6 address stands in brackets, as in [::1]:9092"


def read_address(text: str, lowest_port: int = 1) -> Endpoint | None:
    """HOST:PORT, an IPv6 address in brackets; None if it is none."""
    parts = ADDRESS.fullmatch(text)
    if parts is None or not lowest_port <= int(parts["port"]) <= 65535:
        return None
    if parts["bracketed"] is not None:
        try:
            ipaddress.IPv6Address(parts["bracketed"])
        except ValueError:
            return None
    return Endpoint(parts["bracketed"] or parts["plain"], int(parts["port"]))


def is_loopback(host: str) -> bool:
    """Can only this machine reach what listens there?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_hint(text: str) -> str:
    """What to add to a refusal of `text`: that brackets are missing, where that is what is wrong.
    Empty, or begins with a semicolon."""
    looks_bare = re.fullmatch(r"[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9]+", text)
    return f"; {BRACKETS}" if looks_bare else ""


def endpoint(default: Any, doc: str, lowest_port: int) -> Any:
    expects = f"HOST:PORT with a port from {lowest_port} to 65535, such as 127.0.0.1:19092"

    def read(text: str) -> Endpoint:
        found = read_address(text, lowest_port)
        if found is None:
            raise ValueError(f"expected {expects}{address_hint(text)}")
        return found

    return declare("text", default, doc, expects, read)


CONNECT_EXPECTED = "HOST:PORT[,HOST:PORT...][/chroot], such as 127.0.0.1:2181"


def read_zookeeper_connect(text: str) -> str:
    hosts, slash, chroot = text.partition("/")
    servers = [server.strip() for server in hosts.split(",")]
    for server in servers:
        if read_address(server) is None:
            raise ValueError(f"expected {CONNECT_EXPECTED}{address_hint(server)}")
    if slash and not re.fullmatch(r"[^\s/,]+(/[^\s/,]+)*", chroot):
        raise ValueError(f"expected {CONNECT_EXPECTED}")
    return ",".join(servers) + slash + chroot


def read_directory(text: str) -> str:
    if "," in text:
        raise ValueError(
            "expected one directory: minikafka keeps all partitions of a broker in one"
        )
    return text


NAME_EXPECTED = "1 to 64 letters, digits, '.', '_' or '-'"


def read_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError(f"expected {NAME_EXPECTED}")
    return text


OVERRIDES_EXPECTED = "HOST:COUNT[,HOST:COUNT...], such as 127.0.0.1:200,10.0.0.7:50"


def read_connection_overrides(text: str) -> str:
    connection_overrides(text)
    return text


def connection_overrides(text: str) -> dict[str, int]:
    """How many connections each host that is named may have. ValueError."""
    limits: dict[str, int] = {}
    for part in text.split(",") if text else ():
        host, _, count = part.strip().rpartition(":")
        if not host or not re.fullmatch(r"[0-9]{1,10}", count) or int(count) > INT32_MAX:
            raise ValueError(f"expected {OVERRIDES_EXPECTED}")
        limits[host.strip("[]")] = int(count)
    return limits


# --- Files of properties ------------------------------------------------------------------------


def parse_properties(content: str) -> dict[str, str]:
    """The pairs of a Java .properties file (java.util.Properties.load), as server.properties is.

    Comments begin with # or !; the name ends at the first =, : or blank; a line that ends in an odd
    number of backslashes goes on in the next; a name given twice keeps its last value. Raises
    UsageError for a line without a name and for a broken Unicode escape, with the line's number.
    """
    pairs: dict[str, str] = {}
    for number, line in _logical_lines(content):
        name_end = _NAME_END.match(line)
        assert name_end is not None, "the pattern matches the empty string"
        raw_name, raw_value = name_end[1], line[name_end.end() :]
        if not raw_name:
            raise UsageError(f"line {number}: {line!r} has no property name: expected NAME=VALUE")
        pairs[_unescape(raw_name, number)] = _unescape(raw_value, number)
    return pairs


_NAME_END = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.|$)")
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def _logical_lines(content: str) -> list[tuple[int, str]]:
    """(number of the first line, text) of each pair, continuations joined, comments left out."""
    lines: list[tuple[int, str]] = []
    unfinished: tuple[int, str] | None = None
    for number, natural in enumerate(re.split(r"\r\n|\r|\n", content), start=1):
        line = natural.lstrip(" \t\f")
        if unfinished is None and (not line or line[0] in "#!"):
            continue
        begun, text = unfinished or (number, "")
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2 == 1:
            unfinished = (begun, text + line[:-1])
        else:
            unfinished = None
            lines.append((begun, text + line))
    if unfinished is not None:
        lines.append(unfinished)
    return [(number, text) for number, text in lines if text]


def _unescape(text: str, line_number: int) -> str:
    def plain(escape: re.Match[str]) -> str:
        escaped = escape[1]
        if len(escaped) == 5:
            return chr(int(escaped[1:], 16))
        if escaped == "u":
            raise UsageError(f"line {line_number}: {text!r} has a broken escape: expected \\uXXXX")
        return _CONTROL.get(escaped, escaped)

    return _ESCAPE.sub(plain, text)


# --- a configuration of such fields --------------------------------------------------------------


def field_name(property_name: str) -> str:
    """The field that declares a property."""
    return property_name.replace(".", "_").replace("-", "_")


def as_text(value: object) -> str:
    """The text that would set this value."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe(config: object, declared_properties: Iterable[Property]) -> list[ConfigEntry]:
    """One entry a property, in order of name."""
    entries = []
    for declared in declared_properties:
        value = getattr(config, field_name(declared.name))
        is_default = value == declared.default
        entries.append(
            ConfigEntry(
                declared.name, as_text(value), is_default, declared.dynamic, declared.explained
            )
        )
    return sorted(entries)
