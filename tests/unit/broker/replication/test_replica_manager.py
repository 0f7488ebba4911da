"""The controller's messages, and the upkeep of replicas."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from minikafka.api.requests import UpdateStateResponse
from minikafka.broker.replication import replica_manager
from minikafka.broker.replication.replica import Replica
from minikafka.config import TopicConfig
from minikafka.core.replication.effects import Role
from minikafka.core.replication.events import ReplicaFetched
from minikafka.errors import (
    KafkaStorageError,
    NotLeaderOrFollowerError,
    StaleBrokerEpochError,
    StaleControllerEpochError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import FollowerPosition, TopicPartition
from minikafka.records.header import split
from tests.helpers.brokers import batch_of
from tests.helpers.core_builders import leader_of
from tests.helpers.replicas import BROKERS, TOPIC_ID, TP, Bench, partition, settle
from tests.helpers.waiting import until

OTHER = TopicPartition("u", 0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


# --- incarnations --------------------------------------------------------------------------------


async def test_a_message_for_the_incarnation_before_does_not_give_the_new_one_a_role(
    bench: Bench,
) -> None:
    """The controller still talks to the process that died; the next one has the same port."""
    late = asyncio.ensure_future(bench.update(partition(1), target_broker_epoch=50))
    await settle()
    assert not bench.manager.replicas
    bench.manager.on_registered(100)
    with pytest.raises(StaleBrokerEpochError):
        await late
    assert not bench.manager.replicas
    assert not bench.manager.addressed


async def test_a_message_that_comes_before_the_registration_is_known_is_taken_then(
    bench: Bench,
) -> None:
    early = asyncio.ensure_future(bench.update(partition(1)))
    await settle()
    bench.manager.on_registered(100)
    await early
    assert bench.manager.replicas[TP].core.broker_epoch == 100
    assert bench.manager.addressed


async def test_after_a_lost_session_the_broker_is_not_addressed_until_the_controller_speaks(
    bench: Bench,
) -> None:
    await bench.lead(1)
    assert bench.manager.addressed
    bench.manager.on_session_lost()
    await bench.update()  # to the incarnation that is over
    assert not bench.manager.addressed
    bench.manager.on_registered(105)
    assert not bench.manager.addressed
    await bench.update(target_broker_epoch=105)
    assert bench.manager.addressed
    assert leader_of(bench.manager.replicas[TP].core).broker_epoch == 105


async def test_messages_of_older_controllers_are_refused(bench: Bench) -> None:
    await bench.lead(1)
    bench.metadata.set_controller(3, 9)
    with pytest.raises(StaleControllerEpochError):
        await bench.update(partition(2, 1, version=1))


async def test_a_message_that_was_overtaken_by_a_later_one_changes_nothing(bench: Bench) -> None:
    """It lay in a buffer: the topic that it names has been deleted and made again since, and broker
    3 has started."""
    bench.manager.on_registered(100)
    await bench.update(partition(1, topic_id="made-again"), number=2)
    replica = bench.manager.replicas[TP]
    response = await bench.update(partition(1), number=1, brokers=BROKERS[:2])
    assert response == UpdateStateResponse()
    assert bench.manager.replicas[TP] is replica
    assert bench.metadata.topic_id(TP.topic) == "made-again"
    assert 3 in bench.metadata.eligible
    await bench.update(number=1, controller_epoch=2, brokers=BROKERS[:2])
    assert 3 not in bench.metadata.eligible


# --- logs that are made --------------------------------------------------------------------------


class Making:
    """Holds the making of logs."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self._make = bench.logs.make
        monkeypatch.setattr(bench.logs, "make", self._held)

    async def _held(self, wanted: Sequence[tuple[TopicPartition, str, TopicConfig]]) -> None:
        self.begun.set()
        await self.go.wait()
        await self._make(wanted)


async def test_a_replica_begins_when_its_log_is_there_and_the_next_message_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    making = Making(bench, monkeypatch)
    bench.manager.on_registered(100)
    first = asyncio.ensure_future(bench.update(partition(1), number=1))
    await making.begun.wait()
    second = asyncio.ensure_future(bench.update(partition(2, 1, version=1), number=2))
    await settle()
    assert bench.metadata.topic_id(TP.topic) is None  # nobody is sent here before
    making.go.set()
    assert not (await first).failed
    assert not (await second).failed
    assert bench.manager.find(TP).core.role is Role.FOLLOWER


