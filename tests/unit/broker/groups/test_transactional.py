"""Offsets in transactions at a broker that coordinates the group: the word of the transaction's
coordinator, which is played here, the markers, loading, and what is kept through a failover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from minikafka.api.groups import (
    CommittedOffset,
    DeleteGroupsRequest,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchGroup,
    OffsetFetchRequest,
)
from minikafka.api.requests import AlterTopicConfigRequest
from minikafka.api.transactions import TxnOffsetCommitRequest
from minikafka.broker.coordinators.topic import partition_for
from minikafka.broker.groups import coordinator as coordinator_module
from minikafka.broker.groups.shard import GroupShard
from minikafka.broker.replication.replica import Replica
from minikafka.broker.replication.transactional import end_transaction
from minikafka.core.groups.group import Group
from minikafka.core.replication.effects import TransactionQuestion
from minikafka.core.replication.transactional import TransactionEnd
from minikafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    IllegalGenerationError,
    InvalidCommitOffsetSizeError,
    InvalidGroupIdError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    MinikafkaError,
    NetworkError,
    NotCoordinatorError,
    NotEnoughReplicasAfterAppendError,
    OffsetMetadataTooLargeError,
    ProducerFencedError,
    RequestTimedOutError,
    TransactionAbortableError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    UnstableOffsetCommitError,
)
from minikafka.model import OFFSETS_TOPIC, TopicPartition
from minikafka.records.header import is_control, is_transactional, split
from tests.helpers.brokers import BrokerCluster
from tests.helpers.group_client import TP, GroupClient, coordinator_of
from tests.helpers.waiting import until

SETTINGS = {
    "group.initial.rebalance.delay.ms": "10",
    "group.min.session.timeout.ms": "100",
    "offsets.topic.num.partitions": "1",
}


class Words:
    """Those that the coordinators of transactions give: yes, unless the test says otherwise. While
    `gate` is there, they wait for it."""

    def __init__(self) -> None:
        self.asked: list[TransactionQuestion] = []
        self.error: MinikafkaError | None = None
        self.gate: asyncio.Future[None] | None = None

    async def is_in_transaction(self, question: TransactionQuestion) -> None:
        self.asked.append(question)
        if self.gate is not None:
            await asyncio.shield(self.gate)
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        self.gate = asyncio.get_running_loop().create_future()

    def speak(self, error: MinikafkaError | None = None) -> None:
        assert self.gate is not None
        self.error = error
        self.gate.set_result(None)
        self.gate = None


class Groups:
    """A cluster, and the coordinator of its only partition of offsets."""

    def __init__(self, cluster: BrokerCluster) -> None:
        self.cluster = cluster
        self.words = Words()

    async def start(self, *broker_ids: int) -> None:
        await self.cluster.start(*broker_ids)
        await self.cluster.create_topic("t", list(broker_ids))
        await GroupClient(self.cluster, "other").commit(1)
        for running in self.cluster.running.values():
            running.broker.replicas.words.coordinators = self.words

    async def shard(self) -> GroupShard:
        """Of whoever coordinates now, once it has loaded."""
        number = partition_for("g", 1)

        async def find() -> GroupShard | None:
            here = self.cluster.service(await coordinator_of(self.cluster, "g"))
            shard = here.group_shards._shards.get(number)
            return shard if shard is not None and shard.loaded else None

        found = await until(find)
        assert found is not None
        return found

    async def replica(self) -> Replica:
        return (await self.shard()).replica

    def begin(
        self, offset: int = 5, topic_partition: TopicPartition = TP, **changes: Any
    ) -> asyncio.Future[MinikafkaError | None]:
        """A commit of one offset on its way; yields its error."""
        return asyncio.ensure_future(self.commit(offset, topic_partition, **changes))

    async def commit(
        self, offset: int = 5, topic_partition: TopicPartition = TP, **changes: Any
    ) -> MinikafkaError | None:
        [only] = await self.commit_all(OffsetCommitPartition(topic_partition, offset), **changes)
        return only

    async def commit_all(
        self, *partitions: OffsetCommitPartition, **changes: Any
    ) -> list[MinikafkaError | None]:
        fields: dict[str, Any] = {
            "transactional_id": "orders",
            "producer_id": 7,
            "producer_epoch": 0,
            "group_id": "g",
            "partitions": partitions,
        }
        request = TxnOffsetCommitRequest(**{**fields, **changes})
        service = self.cluster.service(await coordinator_of(self.cluster, "g"))
        result = await service.groups.commit_offsets_in_transaction(request)
        return [each.error for each in result.partitions]

    async def end(self, producer_id: int = 7, *, commits: bool = True) -> object:
        """What the markers' receiving end does."""
        end = TransactionEnd(producer_id, 0, 3, commits, False)
        return await end_transaction(await self.replica(), end, 5_000)

    async def fetch(self, group_id: str = "g", *, stable: bool = False) -> CommittedOffset:
        service = self.cluster.service(await coordinator_of(self.cluster, "g"))
        request = OffsetFetchRequest([OffsetFetchGroup(group_id, [TP])], stable)
        [result] = (await service.groups.fetch_offsets(request)).groups
        assert result.error is None, result.error
        return result.partitions[0]

    async def is_unstable(self) -> bool:
        return isinstance((await self.fetch(stable=True)).error, UnstableOffsetCommitError)

    async def log_end(self) -> int:
        return (await self.replica()).core.log_state.log_end_offset


