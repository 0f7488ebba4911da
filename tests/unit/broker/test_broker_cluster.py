"""Whole brokers over an in-memory ZooKeeper and network: what replication promises, end to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.api.requests import (
    EARLIEST_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    AlterBrokerConfigRequest,
    AlterTopicConfigRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    FetchPartition,
    FetchRequest,
    ListOffsetsPartition,
    ProducePartition,
    ProduceRequest,
    UpdateStateRequest,
)
from minikafka.broker.ports import SessionLostError
from minikafka.config.overrides import DEFAULT_BROKER, ConfigSource
from minikafka.errors import (
    BrokerNotAvailableError,
    CorruptMessageError,
    FencedLeaderEpochError,
    InvalidConfigError,
    InvalidRecordError,
    InvalidRequestError,
    InvalidRequiredAcksError,
    KafkaStorageError,
    MessageTooLargeError,
    MinikafkaError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OffsetOutOfRangeError,
    OutOfOrderSequenceNumberError,
    RequestTimedOutError,
    StaleBrokerEpochError,
    StaleControllerEpochError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition
from tests.helpers.brokers import BrokerCluster, batch_of
from tests.helpers.waiting import until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[BrokerCluster]:
    cluster = BrokerCluster(tmp_path)
    yield cluster
    await cluster.close()


async def test_a_record_that_is_acknowledged_is_on_every_replica(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3], {"min.insync.replicas": "2"})
    result = await cluster.produce(tp, b"one", b"two")
    assert result.error is None
    assert result.base_offset == 0
    for running in cluster.running.values():
        assert running.logs.logs()[tp].log_end_offset == 2
    assert await cluster.read_all(tp) == [b"one", b"two"]


async def test_broker_0_leads_controls_and_takes_over_like_any_other(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(0, 1)
    tp = await cluster.create_topic("t", [1, 0])
    found = await cluster.service(1).metadata(["t"], False)
    assert (found.controller_id, {each.broker_id for each in found.brokers}) == (0, {0, 1})
    assert (await cluster.produce(tp, b"one")).error is None
    await cluster.kill(1)
    await cluster.until_state(tp, lambda state: state.leader == 0, at=0)
    assert await cluster.read_all(tp) == [b"one"]
    await cluster.produce_until_acked(tp, b"two")
    described = await cluster.service(0).describe_broker_configs("0")
    assert next(each.value for each in described if each.name == "broker.id") == "0"


async def test_a_killed_follower_leaves_the_isr_and_the_epoch_moves(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    await cluster.kill(3)
    state = await cluster.until_state(tp, lambda state: state.isr == (1, 2), at=1)
    assert (state.leader, state.leader_epoch) == (1, 1)
    assert (await cluster.produce_until_acked(tp, b"after")).base_offset == 0


async def test_what_was_acknowledged_survives_the_death_of_the_leader(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3], {"min.insync.replicas": "2"})
    for number in range(20):
        assert (await cluster.produce(tp, b"%d" % number)).error is None
    await cluster.kill(1)
    state = await cluster.until_state(tp, lambda state: state.leader == 2, at=2)
    assert state.leader_epoch == 1
    await cluster.produce_until_acked(tp, b"20")
    assert await cluster.read_all(tp) == [b"%d" % number for number in range(21)]


async def test_a_broker_that_returns_catches_up_and_rejoins(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    await cluster.produce(tp, b"before")
    await cluster.kill(1)
    await cluster.until_state(tp, lambda state: state.leader == 2, at=2)
    await cluster.produce_until_acked(tp, b"meanwhile")
    await cluster.start(1)
    await cluster.until_state(tp, lambda state: set(state.isr) == {1, 2, 3}, at=2)
    assert cluster.running[1].logs.logs()[tp].log_end_offset == 2
    assert await cluster.read_all(tp) == [b"before", b"meanwhile"]


async def test_an_unreplicated_tail_of_a_dead_leader_is_cut_when_it_returns(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    await cluster.produce(tp, b"kept")
    cluster.network.isolate(1)
    assert (await cluster.produce(tp, b"lost", acks=1)).error is None
    await cluster.kill(1)
    await cluster.until_state(tp, lambda state: state.leader == 2, at=2)
    await cluster.produce_until_acked(tp, b"instead")
    await cluster.start(1)
    await cluster.until_state(tp, lambda state: set(state.isr) == {1, 2, 3}, at=2)
    log = cluster.running[1].logs.logs()[tp]
    assert log.log_end_offset == 2
    assert log.read(0, 10_000, 2) == cluster.running[2].logs.logs()[tp].read(0, 10_000, 2)
    assert await cluster.read_all(tp) == [b"kept", b"instead"]


async def test_a_follower_that_cannot_be_heard_is_dropped_for_lag_and_comes_back(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    controller = cluster.running[1].broker.metadata.controller_id
    victim = 3 if controller != 3 else 2
    cluster.network.cut = {(victim, 1), (1, victim)}
    for task, ends in list(cluster.network.ends.items()):
        if set(ends) == {1, victim}:
            task.cancel()
    pending = asyncio.ensure_future(cluster.produce(tp, b"waits"))
    state = await cluster.until_state(tp, lambda state: victim not in state.isr, at=1)
    assert (state.leader, state.leader_epoch) == (1, 1)
    assert (await pending).error is None
    cluster.network.heal()
    state = await cluster.until_state(tp, lambda state: victim in state.isr, at=1)
    assert state.leader_epoch == 1


async def test_acks_all_is_refused_below_min_insync_and_nothing_is_appended(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2], {"min.insync.replicas": "2"})
    await cluster.kill(2)
    await cluster.until_state(tp, lambda state: state.isr == (1,), at=1)
    result = await cluster.produce(tp, b"refused")
    assert isinstance(result.error, NotEnoughReplicasError)
    assert cluster.running[1].logs.logs()[tp].log_end_offset == 0
    assert (await cluster.produce(tp, b"taken", acks=1)).error is None
    assert await cluster.read_all(tp) == []


async def test_a_waiting_produce_fails_at_once_when_the_isr_falls_below_the_minimum(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2], {"min.insync.replicas": "2"})
    cluster.network.isolate(2)
    pending = asyncio.ensure_future(cluster.produce(tp, b"waits", timeout_ms=30_000))
    await cluster.kill(2)
    assert isinstance((await pending).error, NotEnoughReplicasAfterAppendError)


async def test_a_produce_that_is_not_replicated_in_time_times_out(cluster: BrokerCluster) -> None:
    cluster.settings["replica.lag.time.max.ms"] = "60000"
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    cluster.network.isolate(2)
    result = await cluster.produce(tp, b"waits", timeout_ms=50)
    assert isinstance(result.error, RequestTimedOutError)


async def test_a_waiting_produce_is_told_when_leadership_moves(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    cluster.network.isolate(2)
    pending = asyncio.ensure_future(cluster.produce(tp, b"waits", timeout_ms=30_000))
    await until(lambda: cluster.running[1].logs.logs()[tp].log_end_offset == 1)
    broker = cluster.running[1].broker
    held = broker.metadata.partition(tp)
    assert held is not None
    moved = replace(held.state, leader=2, leader_epoch=1, partition_version=1)
    broker.replicas.replicas[tp].adopt(moved, held.assignment)
    assert isinstance((await pending).error, NotLeaderOrFollowerError)


async def test_a_controlled_shutdown_moves_leadership_first(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3], {"min.insync.replicas": "2"})
    await cluster.produce(tp, b"kept")
    await cluster.stop(1)
    state = await cluster.until_state(tp, lambda state: state.leader == 2, at=2)
    assert (state.leader_epoch, state.isr) == (1, (2, 3))
    assert (tmp := cluster.path / "broker-1" / ".clean-shutdown").exists(), tmp
    await cluster.produce_until_acked(tp, b"after")
    assert await cluster.read_all(tp) == [b"kept", b"after"]


async def test_the_last_broker_shuts_down_without_waiting_for_anyone(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    tp = await cluster.create_topic("t", [1])
    await cluster.produce(tp, b"kept")
    await cluster.stop(1)
    await cluster.start(1)
    await cluster.until_state(tp, lambda state: state.leader == 1, at=1)
    assert await cluster.read_all(tp) == [b"kept"]


async def test_the_death_of_the_controller_elects_another_that_goes_on(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    await cluster.kill(cluster.running[1].broker.metadata.controller_id)
    assert (await cluster.produce_until_acked(tp, b"on")).error is None
    await until(lambda: any(r.broker.controller.active for r in cluster.running.values()))
    active = [r.broker for r in cluster.running.values() if r.broker.controller.active]
    assert len(active) == 1
    assert active[0].controller.controller_epoch == 2
    assert await cluster.create_topic("u", list(cluster.running))


async def test_an_expired_session_registers_again_and_rejoins(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    victim = next(b for b in (2, 3) if not cluster.running[b].broker.controller.active)
    before = cluster.running[victim].broker.info.broker_epoch
    cluster.running[victim].store.expire()
    await until(lambda: cluster.running[victim].broker.info.broker_epoch > before)
    await until(lambda: (s := cluster.state(tp, 1)) and s.leader_epoch >= 1 and len(s.isr) == 3)
    assert (await cluster.produce_until_acked(tp, b"on")).error is None


async def test_without_zookeeper_a_leader_takes_what_all_of_its_isr_gets_and_nothing_else(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    await cluster.produce_until_acked(tp, b"before")
    for running in cluster.running.values():
        running.store.suspend()
        running.store.out_of_touch_ms = 1001

    async def taken(acks: int) -> bool:
        error = (await cluster.produce(tp, b"without", acks=acks, timeout_ms=20_000)).error
        if error is not None:
            assert isinstance(error, BrokerNotAvailableError), error
            assert "has not reached ZooKeeper for more than 1000 ms" in str(error)
        return error is None

    async def is_refused_at_once() -> bool:
        error = (await cluster.produce(tp, b"x", timeout_ms=100)).error
        assert error is not None
        return isinstance(error, BrokerNotAvailableError)

    await until(lambda: taken(-1))
    assert [await taken(acks) for acks in (0, 1)] == [False, False]
    cluster.network.isolate(3)  # it is gone, and nobody can take it out of the ISR
    await until(is_refused_at_once)
    state = cluster.state(tp, 1)
    assert state is not None
    assert (state.leader, state.isr) == (1, (1, 2, 3))
    cluster.network.heal()
    await until(lambda: taken(-1))
    for running in cluster.running.values():
        running.store.out_of_touch_ms = 0
        running.store.reconnect()
    await until(lambda: taken(1))


async def test_without_zookeeper_the_only_replica_goes_on_and_one_in_sync_alone_does_not(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    only = await cluster.create_topic("only", [1])
    await cluster.start(2)
    alone = await cluster.create_topic("alone", [1, 2])
    await cluster.kill(2)
    await cluster.until_state(alone, lambda state: state.isr == (1,))
    cluster.running[1].store.out_of_touch_ms = 1001
    assert (await cluster.produce(only, b"taken")).error is None
    assert isinstance((await cluster.produce(only, b"x", acks=1)).error, BrokerNotAvailableError)
    assert isinstance((await cluster.produce(alone, b"refused")).error, BrokerNotAvailableError)


async def test_a_repeated_batch_of_an_idempotent_producer_is_in_the_log_once(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    producer_id, producer_epoch = await cluster.service(2).init_producer_id()
    ids = {"producer_id": producer_id, "producer_epoch": producer_epoch}

    async def send(sequence: int, *values: bytes) -> object:
        batch = batch_of(*values, **ids, base_sequence=sequence)
        request = ProduceRequest(-1, 5000, [ProducePartition(tp, batch)])
        state = cluster.state(tp)
        assert state is not None
        result = (await cluster.service(state.leader).produce(request))[0]
        return result.base_offset if result.error is None else type(result.error)

    assert await send(0, b"a", b"b") == 0
    assert await send(0, b"a", b"b") == 0
    assert await send(2, b"c") == 2
    assert await send(4, b"gap") is OutOfOrderSequenceNumberError
    await cluster.kill(1)
    await cluster.until_state(tp, lambda state: state.leader == 2, at=2)
    assert await send(2, b"c") == 2
    assert await send(3, b"d") == 3
    assert await cluster.read_all(tp) == [b"a", b"b", b"c", b"d"]


async def test_producer_ids_are_never_given_twice(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    ids = [await cluster.service(1 + number % 2).init_producer_id() for number in range(20)]
    assert len(set(ids)) == 20


async def test_bad_produce_requests_are_refused_by_name(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1], {"max.message.bytes": "1000"})
    service = cluster.service(1)

    async def error_of(topic_partition: TopicPartition, records: bytes) -> type | None:
        request = ProduceRequest(1, 1000, [ProducePartition(topic_partition, records)])
        error = (await service.produce(request))[0].error
        return None if error is None else type(error)

    good = batch_of(b"x")
    assert await error_of(TopicPartition("nope", 0), good) is UnknownTopicOrPartitionError
    assert await error_of(TopicPartition("t", 7), good) is UnknownTopicOrPartitionError
    assert await error_of(tp, good[:-1]) is InvalidRecordError
    assert await error_of(tp, good[:-1] + b"!") is CorruptMessageError
    assert await error_of(tp, batch_of(b"x" * 1000)) is MessageTooLargeError
    with pytest.raises(InvalidRequiredAcksError):
        await service.produce(ProduceRequest(2, 1000, []))
    await cluster.until_state(tp, lambda _: True, at=2)
    wrong = (await cluster.service(2).produce(ProduceRequest(1, 1, [ProducePartition(tp, good)])))[
        0
    ]
    assert isinstance(wrong.error, NotLeaderOrFollowerError)
    assert cluster.running[1].logs.logs()[tp].log_end_offset == 0


async def test_a_consumer_waits_for_records_and_is_woken_by_them(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    request = FetchRequest(30_000, 1, 1_000_000, [FetchPartition(tp, 0, 1_000_000)])
    fetch = asyncio.ensure_future(cluster.service(1).fetch(request))
    await cluster.produce(tp, b"woken")
    result = (await fetch)[0]
    assert b"woken" in result.records
    assert result.high_watermark == 1


async def test_fetches_out_of_range_or_of_old_epochs_are_told_so(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    await cluster.kill(2)
    await cluster.until_state(tp, lambda state: state.leader_epoch == 1, at=1)

    async def error_of(offset: int, leader_epoch: int) -> type:
        request = FetchRequest(1000, 1, 1000, [FetchPartition(tp, offset, 1000, leader_epoch)])
        return type((await cluster.service(1).fetch(request))[0].error)

    await until(lambda: cluster.running[1].broker.replicas.replicas[tp].core.leader_epoch == 1)
    assert await error_of(1, -1) is OffsetOutOfRangeError
    assert await error_of(0, 0) is FencedLeaderEpochError


async def test_offsets_are_listed_by_time_and_by_end(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    tp = await cluster.create_topic("t", [1])
    service = cluster.service(1)
    for timestamp_ms in (1000, 3000, 2000):
        batch = batch_of(b"x", timestamp_ms=timestamp_ms)
        await service.produce(ProduceRequest(-1, 1000, [ProducePartition(tp, batch)]))

    async def offset_at(timestamp_ms: int) -> tuple[int, int]:
        result = (await service.list_offsets([ListOffsetsPartition(tp, timestamp_ms)]))[0]
        assert result.error is None, result.error
        return result.offset, result.timestamp_ms

    assert await offset_at(EARLIEST_TIMESTAMP) == (0, -1)
    assert await offset_at(LATEST_TIMESTAMP) == (3, -1)
    assert await offset_at(MAX_TIMESTAMP) == (1, 3000)
    assert await offset_at(0) == (0, 1000)
    assert await offset_at(2500) == (1, 3000)
    assert await offset_at(4000) == (-1, -1)
    bad = (await service.list_offsets([ListOffsetsPartition(tp, -9)]))[0]
    assert "no meaning" in str(bad.error)


async def test_a_deleted_topic_leaves_no_files_and_its_name_can_be_used_again(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    await cluster.produce(tp, b"old")
    response = await cluster.service(1).administer(DeleteTopicsRequest(["t"]), 5000)
    assert [result.error for result in response.results] == [None]
    await until(lambda: all(tp not in r.logs.logs() for r in cluster.running.values()))
    await until(lambda: all("t" not in r.broker.metadata.topics for r in cluster.running.values()))
    await cluster.create_topic("t", [1, 2])
    assert await cluster.read_all(tp) == []


async def test_a_topic_setting_is_applied_by_every_broker_without_a_restart(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    change = AlterTopicConfigRequest("t", {"min.insync.replicas": "2"})
    response = await cluster.service(2).administer(change, 5000)
    assert [result.error for result in response.results] == [None]
    for running in cluster.running.values():
        replica = running.broker.replicas.replicas[tp]
        await until(lambda replica=replica: replica.core.settings.min_insync_replicas == 2)
    entries = await cluster.service(1).describe_topic_configs("t")
    assert [(e.value, e.is_default) for e in entries if e.name == "min.insync.replicas"] == [
        ("2", False)
    ]


def limit_of(cluster: BrokerCluster, tp: TopicPartition) -> dict[int, int]:
    return {
        broker_id: running.broker.replicas.replicas[tp].config.max_message_bytes
        for broker_id, running in cluster.running.items()
    }


async def alter(
    cluster: BrokerCluster, asked: int, broker: str, **changes: str | None
) -> MinikafkaError | None:
    named = {name.replace("_", "."): value for name, value in changes.items()}
    request = AlterBrokerConfigRequest(broker, named)
    [result] = (await cluster.service(asked).administer(request, 5000)).results
    return result.error


async def test_a_broker_setting_is_applied_by_every_broker_without_a_restart(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    own = await cluster.create_topic("own", [1], {"max.message.bytes": "5000"})
    assert await alter(cluster, 3, DEFAULT_BROKER, message_max_bytes="100") is None
    assert limit_of(cluster, tp)[3] == 100  # who was asked has applied it already
    await until(lambda: set(limit_of(cluster, tp).values()) == {100})
    assert isinstance((await cluster.produce(tp, b"x" * 200)).error, MessageTooLargeError)
    assert (await cluster.produce(own, b"x" * 200)).error is None
    assert await alter(cluster, 1, "1", message_max_bytes="1000") is None
    await until(lambda: limit_of(cluster, tp) == {1: 1000, 2: 100, 3: 100})
    assert (await cluster.produce(tp, b"x" * 200)).error is None
    found = await cluster.service(1).describe_configs("t")
    [entry] = [each for each in found if each.name == "max.message.bytes"]
    assert (entry.value, entry.source) == ("1000", ConfigSource.DYNAMIC_BROKER)
    assert await alter(cluster, 2, "1", message_max_bytes=None) is None
    assert await alter(cluster, 2, "", message_max_bytes=None) is None
    await until(lambda: set(limit_of(cluster, tp).values()) == {1_048_588})


async def test_a_broker_that_starts_later_or_anew_has_the_settings_of_now(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    assert await alter(cluster, 1, DEFAULT_BROKER, message_max_bytes="100") is None
    tp = await cluster.create_topic("t", [1, 2])
    assert limit_of(cluster, tp) == {1: 100, 2: 100}
    await cluster.kill(2)
    assert await alter(cluster, 1, DEFAULT_BROKER, message_max_bytes="200") is None
    await cluster.start(2)
    await until(lambda: tp in cluster.running[2].broker.replicas.replicas)
    assert limit_of(cluster, tp) == {1: 200, 2: 200}


@pytest.mark.parametrize("asked", [1, 2])
async def test_a_broker_setting_that_cannot_be_is_refused_by_whoever_is_asked(
    cluster: BrokerCluster, asked: int
) -> None:
    await cluster.start(1, 2)
    for broker in (DEFAULT_BROKER, "1", "2"):
        with pytest.raises(InvalidConfigError, match="did you mean"):
            await alter(cluster, asked, broker, message_max_byte="100")
        with pytest.raises(InvalidConfigError, match="cannot be altered"):
            await alter(cluster, asked, broker, broker_rack="x")
        with pytest.raises(InvalidConfigError, match="expected a whole number"):
            await alter(cluster, asked, broker, min_insync_replicas="0")
    assert isinstance(await alter(cluster, asked, "7", log_roll_ms="9"), InvalidRequestError)
    with pytest.raises(InvalidRequestError, match="'A' is no broker"):
        await alter(cluster, asked, "A", log_roll_ms="9")
    with pytest.raises(InvalidConfigError, match="above socket"):
        await alter(cluster, asked, DEFAULT_BROKER, message_max_bytes="2000000000")
    assert "write_broker_config" not in [
        call for running in cluster.running.values() for call in running.store.calls
    ]
    assert cluster.zookeeper.broker_configs == {}


async def test_what_was_altered_is_told_so_though_it_cannot_be_read_back_at_once(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    tp = await cluster.create_topic("t", [1])
    cluster.running[1].store.inject("sync", SessionLostError("for a moment"))
    assert await alter(cluster, 1, DEFAULT_BROKER, message_max_bytes="100") is None
    await until(lambda: limit_of(cluster, tp) == {1: 100})


async def test_unknown_topics_are_made_on_demand_if_that_is_allowed(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    named = await cluster.service(1).metadata(["made"], allow_auto_create=True)
    assert named.topics[0].error is None
    assert len(named.topics[0].partitions) == 1
    missing = await cluster.service(1).metadata(["missing"], allow_auto_create=False)
    assert isinstance(missing.topics[0].error, UnknownTopicOrPartitionError)
    bad = await cluster.service(1).metadata(["not/a/name"], allow_auto_create=True)
    assert bad.topics[0].error is not None


async def test_creating_a_topic_with_more_replicas_than_brokers_names_both_numbers(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    request = CreateTopicsRequest([CreateTopic("t", 1, 3)])
    error = (await cluster.service(1).administer(request, 5000)).results[0].error
    assert error is not None
    assert "3" in str(error)
    assert "2" in str(error)


async def test_messages_of_old_controllers_and_to_old_incarnations_are_refused(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    broker = cluster.running[1].broker

    def message(controller_epoch: int, target_broker_epoch: int) -> UpdateStateRequest:
        return UpdateStateRequest(1, controller_epoch, target_broker_epoch, [], [], [])

    epoch = broker.info.broker_epoch
    with pytest.raises(StaleControllerEpochError):
        await broker.service.update_state(message(0, epoch))
    with pytest.raises(StaleBrokerEpochError):
        await broker.service.update_state(message(1, epoch - 1))


async def test_a_full_disk_fences_one_partition_and_the_broker_goes_on(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1, 2)
    bad = await cluster.create_topic("bad", [1, 2])
    good = await cluster.create_topic("good", [1, 2])
    log = cluster.running[1].logs.logs()[bad]

    def full(*_: object) -> None:
        raise KafkaStorageError("No space left on device")

    monkeypatch.setattr(log, "append", full, raising=False)
    result = await cluster.produce(bad, b"refused")
    assert isinstance(result.error, KafkaStorageError)
    state = await cluster.until_state(bad, lambda state: state.leader == 2, at=2)
    assert state.isr == (2,)
    assert (await cluster.produce_until_acked(bad, b"elsewhere")).error is None
    assert (await cluster.produce(good, b"goes on")).error is None


async def test_watchers_hear_everything_and_then_every_change(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    updates = cluster.service(1).watch()
    first = await anext(updates)
    assert [metadata.topic_partition for metadata in first.partitions] == [tp]
    await cluster.kill(2)
    while True:
        update = await asyncio.wait_for(anext(updates), 10)
        if update.partitions:
            break
    assert update.partitions[0].state.isr == (1,)


@pytest.mark.parametrize("acks", [1, -1])
async def test_flush_before_ack_acknowledges_what_is_on_the_disk(
    cluster: BrokerCluster, acks: int
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2], {"flush.before.ack": "true"})
    results = await asyncio.gather(*(cluster.produce(tp, b"%d" % n, acks=acks) for n in range(8)))
    assert [result.error for result in results] == [None] * 8
    assert cluster.running[1].broker.replicas.replicas[tp].core.log_state.flushed_offset == 8


async def test_a_broker_forgets_a_topic_that_was_deleted_while_it_did_not_hear(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    await cluster.create_topic("t", [1])
    broker = cluster.running[2].broker
    await until(lambda: "t" in broker.metadata.topics)
    cluster.network.isolate(2)
    await cluster.service(1).administer(DeleteTopicsRequest(["t"]), 5000)
    cluster.running[2].store.expire()  # whoever is controller now, broker 2 begins anew
    cluster.network.heal()
    await until(lambda: "t" not in broker.metadata.topics)
