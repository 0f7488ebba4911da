"""The work of the controller's core on brokers: failures, starts, settings, shutdowns, disks."""

from __future__ import annotations

import pytest

from minikafka.core.control.context import BrokerBatch
from minikafka.errors import (
    IneligibleReplicaError,
    InvalidConfigError,
    InvalidRequestError,
    MinikafkaError,
    StaleBrokerEpochError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition
from tests.helpers.controller_bench import (
    ALL,
    TP,
    Bench,
    alter,
    kinds,
    proposal,
    reasons,
    shut_down,
)

# --- failure and start batches -------------------------------------------------------------------


def test_dead_and_bounced_brokers_fail_in_one_batch(five: Bench) -> None:
    """A bounced member whose disk is gone must not be elected because the dead one failed first."""
    five.kill(1)
    five.register(2, storage_id="empty")
    before = len(five.commands)
    assert five.see_brokers() == BrokerBatch(dead=(1,), bounced=(2,))
    assert five.line() == "Leader=C Epoch=1 ISR={C,D,E}"
    assert reasons(five)[-1] == "A died, B lost its log"
    assert len(five.commands) == before + 1


def test_a_bounced_leader_without_others_leads_again_two_epochs_on() -> None:
    bench = Bench()
    bench.register(1)
    bench.elect()
    bench.create("t", [1])
    bench.register(1)
    bench.see_brokers()
    assert bench.line() == "Leader=A Epoch=2 ISR={A}"
    assert reasons(bench)[1:] == [
        "A restarted, nobody in sync is left",
        "A is back with its log",
    ]


def test_a_lost_disk_leaves_the_isr_even_as_the_last_member(five: Bench) -> None:
    five.kill(1, 2, 3, 4, 5)
    five.see_brokers()
    five.register(2, dirty=True)
    five.see_brokers()
    assert five.line() == "Leader=none Epoch=2 ISR={A,C,D,E}"
    five.register(3, storage_id="new")
    five.see_brokers()
    assert five.line() == "Leader=none Epoch=3 ISR={A,D,E}"


def test_storage_is_judged_in_the_failure_batch_too() -> None:
    bench = Bench()
    bench.register(1, 2)
    bench.elect()
    bench.create("t", [1, 2])
    bench.kill(2)
    bench.see_brokers()
    bench.register(1, storage_id="new")
    bench.see_brokers()
    assert bench.line() == "Leader=none Epoch=2 ISR={}"
    bench.register(2)
    bench.see_brokers()
    assert bench.line() == "Leader=none Epoch=2 ISR={}"


def test_a_dirty_broker_that_has_been_admitted_again_is_as_good_as_any(five: Bench) -> None:
    five.register(2, dirty=True)
    five.see_brokers()
    assert alter(five, proposal(five, *ALL))[0].error is None
    five.elect()
    assert five.line() == "Leader=A Epoch=1 ISR={A,B,C,D,E}"


def test_unclean_elections_happen_where_the_topic_allows_them(five: Bench) -> None:
    five.create("safe", [1, 2])
    five.create("loose", [1, 2])
    for bench_id in (2, 1):
        five.kill(bench_id)
        five.see_brokers()
    five.register(2)
    five.unclean_topics.add("loose")
    five.see_brokers()
    assert five.line("safe") == "Leader=none Epoch=2 ISR={A}"
    assert five.line("loose") == "Leader=B Epoch=3 ISR={B}"
    assert five.core.counters.unclean_elections == 1
    five.unclean_topics.add("safe")
    five.run(five.core.on_configs())
    assert five.line("safe") == "Leader=B Epoch=3 ISR={B}"
    assert five.changes[-1].unclean


def test_nothing_happens_when_the_brokers_are_as_they_were(five: Bench) -> None:
    before = len(five.commands)
    assert five.see_brokers() == BrokerBatch()
    assert five.messages() == {}
    assert len(five.commands) == before


# --- settings of brokers -------------------------------------------------------------------------


def test_overrides_of_a_broker_and_of_all_are_merged_and_taken_away(five: Bench) -> None:
    for broker in ("2", "<default>", ""):
        changes = {"log.retention.ms": "5", "log.roll.ms": None}
        assert five.run(five.core.alter_broker_config(broker, changes)) == [(broker, None)]
    five.run(five.core.alter_broker_config("2", {"log.roll.ms": "6"}))
    five.run(five.core.alter_broker_config("2", {"log.retention.ms": None}))
    assert five.zookeeper.broker_configs == {
        "2": {"log.roll.ms": "6"},
        "<default>": {"log.retention.ms": "5"},
    }


@pytest.mark.parametrize(
    ("broker", "changes", "error", "said"),
    [
        ("9", {"log.roll.ms": "6"}, InvalidRequestError, "no live broker 9: there are 1, 2, 3"),
        ("A", {"log.roll.ms": "6"}, InvalidRequestError, "'A' is no broker"),
        ("1", {"log.roll.ms": "soon"}, InvalidConfigError, "log.roll.ms=soon"),
        ("<default>", {"broker.id": "6"}, InvalidConfigError, "cannot be altered"),
    ],
)
def test_settings_that_a_broker_cannot_have_are_not_written(
    five: Bench,
    broker: str,
    changes: dict[str, str | None],
    error: type[MinikafkaError],
    said: str,
) -> None:
    [(name, refused)] = five.run(five.core.alter_broker_config(broker, changes))
    assert name == broker
    assert isinstance(refused, error)
    assert said in str(refused)
    assert five.zookeeper.broker_configs == {}


def test_what_is_set_for_a_broker_that_is_gone_can_be_taken_away(five: Bench) -> None:
    five.zookeeper.broker_configs["9"] = {"log.roll.ms": "6", "no.such": "thing"}
    changes = {"log.roll.ms": None, "no.such": None}
    assert five.run(five.core.alter_broker_config("9", changes)) == [("9", None)]
    assert five.zookeeper.broker_configs["9"] == {}


# --- controlled shutdown -------------------------------------------------------------------------


def test_a_leaver_hands_over_and_is_out_until_its_next_incarnation(five: Bench) -> None:
    assert shut_down(five, 1) == []
    assert five.line() == "Leader=B Epoch=1 ISR={B,C,D,E}"
    assert reasons(five)[-1] == "A is shutting down"
    back = proposal(five, 2, 3, 4, 5, 1)
    assert isinstance(alter(five, back, broker_id=2)[0].error, IneligibleReplicaError)
    five.register(1)
    five.see_brokers()
    back = proposal(five, 2, 3, 4, 5, 1)
    assert alter(five, back, broker_id=2)[0].error is None


def test_everybody_hears_who_is_leaving(five: Bench) -> None:
    five.create("elsewhere", [1])
    five.messages()
    shut_down(five, 5)
    assert sorted(five.messages()) == [1, 2, 3, 4, 5]
    assert five.core.context.shutting_down == {5: five.epoch(5)}


def test_the_last_member_stays_and_is_reported(five: Bench) -> None:
    five.create("single", [1])
    for broker_id in (2, 3, 4, 5):
        shut_down(five, broker_id)
    assert shut_down(five, 1) == [TP]
    assert five.line() == "Leader=A Epoch=4 ISR={A}"
    five.kill(1)
    five.see_brokers()
    assert five.line() == "Leader=none Epoch=5 ISR={A}"


def test_a_stranger_cannot_shut_down(five: Bench) -> None:
    with pytest.raises(StaleBrokerEpochError):
        five.run(five.core.on_controlled_shutdown(1, five.epoch(1) - 1))


# --- failed disks --------------------------------------------------------------------------------


def test_a_failed_replica_leaves_until_its_next_incarnation(five: Bench) -> None:
    topic_id = five.core.context.topics["t"].topic_id
    other = TopicPartition("t", 1)
    report = [(TP, topic_id), (TP, "another"), (other, topic_id), (TopicPartition("x", 0), "x")]
    results = five.run(five.core.on_failed_replicas(1, five.epoch(1), report))
    assert kinds(results) == [
        (TP, None),
        (TP, UnknownTopicOrPartitionError),
        (TopicPartition("t", 1), UnknownTopicOrPartitionError),
        (TopicPartition("x", 0), UnknownTopicOrPartitionError),
    ]
    assert five.line() == "Leader=B Epoch=1 ISR={B,C,D,E}"
    back = proposal(five, 2, 3, 4, 5, 1)
    assert isinstance(alter(five, back, broker_id=2)[0].error, IneligibleReplicaError)
    five.run(five.core.on_failed_replicas(3, five.epoch(3), [(TP, topic_id)]))
    five.register(1)
    five.see_brokers()
    assert set(five.core.context.failed_replicas[TP]) == {3}
    five.register(3)
    five.see_brokers()
    assert five.core.context.failed_replicas == {}


# --- producer ids --------------------------------------------------------------------------------


def test_producer_ids_are_for_live_incarnations(five: Bench) -> None:
    allocate = five.core.allocate_producer_ids
    assert five.run(allocate(1, five.epoch(1))) == (0, 1000)
    assert five.run(allocate(2, five.epoch(2))) == (1000, 2000)
    with pytest.raises(StaleBrokerEpochError):
        five.run(allocate(1, 0))
