"""The properties of a topic."""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.properties import (
    ALL_REPLICAS,
    INT64_MAX,
    ConfigEntry,
    any_of,
    boolean,
    declarations,
    describe,
    long,
    only,
    ratio,
    replica_list,
    whole,
)

CLEANUP_POLICIES = ("compact", "delete")
NO_RECOMPRESSION = "the broker keeps batches as they came: compress at the producer"
NO_APPEND_TIME = "LogAppendTime comes in a later version"


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """The configuration of one topic, complete. Every property is dynamic."""

    cleanup_policy: str = any_of(
        "delete",
        CLEANUP_POLICIES,
        "What happens to old records: deletion by age and size, all but the newest of a key, both.",
        broker="log.cleanup.policy",
    )
    compression_type: str = only(
        "producer",
        NO_RECOMPRESSION,
        "Compression of what is stored: as the producer sent it.",
        broker="compression.type",
    )
    delete_retention_ms: int = long(
        86_400_000,
        "How long compaction keeps a record without a value, once it has come upon it.",
        broker="log.cleaner.delete.retention.ms",
    )
    file_delete_delay_ms: int = long(
        60_000, "Time until a deleted segment's files go.", broker="log.segment.delete.delay.ms"
    )
    flush_before_ack: bool = boolean(
        False,
        "Minikafka's own: a record is replicated once it is fsynced.",
        broker="log.flush.before.ack",
    )
    follower_replication_throttled_replicas: str = replica_list(
        "Replicas that are fetched under follower.replication.throttled.rate while out of sync."
    )
    index_interval_bytes: int = whole(
        4096, "Bytes between two entries of an index.", broker="log.index.interval.bytes"
    )
    leader_replication_throttled_replicas: str = replica_list(
        "Replicas that are read from under leader.replication.throttled.rate by those out of sync."
    )
    max_compaction_lag_ms: int = long(
        INT64_MAX,
        "Age from which a record is compacted whatever the dirty ratio.",
        1,
        broker="log.cleaner.max.compaction.lag.ms",
    )
    max_message_bytes: int = whole(
        1_048_588, "The largest record batch that is accepted.", broker="message.max.bytes"
    )
    message_timestamp_type: str = only(
        "CreateTime",
        NO_APPEND_TIME,
        "Whose clock a record's timestamp is of: the producer's.",
        broker="log.message.timestamp.type",
    )
    min_cleanable_dirty_ratio: float = ratio(
        0.5,
        "Share of a log that must be new before it is compacted again.",
        broker="log.cleaner.min.cleanable.ratio",
    )
    min_compaction_lag_ms: int = long(
        0,
        "Age below which a record is not compacted.",
        broker="log.cleaner.min.compaction.lag.ms",
    )
    min_insync_replicas: int = whole(
        1, "In-sync replicas without which nothing is committed.", 1, broker="min.insync.replicas"
    )
    retention_bytes: int = long(
        -1, "Size above which old segments go; -1: never.", -1, broker="log.retention.bytes"
    )
    retention_ms: int = long(
        604_800_000, "Age at which a segment is deleted; -1: never.", -1, broker="log.retention.ms"
    )
    segment_bytes: int = whole(
        1_073_741_824, "Size at which a new segment is begun.", 14, broker="log.segment.bytes"
    )
    segment_index_bytes: int = whole(
        10_485_760, "The largest size of a segment's index.", 4, broker="log.index.size.max.bytes"
    )
    segment_ms: int = long(
        604_800_000, "Age at which a new segment is begun.", 1, broker="log.roll.ms"
    )
    unclean_leader_election_enable: bool = boolean(
        False,
        "Whether a replica outside the ISR may lead at need: loses records.",
        broker="unclean.leader.election.enable",
    )

    @property
    def compacted(self) -> bool:
        return "compact" in self.cleanup_policy

    @property
    def deletes(self) -> bool:
        return "delete" in self.cleanup_policy

    def throttles_follower(self, partition: int, broker_id: int) -> bool:
        """Whether this replica is one that is fetched under a throttle."""
        return _names_replica(self.follower_replication_throttled_replicas, partition, broker_id)

    def throttles_leader(self, partition: int, broker_id: int) -> bool:
        """Whether this replica is one that is read from under a throttle."""
        return _names_replica(self.leader_replication_throttled_replicas, partition, broker_id)

    def describe(self) -> list[ConfigEntry]:
        """One entry a property, in order of name."""
        return describe(self, TOPIC_PROPERTIES)


def _names_replica(replicas: str, partition: int, broker_id: int) -> bool:
    if not replicas:
        return False
    return replicas == ALL_REPLICAS or f"{partition}:{broker_id}" in replicas.split(",")


TOPIC_PROPERTIES = declarations(TopicConfig, "topic")