@pytest.fixture
async def groups(tmp_path: Path) -> AsyncIterator[Groups]:
    cluster = BrokerCluster(tmp_path, SETTINGS)
    yield Groups(cluster)
    await cluster.close()


async def stable(groups: Groups) -> GroupClient:
    client = GroupClient(groups.cluster, "g")
    joined = await client.join()
    assert (await client.sync((joined.member_id, b"all"))).error is None
    return client


# --- a transaction -------------------------------------------------------------------------------


async def test_offsets_count_when_the_marker_is_confirmed_and_are_unstable_until_then(
    groups: Groups,
) -> None:
    await groups.start(1)
    await GroupClient(groups.cluster, "g").commit(1)
    assert await groups.commit(5) is None
    assert ((await groups.fetch()).offset, await groups.is_unstable()) == (1, True)
    assert await groups.end() is None
    assert (await groups.fetch(stable=True)).offset == 5


async def test_aborted_offsets_are_forgotten_and_the_group_that_had_nothing_else(
    groups: Groups,
) -> None:
    await groups.start(1)
    assert await groups.commit(5) is None
    shard = await groups.shard()
    assert "g" in shard.groups
    assert await groups.end(commits=False) is None
    assert (await groups.fetch(stable=True)).offset == -1
    assert "g" not in shard.groups


async def test_the_record_is_a_batch_of_the_producer_without_a_sequence(groups: Groups) -> None:
    await groups.start(1)
    assert await groups.commit(5, producer_epoch=3) is None
    replica = await groups.replica()
    *_, header = split(replica.read(0, 10**6, await groups.log_end()))
    assert is_transactional(header)
    assert not is_control(header)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 3, -1)
    assert replica.core.log_state.last_stable_offset == header.base_offset


async def test_the_coordinator_of_the_transaction_is_asked_once(groups: Groups) -> None:
    await groups.start(1)
    assert await groups.commit(5, adds=True) is None
    assert await groups.commit(6) is None
    [question] = groups.words.asked
    assert question.topic_partition == TopicPartition(OFFSETS_TOPIC, 0)
    assert (question.transactional_id, question.producer_id) == ("orders", 7)
    assert (question.producer_epoch, question.adds) == (0, True)
    await groups.end()
    assert (await groups.fetch()).offset == 6


async def test_two_groups_and_two_producers_are_told_apart(groups: Groups) -> None:
    await groups.start(1)
    assert await groups.commit(5) is None
    assert await groups.commit(6, group_id="h") is None
    assert await groups.commit(7, group_id="h", producer_id=8) is None
    await groups.end(7)
    assert ((await groups.fetch("g")).offset, (await groups.fetch("h")).offset) == (5, 6)
    await groups.end(8, commits=False)
    assert (await groups.fetch("h", stable=True)).offset == 6


async def test_partitions_that_cannot_be_committed_fail_alone(groups: Groups) -> None:
    await groups.start(1)
    errors = await groups.commit_all(
        OffsetCommitPartition(TopicPartition("t", 9), 1),
        OffsetCommitPartition(TP, 4),
        OffsetCommitPartition(TP, 5),
    )
    assert [error and type(error) for error in errors] == [UnknownTopicOrPartitionError, None]
    long = OffsetCommitPartition(TP, 6, -1, "x" * 5_000)
    end = await groups.log_end()
    assert [type(each) for each in await groups.commit_all(long)] == [OffsetMetadataTooLargeError]
    assert await groups.log_end() == end
    await groups.end()
    assert (await groups.fetch()).offset == 5, "it counts as it is named last"


