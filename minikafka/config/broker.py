"""The properties of a broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any

from minikafka import model
from minikafka.config.listeners import (
    GRPC,
    MECHANISMS_EXPECTED,
    NO_MECHANISMS,
    NO_PROTOCOLS,
    NOBODY,
    PRINCIPALS_EXPECTED,
    PROTOCOLS_EXPECTED,
    ListenerKey,
    Listeners,
    Mechanisms,
    Principals,
    ProtocolMap,
    listener_list,
    protocol_of,
    read_mechanisms,
    read_principals,
    read_protocols,
)
from minikafka.config.properties import (
    CONNECT_EXPECTED,
    INT32_MAX,
    INT64_MAX,
    INT64_MIN,
    NAME_EXPECTED,
    OVERRIDES_EXPECTED,
    VERSION_EXPECTED,
    ConfigEntry,
    Endpoint,
    any_of,
    as_text,
    boolean,
    declarations,
    declare,
    describe,
    endpoint,
    field_name,
    long,
    one_of,
    password,
    ratio,
    read_connection_overrides,
    read_directory,
    read_kafka_version,
    read_name,
    read_zookeeper_connect,
    text_value,
    tls_secret,
    tls_text,
    whole,
)
from minikafka.config.tls import NAMES, ClientAuth, TlsSettings, tls_settings
from minikafka.config.topic import (
    CLEANUP_POLICIES,
    COMPRESSION_TYPES,
    NO_DOWNCONVERSION,
    NO_PREALLOCATION,
    NO_TIERED_STORAGE,
    ONE_FORMAT,
    TIMESTAMP_TYPES,
    TOPIC_PROPERTIES,
    TopicConfig,
)
from minikafka.security.jaas import parse_jaas
from minikafka.security.secret import Secret

AUTHORIZERS = ("kafka.security.authorizer.AclAuthorizer",)
_MS_PER_MINUTE = 60_000
_MS_PER_HOUR = 3_600_000
UNTHROTTLED = INT64_MAX  # bytes a second of replication


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """The configuration of one broker. Required: broker.id, zookeeper.connect, log.dirs."""

    broker_id: int = whole(
        MISSING, "The number of this broker, unique in the cluster and for ever."
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
    listeners: Listeners | None = listener_list(
        None, "Where this broker listens for Kafka's clients; port 0 takes a free one.", 0
    )
    advertised_listeners: Listeners | None = listener_list(
        None,
        "The addresses that Kafka's clients are told, of some or all of the listeners; without it "
        "listeners.",
        1,
    )
    listener_security_protocol_map: ProtocolMap = text_value(
        NO_PROTOCOLS,
        "How each listener is spoken with; one that is not named here is itself a protocol.",
        PROTOCOLS_EXPECTED,
        read_protocols,
    )
    sasl_enabled_mechanisms: Mechanisms = declare(
        "list",
        NO_MECHANISMS,
        "What clients may prove their names by on SASL_PLAINTEXT and SASL_SSL (also of one "
        "listener: listener.name.NAME.sasl.enabled.mechanisms).",
        MECHANISMS_EXPECTED,
        read_mechanisms,
    )
    sasl_jaas_config: Secret | None = password(
        'Of PLAIN: the users that there are, as user_NAME="password" (of one listener: '
        "listener.name.NAME.plain.sasl.jaas.config).",
        'MODULE required name="value" ...;',
        parse_jaas,
    )
    connections_max_reauth_ms: int = long(
        0,
        "After what time a client that has proved its name by SASL has to do so again; 0 is never "
        "(also of one listener).",
    )
    connection_failed_authentication_delay_ms: int = whole(
        100, "How long a client that could not prove its name waits to be closed upon."
    )
    ssl_keystore_type: str | None = tls_text("Of the key: PEM, which is the default, or PKCS12.")
    ssl_keystore_location: str | None = tls_text(
        "The file with this broker's key and its certificates. As all that begins with ssl., it "
        "may be set for one listener: listener.name.NAME.ssl.keystore.location; that of gRPC is "
        "named GRPC."
    )
    ssl_keystore_password: Secret | None = tls_secret("Of a file in PKCS12.")
    ssl_keystore_key: Secret | None = tls_secret("The key itself, in PEM, instead of a file.")
    ssl_keystore_certificate_chain: Secret | None = tls_secret(
        "The certificates of that key, in PEM."
    )
    ssl_key_password: Secret | None = tls_secret("Of the key, if it is encrypted.")
    ssl_truststore_type: str | None = tls_text("PEM, which is the default, or PKCS12.")
    ssl_truststore_location: str | None = tls_text(
        "The file with the certificates of those whose word counts about who is who."
    )
    ssl_truststore_password: Secret | None = tls_secret("Of a file in PKCS12.")
    ssl_truststore_certificates: Secret | None = tls_secret(
        "Those certificates themselves, in PEM."
    )
    ssl_client_auth: str | None = tls_text(
        "Whether a client shows a certificate: none (the default), requested or required. Where "
        "SASL asks for its name, only listener.name.NAME.ssl.client.auth counts."
    )
    ssl_enabled_protocols: str | None = declare(
        "list", None, "TLSv1.2, TLSv1.3 or both, which is the default.", "a list", str
    )
    ssl_protocol: str | None = tls_text("TLS; ssl.enabled.protocols says which.")
    ssl_cipher_suites: str | None = declare(
        "list",
        None,
        "Those that are spoken, by IANA's names; all good ones without it.",
        "a list",
        str,
    )
    ssl_endpoint_identification_algorithm: str | None = tls_text(
        "Whether a server's certificate names its host: https, which is the default, or nothing."
    )
    ssl_principal_mapping_rules: str | None = tls_text(
        "Of a client's certificate, which name it stands for: RULE:pattern/replacement/[LU],... "
        "or DEFAULT, which is all of it."
    )
    ssl_allow_dn_changes: bool = boolean(
        False, "Whether a new certificate may be of another name than the one before."
    )
    ssl_allow_san_changes: bool = boolean(
        False, "Whether a new certificate may lack some of the hosts that the one before named."
    )
    authorizer_class_name: str = one_of(
        "",
        AUTHORIZERS,
        "Who may do what is judged by access control entries, once this is set: Kafka's own "
        "authorizer for clusters with ZooKeeper. Nobody is let do anything without an entry then.",
    )
    allow_everyone_if_no_acl_found: bool = boolean(
        False, "Whether everybody may do everything to a resource that no entry stands on."
    )
    super_users: Principals = text_value(
        NOBODY,
        "Principals that may do everything, with semicolons between them.",
        PRINCIPALS_EXPECTED,
        read_principals,
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
    max_connections: int = whole(
        INT32_MAX,
        "How many connections of Kafka's clients there may be; never more than the file "
        "descriptors that are left for them.",
    )
    max_connections_per_ip: int = whole(
        INT32_MAX, "How many connections of Kafka's clients there may be from one address."
    )
    max_connections_per_ip_overrides: str | None = text_value(
        None,
        "Other limits than max.connections.per.ip, by address: HOST:COUNT,...",
        OVERRIDES_EXPECTED,
        read_connection_overrides,
    )
    max_incremental_fetch_session_cache_slots: int = whole(
        1_000, "How many incremental fetch sessions are kept."
    )
    socket_request_max_bytes: int = whole(104_857_600, "The largest request that is read.", 1)
    queued_max_request_bytes: int = long(
        268_435_456,
        "Memory for what clients send and for what they have not read of the answers.",
        1,
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
    transaction_max_timeout_ms: int = whole(
        900_000, "The longest transaction timeout that a producer may ask for.", 1
    )
    transactional_id_expiration_ms: int = whole(
        604_800_000, "Silence after which a transactional id is forgotten.", 1
    )
    transaction_remove_expired_transaction_cleanup_interval_ms: int = whole(
        3_600_000, "Time between two looks for transactional ids that have expired.", 1
    )
    transaction_state_log_num_partitions: int = whole(
        50, "Partitions of __transaction_state when it is created.", 1
    )
    transaction_state_log_replication_factor: int = whole(
        3, "Replicas of __transaction_state when it is created, if so many brokers live.", 1, 32767
    )
    transaction_state_log_min_isr: int = whole(
        2, "The min.insync.replicas that __transaction_state is created with.", 1
    )
    transaction_state_log_segment_bytes: int = whole(
        104_857_600, "The segment.bytes that __transaction_state is created with.", 14
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
    compression_gzip_level: int = whole(
        -1, "Default of the topic property of that name.", 1, 9, or_also=-1, dynamic=True
    )
    compression_lz4_level: int = whole(
        9, "Default of the topic property of that name.", 1, 17, dynamic=True
    )
    compression_type: str = one_of(
        "producer", COMPRESSION_TYPES, "Default of the topic property of that name.", dynamic=True
    )
    compression_zstd_level: int = whole(
        3, "Default of the topic property of that name.", -131_072, 22, dynamic=True
    )
    log_cleanup_policy: str = any_of(
        "delete", CLEANUP_POLICIES, "Default of cleanup.policy.", dynamic=True
    )
    log_flush_interval_messages: int = long(
        INT64_MAX, "Default of flush.messages.", 1, dynamic=True
    )
    log_flush_interval_ms: int | None = long(
        None, "Default of flush.ms; before log.flush.scheduler.interval.ms.", dynamic=True
    )
    log_flush_scheduler_interval_ms: int = long(
        INT64_MAX, "Default of flush.ms where log.flush.interval.ms is not set."
    )
    log_local_retention_bytes: int = long(
        -2, "Default of local.retention.bytes.", -2, dynamic=True, no_effect=NO_TIERED_STORAGE
    )
    log_local_retention_ms: int = long(
        -2, "Default of local.retention.ms.", -2, dynamic=True, no_effect=NO_TIERED_STORAGE
    )
    log_message_downconversion_enable: bool = boolean(
        True,
        "Default of message.downconversion.enable.",
        dynamic=True,
        no_effect=NO_DOWNCONVERSION,
    )
    log_message_format_version: str = text_value(
        "3.0-IV1",
        "Default of message.format.version.",
        VERSION_EXPECTED,
        read_kafka_version,
        dynamic=True,
        no_effect=ONE_FORMAT,
    )
    log_message_timestamp_after_max_ms: int = long(
        INT64_MAX, "Default of message.timestamp.after.max.ms.", dynamic=True
    )
    log_message_timestamp_before_max_ms: int = long(
        INT64_MAX, "Default of message.timestamp.before.max.ms.", dynamic=True
    )
    log_message_timestamp_difference_max_ms: int = long(
        INT64_MAX, "Default of message.timestamp.difference.max.ms.", dynamic=True
    )
    log_message_timestamp_type: str = one_of(
        "CreateTime", TIMESTAMP_TYPES, "Default of message.timestamp.type.", dynamic=True
    )
    log_preallocate: bool = boolean(
        False, "Default of preallocate.", dynamic=True, no_effect=NO_PREALLOCATION
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
    log_roll_jitter_ms: int | None = long(
        None, "Default of segment.jitter.ms; before log.roll.jitter.hours.", dynamic=True
    )
    log_roll_jitter_hours: int = whole(0, "Default of segment.jitter.ms, in hours.")
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
    log_retention_bytes: int = long(-1, "Default of retention.bytes.", INT64_MIN, dynamic=True)
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
    log_max_open_files: int | None = whole(
        None,
        "Minikafka's own: files that logs keep open; never more than half of the file descriptors, "
        "less a reserve, which is the default.",
        1,
    )

    # Of single listeners; they go before what holds for all.
    of_listeners: Mapping[ListenerKey, Any] = field(default_factory=dict, repr=False)

    def of_listener(self, listener: str, name: str, mechanism: str = "") -> Any:
        """The value of a property for a listener and a mechanism."""
        for key in (ListenerKey(listener, mechanism, name), ListenerKey(listener, "", name)):
            if key in self.of_listeners:
                return self.of_listeners[key]
        return getattr(self, field_name(name))

    @property
    def name(self) -> str:
        """The name that people see: broker.name, else by the number (model.broker_name)."""
        return self.broker_name or model.broker_name(self.broker_id)

    @property
    def advertised_grpc(self) -> Endpoint:
        """What others are told; its port is 0 while grpc.listener asks for a free one."""
        return self.grpc_advertised_listener or self.grpc_listener

    @property
    def advertised_kafka(self) -> tuple[model.KafkaListener, ...]:
        """What Kafka's clients are told, in the order of `listeners`; a port is 0 while a free one
        is asked for."""
        told = {each.name: each for each in self.advertised_listeners or self.listeners or ()}
        return tuple(
            model.KafkaListener(each.name, self.protocol_of(each.name), each.host, each.port)
            for listener in self.listeners or ()
            if (each := told.get(listener.name)) is not None
        )

    def tls_texts(self) -> dict[str, str]:
        """What is set of ssl.*, for `config.tls.tls_settings`. There are secrets in it."""
        told: dict[str, Any] = {name: getattr(self, field_name(name)) for name in NAMES}
        told |= {
            f"listener.name.{key.listener.lower()}.{key.name}": value
            for key, value in self.of_listeners.items()
            if key.name in NAMES
        }
        return {
            name: value.reveal() if isinstance(value, Secret) else as_text(value)
            for name, value in told.items()
            if value is not None
        }

    def tls_of(self, listener: str) -> TlsSettings | None:
        """How a listener speaks TLS; None if it does not. UsageError."""
        protocol = self.protocol_of(listener)
        if not protocol.encrypts:
            return None
        return tls_settings(
            self.tls_texts(), server=True, listener=listener, sasl=protocol.asks_by_sasl
        )

    def asks_names(self, listener: str) -> bool:
        """Does anybody have to prove anything there?"""
        tls = self.tls_of(listener)
        shown = tls is not None and tls.client_auth is not ClientAuth.NONE
        return shown or self.protocol_of(listener).asks_by_sasl

    def mechanisms_of(self, listener: str) -> Mechanisms:
        """What names are proved by there; none where SASL does not ask for them."""
        if not self.protocol_of(listener).asks_by_sasl:
            return NO_MECHANISMS
        found: Mechanisms = self.of_listener(listener, "sasl.enabled.mechanisms")
        return found

    def protocol_of(self, listener: str) -> model.SecurityProtocol:
        """How a listener is spoken with; that of gRPC is named GRPC. ValueError if nobody said."""
        if listener == GRPC:
            return self.listener_security_protocol_map.get(GRPC, model.SecurityProtocol.PLAINTEXT)
        return protocol_of(listener, self.listener_security_protocol_map)

    def topic_defaults(self) -> TopicConfig:
        """The configuration of a topic without overrides on this broker."""
        values: dict[str, Any] = {}
        for declared in TOPIC_PROPERTIES:
            if declared.broker_property is not None:
                values[field_name(declared.name)] = getattr(
                    self, field_name(declared.broker_property)
                )
        values["segment_ms"] = _first(self.log_roll_ms, self.log_roll_hours * _MS_PER_HOUR)
        values["segment_jitter_ms"] = _first(
            self.log_roll_jitter_ms, self.log_roll_jitter_hours * _MS_PER_HOUR
        )
        values["flush_ms"] = _first(
            self.log_flush_interval_ms, self.log_flush_scheduler_interval_ms
        )
        values["retention_ms"] = _first(
            self.log_retention_ms,
            _or_unlimited(self.log_retention_minutes, _MS_PER_MINUTE),
            _or_unlimited(self.log_retention_hours, _MS_PER_HOUR),
        )
        return TopicConfig(**values)

    def describe(self) -> list[ConfigEntry]:
        """One entry a property, in order of name."""
        return describe(self, BROKER_PROPERTIES)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _or_unlimited(amount: int | None, unit_ms: int) -> int | None:
    return None if amount is None else -1 if amount < 0 else amount * unit_ms


BROKER_PROPERTIES = declarations(BrokerConfig, "broker")
