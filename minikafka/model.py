"""The nouns of minikafka, in Kafka's vocabulary. Frozen values; imports nothing of the package.

Units and ranges, everywhere in the project:

- offsets count records of one partition from 0; `log_end_offset` is the next offset to be
  written (exclusive), `high_watermark` the first offset that is not known to be committed;
- `leader_epoch` counts leader changes and ISR removals of one partition (rule R2);
- `partition_version` is the ZooKeeper data version of the partition's state znode: for one topic
  id it totally orders the states of a partition (rule R3);
- `broker_epoch` is the czxid of `/brokers/ids/<id>`: it names one incarnation of a broker;
- times are integers of milliseconds, monotonic (`now_ms`) unless the name says `timestamp_ms`,
  which is wall-clock time since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

NO_LEADER = -1
NO_EPOCH = -1
UNKNOWN_OFFSET = -1
UNKNOWN_BROKER_EPOCH = -1

# Topics of the brokers' own: clients may read them, and write none.
OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTIONS_TOPIC = "__transaction_state"
INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, TRANSACTIONS_TOPIC})


class TopicPartition(NamedTuple):
    """One partition of one topic, by name. A tuple, since it is looked up dozens of times for every
    request: a dataclass hashes itself in Python."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@lru_cache(maxsize=65_536)
def topic_partition(topic: str, partition: int) -> TopicPartition:
    """Every message names partitions: made once each (as a frozen value, free to share)."""
    return TopicPartition(topic, partition)


@dataclass(frozen=True, slots=True)
class OffsetAndEpoch:
    """An offset and the leader epoch that it is of."""

    offset: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The replication state of one partition, as the controller wrote it (the State znode).

    `isr` holds broker ids, in assignment order. `isr_storage` maps each member to its mark,
    `<storage id>@<broker epoch>` as it was admitted (core/control/incarnation.py): a member whose
    data directory has another id has lost its log. `partition_version` is the znode's data version,
    not part of its data.
    """

    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    controller_epoch: int
    partition_version: int
    isr_storage: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The replicas of one partition in order of preference; `adding` and `removing` are subsets
    of `replicas` while a reassignment is under way (who is in both was wanted for a while). No
    replica any more, but still to delete their logs: those in `dropped`."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()

    @property
    def in_progress(self) -> bool:
        """Is it being reassigned?"""
        return bool(self.adding or self.removing)

    @property
    def origin(self) -> tuple[int, ...]:
        """The replicas from before the reassignment, to which a cancelled one goes back."""
        return tuple(replica for replica in self.replicas if replica not in self.adding)

    @property
    def target(self) -> tuple[int, ...]:
        """The replicas that there shall be, in order of preference."""
        return tuple(replica for replica in self.replicas if replica not in self.removing)


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic: its name, its id (22 characters, made anew whenever a topic of that name is
    created), and the assignment of each partition, by partition number from 0."""

    name: str
    topic_id: str
    assignments: Mapping[int, Assignment]


def join_address(host: str, port: int) -> str:
    """HOST:PORT as people and clients write it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SecurityProtocol(StrEnum):
    """How a Kafka listener is spoken with: plainly or over TLS, by whoever comes or who has proved
    a name by SASL."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def encrypts(self) -> bool:
        return self in (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)

    @property
    def asks_by_sasl(self) -> bool:
        return self in (SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL)