# --- who may -------------------------------------------------------------------------------------


async def test_who_may_not_is_refused_before_anybody_is_asked(groups: Groups) -> None:
    await groups.start(1)
    unknown = await groups.commit(generation_id=1, member_id="m")
    assert isinstance(unknown, IllegalGenerationError)
    assert isinstance(await groups.commit(group_id=""), InvalidGroupIdError)
    client = await stable(groups)
    refused = await groups.commit(generation_id=client.generation_id, member_id="ghost")
    assert isinstance(refused, UnknownMemberIdError)
    assert groups.words.asked == []
    member = {"generation_id": client.generation_id, "member_id": client.member_id}
    assert await groups.commit(**member) is None


async def test_a_generation_that_ends_while_the_coordinator_is_asked_is_over(
    groups: Groups,
) -> None:
    """Who waits behind it, of another group or without a generation, is taken."""
    await groups.start(1)
    client = await stable(groups)
    end = await groups.log_end()
    groups.words.wait()
    old = groups.begin(5, generation_id=client.generation_id, member_id=client.member_id)
    await until(lambda: len(groups.words.asked) == 1)
    anonymous = groups.begin(6)
    await until(lambda: groups_waiting(groups) == 2)
    assert await client.leave() is None
    written = await groups.log_end()
    groups.words.speak()
    assert isinstance(await old, UnknownMemberIdError)
    assert await anonymous is None
    assert written > end, "that the group is empty"
    assert await groups.log_end() == written + 1
    await groups.end()
    assert (await groups.fetch()).offset == 6


def groups_waiting(groups: Groups) -> int:
    shard = groups.cluster.service(1).group_shards._shards[0]
    return shard.partition.waiting_for_word_count


async def test_a_group_that_is_deleted_meanwhile_begins_anew(groups: Groups) -> None:
    await groups.start(1)
    await GroupClient(groups.cluster, "g").commit(1)
    groups.words.wait()
    waiting = groups.begin(5)
    await until(lambda: groups_waiting(groups) == 1)
    service = groups.cluster.service(1)
    [deleted] = (await service.groups.delete_groups(DeleteGroupsRequest(["g"]))).groups
    assert deleted.error is None
    groups.words.speak()
    assert await waiting is None
    assert (await groups.fetch()).offset == -1
    await groups.end()
    assert (await groups.fetch()).offset == 5


async def test_who_was_fenced_at_the_partition_is_refused_and_nobody_asked(groups: Groups) -> None:
    await groups.start(1)
    assert await groups.commit(5) is None
    marker = TransactionEnd(7, 1, 3, True, True)
    assert await end_transaction(await groups.replica(), marker, 5_000) is None
    asked = len(groups.words.asked)
    assert isinstance(await groups.commit(6), InvalidProducerEpochError)
    assert len(groups.words.asked) == asked
    assert await groups.commit(7, producer_epoch=1) is None
    assert ((await groups.fetch()).offset, await groups.is_unstable()) == (5, True)


# --- what the coordinator says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "knows_abortable", "answer"),
    [
        (InvalidProducerEpochError("old"), True, InvalidProducerEpochError),
        (ProducerFencedError("old"), True, ProducerFencedError),
        (InvalidProducerIdMappingError("whose"), True, InvalidProducerIdMappingError),
        (InvalidTxnStateError("none"), True, InvalidTxnStateError),
        (TransactionAbortableError("not in it"), True, TransactionAbortableError),
        (TransactionAbortableError("not in it"), False, InvalidTxnStateError),
    ],
)
async def test_a_no_is_told_as_it_is_to_who_knows_it(
    groups: Groups, word: MinikafkaError, knows_abortable: bool, answer: type[MinikafkaError]
) -> None:
    await groups.start(1)
    end = await groups.log_end()
    groups.words.error = word
    error = await groups.commit(knows_abortable=knows_abortable)
    assert type(error) is answer
    assert await groups.log_end() == end
    assert not await groups.is_unstable()


