"""The controller's writes: fenced, compared, and resolved when an answer is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from kazoo.client import KazooClient

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import StateChange
from minikafka.errors import InvalidRequestError, NotControllerError
from minikafka.model import Assignment, PartitionState, TopicDescription, TopicPartition
from minikafka.zookeeper.codec import encode_config
from minikafka.zookeeper.errors import ZooKeeperError
from minikafka.zookeeper.looking.inspect import open_inspector
from minikafka.zookeeper.paths import Layout
from tests.helpers.zookeeper import MULTI

WRITTEN, CONFLICT, DEPOSED = WriteOutcome.WRITTEN, WriteOutcome.CONFLICT, WriteOutcome.DEPOSED
TOPIC = TopicDescription(
    "words", "abcdefghijklmnopqrstuv", {0: Assignment((1, 2, 3)), 1: Assignment((2, 3, 1))}
)
PARTITION = TopicPartition("words", 0)


def write(expected_version: int, leader_epoch: int = 0, **changes) -> StateChange:
    state = PartitionState(
        leader=1,
        leader_epoch=leader_epoch,
        isr=(1, 2, 3),
        controller_epoch=1,
        partition_version=expected_version + 1,
        isr_storage={1: "a", 2: "b", 3: "c"},
    )
    new = replace(state, **changes)
    old = None if expected_version < 0 else replace(state, partition_version=expected_version)
    return StateChange(PARTITION, old, new, "a test")


async def state_of(store) -> PartitionState | None:
    await store.sync()
    return (await store.read_states({TOPIC.name: TOPIC})).get(PARTITION)


@pytest.fixture
async def controller(connect, new_store):
    store = await new_store(connect)
    assert (await store.elect_controller(1)).controller_epoch == 1
    assert await store.create_topic(TOPIC) is WRITTEN
    return store


@pytest.fixture
async def proxied(hosts, chroot, new_store, new_proxy):
    """(proxy, controller behind it), with the topic made."""
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    assert (await store.elect_controller(1)).won
    assert await store.create_topic(TOPIC) is WRITTEN
    return proxy, store


async def elect_another(store) -> None:
    """Take the controllership away from whoever has it, as when its session had expired."""
    layout = Layout(store._layout.root)
    await store.session.repeat(lambda client: client.delete_async(layout.controller))
    assert (await store.elect_controller(2, out_of_turn=True)).won


# --- states ---


async def test_a_state_is_created_with_version_0_and_read_back(controller):
    created = write(-1)
    assert await controller.write_states([created]) == [WRITTEN]
    assert await state_of(controller) == created.new


async def test_a_state_is_written_over_the_version_that_was_expected(controller):
    changed = write(0, leader_epoch=1, isr=(1, 2), isr_storage={1: "a", 2: "b"})
    assert await controller.write_states([write(-1)]) == [WRITTEN]
    assert await controller.write_states([changed]) == [WRITTEN]
    assert await state_of(controller) == changed.new


async def test_another_version_is_a_conflict(controller):
    await controller.write_states([write(-1)])
    assert await controller.write_states([write(1)]) == [CONFLICT]
    assert await controller.write_states([write(-1)]) == [CONFLICT]
    assert (await state_of(controller)).partition_version == 0


async def test_a_state_that_is_not_there_cannot_be_changed(controller):
    assert await controller.write_states([write(0)]) == [CONFLICT]


async def test_a_state_of_a_topic_that_is_not_there_cannot_be_created(controller):
    elsewhere = replace(write(-1), topic_partition=TopicPartition("no-such-topic", 0))
    assert await controller.write_states([elsewhere]) == [CONFLICT]


async def test_a_partition_that_was_made_by_halves_gets_its_state(controller):
    path = Layout(controller._layout.root).partition("words", 0)
    await controller.session.call(lambda client: client.create_async(path))
    assert await controller.write_states([write(-1)]) == [WRITTEN]


async def test_each_partition_has_its_own_outcome(controller):
    await controller.write_states([write(-1)])
    other = replace(write(-1), topic_partition=TopicPartition("words", 1))
    assert await controller.write_states([write(5), other, write(0)]) == [
        CONFLICT,
        WRITTEN,
        WRITTEN,
    ]


async def test_a_deposed_controller_writes_nothing(controller, connect, new_store):
    await controller.write_states([write(-1)])
    await elect_another(await new_store(connect))
    before = await state_of(controller)
    grown = TopicDescription("words", TOPIC.topic_id, {0: Assignment((9,))})
    assert await controller.write_states([write(0), write(7)]) == [DEPOSED, DEPOSED]
    assert await controller.create_topic(replace(TOPIC, name="other")) is DEPOSED
    assert await controller.update_topic(grown) is DEPOSED
    assert await controller.delete_topic_nodes(TOPIC) is DEPOSED
    with pytest.raises(NotControllerError):
        await controller.allocate_producer_ids(1, 10)
    assert await state_of(controller) == before
    assert await controller.read_topics() == {"words": TOPIC}


async def test_the_resignation_of_a_deposed_controller_leaves_the_next_one_alone(
    controller, connect, new_store
):
    other = await new_store(connect)
    await elect_another(other)
    await controller.resign_controller()
    assert (await other.read_controller()).won


async def test_nobody_writes_without_having_been_elected(connect, new_store):
    store = await new_store(connect)
    assert await store.write_states([write(-1)]) == [DEPOSED]
    assert await store.create_topic(TOPIC) is DEPOSED
    assert await store.delete_topic_nodes(TOPIC) is DEPOSED
    with pytest.raises(NotControllerError):
        await store.allocate_producer_ids(1, 10)


async def test_a_state_of_an_earlier_controllership_is_not_written_under_the_next(controller):
    decided_then = write(-1)
    await controller.resign_controller()
    assert (await controller.elect_controller(1)).controller_epoch == 2
    assert await controller.write_states([decided_then]) == [DEPOSED]


# --- lost answers ---


@pytest.mark.parametrize("expected_version", [-1, 0])
async def test_a_write_whose_answer_was_lost_is_known_to_be_written(proxied, expected_version):
    proxy, controller = proxied
    if expected_version == 0:
        assert await controller.write_states([write(-1)]) == [WRITTEN]
    proxy.cut_before_reply(MULTI)
    wanted = write(expected_version, leader_epoch=3)
    assert await controller.write_states([wanted]) == [WRITTEN]
    assert proxy.cuts_done == 1
    assert await state_of(controller) == wanted.new


@pytest.mark.parametrize("expected_version", [-1, 0])
async def test_a_write_that_never_arrived_is_sent_again(proxied, expected_version):
    proxy, controller = proxied
    if expected_version == 0:
        assert await controller.write_states([write(-1)]) == [WRITTEN]
    proxy.cut_before_request(MULTI)
    wanted = write(expected_version, leader_epoch=3)
    assert await controller.write_states([wanted]) == [WRITTEN]
    assert proxy.cuts_done == 1
    assert await state_of(controller) == wanted.new


async def test_a_lost_write_that_was_overtaken_is_a_conflict(proxied, connect, new_store):
    proxy, controller = proxied
    await controller.write_states([write(-1)])
    other = await new_store(connect)
    path = Layout(other._layout.root).state("words", 0)

    async def meanwhile() -> None:
        # By hand, or by a bug: no controller would.
        await other.session.call(lambda client: client.set_async(path, b"{}"))

    proxy.cut_before_request(MULTI, meanwhile)
    assert await controller.write_states([write(0)]) == [CONFLICT]


async def test_a_lost_write_after_which_another_was_elected_is_deposed(proxied, connect, new_store):
    proxy, controller = proxied
    await controller.write_states([write(-1)])
    other = await new_store(connect)
    proxy.cut_before_request(MULTI, lambda: elect_another(other))
    assert await controller.write_states([write(0)]) == [DEPOSED]
    assert (await state_of(controller)).partition_version == 0


async def test_a_lost_write_that_the_next_controller_has_overtaken_is_deposed(
    proxied, connect, new_store
):
    proxy, controller = proxied
    await controller.write_states([write(-1)])
    other = await new_store(connect)

    async def meanwhile() -> None:
        await elect_another(other)
        assert await other.write_states([write(0, controller_epoch=2, leader=3)]) == [WRITTEN]

    proxy.cut_before_request(MULTI, meanwhile)
    assert await controller.write_states([write(0)]) == [DEPOSED]
    assert (await state_of(controller)).leader == 3


async def test_a_write_that_was_made_before_another_was_elected_is_known_to_be_written(
    proxied, connect, new_store
):
    proxy, controller = proxied
    await controller.write_states([write(-1)])
    other = await new_store(connect)
    proxy.cut_before_reply(MULTI, lambda: elect_another(other))
    assert await controller.write_states([write(0)]) == [WRITTEN]
    assert await controller.write_states([write(1)]) == [DEPOSED]


async def test_many_writes_across_a_broken_connection_are_each_made_once(proxied):
    proxy, controller = proxied
    many = TopicDescription(
        "many", "vvvvvvvvvvvvvvvvvvvvvv", {number: Assignment((1,)) for number in range(200)}
    )
    assert await controller.create_topic(many) is WRITTEN
    writes = [
        replace(write(-1), topic_partition=TopicPartition("many", number))
        for number in many.assignments
    ]
    writing = asyncio.ensure_future(controller.write_states(writes))
    proxy.cut_before_reply(MULTI)
    assert set(await writing) == {WRITTEN}
    assert proxy.cuts_done == 1
    states = await controller.read_states({"many": many})
    assert len(states) == 200
    assert {state.partition_version for state in states.values()} == {0}


# --- topics ---


async def test_a_topic_is_created_once(controller):
    assert await controller.create_topic(TOPIC) is CONFLICT
    assert await controller.create_topic(replace(TOPIC, topic_id="z" * 22)) is CONFLICT
    assert await controller.read_topics() == {"words": TOPIC}


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_topic_whose_creation_was_not_answered_is_there(proxied, arrives):
    proxy, controller = proxied
    other = replace(TOPIC, name="other")
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(MULTI)
    assert await controller.create_topic(other) is WRITTEN
    assert proxy.cuts_done == 1
    assert (await controller.read_topics())["other"] == other


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_topic_whose_change_was_not_answered_is_changed(proxied, arrives):
    proxy, controller = proxied
    changed = replace(
        TOPIC, assignments={**TOPIC.assignments, 2: Assignment((3, 1, 4), (4,), (1,))}
    )
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(MULTI)
    assert await controller.update_topic(changed) is WRITTEN
    assert proxy.cuts_done == 1
    assert (await controller.read_topics())["words"] == changed


async def test_a_topic_that_is_not_there_cannot_be_changed(controller):
    assert await controller.update_topic(replace(TOPIC, name="other")) is CONFLICT


async def test_a_topic_too_large_for_a_node_is_refused_before_zookeeper_drops_the_connection(
    controller,
):
    huge = TopicDescription(
        "huge", "h" * 22, {number: Assignment(tuple(range(1, 9))) for number in range(40_000)}
    )
    with pytest.raises(InvalidRequestError, match="too much for one ZooKeeper node"):
        await controller.create_topic(huge)


# --- configuration ---

WRITES = (
    (lambda store, overrides: store.write_topic_config("other", overrides), "topics/other"),
    (lambda store, overrides: store.write_broker_config("1", overrides), "brokers/1"),
)


async def config_of(store, entity: str) -> dict[str, str] | None:
    await store.sync()
    of_topics = entity.startswith("topics/")
    read = store.read_topic_configs if of_topics else store.read_broker_configs
    return (await read()).get(entity.split("/")[1])


async def announcements(store) -> int:
    path = Layout(store._layout.root).config_changes
    names = await store.session.call(lambda client: client.get_children_async(path))
    return len(names) - 1  # that of the topic


@pytest.mark.parametrize(("put", "entity"), WRITES)
async def test_a_configuration_is_written_whether_it_was_there_or_not(controller, put, entity):
    for number, overrides in enumerate(({"a": "1"}, {"a": "2", "b": "3"}, {}), 1):
        assert await put(controller, overrides) is WRITTEN
        assert await config_of(controller, entity) == overrides
        assert await announcements(controller) == number


@pytest.mark.parametrize(("put", "entity"), WRITES)
async def test_a_deposed_controller_writes_no_configuration_over_a_later_one(
    controller, connect, new_store, put, entity
):
    other = await new_store(connect)
    assert await put(controller, {"a": "1"}) is WRITTEN
    await elect_another(other)
    assert await put(other, {"a": "2"}) is WRITTEN
    assert await put(controller, {"a": "3"}) is DEPOSED
    assert await config_of(controller, entity) == {"a": "2"}
    assert await announcements(controller) == 2


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(("put", "entity"), WRITES)
async def test_a_configuration_whose_answer_was_lost_is_written_and_announced_once(
    proxied, put, entity, there, arrives
):
    proxy, controller = proxied
    if there:
        assert await put(controller, {"a": "1"}) is WRITTEN
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(MULTI)
    assert await put(controller, {"a": "2"}) is WRITTEN
    assert proxy.cuts_done == 1
    assert await config_of(controller, entity) == {"a": "2"}
    assert await announcements(controller) == 1 + there


async def test_a_configuration_written_by_hand_meanwhile_is_written_over(
    proxied, connect, new_store
):
    proxy, controller = proxied
    assert await controller.write_topic_config("other", {"a": "1"}) is WRITTEN
    other = await new_store(connect)
    path = Layout(other._layout.root).topic_config("other")

    async def meanwhile() -> None:
        await other.session.call(lambda client: client.set_async(path, encode_config({})))

    proxy.cut_before_request(MULTI, meanwhile)
    assert await controller.write_topic_config("other", {"a": "2"}) is WRITTEN
    assert await config_of(controller, "topics/other") == {"a": "2"}


async def test_a_configuration_that_cannot_be_announced_is_not_written(controller):
    layout = Layout(controller._layout.root)
    folder = layout.config_changes
    [name] = await controller.session.call(lambda client: client.get_children_async(folder))
    for path in (f"{folder}/{name}", folder):
        await controller.session.call(lambda client, path=path: client.delete_async(path))
    with pytest.raises(ZooKeeperError, match="where configurations are announced"):
        await controller.write_topic_config("other", {"a": "1"})
    assert await controller.session.get(layout.topic_config("other")) is None
    with pytest.raises(ZooKeeperError, match="where configurations are announced"):
        await controller.delete_topic_nodes(TOPIC)


async def test_deleting_a_topic_leaves_nothing_of_it(controller, connect):
    await controller.write_states(
        [write(-1), replace(write(-1), topic_partition=TopicPartition("words", 1))]
    )
    await controller.write_topic_config("words", {"retention.ms": "1"})
    await controller.mark_topic_deleted("words")
    assert await controller.delete_topic_nodes(TOPIC) is WRITTEN
    assert await controller.read_topics() == {}
    assert await controller.read_deletions() == set()
    assert await controller.read_topic_configs() == {}
    assert await controller.delete_topic_nodes(TOPIC) is WRITTEN


async def test_a_deletion_that_was_left_half_done_is_finished(controller):
    layout = Layout(controller._layout.root)
    await controller.write_states([write(-1)])
    await controller.mark_topic_deleted("words")
    await controller.session.call(lambda client: client.delete_async(layout.state("words", 0)))
    assert await controller.delete_topic_nodes(TOPIC) is WRITTEN
    # The topic gone, the marker still there.
    await controller.mark_topic_deleted("words")
    assert await controller.delete_topic_nodes(TOPIC) is WRITTEN
    assert await controller.read_deletions() == set()


async def test_the_marker_is_the_last_to_go(proxied, connect, new_store):
    proxy, controller = proxied
    other = await new_store(connect)
    await controller.mark_topic_deleted("words")
    seen = []

    async def meanwhile() -> None:
        await other.sync()
        seen.append((set(await other.read_topics()), await other.read_deletions()))

    proxy.cut_before_reply(MULTI, meanwhile)  # of the topic
    proxy.cut_before_reply(MULTI, meanwhile)  # of its configuration
    proxy.cut_before_reply(MULTI, meanwhile)  # of the marker
    assert await controller.delete_topic_nodes(TOPIC) is WRITTEN
    assert seen == [(set(), {"words"}), (set(), {"words"}), (set(), set())]


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_deletion_whose_answer_was_lost_is_finished(proxied, arrives):
    proxy, controller = proxied
    await controller.write_states([write(-1)])
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(MULTI)
    assert await controller.delete_topic_nodes(TOPIC) is WRITTEN
    assert proxy.cuts_done == 1
    assert await controller.read_topics() == {}


async def test_a_topic_of_the_same_name_that_was_made_since_is_not_deleted(controller):
    earlier = replace(TOPIC, topic_id="e" * 22)
    assert await controller.delete_topic_nodes(earlier) is CONFLICT
    assert await controller.read_topics() == {"words": TOPIC}


async def test_a_preferred_election_is_read_and_cleared(controller, hosts, chroot):
    assert await controller.read_preferred_election() is None
    client = KazooClient(hosts=hosts, timeout=10)
    await asyncio.to_thread(client.start)
    await asyncio.to_thread(
        client.create,
        f"{chroot}/admin/preferred_replica_election",
        b'{"version":1,"partitions":[{"topic":"words","partition":0}]}',
    )
    await asyncio.to_thread(client.stop)
    await asyncio.to_thread(client.close)
    assert await controller.read_preferred_election() == [PARTITION]
    assert await controller.clear_preferred_election() is WRITTEN
    assert await controller.read_preferred_election() is None
    assert await controller.clear_preferred_election() is WRITTEN


# --- producer ids ---


async def test_blocks_of_producer_ids_follow_one_another_across_controllers(
    controller, connect, new_store
):
    assert await controller.allocate_producer_ids(1, 1000) == (0, 1000)
    assert await controller.allocate_producer_ids(2, 500) == (1000, 1500)
    other = await new_store(connect)
    await elect_another(other)
    assert await other.allocate_producer_ids(1, 1) == (1500, 1501)


async def test_blocks_that_are_asked_for_at_once_do_not_overlap(controller):
    blocks = await asyncio.gather(*(controller.allocate_producer_ids(1, 10) for _ in range(20)))
    ids = [one for first, end in blocks for one in range(first, end)]
    assert len(set(ids)) == len(ids) == 200


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_block_whose_answer_was_lost_is_given_to_nobody_twice(proxied, connect, arrives):
    proxy, controller = proxied
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(MULTI)
    first = await controller.allocate_producer_ids(1, 1000)
    assert proxy.cuts_done == 1
    assert first == ((1000, 2000) if arrives else (0, 1000))
    assert (await controller.allocate_producer_ids(1, 1000))[0] == first[1]


@pytest.mark.parametrize("arrives", [True, False])
async def test_blocks_that_are_asked_for_at_once_do_not_overlap_either_if_answers_are_lost(
    proxied, arrives
):
    # They write the same bytes over the same version: what is found there proves nothing.
    proxy, controller = proxied
    for _ in range(3):
        (proxy.cut_before_reply if arrives else proxy.cut_before_request)(MULTI)
    blocks = await asyncio.gather(*(controller.allocate_producer_ids(1, 10) for _ in range(8)))
    ids = [one for first, end in blocks for one in range(first, end)]
    assert proxy.cuts_done >= 1  # one cut may take along what another waits for
    assert len(set(ids)) == len(ids) == 80


async def test_what_zookeeper_holds_has_kafkas_names(controller, connect):
    await controller.write_states([write(-1)])

    def look() -> bytes:
        with open_inspector(connect) as inspector:
            return inspector.get("/brokers/topics/words/partitions/0/state").data

    assert await asyncio.to_thread(look) == (
        b'{"version":1,"leader":1,"leader_epoch":0,"isr":[1,2,3],"controller_epoch":1,'
        b'"isr_storage":{"1":"a","2":"b","3":"c"}}'
    )
