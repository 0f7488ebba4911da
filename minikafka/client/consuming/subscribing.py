"""A consumer's subscription: the part of AsyncConsumer that is about groups.

State: the membership (client/consuming/group.py), if there is one; while there is, it assigns the
partitions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

from minikafka.api.groups import UNKNOWN_MEMBER
from minikafka.client.consuming.fetcher import Fetcher
from minikafka.client.consuming.group import GroupMember, GroupOptions, Listener
from minikafka.client.metadata import Cluster
from minikafka.client.options import FetcherOptions
from minikafka.client.values import ConsumerRecord, GroupMembership, check_positive
from minikafka.errors import UnknownMemberIdError, UsageError
from minikafka.model import TopicPartition

Partition = TopicPartition | tuple[str, int]


def as_partition(partition: Partition) -> TopicPartition:
    if isinstance(partition, TopicPartition):
        return partition
    topic, number = partition
    return TopicPartition(topic, number)


class Subscribing:
    """What it needs of the rest of the consumer stands first."""

    _cluster: Cluster
    _options: FetcherOptions
    _iterated: deque[ConsumerRecord]
    _group: GroupMember | None

    @abstractmethod
    def _running(self) -> Fetcher: ...

    @abstractmethod
    def _assign(self, partitions: Iterable[Partition]) -> None: ...

    @abstractmethod
    def assignment(self) -> list[TopicPartition]: ...

    @abstractmethod
    def seek(self, partition: Partition, offset: int) -> None: ...

    def subscribe(
        self,
        topics: str | Iterable[str],
        group_id: str,
        *,
        instance_id: str | None = None,
        client_id: str = "minikafka",
        auto_commit: bool = True,
        auto_commit_interval_ms: float = 5_000,
        session_timeout_ms: int = 45_000,
        heartbeat_interval_ms: float = 3_000,
        max_poll_interval_ms: int = 300_000,
        on_assigned: Listener = lambda _: None,
        on_revoked: Listener = lambda _: None,
    ) -> None:
        """Read these topics as one of a group, which shares out the partitions among its members;
        `poll` joins it, and takes part in its rebalances. Partitions begin where the group has
        committed, else by `auto_offset_reset`.

        `auto_commit`: what was given before the last poll is committed now and then, at a
        rebalance, and at the end; without it, `commit`. `instance_id` makes a static member, which
        comes back within `session_timeout_ms` without a rebalance. Who does not poll for
        `max_poll_interval_ms` is out. `on_assigned` and `on_revoked` are told of partitions.
        """
        names = (topics,) if isinstance(topics, str) else tuple(dict.fromkeys(topics))
        if not names or not group_id:
            raise UsageError("a group needs a name and at least one topic")
        if self._group is not None:
            raise UsageError("the consumer is in a group already; unsubscribe first")
        check_positive(
            auto_commit_interval_ms=auto_commit_interval_ms,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=heartbeat_interval_ms,
            max_poll_interval_ms=max_poll_interval_ms,
        )
        self._running()
        options = GroupOptions(
            names,
            group_id,
            instance_id,
            client_id,
            auto_commit,
            auto_commit_interval_ms,
            session_timeout_ms,
            heartbeat_interval_ms,
            max_poll_interval_ms,
            self._options.request_timeout_ms,
            on_assigned,
            on_revoked,
        )
        self._group = GroupMember(self._cluster, options, _GroupReader(self))
        self._assign(())

    async def unsubscribe(self, *, failed: bool = False) -> None:
        """Leave the group, if there is one; nothing is assigned then."""
        group, self._group = self._group, None
        if group is not None:
            await group.close(failed=failed)
            self._assign(())

    @property
    def in_group(self) -> bool:
        """Has the group assigned what is to be read? Not before the first poll that joined it, and
        not while a rebalance is under way."""
        return self._group is not None and self._group.settled

    async def commit(self, offsets: Mapping[TopicPartition, int] | None = None) -> None:
        """Commit where the group is to go on: these offsets, or after what was given out so far.
        Errors: see GroupMember.commit."""
        await self._member().commit(offsets)

    async def committed(self, *partitions: Partition) -> dict[TopicPartition, int | None]:
        """Where the group goes on (None: nothing committed); without arguments, of what is
        assigned."""
        wanted = [as_partition(each) for each in partitions] or self.assignment()
        found = await self._member().committed(wanted)
        return {each: None if found[each].offset < 0 else found[each].offset for each in wanted}

    def membership(self) -> GroupMembership:
        """What a producer has to know of it for `send_offsets`. UnknownMemberIdError if it is in
        its group no more, or not yet."""
        member = self._member()
        if member.member_id == UNKNOWN_MEMBER:
            # As nobody it would commit over what the members have.
            group_id = member.options.group_id
            raise UnknownMemberIdError(f"no member of group {group_id!r}: poll first")
        return GroupMembership(
            member.options.group_id,
            member.generation_id,
            member.member_id,
            member.options.instance_id,
            member.options.auto_commit,
        )

    def _member(self) -> GroupMember:
        if self._group is None:
            raise UsageError("the consumer is in no group: subscribe first")
        return self._group

    def _polling(self) -> AbstractContextManager[None]:
        """While the user waits in a poll, nobody says that it does not poll."""
        return nullcontext() if self._group is None else self._group.while_polling()

    async def _in_group(self, deadline: float | None) -> bool:
        """Take part in rebalances; False if none is over by `deadline`."""
        return self._group is None or await self._group.ensure_assigned(deadline)


class _GroupReader:
    """The consumer as its group sees it (client/consuming/group.py, Reader)."""

    def __init__(self, consumer: Subscribing) -> None:
        self._consumer = consumer

    def positions(self) -> dict[TopicPartition, int]:
        consumer = self._consumer
        found = {
            each: state.position
            for each, state in consumer._running().assigned.items()
            if state.position is not None
        }
        for record in reversed(consumer._iterated):
            found[TopicPartition(record.topic, record.partition)] = record.offset
        return found

    def read_from(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        self._consumer._assign(())
        self._consumer._assign(offsets)
        for each, offset in offsets.items():
            if offset is not None:
                self._consumer.seek(each, offset)

    def wake(self) -> None:
        self._consumer._running().nudge()
