"""Access control entries and SCRAM credentials, to and from api/access.py.

An entry travels as Kafka's protocol has it: numbers of its own, principals as text. What comes in
is looked at as at the door of Kafka's clients; InvalidRequestError for what means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TypeVar

from minikafka.api.access import (
    AclDeletion,
    AlterScramRequest,
    DeletedRule,
    ScramAlteration,
    ScramUpsertion,
)
from minikafka.errors import InvalidRequestError
from minikafka.rpc.convert import error_of, optional_error_to_wire
from minikafka.rpc.generated import control_pb2
from minikafka.security.acl import (
    Entry,
    EntryFilter,
    Operation,
    Pattern,
    PatternFilter,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.authorizer import Rule
from minikafka.security.principal import Principal, parse_principal

N = TypeVar("N", bound=IntEnum)

_ANY = 0


def rule_to_wire(rule: Rule) -> control_pb2.AclRule:
    pattern, entry = rule
    return control_pb2.AclRule(
        resource_type=pattern.type,
        resource_name=pattern.name,
        pattern_type=pattern.kind,
        principal=str(entry.principal),
        host=entry.host,
        operation=entry.operation,
        permission=entry.permission,
    )


def rule_from_wire(wire: control_pb2.AclRule) -> Rule:
    pattern = Pattern(
        _number(ResourceType, wire.resource_type),
        wire.resource_name,
        _number(PatternType, wire.pattern_type),
    )
    entry = Entry(
        _principal(wire.principal),
        wire.host,
        _number(Operation, wire.operation),
        _number(Permission, wire.permission),
    )
    return Rule(pattern, entry)


def filter_to_wire(asked: EntryFilter) -> control_pb2.AclFilter:
    return control_pb2.AclFilter(
        resource_type=asked.type or _ANY,
        resource_name=asked.name,
        pattern_type=asked.pattern_filter,
        principal=None if asked.principal is None else str(asked.principal),
        host=asked.host,
        operation=asked.operation or _ANY,
        permission=asked.permission or _ANY,
    )


def filter_from_wire(wire: control_pb2.AclFilter) -> EntryFilter:
    return EntryFilter(
        _number_or_any(ResourceType, wire.resource_type),
        wire.resource_name if wire.HasField("resource_name") else None,
        _number_or_any(PatternFilter, wire.pattern_type) or PatternFilter.ANY,
        _principal(wire.principal) if wire.HasField("principal") else None,
        wire.host if wire.HasField("host") else None,
        _number_or_any(Operation, wire.operation),
        _number_or_any(Permission, wire.permission),
    )


def _number_or_any(kind: type[N], number: int) -> N | None:
    return None if number == _ANY else _number(kind, number)


def _number(kind: type[N], number: int) -> N:
    try:
        return kind(number)
    except ValueError:
        known = ", ".join(f"{each.value} ({each.name})" for each in kind)
        raise InvalidRequestError(f"{number} is no {kind.__name__}: there are {known}") from None


def _principal(text: str) -> Principal:
    try:
        return parse_principal(text)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None


# --- credentials ---------------------------------------------------------------------------------


def alter_scram_to_wire(request: AlterScramRequest) -> control_pb2.AlterScram:
    return control_pb2.AlterScram(alterations=map(_alteration_to_wire, request.alterations))


def _alteration_to_wire(alteration: ScramAlteration) -> control_pb2.ScramAlteration:
    wire = control_pb2.ScramAlteration(user=alteration.user, mechanism=alteration.mechanism)
    made = alteration.upsertion
    if made is not None:
        wire.upsertion.iterations = made.iterations
        wire.upsertion.salt = made.salt
        wire.upsertion.salted_password = made.salted_password
    return wire


def alter_scram_from_wire(wire: control_pb2.AlterScram) -> AlterScramRequest:
    return AlterScramRequest(tuple(map(_alteration_from_wire, wire.alterations)))


def _alteration_from_wire(wire: control_pb2.ScramAlteration) -> ScramAlteration:
    upsertion = None
    if wire.HasField("upsertion"):
        made = wire.upsertion
        upsertion = ScramUpsertion(made.iterations, made.salt, made.salted_password)
    return ScramAlteration(wire.user, wire.mechanism, upsertion)


# --- results -------------------------------------------------------------------------------------


def deletions_to_wire(deletions: Sequence[AclDeletion]) -> list[control_pb2.AclDeletion]:
    return [
        control_pb2.AclDeletion(
            error=optional_error_to_wire(each.error),
            deleted=[
                control_pb2.DeletedAcl(
                    rule=rule_to_wire(deleted.rule), error=optional_error_to_wire(deleted.error)
                )
                for deleted in each.deleted
            ],
        )
        for each in deletions
    ]


def deletions_from_wire(wire: Iterable[control_pb2.AclDeletion]) -> tuple[AclDeletion, ...]:
    return tuple(
        AclDeletion(
            error_of(each),
            tuple(DeletedRule(rule_from_wire(one.rule), error_of(one)) for one in each.deleted),
        )
        for each in wire
    )
