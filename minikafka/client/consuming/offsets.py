"""Asking leaders for offsets (earliest, latest, by time), patiently: shared by consumer and
admin."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from minikafka.api.requests import ListOffsetsPartition, ListOffsetsResult
from minikafka.client.backoff import Backoff
from minikafka.client.metadata import Cluster
from minikafka.errors import (
    LeaderNotAvailableError,
    MinikafkaError,
    NetworkError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from minikafka.model import TopicPartition


async def lookup_offsets(
    cluster: Cluster,
    wanted: Mapping[TopicPartition, int],
    timeout_ms: float,
    *,
    read_committed: bool = False,
) -> dict[TopicPartition, ListOffsetsResult]:
    """What the leaders answer, without errors. `wanted`: partition to timestamp (ms, or
    LATEST_TIMESTAMP and its kin). `read_committed`: the end is that of committed records.

    Retriable errors are retried until `timeout_ms` is over, then raised; others are raised at once.
    UnknownTopicOrPartitionError names what does not exist.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_ms / 1000
    await check_exist(cluster, wanted, timeout_ms)
    backoff = Backoff(cluster.uniform)
    found: dict[TopicPartition, ListOffsetsResult] = {}
    while True:
        missing = {each: wanted[each] for each in wanted if each not in found}
        error = await _ask_leaders(cluster, missing, found, deadline - loop.time(), read_committed)
        if error is None:
            return found
        if not error.retriable or loop.time() >= deadline:
            raise error
        refreshed = cluster.refresh_soon()
        await asyncio.sleep(min(backoff.next_s(), max(deadline - loop.time(), 0)))
        await asyncio.wait([refreshed], timeout=max(deadline - loop.time(), 0))


async def check_exist(
    cluster: Cluster, partitions: Mapping[TopicPartition, int], timeout_ms: float
) -> None:
    """UnknownTopicOrPartitionError for a partition that its topic has not, also after another
    look."""
    for name in {each.topic for each in partitions}:
        view = await cluster.wait_for_topic(name, timeout_ms)
        highest = max(each.partition for each in partitions if each.topic == name)
        if highest >= view.partition_count:
            await asyncio.wait([cluster.refresh_soon()], timeout=timeout_ms / 1000)
        for each in partitions:
            if each.topic == name and not 0 <= each.partition < view.partition_count:
                raise UnknownTopicOrPartitionError(
                    f"topic {name!r} has no partition {each.partition}; "
                    f"it has 0 to {view.partition_count - 1}"
                )


async def _ask_leaders(
    cluster: Cluster,
    wanted: Mapping[TopicPartition, int],
    found: dict[TopicPartition, ListOffsetsResult],
    timeout_s: float,
    read_committed: bool,
) -> MinikafkaError | None:
    """One question to each leader; fills `found`. Returns the worst error (a final one if there
    is)."""
    by_leader: dict[int, list[ListOffsetsPartition]] = {}
    errors: list[MinikafkaError] = []
    for each, timestamp_ms in wanted.items():
        view = cluster.leader(each)
        if view is None:
            errors.append(LeaderNotAvailableError(f"{each} has no leader"))
        else:
            question = ListOffsetsPartition(each, timestamp_ms, read_committed=read_committed)
            by_leader.setdefault(view.leader, []).append(question)

    async def ask(leader: int, partitions: list[ListOffsetsPartition]) -> None:
        try:
            results = await asyncio.wait_for(
                cluster.channel(leader).list_offsets(partitions), max(timeout_s, 0.001)
            )
        except TimeoutError:
            errors.append(RequestTimedOutError(f"broker {leader} did not answer in time"))
        except MinikafkaError as error:
            if isinstance(error, NetworkError):
                cluster.broker_failed(leader)
            errors.append(error)
        else:
            for result in results:
                if result.error is None:
                    found[result.topic_partition] = result
                else:
                    errors.append(result.error)

    await asyncio.gather(*(ask(*each) for each in by_leader.items()))
    final = [error for error in errors if not error.retriable]
    return next(iter(final or errors), None)
