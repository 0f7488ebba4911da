"""What a person can set: broker and topic configuration under Kafka's property names.

A property is declared once, as a field of `BrokerConfig` or `TopicConfig`: the field's name with
dots for underscores is the property's name, and its metadata says how text is read, what is
accepted, and what it is for. Parsing, validation, suggestions for misspelt names, documentation
and `topics describe` all come from that declaration. Property names, meanings and defaults are
Apache Kafka's unless the doc line says "minikafka's own".

Invariants: both classes are immutable; whatever the functions below return has passed every
check, so nothing downstream validates again. Pure: text in, values out; nothing is read from the
environment or from disk.

Errors: a broker's configuration raises `UsageError` (its start is refused, exit status 2), a
topic's raises `InvalidConfigError`. Each names the property, the value and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, replace
from typing import Any, TypeAlias

from minikafka import model
from minikafka.errors import InvalidConfigError, MinikafkaError, UsageError
from minikafka.properties import (
    ALL_REPLICAS,
    CONNECT_EXPECTED,
    INT32_MAX,
    INT64_MAX,
    NAME_EXPECTED,
    ConfigEntry,
    Endpoint,
    Property,
    any_of,
    boolean,
    declarations,
    endpoint,
    foreign_property,
    kafka_listener,
    long,
    only,
    parse_properties,
    ratio,
    read_directory,
    read_name,
    read_zookeeper_connect,
    replica_list,
    text_value,
    whole,
)

__all__ = [
    "UNTHROTTLED",
    "BrokerConfig",
    "ConfigEntry",
    "Endpoint",
    "Property",
    "TopicConfig",
    "as_text",
    "field_name",
    "parse_broker_config",
    "parse_properties",
    "properties",
    "require_declared",
    "topic_config",
    "validate_broker_overrides",
    "validate_topic_overrides",
    "with_overrides",
]

UNTHROTTLED = INT64_MAX  # bytes a second of replication
_MS_PER_MINUTE = 60_000
_MS_PER_HOUR = 3_600_000
_UNSPECIFIED_HOSTS = ("0.0.0.0", "::")
_CLEANUP_POLICIES = ("compact", "delete")
_NO_RECOMPRESSION = "the broker keeps batches as they came: compress at the producer"
_NO_APPEND_TIME = "LogAppendTime comes in a later version"


# --- Topics -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """The configuration of one topic, complete. Every property is dynamic."""

    cleanup_policy: str = any_of(
        "delete",
        _CLEANUP_POLICIES,
        "What happens to old records: deletion by age and size, all but the newest of a key, both.",
        broker="log.cleanup.policy",
    )
    compression_type: str = only(
        "producer",
        _NO_RECOMPRESSION,
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
        _NO_APPEND_TIME,
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
        return _describe(self)


def _names_replica(replicas: str, partition: int, broker_id: int) -> bool:
    if not replicas:
        return False
    return replicas == ALL_REPLICAS or f"{partition}:{broker_id}" in replicas.split(",")


# --- Brokers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """The configuration of one broker. Required: broker.id, zookeeper.connect, log.dirs."""

    broker_id: int = whole(
        MISSING, "The number of this broker, unique in the cluster and for ever.", 1
    )
    zookeeper_connect: str = text_value(
        MISSING,
        "The ZooKeeper servers, and the path under which this cluster lives.",
        CONNECT_EXPECTED,
        read_zookeeper_connect,
    )
    log_dirs: str = text_value(
        MISSING,
        "The directory of this broker's data (log.dir is another name of it).",
        "one directory",
        read_directory,
    )
    broker_name: str | None = text_value(
        None,
        "Minikafka's own: the name people see; without it 1 is A, 26 is Z.",
        NAME_EXPECTED,
        read_name,
    )
    broker_rack: str | None = text_value(
        None, "The rack: the replicas of a partition are spread over racks.", "any text", str
    )

    zookeeper_session_timeout_ms: int = whole(
        6_000, "Silence after which ZooKeeper declares this broker dead.", 1
    )
    zookeeper_connection_timeout_ms: int = whole(
        18_000, "How long a starting broker tries to reach ZooKeeper.", 1
    )

    grpc_listener: Endpoint = endpoint(
        Endpoint("127.0.0.1", 19092),
        "Minikafka's own: where this broker listens; port 0 takes a free one.",
        0,
    )
    grpc_advertised_listener: Endpoint | None = endpoint(
        None, "Minikafka's own: the address that others are told; without it grpc.listener.", 1
    )
    listeners: Endpoint | None = kafka_listener(
        None, "Where this broker listens for Kafka's clients; port 0 takes a free one.", 0
    )
    advertised_listeners: Endpoint | None = kafka_listener(
        None, "The address that Kafka's clients are told; without it listeners.", 1
    )
    metrics_listener: Endpoint | None = endpoint(
        None,
        "Minikafka's own: where /metrics is served to Prometheus over HTTP; not at all without "
        "it; port 0 takes a free one.",
        0,
    )
    connections_max_idle_ms: int = long(
        600_000, "Silence after which a Kafka client's connection is closed.", 1
    )
    max_incremental_fetch_session_cache_slots: int = whole(
        1_000, "How many incremental fetch sessions are kept."
    )
    socket_request_max_bytes: int = whole(104_857_600, "The largest request that is read.", 1)
    queued_max_request_bytes: int = long(
        268_435_456, "Memory for produce requests that are not answered yet; more are held back.", 1
    )

    controlled_shutdown_enable: bool = boolean(
        True, "Whether SIGTERM moves leadership away before leaving."
    )
    controlled_shutdown_max_retries: int = whole(
        3, "How often a controlled shutdown is tried again."
    )
    controlled_shutdown_retry_backoff_ms: int = long(
        5_000, "Wait between two tries of a controlled shutdown."
    )

    auto_create_topics_enable: bool = boolean(
        True, "Whether producing to an unknown topic creates it."
    )
    delete_topic_enable: bool = boolean(True, "Whether topics can be deleted.")
    default_replication_factor: int = whole(
        1, "Replicas of a partition when none are asked for.", 1, 32767
    )
    num_partitions: int = whole(1, "Partitions of a topic when none are asked for.", 1)
    auto_leader_rebalance_enable: bool = boolean(
        True, "Whether leadership goes back to preferred replicas."
    )
    leader_imbalance_check_interval_seconds: int = long(
        300, "Time between two checks of leadership.", 1
    )
    leader_imbalance_per_broker_percentage: int = whole(
        10,
        "Share of a broker's preferred partitions led elsewhere that starts a rebalance.",
        0,
        100,
    )

    replica_lag_time_max_ms: int = long(
        30_000, "How long a follower may lag before it leaves the ISR.", 1
    )
    replica_fetch_wait_max_ms: int = whole(500, "How long a leader holds a follower's empty fetch.")
    replica_fetch_min_bytes: int = whole(
        1, "Bytes that a leader waits for before it answers a fetch."
    )
    replica_fetch_max_bytes: int = whole(
        1_048_576, "Bytes of one partition in an answer to a follower.", 1
    )
    replica_fetch_response_max_bytes: int = whole(
        10_485_760, "Bytes of one answer to a follower.", 1
    )
    replica_fetch_backoff_ms: int = whole(1_000, "Wait of a follower after a failed fetch.")
    follower_replication_throttled_rate: int = long(
        UNTHROTTLED,
        "Bytes a second that this broker fetches at most of the throttled replicas of a topic.",
        1,
        dynamic=True,
    )
    leader_replication_throttled_rate: int = long(
        UNTHROTTLED,
        "Bytes a second that this broker gives at most to others of the throttled replicas of a "
        "topic.",
        1,
        dynamic=True,
    )
    replica_high_watermark_checkpoint_interval_ms: int = long(
        5_000, "Time between two writes of the high watermarks to disk.", 1
    )
    producer_id_expiration_ms: int = whole(
        86_400_000,
        "Silence after which the state of an idempotent producer is forgotten.",
        1,
        dynamic=True,
    )
    group_initial_rebalance_delay_ms: int = whole(
        3_000, "How long a group without members waits for more before it begins."
    )
    group_min_session_timeout_ms: int = whole(
        6_000, "The shortest session timeout that a member may ask for."
    )
    group_max_session_timeout_ms: int = whole(
        1_800_000, "The longest session timeout that a member may ask for."
    )
    group_max_size: int = whole(INT32_MAX, "The most members that a group may have.", 1)
    offset_metadata_max_bytes: int = whole(
        4096, "The longest note that may be committed with an offset."
    )
    offsets_retention_minutes: int = whole(
        10_080, "How long offsets are kept that no member needs.", 1
    )
    offsets_retention_check_interval_ms: int = long(
        600_000, "Time between two looks for offsets that have expired.", 1
    )
    offsets_topic_num_partitions: int = whole(
        50, "Partitions of __consumer_offsets when it is created.", 1
    )
    offsets_topic_replication_factor: int = whole(
        3, "Replicas of __consumer_offsets when it is created, if so many brokers live.", 1, 32767
    )
    offsets_topic_segment_bytes: int = whole(
        104_857_600, "The segment.bytes that __consumer_offsets is created with.", 14
    )
    node_status_interval_ms: int = long(
        5_000, "Minikafka's own: time between two looks at this broker's own load.", 100
    )
    job_scrub_bytes_per_second: int = long(
        20_000_000, "Minikafka's own: how fast a scrub or compare job reads.", 1_000
    )
    job_max_reassignments: int = whole(
        2, "Minikafka's own: reassign jobs that go on at once in the cluster.", 1, 64
    )
    job_acknowledge_timeout_ms: int = long(
        10_000, "Minikafka's own: time for a worker to take a job up before another gets it.", 100
    )
    job_retention_ms: int = long(
        86_400_000, "Minikafka's own: how long a job that has ended is kept.", 1_000
    )
    background_threads: int = whole(
        2, "Threads for fsync, deletion and other slow file work.", 1, 256
    )

    message_max_bytes: int = whole(1_048_588, "Default of max.message.bytes.", dynamic=True)
    min_insync_replicas: int = whole(
        1, "Default of the topic property of that name.", 1, dynamic=True
    )
    unclean_leader_election_enable: bool = boolean(
        False, "Default of the topic property of that name.", dynamic=True
    )
    compression_type: str = only(
        "producer", _NO_RECOMPRESSION, "Default of the topic property of that name."
    )
    log_cleanup_policy: str = any_of(
        "delete", _CLEANUP_POLICIES, "Default of cleanup.policy.", dynamic=True
    )
    log_message_timestamp_type: str = only(
        "CreateTime", _NO_APPEND_TIME, "Default of message.timestamp.type."
    )
    log_cleaner_delete_retention_ms: int = long(
        86_400_000, "Default of delete.retention.ms.", dynamic=True
    )
    log_cleaner_enable: bool = boolean(True, "Whether topics that ask for it are compacted.")
    log_cleaner_threads: int = whole(1, "Threads that compact: one.", 1, 1)
    log_cleaner_backoff_ms: int = long(
        15_000, "Wait of compaction when no log is dirty enough.", 1, dynamic=True
    )
    log_cleaner_dedupe_buffer_size: int = long(
        134_217_728, "Memory for keys in one round of compaction.", 1
    )
    log_cleaner_min_cleanable_ratio: float = ratio(
        0.5, "Default of min.cleanable.dirty.ratio.", dynamic=True
    )
    log_cleaner_min_compaction_lag_ms: int = long(
        0, "Default of min.compaction.lag.ms.", dynamic=True
    )
    log_cleaner_max_compaction_lag_ms: int = long(
        INT64_MAX, "Default of max.compaction.lag.ms.", 1, dynamic=True
    )
    log_segment_bytes: int = whole(1_073_741_824, "Default of segment.bytes.", 14, dynamic=True)
    log_segment_delete_delay_ms: int = long(
        60_000, "Default of file.delete.delay.ms.", dynamic=True
    )
    log_roll_ms: int | None = long(
        None, "Default of segment.ms; before log.roll.hours.", 1, dynamic=True
    )
    log_roll_hours: int = whole(168, "Default of segment.ms, in hours.", 1)
    log_retention_ms: int | None = long(
        None, "Default of retention.ms; before log.retention.minutes.", -1, dynamic=True
    )
    log_retention_minutes: int | None = whole(
        None, "Default of retention.ms, in minutes; before log.retention.hours.", -1
    )
    log_retention_hours: int = whole(168, "Default of retention.ms, in hours.", -1)
    log_retention_bytes: int = long(-1, "Default of retention.bytes.", -1, dynamic=True)
    log_retention_check_interval_ms: int = long(300_000, "Time between two rounds of deletion.", 1)
    log_index_interval_bytes: int = whole(4096, "Default of index.interval.bytes.", dynamic=True)
    log_index_size_max_bytes: int = whole(
        10_485_760, "Default of segment.index.bytes.", 4, dynamic=True
    )
    log_flush_before_ack: bool = boolean(
        False, "Minikafka's own: default of flush.before.ack.", dynamic=True
    )
    log_flush_offset_checkpoint_interval_ms: int = whole(
        60_000, "Time between two writes of the recovery points to disk.", 1
    )

    @property
    def name(self) -> str:
        """The name that people see: broker.name, else by the number (model.broker_name)."""
        return self.broker_name or model.broker_name(self.broker_id)

    @property
    def advertised_grpc(self) -> Endpoint:
        """What others are told; its port is 0 while grpc.listener asks for a free one."""
        return self.grpc_advertised_listener or self.grpc_listener

    @property
    def advertised_kafka(self) -> Endpoint | None:
        """What Kafka's clients are told; None if this broker does not listen for them."""
        return self.listeners and (self.advertised_listeners or self.listeners)

    def topic_defaults(self) -> TopicConfig:
        """The configuration of a topic without overrides on this broker."""
        values: dict[str, Any] = {}
        for declared in properties(TopicConfig):
            if declared.broker_property is not None:
                values[field_name(declared.name)] = getattr(
                    self, field_name(declared.broker_property)
                )
        values["segment_ms"] = _first(self.log_roll_ms, self.log_roll_hours * _MS_PER_HOUR)
        values["retention_ms"] = _first(
            self.log_retention_ms,
            _or_unlimited(self.log_retention_minutes, _MS_PER_MINUTE),
            _or_unlimited(self.log_retention_hours, _MS_PER_HOUR),
        )
        return TopicConfig(**values)

    def describe(self) -> list[ConfigEntry]:
        """One entry a property, in order of name."""
        return _describe(self)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _or_unlimited(amount: int | None, unit_ms: int) -> int | None:
    return None if amount is None else -1 if amount < 0 else amount * unit_ms


