"""Configurations are read as they are announced (minikafka/zookeeper/stores/configs.py)."""

from __future__ import annotations

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import StoreEvent
from minikafka.model import Assignment, TopicDescription
from minikafka.zookeeper import codec
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.stores import configs
from tests.helpers.zookeeper import expect_event, expire_session

WRITTEN = WriteOutcome.WRITTEN


def topic(name: str) -> TopicDescription:
    return TopicDescription(name, name.ljust(22, "x"), {0: Assignment((1,))})


def layout(store) -> Layout:
    return Layout(store.root)


async def by_hand(store, path: str, overrides: dict[str, str] | None) -> None:
    """Written or, for None, deleted, and not announced."""
    data = codec.encode_config(overrides or {})
    if overrides is None:
        await store.session.call(lambda client: client.delete_async(path))
    elif await store.session.get(path) is None:
        await store.session.call(lambda client: client.create_async(path, data))
    else:
        await store.session.call(lambda client: client.set_async(path, data))


async def announce(store, data: bytes) -> None:
    prefix = layout(store).config_change_prefix
    await store.session.call(lambda client: client.create_async(prefix, data, sequence=True))


async def announcements(store) -> list[str]:
    path = layout(store).config_changes
    names = await store.session.call(lambda client: client.get_children_async(path))
    return sorted(f"{path}/{name}" for name in names)


@pytest.fixture
async def pair(connect, new_store):
    """(the controller, another broker that has read the configurations of three topics)."""
    controller, reader = await new_store(connect), await new_store(connect)
    assert (await controller.elect_controller(1)).won
    for name in "abc":
        assert await controller.create_topic(topic(name), {"retention.ms": "1"}) is WRITTEN
    assert await reader.read_topic_configs() == {name: {"retention.ms": "1"} for name in "abc"}
    return controller, reader


@pytest.fixture
def read_paths(pair, monkeypatch) -> list[str]:
    """The nodes whose data the reader has asked for."""
    _, reader = pair
    asked: list[str] = []
    get = reader.session.get

    async def noted(path: str, *rest):
        asked.append(path)
        return await get(path, *rest)

    monkeypatch.setattr(reader.session, "get", noted)
    return asked


async def test_a_change_costs_the_announcement_and_the_node_that_it_names(pair, read_paths):
    controller, reader = pair
    await controller.write_topic_config("b", {"retention.ms": "2"})
    await controller.write_broker_config("1", {"log.retention.ms": "3"})
    assert (await reader.read_topic_configs())["b"] == {"retention.ms": "2"}
    assert await reader.read_broker_configs() == {"1": {"log.retention.ms": "3"}}
    assert sorted(read_paths) == sorted(
        [
            *(await announcements(controller))[-2:],
            layout(reader).topic_config("b"),
            layout(reader).broker_config("1"),
        ]
    )
    read_paths.clear()
    assert len(await reader.read_topic_configs()) == 3
    assert read_paths == []


async def test_a_topic_made_anew_has_nothing_of_the_last_one_of_its_name(pair):
    controller, reader = pair
    assert await controller.delete_topic_nodes(topic("a")) is WRITTEN
    await expect_event(reader, StoreEvent.CONFIG_CHANGED)
    assert set(await reader.read_topic_configs()) == {"b", "c"}
    await by_hand(controller, layout(controller).topic_config("a"), {"retention.ms": "9"})
    assert await controller.create_topic(topic("a")) is WRITTEN
    assert (await reader.read_topic_configs())["a"] == {}
    assert (await controller.read_topic_configs())["a"] == {}


async def test_what_is_written_by_hand_is_heard_of_when_it_is_announced(pair):
    controller, reader = pair
    await by_hand(controller, layout(controller).topic_config("a"), {"retention.ms": "7"})
    assert (await reader.read_topic_configs())["a"] == {"retention.ms": "1"}
    await announce(controller, codec.encode_config_change("topics/a"))
    assert (await reader.read_topic_configs())["a"] == {"retention.ms": "7"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b'{"version":1,"entity_type":"topics","entity_name":"a"}',
        b'{"version":2,"entity_path":7}',
    ],
)
async def test_an_announcement_that_does_not_say_what_has_changed_is_of_everything(pair, data):
    controller, reader = pair
    await by_hand(controller, layout(controller).topic_config("a"), {"retention.ms": "7"})
    await by_hand(controller, layout(controller).topic_config("b"), None)
    await announce(controller, data)
    assert await reader.read_topic_configs() == {
        "a": {"retention.ms": "7"},
        "c": {"retention.ms": "1"},
    }


@pytest.mark.parametrize("entity", ["users/a", "topics/..", "topics/", "topics/a/b", "brokers", ""])
async def test_an_announcement_of_something_else_is_of_nothing(pair, read_paths, entity):
    controller, reader = pair
    await announce(controller, codec.encode_config_change(entity))
    assert len(await reader.read_topic_configs()) == 3
    assert read_paths == (await announcements(controller))[-1:]


async def test_all_is_read_anew_when_the_last_announcement_that_was_read_is_gone(pair):
    controller, reader = pair
    await by_hand(controller, layout(controller).topic_config("a"), {"retention.ms": "7"})
    for path in await announcements(controller):
        await controller.session.call(lambda client, path=path: client.delete_async(path))
    folder = layout(controller).config_changes
    await controller.session.call(lambda client: client.delete_async(folder))
    await controller.session.call(lambda client: client.create_async(folder, b""))
    assert (await reader.read_topic_configs())["a"] == {"retention.ms": "7"}
    await controller.write_topic_config("a", {"retention.ms": "8"})
    assert (await reader.read_topic_configs())["a"] == {"retention.ms": "8"}


async def test_all_is_read_anew_after_a_new_connection(pair, hosts):
    controller, reader = pair
    await by_hand(controller, layout(controller).topic_config("a"), {"retention.ms": "7"})
    await expire_session(reader.session, hosts)
    await expect_event(reader, StoreEvent.LOST)
    assert (await reader.read_topic_configs())["a"] == {"retention.ms": "7"}


async def test_old_announcements_are_purged_by_who_writes_the_next(pair, monkeypatch):
    controller, reader = pair
    monkeypatch.setattr(configs, "_S_BETWEEN_PURGES", 0)
    await controller.write_topic_config("a", {"retention.ms": "2"})
    young = await announcements(controller)
    assert len(young) == 4
    monkeypatch.setattr(configs, "_CONFIG_CHANGE_LIFETIME_MS", 0)
    # The purge of the last write has set the time of the next.
    controller._configs._purge_at_s = 0.0
    await controller.write_topic_config("b", {"retention.ms": "3"})
    [left] = await announcements(controller)
    assert left > max(young)
    found = await reader.read_topic_configs()
    assert [found[name]["retention.ms"] for name in "abc"] == ["2", "3", "1"]


async def test_announcements_are_looked_through_now_and_then_not_with_every_change(
    pair, monkeypatch
):
    controller, _ = pair
    monkeypatch.setattr(configs, "_CONFIG_CHANGE_LIFETIME_MS", 0)
    await controller.write_topic_config("a", {"retention.ms": "2"})
    assert len(await announcements(controller)) == 4
