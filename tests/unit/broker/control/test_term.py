"""The controller's runtime over a ZooKeeper and brokers in memory: terms, trouble, requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import (
    AllocateProducerIdsRequest,
    AlterPartitionRequest,
    AlterTopicConfigRequest,
    ControlledShutdownRequest,
    CreatePartitionsRequest,
    CreateTopic,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    ElectLeadersRequest,
    IsrProposal,
    ReportFailedReplicas,
    UpdateStateResponse,
)
from minikafka.broker.control import term
from minikafka.broker.control.candidate import ControllerRuntime
from minikafka.broker.ports import (
    ClusterStore,
    ControllerElection,
    SessionLostError,
    StoreEvent,
    UnreadableNodeError,
)
from minikafka.config import parse_broker_config
from minikafka.core.control.incarnation import storage_mark
from minikafka.errors import (
    KafkaStorageError,
    NetworkError,
    NotControllerError,
    RequestTimedOutError,
    StaleBrokerEpochError,
    StaleControllerEpochError,
    TopicDeletionDisabledError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import (
    Assignment,
    PartitionState,
    TopicDescription,
    TopicPartition,
    describe_state,
)
from tests.helpers.cluster_store import FakeClusterStore, FakeZooKeeper
from tests.helpers.control_plane import FakePeers, eventually, quiet
from tests.helpers.controller_bench import broker

TP = TopicPartition("t", 0)


class Node:
    """A broker as far as the controller is concerned: its session, its candidate, and a main loop
    that hands store events on and registers again after LOST."""

    def __init__(self, cluster: Cluster, broker_id: int, **settings: str) -> None:
        self.id = broker_id
        self.store = FakeClusterStore(cluster.zookeeper)
        properties = {
            "broker.id": str(broker_id),
            "zookeeper.connect": "localhost:2181",
            "log.dirs": "unused",
            **settings,
        }
        self.controller = ControllerRuntime(
            self.store,
            cluster.peers,  # type: ignore[arg-type]
            parse_broker_config(properties),
            lambda request: cluster.peers.update_state(self.info(), request),
            lambda: 0,
            backoff_ms=0,
            max_waiting_requests=3,
            deletion_wait_ms=60_000,
        )
        self.registers = True
        self._cluster = cluster
        self._pump: asyncio.Task[None] | None = None

    def info(self) -> Any:
        return self._cluster.zookeeper.brokers[self.id][0]

    @property
    def epoch(self) -> int:
        return int(self.info().broker_epoch)

    async def start(self) -> None:
        await self.store.register_broker(broker(self.id))
        self._pump = asyncio.create_task(self._run())
        await self.controller.start()

    async def _run(self) -> None:
        while True:
            event = await self.store.events.get()
            self.controller.on_store_event(event)
            if event is StoreEvent.LOST and self.registers:
                epoch = await self.store.register_broker(broker(self.id))
                self.controller.on_registered(epoch)

    async def stop(self) -> None:
        await self.controller.stop()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait({self._pump})
            self._pump = None
            await self.store.close()

    async def kill(self) -> None:
        """As by SIGKILL and the end of its session."""
        await self.controller.stop(resign=False)
        assert self._pump is not None
        self._pump.cancel()
        self._pump = None
        await self.store.close()


class Cluster:
    def __init__(self) -> None:
        self.zookeeper = FakeZooKeeper()
        self.peers = FakePeers()
        self.nodes: dict[int, Node] = {}

    async def add(self, broker_id: int, **settings: str) -> Node:
        node = self.nodes[broker_id] = Node(self, broker_id, **settings)
        await node.start()
        return node

    async def controller(self) -> Node:
        """The active one, when there is one and everything has settled."""
        await eventually(
            lambda: any(node.controller.active for node in self.nodes.values()), "a controller"
        )
        await quiet()
        [active] = [node for node in self.nodes.values() if node.controller.active]
        return active

    async def create(self, name: str, *replicas: list[int]) -> None:
        request = CreateTopicsRequest([CreateTopic(name, assignments=dict(enumerate(replicas)))])
        active = await self.controller()
        response = await active.controller.controller_call(request)
        assert [result.error for result in response.results] == [None]
        await quiet()

    def line(self, tp: TopicPartition = TP) -> str:
        state = self.zookeeper.states[tp]
        return describe_state(state.leader, state.leader_epoch, state.isr, {})

    def proposal(self, *isr: int) -> AlterPartitionRequest:
        """Of broker 1, for the partition as it is."""
        state = self.zookeeper.states[TP]
        members = tuple((m, self.nodes[m].epoch) for m in isr)
        topic_id = self.zookeeper.topics["t"].topic_id
        proposed = IsrProposal(TP, topic_id, state.leader_epoch, state.partition_version, members)
        return AlterPartitionRequest(1, self.nodes[1].epoch, [proposed])


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    yield made
    async with AsyncExitStack() as stack:
        for node in made.nodes.values():
            stack.push_async_callback(node.stop)


@pytest.fixture
async def three(cluster: Cluster) -> Cluster:
    """Three brokers, the first is controller; a topic on all of them."""
    for broker_id in (1, 2, 3):
        await cluster.add(broker_id)
    await cluster.create("t", [1, 2, 3])
    return cluster


# --- terms ---------------------------------------------------------------------------------------


def test_the_fake_store_is_a_cluster_store() -> None:
    assert isinstance(FakeClusterStore(), ClusterStore)


async def test_one_of_the_brokers_is_controller_and_tells_all(three: Cluster) -> None:
    assert [node.controller.active for node in three.nodes.values()] == [True, False, False]
    assert [node.controller.controller_epoch for node in three.nodes.values()] == [1, -1, -1]
    assert three.nodes[1].controller.core is not None
    assert three.nodes[2].controller.core is None
    for broker_id, told in three.peers.brokers.items():
        assert told.partitions[TP].state == three.zookeeper.states[TP]
        assert told.live == [1, 2, 3]
        request = told.requests[-1]
        assert (request.controller_id, request.controller_epoch) == (1, 1)
        assert request.target_broker_epoch == three.nodes[broker_id].epoch


async def test_a_dead_follower_is_a_line_in_the_log(
    three: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "minikafka.controller")
    await three.nodes.pop(3).kill()
    await eventually(lambda: three.line() == "Leader=A Epoch=1 ISR={A,B}")
    await quiet()
    assert "t-0: Leader=A Epoch=1 ISR={A,B} (C died)" in caplog.messages
    assert "broker C died" in caplog.messages
    assert three.peers.brokers[2].partitions[TP].state.isr == (1, 2)
    assert three.peers.brokers[2].live == [1, 2]


async def test_the_death_of_the_controller_makes_another_that_carries_on(three: Cluster) -> None:
    await three.nodes.pop(1).kill()
    active = await three.controller()
    assert active.id in (2, 3)
    assert active.controller.controller_epoch == 2
    assert three.line() == "Leader=B Epoch=1 ISR={B,C}"
    assert three.peers.brokers[3].requests[-1].controller_epoch == 2


async def test_a_controller_that_stops_resigns(three: Cluster) -> None:
    await three.nodes[1].controller.stop()
    active = await three.controller()
    assert active.id != 1
    await three.nodes[1].controller.stop()
    with pytest.raises(NotControllerError):
        await three.nodes[1].controller.controlled_shutdown(ControlledShutdownRequest(1, 1))


async def test_a_stop_after_the_session_is_gone_is_fine(three: Cluster) -> None:
    three.nodes[1].store.inject("resign_controller", SessionLostError("gone"))
    await three.nodes[1].controller.stop()
    assert three.zookeeper.controller is not None


async def test_a_deposed_controller_stops_and_stands_again(three: Cluster) -> None:
    store = three.nodes[1].store
    three.zookeeper.end_session(store._session)  # behind its back
    active = await three.controller()
    assert active.id != 1
    assert not three.nodes[1].controller.active


async def test_a_write_that_finds_the_fence_moved_deposes(three: Cluster) -> None:
    three.nodes[1].store.inject("write_states", WriteOutcome.DEPOSED)
    await three.nodes.pop(3).kill()
    await eventually(lambda: three.zookeeper.controller_epoch == 2)
    await three.controller()
    assert three.line() == "Leader=A Epoch=1 ISR={A,B}"


async def test_a_broker_that_knows_a_later_controller_deposes(three: Cluster) -> None:
    three.peers.answer(2, StaleControllerEpochError("there is a newer one"))
    await three.create("u", [1])
    await eventually(lambda: three.zookeeper.controller_epoch == 2)


async def test_any_failure_makes_it_resign_and_stand_again(
    three: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    three.nodes[1].store.inject("read_brokers", RuntimeError("a bug"))
    await three.nodes.pop(3).kill()
    await eventually(lambda: three.zookeeper.controller_epoch == 2)
    await three.controller()
    assert three.line() == "Leader=A Epoch=1 ISR={A,B}"
    assert "resigns as controller after a failure" in caplog.text


async def test_a_failed_take_over_is_not_half_done(cluster: Cluster) -> None:
    node = Node(cluster, 1)
    cluster.nodes[1] = node
    node.store.inject("read_states", SessionLostError("gone for a moment"))
    await node.start()
    await eventually(lambda: node.controller.active)
    assert node.controller.controller_epoch == 2


async def test_an_election_that_fails_is_tried_again(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(cluster, 1)
    cluster.nodes[1] = node
    node.store.inject(
        "elect_controller",
        SessionLostError("gone"),
        RuntimeError("unforeseen"),
        ControllerElection(False, -1, 0),
    )
    await node.start()
    await eventually(lambda: node.controller.active)
    assert "cannot stand for election" in caplog.text


async def test_who_waits_in_the_queue_does_not_try_until_the_one_before_it_is_gone(
    cluster: Cluster,
) -> None:
    node = Node(cluster, 1)
    cluster.nodes[1] = node
    node.store.inject("elect_controller", ControllerElection(False, 9, 4, ahead=1, candidates=2))
    await node.start()
    await quiet()
    assert node.store.out_of_turn == [False]
    node.store.events.put_nowait(StoreEvent.CANDIDATE_GONE)
    await eventually(lambda: node.controller.active)
    await eventually(lambda: bool(cluster.zookeeper.takeovers))
    [takeover] = cluster.zookeeper.takeovers
    assert (takeover.woken, takeover.waiting, takeover.controller_id) == (1, 1, 1)
    assert node.store.out_of_turn == [False, False]


async def test_a_queue_whose_head_does_nothing_does_not_hold_up_an_election(
    cluster: Cluster,
) -> None:
    node = Node(cluster, 1, **{"zookeeper.session.timeout.ms": "1"})
    cluster.nodes[1] = node
    vacant = ControllerElection(False, -1, 4, ahead=1, candidates=2)
    node.store.inject("elect_controller", vacant, vacant)
    await node.start()
    await eventually(lambda: node.controller.active)
    assert node.store.out_of_turn == [False, True, True]


async def test_who_waits_behind_a_controller_looks_again_and_does_not_try(
    cluster: Cluster,
) -> None:
    node = Node(cluster, 1, **{"zookeeper.session.timeout.ms": "1"})
    cluster.nodes[1] = node
    waits = ControllerElection(False, 9, 4, ahead=1, candidates=2)
    node.store.inject("elect_controller", *[waits] * 5)
    await node.start()
    await eventually(lambda: len(node.store.out_of_turn) > 5)
    assert not any(node.store.out_of_turn)


async def test_resigning_is_tried_until_it_is_done(three: Cluster) -> None:
    store = three.nodes[1].store
    store.inject("resign_controller", SessionLostError("gone for a moment"))
    store.inject("read_brokers", SessionLostError("gone for a moment"))
    await three.nodes.pop(3).kill()
    await eventually(lambda: three.zookeeper.controller_epoch == 2)


# --- trouble with ZooKeeper ----------------------------------------------------------------------


async def test_while_suspended_nothing_is_written_or_sent(three: Cluster) -> None:
    three.nodes[1].store.suspend()
    await quiet()
    attempts = len(three.peers.attempts)
    await three.nodes.pop(3).kill()
    proposal = asyncio.create_task(three.nodes[1].controller.alter_partition(three.proposal(1)))
    await quiet()
    assert three.line() == "Leader=A Epoch=0 ISR={A,B,C}"
    assert len(three.peers.attempts) == attempts
    assert not proposal.done()
    three.nodes[1].store.reconnect()
    response = await proposal
    # The brokers were read again before the proposal was looked at: it comes too late.
    assert [r.error and r.error.name for r in response.results] == ["FENCED_LEADER_EPOCH"]
    assert response.results[0].state == three.zookeeper.states[TP]
    assert three.line() == "Leader=A Epoch=1 ISR={A,B}"


async def test_reconnecting_reads_everything_again(three: Cluster) -> None:
    three.nodes[1].store.suspend()
    await quiet()
    await three.nodes.pop(3).kill()
    three.zookeeper.mark_topic_deleted("ghost")
    three.zookeeper.request_preferred_election([TP])
    three.nodes[1].store.reconnect()
    await eventually(lambda: three.line() == "Leader=A Epoch=1 ISR={A,B}")
    await eventually(lambda: three.zookeeper.deletions == set())
    await eventually(lambda: three.zookeeper.preferred_election is None)
    assert three.nodes[1].controller.controller_epoch == 1


async def test_reconnecting_finds_that_another_is_controller(three: Cluster) -> None:
    three.nodes[1].store.suspend()
    await quiet()
    three.zookeeper.controller = None
    three.zookeeper.elect(2, object())
    three.nodes[1].store.reconnect()
    await eventually(lambda: not three.nodes[1].controller.active)


async def test_a_lost_session_ends_the_term_at_once(three: Cluster) -> None:
    node, proposal = three.nodes[1], three.proposal(2, 3)
    node.registers = False
    three.peers.hold(2)
    waiting = asyncio.create_task(node.controller.controller_call(DeleteTopicsRequest(["t"])))
    await eventually(lambda: "t" in three.zookeeper.deletions)
    await quiet()
    node.store.expire()
    await eventually(lambda: not node.controller.active)
    assert node.controller.controller_epoch == -1
    await waiting  # it was marked, so it is done
    with pytest.raises(NotControllerError):
        await node.controller.alter_partition(proposal)
    three.peers.release(2)
    active = await three.controller()
    assert active.id != 1
    await quiet()
    assert 1 not in three.zookeeper.brokers
    node.controller.on_registered(await node.store.register_broker(broker(1)))
    await eventually(lambda: three.peers.brokers[1].live == [1, 2, 3])


async def test_an_election_won_by_a_session_that_is_lost_meanwhile_is_no_term(
    cluster: Cluster,
) -> None:
    node = Node(cluster, 1)
    cluster.nodes[1] = node

    def lose_it() -> None:
        node.controller.on_store_event(StoreEvent.LOST)

    node.store.inject("elect_controller", lose_it)
    await node.start()
    await quiet()
    assert cluster.zookeeper.controller is not None
    assert not node.controller.active
    node.controller.on_registered(node.epoch)
    await eventually(lambda: node.controller.active)


async def test_the_session_is_lost_in_the_middle_of_a_write(three: Cluster) -> None:
    three.nodes[1].store.inject("write_states", SessionLostError("the answer never came"))
    with pytest.raises(NotControllerError):
        await three.nodes[1].controller.alter_partition(three.proposal(1, 2))
    await three.controller()
    assert three.line() == "Leader=A Epoch=0 ISR={A,B,C}"


# --- requests ------------------------------------------------------------------------------------


async def test_a_leader_proposes(three: Cluster) -> None:
    response = await three.nodes[1].controller.alter_partition(three.proposal(1, 3))
    assert response.controller_epoch == 1
    assert [(r.error, r.state) for r in response.results] == [(None, three.zookeeper.states[TP])]
    assert three.line() == "Leader=A Epoch=1 ISR={A,C}"
    stale = AlterPartitionRequest(1, three.nodes[1].epoch - 1, [])
    with pytest.raises(StaleBrokerEpochError):
        await three.nodes[1].controller.alter_partition(stale)
    with pytest.raises(NotControllerError):
        await three.nodes[2].controller.alter_partition(stale)


async def test_a_broker_leaves(three: Cluster) -> None:
    request = ControlledShutdownRequest(1, three.nodes[1].epoch)
    assert list((await three.nodes[1].controller.controlled_shutdown(request)).remaining) == []
    assert three.line() == "Leader=B Epoch=1 ISR={B,C}"
    await eventually(lambda: three.peers.brokers[3].shutting_down == [1])


async def test_every_other_request_is_served(three: Cluster) -> None:
    call = three.nodes[1].controller.controller_call
    me = (1, three.nodes[1].epoch)
    topic_id = three.zookeeper.topics["t"].topic_id

    async def outcome(request: Any) -> list[tuple[str, str | None]]:
        response = await call(request)
        results = [*response.results, *response.partitions]
        return [(result.name, result.error and result.error.name) for result in results]

    topic = CreateTopic("u", 2, 3, configs={"retention.ms": "7"})
    assert await outcome(CreateTopicsRequest([topic])) == [("u", None)]
    assert len(three.zookeeper.topics["u"].topic_id) == 22
    assert await outcome(CreateTopicsRequest([topic], validate_only=True)) == [
        ("u", "TOPIC_ALREADY_EXISTS")
    ]
    assert await outcome(CreatePartitionsRequest("u", 3)) == [("u", None)]
    assert await outcome(AlterTopicConfigRequest("u", {"retention.ms": "8"})) == [("u", None)]
    assert three.zookeeper.configs["u"] == {"retention.ms": "8"}
    assert await outcome(ReportFailedReplicas(*me, [(TP, topic_id)])) == [("t-0", None)]
    assert three.line() == "Leader=B Epoch=1 ISR={B,C}"
    assert await outcome(ElectLeadersRequest(False, [TP])) == [
        ("t-0", "PREFERRED_LEADER_NOT_AVAILABLE")
    ]
    assert await outcome(ElectLeadersRequest(True, [TP])) == [("t-0", "ELECTION_NOT_NEEDED")]
    block = await call(AllocateProducerIdsRequest(*me))
    assert (block.producer_id_start, block.producer_id_end) == (0, 1000)
    assert await outcome(DeleteTopicsRequest(["u", "x"])) == [
        ("u", None),
        ("x", "UNKNOWN_TOPIC_OR_PARTITION"),
    ]
    assert "u" not in three.zookeeper.topics


async def test_producer_ids_are_not_given_by_a_controller_that_was_deposed(three: Cluster) -> None:
    three.zookeeper.controller_epoch += 1
    with pytest.raises(NotControllerError):
        await three.nodes[1].controller.controller_call(
            AllocateProducerIdsRequest(1, three.nodes[1].epoch)
        )


async def test_an_error_of_the_store_is_no_answer_but_the_end_of_the_term(three: Cluster) -> None:
    three.nodes[1].store.inject("write_topic_config", UnknownTopicOrPartitionError("a bug"))
    with pytest.raises(NotControllerError):
        await three.nodes[1].controller.controller_call(
            AlterTopicConfigRequest("t", {"retention.ms": "8"})
        )
    await eventually(lambda: three.zookeeper.controller_epoch == 2)


async def test_requests_that_wait_are_bounded(three: Cluster) -> None:
    node = three.nodes[1]
    node.store.suspend()
    await quiet()
    waiting = [
        asyncio.create_task(node.controller.alter_partition(three.proposal(1, 2))) for _ in range(3)
    ]
    await quiet()
    with pytest.raises(RequestTimedOutError, match="3 requests wait"):
        await node.controller.alter_partition(three.proposal(1, 2))
    waiting[0].cancel()
    await quiet()
    node.store.reconnect()
    responses = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(responses[0], asyncio.CancelledError)
    assert three.line() == "Leader=A Epoch=1 ISR={A,B}"
    assert three.zookeeper.states[TP].partition_version == 1  # the second found it applied
    await node.controller.alter_partition(three.proposal(1))


async def test_whoever_gives_up_in_the_middle_disturbs_nobody(three: Cluster) -> None:
    node = three.nodes[1]
    waiting = asyncio.create_task(node.controller.alter_partition(three.proposal(1, 2)))
    bad = AlterPartitionRequest(1, 0, [])
    refused = asyncio.create_task(node.controller.alter_partition(bad))

    def give_up() -> None:
        waiting.cancel()
        node.controller.on_store_event(StoreEvent.SUSPENDED)
        node.controller.on_store_event(StoreEvent.RECONNECTED)

    node.store.inject("write_states", give_up)
    with pytest.raises(StaleBrokerEpochError):
        await refused
    assert waiting.cancelled()
    assert three.line() == "Leader=A Epoch=1 ISR={A,B}"


# --- deletion ------------------------------------------------------------------------------------


async def test_a_deletion_is_answered_when_the_topic_is_gone(three: Cluster) -> None:
    three.peers.hold(3)
    call = three.nodes[1].controller.controller_call
    deleting = asyncio.create_task(call(DeleteTopicsRequest(["t"])))
    await quiet()
    assert not deleting.done()
    assert "t" in three.zookeeper.topics
    three.peers.release(3)
    await deleting
    assert "t" not in three.zookeeper.topics
    for told in three.peers.brokers.values():
        assert told.partitions == {}
        assert len(told.deleted) == 1


async def test_a_deletion_that_waits_for_an_absent_broker_is_answered(three: Cluster) -> None:
    call = three.nodes[1].controller.controller_call
    three.peers.hold(3)
    deleting = asyncio.create_task(call(DeleteTopicsRequest(["t"])))
    await quiet()
    await three.nodes.pop(3).kill()
    await deleting
    assert "t" in three.zookeeper.topics
    three.peers.release(3)
    await three.add(3)
    await eventually(lambda: "t" not in three.zookeeper.topics)


async def test_a_deletion_with_nothing_to_wait_for_is_answered(three: Cluster) -> None:
    call = three.nodes[1].controller.controller_call
    response = await call(DeleteTopicsRequest(["x"]))
    assert [type(r.error) for r in response.results] == [UnknownTopicOrPartitionError]


async def test_a_deletion_that_a_broker_could_not_do_is_asked_for_again(three: Cluster) -> None:
    failing = UpdateStateResponse(failed=[(TP, KafkaStorageError("no"))])
    three.peers.answer(2, failing, failing)
    await three.nodes[1].controller.controller_call(DeleteTopicsRequest(["t"]))
    assert "t" not in three.zookeeper.topics


async def test_topics_are_kept_where_deletion_is_switched_off(cluster: Cluster) -> None:
    node = await cluster.add(1, **{"delete.topic.enable": "false"})
    await cluster.create("t", [1])
    response = await node.controller.controller_call(DeleteTopicsRequest(["t"]))
    assert [type(r.error) for r in response.results] == [TopicDeletionDisabledError]
    cluster.zookeeper.mark_topic_deleted("t")
    await quiet()
    assert "t" in cluster.zookeeper.topics


# --- hints ---------------------------------------------------------------------------------------


async def test_a_marker_a_work_list_and_a_topic_of_others_are_taken_up(three: Cluster) -> None:
    states = three.zookeeper.states
    state = states[TP]
    states[TP] = PartitionState(
        2, 1, state.isr, 1, 1, {m: storage_mark(three.nodes[m].info()) for m in state.isr}
    )
    three.nodes[1].controller.core.context.states[TP] = states[TP]  # type: ignore[union-attr]
    three.zookeeper.request_preferred_election([TP])
    await eventually(lambda: three.line() == "Leader=A Epoch=2 ISR={A,B,C}")
    topic = three.zookeeper.topics["t"]
    three.zookeeper.topics["u"] = type(topic)("u", "u-id", topic.assignments)
    three.zookeeper._changed(StoreEvent.TOPICS_CHANGED)
    await eventually(lambda: TopicPartition("u", 0) in states)
    three.zookeeper.mark_topic_deleted("t")
    await eventually(lambda: "t" not in three.zookeeper.topics)


async def test_an_unclean_election_follows_the_configuration(
    three: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    for broker_id in (2, 3):
        await three.nodes.pop(broker_id).kill()
    await eventually(lambda: three.line() == "Leader=A Epoch=2 ISR={A}")
    three.nodes[1].controller.on_store_event(StoreEvent.SUSPENDED)
    for broker_id in (2, 3):
        await three.add(broker_id)
    await three.nodes.pop(1).kill()
    await eventually(lambda: three.line() == "Leader=none Epoch=3 ISR={A}")
    three.zookeeper.write_topic_config("t", {"unclean.leader.election.enable": "perhaps"})
    await quiet()
    assert three.line() == "Leader=none Epoch=3 ISR={A}"
    assert "the configuration of topic t is not valid" in caplog.text
    three.zookeeper.write_topic_config("t", {"unclean.leader.election.enable": "true"})
    await eventually(lambda: three.line() == "Leader=B Epoch=4 ISR={B}")
    assert "unclean election of B" in caplog.text


async def test_an_unclean_election_follows_what_is_set_for_all_brokers(three: Cluster) -> None:
    for broker_id in (2, 3):
        await three.nodes.pop(broker_id).kill()
    await eventually(lambda: three.line() == "Leader=A Epoch=2 ISR={A}")
    for broker_id in (2, 3):
        three.nodes[1].controller.on_store_event(StoreEvent.SUSPENDED)
        await three.add(broker_id)
    await three.nodes.pop(1).kill()
    await eventually(lambda: three.line() == "Leader=none Epoch=3 ISR={A}")
    three.zookeeper.write_broker_config("<default>", {"min.insync.replicas": "2"})
    await quiet()
    assert three.line() == "Leader=none Epoch=3 ISR={A}"
    three.zookeeper.write_broker_config("<default>", {"unclean.leader.election.enable": "true"})
    await eventually(lambda: three.line() == "Leader=B Epoch=4 ISR={B}")


async def test_a_topic_that_forbids_unclean_elections_has_none_though_all_brokers_allow_them(
    three: Cluster,
) -> None:
    three.zookeeper.write_topic_config("t", {"unclean.leader.election.enable": "false"})
    three.zookeeper.write_broker_config("<default>", {"unclean.leader.election.enable": "true"})
    for broker_id in (2, 3):
        await three.nodes.pop(broker_id).kill()
    await eventually(lambda: three.line() == "Leader=A Epoch=2 ISR={A}")
    three.nodes[1].controller.on_store_event(StoreEvent.SUSPENDED)
    for broker_id in (2, 3):
        await three.add(broker_id)
    await three.nodes.pop(1).kill()  # the next controller reads all settings when it takes over
    await eventually(lambda: three.line() == "Leader=none Epoch=3 ISR={A}")
    await quiet()
    assert three.line() == "Leader=none Epoch=3 ISR={A}"


async def test_leadership_goes_back_by_itself(
    three: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "minikafka.controller")
    due: list[Callable[[], Coroutine[Any, Any, None]]] = []
    term = three.nodes[1].controller._term
    assert term is not None
    monkeypatch.setattr(term, "_arm_rebalance", lambda: due.append(term.rebalance))
    await three.nodes[1].controller.alter_partition(three.proposal(1, 2, 3))
    state = three.zookeeper.states[TP]
    led_by_b = PartitionState(
        2, 1, state.isr, 1, state.partition_version + 1, dict(state.isr_storage)
    )
    three.zookeeper.states[TP] = led_by_b
    term.core.context.states[TP] = led_by_b
    term._enqueue(term.rebalance)
    await eventually(lambda: three.line() == "Leader=A Epoch=2 ISR={A,B,C}")
    term._enqueue(term.rebalance)
    await eventually(lambda: len(due) == 2)
    assert "leadership of 1 partitions went back to the preferred replicas" in caplog.messages


async def test_the_automatic_rebalance_is_timed_and_can_be_switched_off(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    timers: list[tuple[float, Callable[[], None]]] = []
    real = loop.call_later

    def call_later(delay: float, callback: Any, *args: Any, **more: Any) -> Any:
        if delay == 300:
            timers.append((delay, callback))
            delay = 3600
        return real(delay, callback, *args, **more)

    monkeypatch.setattr(loop, "call_later", call_later)
    await cluster.add(1)
    await cluster.controller()
    assert len(timers) == 1
    timers[0][1]()
    await eventually(lambda: len(timers) == 2)
    await cluster.nodes.pop(1).stop()
    await cluster.add(2, **{"auto.leader.rebalance.enable": "false"})
    await cluster.controller()
    assert len(timers) == 2


# --- what brokers answer -------------------------------------------------------------------------


async def test_a_replica_that_could_not_be_opened_has_failed(three: Cluster) -> None:
    answer = UpdateStateResponse(
        failed=[(TopicPartition("u", 0), KafkaStorageError("no space left"))]
    )
    three.peers.answer(2, answer)
    await three.create("u", [2, 1])
    u0 = TopicPartition("u", 0)
    await eventually(lambda: three.line(u0) == "Leader=A Epoch=1 ISR={A}")


async def test_an_answer_of_an_incarnation_that_is_over_counts_for_nothing(
    three: Cluster,
) -> None:
    term = three.nodes[1].controller._term
    assert term is not None
    errors = [(TP, KafkaStorageError("no space left")), (TopicPartition("x", 0), NetworkError())]
    old = broker(2, three.nodes[2].epoch - 1)
    term._on_answer(old, UpdateStateResponse(failed=errors))
    await quiet()
    assert three.line() == "Leader=A Epoch=0 ISR={A,B,C}"


@pytest.mark.parametrize("unwritten_topics", [0, 1], ids=["all read", "something to write"])
async def test_a_term_that_ends_while_it_is_loaded_writes_nothing(
    cluster: Cluster, unwritten_topics: int
) -> None:
    node = Node(cluster, 1)
    cluster.nodes[1] = node
    for number in range(unwritten_topics):
        cluster.zookeeper.topics["t"] = TopicDescription("t", f"id-{number}", {0: Assignment((1,))})
    states_at_the_end: list[int] = []

    def end_it() -> None:
        term = node.controller._term
        assert term is not None
        term.end(RuntimeError("from outside"))
        states_at_the_end.append(len(cluster.zookeeper.states))

    node.store.inject("read_deletions", end_it)
    await node.start()
    await eventually(lambda: node.controller.controller_epoch == 2 and node.controller.active)
    assert states_at_the_end == [0]
    assert {state.controller_epoch for state in cluster.zookeeper.states.values()} <= {2}


async def test_a_term_that_has_ended_serves_nobody(three: Cluster) -> None:
    term = three.nodes[1].controller._term
    assert term is not None
    term.end(RuntimeError("from outside"))
    term.end(RuntimeError("again"))
    with pytest.raises(NotControllerError):
        await term.request(lambda core: core.rebalance(0))
    await eventually(lambda: three.zookeeper.controller_epoch == 2)


def test_topic_ids_are_22_characters_and_new_each_time() -> None:
    ids = {term.new_topic_id() for _ in range(100)}
    assert len(ids) == 100
    assert {len(topic_id) for topic_id in ids} == {22}


async def test_what_cannot_be_read_ends_no_term(three: Cluster) -> None:
    await three.create("u", [3, 1])
    zookeeper, active = three.zookeeper, three.nodes[1]
    zookeeper.states[TP] = None  # type: ignore[assignment]
    zookeeper.topics["v"] = None  # type: ignore[assignment]
    zookeeper._changed(StoreEvent.TOPICS_CHANGED)
    await three.nodes.pop(3).kill()
    await eventually(lambda: three.line(TopicPartition("u", 0)) == "Leader=A Epoch=1 ISR={A}")
    active.store.inject("allocate_producer_ids", UnreadableNodeError("the block cannot be read"))
    with pytest.raises(UnreadableNodeError):
        await active.controller.controller_call(AllocateProducerIdsRequest(1, active.epoch))
    assert (active.controller.active, zookeeper.controller_epoch) == (True, 1)
    # Nor does it keep the next one from taking over.
    await three.nodes.pop(1).kill()
    active = await three.controller()
    assert (active.id, zookeeper.controller_epoch) == (2, 2)
    assert zookeeper.states[TP] is None
    assert zookeeper.topics["v"] is None


async def test_who_cannot_read_the_fence_tries_again_until_it_can(cluster: Cluster) -> None:
    cluster.nodes[1] = node = Node(cluster, 1)
    node.store.inject("elect_controller", *[UnreadableNodeError("no epoch")] * 3)
    await node.start()
    await eventually(lambda: node.controller.active)