# --- Reading ------------------------------------------------------------------------------------

_ALIASES = {"log.dir": "log.dirs"}


def field_name(property_name: str) -> str:
    """The field that declares a property."""
    return property_name.replace(".", "_").replace("-", "_")


ConfigClass: TypeAlias = type[BrokerConfig] | type[TopicConfig]


def properties(config_class: ConfigClass) -> tuple[Property, ...]:
    """The declarations of a class, in the order of the source."""
    return _BROKER_PROPERTIES if config_class is BrokerConfig else _TOPIC_PROPERTIES


_BROKER_PROPERTIES = declarations(BrokerConfig, "broker")
_BROKER_PROPERTIES_BY_NAME = {declared.name: declared for declared in _BROKER_PROPERTIES}
_TOPIC_PROPERTIES = declarations(TopicConfig, "topic")


def parse_broker_config(given: Mapping[str, str]) -> BrokerConfig:
    """The configuration that property texts give. Raises UsageError for the first wrong one."""
    texts = dict(given)
    for alias, name in _ALIASES.items():
        if alias in texts:
            if texts.get(name, texts[alias]) != texts[alias]:
                raise UsageError(
                    f"{alias} and {name} differ, but are one property: leave one of them out"
                )
            texts[name] = texts.pop(alias)
    values = _read_all(BrokerConfig, texts, UsageError)
    for declared in properties(BrokerConfig):
        if declared.required and declared.name not in texts:
            raise UsageError(
                f"{declared.name} is required and not set: expected {declared.expects}"
            )
    config = BrokerConfig(**values)
    _check_broker(config)
    return config