@dataclass(frozen=True, slots=True)
class KafkaListener:
    """Where a broker listens for Kafka's clients, as it tells them. Listeners of one name are one
    network: a client that came through one is told the addresses that others have by that name."""

    name: str
    protocol: SecurityProtocol
    host: str
    port: int

    @property
    def address(self) -> str:
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """A registered broker. `broker_epoch` is -1 before it is registered.

    `dirty` says that it started without a clean-shutdown marker on a host that has been booted
    since, so that its logs may lack what was acknowledged (replication.md: storage identity).
    `transaction_level` is the highest level of the feature transaction.version that it knows; 0 if
    it knows of no transactions.
    """

    broker_id: int
    name: str
    grpc_host: str
    grpc_port: int
    kafka_listeners: tuple[KafkaListener, ...] = ()
    rack: str | None = None
    storage_id: str = ""
    dirty: bool = False
    broker_epoch: int = UNKNOWN_BROKER_EPOCH
    transaction_level: int = 0

    @property
    def grpc_address(self) -> str:
        return join_address(self.grpc_host, self.grpc_port)

    def kafka_listener(self, name: str) -> KafkaListener | None:
        """The one of this name; None if this broker is not to be reached through it."""
        for each in self.kafka_listeners:
            if each.name == name:
                return each
        return None

    @property
    def kafka_address(self) -> str | None:
        """Of its first listener for Kafka's clients."""
        return self.kafka_listeners[0].address if self.kafka_listeners else None


@dataclass(frozen=True, slots=True)
class PartitionMetadata:
    """What a broker knows of one partition from the controller: topic id, assignment, state."""

    topic_partition: TopicPartition
    topic_id: str
    assignment: Assignment
    state: PartitionState


class BatchHeader(NamedTuple):
    """The 61-byte header of a Kafka v2 record batch, decoded (records/header.py has the layout).

    `size_bytes` is the whole batch, header included. `base_sequence` is -1 and `producer_id` is -1
    for a producer that is not idempotent. Offsets of the batch: base_offset .. base_offset +
    last_offset_delta, both inclusive.
    """

    base_offset: int
    size_bytes: int
    leader_epoch: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1


TRANSACTIONAL = 0x10  # among the attributes of a batch: it is part of a transaction
CONTROL = 0x20  # a marker: it takes an offset, but no consumer sees its record


class EndMarker(NamedTuple):
    """What the record of a control batch says of a transaction: that it was committed, or aborted,
    by the coordinator of which epoch (that of its partition of `__transaction_state`)."""

    commits: bool
    coordinator_epoch: int


Markers = Mapping[int, EndMarker]  # of several batches, by base offset
NO_MARKERS: Markers = {}


class AbortedTransaction(NamedTuple):
    """Of which a fetch may have records: who has to pass them over drops what this producer has
    from `first_offset` on, up to its next abort marker."""

    producer_id: int
    first_offset: int


@dataclass(frozen=True, slots=True)
class EpochEntry:
    """A leader epoch and the offset of its first record (the leader's log end when it began)."""

    leader_epoch: int
    start_offset: int


class FollowerPosition(NamedTuple):
    """Where a follower stands in one partition (rule R7): the offset it wants, the latest epoch
    in its log (-1: none), the leader epoch that it follows, its log start."""

    topic_partition: TopicPartition
    topic_id: str
    fetch_offset: int
    last_fetched_epoch: int
    current_leader_epoch: int
    log_start_offset: int


@dataclass(slots=True, frozen=True)
class IsrProposal:
    """A leader's proposal of a new ISR over `partition_version`, each member with the broker epoch
    that the leader knows of it (-1: not known)."""

    topic_partition: TopicPartition
    topic_id: str
    leader_epoch: int
    partition_version: int
    isr: tuple[tuple[int, int], ...]
    reason: str = ""

    @property
    def members(self) -> frozenset[int]:
        return frozenset(member for member, _ in self.isr)


def broker_name(broker_id: int) -> str:
    """The name of a broker that was given none: 1 is A, 26 is Z, later and others by number."""
    return chr(ord("A") + broker_id - 1) if 1 <= broker_id <= 26 else str(broker_id)


def describe_state(
    leader: int, leader_epoch: int, isr: tuple[int, ...], names: Mapping[int, str]
) -> str:
    """A partition's state in the words of the slide: `Leader=A Epoch=1 ISR={A,B,C,D}`."""

    def name(broker_id: int) -> str:
        return names.get(broker_id) or broker_name(broker_id)

    leader_name = "none" if leader == NO_LEADER else name(leader)
    members = ",".join(name(member) for member in sorted(isr))
    return f"Leader={leader_name} Epoch={leader_epoch} ISR={{{members}}}"
