"""dashboard/state.py: what is seen becomes events with reasons, and messages to the browsers."""

from __future__ import annotations

from minikafka.model import TopicPartition
from minikafka.watching.board import BrokerCame, ControllerChanged, PartitionChanged, TopicDeleted
from tests.helpers.dashboard import Watched, broker_info, partition, sample

ORDERS_0 = TopicPartition("orders", 0)


def test_what_was_so_at_the_first_look_is_no_event() -> None:
    watched = Watched()
    watched.begin(partitions=2)
    assert watched.events == []
    picture = watched.state.picture
    assert [broker.status for broker in picture.brokers.values()] == ["live"] * 3
    assert picture.controller.controller_id == 1
    assert len(picture.partitions) == 2
    assert {kind for kind, _ in watched.published} == {"views"}


def test_a_killed_follower_is_told_in_the_order_in_which_it_was_seen() -> None:
    watched = Watched()
    watched.begin()
    watched.see_process(3, "ended")
    watched.see_gone(3)
    watched.see_state(leader=1, epoch=1, isr=(1, 2), version=1)
    assert watched.told == [
        ("broker C's process ended", ""),
        ("broker C left the cluster", "its process ended, and then its session"),
        ("orders-0 Leader=A Epoch=1 ISR={A,B}", "C died"),
    ]
    assert [event.tone for event in watched.events] == ["bad", "bad", "bad"]
    assert [kind for kind, _ in watched.published][-3:] == ["event"] * 3


def test_a_broker_that_comes_back_catches_up() -> None:
    watched = Watched()
    watched.begin()
    watched.see_process(3, "ended")
    watched.see_gone(3)
    watched.see_state(leader=1, epoch=1, isr=(1, 2), version=1)
    watched.now_ms += 30_000
    watched.see_process(3, "running")
    watched.see(BrokerCame(broker_info(3, broker_epoch=9)))
    watched.see_state(leader=1, epoch=1, isr=(1, 2, 3), version=2)
    assert watched.told[-3:] == [
        ("broker C's process began", ""),
        ("broker C is in the cluster", ""),
        ("orders-0 Leader=A Epoch=1 ISR={A,B,C}", "C came back and caught up"),
    ]
    assert [event.tone for event in watched.events[-3:]] == ["note", "good", "good"]


def test_a_paused_broker_is_the_reason_that_its_session_expires() -> None:
    watched = Watched()
    watched.begin()
    watched.see_process(2, "paused")
    watched.see_gone(2)
    watched.see_state(leader=1, epoch=1, isr=(1, 3), version=1)
    watched.see_process(2, "running")
    assert watched.told == [
        ("broker B is paused", ""),
        ("broker B left the cluster", "it is paused, and its session expired"),
        ("orders-0 Leader=A Epoch=1 ISR={A,C}", "B is paused"),
        ("broker B goes on", ""),
    ]
    assert watched.state.picture.brokers[2].status == "starting", "it has no session yet"


def test_a_shutdown_is_known_when_it_is_over() -> None:
    watched = Watched()
    watched.begin()
    event = watched.see_state(leader=2, epoch=1, isr=(2, 3), version=1)
    assert event.reason == "unknown: A is alive"
    watched.now_ms += 300
    watched.see_gone(1)
    watched.see_process(1, "ended")
    assert watched.told == [
        ("orders-0 Leader=B Epoch=1 ISR={B,C}", "A shut down"),
        ("broker A left the cluster", "it shut down"),
        ("broker A's process ended", ""),
    ]
    amended = [document for kind, document in watched.published if kind == "event"]
    assert [(each["number"], each["reason"]) for each in amended[:2]] == [
        (1, "unknown: A is alive"),
        (1, "A shut down"),
    ]


def test_a_broker_that_ends_long_after_it_left_an_isr_did_not_shut_down_then() -> None:
    watched = Watched()
    watched.begin()
    watched.see_state(leader=1, epoch=1, isr=(1, 2), version=1)
    watched.now_ms += 60_000
    watched.see_gone(3)
    assert watched.told == [
        ("orders-0 Leader=A Epoch=1 ISR={A,B}", "unknown: C is alive"),
        ("broker C left the cluster", "its session with ZooKeeper ended"),
    ]


def test_a_follower_that_its_leader_says_is_behind_fell_behind() -> None:
    watched = Watched()
    watched.begin()
    lagging = sample(1_000, 400, A=1_000, B=1_000)
    replicas = (*lagging.replicas, (3, 400, 30_000))
    state = watched.state
    state.on_offsets(watched.now_ms, {ORDERS_0: type(lagging)(0, 400, 1_000, replicas)})
    event = watched.see_state(leader=1, epoch=1, isr=(1, 2), version=1)
    assert event.reason == "C fell behind (600 records, 30.0 s)"


def test_an_end_of_an_older_incarnation_is_no_news() -> None:
    watched = Watched()
    watched.begin()
    watched.see(BrokerCame(broker_info(3, broker_epoch=5)))
    before = len(watched.events)
    watched.see_gone(3)  # broker epoch 1
    assert len(watched.events) == before
    assert watched.state.picture.brokers[3].registered