def _check_broker(config: BrokerConfig) -> None:
    """What no property alone can tell."""
    name = config.broker_name
    if name is not None and name.isdigit() and name != str(config.broker_id):
        raise UsageError(
            f"broker.name={name} reads like the id of another broker: "
            f"expected a name with a letter in it, or {config.broker_id}"
        )
    if config.advertised_grpc.host in _UNSPECIFIED_HOSTS:
        raise UsageError(
            f"{config.advertised_grpc} is no address that others can connect to: "
            "set grpc.advertised.listener to this machine's HOST:PORT"
        )
    kafka = config.advertised_kafka
    if kafka is not None and kafka.host in _UNSPECIFIED_HOSTS:
        raise UsageError(
            f"{kafka} is no address that clients can connect to: "
            "set advertised.listeners to PLAINTEXT:// and this machine's HOST:PORT"
        )
    if config.advertised_listeners is not None and config.listeners is None:
        raise UsageError("advertised.listeners is set and listeners is not: set both, or neither")
    at_most = [
        ("replica.fetch.wait.max.ms", "replica.lag.time.max.ms", "a waiting follower would lag"),
        ("message.max.bytes", "socket.request.max.bytes", "a large batch would never fit"),
        ("socket.request.max.bytes", "queued.max.request.bytes", "a large one would never fit"),
        (
            "group.min.session.timeout.ms",
            "group.max.session.timeout.ms",
            "no session timeout would be right",
        ),
    ]
    for smaller, larger, why in at_most:
        low, high = getattr(config, field_name(smaller)), getattr(config, field_name(larger))
        if low > high:
            raise UsageError(
                f"{smaller}={low} is above {larger}={high}, and {why}: expected at most {high}"
            )