async def test_of_very_many_the_first_begin_before_the_logs_of_the_last_are_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_manager, "_LOGS_AT_ONCE", 1)
    bench.manager.on_registered(100)
    make, go = bench.logs.make, asyncio.Event()

    async def hold_other(wanted: Sequence[tuple[TopicPartition, str, TopicConfig]]) -> None:
        if wanted[0][0] == OTHER:
            await go.wait()
        await make(wanted)

    monkeypatch.setattr(bench.logs, "make", hold_other)
    told = asyncio.ensure_future(bench.update(partition(1), partition(1, tp=OTHER)))
    await until(lambda: TP in bench.manager.replicas)
    assert leader_of(bench.manager.find(TP).core).broker_epoch == 100
    with pytest.raises(NotLeaderOrFollowerError):
        bench.manager.find(OTHER)
    go.set()
    assert not (await told).failed
    assert leader_of(bench.manager.find(OTHER).core).broker_epoch == 100


async def test_an_incarnation_that_ends_while_logs_are_made_adopts_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    making = Making(bench, monkeypatch)
    bench.manager.on_registered(100)
    late = asyncio.ensure_future(bench.update(partition(1)))
    await making.begun.wait()
    bench.manager.on_registered(105)
    making.go.set()
    with pytest.raises(StaleBrokerEpochError):
        await late
    assert not bench.manager.replicas
    assert TP in bench.logs.logs()
    await bench.update(partition(1), target_broker_epoch=105)  # which finds the log
    assert bench.manager.find(TP).core.broker_epoch == 105


async def test_no_log_is_made_of_what_belongs_to_others_or_has_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[TopicPartition] = []

    async def note(logs: Sequence[tuple[TopicPartition, str, TopicConfig]]) -> None:
        wanted.extend(tp for tp, _, _ in logs)

    monkeypatch.setattr(bench.logs, "make", note)
    bench.manager.on_registered(100)
    bench.manager.failed[OTHER] = TOPIC_ID
    bench.manager.failure_reasons[OTHER] = "its disk failed"
    elsewhere = partition(2, isr=(2, 3), replicas=(2, 3), tp=TopicPartition("v", 0))
    response = await bench.update(elsewhere, partition(1, tp=OTHER), partition(1))
    assert [tp for tp, _ in response.failed] == [OTHER]
    assert wanted == [TP]
    assert set(bench.manager.replicas) == {TP}  # `open` made it then
    await bench.update(partition(1, version=1))
    assert wanted == [TP]


async def test_a_controller_that_is_deposed_while_settings_are_read_is_refused(
    bench: Bench,
) -> None:
    bench.manager.on_registered(100)
    bench.while_reading = lambda: bench.metadata.set_controller(3, 9)
    with pytest.raises(StaleControllerEpochError):
        await bench.update(partition(1))
    assert not bench.manager.replicas


# --- finding -------------------------------------------------------------------------------------


async def test_what_is_not_here_is_refused_by_where_it_is(bench: Bench) -> None:
    await bench.lead(1)
    await bench.update(partition(2, tp=OTHER, isr=(2,), replicas=(2, 3)))
    with pytest.raises(NotLeaderOrFollowerError, match="has no replica"):
        bench.manager.find(OTHER)
    with pytest.raises(UnknownTopicOrPartitionError, match="no partition 4"):
        bench.manager.find(TopicPartition("t", 4))
    with pytest.raises(UnknownTopicOrPartitionError, match="no topic"):
        bench.manager.find(TopicPartition("nope", 0))


# --- topics that come and go ---------------------------------------------------------------------


async def test_a_topic_made_again_gets_a_new_log_and_its_settings_are_read_first(
    bench: Bench,
) -> None:
    old = await bench.lead(1)
    bench.overrides = {"t": {"min.insync.replicas": "2"}}
    await bench.update(partition(1, topic_id="new", isr=(1,)))
    new = bench.manager.replicas[TP]
    assert new is not old
    assert old.stopped
    assert new.core.settings.min_insync_replicas == 2
    assert new.log.topic_id == "new"


async def test_a_topic_made_again_elsewhere_leaves_no_old_leader_here(bench: Bench) -> None:
    old = await bench.lead(1)
    await bench.update(partition(2, topic_id="new", isr=(2,), replicas=(2, 3)))
    assert old.stopped
    with pytest.raises(NotLeaderOrFollowerError):
        bench.manager.find(TP)


async def test_a_deletion_of_another_topic_id_deletes_nothing(bench: Bench) -> None:
    await bench.lead(1)
    response = await bench.update(deletions=[(TP, "older"), (OTHER, "unknown")])
    assert list(response.deleted) == [(TP, "older"), (OTHER, "unknown")]
    assert TP in bench.manager.replicas


