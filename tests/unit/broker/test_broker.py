"""The life of one broker among others: sessions that end, failed disks, shutdown, bugs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.api.requests import (
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    CreateTopic,
    CreateTopicsRequest,
    ListOffsetsPartition,
    ProducePartition,
    ProduceRequest,
)
from minikafka.broker import broker as broker_module
from minikafka.broker.broker import Broker
from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.broker.replication import replicator
from minikafka.core.replication.effects import Role
from minikafka.core.replication.isr import FollowerProgress
from minikafka.errors import (
    BrokerNotAvailableError,
    KafkaStorageError,
    NotLeaderOrFollowerError,
    StaleBrokerEpochError,
    UnknownServerError,
    UnknownTopicOrPartitionError,
    UsageError,
)
from minikafka.model import BrokerInfo, TopicPartition
from tests.helpers.brokers import BrokerCluster, batch_of
from tests.helpers.core_builders import leader_of
from tests.helpers.replicas import settle
from tests.helpers.waiting import until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[BrokerCluster]:
    cluster = BrokerCluster(tmp_path, {"controlled.shutdown.retry.backoff.ms": "1"})
    yield cluster
    await cluster.close()


def follower_without_controller(cluster: BrokerCluster) -> int:
    return next(b for b in (3, 2) if not cluster.running[b].broker.controller.active)


# --- sessions ------------------------------------------------------------------------------------


async def test_a_broker_whose_id_was_taken_meanwhile_ends_and_says_by_whom(
    cluster: BrokerCluster, caplog: pytest.LogCaptureFixture
) -> None:
    await cluster.start(1)
    running = cluster.running[1]
    usurper = BrokerInfo(1, "Usurper", "127.0.0.1", 1)

    def take() -> None:
        cluster.zookeeper.register(usurper, object())

    running.store.inject("register_broker", take)
    running.store.expire()
    await until(running.broker.fatal.done)
    assert isinstance(running.broker.fatal.exception(), UsageError)
    (record,) = [each for each in caplog.records if each.levelname == "CRITICAL"]
    assert record.getMessage() == "broker id 1 is taken"
    assert record.exc_info is None


async def test_registration_is_tried_until_it_succeeds(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    running = cluster.running[1]
    before = running.broker.info.broker_epoch
    running.store.inject("register_broker", SessionLostError("again"), SessionLostError("again"))
    running.store.expire()
    await until(lambda: running.broker.info.broker_epoch > before)
    assert not running.broker.fatal.done()


async def test_until_the_controller_has_addressed_the_new_incarnation_no_record_is_taken(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    victim = follower_without_controller(cluster)
    tp = await cluster.create_topic("t", [victim, 1])
    running = cluster.running[victim]
    running.store.inject("register_broker", *[SessionLostError("not yet")] * 1_000)
    running.store.expire()
    await until(lambda: running.broker.replicas._session_lost)
    batch = batch_of(b"lost, if it were taken")
    request = ProduceRequest(1, 0, [ProducePartition(tp, batch)])
    [refused] = await running.broker.service.produce(request)
    assert isinstance(refused.error, BrokerNotAvailableError)
    assert "has not heard from the controller" in str(refused.error)
    running.store.forget_injected("register_broker")
    await until(lambda: running.broker.replicas.addressed)
    assert (await cluster.produce_until_acked(tp, b"on")).error is None


async def test_a_session_that_ends_while_a_broker_starts_is_told_as_such(
    cluster: BrokerCluster,
) -> None:
    """Then the process ends with that message and status 1 (run.py)."""
    await cluster.start(1)
    running = cluster.running[1]
    await until(lambda: running.broker.service.features)  # its configurations are read by then
    running.store.inject("read_topic_configs", SessionLostError("expired"))
    with pytest.raises(SessionLostError, match="expired"):
        await running.broker.start()


async def test_a_node_in_zookeeper_that_cannot_be_read_takes_no_broker_down(
    cluster: BrokerCluster, caplog: pytest.LogCaptureFixture
) -> None:
    await cluster.start(1)
    running = cluster.running[1]
    running.store.inject("read_topic_configs", UnknownServerError("not JSON"))
    running.store.events.put_nowait(StoreEvent.CONFIG_CHANGED)
    await until(lambda: "not JSON" in caplog.text)
    running.store.inject("read_controller", SessionLostError("gone for a moment"))
    running.store.events.put_nowait(StoreEvent.RECONNECTED)
    await until(lambda: "gone for a moment" in caplog.text)
    await cluster.create_topic("t", [1])
    assert not running.broker.fatal.done()


async def test_a_suspended_session_goes_on_where_it_was(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    for running in cluster.running.values():
        running.store.suspend()
    assert (await cluster.produce(tp, b"meanwhile")).error is None
    for running in cluster.running.values():
        running.store.reconnect()
    await cluster.create_topic("u", [1, 2])


async def test_a_broker_says_only_once_that_it_started_dirty(cluster: BrokerCluster) -> None:
    """In a later session of the same process it has its log: the storage id tells what it lost."""
    await cluster.start(1, 2)
    running = cluster.running[1]
    before = running.broker.info.broker_epoch
    running.broker.info = replace(running.broker.info, dirty=True)
    running.store.expire()
    await until(lambda: running.broker.info.broker_epoch > before)
    assert not running.broker.info.dirty
    assert not cluster.zookeeper.live_brokers()[1].dirty


async def test_topic_settings_that_cannot_be_read_hold_a_new_topic_back(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    follower = next(b for b in (1, 2) if not cluster.running[b].broker.controller.active)
    cluster.running[follower].store.inject("sync", SessionLostError("out of touch"))
    tp = await cluster.create_topic("t", [follower], {"min.insync.replicas": "1"})
    assert tp in cluster.running[follower].broker.replicas.replicas


# --- failed disks --------------------------------------------------------------------------------


async def test_a_new_controller_learns_which_replicas_have_failed(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2, 3)
    controller = next(b for b in (1, 2, 3) if cluster.running[b].broker.controller.active)
    first, second = (b for b in (1, 2, 3) if b != controller)
    tp = await cluster.create_topic("t", [first, second])
    replica = cluster.running[first].broker.replicas.replicas[tp]
    replica.fail_storage(KafkaStorageError("Input/output error"))
    await cluster.until_state(tp, lambda state: state.isr == (second,), at=second)
    await cluster.kill(controller)
    await until(lambda: any(r.broker.controller.active for r in cluster.running.values()))

    def knows() -> bool:
        active = next(r.broker for r in cluster.running.values() if r.broker.controller.active)
        assert active.controller.core is not None
        return first in active.controller.core.context.failed_replicas.get(tp, {})

    await until(knows)


async def test_a_failed_replica_is_not_elected_after_a_new_session(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    victim = next(b for b in (1, 2) if not cluster.running[b].broker.controller.active)
    tp = await cluster.create_topic("t", [victim])
    running = cluster.running[victim]
    running.broker.replicas.replicas[tp].fail_storage(KafkaStorageError("gone"))
    await cluster.until_state(tp, lambda state: state.leader == -1, at=3 - victim)
    before = running.broker.info.broker_epoch
    running.store.expire()
    await until(lambda: running.broker.info.broker_epoch > before)
    await cluster.until_state(
        tp, lambda state: state.leader == -1 and state.leader_epoch > 1, at=3 - victim
    )
    assert running.broker.replicas.replicas[tp].core.role is Role.FAILED


async def test_a_failure_that_cannot_be_reported_is_reported_again(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker_module, "REPORT_RETRY_S", 0.001)
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    broker = cluster.running[1].broker
    call = broker.controller_client.call
    failures = [StaleBrokerEpochError("not this one")]

    async def fail_once(*arguments: object) -> object:
        if failures:
            raise failures.pop()
        return await call(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(broker.controller_client, "call", fail_once)
    broker.replicas.replicas[tp].fail_storage(KafkaStorageError("gone"))
    await cluster.until_state(tp, lambda state: state.isr == (2,), at=2)
    assert "could not be reported" in caplog.text
    broker.replicas.something_failed.set()  # nothing new: nothing is sent
    await until(lambda: not broker.replicas.something_failed.is_set())


async def test_a_search_by_time_on_a_failed_disk_fences_the_replica(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1)
    tp = await cluster.create_topic("t", [1])

    def fail(*_: object) -> None:
        raise KafkaStorageError("Input/output error")

    monkeypatch.setattr(cluster.running[1].logs.logs()[tp], "offset_for_timestamp", fail)
    (result,) = await cluster.service(1).list_offsets([ListOffsetsPartition(tp, 5)])
    assert isinstance(result.error, KafkaStorageError)
    assert cluster.running[1].broker.replicas.replicas[tp].core.role is Role.FAILED


# --- bugs ----------------------------------------------------------------------------------------


async def test_a_bug_in_one_partition_takes_that_one_offline_and_the_others_go_on(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    other = await cluster.create_topic("u", [1, 2])
    broker = cluster.running[2].broker
    replica = broker.replicas.replicas[tp]

    def fail() -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(replica.core, "fetch_position", fail)
    await cluster.produce(tp, b"x", acks=1)  # its position moves, so it is asked for
    await until(lambda: replica.core.role is Role.FAILED)
    assert (await cluster.produce(other, b"x")).error is None  # acks=all: this follower has it
    await until(lambda: cluster.state(tp).isr == (1,))
    assert "AssertionError('a bug')" in broker.replicas.failure_reasons[tp]
    assert [str(bug) for bug in broker.bugs][:1] == ["a bug"]
    assert not broker.fatal.done()


@pytest.mark.parametrize("step", ["split", "verify_crc"])
async def test_an_answer_of_the_leader_that_nobody_foresaw_ends_no_replication(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    other = await cluster.create_topic("u", [1, 2])
    broker = cluster.running[2].broker

    def fail(*_: object) -> None:
        raise OverflowError("too large")

    with monkeypatch.context() as patch:
        patch.setattr(replicator, step, fail)
        waiting = asyncio.ensure_future(cluster.produce(tp, b"x"))
        await until(lambda: broker.replicas.replicas[tp].core.role is Role.FAILED)
    assert (await cluster.produce(other, b"x")).error is None
    await until(lambda: cluster.state(tp).isr == (1,))
    assert cluster.state(other).isr == (1, 2)
    waiting.cancel()
    assert not broker.fatal.done()


async def test_a_duty_that_fails_or_ends_begins_anew_and_the_broker_lives(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "DUTY_RETRY_S", 0.01)
    await cluster.start(1)
    broker = cluster.running[1].broker
    runs = 0

    async def duty() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise MemoryError("a bug")
        if runs > 2:
            await asyncio.Event().wait()

    broker._spawn(duty)
    await until(lambda: runs == 3)
    assert [type(bug) for bug in broker.bugs] == [MemoryError, RuntimeError]
    assert not broker.fatal.done()


# --- shutdown ------------------------------------------------------------------------------------


async def test_a_produce_that_waits_during_a_controlled_shutdown_is_sent_elsewhere(
    cluster: BrokerCluster,
) -> None:
    cluster.settings["replica.lag.time.max.ms"] = "60000"
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    cluster.network.isolate(3)
    cluster.network.cut -= {(1, 3), (2, 3), (3, 2)}  # only its fetches from the leader fail
    waiting = asyncio.ensure_future(cluster.produce(tp, b"x", timeout_ms=60_000))
    await until(lambda: cluster.running[1].logs.logs()[tp].log_end_offset == 1)
    await cluster.running[1].broker.shut_down()
    assert isinstance((await waiting).error, NotLeaderOrFollowerError)
    assert not cluster.running[1].broker.replicas.replicas[tp].core.is_leader


class Shutdowns:
    """The controller's part in a controlled shutdown, by script."""

    def __init__(self, broker: Broker, monkeypatch: pytest.MonkeyPatch, *script: object) -> None:
        self.requests: list[ControlledShutdownRequest] = []
        self._script = list(script)
        monkeypatch.setattr(broker.controller_client, "controlled_shutdown", self._call)

    async def _call(
        self, request: ControlledShutdownRequest, timeout_ms: int
    ) -> ControlledShutdownResponse:
        self.requests.append(request)
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, list)
        return ControlledShutdownResponse(step)


