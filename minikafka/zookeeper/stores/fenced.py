"""The writes of a controller: each one multi that begins with the check of /controller_epoch, so
that nothing is written once another controller has been elected (rule R1, KAFKA-6082).

A write whose answer was lost is never sent again blindly. After `sync` the nodes tell what became
of it: the version that it expected plus one, with its bytes, is its own work (every State names its
controller epoch); the fence has moved: deposed; the node is still as the write expected: it had no
effect, can have none later (OutcomeUnknownError), and is sent again; anything else is a conflict.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError, NotEmptyError
from kazoo.protocol.states import ZnodeStat

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import Takeover
from minikafka.core.control.commands import StateChange
from minikafka.errors import NotControllerError
from minikafka.model import TopicDescription
from minikafka.zookeeper import codec
from minikafka.zookeeper.codec import ProducerIdBlock
from minikafka.zookeeper.errors import CorruptNodeError, OutcomeUnknownError, ZooKeeperError
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import ZooKeeperSession, gather_all
from minikafka.zookeeper.stores.election import Controllership, Lease
from minikafka.zookeeper.transaction import Failure, failure
from minikafka.zookeeper.unreadable import UnreadableNodes

_CONFLICTS = (BadVersionError, NodeExistsError, NoNodeError, NotEmptyError)
_DELETIONS_PER_MULTI = 200
_PRODUCER_ID_END = 2**63 - 1

Build = Callable[[Any], None]


class _Resolved(Enum):
    """What the nodes tell of a write whose answer was lost."""

    APPLIED = "applied"
    NOT_APPLIED = "not applied"
    OVERTAKEN = "overtaken"  # the node is neither as before nor as written


class FencedWriter:
    def __init__(
        self,
        session: ZooKeeperSession,
        layout: Layout,
        controllership: Controllership,
        unreadable: UnreadableNodes,
    ) -> None:
        self._session = session
        self._layout = layout
        self._controllership = controllership
        self._unreadable = unreadable

    # --- states ---

    async def write_states(self, changes: Sequence[StateChange]) -> list[WriteOutcome]:
        """One multi a partition, sent without waiting for one another."""
        return await gather_all([self._write_state(change) for change in changes])

    async def _write_state(self, change: StateChange) -> WriteOutcome:
        lease = self._controllership.lease
        # A state that was decided under an earlier controllership is not for this one to write.
        if lease is None or change.new.controller_epoch != lease.controller_epoch:
            return WriteOutcome.DEPOSED
        assert change.new.partition_version == change.expected_version + 1, change
        topic, partition = change.topic_partition.topic, change.topic_partition.partition
        path = self._layout.state(topic, partition)
        data = codec.encode_state(change.new)

        async def resolve() -> _Resolved:
            found = await self._get(path)
            version = -1 if found is None else found[1].version
            if version == change.expected_version:
                return _Resolved.NOT_APPLIED
            applied = (
                found is not None and version == change.expected_version + 1 and found[0] == data
            )
            return _Resolved.APPLIED if applied else _Resolved.OVERTAKEN

        if change.expected_version >= 0:
            outcome, _ = await self._commit(
                lease, lambda multi: multi.set_data(path, data, change.expected_version), resolve
            )
            return outcome

        def create_with_parent(multi: Any) -> None:
            multi.create(self._layout.partition(topic, partition))
            multi.create(path, data)

        outcome, failed = await self._commit(lease, create_with_parent, resolve)
        if (
            failed is not None
            and failed.position == 1
            and isinstance(failed.error, NodeExistsError)
        ):
            # The parent is there from an earlier, half-done creation.
            outcome, _ = await self._commit(lease, lambda multi: multi.create(path, data), resolve)
        return outcome

    # --- topics ---

    async def create_topic(self, topic: TopicDescription) -> WriteOutcome:
        path, data = self._layout.topic(topic.name), codec.encode_topic(topic)

        def build(multi: Any) -> None:
            multi.create(path, data)
            multi.create(self._layout.partitions(topic.name))

        async def resolve() -> _Resolved:
            found = await self._get(path)
            if found is None:
                return _Resolved.NOT_APPLIED
            # The topic id is random: these bytes are nobody else's.
            return _Resolved.APPLIED if found[0] == data else _Resolved.OVERTAKEN

        return await self._commit_alone(build, resolve)

    async def update_topic(self, topic: TopicDescription) -> WriteOutcome:
        path, data = self._layout.topic(topic.name), codec.encode_topic(topic)

        async def resolve() -> _Resolved:
            found = await self._get(path)
            if found is None:
                return _Resolved.OVERTAKEN
            # Nobody else writes it while the fence holds, so it may be set once more.
            return _Resolved.APPLIED if found[0] == data else _Resolved.NOT_APPLIED

        return await self._commit_alone(lambda multi: multi.set_data(path, data), resolve)

    async def delete_topic_nodes(self, topic: TopicDescription) -> WriteOutcome:
        """States and partitions, the topic, its config, the deletion marker: in this order, each
        of them only if it is there, so that another controller can carry on with the rest.
        CONFLICT if the topic has another id, or cannot be read, so that nobody knows who has
        replicas of it."""
        path = self._layout.topic(topic.name)
        found = await self._get(path)
        if found is not None:
            data = found[0]
            present = self._unreadable.decode(
                path, lambda: codec.decode_topic(path, data, topic.name)
            )
            if present is None or present.topic_id != topic.topic_id:
                return WriteOutcome.CONFLICT
        for node in (
            path,
            self._layout.topic_config(topic.name),
            self._layout.delete_topic(topic.name),
        ):
            outcome = await self._delete_tree(node)
            if outcome is not WriteOutcome.WRITTEN:
                return outcome
        return WriteOutcome.WRITTEN

    async def clear_preferred_election(self) -> WriteOutcome:
        return await self._delete_tree(self._layout.preferred_election)

    async def record_takeover(self, takeover: Takeover) -> WriteOutcome:
        """As the data of the queue. Only the next controller writes them again."""
        path, data = self._layout.controller_queue, codec.encode_takeover(takeover)

        def build(multi: Any) -> None:
            multi.set_data(path, data)

        async def resolve() -> _Resolved:
            found = await self._get(path)
            applied = found is not None and found[0] == data
            return _Resolved.APPLIED if applied else _Resolved.NOT_APPLIED

        return await self._commit_alone(build, resolve)

    async def _delete_tree(self, root: str) -> WriteOutcome:
        """WRITTEN when nothing is left of it."""
        if self._controllership.lease is None:
            return WriteOutcome.DEPOSED
        while True:
            await self._session.sync()
            paths = await self._tree(root)
            if not paths:
                return WriteOutcome.WRITTEN
            for start in range(0, len(paths), _DELETIONS_PER_MULTI):
                outcome = await self._delete(paths[start : start + _DELETIONS_PER_MULTI])
                if outcome is WriteOutcome.DEPOSED:
                    return outcome
                if outcome is WriteOutcome.CONFLICT:
                    break  # it was changed meanwhile: look again

    async def _delete(self, paths: Sequence[str]) -> WriteOutcome:
        def build(multi: Any) -> None:
            for path in paths:
                multi.delete(path)

        async def resolve() -> _Resolved:
            gone = await self._get(paths[-1]) is None
            return _Resolved.APPLIED if gone else _Resolved.NOT_APPLIED

        return await self._commit_alone(build, resolve)

    async def _tree(self, root: str) -> list[str]:
        """Every path under `root` and itself, children before parents; [] if it is not there."""
        try:
            children: list[str] = await self._session.repeat(
                lambda client: client.get_children_async(root)
            )
        except NoNodeError:
            return []
        below = await gather_all([self._tree(f"{root}/{child}") for child in children])
        return [path for subtree in below for path in subtree] + [root]

    # --- producer ids ---

    async def allocate_producer_ids(self, broker_id: int, count: int) -> tuple[int, int]:
        """(first, exclusive end). NotControllerError if this is not, or no longer, the controller.

        A block whose write had an unknown outcome is skipped: ids are many, and none may be given
        twice."""
        assert count > 0
        path = self._layout.producer_id_block
        while True:
            lease = self._controllership.lease
            if lease is None:
                raise NotControllerError("this broker is not the controller")
            found = await self._get(path)
            last = -1 if found is None else self._last_producer_id(path, found[0])
            first, end = last + 1, last + 1 + count
            if end > _PRODUCER_ID_END:
                raise ZooKeeperError(f"all producer ids have been given away ({path})")
            data = codec.encode_producer_id_block(ProducerIdBlock(broker_id, first, end - 1))
            version = -1 if found is None else found[1].version

            def build(
                multi: Any, lease: Lease = lease, data: bytes = data, version: int = version
            ) -> None:
                multi.check(self._layout.controller_epoch, lease.epoch_version)
                if version < 0:
                    multi.create(path, data)
                else:
                    multi.set_data(path, data, version)

            try:
                failed = failure(await self._session.transact(build))
            except OutcomeUnknownError:
                await self._session.sync()
                continue
            if failed is None:
                return first, end
            if self._outcome(failed) is WriteOutcome.DEPOSED:
                raise NotControllerError("this broker is no longer the controller")
            await self._session.sync()

    def _last_producer_id(self, path: str, data: bytes) -> int:
        """CorruptNodeError: none is given out then, since none may be given twice."""
        try:
            last = codec.decode_producer_id_block(path, data).last
        except CorruptNodeError as error:
            self._unreadable.note(error)
            raise
        self._unreadable.forget(path)
        return last

    # --- the fence ---

    async def _commit_alone(
        self, build: Build, resolve: Callable[[], Awaitable[_Resolved]]
    ) -> WriteOutcome:
        lease = self._controllership.lease
        if lease is None:
            return WriteOutcome.DEPOSED
        outcome, _ = await self._commit(lease, build, resolve)
        return outcome

    async def _commit(
        self, lease: Lease, build: Build, resolve: Callable[[], Awaitable[_Resolved]]
    ) -> tuple[WriteOutcome, Failure | None]:
        """Commit the check of the fence and what `build` adds. `resolve` reads what became of it
        when the answer was lost. The failure, if any, counts the check as operation 0."""

        def fenced(multi: Any) -> None:
            multi.check(self._layout.controller_epoch, lease.epoch_version)
            build(multi)

        while True:
            try:
                failed = failure(await self._session.transact(fenced))
            except OutcomeUnknownError:
                await self._session.sync()
                resolved = await resolve()
                if resolved is _Resolved.APPLIED:
                    return WriteOutcome.WRITTEN, None
                if resolved is _Resolved.NOT_APPLIED:
                    continue
                deposed = await self._is_deposed(lease)
                return WriteOutcome.DEPOSED if deposed else WriteOutcome.CONFLICT, None
            if failed is None:
                return WriteOutcome.WRITTEN, None
            return self._outcome(failed), failed

    def _outcome(self, failed: Failure) -> WriteOutcome:
        """Which operation failed tells the fence from the rest."""
        if not isinstance(failed.error, _CONFLICTS):
            raise ZooKeeperError(f"ZooKeeper refused a write of the controller: {failed.error!r}")
        return WriteOutcome.DEPOSED if failed.position == 0 else WriteOutcome.CONFLICT

    async def _is_deposed(self, lease: Lease) -> bool:
        found = await self._get(self._layout.controller_epoch)
        return found is None or found[1].version != lease.epoch_version

    async def _get(self, path: str) -> tuple[bytes, ZnodeStat] | None:
        try:
            found: tuple[bytes, ZnodeStat] = await self._session.repeat(
                lambda client: client.get_async(path)
            )
            return found
        except NoNodeError:
            return None