def topic_config(overrides: Mapping[str, str], defaults: TopicConfig) -> TopicConfig:
    """Overrides over the broker's defaults. Raises InvalidConfigError for the first wrong one."""
    return replace(defaults, **_read_all(TopicConfig, overrides, InvalidConfigError))


def validate_topic_overrides(overrides: Mapping[str, str]) -> None:
    """Raises InvalidConfigError for the first override that is unknown or has a wrong value."""
    _read_all(TopicConfig, overrides, InvalidConfigError)


def validate_broker_overrides(overrides: Mapping[str, str]) -> None:
    """Raises InvalidConfigError for the first override of a broker's property that is unknown, can
    only be set where a broker is started, or has a wrong value."""
    _read_dynamic(overrides)


def with_overrides(config: BrokerConfig, overrides: Mapping[str, str]) -> BrokerConfig:
    """Overrides over a broker's configuration. Raises InvalidConfigError, also for a value that
    does not go with the rest of the configuration."""
    changed = replace(config, **_read_dynamic(overrides))
    try:
        _check_broker(changed)
    except UsageError as error:
        raise InvalidConfigError(str(error)) from None
    return changed


def require_declared(config_class: ConfigClass, names: Iterable[str]) -> None:
    """Raises InvalidConfigError for the first name that no property of the class has."""
    declared = {declared.name for declared in properties(config_class)}
    for name in names:
        if name not in declared:
            raise InvalidConfigError(_unknown(name, config_class))


