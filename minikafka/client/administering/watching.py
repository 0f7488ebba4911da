"""Watching the cluster through one broker after another, as if it were one that never dies.

State: what was told so far: the version of each partition, by topic id, and the live brokers.
Invariant: for one topic id a partition's states are told in rising order of version, each at most
once (rule R3), whichever broker tells them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from minikafka.api.requests import ClusterUpdate
from minikafka.client.backoff import Backoff
from minikafka.client.metadata import Cluster
from minikafka.errors import MinikafkaError
from minikafka.model import BrokerInfo, PartitionMetadata, TopicPartition

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Told:
    versions: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)
    topic_ids: dict[str, str] = field(default_factory=dict)
    brokers: tuple[BrokerInfo, ...] | None = None
    controller: tuple[int, int] = (-1, -1)  # epoch, id


async def watch_cluster(
    cluster: Cluster, topics: Sequence[str]
) -> AsyncGenerator[ClusterUpdate, None]:
    """Updates without end. A broker that fails is replaced by the next; if none is left, the
    brokers are asked again at growing distances, for ever."""
    told = _Told()
    backoff = Backoff(cluster.uniform)
    while True:
        for address in cluster.candidates():
            stream = cluster.channel_to(address).watch(topics)
            first = True
            try:
                async for update in stream:
                    backoff.reset()
                    news = _news(told, update, whole=first)
                    first = False
                    if news is not None:
                        yield news
            except MinikafkaError as error:
                if not error.retriable:
                    raise
                _logger.info("the watch through %s ended: %s", address, error)
            finally:
                if isinstance(stream, AsyncGenerator):
                    await stream.aclose()
            if not first:
                break  # it did tell: begin again with the best candidate
        refreshed = cluster.refresh_soon()
        await asyncio.sleep(backoff.next_s())
        await asyncio.wait([refreshed])


def _news(told: _Told, update: ClusterUpdate, whole: bool) -> ClusterUpdate | None:
    """What of this update was not told yet; None: nothing. `whole`: it is a broker's first, which
    has everything that exists."""
    beginning = told.brokers is None
    deleted = [each for each in update.deleted_topics if told.topic_ids.get(each[0]) == each[1]]
    if whole and not beginning:
        present = {partition.topic_id for partition in update.partitions}
        deleted += [each for each in told.topic_ids.items() if each[1] not in present]
    for name, topic_id in deleted:
        told.topic_ids.pop(name, None)
        told.versions = {key: told.versions[key] for key in told.versions if key[0] != topic_id}
    partitions = [each for each in update.partitions if _is_newer(told, each)]
    brokers = update.brokers
    if brokers is not None:
        if told.brokers == tuple(brokers):
            brokers = None
        else:
            told.brokers = tuple(brokers)
    controller = (update.controller_epoch, update.controller_id)
    changed = controller > told.controller
    told.controller = max(controller, told.controller)
    if not (partitions or deleted or brokers is not None or changed or beginning):
        return None
    epoch, controller_id = told.controller
    return ClusterUpdate(partitions, deleted, brokers, controller_id, epoch)


def _is_newer(told: _Told, partition: PartitionMetadata) -> bool:
    key = (partition.topic_id, partition.topic_partition)
    known = told.versions.get(key)
    version = partition.state.partition_version
    if known is not None and version <= known:
        return False
    told.versions[key] = version
    told.topic_ids[partition.topic_partition.topic] = partition.topic_id
    return True
