"""dashboard/history.py: events in, the picture at any time out."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikafka.dashboard.history import (
    BrokerView,
    ControllerView,
    History,
    Picture,
    SourceView,
    TopicGone,
    View,
)
from minikafka.model import TopicPartition
from tests.helpers.dashboard import broker_view, partition_view

ORDERS_0 = TopicPartition("orders", 0)


def test_the_picture_of_a_moment_has_the_events_up_to_it_and_none_after() -> None:
    history = History(1_000)
    history.begin(partition_view(leader=1, epoch=0))
    history.record(2_000, partition_view(leader=1, epoch=1, isr=(1, 2)), "C died")
    history.record(3_000, partition_view(leader=2, epoch=2, isr=(2,)), "A died")

    def seen(moment_ms: int) -> tuple[int, tuple[int, ...]]:
        found = history.at(moment_ms).partitions[ORDERS_0]
        return found.leader_epoch, found.isr

    assert seen(1_999) == (0, (1, 2, 3))
    assert seen(2_000) == (1, (1, 2))
    assert seen(2_999) == (1, (1, 2))
    assert seen(3_000) == (2, (2,))
    assert history.at(9_999) == history.now


def test_events_of_one_millisecond_are_told_apart_by_number() -> None:
    history = History(0)
    first = history.record(5, ControllerView(1, 1), "A")
    second = history.record(5, ControllerView(2, 2), "B")
    assert history.after(first.number).controller.controller_id == 1
    assert history.after(second.number).controller.controller_id == 2
    assert history.at(5).controller.controller_id == 2


def test_a_deleted_topic_is_gone_after_and_there_before() -> None:
    history = History(0)
    history.begin(partition_view(0))
    history.begin(partition_view(0, topic="payments"))
    history.record(10, TopicGone("orders"), "deleted")
    assert [str(key) for key in history.now.partitions] == ["payments-0"]
    assert ORDERS_0 in history.at(9).partitions


def test_what_is_older_than_the_limit_is_folded_into_the_beginning() -> None:
    history = History(0, limit=2)
    for number in range(1, 5):
        history.record(number * 10, ControllerView(1, number), str(number))
    assert [event.text for event in history.events] == ["3", "4"]
    assert history.dropped == 2
    assert history.began_ms == 20
    assert history.at(0).controller.controller_epoch == 2, "the beginning, as far as it is kept"
    assert history.at(30).controller.controller_epoch == 3


def test_a_clock_that_is_set_back_does_not_put_events_out_of_order() -> None:
    history = History(1_000)
    history.record(5_000, ControllerView(1, 1), "before")
    assert history.record(2_000, ControllerView(2, 2), "after").at_ms == 5_000
    assert History(1_000).record(10, ControllerView(1, 1), "").at_ms == 1_000


def test_a_better_reason_takes_the_place_of_the_old_one_while_the_event_is_kept() -> None:
    history = History(0, limit=2)
    first = history.record(1, ControllerView(1, 1), "x", "unknown")
    second = history.record(2, ControllerView(1, 2), "y", "unknown")
    amended = history.amend(second.number, "known")
    assert amended is not None
    assert (amended.number, amended.text, amended.reason) == (second.number, "y", "known")
    assert [event.reason for event in history.events] == ["unknown", "known"]
    history.record(3, ControllerView(1, 3), "z")
    assert history.amend(first.number, "known") is None


def test_what_a_process_does_counts_before_what_zookeeper_has_noticed() -> None:
    statuses = {
        (registered, process): broker_view(1, registered, process).status
        for registered in (True, False)
        for process in ("", "running", "paused", "ended")
    }
    assert statuses == {
        (True, ""): "live",
        (True, "running"): "live",
        (True, "paused"): "paused",
        (True, "ended"): "dead",
        (False, ""): "dead",
        (False, "running"): "starting",
        (False, "paused"): "paused",
        (False, "ended"): "dead",
    }


def test_leaderless_and_under_replicated_partitions_are_counted() -> None:
    picture = Picture()
    picture.apply(partition_view(0))
    picture.apply(partition_view(1, isr=(1, 2)))
    picture.apply(partition_view(2, leader=-1, isr=(3,)))
    assert (picture.leaderless, picture.under_replicated) == (1, 2)
    assert picture.name(2) == "B"


views = st.one_of(
    st.builds(lambda id_, up: broker_view(id_, up), st.integers(1, 3), st.booleans()),
    st.builds(
        lambda number, epoch: partition_view(number, epoch=epoch),
        st.integers(0, 3),
        st.integers(0, 9),
    ),
    st.builds(ControllerView, st.integers(-1, 3), st.integers(0, 9)),
    st.builds(SourceView, st.sampled_from(["brokers", "zookeeper"]), st.booleans()),
    st.just(TopicGone("orders")),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 20), views), max_size=40), st.integers(1, 10))
def test_any_moment_that_is_kept_looks_as_it_looked_then(
    steps: list[tuple[int, View]], limit: int
) -> None:
    history, now_ms, looked = History(0, limit), 0, {}
    for step_ms, view in steps:
        now_ms += step_ms
        event = history.record(now_ms, view, "")
        looked[event.number] = history.now.copy()
    for event in history.events:
        assert history.after(event.number) == looked[event.number]
    kept = list(history.events)
    assert [e.number for e in kept] == list(range(history.dropped + 1, len(steps) + 1))
    assert len(kept) == min(limit, len(steps))


def test_a_copy_does_not_change_with_the_original() -> None:
    picture = Picture()
    copy = picture.copy()
    picture.apply(BrokerView(1, "A", True))
    assert copy == Picture()