async def test_a_shutdown_is_tried_again_in_the_incarnation_of_that_moment(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    broker = cluster.running[1].broker
    shutdowns = Shutdowns(broker, monkeypatch, StaleBrokerEpochError("over"), [tp], [])
    monkeypatch.setattr(broker_module, "HANDED_OVER_WAIT_S", 0.001)
    sleep = asyncio.sleep

    async def register_anew(delay_s: float) -> None:
        monkeypatch.setattr(broker.replicas, "broker_epoch", 999)
        await sleep(0)

    with monkeypatch.context() as patch:
        patch.setattr(broker_module.asyncio, "sleep", register_anew)
        await broker.shut_down()
    assert [request.broker_epoch for request in shutdowns.requests][1:] == [999, 999]


async def test_a_shutdown_that_nobody_can_take_over_from_ends_after_its_retries(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await cluster.start(1, 2)
    tp = await cluster.create_topic("t", [1, 2])
    broker = cluster.running[1].broker
    shutdowns = Shutdowns(broker, monkeypatch, [tp], [tp], [tp], [tp])
    await broker.shut_down()
    assert len(shutdowns.requests) == 4
    assert "did not succeed" in caplog.text


async def test_a_shutdown_out_of_touch_with_zookeeper_is_not_repeated(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1, 2)
    running = cluster.running[1]
    shutdowns = Shutdowns(running.broker, monkeypatch, BrokerNotAvailableError("no"))
    running.store.suspend()
    await running.broker.shut_down()
    assert len(shutdowns.requests) == 1
    running.store.reconnect()


async def test_a_topic_that_is_gone_holds_no_shutdown_up(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1)
    broker = cluster.running[1].broker
    shutdowns = Shutdowns(broker, monkeypatch, [TopicPartition("gone", 0)])
    await broker.shut_down()
    assert len(shutdowns.requests) == 1


async def test_a_controlled_shutdown_can_be_switched_off(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.settings["controlled.shutdown.enable"] = "false"
    await cluster.start(1)
    shutdowns = Shutdowns(cluster.running[1].broker, monkeypatch)
    await cluster.running[1].broker.shut_down()
    assert not shutdowns.requests


async def test_a_broker_whose_logs_cannot_be_closed_leaves_the_cluster_all_the_same(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1, 2)
    running = cluster.running.pop(2)
    del cluster.network.services[2]
    close = running.logs.close

    async def fail(clean: bool) -> None:
        await close(False)
        raise KafkaStorageError("Input/output error")

    monkeypatch.setattr(running.logs, "close", fail)
    with pytest.raises(KafkaStorageError):
        await running.broker.close()
    assert set(cluster.zookeeper.brokers) == {1}
    await running.store.close()


async def test_a_broker_that_cannot_deregister_ends_all_the_same(
    cluster: BrokerCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await cluster.start(1)
    running = cluster.running.pop(1)
    running.store.inject("unregister_broker", SessionLostError("gone"))
    await running.broker.close()
    await running.store.close()
    assert "not deregistered" in caplog.text


# --- clients' questions --------------------------------------------------------------------------


async def test_a_topic_that_somebody_else_just_made_is_waited_for(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1, 2)
    behind = cluster.running[2].broker
    tp = await cluster.create_topic("t", [1])
    await cluster.until_state(tp, lambda _: True, at=2)
    known = behind.metadata.topics.pop("t")  # as if its message had not come yet
    asked = asyncio.ensure_future(cluster.service(2).metadata(["t"], allow_auto_create=True))
    await settle(100)
    behind.metadata.topics["t"] = known
    behind.metadata._announce(list(known.values()), [], None)
    assert (await asked).topics[0].error is None


async def test_questions_about_topics_that_are_not_there_name_them(
    cluster: BrokerCluster,
) -> None:
    await cluster.start(1)
    service = cluster.service(1)
    with pytest.raises(UnknownTopicOrPartitionError, match="nope"):
        await service.describe_topic_configs("nope")
    (status,) = await service.describe_partitions([TopicPartition("nope", 0)])
    assert isinstance(status.error, UnknownTopicOrPartitionError)
    all_topics = await service.metadata(None, allow_auto_create=True)
    assert (all_topics.controller_id, list(all_topics.topics)) == (1, [])


async def test_a_creation_that_fails_is_the_answer_for_each_topic_asked_for(
    cluster: BrokerCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1)
    error = BrokerNotAvailableError("no")

    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cluster.running[1].broker.controller_client, "call", fail)
    answer = await cluster.service(1).metadata(["a", "b"], allow_auto_create=True)
    assert [topic.error for topic in answer.topics] == [error, error]


async def test_a_creation_on_trial_waits_for_nothing(cluster: BrokerCluster) -> None:
    await cluster.start(1)
    request = CreateTopicsRequest([CreateTopic("t", 1, 1)], validate_only=True)
    response = await cluster.service(1).administer(request, 5000)
    assert [result.error for result in response.results] == [None]
    assert not cluster.zookeeper.topics


async def test_a_leader_tells_how_far_its_replicas_are(cluster: BrokerCluster) -> None:
    await cluster.start(1, 2, 3)
    tp = await cluster.create_topic("t", [1, 2, 3])
    await cluster.kill(3)
    await cluster.until_state(tp, lambda state: state.isr == (1, 2), at=1)
    leader = leader_of(cluster.running[1].broker.replicas.replicas[tp].core)
    leader.followers[3] = FollowerProgress()
    await cluster.produce_until_acked(tp, b"x")
    (status,) = await cluster.service(1).describe_partitions([tp])
    assert (status.log_end_offset, status.high_watermark, status.error) == (1, 1, None)
    by_id = {replica.broker_id: replica for replica in status.replicas}
    assert (by_id[1].log_end_offset, by_id[1].lag_ms) == (1, 0)
    assert by_id[2].log_end_offset == 1
    assert (by_id[3].log_end_offset, by_id[3].lag_ms) == (-1, -1)
