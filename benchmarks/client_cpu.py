"""What a record costs the Python client in CPU time, without network and brokers.

    python benchmarks/client_cpu.py [--records 200000] [--size 1024]

The channel answers at once and keeps nothing, so the figures are the client's alone: accumulating,
building batches, sequences, receipts; for reading: checking CRCs, parsing, handing out. gRPC comes
on top, per batch (`minikafka perf` measures the whole).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from minikafka.api.requests import (
    ClusterMetadata,
    FetchResult,
    ListOffsetsResult,
    ProduceResult,
    TopicMetadata,
)
from minikafka.client import AsyncConsumer, AsyncProducer, WouldBlockError
from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionMetadata,
    PartitionState,
    TopicPartition,
)
from minikafka.records.build import BatchBuilder
from minikafka.records.header import STAMP_BYTES, stamp

TOPIC = "t"
PARTITION = TopicPartition(TOPIC, 0)
BATCH_RECORDS = 250


class NullChannel:
    """A broker that takes everything and has one batch, again and again."""

    def __init__(self, address: str, batch: bytes = b"") -> None:
        self.batch = batch
        self.offset = 0

    def produce(self, request: Any) -> asyncio.Future[list[ProduceResult]]:
        answer = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(
            answer.set_result,
            [ProduceResult(each.topic_partition, None, 0) for each in request.partitions],
        )
        return answer

    async def fetch(self, request: Any) -> list[FetchResult]:
        await asyncio.sleep(0)
        offset = request.partitions[0].fetch_offset
        body = self.batch[STAMP_BYTES:]
        records = b"".join(
            stamp(offset + number * BATCH_RECORDS, len(self.batch), 0) + body for number in range(4)
        )
        return [FetchResult(PARTITION, None, 10**15, 0, records)]

    async def list_offsets(self, partitions: Any) -> list[ListOffsetsResult]:
        return [ListOffsetsResult(PARTITION, None, 0)]

    async def metadata(self, topics: Any, allow_auto_create: bool) -> ClusterMetadata:
        state = PartitionState(1, 0, (1,), 1, 0)
        partition = PartitionMetadata(PARTITION, "id", Assignment((1,)), state)
        found = [TopicMetadata(TOPIC, "id", None, [partition])]
        return ClusterMetadata("null", 1, 1, [BrokerInfo(1, "A", "null", 1)], found)

    async def init_producer_id(self) -> tuple[int, int]:
        return 1, 0

    async def close(self) -> None:
        return None


async def measure(name: str, records: int, size: int, work: Callable[[], Awaitable[None]]) -> None:
    begin_s = time.process_time()
    await work()
    spent_s = time.process_time() - begin_s
    print(
        f"{name:28} {spent_s / records * 1e6:6.2f} us per record, "
        f"{records * size / spent_s / 1e6:7.1f} MB per second of CPU"
    )


async def run(records: int, size: int) -> None:
    value = b"x" * size

    async def send_nowait() -> None:
        async with AsyncProducer("null:1", connect=NullChannel) as producer:
            await producer.partition_count(TOPIC)
            for number in range(records):
                try:
                    producer.send_nowait(TOPIC, value)
                except WouldBlockError:
                    await producer.send(TOPIC, value)
                if number % 250 == 0:
                    await asyncio.sleep(0)

    async def send() -> None:
        async with AsyncProducer("null:1", connect=NullChannel) as producer:
            for number in range(records):
                await producer.send(TOPIC, value, key=b"%d" % (number % 1000))
                if number % 250 == 0:
                    await asyncio.sleep(0)

    builder = BatchBuilder()
    for _ in range(BATCH_RECORDS):
        builder.append(None, value, (), 0)
    batch = builder.build()

    def connect(address: str) -> NullChannel:
        return NullChannel(address, batch)

    async def poll() -> None:
        async with AsyncConsumer("null:1", connect=connect) as consumer:
            consumer.assign([PARTITION])
            seen = 0
            while seen < records:
                seen += len(await consumer.poll())

    async def poll_batches() -> None:
        async with AsyncConsumer("null:1", connect=connect) as consumer:
            consumer.assign([PARTITION])
            seen = 0
            while seen < records:
                seen += sum(each.record_count for each in await consumer.poll_batches())

    await measure("send_nowait", records, size, send_nowait)
    await measure("await send, with keys", records, size, send)
    await measure("poll", records, size, poll)
    await measure("poll_batches", records, size, poll_batches)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="CPU of the Python client per record.")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=1024)
    options = parser.parse_args(arguments)
    uvloop.run(run(options.records, options.size))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
