"""The judge: may this caller do that to this resource?

    1. a super user may
    2. no entry of any kind on a pattern that matches: as allow.everyone.if.no.acl.found says
    3. a matching Deny: no
    4. a matching Allow: yes
    5. else: no

Principals are the same whole, or the entry's is `User:*`; All stands for each operation; in an
Allow, and there alone, some operations imply others (acl.IMPLIED_BY). As Apache Kafka's
AclAuthorizer, with networks as hosts (KIP-1167) beside.

State: the entries, by type and then by name, by prefix, or for every name; and the verdicts that
were given since they last changed, by caller. A verdict is a dict's look-up; finding one looks at
the entries of one name, of `*`, and of one prefix for each length that there is.
Invariant: `_verdicts` holds nothing that was decided on other entries, and, of all callers
together, `_remembered` verdicts. What is remembered is bounded by number, and names longer than
most are not remembered: they come from whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from minikafka.security.acl import (
    ANY_NAME,
    IMPLIED_BY,
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.principal import Caller, Principal

MAX_CALLERS = 10_000
MAX_VERDICTS = 4_096  # of one caller
MAX_REMEMBERED = 500_000  # of all of them
MAX_REMEMBERED_NAME = 255

Entries = frozenset[Entry]
_Question = tuple[Operation, ResourceType, str | None]  # None: any resource of the type
_NONE: Entries = frozenset()


class Rule(NamedTuple):
    """An entry, and what it stands on."""

    pattern: Pattern
    entry: Entry

    def __str__(self) -> str:
        return f"{self.entry} on {self.pattern}"


class Verdict(NamedTuple):
    """`rule` is the one that decided; None where none did."""

    allowed: bool
    reason: str
    rule: Rule | None = None


@dataclass(slots=True)
class _OfType:
    """The entries on one type of resource. `prefixes`: by length, longest first."""

    literal: dict[str, Entries] = field(default_factory=dict)
    prefixes: dict[int, dict[str, Entries]] = field(default_factory=dict)

    def put(self, pattern: Pattern, entries: Entries) -> None:
        if pattern.kind is PatternType.LITERAL:
            _put(self.literal, pattern.name, entries)
            return
        length = len(pattern.name)
        names = self.prefixes.setdefault(length, {})
        _put(names, pattern.name, entries)
        if not names:
            del self.prefixes[length]
        self.prefixes = dict(sorted(self.prefixes.items(), reverse=True))

    def matching(self, type: ResourceType, name: str) -> Iterator[tuple[Pattern, Entries]]:
        """What stands on a name: the most exact first."""
        if name in self.literal:
            yield Pattern(type, name), self.literal[name]
        for length, names in self.prefixes.items():
            found = names.get(name[:length])
            if found is not None:
                yield Pattern(type, name[:length], PatternType.PREFIXED), found
        if name != ANY_NAME and ANY_NAME in self.literal:
            yield Pattern(type, ANY_NAME), self.literal[ANY_NAME]

    def all(self, type: ResourceType) -> Iterator[tuple[Pattern, Entries]]:
        for name, entries in self.literal.items():
            yield Pattern(type, name), entries
        for names in self.prefixes.values():
            for name, entries in names.items():
                yield Pattern(type, name, PatternType.PREFIXED), entries


class Authorizer:
    """See the module. The names of resources are those of requests: no more is known of them."""

    def __init__(
        self, super_users: Iterable[Principal] = (), *, allow_if_no_acl: bool = False
    ) -> None:
        self._super_users = frozenset(super_users)
        self._allow_if_no_acl = allow_if_no_acl
        self._types = {each: _OfType() for each in ResourceType}
        self._verdicts: dict[tuple[Principal, str], dict[_Question, bool]] = {}
        self._remembered = 0
        self.version = 0  # moves whenever the entries may have changed

    # --- entries ---------------------------------------------------------------------------------

    def put(self, pattern: Pattern, entries: Iterable[Entry]) -> None:
        """These stand on that pattern from now on, and no others; none: nothing does."""
        self._types[pattern.type].put(pattern, frozenset(entries))
        self._on_change()

    def replace(self, entries: Mapping[Pattern, Iterable[Entry]]) -> None:
        """These are all that there are."""
        self._types = {each: _OfType() for each in ResourceType}
        for pattern, some in entries.items():
            self._types[pattern.type].put(pattern, frozenset(some))
        self._on_change()

    def _on_change(self) -> None:
        self.version += 1
        self._forget()

    def _forget(self) -> None:
        self._verdicts.clear()
        self._remembered = 0

    def rules(self, asked: EntryFilter) -> list[Rule]:
        """Those that a filter finds, in no particular order."""
        types = ResourceType if asked.type is None else (asked.type,)
        return [
            Rule(pattern, entry)
            for each in types
            for pattern, entries in self._types[each].all(each)
            if asked.matches_pattern(pattern)
            for entry in entries
            if asked.matches(pattern, entry)
        ]

    # --- judging ---------------------------------------------------------------------------------

    def allows(self, caller: Caller, operation: Operation, type: ResourceType, name: str) -> bool:
        """As `decide`, from what is remembered."""
        question = operation, type, name
        verdicts = self._verdicts.get((caller.principal, caller.host))
        known = None if verdicts is None else verdicts.get(question)
        if known is None:
            known = self.decide(caller, operation, type, name).allowed
            if len(name) <= MAX_REMEMBERED_NAME:
                self._remember(caller, question, known)
        return known

    def allows_any(self, caller: Caller, operation: Operation, type: ResourceType) -> bool:
        """As `decide_any`, from what is remembered."""
        question = operation, type, None
        verdicts = self._verdicts.get((caller.principal, caller.host))
        known = None if verdicts is None else verdicts.get(question)
        if known is None:
            known = self.decide_any(caller, operation, type).allowed
            self._remember(caller, question, known)
        return known

    def _remember(self, caller: Caller, question: _Question, allowed: bool) -> None:
        who = caller.principal, caller.host
        too_many = who not in self._verdicts and len(self._verdicts) >= MAX_CALLERS
        if too_many or self._remembered >= MAX_REMEMBERED:
            self._forget()
        verdicts = self._verdicts.setdefault(who, {})
        if len(verdicts) >= MAX_VERDICTS:
            self._remembered -= len(verdicts)
            verdicts.clear()
        verdicts[question] = allowed
        self._remembered += 1

    def decide(
        self, caller: Caller, operation: Operation, type: ResourceType, name: str
    ) -> Verdict:
        """The verdict, with what decided it."""
        if caller.principal in self._super_users:
            return Verdict(True, f"{caller.principal} is a super user")
        matching = list(self._types[type].matching(type, name))
        if not matching:
            return self._without_entries(type, name)
        denied = _first(matching, caller, Permission.DENY, {operation, Operation.ALL})
        if denied is not None:
            return Verdict(False, f"denied by: {denied}", denied)
        allowing = IMPLIED_BY.get(operation, frozenset((operation,))) | {Operation.ALL}
        allowed = _first(matching, caller, Permission.ALLOW, allowing)
        if allowed is not None:
            return Verdict(True, f"allowed by: {allowed}", allowed)
        return Verdict(
            False,
            f"nothing allows {caller.principal} {operation.word} on {type.word} {name} "
            f"from {caller.host}",
        )

    def _without_entries(self, type: ResourceType, name: str) -> Verdict:
        reason = f"no entry stands on {type.word} {name}"
        if self._allow_if_no_acl:
            return Verdict(True, f"{reason}, and allow.everyone.if.no.acl.found is true")
        return Verdict(False, reason)

    def decide_any(self, caller: Caller, operation: Operation, type: ResourceType) -> Verdict:
        """May this caller do that to any resource of a type, whichever it be (KIP-679)? A name or
        prefix that is allowed counts unless a Deny covers all of it."""
        if caller.principal in self._super_users:
            return Verdict(True, f"{caller.principal} is a super user")
        found = list(self._types[type].all(type))
        if not found and self._allow_if_no_acl:
            return Verdict(True, f"no entry stands on any {type.word}")
        operations = frozenset((operation, Operation.ALL))
        about = [
            Rule(pattern, entry)
            for pattern, entries in found
            for entry in entries
            if entry.operation in operations and entry.is_about(caller.principal, caller.host)
        ]
        denied = [each for each in about if each.entry.permission is Permission.DENY]
        for rule in about:
            if rule.entry.permission is Permission.ALLOW and not any(
                _covers(each.pattern, rule.pattern) for each in denied
            ):
                return Verdict(True, f"allowed by: {rule}", rule)
        return Verdict(
            False, f"nothing allows {caller.principal} {operation.word} on a {type.word}"
        )

    def near_misses(
        self, caller: Caller, operation: Operation, type: ResourceType, name: str
    ) -> list[Rule]:
        """Entries that would allow it but for one thing: the operation, the host, or the
        pattern."""
        allowing = IMPLIED_BY.get(operation, frozenset((operation,))) | {Operation.ALL}
        misses = []
        for pattern, entries in self._types[type].all(type):
            for entry in entries:
                if entry.permission is not Permission.ALLOW:
                    continue
                if not entry.is_about(caller.principal, entry.host):
                    continue
                right = (
                    pattern.matches(name),
                    entry.operation in allowing,
                    entry.is_about(caller.principal, caller.host),
                )
                if sum(right) == len(right) - 1:
                    misses.append(Rule(pattern, entry))
        return sorted(misses, key=str)


def _put(names: dict[str, Entries], name: str, entries: Entries) -> None:
    if entries:
        names[name] = entries
    else:
        names.pop(name, None)


def _first(
    matching: Iterable[tuple[Pattern, Entries]],
    caller: Caller,
    permission: Permission,
    operations: Iterable[Operation],
) -> Rule | None:
    """One that says so about this caller; of several the same one each time."""
    wanted = frozenset(operations)
    for pattern, entries in matching:
        found = [
            entry
            for entry in entries
            if entry.permission is permission
            and entry.operation in wanted
            and entry.is_about(caller.principal, caller.host)
        ]
        if found:
            return Rule(pattern, min(found))
    return None


def _covers(denied: Pattern, allowed: Pattern) -> bool:
    """Does a Deny hold for all that is allowed?"""
    if denied.kind is PatternType.PREFIXED:
        return allowed.name.startswith(denied.name) and allowed.name != ANY_NAME
    if denied.name == ANY_NAME:
        return True
    return denied == allowed