def _read_dynamic(overrides: Mapping[str, str]) -> dict[str, Any]:
    for name in overrides:
        declared = _BROKER_PROPERTIES_BY_NAME.get(_ALIASES.get(name, name))
        if declared is not None and not declared.dynamic:
            in_ms = _IN_MILLISECONDS.get(name)
            instead = f"alter {in_ms}, or set it" if in_ms else "set it"
            raise InvalidConfigError(
                f"{name} cannot be altered while a broker runs: {instead} where the broker is "
                "started"
            )
    return _read_all(BrokerConfig, overrides, InvalidConfigError)


_IN_MILLISECONDS = {
    "log.retention.minutes": "log.retention.ms",
    "log.retention.hours": "log.retention.ms",
    "log.roll.hours": "log.roll.ms",
}


def _read_all(
    config_class: ConfigClass,
    texts: Mapping[str, str],
    error: type[MinikafkaError],
) -> dict[str, Any]:
    by_name = {declared.name: declared for declared in properties(config_class)}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        declared = by_name.get(name)
        if declared is None:
            raise error(_unknown(name, config_class))
        if not text.strip() and declared.default != "":
            default = as_text(declared.default) or "none"
            instead = "" if declared.required else f", or leave it out for {default}"
            raise error(f"{name} is blank: expected {declared.expects}{instead}")
        try:
            values[field_name(name)] = declared.read(text.strip())
        except ValueError as problem:
            raise error(f"{name}={text.strip()} is not valid: {problem}") from None
    return values


def _unknown(name: str, config_class: ConfigClass) -> str:
    """What to say of a name that this class does not have: what was probably meant."""
    own = [declared.name for declared in properties(config_class)]
    topic_level = {declared.name: declared.broker_property for declared in properties(TopicConfig)}
    if config_class is BrokerConfig:
        if name in topic_level and topic_level[name] is None:
            return f"{name} is a topic's property: set it there"
        if name in topic_level:
            return (
                f"{name} is a topic's property: the broker's default for it is {topic_level[name]}"
            )
    else:
        for topic_name, broker_property in topic_level.items():
            if name == broker_property:
                return f"{name} is a broker's property: the topic's is {topic_name}"
        if name in {declared.name for declared in properties(BrokerConfig)} | _ALIASES.keys():
            return (
                f"{name} is a broker's property, not a topic's: set it where the broker is started"
            )
    if foreign_property(name):
        return f"{name} is a Kafka property that minikafka does not have: leave it out"
    meant = _closest(name, own)
    scope = properties(config_class)[0].scope
    hint = (
        f"did you mean {meant}?"
        if meant
        else f"`minikafka` has these {scope} properties: {', '.join(sorted(own))}"
    )
    return f"{name!r} is not a property of a {scope}: {hint}"


def _closest(name: str, candidates: Collection[str]) -> str | None:
    spelt = name.strip().lower().replace("_", ".").replace("-", ".")
    found = difflib.get_close_matches(spelt, candidates, n=1, cutoff=0.75)
    return found[0] if found else None


def as_text(value: object) -> str:
    """The text that would set this value."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _describe(config: BrokerConfig | TopicConfig) -> list[ConfigEntry]:
    entries = []
    for declared in properties(type(config)):
        value = getattr(config, field_name(declared.name))
        is_default = value == declared.default
        entries.append(
            ConfigEntry(declared.name, as_text(value), is_default, declared.dynamic, declared.doc)
        )
    return sorted(entries)
