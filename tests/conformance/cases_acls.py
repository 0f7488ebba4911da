"""Access control entries where there is an authorizer: what is made, told and taken away, and what
is wrong with it. Apache Kafka closes the connection upon numbers that it does not know."""

from __future__ import annotations

from typing import Any

from minikafka.kafka.apis import ApiKey
from tests.conformance.exchange import Case

# Beside those of cases.py. Whoever asks may do everything, as nobody has to say who it is.
SETTINGS = {
    "authorizer.class.name": "kafka.security.authorizer.AclAuthorizer",
    "super.users": "User:ANONYMOUS",
}
TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID, TOKEN, USER = range(2, 8)
LITERAL, PREFIXED = 3, 4
ANY, MATCH = 1, 2


def _rule(name: str = "words", **changes: Any) -> dict[str, Any]:
    rule = {
        "resource_type": TOPIC,
        "resource_name": name,
        "resource_pattern_type": LITERAL,
        "principal": "User:alice",
        "host": "*",
        "operation": 3,
        "permission_type": 3,
    }
    return rule | changes


def _filter(name: str | None = None, **changes: Any) -> dict[str, Any]:
    asked = {
        "resource_type_filter": ANY,
        "resource_name_filter": name,
        "pattern_type_filter": ANY,
        "principal_filter": None,
        "host_filter": None,
        "operation": ANY,
        "permission_type": ANY,
    }
    return asked | changes


def _made(name: str, *rules: dict[str, Any], refused: bool = False) -> Case:
    return Case(name, ApiKey.CREATE_ACLS, {"creations": list(rules)}, refused=refused)


def _told(name: str, resource: str | None = None, **changes: Any) -> Case:
    return Case(name, ApiKey.DESCRIBE_ACLS, _filter(resource, **changes))


def _taken(name: str, *filters: dict[str, Any]) -> Case:
    return Case(name, ApiKey.DELETE_ACLS, {"filters": list(filters)})


MADE = [
    _told("there are none"),
    _made("nothing is made"),
    _made("one", _rule()),
    _made("the same again", _rule()),
    _made("the same twice in a request", _rule("twice"), _rule("twice")),
    _made(
        "of every kind",
        _rule("*", operation=8),
        _rule("app-", resource_pattern_type=PREFIXED, permission_type=2),
        _rule("app-", resource_type=GROUP, resource_pattern_type=PREFIXED),
        _rule("kafka-cluster", resource_type=CLUSTER, operation=5),
        _rule("t", resource_type=TRANSACTIONAL_ID, operation=4, principal="User:*"),
        _rule("token", resource_type=TOKEN, operation=8),
        _rule("alice", resource_type=USER, operation=13),
        _rule("words", operation=2, host="10.1.2.3", principal="User:CN=a,O=b c"),
        _rule("words", operation=4, permission_type=2, host="::1"),
    ),
    _made("two of one pattern", _rule("more", operation=10), _rule("more", operation=11)),
    _made("without a name", _rule("")),
    _made("another cluster", _rule("mine", resource_type=CLUSTER, operation=5)),
    _made("a cluster that is a prefix", _rule("kafka-", resource_type=CLUSTER, operation=5)),
    _made("a slash", _rule("a/b")),
    _made("right beside wrong", _rule(""), _rule("right")),
    _made("no principal", _rule("p", principal="alice")),
    _made("an operation that topics do not know", _rule("o", operation=13)),
    _made("a host that is none", _rule("h", host="a.example")),
    *(
        _made(f"an unknown {name}: {number}", _rule("u", **{name: number}))
        for name, numbers in (
            ("resource_type", (0, 1, 99)),
            ("resource_pattern_type", (0, 1, 2, 99)),
            ("operation", (0, 1, 99)),
            ("permission_type", (0, 1, 99)),
        )
        for number in numbers
    ),
    _taken("what Kafka alone has made", _filter("o"), _filter("h")),
]
TOLD = [
    _told("everything"),
    *(_told(f"of the type {number}", resource_type_filter=number) for number in range(2, 8)),
    _told("by a name", "words"),
    *(
        _told(f"app-1 as a pattern {number}", "app-1", pattern_type_filter=number)
        for number in (ANY, MATCH, LITERAL, PREFIXED)
    ),
    *(
        _told(f"app- as a pattern {number}", "app-", pattern_type_filter=number)
        for number in (ANY, MATCH, LITERAL, PREFIXED)
    ),
    _told("every name as a pattern", "*", pattern_type_filter=MATCH),
    _told("all prefixes", pattern_type_filter=PREFIXED),
    _told("of a principal", principal_filter="User:alice"),
    _told("of everybody", principal_filter="User:*"),
    _told("of nobody", principal_filter="User:nobody"),
    _told("from a host", host_filter="10.1.2.3"),
    _told("what is denied", permission_type=2),
    _told("of an operation", operation=4),
    _told("of no principal", principal_filter="alice"),
    *(
        _told(f"an unknown {name}: 99", **{name: 99})
        for name in ("resource_type_filter", "pattern_type_filter", "operation", "permission_type")
    ),
]
TAKEN = [
    _taken("nothing is taken"),
    _taken("what is not there", _filter("nowhere")),
    _taken(
        "by several filters",
        _filter("app-1", pattern_type_filter=MATCH, resource_type_filter=GROUP),
        _filter("words", permission_type=2),
        _filter("nowhere"),
    ),
    _told("what is left"),
    _taken("of no principal", _filter(principal_filter="alice")),
    _taken("an unknown type", _filter(resource_type_filter=99)),
]
CASES = [*MADE, *TOLD, *TAKEN, _taken("all", _filter()), _told("none are left")]