async def test_a_replica_that_was_moved_away_stops_leading_and_deletes_its_log(
    bench: Bench,
) -> None:
    replica = await bench.lead(1)
    moved = partition(2, 1, isr=(2,), version=4, replicas=(2, 3))
    response = await bench.update(moved, drops=[(TP, TOPIC_ID, 4), (OTHER, "unknown", 1)])
    assert list(response.deleted) == [(TP, TOPIC_ID), (OTHER, "unknown")]
    assert replica.stopped
    assert TP not in bench.manager.replicas
    assert TP not in bench.logs.logs()


async def test_a_replica_that_was_moved_away_stops_leading_before_it_is_to_delete_its_log(
    bench: Bench,
) -> None:
    replica = await bench.lead(1)
    await bench.update(partition(2, 1, isr=(2,), version=4, replicas=(2, 3)))
    assert not replica.core.is_leader
    response = await bench.update(drops=[(TP, TOPIC_ID, 4)])
    assert list(response.deleted) == [(TP, TOPIC_ID)]


async def test_a_drop_that_is_older_than_the_state_here_deletes_nothing(bench: Bench) -> None:
    await bench.lead(1)
    await bench.update(partition(1, 1, isr=(1,), version=5))
    response = await bench.update(drops=[(TP, TOPIC_ID, 4)])
    assert list(response.deleted) == []
    assert TP in bench.manager.replicas


async def test_a_deletion_that_fails_is_told_and_can_be_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.lead(1)

    def fail(*_: object) -> None:
        raise KafkaStorageError("Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(bench.logs, "delete", fail)
        response = await bench.update(deletions=[(TP, TOPIC_ID)])
    assert [tp for tp, _ in response.failed] == [TP]
    assert not response.deleted
    response = await bench.update(deletions=[(TP, TOPIC_ID)])
    assert list(response.deleted) == [(TP, TOPIC_ID)]
    assert TP not in bench.logs.logs()


async def test_a_member_of_the_isr_outside_the_assignment_is_a_replica_too(
    bench: Bench,
) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2, isr=(1, 2), replicas=(2, 3)))
    assert TP in bench.manager.replicas


# --- failed disks --------------------------------------------------------------------------------


async def test_a_failed_replica_is_told_in_every_answer_about_it(bench: Bench) -> None:
    replica = await bench.lead(1)
    replica.fail_storage(KafkaStorageError("No space left on device"))
    assert bench.manager.something_failed.is_set()
    response = await bench.update(partition(1), controller_epoch=2)
    assert [tp for tp, _ in response.failed] == [TP]
    bench.manager.on_registered(105)
    response = await bench.update(
        partition(1, 1, version=1), controller_epoch=2, target_broker_epoch=105
    )
    assert [tp for tp, _ in response.failed] == [TP]
    assert replica.core.role is Role.FAILED


