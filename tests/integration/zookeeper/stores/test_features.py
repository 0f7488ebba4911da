"""The features that are finalized (/feature), and what brokers say that they know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import StoreEvent
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.paths import Layout
from tests.helpers.zookeeper import broker, expect_event

WRITTEN, DEPOSED, CONFLICT = WriteOutcome.WRITTEN, WriteOutcome.DEPOSED, WriteOutcome.CONFLICT


def test_the_node_is_as_kafka_has_it():
    data = codec.encode_feature(2)
    assert data == b'{"version":2,"status":1,"features":{"transaction.version":2}}'
    assert codec.decode_feature("/feature", data) == 2
    assert codec.decode_feature("/feature", b'{"version":2,"status":1,"features":{}}') == 0
    for wrong in (b"", b"[", b'{"version":1}', b'{"version":2}'):
        with pytest.raises(CorruptNodeError):
            codec.decode_feature("/feature", wrong)


async def test_a_level_is_finalized_and_only_raised(connect, new_store):
    controller, reader = await new_store(connect), await new_store(connect)
    assert (await controller.elect_controller(1)).won
    assert await reader.read_feature() is None
    assert await controller.raise_feature(1) is WRITTEN
    await expect_event(reader, StoreEvent.CONFIG_CHANGED)
    assert await reader.read_feature() == (1, 0)
    assert await controller.raise_feature(1) is WRITTEN
    assert await controller.raise_feature(2) is WRITTEN
    await expect_event(reader, StoreEvent.CONFIG_CHANGED)
    assert await reader.read_feature() == (2, 1)
    assert await controller.raise_feature(1) is WRITTEN
    assert await reader.read_feature() == (2, 1)


async def test_a_deposed_controller_finalizes_nothing(connect, new_store):
    old, new = await new_store(connect), await new_store(connect)
    assert (await old.elect_controller(1)).won
    lease = old._controllership.lease
    await old.resign_controller()
    assert (await new.elect_controller(2)).won
    old._controllership.lease = lease
    assert await old.raise_feature(2) is DEPOSED
    assert await new.read_feature() is None


async def test_what_cannot_be_read_is_told_and_not_written_over(connect, new_store):
    store = await new_store(connect)
    assert (await store.elect_controller(1)).won
    path = Layout(store._layout.root).feature
    await store.session.call(lambda client: client.create_async(path, b"[garbage"))
    assert await store.read_feature() is None
    assert path in store.unreadable.nodes
    assert await store.raise_feature(2) is CONFLICT
    assert (await store.session.get(path))[0] == b"[garbage"
    await store.session.call(lambda client: client.delete_async(path))
    assert await store.raise_feature(2) is WRITTEN
    assert await store.read_feature() == (2, 0)
    assert path not in store.unreadable.nodes


async def test_a_registration_says_what_its_broker_knows(connect, new_store):
    store, other = await new_store(connect), await new_store(connect)
    await store.register_broker(replace(broker(1), transaction_level=2))
    await other.register_broker(broker(2))  # as one from before there were transactions
    levels = {key: each.transaction_level for key, each in (await store.read_brokers()).items()}
    assert levels == {1: 2, 2: 0}
    node = await store.session.get(Layout(store._layout.root).broker(1))
    assert b'"features":{"transaction.version":{"min_version":1,"max_version":2}}' in node[0]
