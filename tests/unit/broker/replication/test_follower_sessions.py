"""Fetch sessions at a leader: what is not named was fetched all the same, and costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.api.requests import ReplicaFetchRequest, ReplicaFetchResponse
from minikafka.broker.replication.fetch import FetchHandler
from minikafka.broker.replication.follower_sessions import FollowerSessions
from minikafka.broker.replication.replica import Replica
from minikafka.core.replication.events import RecordsDeleted
from minikafka.errors import (
    FencedLeaderEpochError,
    FetchSessionIdNotFoundError,
    InvalidFetchSessionEpochError,
    OffsetOutOfRangeError,
    StaleBrokerEpochError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import FollowerPosition, TopicPartition
from tests.helpers.replicas import TOPIC_ID, TP, Bench, partition, settle
from tests.unit.broker.replication.test_fetch import append, position, request

OTHER = TopicPartition("u", 0)
LAG_MS = 1_000


class Follower:
    """A follower that asks as it should: what a test changes is named in `fetch`."""

    def __init__(self, handler: FetchHandler, replica_id: int = 2) -> None:
        self.handler = handler
        self.base = request(replica_id=replica_id, broker_epoch=100 * replica_id, max_wait_ms=0)
        self.session_id = 0
        self.session_epoch = 0

    def next_request(
        self, *positions: FollowerPosition, forgotten: Sequence[TopicPartition] = ()
    ) -> ReplicaFetchRequest:
        if self.session_id:
            self.session_epoch += 1
        return replace(
            self.base,
            positions=positions,
            session_id=self.session_id,
            session_epoch=self.session_epoch,
            forgotten=list(forgotten),
        )

    async def fetch(
        self, *positions: FollowerPosition, forgotten: Sequence[TopicPartition] = ()
    ) -> ReplicaFetchResponse:
        response = await self.handler.replica_fetch(
            self.next_request(*positions, forgotten=forgotten)
        )
        self.session_id = response.session_id
        return response

    async def wait(self, *positions: FollowerPosition) -> asyncio.Future[ReplicaFetchResponse]:
        waiting = replace(self.next_request(*positions), max_wait_ms=60_000)
        fetching = asyncio.ensure_future(self.handler.replica_fetch(waiting))
        await settle()
        return fetching


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


@pytest.fixture
async def follower(bench: Bench) -> Follower:
    """Broker 2; broker 1 leads TP and OTHER, with 1 and 2 in the ISR."""
    await bench.lead(1, 2)
    await bench.update(partition(tp=OTHER, isr=(1, 2)))
    return Follower(
        FetchHandler(bench.manager.find, bench.clock, throttle=bench.manager.leader_throttle)
    )


def caught_up_ms(bench: Bench, tp: TopicPartition = TP, broker_id: int = 2) -> int:
    replica = bench.manager.replicas[tp]
    replica.settle_watches()
    return {each: at_ms for each, _, at_ms in replica.core.followers()}[broker_id]


def ends(replica: Replica) -> dict[int, int]:
    return {broker_id: at for broker_id, at, _ in replica.core.followers()}


async def test_a_session_is_told_once_and_then_what_has_changed(
    bench: Bench, follower: Follower
) -> None:
    first = await follower.fetch(position(), position(0, OTHER))
    assert [each.topic_partition for each in first.results] == [TP, OTHER]
    assert first.session_id != 0
    assert (await follower.fetch()).results == []
    append(bench, b"a", tp=OTHER)
    (result,) = (await follower.fetch()).results
    assert (result.topic_partition, result.log_end_offset) == (OTHER, 1)
    assert b"a" in result.records
    (result,) = (await follower.fetch(position(1, OTHER, last_fetched_epoch=0))).results
    assert (result.topic_partition, result.high_watermark, result.records) == (OTHER, 1, b"")


async def test_a_fetch_looks_at_what_is_due_and_not_at_what_is_followed(bench: Bench) -> None:
    await bench.lead(1, 2)
    others = [TopicPartition("many", index) for index in range(200)]
    await bench.update(*(partition(tp=tp, isr=(1, 2)) for tp in others))
    looked_at: list[TopicPartition] = []

    def find(topic_partition: TopicPartition) -> object:
        looked_at.append(topic_partition)
        return bench.manager.find(topic_partition)

    follower = Follower(FetchHandler(find, bench.clock))
    await follower.fetch(*(position(0, tp) for tp in others))
    looked_at.clear()
    assert (await follower.fetch()).results == []
    assert looked_at == []
    fetching = await follower.wait()
    append(bench, b"a", tp=others[7])
    append(bench, b"nobody follows this")
    (result,) = (await fetching).results
    assert result.topic_partition == others[7]
    assert set(looked_at) == {others[7]}


@pytest.mark.parametrize("number", [0, 1, 3])
async def test_a_request_that_is_not_the_next_one_changes_nothing(
    bench: Bench, follower: Follower, number: int
) -> None:
    """One was lost (3), or comes twice (1), or is from before (0)."""
    await follower.fetch(position())
    await follower.fetch()
    append(bench, b"a")
    wrong = replace(
        follower.base,
        positions=[position(1, last_fetched_epoch=0)],
        session_id=follower.session_id,
        session_epoch=number,
    )
    with pytest.raises(InvalidFetchSessionEpochError):
        await follower.handler.replica_fetch(wrong)
    assert bench.manager.replicas[TP].core.log_state.high_watermark == 0
    (result,) = (await follower.fetch()).results
    assert result.records


async def test_a_session_is_known_by_its_id_and_its_incarnation(
    bench: Bench, follower: Follower
) -> None:
    await follower.fetch(position())
    at = position(1, last_fetched_epoch=0)
    append(bench, b"a")
    for changes, error in (
        ({"session_id": follower.session_id + 1}, FetchSessionIdNotFoundError),
        ({"replica_broker_epoch": 201}, FetchSessionIdNotFoundError),
        ({"replica_broker_epoch": 199}, StaleBrokerEpochError),
        ({"replica_id": 3}, FetchSessionIdNotFoundError),
    ):
        asked = replace(
            follower.base, positions=[at], session_id=follower.session_id, session_epoch=1
        )
        with pytest.raises(error):
            await follower.handler.replica_fetch(replace(asked, **changes))  # type: ignore[arg-type]
    assert bench.manager.replicas[TP].core.log_state.high_watermark == 0
    assert (await follower.fetch()).results[0].records


async def test_what_a_replaced_session_followed_is_not_followed_any_more(
    bench: Bench, follower: Follower
) -> None:
    await follower.fetch(position(), position(0, OTHER))
    fetching = await follower.wait()
    bench.clock.now_ms += 10
    again = Follower(follower.handler)
    await again.fetch(position())
    with pytest.raises(FetchSessionIdNotFoundError):
        await fetching
    with pytest.raises(FetchSessionIdNotFoundError):
        await follower.fetch()
    before_ms = bench.clock.now_ms
    bench.clock.now_ms += 100
    await again.fetch()
    assert caught_up_ms(bench, TP) == bench.clock.now_ms
    assert caught_up_ms(bench, OTHER) == before_ms - 10
    append(bench, b"a", tp=OTHER)
    assert (await again.fetch()).results == []


async def test_a_fetch_that_is_overtaken_in_its_session_is_ended(
    bench: Bench, follower: Follower
) -> None:
    await follower.fetch(position())
    fetching = await follower.wait()
    await follower.fetch()
    append(bench, b"a")
    with pytest.raises(InvalidFetchSessionEpochError):
        await fetching


async def test_what_is_forgotten_is_neither_answered_nor_counted(
    bench: Bench, follower: Follower
) -> None:
    await follower.fetch(position(), position(0, OTHER))
    at_ms = bench.clock.now_ms
    bench.clock.now_ms += 10
    await follower.fetch(forgotten=[OTHER])
    bench.clock.now_ms += 10
    append(bench, b"a", tp=OTHER)
    assert (await follower.fetch()).results == []
    assert caught_up_ms(bench, OTHER) == at_ms + 10
    (result,) = (await follower.fetch(position(0, OTHER))).results
    assert b"a" in result.records


async def test_news_waits_for_an_answer_and_goes_with_any(bench: Bench, follower: Follower) -> None:
    third = Follower(follower.handler, replica_id=3)
    await bench.update(partition(isr=(1, 2, 3), version=1))
    append(bench, b"a")
    await follower.fetch(position(), position(0, OTHER))
    await third.fetch(position())
    await follower.fetch(position(1, last_fetched_epoch=0))
    fetching = await follower.wait()
    await third.fetch(position(1, last_fetched_epoch=0))  # commits it
    await settle()
    assert not fetching.done()
    append(bench, b"b", tp=OTHER)
    results = (await fetching).results
    assert [(each.topic_partition, each.high_watermark) for each in results] == [
        (OTHER, 0),
        (TP, 1),
    ]
    assert [each.topic_partition for each in (await follower.fetch()).results] == [OTHER]


async def test_what_did_not_fit_is_sent_by_the_next_answers_in_turn(
    bench: Bench, follower: Follower
) -> None:
    follower.base = replace(follower.base, max_bytes=100)
    await follower.fetch(position(), position(0, OTHER))
    for tp in (TP, OTHER):
        append(bench, b"x" * 500, tp=tp)
    sent = []
    for at in ((), (position(1, last_fetched_epoch=0),)):
        results = (await follower.fetch(*at)).results
        sent.append([each.topic_partition for each in results if each.records])
    assert sent == [[TP], [OTHER]]


async def test_what_is_refused_is_out_of_the_session_until_it_is_named_again(
    bench: Bench, follower: Follower
) -> None:
    await follower.fetch(position(), position(0, OTHER))
    fetching = await follower.wait()
    await bench.update(partition(1, 1, isr=(1, 2), version=1))
    (result,) = (await fetching).results
    assert isinstance(result.error, FencedLeaderEpochError)
    assert result.state is not None
    append(bench, b"a")
    assert (await follower.fetch()).results == []
    (result,) = (await follower.fetch(position(leader_epoch=1))).results
    assert b"a" in result.records


async def test_a_log_start_above_a_follower_is_told(bench: Bench, follower: Follower) -> None:
    await follower.fetch(position())
    append(bench, b"a")
    await follower.fetch(position(1, last_fetched_epoch=0))
    replica = bench.manager.replicas[TP]
    behind = Follower(follower.handler, replica_id=3)
    behind.base = replace(behind.base, max_bytes=0)
    await behind.fetch(position())
    assert replica.core.log_state.high_watermark == 1
    replica.step(RecordsDeleted(1))
    (result,) = (await behind.fetch()).results
    assert isinstance(result.error, OffsetOutOfRangeError)
    (result,) = (await follower.fetch()).results
    assert (result.error, result.log_start_offset) == (None, 1)


async def test_a_partition_that_is_deleted_is_told_and_comes_back_as_another(
    bench: Bench, follower: Follower
) -> None:
    await follower.fetch(position(), position(0, OTHER))
    old = bench.manager.replicas[TP]
    topics = [("t", TOPIC_ID)]
    await bench.update(deletions=[(TP, TOPIC_ID)], deleted_topics=topics)
    (result,) = (await follower.fetch()).results
    assert isinstance(result.error, UnknownTopicOrPartitionError)
    assert not old._watches
    await bench.update(partition(isr=(1, 2), topic_id="another"))
    assert (await follower.fetch()).results == []
    append(bench, b"a")
    (result,) = (await follower.fetch(position(topic_id="another"))).results
    assert b"a" in result.records


async def test_a_fetch_of_a_topic_that_was_made_anew_counts_there(
    bench: Bench, follower: Follower
) -> None:
    """Found by a walk: it counted for the log that was there before, in the same session."""
    await follower.fetch(position())
    await bench.update(partition(isr=(1, 2), topic_id="another"))
    append(bench, b"a")
    await follower.fetch(position(topic_id="another"))
    replica = bench.manager.replicas[TP]
    assert ends(replica)[2] == 0
    await follower.fetch(position(1, topic_id="another", last_fetched_epoch=0))
    assert replica.core.log_state.high_watermark == 1


async def test_who_was_at_the_end_counts_as_caught_up_until_its_last_fetch(
    bench: Bench, follower: Follower
) -> None:
    """And not until it was named last: it would be dropped from the ISR with the next record."""
    await follower.fetch(position(), position(0, OTHER))
    for _ in range(20):
        bench.clock.now_ms += LAG_MS // 2
        await follower.fetch()
    replica = bench.manager.replicas[TP]
    bench.clock.now_ms += LAG_MS // 2
    append(bench, b"a")
    replica.check_lag()
    assert replica.core.pending_proposal is None
    assert caught_up_ms(bench) == bench.clock.now_ms - LAG_MS // 2
    bench.clock.now_ms += LAG_MS
    replica.check_lag()
    assert replica.core.pending_proposal is not None


async def test_doubt_hears_of_fetches_that_name_nothing(bench: Bench, follower: Follower) -> None:
    await follower.fetch(position())
    bench.clock.now_ms += 10_000
    replica = bench.manager.replicas[TP]
    replica.settle_watches()
    assert replica.core.doubt(bench.clock.now_ms, LAG_MS) is not None
    await follower.fetch()
    replica.settle_watches()
    assert replica.core.doubt(bench.clock.now_ms, LAG_MS) is None


async def test_who_is_outside_is_counted_with_every_fetch(bench: Bench, follower: Follower) -> None:
    """Whether it may join hangs on what nobody tells the partition: who lives, and when it was
    refused."""
    outsider = Follower(follower.handler, replica_id=3)
    replica = bench.manager.replicas[TP]
    eligible = bench.metadata.eligible.pop(3)
    await outsider.fetch(position())
    assert replica.core.pending_proposal is None
    bench.metadata.eligible[3] = eligible
    await outsider.fetch()
    assert replica.core.pending_proposal is not None


async def test_what_was_fetched_before_a_gap_in_the_versions_does_not_count_after_it(
    bench: Bench, follower: Follower
) -> None:
    await follower.fetch(position())
    append(bench, b"a")
    await follower.fetch(position(1, last_fetched_epoch=0))
    await follower.fetch()
    replica = bench.manager.replicas[TP]
    await bench.update(partition(isr=(1, 2), version=5))
    replica.settle_watches()
    assert ends(replica)[2] == -1
    await follower.fetch()
    assert ends(replica)[2] == 1


async def test_who_was_silent_longest_makes_room(bench: Bench) -> None:
    await bench.lead(1, 2, 3)
    handler = FetchHandler(bench.manager.find, bench.clock)
    sessions = handler._followers.sessions = FollowerSessions(bench.clock, most=1)
    one, other = Follower(handler), Follower(handler, replica_id=3)
    await one.fetch(position())
    await other.fetch(position())
    assert list(sessions._sessions) == [3]
    with pytest.raises(FetchSessionIdNotFoundError):
        await one.fetch()
    assert list(bench.manager.replicas[TP]._watches) == [3]


async def test_who_follows_nothing_that_is_here_takes_no_memory(
    bench: Bench, follower: Follower
) -> None:
    stranger = Follower(follower.handler, replica_id=77)
    response = await stranger.fetch(position(), position(0, TopicPartition("nowhere", 3)))
    assert all(each.error is not None for each in response.results)
    assert response.session_id == 0
    assert not follower.handler._followers.sessions._sessions
    await follower.fetch(position())
    response = await follower.fetch(position(0, TopicPartition("nowhere", 3)))
    (session,) = follower.handler._followers.sessions._sessions.values()
    assert (list(session.followed), session.due) == ([TP], {})
