"""The merged picture: what is news, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence

from minikafka.api.requests import ClusterUpdate
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.watching.board import (
    Board,
    BrokerCame,
    BrokerGone,
    ControllerChanged,
    PartitionChanged,
    TopicDeleted,
    is_leaderless,
    is_under_replicated,
)

FIRST, SECOND = "h:1", "h:2"


def broker(broker_id: int, broker_epoch: int = 10, name: str = "") -> BrokerInfo:
    return BrokerInfo(
        broker_id, name or chr(64 + broker_id), "h", broker_id, broker_epoch=broker_epoch
    )


def partition(
    leader: int = 1,
    leader_epoch: int = 0,
    isr: tuple[int, ...] = (1, 2, 3),
    version: int = 0,
    topic_id: str = "t1",
    number: int = 0,
) -> PartitionMetadata:
    return PartitionMetadata(
        TopicPartition("orders", number),
        topic_id,
        Assignment((1, 2, 3)),
        PartitionState(leader, leader_epoch, isr, 1, version),
    )


def update(
    partitions: Sequence[PartitionMetadata] = (),
    brokers: Sequence[BrokerInfo] | None = None,
    deleted: Sequence[tuple[str, str]] = (),
    controller: tuple[int, int] = (-1, -1),
) -> ClusterUpdate:
    return ClusterUpdate(partitions, deleted, brokers, *controller)


def test_a_change_is_told_in_the_words_of_the_slide() -> None:
    board = Board()
    [change] = board.apply(FIRST, update([partition(isr=(1, 2, 3))]))
    assert board.describe_change(change) == "orders-0 Leader=A Epoch=0 ISR={A,B,C}"
    [change] = board.apply(FIRST, update([partition(leader_epoch=1, isr=(1, 2), version=1)]))
    assert board.describe_change(change) == "orders-0 Leader=A Epoch=1 ISR={A,B}"


def test_a_partition_without_leader_is_told_so() -> None:
    board = Board()
    [change] = board.apply(FIRST, update([partition(leader=-1, isr=(3,))]))
    assert board.describe_change(change) == "orders-0 Leader=none Epoch=0 ISR={C}"


def test_the_names_of_brokers_are_used_also_of_those_that_are_gone() -> None:
    board = Board(names={2: "old"})
    board.apply(FIRST, update(brokers=[broker(1, name="anna")]))
    [change] = board.apply(FIRST, update([partition()]))
    assert board.describe_change(change) == "orders-0 Leader=anna Epoch=0 ISR={anna,old,C}"


def test_what_a_second_broker_tells_again_is_no_news() -> None:
    board = Board()
    told = update([partition()], [broker(1)], controller=(1, 4))
    assert board.apply(FIRST, told) != []
    assert board.apply(SECOND, told) == []


def test_an_older_version_is_no_news() -> None:
    board = Board()
    newer = partition(leader_epoch=1, version=5)
    board.apply(FIRST, update([newer]))
    assert board.apply(SECOND, update([partition(version=4)])) == []
    assert board.partitions[TopicPartition("orders", 0)] == newer


def test_a_change_knows_the_state_before() -> None:
    board = Board()
    old, new = partition(), partition(version=1)
    assert board.apply(FIRST, update([old])) == [PartitionChanged(old, None)]
    assert board.apply(FIRST, update([new])) == [PartitionChanged(new, old.state)]


def test_a_topic_made_anew_under_its_name_begins_anew() -> None:
    board = Board()
    board.apply(FIRST, update([partition(version=9)]))
    anew = partition(topic_id="t2")
    assert board.apply(FIRST, update([anew])) == [PartitionChanged(anew, None)]


def test_a_deleted_topic_stays_deleted_when_a_slow_broker_still_tells_of_it() -> None:
    board = Board()
    board.apply(FIRST, update([partition(), partition(number=1)]))
    assert board.apply(FIRST, update(deleted=[("orders", "t1")])) == [TopicDeleted("orders")]
    assert board.apply(SECOND, update([partition(version=7)])) == []
    assert board.apply(SECOND, update(deleted=[("orders", "t1")])) == []
    assert board.partitions == {}


def test_a_broker_goes_once_and_its_next_incarnation_comes() -> None:
    board = Board()
    board.apply(FIRST, update(brokers=[broker(1), broker(2)]))
    board.apply(SECOND, update(brokers=[broker(1), broker(2)]))
    assert board.apply(FIRST, update(brokers=[broker(1)])) == [BrokerGone(broker(2))]
    assert board.apply(SECOND, update(brokers=[broker(1)])) == []
    again = broker(2, broker_epoch=20)
    assert board.apply(FIRST, update(brokers=[broker(1), again])) == [BrokerCame(again)]
    assert board.apply(SECOND, update(brokers=[broker(1), again])) == []
    assert sorted(board.brokers) == [1, 2]


def test_a_slow_broker_that_tells_of_one_that_is_gone_brings_it_not_back() -> None:
    board = Board()
    board.apply(FIRST, update(brokers=[broker(1), broker(2)]))
    board.apply(FIRST, update(brokers=[broker(1)]))
    assert board.apply(SECOND, update(brokers=[broker(1), broker(2)])) == []
    assert sorted(board.brokers) == [1]


def test_a_broker_that_bounced_unseen_is_told_as_gone_and_come() -> None:
    board = Board()
    board.apply(FIRST, update(brokers=[broker(1)]))
    again = broker(1, broker_epoch=30)
    changes = board.apply(FIRST, update(brokers=[again]))
    assert changes == [BrokerGone(broker(1)), BrokerCame(again)]
    assert board.brokers == {1: again}


def test_a_broker_that_knows_nobody_yet_after_its_start_makes_nobody_disappear() -> None:
    board = Board()
    board.apply(FIRST, update(brokers=[broker(1), broker(2)]))
    assert board.apply(FIRST, update(brokers=[])) == []
    [came] = board.apply(FIRST, update(brokers=[broker(1), broker(2, 11)]))[1:]
    assert came == BrokerCame(broker(2, 11))
    assert board.brokers == {1: broker(1), 2: broker(2, 11)}


def test_a_controller_is_news_if_its_epoch_is_higher() -> None:
    board = Board()
    assert board.apply(FIRST, update(controller=(1, 3))) == [ControllerChanged(1, 3)]
    assert board.apply(SECOND, update(controller=(2, 2))) == []
    assert board.apply(SECOND, update(controller=(2, 4))) == [ControllerChanged(2, 4)]
    assert (board.controller_id, board.controller_epoch) == (2, 4)


def test_every_kind_of_change_has_words() -> None:
    board = Board()
    board.apply(FIRST, update(brokers=[broker(1)]))
    words = [
        board.describe_change(change)
        for change in (
            BrokerCame(broker(1)),
            BrokerGone(broker(1)),
            ControllerChanged(1, 7),
            TopicDeleted("orders"),
        )
    ]
    assert words == [
        "broker A is in the cluster",
        "broker A left the cluster",
        "controller A (epoch 7)",
        "topic orders was deleted",
    ]


def test_leaderless_and_under_replicated_are_told_apart() -> None:
    assert not is_leaderless(partition())
    assert is_leaderless(partition(leader=-1))
    assert not is_under_replicated(partition())
    assert is_under_replicated(partition(isr=(1, 2)))
