"""Nodes that do not hold what belongs there: told once, left as they are, and no more stops."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import StoreEvent
from minikafka.core.control.commands import StateChange
from minikafka.errors import MinikafkaError
from minikafka.model import Assignment, PartitionState, TopicDescription, TopicPartition
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError
from tests.helpers.zookeeper import broker, expect_event

WORDS = TopicDescription("words", "abcdefghijklmnopqrstuv", {0: Assignment((1,))})
OTHER = TopicDescription("other", "bbcdefghijklmnopqrstuv", {0: Assignment((1,))})
STATE = PartitionState(1, 0, (1,), 1, 0, {1: "disk"})
STATE_PATH = "/brokers/topics/words/partitions/0/state"


def state(**changes: object) -> bytes:
    return json.dumps(json.loads(codec.encode_state(STATE)) | changes).encode()


def topic(**changes: object) -> bytes:
    return json.dumps(json.loads(codec.encode_topic(WORDS)) | changes).encode()


def config(**changes: object) -> bytes:
    return json.dumps(json.loads(codec.encode_config({"a": "b"})) | changes).encode()


# What is no JSON object at all, for whatever node.
NO_OBJECT = {
    "empty": b"",
    "garbage": b"\xff\xfe\x00garbage",
    "text": b"hello",
    "a list": b"[1, 2]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "a long number": b"9" * 5_000,
    "large": b"x" * 500_000,
    "no version": b"{}",
    "other version": b'{"version": 99}',
}
STATES = NO_OBJECT | {
    "leader is text": state(leader="1"),
    "leader is too large": state(leader=2**31),
    "leader outside the isr": state(leader=2),
    "negative epoch": state(leader_epoch=-1),
    "epoch of 70 bits": state(leader_epoch=2**70),
    "epoch that cannot grow": state(leader_epoch=2**31 - 1),
    "duplicates": state(isr=[1, 1]),
    "isr is no list": state(isr=1),
    "isr of texts": state(isr=["1"]),
    "negative member": state(isr=[1, -2]),
    "storage of others": state(isr_storage={"9": "disk"}),
    "controller epoch that never was": state(controller_epoch=1_000),
}
TOPICS = NO_OBJECT | {
    "no partitions": topic(partitions={}),
    "partition x": topic(partitions={"x": [1]}),
    "partition 1 without 0": topic(partitions={"1": [1]}),
    "no replicas": topic(partitions={"0": []}),
    "replicas twice": topic(partitions={"0": [1, 1]}),
    "replica of 70 bits": topic(partitions={"0": [2**70]}),
    "topic id": topic(topic_id="../../etc"),
}


async def announce(store, entity_path: str) -> None:
    """A change of a configuration, as whoever writes it does."""
    prefix, data = store._layout.config_change_prefix, codec.encode_config_change(entity_path)
    await store.session.call(lambda client: client.create_async(prefix, data, sequence=True))


async def put(store, path: str, data: bytes, **options: object) -> None:
    """Make it, or write over it."""
    full = store.root + path
    if await store.session.call(lambda client: client.exists_async(full)):
        await store.session.call(lambda client: client.set_async(full, data))
    else:
        await store.session.call(lambda client: client.create_async(full, data, **options))


async def data_of(store, path: str) -> bytes:
    found = await store.session.call(lambda client: client.get_async(store.root + path))
    return bytes(found[0])


@pytest.fixture
def kind() -> str:
    return "embedded"  # what a node holds is the client's matter alone


@pytest.fixture
async def controller(connect, new_store):
    """The controller of a cluster of one broker, with a topic of one partition, and another."""
    store = await new_store(connect)
    await store.register_broker(broker(1))
    assert (await store.elect_controller(1)).won
    for each in (WORDS, OTHER):
        assert await store.create_topic(each) is WriteOutcome.WRITTEN
        write = StateChange(TopicPartition(each.name, 0), None, STATE, "a test")
        assert await store.write_states([write]) == [WriteOutcome.WRITTEN]
    return store


@pytest.mark.parametrize("data", STATES.values(), ids=STATES)
async def test_a_state_that_cannot_be_read_is_left_alone(controller, data, caplog):
    await put(controller, STATE_PATH, data)
    topics = await controller.read_topics()
    for _ in range(3):
        states = await controller.read_states(topics)
        assert states == {TopicPartition("words", 0): None, TopicPartition("other", 0): STATE}
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    assert await data_of(controller, STATE_PATH) == data
    [(path, why)] = controller.unreadable.nodes.items()
    assert path == controller.root + STATE_PATH
    assert "until it is put right" in why
    assert len(why) < 600
    # Put right, it is heard of, and counts again.
    await put(controller, STATE_PATH, codec.encode_state(STATE))
    await expect_event(controller, StoreEvent.TOPICS_CHANGED)
    again = await controller.read_states(topics)
    assert again[TopicPartition("words", 0)].isr == (1,)
    assert controller.unreadable.nodes == {}


@pytest.mark.parametrize("data", TOPICS.values(), ids=TOPICS)
async def test_a_topic_that_cannot_be_read_is_left_alone(controller, data):
    await put(controller, "/brokers/topics/words", data)
    assert await controller.read_topics() == {"words": None, "other": OTHER}
    assert await controller.create_topic(WORDS) is WriteOutcome.CONFLICT
    assert await controller.delete_topic_nodes(WORDS) is WriteOutcome.CONFLICT
    assert await data_of(controller, "/brokers/topics/words") == data
    await put(controller, "/brokers/topics/words", codec.encode_topic(WORDS))
    await expect_event(controller, StoreEvent.TOPICS_CHANGED)
    assert await controller.read_topics() == {"words": WORDS, "other": OTHER}


@pytest.mark.parametrize("name", ["no name", "x" * 250, "späße", "partition:0"])
async def test_a_topic_of_an_impossible_name_is_left_alone(controller, name):
    await put(controller, f"/brokers/topics/{name}", codec.encode_topic(WORDS))
    assert await controller.read_topics() == {name: None, "words": WORDS, "other": OTHER}


@pytest.mark.parametrize("name", ["x", "-1", "99999999999999999999", "٣", "1.5"])
async def test_a_broker_of_an_impossible_id_is_left_alone(controller, name):
    await put(controller, f"/brokers/ids/{name}", codec.encode_broker(broker(3), 0))
    assert list(await controller.read_brokers()) == [1]
    assert list(controller.unreadable.nodes) == [f"{controller.root}/brokers/ids/{name}"]


@pytest.mark.parametrize(
    "data", [*NO_OBJECT.values(), codec.encode_broker(broker(1), 0).replace(b"19001", b"99999")]
)
async def test_a_live_broker_whose_registration_is_written_over_stays_as_it_was_known(
    controller, data
):
    known = await controller.read_brokers()
    await put(controller, "/brokers/ids/1", data)
    await expect_event(controller, StoreEvent.BROKERS_CHANGED)
    assert await controller.read_brokers() == known
    await put(controller, "/brokers/ids/9", data, ephemeral=True)
    assert await controller.read_brokers() == known


@pytest.mark.parametrize("data", [*NO_OBJECT.values(), config(config=[]), config(config={"a": 1})])
async def test_a_config_that_cannot_be_read_counts_as_it_was_and_is_not_written_over(
    controller, data
):
    await controller.write_topic_config("words", {"retention.ms": "5"})
    await controller.read_topic_configs()
    for path in ("topics/words", "topics/unknown", "brokers/1"):
        await put(controller, f"/config/{path}", data)
        await announce(controller, path)
    assert await controller.read_topic_configs() == {
        "words": {"retention.ms": "5"},
        "other": {},
        "unknown": {"retention.ms": "-1", "retention.bytes": "-1"},
    }
    assert await controller.read_broker_configs() == {"1": {}}
    with pytest.raises(MinikafkaError, match="cannot be read"):
        await controller.write_topic_config("words", {"retention.ms": "6"})
    with pytest.raises(MinikafkaError, match="cannot be read"):
        await controller.write_broker_config("1", {})
    assert await data_of(controller, "/config/topics/words") == data
    await put(controller, "/config/topics/words", codec.encode_config({"retention.ms": "7"}))
    assert (await controller.read_topic_configs())["words"] == {"retention.ms": "7"}


@pytest.mark.parametrize("data", [*NO_OBJECT.values(), b'{"version":1,"partitions":{}}'])
async def test_a_work_list_that_cannot_be_read_is_nobodys_work(controller, data):
    await put(controller, "/admin/preferred_replica_election", data)
    assert await controller.read_preferred_election() is None
    assert await data_of(controller, "/admin/preferred_replica_election") == data
    right = codec.encode_preferred_election([TopicPartition("words", 0)])
    await put(controller, "/admin/preferred_replica_election", right)
    await expect_event(controller, StoreEvent.PREFERRED_ELECTION_CHANGED)
    assert await controller.read_preferred_election() == [TopicPartition("words", 0)]


@pytest.mark.parametrize(
    "data",
    [
        *NO_OBJECT.values(),
        b'{"version":1,"broker":1,"block_start":"0","block_end":"-5"}',
        b'{"version":1,"broker":1,"block_start":"0","block_end":"' + b"9" * 5_000 + b'"}',
    ],
)
async def test_no_producer_id_is_given_out_while_it_is_not_known_which_were(controller, data):
    assert await controller.allocate_producer_ids(1, 10) == (0, 10)
    await put(controller, "/latest_producer_id_block", data)
    with pytest.raises(CorruptNodeError, match="cannot be read"):
        await controller.allocate_producer_ids(1, 10)
    assert await data_of(controller, "/latest_producer_id_block") == data


@pytest.mark.parametrize("data", [*NO_OBJECT.values(), b'{"version":1,"brokerid":"1"}'])
async def test_the_owner_of_the_controllers_node_is_controller_whatever_it_holds(
    controller, connect, new_store, data
):
    await put(controller, "/controller", data)
    assert await controller.read_controller() == await controller.elect_controller(1)
    assert (await controller.read_controller()).controller_id == 1
    another = await new_store(connect)
    election = await another.elect_controller(2, out_of_turn=True)
    assert (election.won, election.controller_id, election.controller_epoch) == (False, 1, 1)
    assert await data_of(controller, "/controller") == data
    write = StateChange(
        TopicPartition("words", 0), STATE, PartitionState(1, 0, (1,), 1, 1), "a test"
    )
    assert await controller.write_states([write]) == [WriteOutcome.WRITTEN]


@pytest.mark.parametrize(
    "data", [b"", b"x", b"-1", b"+5", b"5.0", "٣".encode(), b"9" * 5_000, str(2**31 - 1).encode()]
)
async def test_nobody_is_elected_while_the_fence_cannot_be_read(controller, data, caplog):
    await put(controller, "/controller_epoch", data)
    write = StateChange(
        TopicPartition("words", 0), STATE, PartitionState(1, 0, (1,), 1, 1), "a test"
    )
    assert await controller.write_states([write]) == [WriteOutcome.DEPOSED]
    for _ in range(3):
        with pytest.raises(CorruptNodeError, match="/controller_epoch cannot be read"):
            await controller.elect_controller(1)
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    assert await data_of(controller, "/controller_epoch") == data
    await put(controller, "/controller_epoch", b"1")
    election = await controller.elect_controller(1)
    assert (election.won, election.controller_epoch) == (True, 2)


async def test_a_node_that_comes_and_goes_between_list_and_get_is_not_there(
    controller, monkeypatch
):
    listed = asyncio.Event()
    children = controller._watches.children

    async def list_and_wait(path: str, event: StoreEvent) -> list[str]:
        names = await children(path, event)
        listed.set()
        return [*names, "gone-again"]

    monkeypatch.setattr(controller._watches, "children", list_and_wait)
    assert await controller.read_topics() == {"words": WORDS, "other": OTHER}
    assert controller.unreadable.nodes == {}


async def test_a_config_that_nobody_has_read_yet_is_not_written_over_either(controller):
    await put(controller, "/config/topics/words", b"hello")
    with pytest.raises(MinikafkaError, match="cannot be read"):
        await controller.write_topic_config("words", {"retention.ms": "6"})
    assert await data_of(controller, "/config/topics/words") == b"hello"
    assert list(controller.unreadable.nodes) == [f"{controller.root}/config/topics/words"]


async def test_announcements_that_are_not_ours_are_not_deleted(controller, monkeypatch):
    monkeypatch.setattr("minikafka.zookeeper.stores.configs._CONFIG_CHANGE_LIFETIME_MS", -1_000)
    monkeypatch.setattr("minikafka.zookeeper.stores.configs._S_BETWEEN_PURGES", 0)
    await put(controller, "/config/changes/a-note", b"\xff")
    controller._configs._purge_at_s = 0.0
    await controller.write_topic_config("words", {})
    root = controller.root
    names = await controller.session.call(
        lambda client: client.get_children_async(f"{root}/config/changes")
    )
    assert "a-note" in names
    assert len(names) == 2
