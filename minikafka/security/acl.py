"""The nouns of access control, as Apache Kafka has them, with its numbers and its spelling.

An *entry* allows or denies a principal an operation, from a host; it stands on a *pattern*: a type
of resource and a name, literal (`*` is every name) or a prefix. A *filter* finds entries.

In ZooKeeper they are kept as Kafka keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from minikafka.security.principal import EVERYBODY, Address, Principal, plain_address

ANY_NAME = "*"
ANY_HOST = "*"
CLUSTER_NAME = "kafka-cluster"


class _Named(IntEnum):
    __hash__ = int.__hash__  # that of an Enum is Python's, and they are looked up with each request

    @property
    def word(self) -> str:
        """As Kafka writes it: TransactionalId, DescribeConfigs."""
        return "".join(part.capitalize() for part in self.name.split("_"))


class ResourceType(_Named):
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class Operation(_Named):
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14


class Permission(_Named):
    DENY = 2
    ALLOW = 3


class PatternType(_Named):
    LITERAL = 3
    PREFIXED = 4


class PatternFilter(IntEnum):
    """How a filter takes its name: as a pattern's of any kind, as what patterns are to match, or as
    that of one kind of pattern."""

    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


_O = Operation
# What can be allowed on which resource (Kafka's AclEntry.supportedOperations).
SUPPORTED: dict[ResourceType, frozenset[Operation]] = {
    ResourceType.TOPIC: frozenset(
        {_O.READ, _O.WRITE, _O.CREATE, _O.DELETE, _O.ALTER, _O.DESCRIBE}
        | {_O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS}
    ),
    ResourceType.GROUP: frozenset({_O.READ, _O.DESCRIBE, _O.DELETE}),
    ResourceType.CLUSTER: frozenset(
        {_O.CREATE, _O.ALTER, _O.DESCRIBE, _O.CLUSTER_ACTION}
        | {_O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS, _O.IDEMPOTENT_WRITE}
    ),
    ResourceType.TRANSACTIONAL_ID: frozenset({_O.DESCRIBE, _O.WRITE}),
    ResourceType.DELEGATION_TOKEN: frozenset({_O.DESCRIBE}),
    ResourceType.USER: frozenset({_O.CREATE_TOKENS, _O.DESCRIBE_TOKENS}),
}
# An *allowed* operation on the right gives the one on the left, too. Denied ones do not.
IMPLIED_BY: dict[Operation, frozenset[Operation]] = {
    _O.DESCRIBE: frozenset((_O.DESCRIBE, _O.READ, _O.WRITE, _O.DELETE, _O.ALTER)),
    _O.DESCRIBE_CONFIGS: frozenset((_O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS)),
}


def bits_of(operations: Iterable[Operation]) -> int:
    """A set of operations as Kafka's clients are told of it (KIP-430): the bit of each."""
    return sum(1 << operation for operation in operations)


class Pattern(NamedTuple):
    """Which resources: those of a type with this name, or whose names begin with it."""

    type: ResourceType
    name: str
    kind: PatternType = PatternType.LITERAL

    def matches(self, name: str) -> bool:
        """Is a resource of this type and name meant?"""
        if self.kind is PatternType.PREFIXED:
            return name.startswith(self.name)
        return self.name in (name, ANY_NAME)

    def __str__(self) -> str:
        return f"{self.kind.word.lower()} {self.type.word} {self.name}"


class Entry(NamedTuple):
    """Who may, or may not, do what, from where. `host`: an address, `*`, or a network
    (10.0.0.0/8)."""

    principal: Principal
    host: str
    operation: Operation
    permission: Permission

    def is_about(self, principal: Principal, host: str) -> bool:
        return self.principal in (principal, EVERYBODY) and host_matches(self.host, host)

    def __str__(self) -> str:
        verb = self.permission.word.lower()
        return f"{verb} {self.principal} {self.operation.word} from {self.host}"


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Finds entries: None is any. `pattern_filter` says how `name` is meant."""

    type: ResourceType | None = None
    name: str | None = None
    pattern_filter: PatternFilter = PatternFilter.ANY
    principal: Principal | None = None
    host: str | None = None
    operation: Operation | None = None
    permission: Permission | None = None

    def matches_pattern(self, pattern: Pattern) -> bool:
        if self.type not in (None, pattern.type):
            return False
        of_a_kind = self.pattern_filter in (PatternFilter.LITERAL, PatternFilter.PREFIXED)
        if of_a_kind and pattern.kind.value != self.pattern_filter.value:
            return False
        if self.name is None:
            return True
        if self.pattern_filter is PatternFilter.MATCH:
            return pattern.matches(self.name)
        return pattern.name == self.name

    def matches(self, pattern: Pattern, entry: Entry) -> bool:
        return (
            self.matches_pattern(pattern)
            and self.principal in (None, entry.principal)
            and self.host in (None, entry.host)
            and self.operation in (None, entry.operation)
            and self.permission in (None, entry.permission)
        )


def check_entry(pattern: Pattern, entry: Entry) -> None:
    """ValueError, with what would be right, if such an entry makes no sense."""
    if not pattern.name:
        raise ValueError("the name of a resource is empty")
    if "/" in pattern.name:
        raise ValueError(f"the name '{pattern.name}' holds a /, which no resource has")
    if pattern.type is ResourceType.CLUSTER and pattern.name != CLUSTER_NAME:
        raise ValueError(f"the one cluster is named {CLUSTER_NAME}, not '{pattern.name}'")
    allowed = SUPPORTED[pattern.type]
    if entry.operation is not Operation.ALL and entry.operation not in allowed:
        words = ", ".join(sorted(each.word for each in allowed))
        raise ValueError(
            f"{entry.operation.word} cannot be done to a {pattern.type.word}: All, {words} can"
        )
    check_host(entry.host)


def check_host(text: str) -> None:
    """ValueError if it is neither *, nor an address, nor a network."""
    if text == ANY_HOST:
        return
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"'{text}' is no host: it is an address (10.1.2.3), a network (10.0.0.0/8), or *"
        ) from None


def host_matches(rule: str, host: str) -> bool:
    """Is `host`, in its plain form, what an entry names? What cannot be read matches nothing."""
    if rule in (ANY_HOST, host):
        return True
    named = _read_host(rule)
    if named is None:
        return False
    try:
        return plain_address(host) in named
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def _read_host(rule: str) -> IPv4Network | IPv6Network | None:
    """The addresses that an entry names; None if nobody can tell."""
    address, slash, length = rule.partition("/")
    try:
        plain: Address = plain_address(address)
        if not slash:
            return ip_network(plain)
        if plain.version == 4 and ":" in address:  # ::ffff:10.0.0.0/104 is 10.0.0.0/8
            return ip_network(f"{plain}/{int(length) - 96}", strict=False)
        return ip_network(rule, strict=False)
    except ValueError:
        return None
