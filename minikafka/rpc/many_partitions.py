"""Messages about the partitions of a whole cluster, to and from the wire in slices of the loop: ten
thousand partitions are a quarter of a second of work. No state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from minikafka.api.requests import ClusterUpdate, UpdateStateRequest
from minikafka.model import PartitionMetadata
from minikafka.rpc import mirror
from minikafka.rpc.convert import partition_from_wire, partition_to_wire
from minikafka.rpc.convert_client import update_to_wire
from minikafka.rpc.generated import client_pb2, common_pb2, control_pb2
from minikafka.turns import in_slices


class _Appendable(Protocol):
    def append(self, value: common_pb2.Partition, /) -> None: ...


async def _append_all(values: Sequence[PartitionMetadata], partitions: _Appendable) -> None:
    async for each in in_slices(values):
        partitions.append(partition_to_wire(each))


async def update_state_to_wire(request: UpdateStateRequest) -> control_pb2.UpdateStateRequest:
    wire = mirror.to_wire(replace(request, partitions=()), control_pb2.UpdateStateRequest)
    await _append_all(request.partitions, wire.partitions)
    return wire


async def update_state_from_wire(wire: control_pb2.UpdateStateRequest) -> UpdateStateRequest:
    """Takes the partitions out of the message."""
    partitions = tuple([partition_from_wire(each) async for each in in_slices(wire.partitions)])
    del wire.partitions[:]
    return replace(mirror.from_wire(wire, UpdateStateRequest), partitions=partitions)


async def cluster_update_to_wire(update: ClusterUpdate) -> client_pb2.WatchPartitionsResponse:
    wire = update_to_wire(replace(update, partitions=()))
    await _append_all(update.partitions, wire.partitions)
    return wire
