"""The writes of a controller, all of them under its fence (fence.py): States, topics,
configurations, ids of producers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kazoo.exceptions import NodeExistsError, NoNodeError

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import Takeover
from minikafka.core.control.commands import StateChange
from minikafka.errors import NotControllerError
from minikafka.model import TopicDescription
from minikafka.turns import in_slices
from minikafka.zookeeper import codec
from minikafka.zookeeper.codec import ProducerIdBlock
from minikafka.zookeeper.errors import CorruptNodeError, ZooKeeperError
from minikafka.zookeeper.fence import (
    NOT_THERE,
    TO_BE_WRITTEN_ALONE,
    Build,
    Deleted,
    Failure,
    Fence,
    Part,
    Put,
    PutOver,
    Witness,
)
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import ZooKeeperSession, gather_all
from minikafka.zookeeper.unreadable import UnreadableNodes

_DELETIONS_PER_MULTI = 200
# A server holds its loop, and everybody behind it, for a multi; and takes none above 1 MiB.
_STATES_PER_MULTI = 100
_BATCH_BYTES = 256 * 1024
_AROUND_BYTES = 150  # headers and ACLs of the operations of one State
_MULTIS_AT_ONCE = 4
_PRODUCER_ID_END = 2**63 - 1


class _StateWrite(NamedTuple):
    """A State on its way: its node (`put`, made or set), and the node that it lies in."""

    parent: str
    put: Put
    controller_epoch: int

    @property
    def size_bytes(self) -> int:
        """Of the request, more or less."""
        return len(self.put.data) + 2 * len(self.put.path) + _AROUND_BYTES

    def build(self, multi: Any) -> None:
        if self.put.expected_version == NOT_THERE:
            multi.create(self.parent)
            multi.create(self.put.path, self.put.data)
        else:
            multi.set_data(self.put.path, self.put.data, self.put.expected_version)


class FencedWriter:
    def __init__(
        self,
        session: ZooKeeperSession,
        layout: Layout,
        fence: Fence,
        unreadable: UnreadableNodes,
    ) -> None:
        self._session = session
        self._layout = layout
        self._fence = fence
        self._unreadable = unreadable

    # --- states ---

    async def write_states(self, changes: Sequence[StateChange]) -> list[WriteOutcome]:
        """Many States a multi, and a few multis at once. One that is refused keeps no other from
        being written."""
        batches: list[list[_StateWrite]] = []
        size_bytes = _BATCH_BYTES
        async for change in in_slices(changes):
            write = self._state_write(change)
            if (
                size_bytes + write.size_bytes > _BATCH_BYTES
                or len(batches[-1]) == _STATES_PER_MULTI
                or write.controller_epoch != batches[-1][0].controller_epoch
            ):
                batches.append([])
                size_bytes = 0
            batches[-1].append(write)
            size_bytes += write.size_bytes
        room = asyncio.Semaphore(_MULTIS_AT_ONCE)

        async def in_its_turn(batch: list[_StateWrite]) -> list[WriteOutcome]:
            async with room:
                return await self._write_batch(batch)

        written = await gather_all([in_its_turn(batch) for batch in batches])
        return [outcome for outcomes in written for outcome in outcomes]

    def _state_write(self, change: StateChange) -> _StateWrite:
        expected = change.expected_version
        assert change.new.partition_version == expected + 1, change
        topic, partition = change.topic_partition.topic, change.topic_partition.partition
        return _StateWrite(
            self._layout.partition(topic, partition),
            # The State names its controller epoch: nobody else writes these bytes. One that was
            # decided under an earlier controllership is not for this one to write.
            Put(
                self._layout.state(topic, partition), codec.encode_state(change.new), expected, True
            ),
            change.new.controller_epoch,
        )

    async def _write_batch(self, batch: Sequence[_StateWrite]) -> list[WriteOutcome]:
        if len(batch) == 1:
            return [await self._write_alone(batch[0])]
        parts = [Part(write.build, write.put) for write in batch]
        outcomes = await self._fence.write_together(parts, batch[0].controller_epoch)

        async def settled(write: _StateWrite, outcome: WriteOutcome | None) -> WriteOutcome:
            return await self._write_alone(write) if outcome is TO_BE_WRITTEN_ALONE else outcome

        return await gather_all(list(map(settled, batch, outcomes)))

    async def _write_alone(self, write: _StateWrite) -> WriteOutcome:
        written = await self._fence.write(write.build, write.put, write.controller_epoch)
        failed = written.failed
        if (
            write.put.expected_version == NOT_THERE
            and failed is not None
            and failed.position == 0
            and isinstance(failed.error, NodeExistsError)
        ):
            # The parent is there from an earlier, half-done creation.
            written = await self._fence.write(
                lambda multi: multi.create(write.put.path, write.put.data),
                write.put,
                write.controller_epoch,
            )
        return written.outcome

    # --- topics ---

    async def create_topic(
        self, topic: TopicDescription, overrides: Mapping[str, str]
    ) -> WriteOutcome:
        """With its configuration, whatever an earlier topic of that name has left there."""
        path, data = self._layout.topic(topic.name), codec.encode_topic(topic)

        def build(multi: Any) -> None:
            multi.create(path, data)
            multi.create(self._layout.partitions(topic.name))

        # The topic id is random: these bytes are nobody else's.
        witness = Put(path, data, NOT_THERE, own=True)
        config, entity_path = self._layout.topic_config(topic.name), f"topics/{topic.name}"
        return await self._write_with_config(
            config, codec.encode_config(overrides), entity_path, (build, 2), witness
        )

    async def update_topic(self, topic: TopicDescription) -> WriteOutcome:
        path, data = self._layout.topic(topic.name), codec.encode_topic(topic)

        def build(multi: Any) -> None:
            multi.set_data(path, data)

        return (await self._fence.write(build, PutOver(path, data))).outcome

    async def delete_topic_nodes(self, topic: TopicDescription) -> WriteOutcome:
        """States and partitions, the topic, its config, the deletion marker: in this order, each
        of them only if it is there, so that another controller can carry on with the rest.
        CONFLICT if the topic has another id, or cannot be read, so that nobody knows who has
        replicas of it."""
        path = self._layout.topic(topic.name)
        found = await self._session.get(path)
        if found is not None:
            data = found[0]
            present = self._unreadable.decode(
                path, lambda: codec.decode_topic(path, data, topic.name)
            )
            if present is None or present.topic_id != topic.topic_id:
                return WriteOutcome.CONFLICT
        for delete, of in (
            (self._delete_tree, path),
            (self._delete_config, topic.name),
            (self._delete_tree, self._layout.delete_topic(topic.name)),
        ):
            outcome = await delete(of)
            if outcome is not WriteOutcome.WRITTEN:
                return outcome
        return WriteOutcome.WRITTEN

    async def _delete_config(self, topic: str) -> WriteOutcome:
        """Announced as well: a later topic of that name is another one."""
        path = self._layout.topic_config(topic)
        announcement = codec.encode_config_change(f"topics/{topic}")
        while True:
            found = await self._session.get(path)
            if found is None:
                return WriteOutcome.WRITTEN if self._fence.is_ours else WriteOutcome.DEPOSED

            def build(multi: Any, version: int = found[1].version) -> None:
                multi.delete(path, version)
                multi.create(self._layout.config_change_prefix, announcement, sequence=True)

            written = await self._fence.write(build, Deleted(path))
            if written.outcome is not WriteOutcome.CONFLICT:
                return written.outcome
            self._require_announced(written.failed, 1)
            await self._session.sync()

    async def clear_preferred_election(self) -> WriteOutcome:
        return await self._delete_tree(self._layout.preferred_election)

    async def record_takeover(self, takeover: Takeover) -> WriteOutcome:
        """As the data of the queue. Only the next controller writes them again."""
        path, data = self._layout.controller_queue, codec.encode_takeover(takeover)

        def build(multi: Any) -> None:
            multi.set_data(path, data)

        # It names its controller epoch.
        return (await self._fence.write(build, PutOver(path, data, own=True))).outcome

    async def _delete_tree(self, root: str) -> WriteOutcome:
        """WRITTEN when nothing is left of it."""
        if not self._fence.is_ours:
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

        return (await self._fence.write(build, Deleted(paths[-1]))).outcome

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

    # --- configuration ---

    async def write_config(self, path: str, data: bytes, entity_path: str) -> WriteOutcome:
        """Whatever the node holds. WRITTEN or DEPOSED."""
        return await self._write_with_config(path, data, entity_path)

    async def _write_with_config(
        self,
        path: str,
        data: bytes,
        entity_path: str,
        first: tuple[Build, int] = (lambda multi: None, 0),
        witness: Witness | None = None,
    ) -> WriteOutcome:
        """One multi: `first` (so many operations), the configuration, its announcement. CONFLICT is
        of `first`."""
        announcement = codec.encode_config_change(entity_path)
        build_first, count = first
        while True:
            found = await self._session.get(path)
            version = NOT_THERE
            if found is not None:
                version = found[1].version
                self._refuse_to_overwrite(path, found[0])
            put = Put(path, data, version)

            def build(multi: Any, put: Put = put) -> None:
                build_first(multi)
                if put.expected_version == NOT_THERE:
                    multi.create(put.path, put.data)
                else:
                    multi.set_data(put.path, put.data, put.expected_version)
                multi.create(self._layout.config_change_prefix, announcement, sequence=True)

            written = await self._fence.write(build, witness or put)
            failed = written.failed
            if written.outcome is not WriteOutcome.CONFLICT:
                return written.outcome
            self._require_announced(failed, count + 1)
            if count and (failed is None or failed.position < count):
                return written.outcome
            await self._session.sync()  # somebody wrote it by hand: over that, then

    def _require_announced(self, failed: Failure | None, position: int) -> None:
        """ZooKeeperError if it was the announcement, at this position, that could not be made: it
        would fail again and again."""
        if failed is not None and failed.position == position:
            raise ZooKeeperError(
                f"there is no {self._layout.config_changes}, where configurations are announced"
            )

    def _refuse_to_overwrite(self, path: str, data: bytes) -> None:
        """CorruptNodeError for what cannot be read: whoever wrote it may still want it."""
        try:
            codec.decode_config(path, data)
        except CorruptNodeError as error:
            self._unreadable.note(error)
            raise CorruptNodeError(path, self._unreadable.nodes[path]) from None

    # --- features ---

    async def raise_feature(self, level: int) -> WriteOutcome:
        """Finalize this level of transaction.version, unless it or a higher one is. CONFLICT if
        what is there cannot be read, or is written by somebody else just now."""
        path, data = self._layout.feature, codec.encode_feature(level)
        found = await self._session.get(path)
        if found is not None:
            present = self._unreadable.decode(path, lambda: codec.decode_feature(path, found[0]))
            if present is None:
                return WriteOutcome.CONFLICT
            if present >= level:
                return WriteOutcome.WRITTEN
        version = NOT_THERE if found is None else found[1].version

        def build(multi: Any) -> None:
            if version == NOT_THERE:
                multi.create(path, data)
            else:
                multi.set_data(path, data, version)

        return (await self._fence.write(build, Put(path, data, version))).outcome

    # --- producer ids ---

    async def allocate_producer_ids(self, broker_id: int, count: int) -> tuple[int, int]:
        """(first, exclusive end). NotControllerError if this is not, or no longer, the controller.

        Two requests at once would write the same bytes over the same version, so these prove
        nothing: a block whose write had an unknown outcome is skipped. Ids are many, and none may
        be given twice."""
        assert count > 0
        path = self._layout.producer_id_block
        while True:
            if not self._fence.is_ours:
                raise NotControllerError("this broker is not the controller")
            found = await self._session.get(path)
            last = -1 if found is None else self._last_producer_id(path, found[0])
            first, end = last + 1, last + 1 + count
            if end > _PRODUCER_ID_END:
                raise ZooKeeperError(f"all producer ids have been given away ({path})")
            data = codec.encode_producer_id_block(ProducerIdBlock(broker_id, first, end - 1))
            version = NOT_THERE if found is None else found[1].version

            def build(multi: Any, data: bytes = data, version: int = version) -> None:
                if version == NOT_THERE:
                    multi.create(path, data)
                else:
                    multi.set_data(path, data, version)

            outcome = (await self._fence.write(build, None)).outcome
            if outcome is WriteOutcome.WRITTEN:
                return first, end
            if outcome is WriteOutcome.DEPOSED:
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