async def test_a_coordinator_that_cannot_be_reached_is_one_that_loads(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    await groups.start(1)
    end = await groups.log_end()
    monkeypatch.setattr(coordinator_module, "COMMIT_TIMEOUT_S", 0.1)
    groups.words.error = NetworkError("cut off")
    assert isinstance(await groups.commit(), CoordinatorLoadInProgressError)
    assert len(groups.words.asked) > 1, "it was asked again"
    groups.words.wait()
    assert isinstance(await groups.commit(), CoordinatorLoadInProgressError)
    groups.words.speak()
    assert await groups.commit(8) is None
    assert await groups.log_end() == end + 1, "what was given up is not appended later"


async def test_time_is_over_also_when_the_client_has_gone(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    await groups.start(1)
    monkeypatch.setattr(coordinator_module, "COMMIT_TIMEOUT_S", 0.1)
    groups.words.wait()
    waiting = groups.begin()
    await until(lambda: groups_waiting(groups) == 1)
    waiting.cancel()
    await until(lambda: groups_waiting(groups) == 0)
    groups.words.speak()


async def test_who_waits_for_a_word_when_another_leads_is_told(groups: Groups) -> None:
    await groups.start(1, 2)
    groups.words.wait()
    waiting = groups.begin()
    await until(lambda: len(groups.words.asked) == 1)
    await groups.cluster.stop(await coordinator_of(groups.cluster, "g"))
    assert isinstance(await waiting, NotCoordinatorError)
    groups.words.speak()


async def test_what_does_not_fit_into_a_batch_is_too_large(groups: Groups) -> None:
    await groups.start(1)
    service = groups.cluster.service(1)
    change = AlterTopicConfigRequest(OFFSETS_TOPIC, {"max.message.bytes": "70"})
    await service.administer(change, 5000)
    replica = await groups.replica()
    await until(lambda: replica.config.max_message_bytes == 70)
    assert isinstance(await groups.commit(), InvalidCommitOffsetSizeError)
    assert groups.words.asked == []


# --- too few replicas ----------------------------------------------------------------------------


@pytest.fixture
async def slow_to_shrink(tmp_path: Path) -> AsyncIterator[Groups]:
    """A follower that is cut off leaves the ISR after a second: there is time to append before."""
    cluster = BrokerCluster(tmp_path, SETTINGS | {"replica.lag.time.max.ms": "1000"})
    yield Groups(cluster)
    await cluster.close()


async def cut_off_the_follower(groups: Groups) -> None:
    """Of brokers 1 and 2, both of which are needed. What is appended now is not committed."""
    here = await coordinator_of(groups.cluster, "g")
    await until_isr(groups, 2)
    change = AlterTopicConfigRequest(OFFSETS_TOPIC, {"min.insync.replicas": "2"})
    await groups.cluster.service(here).administer(change, 5000)
    replica = await groups.replica()
    await until(lambda: replica.core.effective_min_insync() == 2)
    network = groups.cluster.network
    network.cut.add((3 - here, here))
    for task, ends in list(network.ends.items()):
        if ends == (3 - here, here):
            task.cancel()


async def until_isr(groups: Groups, count: int) -> None:
    """As the leader knows it: the controller may not be able to tell others."""
    core = (await groups.replica()).core
    await until(lambda: core.state is not None and len(core.state.isr) == count)


async def test_a_commit_that_was_appended_before_the_isr_shrank_counts_once_it_is_committed(
    slow_to_shrink: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the log may yet be committed: then it is what the next coordinator would read."""
    groups = slow_to_shrink
    await groups.start(1, 2)
    monkeypatch.setattr(coordinator_module, "COMMIT_TIMEOUT_S", 0.1)
    await cut_off_the_follower(groups)
    client = GroupClient(groups.cluster, "g")
    assert isinstance(await client.commit_once(4), RequestTimedOutError)
    assert isinstance(await groups.commit(5), CoordinatorNotAvailableError)
    await until_isr(groups, 1)
    assert ((await groups.fetch()).offset, await groups.is_unstable()) == (-1, True)
    assert isinstance(await client.commit_once(6), CoordinatorNotAvailableError), "none is taken"
    assert isinstance(await groups.commit(7), CoordinatorNotAvailableError), "none is taken"
    groups.cluster.network.heal()
    await until_offset(groups, 4)
    await groups.end()
    assert (await groups.fetch()).offset == 5


async def until_offset(groups: Groups, offset: int) -> None:
    async def there() -> bool:
        return (await groups.fetch()).offset == offset

    await until(there)


async def test_what_a_marker_commits_counts_once_the_marker_is_committed(
    slow_to_shrink: Groups,
) -> None:
    groups = slow_to_shrink
    await groups.start(1, 2)
    assert await groups.commit(5) is None
    await cut_off_the_follower(groups)
    end = await groups.log_end()
    ending = asyncio.ensure_future(groups.end())
    replica = await groups.replica()
    await until(lambda: replica.core.log_state.log_end_offset == end + 1)
    assert ((await groups.fetch()).offset, await groups.is_unstable()) == (-1, True)
    await until_isr(groups, 1)
    assert isinstance(await ending, NotEnoughReplicasAfterAppendError)
    assert ((await groups.fetch()).offset, await groups.is_unstable()) == (-1, True)
    groups.cluster.network.heal()
    await until_isr(groups, 2)
    assert await groups.end() is None
    assert (await groups.log_end()) == end + 1, "it was in the log already"
    assert (await groups.fetch(stable=True)).offset == 5


# --- loading, failover ---------------------------------------------------------------------------


def memory(shard: GroupShard) -> dict[str, object]:
    return {group_id: group.offsets.table for group_id, group in shard.groups.items()}


async def reload(shard: GroupShard) -> None:
    """As its successor would."""
    shard.loaded = False
    shard.groups.clear()
    shard._staging = {}
    await shard.load()


async def test_what_is_staged_is_known_to_who_reads_the_log(groups: Groups) -> None:
    await groups.start(1)
    assert await groups.commit(5) is None
    assert await groups.commit(6, group_id="h", producer_id=8) is None
    shard = await groups.shard()
    before = memory(shard)
    await reload(shard)
    assert memory(shard) == before
    assert await groups.is_unstable()
    await groups.end(7)
    await groups.end(8, commits=False)
    assert ((await groups.fetch(stable=True)).offset, (await groups.fetch("h")).offset) == (5, -1)
    await reload(shard)
    assert ((await groups.fetch(stable=True)).offset, (await groups.fetch("h")).offset) == (5, -1)


async def test_while_a_shard_loads_no_marker_is_taken_and_none_is_appended(
    groups: Groups,
) -> None:
    await groups.start(1)
    assert await groups.commit(5) is None
    shard, end = await groups.shard(), await groups.log_end()
    shard.loaded = False
    marker = TransactionEnd(7, 0, 3, True, False)
    with pytest.raises(CoordinatorLoadInProgressError):
        end_transaction(shard.replica, marker, 5_000)
    assert shard.partition.log_state.log_end_offset == end
    assert isinstance(await groups.commit(6), CoordinatorLoadInProgressError)
    service = groups.cluster.service(1)
    request = OffsetFetchRequest([OffsetFetchGroup("g", [TP])], require_stable=True)
    [fetched] = (await service.groups.fetch_offsets(request)).groups
    assert isinstance(fetched.error, CoordinatorLoadInProgressError), "never: there is no offset"
    await reload(shard)
    assert await end_transaction(shard.replica, marker, 5_000) is None
    assert (await groups.fetch()).offset == 5


async def test_whoever_hears_that_a_marker_is_confirmed_finds_what_it_committed(
    groups: Groups,
) -> None:
    """At once: the shard has heard of it before."""
    await groups.start(1)
    assert await groups.commit(5) is None
    shard = await groups.shard()
    found: list[object] = []

    def look(_: object) -> None:
        found.append(shard.groups["g"].fetch_offsets([TP], require_stable=True)[0].offset)

    for _ in range(2):
        confirmed = end_transaction(shard.replica, TransactionEnd(7, 0, 3, True, False), 5_000)
        confirmed.add_done_callback(look)
        await confirmed
    assert found == [5, 5]


async def test_a_transaction_survives_the_death_of_the_groups_coordinator(
    groups: Groups,
) -> None:
    await groups.start(1, 2, 3)
    assert await groups.commit(5) is None
    assert await groups.commit(6, group_id="h", producer_id=8) is None
    await groups.end(8)
    await groups.cluster.kill(await coordinator_of(groups.cluster, "g"))
    await groups.shard()
    assert (await groups.fetch("h")).offset == 6
    assert ((await groups.fetch()).offset, await groups.is_unstable()) == (-1, True)
    await groups.end(7)
    assert (await groups.fetch(stable=True)).offset == 5
    await groups.cluster.kill(await coordinator_of(groups.cluster, "g"))
    await groups.shard()
    assert ((await groups.fetch(stable=True)).offset, (await groups.fetch("h")).offset) == (5, 6)


async def test_a_coordinator_that_dies_between_a_marker_and_what_it_commits_leaves_one_answer(
    groups: Groups,
) -> None:
    """Whether the marker has survived or is sent again, the offset counts once, and is unstable
    until then."""
    await groups.start(1, 2, 3)
    await GroupClient(groups.cluster, "g").commit(1)
    assert await groups.commit(5) is None
    shard = await groups.shard()
    end_transaction(shard.replica, TransactionEnd(7, 0, 3, True, False), 5_000)
    assert shard.groups["g"].fetch_offsets([TP])[0].offset == 1
    await groups.cluster.kill(await coordinator_of(groups.cluster, "g"))
    await groups.shard()
    assert await groups.is_unstable() or (await groups.fetch()).offset == 5
    assert await groups.end() is None
    assert (await groups.fetch(stable=True)).offset == 5


async def test_who_leads_no_more_hears_of_no_markers(groups: Groups) -> None:
    await groups.start(1, 2)
    shard = await groups.shard()
    replica = shard.replica
    assert replica.marker_listener is shard
    await groups.cluster.stop(await coordinator_of(groups.cluster, "g"))
    assert replica.marker_listener is None


async def test_a_bug_in_staging_fences_the_replica_since_memory_is_not_the_log(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    await groups.start(1)
    replica = await groups.replica()
    monkeypatch.setattr(Group, "stage", lambda *_: 1 / 0)
    groups.words.wait()
    waiting = groups.begin()
    await until(lambda: groups_waiting(groups) == 1)
    groups.words.speak()
    assert isinstance(await waiting, NotCoordinatorError)
    assert replica.core.failed is not None
    assert isinstance(groups.cluster.running[1].broker.bugs.pop(), ZeroDivisionError)


# --- in every order ------------------------------------------------------------------------------


class Story:
    """What may happen to the offsets of a group, each once (races 36 to 38)."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.service = groups.cluster.service(1).groups

    async def transaction(self) -> None:
        await self.groups.commit(50)

    async def commit(self) -> None:
        await self.groups.end(7)

    async def abort(self) -> None:
        await self.groups.end(7, commits=False)

    async def plain(self) -> None:
        await self.service.commit_offsets(OffsetCommitRequest("g", [OffsetCommitPartition(TP, 20)]))

    async def tombstone(self) -> None:
        await self.service.delete_offsets(OffsetDeleteRequest("g", [TP]))

    async def expiry(self) -> None:
        await (await self.groups.shard()).expire_offsets(-1)

    async def group_deletion(self) -> None:
        await self.service.delete_groups(DeleteGroupsRequest(["g"]))

    async def topic_deletion(self) -> None:
        await (await self.groups.shard()).forget_topics(["t"])


@pytest.mark.parametrize("ending", [Story.commit, Story.abort], ids=["commit", "abort"])
async def test_in_some_of_all_orders_memory_is_the_log_and_the_compacted_log(
    tmp_path: Path, ending: Callable[[Story], Coroutine[Any, Any, None]]
) -> None:
    """All of them: tests/unit/core/groups/test_transactional_offsets.py. Here the log is a real one
    and is compacted in between."""
    settings = {
        "offsets.topic.segment.bytes": "200",
        "log.cleaner.min.cleanable.ratio": "0",
        "log.cleaner.backoff.ms": "3600000",  # only as is asked for here
    }
    groups = Groups(BrokerCluster(tmp_path, SETTINGS | settings))
    try:
        await groups.start(1)
        story, shard = Story(groups), await groups.shard()
        logs = groups.cluster.running[1].logs
        events = [
            Story.transaction,
            ending,
            Story.plain,
            Story.tombstone,
            Story.expiry,
            Story.group_deletion,
            Story.topic_deletion,
        ]
        orders = Random(1).sample(list(permutations(events)), 25)
        for order in orders:
            for event in order:
                await event(story)
                await settled(shard)
                before = memory(shard)
                await reload(shard)
                assert memory(shard) == before, order
            await logs.compact(2**62)
            before = memory(shard)
            await reload(shard)
            assert memory(shard) == before, order
        assert shard.replica.log.size_bytes < shard.partition.log_state.log_end_offset * 78 / 2
    finally:
        await groups.cluster.close()


async def settled(shard: GroupShard) -> None:
    """All that was appended is committed, and the groups have heard of it."""
    await until(lambda: not shard.partition.may_lag())
    await asyncio.sleep(0)
    await until(
        lambda: not any(group._outgoing.writes_under_way for group in shard.groups.values())
    )
