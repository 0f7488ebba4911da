"""Messages about very many partitions are converted in slices, and come to the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from minikafka import turns
from minikafka.api.requests import ClusterUpdate, UpdateStateRequest
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.rpc import convert_client, mirror
from minikafka.rpc.generated import control_pb2
from minikafka.rpc.many_partitions import (
    cluster_update_to_wire,
    update_state_from_wire,
    update_state_to_wire,
)

PARTITIONS = tuple(
    PartitionMetadata(
        TopicPartition("many", number),
        "an-id",
        Assignment((1, 2, 3), (3,), (1,)),
        PartitionState(1, number, (1, 2), 4, number, {1: "a", 2: "b"}),
    )
    for number in range(100)
)
BROKERS = (BrokerInfo(1, "A", "localhost", 1), BrokerInfo(2, "B", "localhost", 2))


async def others_turns(work: Callable[[], Awaitable[object]]) -> int:
    """How often others had their turn meanwhile."""
    turns_had = 0
    task = asyncio.ensure_future(work())
    while not task.done():
        turns_had += 1
        await asyncio.sleep(0)
    await task
    return turns_had


@pytest.mark.parametrize("partitions", [(), PARTITIONS])
async def test_an_update_state_is_what_it_would_be_in_one_go(
    partitions: tuple[PartitionMetadata, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    request = UpdateStateRequest(
        1,
        4,
        77,
        BROKERS,
        (2,),
        partitions,
        ((TopicPartition("gone", 0), "its-id"),),
        (("gone", "its-id"),),
        full=True,
        number=9,
        drops=((TopicPartition("moved", 1), "another", 3),),
    )
    wire = await update_state_to_wire(request)
    assert wire == mirror.to_wire(request, control_pb2.UpdateStateRequest)
    assert await update_state_from_wire(wire) == request


async def test_an_update_of_the_cluster_is_what_it_would_be_in_one_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    update = ClusterUpdate(PARTITIONS, (("gone", "its-id"),), BROKERS, 1, 4)
    assert await cluster_update_to_wire(update) == convert_client.update_to_wire(update)


async def test_others_have_their_turns_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    request = UpdateStateRequest(1, 4, 77, BROKERS, (), PARTITIONS)
    wire = mirror.to_wire(request, control_pb2.UpdateStateRequest)
    update = ClusterUpdate(PARTITIONS, (), None, 1, 4)
    for work in (
        lambda: update_state_to_wire(request),
        lambda: update_state_from_wire(wire),
        lambda: cluster_update_to_wire(update),
    ):
        assert await others_turns(work) >= len(PARTITIONS)
