"""The properties of a topic."""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.config.properties import (
    ALL_REPLICAS,
    INT64_MAX,
    INT64_MIN,
    VERSION_EXPECTED,
    ConfigEntry,
    any_of,
    boolean,
    declarations,
    describe,
    long,
    one_of,
    ratio,
    read_kafka_version,
    replica_list,
    text_value,
    whole,
)

CLEANUP_POLICIES = ("compact", "delete")
COMPRESSION_TYPES = ("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")
TIMESTAMP_TYPES = ("CreateTime", "LogAppendTime")
NO_TIERED_STORAGE = "there is no tiered storage, so all of a log is local"
NO_DOWNCONVERSION = "no version of Fetch that is served needs older formats"
ONE_FORMAT = "records are stored in format v2 alone, as in Kafka since 3.0"
NO_PREALLOCATION = "the files of a log grow as they are written"


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """The configuration of one topic, complete. Every property is dynamic."""

    cleanup_policy: str = any_of(
        "delete",
        CLEANUP_POLICIES,
        "What happens to old records: deletion by age and size, all but the newest of a key, both, "
        "or (blank) nothing.",
        broker="log.cleanup.policy",
    )
    compression_gzip_level: int = whole(
        -1,
        "The level at which a broker compresses to gzip; -1: that of zlib.",
        1,
        9,
        or_also=-1,
        broker="compression.gzip.level",
    )
    compression_lz4_level: int = whole(
        9,
        "The level at which a broker compresses to lz4.",
        1,
        17,
        broker="compression.lz4.level",
    )
    compression_type: str = one_of(
        "producer",
        COMPRESSION_TYPES,
        "The codec of what is stored: as the producer sent it, or this one whatever was sent.",
        broker="compression.type",
    )
    compression_zstd_level: int = whole(
        3,
        "The level at which a broker compresses to zstd.",
        -131_072,
        22,
        broker="compression.zstd.level",
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
    flush_messages: int = long(
        INT64_MAX,
        "Records after which a log is fsynced; 1: before they are acknowledged, as "
        "flush.before.ack has it.",
        1,
        broker="log.flush.interval.messages",
    )
    flush_ms: int = long(
        INT64_MAX,
        "Time after which what was appended is fsynced.",
        broker="log.flush.interval.ms",
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
    local_retention_bytes: int = long(
        -2,
        "Size above which segments that are also remote go from the local disk.",
        -2,
        broker="log.local.retention.bytes",
        no_effect=NO_TIERED_STORAGE,
    )
    local_retention_ms: int = long(
        -2,
        "Age at which segments that are also remote go from the local disk.",
        -2,
        broker="log.local.retention.ms",
        no_effect=NO_TIERED_STORAGE,
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
    message_downconversion_enable: bool = boolean(
        True,
        "Whether old consumers get records in older formats.",
        broker="log.message.downconversion.enable",
        no_effect=NO_DOWNCONVERSION,
    )
    message_format_version: str = text_value(
        "3.0-IV1",
        "The format in which records are stored.",
        VERSION_EXPECTED,
        read_kafka_version,
        broker="log.message.format.version",
        no_effect=ONE_FORMAT,
    )
    message_timestamp_after_max_ms: int = long(
        INT64_MAX,
        "How far ahead of the broker's clock a record's timestamp may be.",
        broker="log.message.timestamp.after.max.ms",
    )
    message_timestamp_before_max_ms: int = long(
        INT64_MAX,
        "How far behind the broker's clock a record's timestamp may be.",
        broker="log.message.timestamp.before.max.ms",
    )
    message_timestamp_difference_max_ms: int = long(
        INT64_MAX,
        "Deprecated: stands for message.timestamp.before.max.ms and message.timestamp.after.max.ms "
        "where those have their default.",
        broker="log.message.timestamp.difference.max.ms",
    )
    message_timestamp_type: str = one_of(
        "CreateTime",
        TIMESTAMP_TYPES,
        "Whose clock a record's timestamp is of: the producer's or the leader's.",
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
    preallocate: bool = boolean(
        False,
        "Whether a new segment's file has its full size at once.",
        broker="log.preallocate",
        no_effect=NO_PREALLOCATION,
    )
    remote_log_copy_disable: bool = boolean(
        False,
        "Whether no more segments go to tiered storage.",
        dynamic=True,
        no_effect=NO_TIERED_STORAGE,
    )
    remote_log_delete_on_disable: bool = boolean(
        False,
        "Whether remote segments are deleted once tiered storage is turned off.",
        dynamic=True,
        no_effect=NO_TIERED_STORAGE,
    )
    remote_storage_enable: bool = boolean(
        False,
        "Whether closed segments go to tiered storage.",
        dynamic=True,
        no_effect=NO_TIERED_STORAGE,
    )
    retention_bytes: int = long(
        -1,
        "Size above which old segments go; below 0: never.",
        INT64_MIN,
        broker="log.retention.bytes",
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
    segment_jitter_ms: int = long(
        0,
        "How much sooner than segment.ms a new segment may be begun, by chance: so that not all "
        "logs do it at once.",
        broker="log.roll.jitter.ms",
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

    @property
    def flushes_before_ack(self) -> bool:
        """Whether a record counts for nothing until it is fsynced."""
        return self.flush_before_ack or self.flush_messages == 1

    @property
    def timestamp_before_max_ms(self) -> int:
        """How far behind the broker's clock a record's timestamp may be; INT64_MAX: any."""
        own = self.message_timestamp_before_max_ms
        return own if own != INT64_MAX else self.message_timestamp_difference_max_ms

    @property
    def timestamp_after_max_ms(self) -> int:
        """How far ahead of the broker's clock a record's timestamp may be; INT64_MAX: any."""
        own = self.message_timestamp_after_max_ms
        return own if own != INT64_MAX else self.message_timestamp_difference_max_ms

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
