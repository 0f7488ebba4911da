"""Admin for code without asyncio: blocking, safe to use from several threads. No state of its own:
an AsyncAdmin lives in the background thread (client/blocking.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from minikafka.api.groups import (
    CommittedOffset,
    DeletedGroup,
    GroupDescription,
    ListedGroup,
)
from minikafka.api.jobs import JobReport, JobSpec
from minikafka.api.metrics import BrokerMetrics
from minikafka.api.nodes import ControllerReport, NodeReport
from minikafka.api.requests import (
    ClusterMetadata,
    ClusterUpdate,
    DeleteRecordsResult,
    ListOffsetsResult,
    PartitionResult,
    PartitionStatus,
    TopicConfigEntry,
    TopicMetadata,
)
from minikafka.api.transactions import (
    DescribedProducers,
    ListedTransaction,
    TransactionDescription,
)
from minikafka.client.administering.admin import AsyncAdmin
from minikafka.client.administering.transaction_admin import OpenTransaction
from minikafka.client.blocking import Blocking
from minikafka.config.overrides import ConfigDescription
from minikafka.errors import MinikafkaError
from minikafka.model import Assignment, TopicPartition


class Admin(Blocking):
    """Administration; see AsyncAdmin for arguments and errors. Use it with `with`, or close it."""

    def __init__(self, bootstrap: str | Iterable[str], **options: Any) -> None:
        self._admin = AsyncAdmin(bootstrap, **options)
        super().__init__()
        self._start(self._admin.start(), self._admin.close)

    def __enter__(self) -> Admin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._close(self._admin.close())

    def cluster_id(self) -> str:
        return self._call(self._admin.cluster_id())

    def metadata(self, topics: Sequence[str] | None = None) -> ClusterMetadata:
        return self._call(self._admin.metadata(topics))

    def describe_topic(self, topic: str) -> TopicMetadata:
        return self._call(self._admin.describe_topic(topic))

    def describe_topic_configs(self, topic: str) -> Sequence[TopicConfigEntry]:
        return self._call(self._admin.describe_topic_configs(topic))

    def describe_configs(self, topic: str) -> Sequence[ConfigDescription]:
        return self._call(self._admin.describe_configs(topic))

    def describe_broker_configs(self, broker: int | None) -> Sequence[ConfigDescription]:
        return self._call(self._admin.describe_broker_configs(broker))

    def delete_records(
        self, before_offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, DeleteRecordsResult]:
        return self._call(self._admin.delete_records(before_offsets))

    def describe_partitions(self, partitions: Iterable[TopicPartition]) -> list[PartitionStatus]:
        return self._call(self._admin.describe_partitions(partitions))

    def broker_metrics(self) -> dict[int, BrokerMetrics | MinikafkaError]:
        return self._call(self._admin.broker_metrics())

    def list_offsets(
        self, timestamps_ms: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, ListOffsetsResult]:
        return self._call(self._admin.list_offsets(timestamps_ms))

    def watch(self, topics: Sequence[str] = ()) -> Iterator[ClusterUpdate]:
        """Blocks for each update; close the iterator, or leave its loop, to end the watch."""
        stream = self._admin.watch(topics)
        try:
            while True:
                yield self._call(_next(stream))
        finally:
            if self._open and hasattr(stream, "aclose"):
                self._call(stream.aclose())

    def submit_job(self, spec: JobSpec, token: str | None = None) -> str:
        return self._call(self._admin.submit_job(spec, token))

    def list_jobs(self, job_ids: Iterable[str] = ()) -> Sequence[JobReport]:
        return self._call(self._admin.list_jobs(job_ids))

    def cancel_job(self, job_id: str) -> JobReport:
        return self._call(self._admin.cancel_job(job_id))

    def describe_controller(self) -> ControllerReport:
        return self._call(self._admin.describe_controller())

    def list_nodes(self) -> Sequence[NodeReport]:
        return self._call(self._admin.list_nodes())

    def list_groups(self, states: Iterable[str] = ()) -> list[ListedGroup]:
        return self._call(self._admin.list_groups(states))

    def describe_groups(self, group_ids: Iterable[str]) -> list[GroupDescription]:
        return self._call(self._admin.describe_groups(group_ids))

    def delete_groups(self, group_ids: Iterable[str]) -> list[DeletedGroup]:
        return self._call(self._admin.delete_groups(group_ids))

    def group_offsets(self, group_id: str) -> dict[TopicPartition, CommittedOffset]:
        return self._call(self._admin.group_offsets(group_id))

    def alter_group_offsets(self, group_id: str, offsets: Mapping[TopicPartition, int]) -> None:
        self._call(self._admin.alter_group_offsets(group_id, offsets))

    def delete_group_offsets(
        self, group_id: str, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, MinikafkaError | None]:
        return self._call(self._admin.delete_group_offsets(group_id, partitions))

    def list_transactions(
        self,
        states: Iterable[str] = (),
        producer_ids: Iterable[int] = (),
        longer_than_ms: int = -1,
    ) -> list[ListedTransaction]:
        return self._call(self._admin.list_transactions(states, producer_ids, longer_than_ms))

    def describe_transactions(
        self, transactional_ids: Iterable[str]
    ) -> list[TransactionDescription]:
        return self._call(self._admin.describe_transactions(transactional_ids))

    def describe_producers(self, partitions: Iterable[TopicPartition]) -> list[DescribedProducers]:
        return self._call(self._admin.describe_producers(partitions))

    def open_transactions(
        self, partitions: Iterable[TopicPartition], min_age_ms: float = 0
    ) -> list[OpenTransaction]:
        return self._call(self._admin.open_transactions(partitions, min_age_ms))

    def find_hanging_transactions(
        self, partitions: Iterable[TopicPartition] | None = None, max_age_ms: float | None = None
    ) -> list[OpenTransaction]:
        return self._call(self._admin.find_hanging_transactions(partitions, max_age_ms))

    def abort_transaction(
        self,
        topic_partition: TopicPartition,
        producer_id: int,
        producer_epoch: int,
        coordinator_epoch: int = -1,
    ) -> None:
        self._call(
            self._admin.abort_transaction(
                topic_partition, producer_id, producer_epoch, coordinator_epoch
            )
        )

    def create_topic(
        self,
        name: str,
        num_partitions: int = -1,
        replication_factor: int = -1,
        configs: Mapping[str, str] | None = None,
        assignments: Mapping[int, Sequence[int]] | None = None,
        validate_only: bool = False,
        wait: bool = True,
    ) -> None:
        self._call(
            self._admin.create_topic(
                name, num_partitions, replication_factor, configs, assignments, validate_only, wait
            )
        )

    def delete_topic(self, name: str) -> None:
        self._call(self._admin.delete_topic(name))

    def create_partitions(
        self, topic: str, total_count: int, assignments: Sequence[Sequence[int]] = ()
    ) -> None:
        self._call(self._admin.create_partitions(topic, total_count, assignments))

    def alter_topic_config(self, topic: str, changes: Mapping[str, str | None]) -> None:
        self._call(self._admin.alter_topic_config(topic, changes))

    def alter_broker_config(self, broker: int | None, changes: Mapping[str, str | None]) -> None:
        self._call(self._admin.alter_broker_config(broker, changes))

    def elect_leaders(
        self, partitions: Sequence[TopicPartition] = (), unclean: bool = False
    ) -> Sequence[PartitionResult]:
        return self._call(self._admin.elect_leaders(partitions, unclean))

    def alter_partition_reassignments(
        self, targets: Mapping[TopicPartition, Sequence[int] | None]
    ) -> dict[TopicPartition, MinikafkaError | None]:
        return self._call(self._admin.alter_partition_reassignments(targets))

    def list_partition_reassignments(
        self, partitions: Sequence[TopicPartition] = ()
    ) -> dict[TopicPartition, Assignment]:
        return self._call(self._admin.list_partition_reassignments(partitions))


async def _next(stream: AsyncIterator[ClusterUpdate]) -> ClusterUpdate:
    return await stream.__anext__()
