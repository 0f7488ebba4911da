"""The writes of a controller, all of them under its fence (fence.py): States, topics,
configurations, ids of producers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kazoo.exceptions import NodeExistsError, NoNodeError

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import Takeover
from minikafka.core.control.commands import StateChange
from minikafka.errors import NotControllerError
from minikafka.model import TopicDescription
from minikafka.zookeeper import codec
from minikafka.zookeeper.codec import ProducerIdBlock
from minikafka.zookeeper.errors import CorruptNodeError, ZooKeeperError
from minikafka.zookeeper.fence import NOT_THERE, Deleted, Fence, Put, PutOver
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import ZooKeeperSession, gather_all
from minikafka.zookeeper.unreadable import UnreadableNodes

_DELETIONS_PER_MULTI = 200
_PRODUCER_ID_END = 2**63 - 1


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
        """One multi a partition, sent without waiting for one another."""
        return await gather_all([self._write_state(change) for change in changes])

    async def _write_state(self, change: StateChange) -> WriteOutcome:
        expected = change.expected_version
        assert change.new.partition_version == expected + 1, change
        topic, partition = change.topic_partition.topic, change.topic_partition.partition
        path = self._layout.state(topic, partition)
        data = codec.encode_state(change.new)
        # The State names its controller epoch: nobody else writes these bytes. One that was decided
        # under an earlier controllership is not for this one to write.
        witness, epoch = Put(path, data, expected, own=True), change.new.controller_epoch
        if expected != NOT_THERE:
            written = await self._fence.write(
                lambda multi: multi.set_data(path, data, expected), witness, epoch
            )
            return written.outcome

        def create_with_parent(multi: Any) -> None:
            multi.create(self._layout.partition(topic, partition))
            multi.create(path, data)

        written = await self._fence.write(create_with_parent, witness, epoch)
        failed = written.failed
        if (
            failed is not None
            and failed.position == 0
            and isinstance(failed.error, NodeExistsError)
        ):
            # The parent is there from an earlier, half-done creation.
            written = await self._fence.write(
                lambda multi: multi.create(path, data), witness, epoch
            )
        return written.outcome

    # --- topics ---

    async def create_topic(self, topic: TopicDescription) -> WriteOutcome:
        path, data = self._layout.topic(topic.name), codec.encode_topic(topic)

        def build(multi: Any) -> None:
            multi.create(path, data)
            multi.create(self._layout.partitions(topic.name))

        # The topic id is random: these bytes are nobody else's.
        witness = Put(path, data, NOT_THERE, own=True)
        return (await self._fence.write(build, witness)).outcome

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
        """Whatever the node holds, and announced in the same multi. WRITTEN or DEPOSED."""
        announcement = codec.encode_config_change(entity_path)
        while True:
            found = await self._session.get(path)
            version = NOT_THERE if found is None else found[1].version

            def build(multi: Any, version: int = version) -> None:
                if version == NOT_THERE:
                    multi.create(path, data)
                else:
                    multi.set_data(path, data, version)
                multi.create(self._layout.config_change_prefix, announcement, sequence=True)

            written = await self._fence.write(build, Put(path, data, version))
            if written.outcome is not WriteOutcome.CONFLICT:
                return written.outcome
            if written.failed is not None and written.failed.position > 0:
                raise ZooKeeperError(
                    f"there is no {self._layout.config_changes}, where configurations are announced"
                )
            await self._session.sync()  # somebody wrote it by hand: over that, then

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
