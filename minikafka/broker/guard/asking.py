"""One caller's questions to the judge, and what is said of the answers.

A resource is *named* by a request, or one of all that there are, of which those that its caller may
not see are *hidden*. What is named and denied is told to people (INFO), the rest to those who look
for it (DEBUG). What cannot be judged, since the judge fails, is denied.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from minikafka.broker.guard.audit import ANY_RESOURCE, Audit, logger, question_of, shown
from minikafka.errors import (
    ClusterAuthorizationFailedError,
    DelegationTokenAuthorizationFailedError,
    GroupAuthorizationFailedError,
    MinikafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)
from minikafka.escaping import escaped
from minikafka.model import TopicPartition
from minikafka.security.acl import CLUSTER_NAME, SUPPORTED, Operation, ResourceType, bits_of
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import Caller
from minikafka.turns import in_slices

ERRORS: Mapping[ResourceType, type[MinikafkaError]] = {
    ResourceType.TOPIC: TopicAuthorizationFailedError,
    ResourceType.GROUP: GroupAuthorizationFailedError,
    ResourceType.CLUSTER: ClusterAuthorizationFailedError,
    ResourceType.TRANSACTIONAL_ID: TransactionalIdAuthorizationFailedError,
    ResourceType.DELEGATION_TOKEN: DelegationTokenAuthorizationFailedError,
    ResourceType.USER: ClusterAuthorizationFailedError,  # as Kafka: users have none of their own
}

FEW = 256  # items of a request that are judged in one go
MAX_OPEN = 1_000  # topics that one connection's guard remembers to be allowed
MAX_OPEN_NAME = 255
_NONE: frozenset[str] = frozenset()
_REASON_CHARACTERS = 1_024

Refusals = Mapping[str, MinikafkaError]  # by name


class OfPartition(Protocol):
    @property
    def topic_partition(self) -> TopicPartition: ...


T = TypeVar("T")
ItemT = TypeVar("ItemT", bound=OfPartition)
ResultT = TypeVar("ResultT")


class Asking:
    """`request`, everywhere: as Kafka names it, for the log.

    State: `_open`, topics on which an operation is allowed, as of `_version` of the entries.
    """

    __slots__ = ("_open", "_version", "audit", "authorizer", "caller")

    def __init__(self, authorizer: Authorizer, caller: Caller, audit: Audit) -> None:
        self.authorizer = authorizer
        self.caller = caller
        self.audit = audit
        self._open: dict[Operation, set[str]] = {}
        self._version = authorizer.version

    # --- one resource ----------------------------------------------------------------------------

    def allows(
        self,
        request: str,
        operation: Operation,
        type: ResourceType,
        name: str,
        *,
        named: bool = True,
        count: int = 1,
    ) -> bool:
        """`count`: how often the request has it."""
        try:
            allowed = self.authorizer.allows(self.caller, operation, type, name)
        except Exception as failure:
            self._tell_failure(request, operation, type, name, failure)
            return False
        level = logging.INFO if named and not allowed else logging.DEBUG
        if logger.isEnabledFor(level):
            question = question_of(self.caller, request, operation, type, name, allowed)
            self.audit.tell(
                level,
                question,
                count,
                lambda: shown_reason(
                    self.authorizer.decide(self.caller, operation, type, name).reason
                ),
            )
        return allowed

    def allows_any(self, request: str, operation: Operation, type: ResourceType) -> bool:
        """On any resource of the type, whichever it be."""
        try:
            allowed = self.authorizer.allows_any(self.caller, operation, type)
        except Exception as failure:
            self._tell_failure(request, operation, type, ANY_RESOURCE, failure)
            return False
        if logger.isEnabledFor(logging.DEBUG):
            question = question_of(self.caller, request, operation, type, ANY_RESOURCE, allowed)
            self.audit.tell(
                logging.DEBUG,
                question,
                1,
                lambda: shown_reason(
                    self.authorizer.decide_any(self.caller, operation, type).reason
                ),
            )
        return allowed

    def _tell_failure(
        self,
        request: str,
        operation: Operation,
        type: ResourceType,
        name: str,
        failure: Exception,
    ) -> None:
        question = question_of(self.caller, request, operation, type, name, allowed=False)
        why = f"it could not be judged: {failure!r}"
        self.audit.tell(logging.ERROR, question, 1, lambda: shown_reason(why), failure)

    def refusal(
        self, request: str, operation: Operation, type: ResourceType, name: str, *, count: int = 1
    ) -> MinikafkaError | None:
        """What is to be said of it; None if it is allowed."""
        if self.allows(request, operation, type, name, count=count):
            return None
        return self.error(operation, type, name)

    def error(self, operation: Operation, type: ResourceType, name: str) -> MinikafkaError:
        who = shown(str(self.caller.principal))
        return ERRORS[type](f"{who} may not {operation.word} the {type.word} '{shown(name)}'")

    # --- the cluster -----------------------------------------------------------------------------

    def may(self, request: str, operation: Operation, *, named: bool = True) -> bool:
        return self.allows(request, operation, ResourceType.CLUSTER, CLUSTER_NAME, named=named)

    def require(self, request: str, operation: Operation) -> None:
        """ClusterAuthorizationFailedError."""
        if not self.may(request, operation):
            raise self.error(operation, ResourceType.CLUSTER, CLUSTER_NAME)

    # --- many ------------------------------------------------------------------------------------

    async def refusals(
        self, request: str, operation: Operation, type: ResourceType, names: Iterable[str]
    ) -> Refusals:
        """Each is asked for once, however often it is named."""
        refused: dict[str, MinikafkaError] = {}
        counts: dict[str, int] = {}
        async for name in in_slices(names):
            counts[name] = counts.get(name, 0) + 1
        async for name, count in in_slices(counts.items()):
            error = self.refusal(request, operation, type, name, count=count)
            if error is not None:
                refused[name] = error
        return refused

    async def hidden(
        self, request: str, operation: Operation, type: ResourceType, names: Iterable[str]
    ) -> set[str]:
        """Those of all of them that are not to be seen."""
        verdicts: dict[str, bool] = {}
        async for name in in_slices(names):
            if name not in verdicts:
                verdicts[name] = self.allows(request, operation, type, name, named=False)
        return {name for name, allowed in verdicts.items() if not allowed}

    async def of_topics(
        self,
        request: str,
        operation: Operation,
        items: Sequence[ItemT],
        ask: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]],
        refuse: Callable[[TopicPartition, MinikafkaError], ResultT],
    ) -> Sequence[ResultT]:
        """One result for each item, in order: what `ask` says of those whose topics allow it, which
        it says in their order."""
        refused = await self.refusals(
            request, operation, ResourceType.TOPIC, (each.topic_partition.topic for each in items)
        )
        if not refused:
            return await ask(items)
        allowed = await without(items, refused)
        found = iter(await ask(allowed) if allowed else ())
        asked = (each.topic_partition for each in items)
        return [
            refuse(each, refused[each.topic]) if each.topic in refused else next(found)
            async for each in in_slices(asked)
        ]

    async def of_partitions(
        self,
        request: str,
        operation: Operation,
        partitions: Sequence[TopicPartition],
        ask: Callable[[Sequence[TopicPartition]], Awaitable[Sequence[ResultT]]],
        refuse: Callable[[TopicPartition, MinikafkaError], ResultT],
    ) -> Sequence[ResultT]:
        """As `of_topics`, where partitions that are named again are answered once."""
        refused = await self.refusals(
            request, operation, ResourceType.TOPIC, (each.topic for each in partitions)
        )
        if not refused:
            return await ask(partitions)
        once = dict.fromkeys(partitions)
        allowed = [each async for each in in_slices(once) if each.topic not in refused]
        found = iter(await ask(allowed) if allowed else ())
        return [
            refuse(each, refused[each.topic]) if each.topic in refused else next(found)
            async for each in in_slices(once)
        ]

    async def of_names(
        self,
        request: str,
        operation: Operation,
        type: ResourceType,
        names: Sequence[str],
        ask: Callable[[Sequence[str]], Awaitable[Sequence[ResultT]]],
        refuse: Callable[[str, MinikafkaError], ResultT],
    ) -> Sequence[ResultT]:
        """One result for each name, which is answered once, in order."""
        refused = await self.refusals(request, operation, type, names)
        if not refused:
            return await ask(names)
        once = dict.fromkeys(names)
        allowed = [each async for each in in_slices(once) if each not in refused]
        found = iter(await ask(allowed) if allowed else ())
        return [
            refuse(each, refused[each]) if each in refused else next(found)
            async for each in in_slices(once)
        ]

    def is_open(self, operation: Operation, items: Sequence[OfPartition]) -> bool:
        """Are there but few items, and is it allowed on all of their topics, with nothing to be
        said of it? The short way through, of what is asked a thousand times a second."""
        if len(items) > FEW or logger.isEnabledFor(logging.DEBUG):
            return False
        if self._version != self.authorizer.version:
            self._open.clear()
            self._version = self.authorizer.version
        topics = self._open.get(operation, _NONE)
        for item in items:
            if item.topic_partition.topic not in topics:
                return self._opens(operation, {each.topic_partition.topic for each in items})
        return True

    def _opens(self, operation: Operation, topics: set[str]) -> bool:
        """Each is asked for once, and remembered if it is allowed."""
        known = self._open.setdefault(operation, set())
        try:
            for topic in topics - known:
                if not self.authorizer.allows(self.caller, operation, ResourceType.TOPIC, topic):
                    return False
                if len(known) >= MAX_OPEN:
                    known.clear()
                if len(topic) <= MAX_OPEN_NAME:
                    known.add(topic)
        except Exception:  # the long way says so
            return False
        return True

    # --- what a caller may do with a resource ----------------------------------------------------

    def operations(self, type: ResourceType, name: str) -> int:
        """The bits of what is allowed. Nothing is said of it: nobody has tried to do it. Who may
        not describe the cluster is told of nothing."""
        try:
            allowed = [
                each
                for each in SUPPORTED[type]
                if self.authorizer.allows(self.caller, each, type, name)
            ]
        except Exception as failure:
            self._tell_failure("AuthorizedOperations", Operation.DESCRIBE, type, name, failure)
            return 0
        if type is ResourceType.CLUSTER and Operation.DESCRIBE not in allowed:
            return 0
        return bits_of(allowed)


async def without(items: Iterable[ItemT], refused: Refusals) -> list[ItemT]:
    """Those whose topics are not refused."""
    return [each async for each in in_slices(items) if each.topic_partition.topic not in refused]


def merged(
    partitions: Sequence[TopicPartition],
    refused: Refusals,
    found: Sequence[ResultT],
    refuse: Callable[[TopicPartition, MinikafkaError], ResultT],
) -> list[ResultT]:
    """One result for each, in order: of those whose topics are refused an error, of the others what
    was found, which is one for each of them, in order. Without a pause: results may hold files."""
    rest = iter(found)
    results = [
        refuse(each, refused[each.topic]) if each.topic in refused else next(rest)
        for each in partitions
    ]
    assert next(rest, None) is None, "more results than were asked for"
    return results


def shown_reason(reason: str) -> str:
    """It quotes names from requests, whole."""
    return escaped(reason[:_REASON_CHARACTERS])
