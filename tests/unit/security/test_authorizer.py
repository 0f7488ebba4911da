"""The judge: each rule by itself, and against a twin that looks at every entry there is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.security import authorizer as authorizer_module
from minikafka.security.acl import (
    IMPLIED_BY,
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    PatternFilter,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import ANONYMOUS, Caller, Principal, parse_principal
from tests.helpers.amounts import amount

ALICE, BOB, ROOT = (Principal("User", name) for name in ("alice", "bob", "root"))
HOST = "10.1.2.3"
TOPIC = ResourceType.TOPIC
READ, WRITE, ALL, DESCRIBE = Operation.READ, Operation.WRITE, Operation.ALL, Operation.DESCRIBE
ORDERS = Pattern(TOPIC, "orders")
OR = Pattern(TOPIC, "or", PatternType.PREFIXED)
EVERY = Pattern(TOPIC, "*")


def caller(principal: Principal = ALICE, host: str = HOST) -> Caller:
    return Caller(principal, host, "INSIDE")


def allow(operation: Operation, principal: Principal = ALICE, host: str = "*") -> Entry:
    return Entry(principal, host, operation, Permission.ALLOW)


def deny(operation: Operation, principal: Principal = ALICE, host: str = "*") -> Entry:
    return Entry(principal, host, operation, Permission.DENY)


def judge(*rules: tuple[Pattern, Entry], everyone: bool = False) -> Authorizer:
    found: dict[Pattern, set[Entry]] = {}
    for pattern, entry in rules:
        found.setdefault(pattern, set()).add(entry)
    authorizer = Authorizer([ROOT], allow_if_no_acl=everyone)
    for pattern, entries in found.items():
        authorizer.put(pattern, entries)
    return authorizer


def may(
    authorizer: Authorizer,
    operation: Operation = READ,
    name: str = "orders",
    who: Caller | None = None,
    type: ResourceType = TOPIC,
) -> bool:
    asked = (who or caller(), operation, type, name)
    verdict = authorizer.decide(*asked).allowed
    assert authorizer.allows(*asked) is authorizer.allows(*asked) is verdict
    return verdict


# --- the order -----------------------------------------------------------------------------------


def test_a_super_user_may_whatever_is_denied() -> None:
    authorizer = judge((ORDERS, deny(ALL, ROOT)), (ORDERS, deny(ALL, Principal("User", "*"))))
    assert may(authorizer, who=caller(ROOT))


def test_without_an_entry_nobody_may() -> None:
    assert not may(judge())
    assert not may(judge(), who=caller(ANONYMOUS))


def test_without_an_entry_everybody_may_where_the_property_says_so() -> None:
    assert may(judge(everyone=True))
    # An entry about somebody else is one.
    assert not may(judge((ORDERS, allow(READ, BOB)), everyone=True))
    assert not may(judge((OR, allow(READ, BOB)), everyone=True))
    assert may(judge((Pattern(TOPIC, "other"), allow(READ, BOB)), everyone=True))


@pytest.mark.parametrize("where", [ORDERS, OR, EVERY])
@pytest.mark.parametrize("denied_where", [ORDERS, OR, EVERY])
def test_a_deny_is_above_every_allow(where: Pattern, denied_where: Pattern) -> None:
    assert may(judge((where, allow(READ))))
    assert not may(judge((where, allow(READ)), (denied_where, deny(READ))))
    assert not may(judge((where, allow(READ)), (denied_where, deny(ALL))))
    assert may(judge((where, allow(READ)), (denied_where, deny(WRITE))))
    assert may(judge((where, allow(READ)), (denied_where, deny(READ, BOB))))


def test_the_name_of_a_prefix_is_a_prefix_and_that_of_a_literal_is_not() -> None:
    authorizer = judge((OR, allow(READ)))
    assert may(authorizer, name="or")
    assert not may(authorizer, name="o")
    assert not may(authorizer, name="xor")
    assert not may(judge((Pattern(TOPIC, "or"), allow(READ))))


def test_a_prefix_of_a_star_is_no_wildcard() -> None:
    authorizer = judge((Pattern(TOPIC, "*", PatternType.PREFIXED), allow(READ)))
    assert not may(authorizer)
    assert may(authorizer, name="*x")


def test_types_are_apart() -> None:
    authorizer = judge((ORDERS, allow(READ)))
    assert not may(authorizer, type=ResourceType.GROUP)


@pytest.mark.parametrize("operation", [READ, WRITE, Operation.DELETE, Operation.ALTER])
def test_describe_follows_from_an_allow_and_not_from_a_deny(operation: Operation) -> None:
    assert may(judge((ORDERS, allow(operation))), DESCRIBE)
    assert may(judge((ORDERS, deny(operation)), (ORDERS, allow(DESCRIBE))), DESCRIBE)
    assert not may(judge((ORDERS, allow(DESCRIBE))), operation)


def test_nothing_else_follows() -> None:
    described = {
        each
        for each in Operation
        if each is not ALL and may(judge((ORDERS, allow(each))), DESCRIBE)
    }
    assert described == {DESCRIBE, READ, WRITE, Operation.DELETE, Operation.ALTER}
    configs = {
        each
        for each in Operation
        if each is not ALL and may(judge((ORDERS, allow(each))), Operation.DESCRIBE_CONFIGS)
    }
    assert configs == {Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS}


def test_everybody_is_everybody() -> None:
    authorizer = judge((ORDERS, allow(READ, Principal("User", "*"))))
    assert may(authorizer, who=caller(BOB))
    assert may(authorizer, who=caller(ANONYMOUS))
    # Of that type: no prefix of a name, no other type.
    assert not may(judge((ORDERS, allow(READ, Principal("Group", "*")))))
    assert not may(judge((ORDERS, allow(READ, Principal("User", "ali")))))
    assert not may(judge((ORDERS, allow(READ, Principal("User", "Alice")))))


@pytest.mark.parametrize(
    ("rule", "host", "there"),
    [
        ("*", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.30", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.9/24", "10.1.2.3", True),
        ("11.0.0.0/8", "10.1.2.3", False),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("10.1.2.3", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8:0::1", "2001:db8::1", True),
        ("2001:db8::/32", "10.1.2.3", False),
        ("nowhere", "10.1.2.3", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("::ffff:10.0.0.0/7", "10.1.2.3", False),
        ("10.1.2.3", "", False),
        ("", "", True),  # an entry without a host is about a broker's own work
    ],
)
def test_hosts(rule: str, host: str, there: bool) -> None:
    assert may(judge((ORDERS, allow(READ, host=rule))), who=caller(host=host)) is there


# --- any resource of a type ----------------------------------------------------------------------


def may_any(*rules: tuple[Pattern, Entry], everyone: bool = False) -> bool:
    return judge(*rules, everyone=everyone).decide_any(caller(), WRITE, TOPIC).allowed


def test_one_allowed_resource_is_enough() -> None:
    assert may_any((ORDERS, allow(WRITE)))
    assert may_any((OR, allow(ALL)))
    assert may_any((EVERY, allow(WRITE)))
    assert not may_any((ORDERS, allow(READ)))
    assert not may_any((ORDERS, allow(WRITE, BOB)))
    assert not may_any((ORDERS, allow(WRITE, host="10.9.9.9")))
    assert not may_any((Pattern(ResourceType.GROUP, "g"), allow(ALL)))
    assert judge().decide_any(caller(ROOT), WRITE, TOPIC).allowed


def test_no_entry_at_all_is_as_the_property_says() -> None:
    assert may_any(everyone=True)
    assert not may_any()
    assert not may_any((ORDERS, allow(WRITE, BOB)), everyone=True)


def test_what_is_denied_altogether_does_not_count() -> None:
    longer = Pattern(TOPIC, "orders-", PatternType.PREFIXED)
    assert not may_any((ORDERS, allow(WRITE)), (ORDERS, deny(WRITE)))
    assert not may_any((ORDERS, allow(WRITE)), (OR, deny(WRITE)))
    assert not may_any((longer, allow(WRITE)), (OR, deny(ALL)))
    assert not may_any((EVERY, allow(WRITE)), (EVERY, deny(WRITE)))
    assert not may_any((ORDERS, allow(WRITE)), (EVERY, deny(WRITE)))


def test_what_is_denied_in_part_counts() -> None:
    longer = Pattern(TOPIC, "orders-", PatternType.PREFIXED)
    assert may_any((OR, allow(WRITE)), (longer, deny(WRITE)))
    assert may_any((OR, allow(WRITE)), (Pattern(TOPIC, "or"), deny(WRITE)))
    assert may_any((EVERY, allow(WRITE)), (OR, deny(WRITE)))
    assert may_any((ORDERS, allow(WRITE)), (ORDERS, deny(READ)))
    assert may_any((ORDERS, allow(WRITE)), (ORDERS, deny(WRITE, BOB)))


# --- entries that change -------------------------------------------------------------------------


def test_a_verdict_ends_with_the_entries_that_it_was_given_on() -> None:
    authorizer = judge((ORDERS, allow(READ)))
    assert may(authorizer)
    authorizer.put(OR, [deny(READ)])
    assert not may(authorizer)
    authorizer.put(OR, [])
    assert may(authorizer)
    authorizer.replace({ORDERS: [allow(WRITE)]})
    assert not may(authorizer)
    assert may(authorizer, WRITE)
    authorizer.put(ORDERS, ())
    assert not may(authorizer, WRITE)
    assert may(judge(everyone=True))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorizer_module, "MAX_CALLERS", 2)
    monkeypatch.setattr(authorizer_module, "MAX_VERDICTS", 3)
    authorizer = judge((OR, allow(READ)))
    for number in range(10):
        for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
            assert may(authorizer, name=f"or{number}", who=caller(host=host))
            remembered = authorizer._verdicts
            assert len(remembered) <= 2
            assert all(len(each) <= 3 for each in remembered.values())


def test_what_is_remembered_of_all_callers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorizer_module, "MAX_REMEMBERED", 5)
    monkeypatch.setattr(authorizer_module, "MAX_VERDICTS", 3)
    authorizer = judge((OR, allow(READ)))
    for number in range(20):
        assert may(authorizer, name=f"or{number}", who=caller(host=f"10.0.0.{number % 4}"))
        held = sum(len(each) for each in authorizer._verdicts.values())
        assert held == authorizer._remembered <= 5


def test_long_names_are_judged_and_not_remembered() -> None:
    authorizer = judge((OR, allow(READ)))
    assert may(authorizer, name="or" + "x" * 1000)
    assert not may(authorizer, name="x" * 1000)
    assert authorizer._remembered == 0


def test_what_may_be_done_somewhere_is_remembered_until_the_entries_change() -> None:
    authorizer = judge((OR, allow(WRITE)))
    assert authorizer.allows_any(caller(), WRITE, TOPIC)
    assert not authorizer.allows_any(caller(BOB), WRITE, TOPIC)
    assert authorizer._remembered == 2
    assert authorizer.allows_any(caller(), WRITE, TOPIC)
    assert authorizer._remembered == 2
    authorizer.put(OR, ())
    assert not authorizer.allows_any(caller(), WRITE, TOPIC)


def test_the_version_moves_with_each_change() -> None:
    authorizer = Authorizer()
    versions = [authorizer.version]
    authorizer.put(OR, [allow(READ)])
    versions.append(authorizer.version)
    authorizer.put(OR, ())
    versions.append(authorizer.version)
    authorizer.replace({})
    versions.append(authorizer.version)
    assert versions == sorted(set(versions))


def test_rules_are_found_by_a_filter() -> None:
    authorizer = judge(
        (ORDERS, allow(READ)), (OR, deny(WRITE, BOB, "10.0.0.0/8")), (EVERY, allow(DESCRIBE))
    )
    authorizer.put(Pattern(ResourceType.GROUP, "orders"), [allow(READ)])

    def found(**asked: object) -> set[str]:
        return {str(each) for each in authorizer.rules(EntryFilter(**asked))}  # type: ignore[arg-type]

    everything = found()
    assert len(everything) == 4
    assert found(type=TOPIC) == everything - {
        "allow User:alice Read from * on literal Group orders"
    }
    assert found(name="orders", type=TOPIC, pattern_filter=PatternFilter.MATCH) == found(type=TOPIC)
    assert found(name="orders") == {
        "allow User:alice Read from * on literal Topic orders",
        "allow User:alice Read from * on literal Group orders",
    }
    assert found(pattern_filter=PatternFilter.PREFIXED) == {
        "deny User:bob Write from 10.0.0.0/8 on prefixed Topic or"
    }
    assert found(name="or", pattern_filter=PatternFilter.LITERAL) == set()
    assert found(principal=BOB) == found(host="10.0.0.0/8") == found(operation=WRITE)
    assert found(permission=Permission.DENY) == found(principal=BOB)


def test_what_almost_allows_it_is_named() -> None:
    authorizer = judge(
        (ORDERS, allow(WRITE)),
        (ORDERS, allow(READ, host="10.9.9.9")),
        (Pattern(TOPIC, "order"), allow(READ)),
        (Pattern(TOPIC, "order"), allow(WRITE)),
        (ORDERS, allow(READ, BOB)),
        (ORDERS, deny(READ, host="1.1.1.1")),
    )
    misses = authorizer.near_misses(caller(), READ, TOPIC, "orders")
    assert [str(each) for each in misses] == [
        "allow User:alice Read from * on literal Topic order",
        "allow User:alice Read from 10.9.9.9 on literal Topic orders",
        "allow User:alice Write from * on literal Topic orders",
    ]


def test_the_reason_names_the_rule() -> None:
    authorizer = judge((ORDERS, allow(READ)), (OR, deny(READ, host="10.0.0.0/8")))
    verdict = authorizer.decide(caller(), READ, TOPIC, "orders")
    assert verdict.reason == "denied by: deny User:alice Read from 10.0.0.0/8 on prefixed Topic or"
    verdict = authorizer.decide(caller(host="1.2.3.4"), READ, TOPIC, "orders")
    assert verdict.reason == "allowed by: allow User:alice Read from * on literal Topic orders"
    verdict = authorizer.decide(caller(BOB), READ, TOPIC, "orders")
    assert verdict.reason == "nothing allows User:bob Read on Topic orders from 10.1.2.3"


# --- the twin ------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["a", "ab", "abc", "b", "*"])
_TYPES = st.sampled_from([TOPIC, ResourceType.GROUP])
_WHO = st.sampled_from([ALICE, BOB, Principal("User", "*")])
_HOSTS = st.sampled_from(["*", "10.1.2.3", "10.0.0.0/8", "11.0.0.1"])
_PATTERNS = st.builds(Pattern, _TYPES, _NAMES, st.sampled_from(PatternType))
_OPERATIONS = st.sampled_from(Operation)
_ENTRIES = st.builds(Entry, _WHO, _HOSTS, _OPERATIONS, st.sampled_from(Permission))
_RULES = st.lists(st.tuples(_PATTERNS, _ENTRIES), max_size=8)


def twin(rules: list[tuple[Pattern, Entry]], who: Caller, asked: tuple[Operation, str]) -> bool:
    """The same by looking at all of them, in the words of Kafka's documentation."""
    operation, name = asked
    here = [
        entry
        for pattern, entry in rules
        if pattern.type is TOPIC
        and (
            name.startswith(pattern.name)
            if pattern.kind is PatternType.PREFIXED
            else pattern.name in {"*", name}
        )
    ]
    mine = [
        entry
        for entry in here
        if entry.principal.name in {"*", who.principal.name}
        and (entry.host in {"*", who.host} or (entry.host, who.host[:3]) == ("10.0.0.0/8", "10."))
    ]
    if any(e.permission is Permission.DENY and e.operation in {operation, ALL} for e in mine):
        return False
    implied = IMPLIED_BY.get(operation, {operation})
    return any(
        e.permission is Permission.ALLOW and (e.operation in implied or e.operation is ALL)
        for e in mine
    )


@settings(max_examples=amount(300), deadline=None)
@given(
    _RULES,
    st.lists(st.tuples(_OPERATIONS, st.sampled_from(["a", "ab", "abc", "abcd", "b"])), max_size=6),
    st.sampled_from([ALICE, BOB, ANONYMOUS]),
    st.sampled_from(["10.1.2.3", "10.2.2.2", "11.0.0.1"]),
)
def test_the_judge_says_what_its_twin_says(
    rules: list[tuple[Pattern, Entry]],
    asked: list[tuple[Operation, str]],
    who: Principal,
    host: str,
) -> None:
    authorizer = judge(*rules)
    for operation, name in asked:
        expected = twin(rules, caller(who, host), (operation, name))
        assert may(authorizer, operation, name, caller(who, host)) is expected


def test_principals_are_read() -> None:
    assert parse_principal("User:alice") == ALICE
    assert parse_principal("User:CN=a:b,O=c") == Principal("User", "CN=a:b,O=c")
    assert str(ALICE) == "User:alice"
    for wrong in ("alice", ":alice", "User:", ""):
        with pytest.raises(ValueError, match="no principal"):
            parse_principal(wrong)
    with pytest.raises(ValueError, match="at most"):
        parse_principal("User:" + "x" * 1_024)
