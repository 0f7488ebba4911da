"""The follower's loops, against leaders whose every answer the test gives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikafka.api.requests import ReplicaFetchResponse, ReplicaFetchResult
from minikafka.broker.replication import replicator
from minikafka.broker.replication.replicator import BRIEF_WAIT_MS, MORE_TO_COME_MS
from minikafka.core.replication.effects import Role
from minikafka.errors import (
    FencedLeaderEpochError,
    FetchSessionIdNotFoundError,
    InvalidFetchSessionEpochError,
    KafkaStorageError,
    MinikafkaError,
    NetworkError,
    OffsetOutOfRangeError,
    UnknownLeaderEpochError,
    UnknownServerError,
)
from minikafka.model import OffsetAndEpoch, PartitionMetadata, TopicPartition
from minikafka.records.header import split
from tests.helpers.replicas import (
    BROKERS,
    TP,
    Bench,
    ScriptedStream,
    partition,
    settle,
    stored,
)
from tests.helpers.waiting import until

OTHER = TopicPartition("u", 0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


def records(
    base_offset: int, *values: bytes, high_watermark: int = 0, tp: TopicPartition = TP
) -> ReplicaFetchResult:
    return ReplicaFetchResult(
        tp,
        high_watermark=high_watermark,
        log_start_offset=0,
        log_end_offset=base_offset + len(values),
        records=stored(base_offset, *values),
    )


async def test_what_the_leader_sends_is_appended_and_the_next_fetch_acknowledges_it(
    bench: Bench,
) -> None:
    stream = await bench.follow()
    assert stream.leader == BROKERS[1]
    stream.answer(records(0, b"a", b"b", high_watermark=1))
    await bench.stream(requests=2)
    position = stream.requests[1].positions[0]
    assert (position.fetch_offset, position.last_fetched_epoch) == (2, 0)
    assert bench.manager.replicas[TP].core.log_state.high_watermark == 1


async def test_with_flush_before_ack_the_next_fetch_waits_for_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.overrides = {"t": {"flush.before.ack": "true"}}
    stream = await bench.follow()
    replica = bench.manager.replicas[TP]
    go, flush = asyncio.Event(), replica.log.flush

    async def held() -> int:
        await go.wait()
        return await flush()

    monkeypatch.setattr(replica.log, "flush", held)
    stream.answer(records(0, b"a"))
    await settle()
    assert replica.log.log_end_offset == 1
    assert len(stream.requests) == 1
    go.set()
    await bench.stream(requests=2)
    assert replica.core.log_state.flushed_offset == 1


async def test_a_follower_whose_disk_fails_on_flush_is_fenced_and_acknowledges_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.overrides = {"t": {"flush.before.ack": "true"}}
    stream = await bench.follow()
    replica = bench.manager.replicas[TP]

    async def fail() -> int:
        raise KafkaStorageError("Input/output error")

    monkeypatch.setattr(replica.log, "flush", fail)
    stream.answer(records(0, b"a"))
    await until(lambda: replica.core.role is Role.FAILED)
    await settle()
    assert len(stream.requests) == 1


async def test_a_full_disk_fences_one_follower_and_the_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2), partition(2, tp=OTHER))
    stream = await bench.stream()

    def full(*_: object) -> None:
        raise KafkaStorageError("No space left on device")

    monkeypatch.setattr(bench.manager.replicas[TP].log, "append", full)
    stream.answer(records(0, b"a"), records(0, b"b", tp=OTHER))
    stream = await bench.stream(requests=2)
    assert [p.topic_partition for p in stream.requests[1].positions] == [OTHER]
    assert bench.manager.failed == {TP: partition().topic_id}


async def test_a_partition_with_records_goes_behind_the_others(bench: Bench) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2), partition(2, tp=OTHER))
    stream = await bench.stream()
    assert [p.topic_partition for p in stream.requests[0].positions] == [TP, OTHER]
    stream.answer(records(0, b"a"))
    await bench.stream(requests=2)
    assert [p.topic_partition for p in stream.requests[1].positions] == [OTHER, TP]


async def test_a_refused_partition_backs_off_and_the_others_go_on(bench: Bench) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2), partition(2, tp=OTHER))
    stream = await bench.stream()
    asked = []
    for number, pause_ms in enumerate((20, 40, 50, 50), start=1):
        stream.answer(ReplicaFetchResult(TP, UnknownLeaderEpochError("not yet")))
        await bench.stream(requests=2 * number)
        request = stream.requests[-1]
        assert [p.topic_partition for p in request.positions] == [OTHER]
        assert request.max_wait_ms == pause_ms
        asked.append(request)
        bench.clock.now_ms += pause_ms
        stream.answer()
        await bench.stream(requests=2 * number + 1)
        assert len(stream.requests[-1].positions) == 2
    stream.answer(ReplicaFetchResult(TP, None, high_watermark=0, log_start_offset=0))
    await bench.stream(requests=10)
    assert stream.requests[-1].max_wait_ms == 500


THROTTLED = {"follower.replication.throttled.replicas": "0:1"}


async def throttle(bench: Bench, bytes_per_s: int | None) -> None:
    name = "follower.replication.throttled.rate"
    bench.broker_overrides = {} if bytes_per_s is None else {"1": {name: str(bytes_per_s)}}
    await bench.manager.reload_configs()


async def test_a_replica_out_of_sync_waits_for_its_throttle_and_the_others_go_on(
    bench: Bench,
) -> None:
    bench.overrides = {"t": THROTTLED}
    await throttle(bench, 1_000)
    bench.manager.on_registered(100)
    await bench.update(partition(2, isr=(2, 3)), partition(2, isr=(2, 3), tp=OTHER))
    stream = await bench.stream()
    answer = records(0, b"x" * 5_000)
    stream.answer(answer)
    for number, tp in ((2, OTHER), (3, OTHER)):  # whatever comes of the other does not count
        await bench.stream(requests=number)
        request = stream.requests[-1]
        assert [p.topic_partition for p in request.positions] == [tp]
        stream.answer(records(number - 2, b"y" * 5_000, tp=OTHER))
    wait_ms = len(answer.records) - 1_000 + 1
    assert request.max_wait_ms == min(500, wait_ms)
    await bench.stream(requests=4)
    bench.clock.now_ms += wait_ms
    stream.answer()
    await bench.stream(requests=5)
    assert {p.topic_partition for p in stream.requests[-1].positions} == {TP, OTHER}


async def test_a_replica_that_is_in_sync_is_not_throttled(bench: Bench) -> None:
    bench.overrides = {"t": THROTTLED}
    await throttle(bench, 1)
    stream = await bench.follow()
    for offset in range(3):
        stream.answer(records(offset, b"x" * 5_000))
        await bench.stream(requests=offset + 2)
        assert [p.fetch_offset for p in stream.requests[-1].positions] == [offset + 1]


async def test_a_replica_that_waits_goes_on_at_once_when_the_throttle_is_lifted(
    bench: Bench,
) -> None:
    bench.overrides = {"t": THROTTLED}
    await throttle(bench, 1)
    bench.manager.on_registered(100)
    await bench.update(partition(2, isr=(2, 3)))
    stream = await bench.stream()
    stream.answer(records(0, b"x" * 5_000))
    await settle()
    assert len(stream.requests) == 1
    await throttle(bench, None)
    await bench.stream(requests=2)
    assert [p.fetch_offset for p in stream.requests[-1].positions] == [1]


async def test_a_single_refused_partition_is_tried_again_by_time(bench: Bench) -> None:
    stream = await bench.follow()
    for number in (2, 3):
        stream.answer(ReplicaFetchResult(TP, UnknownLeaderEpochError("not yet")))
        await settle()
        assert len(stream.requests) == number - 1
        bench.clock.now_ms += 100
        await bench.stream(requests=number)


async def test_corrupt_or_foreign_records_are_not_appended(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stream = await bench.follow()
    broken = records(0, b"a")
    broken.records = broken.records[:-1] + b"!"
    foreign = records(0, b"of the future")
    foreign.records = stored(0, b"of the future", leader_epoch=9)
    for result in (broken, foreign, records(0, b"a")):
        result.log_end_offset = 1
        stream.answer(result)
        await settle()
        bench.clock.now_ms += 100
        stream = await bench.stream(requests=len(stream.requests) + (not stream.waiting))
    assert bench.manager.replicas[TP].log.log_end_offset == 1
    assert "CRC-32C" in caplog.text
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    assert "do not follow on" in caplog.text


async def test_a_gap_that_the_leaders_compaction_left_is_taken_over(bench: Bench) -> None:
    stream = await bench.follow()
    stream.answer(records(3, b"a", b"b", high_watermark=5))
    await bench.stream(requests=2)
    assert stream.requests[1].positions[0].fetch_offset == 5
    replica = bench.manager.replicas[TP]
    assert (replica.log.log_start_offset, replica.log.log_end_offset) == (0, 5)
    assert split(replica.read(1, 100, 5))[0].base_offset == 3


async def test_a_follower_begins_where_the_leader_has_deleted_up_to_the_middle_of_a_batch(
    bench: Bench,
) -> None:
    stream = await bench.follow()
    gone = OffsetOutOfRangeError("0 is deleted")
    stream.answer(ReplicaFetchResult(TP, gone, log_start_offset=4, log_end_offset=6))
    stream = await bench.stream(requests=2)
    assert stream.requests[1].positions[0].fetch_offset == 4
    result = records(3, b"a", b"b", b"c", high_watermark=6)
    result.log_start_offset = 4
    stream.answer(result)
    stream = await bench.stream(requests=3)
    position = stream.requests[2].positions[0]
    assert (position.fetch_offset, position.log_start_offset) == (6, 4)
    log = bench.manager.replicas[TP].log
    assert (log.log_start_offset, log.log_end_offset) == (4, 6)


async def test_a_fenced_follower_adopts_the_leaders_state_and_fetches_at_once(
    bench: Bench,
) -> None:
    stream = await bench.follow()
    newer = partition(2, 1, isr=(1, 2), version=1).state
    stream.answer(ReplicaFetchResult(TP, FencedLeaderEpochError("old"), newer))
    await bench.stream(requests=2)
    assert stream.requests[1].positions[0].current_leader_epoch == 1
    # The same State again says nothing new: that is a refusal like any other.
    stream.answer(ReplicaFetchResult(TP, FencedLeaderEpochError("old"), newer))
    await settle()
    assert len(stream.requests) == 2


async def test_a_state_that_names_another_leader_moves_the_follower(bench: Bench) -> None:
    stream = await bench.follow()
    newer = partition(3, 1, isr=(1, 3), version=1).state
    stream.answer(ReplicaFetchResult(TP, FencedLeaderEpochError("old"), newer))
    moved = await bench.stream(2)
    assert moved.leader == BROKERS[2]
    assert bench.replicator._followed == {TP: 3}


async def test_a_follower_that_fell_out_of_the_leaders_log_begins_anew_there(
    bench: Bench,
) -> None:
    stream = await bench.follow()
    gone = ReplicaFetchResult(
        TP, OffsetOutOfRangeError("gone"), log_start_offset=7, log_end_offset=9
    )
    stream.answer(gone)
    await bench.stream(requests=2)
    assert stream.requests[1].positions[0].fetch_offset == 7
    assert bench.manager.replicas[TP].log.log_start_offset == 7
    stream.answer(gone)  # nothing to be done about it: a refusal
    await settle()
    assert len(stream.requests) == 2


async def test_a_follower_that_is_ahead_of_a_shorter_leader_cuts_its_log(
    bench: Bench,
) -> None:
    stream = await bench.follow()
    stream.answer(records(0, b"a"))
    stream = await bench.stream(requests=2)
    stream.answer(records(1, b"b"))
    stream = await bench.stream(requests=3)
    stream.answer(
        ReplicaFetchResult(TP, OffsetOutOfRangeError("gone"), log_start_offset=0, log_end_offset=1)
    )
    await bench.stream(requests=4)
    assert bench.manager.replicas[TP].log.log_end_offset == 1


async def test_a_diverging_tail_is_cut(bench: Bench) -> None:
    stream = await bench.follow()
    stream.answer(records(0, b"a"))
    stream = await bench.stream(requests=2)
    stream.answer(records(1, b"b"))
    await bench.stream(requests=3)
    stream.answer(ReplicaFetchResult(TP, diverging=OffsetAndEpoch(1, 0)))
    await bench.stream(requests=4)
    assert stream.requests[3].positions[0].fetch_offset == 1


async def test_an_answer_that_comes_after_the_epoch_moved_is_dropped(bench: Bench) -> None:
    stream = await bench.follow()
    stream.answer(records(0, b"late"))
    replica = bench.manager.replicas[TP]
    newer = partition(2, 1, version=1)
    replica.adopt(newer.state, newer.assignment)  # before the loop has seen the answer
    again = await bench.stream(2)
    assert replica.log.log_end_offset == 0
    assert again.requests[0].positions[0].current_leader_epoch == 1
    asked = {TP: stream.requests[0].positions[0]}
    loop = bench.replicator._loops[2]
    loop._take_all(ReplicaFetchResponse([records(0, b"a"), records(0, b"b", tp=OTHER)]), asked)
    assert replica.log.log_end_offset == 0


async def test_a_new_partition_interrupts_the_fetch_that_waits(bench: Bench) -> None:
    stream = await bench.follow()
    await bench.update(partition(2, tp=OTHER))
    again = await bench.stream(2)
    assert stream.closed
    assert len(again.requests[0].positions) == 2


def more(number: int) -> PartitionMetadata:
    """One more partition that broker 2 leads."""
    return partition(2, tp=TopicPartition("more", number))


async def test_those_that_come_after_it_wait_for_brief_fetches_and_interrupt_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicator, "LATE_MS", 60_000)
    await bench.follow()
    await bench.update(more(0))
    stream = await bench.stream(2)
    assert stream.requests[0].max_wait_ms == BRIEF_WAIT_MS
    stream.answer(session_id=7)
    await bench.stream(2, requests=2)
    for number in (1, 2):
        await bench.update(more(number))
        await settle()
        assert len(stream.requests) == number + 1
        stream.answer(session_id=7)
        await bench.stream(2, requests=number + 2)
        assert (turn(stream), named(stream)) == (
            (7, number + 1),
            [(TopicPartition("more", number), 0)],
        )
        bench.clock.now_ms += MORE_TO_COME_MS - 1  # each is followed by more, perhaps
    assert not stream.closed
    assert len(bench.peers.streams) == 2


async def test_when_no_more_have_come_fetches_are_parked_for_long_and_interrupted_again(
    bench: Bench,
) -> None:
    await bench.follow()
    await bench.update(more(0))
    stream = await bench.stream(2)
    bench.clock.now_ms += MORE_TO_COME_MS
    stream.answer(session_id=7)
    await bench.stream(2, requests=2)
    assert stream.requests[1].max_wait_ms == 500
    await bench.update(more(1))
    again = await bench.stream(3)
    assert stream.closed
    assert len(again.requests[0].positions) == 3


async def test_a_brief_fetch_that_is_not_answered_in_time_is_interrupted_after_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicator, "LATE_MS", 1)
    await bench.follow()
    await bench.update(more(0))
    stream = await bench.stream(2)
    await bench.update(more(1))
    again = await bench.stream(3)  # by the clock of the loop
    assert stream.closed
    assert len(again.requests[0].positions) == 3


async def test_a_deleted_partition_is_fetched_no_more(bench: Bench) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2), partition(2, tp=OTHER))
    stream = await bench.stream()
    await bench.update(deletions=[(TP, partition().topic_id)])
    stream.answer(records(0, b"late"))
    await bench.stream(requests=2)
    assert [p.topic_partition for p in stream.requests[1].positions] == [OTHER]
    bench.replicator.forget(TP)


async def test_a_broken_stream_is_opened_anew(bench: Bench) -> None:
    stream = await bench.follow()
    stream.fail(NetworkError("connection reset"))
    again = await bench.stream(2)
    assert stream.closed
    again.fail(UnknownServerError("a bug over there"))
    await bench.stream(3)


async def test_a_leader_that_is_not_alive_is_waited_for(bench: Bench) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2), brokers=BROKERS[:1])
    await settle()
    assert not bench.peers.streams
    await bench.update(brokers=BROKERS)
    await bench.stream()


async def test_a_leader_in_another_incarnation_gets_another_stream(bench: Bench) -> None:
    stream = await bench.follow()
    returned = BROKERS[1].__class__(2, "B", "127.0.0.1", 2, broker_epoch=900)
    await bench.update(brokers=[BROKERS[0], returned])
    stream.answer()
    again = await bench.stream(2)
    assert stream.closed
    assert again.leader == returned


async def test_after_the_end_nothing_is_followed_any_more(bench: Bench) -> None:
    stream = await bench.follow()
    await bench.replicator.close()
    assert stream.closed
    await bench.update(partition(3, 1, version=1), partition(2, tp=OTHER))
    await bench.update(partition(-1, 2, version=2))
    await settle()
    assert len(bench.peers.streams) == 1


async def test_a_loop_that_dies_of_a_bug_is_not_left_unnoticed(bench: Bench) -> None:
    stream = await bench.follow()
    stream.fail(AssertionError("a bug"))
    await until(lambda: bench.ended)
    assert isinstance(bench.ended[0], AssertionError)
    assert stream.closed


# --- sessions -------------------------------------------------------------------------------------


def named(stream: ScriptedStream) -> list[tuple[TopicPartition, int]]:
    return [(each.topic_partition, each.fetch_offset) for each in stream.requests[-1].positions]


def turn(stream: ScriptedStream) -> tuple[int, int]:
    return stream.requests[-1].session_id, stream.requests[-1].session_epoch


async def follow_both(bench: Bench) -> ScriptedStream:
    """Broker 1 follows TP and OTHER in session 7, and has asked once more, for nothing else."""
    bench.manager.on_registered(100)
    await bench.update(partition(2), partition(2, tp=OTHER))
    stream = await bench.stream()
    assert turn(stream) == (0, 0)
    stream.answer(session_id=7)
    return await bench.stream(requests=2)


async def test_in_a_session_only_what_has_moved_is_named(bench: Bench) -> None:
    stream = await follow_both(bench)
    assert (turn(stream), named(stream)) == ((7, 1), [])
    stream.answer(records(0, b"a", tp=OTHER), session_id=7)
    await bench.stream(requests=3)
    assert (turn(stream), named(stream)) == ((7, 2), [(OTHER, 1)])
    news = ReplicaFetchResult(OTHER, high_watermark=1, log_start_offset=0, log_end_offset=1)
    stream.answer(news, session_id=7)
    await bench.stream(requests=4)
    assert (turn(stream), named(stream)) == ((7, 3), [])
    assert bench.manager.replicas[OTHER].core.log_state.high_watermark == 1


@pytest.mark.parametrize("error", [FetchSessionIdNotFoundError, InvalidFetchSessionEpochError])
async def test_a_session_that_the_leader_refuses_is_begun_anew_on_the_same_stream(
    bench: Bench, error: type[MinikafkaError]
) -> None:
    stream = await follow_both(bench)
    stream.fail(error("not this one"))
    await bench.stream(requests=3)
    assert (turn(stream), named(stream)) == ((0, 0), [(TP, 0), (OTHER, 0)])
    assert len(bench.peers.streams) == 1
    stream.answer(session_id=8)
    await bench.stream(requests=4)
    assert (turn(stream), named(stream)) == ((8, 1), [])


async def test_after_an_answer_that_got_lost_all_is_named(bench: Bench) -> None:
    stream = await follow_both(bench)
    stream.fail(NetworkError("the connection broke"))
    again = await bench.stream(2)
    assert (turn(again), named(again)) == ((0, 0), [(TP, 0), (OTHER, 0)])


async def test_an_answer_in_another_session_is_not_taken(bench: Bench) -> None:
    stream = await follow_both(bench)
    stream.answer(records(0, b"a"), session_id=8)
    again = await bench.stream(2)
    assert (turn(again), named(again)) == ((0, 0), [(TP, 0), (OTHER, 0)])


async def test_another_incarnation_of_this_broker_begins_anew(bench: Bench) -> None:
    stream = await follow_both(bench)
    bench.manager.on_registered(101)
    stream.answer(session_id=7)
    await bench.stream(requests=3)
    assert stream.requests[-1].replica_broker_epoch == 101
    assert (turn(stream), named(stream)) == ((0, 0), [(TP, 0), (OTHER, 0)])


async def test_what_was_removed_while_a_fetch_waited_is_forgotten(bench: Bench) -> None:
    bench.manager.on_registered(100)
    await bench.update(partition(2), partition(2, tp=OTHER))
    stream = await bench.stream()
    await bench.update(deletions=[(TP, partition().topic_id)])
    stream.answer(session_id=7)
    await bench.stream(requests=2)
    assert (turn(stream), named(stream)) == ((7, 1), [])
    assert stream.requests[-1].forgotten == [TP]
    stream.answer(session_id=7)
    await bench.stream(requests=3)
    assert stream.requests[-1].forgotten == []


async def test_a_refused_partition_is_named_again_when_its_backoff_is_over(bench: Bench) -> None:
    stream = await follow_both(bench)
    stream.answer(ReplicaFetchResult(TP, UnknownLeaderEpochError("not yet")), session_id=7)
    await bench.stream(requests=3)
    assert named(stream) == []
    assert stream.requests[-1].max_wait_ms == 20
    stream.answer(session_id=7)
    bench.clock.now_ms += 20
    await bench.stream(requests=4)
    assert named(stream) == [(TP, 0)]
    assert stream.requests[-1].max_wait_ms == 500


async def test_what_the_leader_sent_in_vain_is_forgotten_and_named_again(bench: Bench) -> None:
    """The leader believes that it is followed there."""
    stream = await follow_both(bench)
    broken = records(0, b"a")
    broken.records = broken.records[:-1] + b"!"
    stream.answer(broken, session_id=7)
    await bench.stream(requests=3)
    assert (named(stream), stream.requests[-1].forgotten) == ([], [TP])
    bench.clock.now_ms += 100
    stream.answer(session_id=7)
    await bench.stream(requests=4)
    assert (named(stream), stream.requests[-1].forgotten) == ([(TP, 0)], [])


async def test_a_divergence_that_cuts_nothing_is_named_again(bench: Bench) -> None:
    stream = await follow_both(bench)
    stream.answer(ReplicaFetchResult(TP, diverging=OffsetAndEpoch(0, 0)), session_id=7)
    await bench.stream(requests=3)
    assert named(stream) == [(TP, 0)]


async def test_in_a_session_a_throttled_replica_is_forgotten_until_it_may_go_on(
    bench: Bench,
) -> None:
    bench.overrides = {"t": THROTTLED}
    await throttle(bench, 1_000)
    bench.manager.on_registered(100)
    await bench.update(partition(2, isr=(2, 3)), partition(2, isr=(2, 3), tp=OTHER))
    stream = await bench.stream()
    answer = records(0, b"x" * 5_000)
    stream.answer(answer, session_id=7)
    await bench.stream(requests=2)
    assert (named(stream), stream.requests[-1].forgotten) == ([], [TP])
    stream.answer(session_id=7)
    await bench.stream(requests=3)
    assert (named(stream), stream.requests[-1].forgotten) == ([], [])
    bench.clock.now_ms += len(answer.records)
    stream.answer(session_id=7)
    await bench.stream(requests=4)
    assert named(stream) == [(TP, 1)]


async def test_in_a_session_what_moved_is_flushed_before_it_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.overrides = {"t": {"flush.before.ack": "true"}}
    stream = await follow_both(bench)
    replica = bench.manager.replicas[TP]
    go, flush = asyncio.Event(), replica.log.flush

    async def held() -> int:
        await go.wait()
        return await flush()

    monkeypatch.setattr(replica.log, "flush", held)
    stream.answer(records(0, b"a"), session_id=7)
    await settle()
    assert len(stream.requests) == 2
    go.set()
    await bench.stream(requests=3)
    assert named(stream) == [(TP, 1)]
    assert replica.core.log_state.flushed_offset == 1