def test_a_new_controller_has_the_reason_that_the_old_one_is_gone() -> None:
    watched = Watched()
    watched.begin()
    watched.see_process(1, "ended")
    watched.state.on_controller_gone(watched.now_ms, 1)
    watched.see(ControllerChanged(2, 2))
    assert watched.told[1:] == [
        ("no controller", "A died"),
        ("controller B (epoch 2)", ""),
    ]


def test_that_an_older_controller_is_gone_is_no_news_once_another_is_elected() -> None:
    watched = Watched()
    watched.begin()
    watched.see(ControllerChanged(2, 2))
    watched.state.on_controller_gone(watched.now_ms, 1)
    assert watched.state.picture.controller.controller_id == 2


def test_sources_that_fall_silent_and_are_heard_again_are_told_once_each() -> None:
    watched = Watched()
    watched.begin()
    state, now_ms = watched.state, watched.now_ms
    state.on_source(now_ms, "zookeeper", True)
    state.on_source(now_ms, "zookeeper", False, "connection refused")
    state.on_source(now_ms, "zookeeper", False, "still refused")
    state.on_source(now_ms, "zookeeper", True)
    state.on_source(now_ms, "brokers", False, "nobody answers")
    assert watched.told == [
        ("ZooKeeper: nothing is heard", "connection refused"),
        ("ZooKeeper: heard again", ""),
        ("the brokers: nothing is heard", "nobody answers"),
    ]


def test_a_deleted_topic_takes_its_offsets_along() -> None:
    watched = Watched()
    watched.begin()
    watched.state.on_offsets(watched.now_ms, {ORDERS_0: sample(5, A=5)})
    watched.see(TopicDeleted("orders"))
    assert watched.told == [("topic orders was deleted", "")]
    assert watched.state.offsets.now() == {}


def test_a_topic_that_is_made_while_one_looks_was_created() -> None:
    watched = Watched()
    watched.begin()
    watched.see(PartitionChanged(partition(topic="new", topic_id="other"), None))
    assert watched.told == [("new-0 Leader=A Epoch=0 ISR={A,B,C}", "created")]
    assert watched.events[0].tone == "note"


def test_a_browser_that_comes_late_gets_everything_that_is_kept() -> None:
    watched = Watched(history_limit=2)
    watched.begin()
    for version in (1, 2, 3):
        watched.now_ms += 1_000
        watched.see_state(leader=1, epoch=version, isr=(1, 2), version=version)
    watched.state.on_offsets(watched.now_ms, {ORDERS_0: sample(7, A=7, B=7)})
    whole = watched.state.whole(watched.now_ms)
    assert [event["view"]["epoch"] for event in whole["events"]] == [2, 3]
    assert (whole["dropped"], whole["limit"]) == (1, 2)
    assert whole["samples"]["orders-0"][2] == 7
    kinds = [view["kind"] for view in whole["views"]]
    assert kinds == ["controller", "broker", "broker", "broker", "partition"]


def test_open_transactions_are_told_when_they_change() -> None:
    watched = Watched()
    watched.begin()
    document = {"open": 1, "transactions": [{"transactional_id": "x"}]}
    for _ in range(2):
        watched.state.on_transactions(document)
    assert watched.published[-1] == ("transactions", document)
    assert [kind for kind, _ in watched.published].count("transactions") == 1
    assert watched.state.whole(watched.now_ms)["transactions"] == document


def test_the_past_has_the_offsets_of_then() -> None:
    watched = Watched()
    watched.begin()
    state = watched.state
    state.on_offsets(watched.now_ms, {ORDERS_0: sample(5, A=5)})
    watched.now_ms += 1_000
    event = watched.see_state(leader=2, epoch=1, isr=(2, 3), version=1)
    watched.now_ms += 1_000
    state.on_offsets(watched.now_ms, {ORDERS_0: sample(9, B=9)})
    past = state.past(state.history.after(event.number), event.at_ms)
    assert past["samples"]["orders-0"][:3] == [0, 5, 5]
    assert past["views"][-1]["leader"] == 2


def test_the_flow_of_records_is_told_every_second_and_what_rests_is_told_once_more() -> None:
    watched = Watched()
    watched.begin()
    state = watched.state
    for end in (0, 500, 1_000, 1_500):
        state.on_offsets(watched.now_ms, {ORDERS_0: sample(end, A=end)})
        state.on_second(watched.now_ms)
        watched.now_ms += 500
    assert state.flow[-1][1] == 1_000.0
    watched.published.clear()
    for _ in range(12):
        watched.now_ms += 1_000
        state.on_offsets(watched.now_ms, {ORDERS_0: sample(1_500, A=1_500)})
        state.on_second(watched.now_ms)
    flows = [document for kind, document in watched.published if kind == "flow"]
    assert flows[-1] == {"at": watched.now_ms, "rate": 0.0, "samples": {}}
    told = [flow["samples"]["orders-0"][4] for flow in flows if flow["samples"]]
    assert told == [0.0], "that it rests is told once"
    assert "offsets" not in [kind for kind, _ in watched.published], "nothing has moved"


def test_znodes_come_and_go() -> None:
    state = (watched := Watched()).state
    state.on_tree({"/a": {"data": "1"}, "/a/b": {"data": "2"}}, [])
    state.on_tree({"/a": {"data": "3"}}, ["/a/b", "/never"])
    assert state.tree == {"/a": {"data": "3"}}
    assert watched.published[-1] == ("tree", {"changed": {"/a": {"data": "3"}}, "gone": ["/a/b"]})