async def test_a_log_that_cannot_be_opened_stays_out_until_the_next_incarnation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.manager.on_registered(100)

    def fail(*_: object) -> None:
        raise KafkaStorageError("Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(bench.logs, "open", fail)
        response = await bench.update(partition(2), partition(2, tp=OTHER, topic_id="u"))
        assert [tp for tp, _ in response.failed] == [TP, OTHER]
    response = await bench.update(partition(2, 1, version=1))
    assert [tp for tp, _ in response.failed] == [TP]
    assert bench.manager.failed == {TP: TOPIC_ID, OTHER: "u"}
    await bench.update(deletions=[(OTHER, "u")])
    assert bench.manager.failed == {TP: TOPIC_ID}
    bench.manager.on_registered(105)
    response = await bench.update(partition(2, 2, version=2), target_broker_epoch=105)
    assert not response.failed
    assert TP in bench.manager.replicas
    assert not bench.manager.failed


async def test_a_failed_replica_stays_failed_in_the_next_session(bench: Bench) -> None:
    replica = await bench.lead(1)
    replica.fail_storage(KafkaStorageError("gone"))
    bench.manager.on_registered(105)
    assert bench.manager.failed == {TP: TOPIC_ID}
    bench.manager.on_registered(105)
    assert bench.manager.failed == {TP: TOPIC_ID}


# --- settings ------------------------------------------------------------------------------------


async def test_wrong_settings_in_zookeeper_count_as_not_set_and_the_others_hold(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.overrides = {
        "t": {"min.insync.replicas": "2", "retention.ms": "soon", "no.such": "thing"}
    }
    replica = await bench.lead(1)
    assert replica.config.min_insync_replicas == 2
    assert "retention.ms=soon" in caplog.text
    assert "no.such" in caplog.text
    bench.overrides = {"t": {"min.insync.replicas": "none"}}
    await bench.manager.reload_configs()
    assert replica.config.min_insync_replicas == 1
    await bench.manager.reload_configs()
    assert bench.manager.overrides("t") == {"min.insync.replicas": "none"}


async def test_a_topics_setting_comes_before_its_brokers_and_this_before_that_of_all(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.broker_overrides = {
        "<default>": {"min.insync.replicas": "2", "log.retention.ms": "70"},
        "1": {"log.retention.ms": "80", "broker.rack": "x"},
        "2": {"log.retention.ms": "90"},
    }
    replica = await bench.lead(1)
    assert (replica.config.min_insync_replicas, replica.config.retention_ms) == (2, 80)
    assert replica.log.config.retention_ms == 80  # type: ignore[attr-defined]
    assert replica.core.settings.min_insync_replicas == 2
    assert "broker.rack cannot be altered" in caplog.text
    caplog.clear()
    bench.overrides = {"t": {"min.insync.replicas": "1"}}
    bench.broker_overrides["1"] = {"broker.rack": "x"}
    await bench.manager.reload_configs()
    assert (replica.config.min_insync_replicas, replica.config.retention_ms) == (1, 70)
    assert caplog.text == ""  # the problem has been told
    bench.broker_overrides = {}
    await bench.manager.reload_configs()
    assert replica.config.retention_ms == bench.config.topic_defaults().retention_ms


async def test_a_setting_of_a_topic_is_looked_at_for_its_replicas_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await bench.lead(1)
    await bench.update(partition(1), partition(1, tp=OTHER))
    asked: list[str] = []
    topic_config = bench.manager.topic_config

    def asking(topic: str) -> TopicConfig:
        asked.append(topic)
        return topic_config(topic)

    monkeypatch.setattr(bench.manager, "topic_config", asking)
    bench.overrides = {"t": {"retention.ms": "7"}}
    await bench.manager.reload_configs()
    assert (asked, replica.config.retention_ms) == (["t"], 7)
    bench.broker_overrides = {"1": {"leader.replication.throttled.rate": "7"}}
    await bench.manager.reload_configs()
    assert (asked, bench.manager.leader_throttle.bytes_per_s) == (["t"], 7)
    bench.broker_overrides = {"1": {"log.segment.bytes": "10000"}}
    await bench.manager.reload_configs()
    assert sorted(asked[1:]) == ["t", "u"]


async def test_a_producer_is_forgotten_after_the_time_that_is_set_now(bench: Bench) -> None:
    """By the replica and by its log: what one forgets, the other must not bring back."""
    replica = await bench.lead(1)
    data = batch_of(b"a", producer_id=7, producer_epoch=0, base_sequence=0)
    plan = replica.core.plan_append(split(data), 1)
    replica.append_as_leader([data], plan.headers)

    async def remembered() -> tuple[int, int]:
        await bench.manager.retain([replica])
        return len(replica.core.log_state.producers), len(replica.log.load_producers())

    assert await remembered() == (1, 1)
    bench.now_timestamp_ms += 1000
    bench.broker_overrides = {"<default>": {"producer.id.expiration.ms": "1001"}}
    await bench.manager.reload_configs()
    assert await remembered() == (1, 1)
    bench.broker_overrides = {"<default>": {"producer.id.expiration.ms": "1000"}}
    await bench.manager.reload_configs()
    assert await remembered() == (0, 0)


async def test_settings_are_read_one_after_the_other(bench: Bench) -> None:
    bench.manager.on_registered(100)
    await asyncio.gather(bench.manager.reload_configs(), bench.update(partition(1)))
    assert bench.reads == 2


# --- upkeep --------------------------------------------------------------------------------------


async def test_retention_that_fails_fences_one_replica_and_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = await bench.lead(1)
    await bench.update(partition(1, tp=OTHER, isr=(1,)))
    retained: list[TopicPartition] = []
    good = bench.manager.replicas[OTHER]

    def fail(_: int) -> int:
        retained.append(TP)
        raise KafkaStorageError("Input/output error")

    def retain(_: int) -> int:
        retained.append(OTHER)
        return 0

    monkeypatch.setattr(bad.log, "retain", fail)
    monkeypatch.setattr(good.log, "retain", retain)
    await bench.manager.retain([bad, good])
    await bench.manager.retain([bad, good])
    assert retained == [TP, OTHER, OTHER]
    assert bad.core.role is Role.FAILED


async def test_what_is_led_here_is_known_without_a_walk(bench: Bench) -> None:
    replica = await bench.lead(1)
    await bench.update(partition(2, tp=OTHER, isr=(1, 2)))
    assert bench.manager.led == {TP}
    await bench.update(partition(1, 1, version=1, tp=OTHER, isr=(1, 2)))
    assert bench.manager.led == {TP, OTHER}
    await bench.update(partition(2, 2, version=2, tp=OTHER, isr=(1, 2)))
    assert bench.manager.led == {TP}
    await bench.update(partition(1, topic_id="new", isr=(1,)))
    assert bench.manager.led == {TP}
    assert bench.manager.replicas[TP] is not replica
    bench.manager.replicas[TP].fail_storage(KafkaStorageError("Input/output error"))
    assert bench.manager.led == set()
    await bench.update(partition(1, 3, version=3, tp=OTHER, isr=(1, 2)))
    assert bench.manager.led == {OTHER}
    await bench.update(deletions=[(OTHER, TOPIC_ID)])
    assert bench.manager.led == set()


async def test_a_replica_where_nobody_lags_is_not_looked_at_until_something_happens_to_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await bench.lead(1)
    await bench.update(partition(1, tp=OTHER, isr=(1, 2)))
    looked_at: list[TopicPartition] = []
    check_lag = Replica.check_lag

    def note(self: Replica) -> bool:
        looked_at.append(self.topic_partition)
        return check_lag(self)

    async def check() -> list[TopicPartition]:
        looked_at.clear()
        await bench.manager.check_lags()
        return list(looked_at)

    monkeypatch.setattr(Replica, "check_lag", note)
    fetched(replica, 2, 0)
    fetched(replica, 3, 0)
    assert await check() == [TP, OTHER]
    assert await check() == [OTHER], "broker 2 has not fetched it"
    data = batch_of(b"a")
    replica.append_as_leader([data], replica.core.plan_append(split(data), 1).headers)
    assert await check() == [OTHER, TP]
    assert await check() == [OTHER, TP], "nobody has fetched what was appended"
    fetched(replica, 2, 1)
    fetched(replica, 3, 1)
    await check()
    assert await check() == [OTHER]
    fetched(replica, 2, 0)
    assert await check() == [OTHER, TP], "a follower has fetched from further back"


def fetched(replica: Replica, replica_id: int, offset: int) -> None:
    position = FollowerPosition(TP, TOPIC_ID, offset, 0, 0 if offset else -1, 0)
    event = ReplicaFetched(replica_id, 100 * replica_id, position)
    replica.on_follower_fetched(event, 0)


async def test_upkeep_runs_by_the_clock_and_outlives_a_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(
        tmp_path,
        {
            "replica.high.watermark.checkpoint.interval.ms": "1",
            "log.flush.offset.checkpoint.interval.ms": "200",
            "log.retention.check.interval.ms": "1",
            "replica.lag.time.max.ms": "2",
            "replica.fetch.wait.max.ms": "1",
        },
    )
    replica = await bench.lead(1, 2)
    checkpoints: list[bool] = []  # with the recovery points?
    retained: list[int] = []

    async def checkpoint(recovery_points: bool) -> None:
        checkpoints.append(recovery_points)
        if len(checkpoints) == 1:
            raise KafkaStorageError(errno.errorcode[errno.EIO])

    monkeypatch.setattr(bench.logs, "checkpoint", checkpoint)
    monkeypatch.setattr(replica.log, "retain", lambda _: retained.append(1) or 0)
    tasks = [
        asyncio.ensure_future(work)
        for work in (
            bench.manager.run_checkpoints(),
            bench.manager.run_retention(),
            bench.manager.run_lag_checks(),
        )
    ]
    await until(lambda: len(checkpoints) > 1 and retained)
    assert not any(checkpoints)
    bench.clock.now_ms += 500  # late by far: this broker was stalled, so nobody is blamed
    await settle()
    assert leader_of(replica.core).isr.pending is None

    def later() -> bool:
        bench.clock.now_ms += 1
        return leader_of(replica.core).isr.pending is not None

    await until(later)
    await until(lambda: any(checkpoints) and not checkpoints[-1])
    for task in tasks:
        task.cancel()
    assert "checkpoints could not be written" in caplog.text
    await bench.close()
