"""The values of the exhaustive model: everything a state of the world is made of, as plain tuples.

Purpose: the core's objects are mutable and hold mappings; a search needs values that hash and
compare. Each part of the world is a tuple here, and an `Interner` gives every distinct part a small
number, so that a state of the whole world is a short tuple of numbers.

Invariant: two parts have the same number exactly if the core cannot tell them apart by anything but
what the model abstracts from (docstring of world.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from minikafka.model import (
    Assignment,
    BrokerInfo,
    PartitionState,
    TopicDescription,
    TopicPartition,
    broker_name,
)

TP = TopicPartition("t", 0)
TOPIC_ID = "topic-1"

Record = tuple[int, int]  # leader epoch, payload
Log = tuple[Record | None, ...]  # by offset from 0; None: below the log's start, forgotten
Registration = tuple[int, int, int, bool]  # broker id, broker epoch, storage number, dirty
Position = tuple[int, int, int, int]  # fetch offset, last and current epoch, log start


class State(NamedTuple):
    """A partition's State; `marks` are (member, mark), by member."""

    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    controller_epoch: int
    version: int
    marks: tuple[tuple[int, str], ...]


class Progress(NamedTuple):
    """A follower as its leader sees it. Time has two values: `caught_up`, `heard` and `refused` say
    whether that was recently or never (or too long ago, which is the same)."""

    caught_up: bool
    broker_epoch: int
    log_end_offset: int
    heard: bool
    leader_end_at_last_fetch: int
    refused: bool


class Lead(NamedTuple):
    """The leading side of a replica. `parked`: (payload, required offset)."""

    followers: tuple[tuple[int, Progress], ...]
    additions: tuple[int, ...]
    pending: Any  # IsrProposal or None
    epoch_start: int
    first_own_offset: int
    parked: tuple[tuple[int, int], ...]


class Broker(NamedTuple):
    """A broker: its disk (log, high watermark, epochs, storage number) and its process.
    `broker_epoch` is that of the process, -1 while it is down; a follower has a state and no lead.
    """

    up: bool
    broker_epoch: int
    log: Log = ()
    high_watermark: int = 0
    epochs: tuple[tuple[int, int], ...] = ()
    storage: int = 0
    dirty: bool = False
    controller_epoch_seen: int = 0
    eligible: tuple[tuple[int, int], ...] = ()
    state: State | None = None
    lead: Lead | None = None


class ZooKeeper(NamedTuple):
    """`registrations`: who lives; `births`: how often each broker has registered."""

    registrations: tuple[Registration, ...]
    births: tuple[int, ...]
    controller_epoch: int
    state: State | None


class UpdateStateBatch(NamedTuple):
    """What a controller tells one incarnation of a broker; `state` None: only who is eligible."""

    controller_epoch: int
    target_broker_epoch: int
    eligible: tuple[tuple[int, int], ...]
    state: State | None


class Box(NamedTuple):
    """The outbox for one broker."""

    registration: Registration
    state: State | None
    due: bool


class Term(NamedTuple):
    """A controller: what it knows, what it has to tell (`boxes`, by broker), and the messages that
    are on their way, one at most to each broker; who has announced to shut down."""

    controller_epoch: int
    brokers: tuple[Registration, ...]
    state: State | None
    boxes: tuple[tuple[int, Box], ...]
    messages: tuple[tuple[int, UpdateStateBatch], ...]
    shutting_down: tuple[tuple[int, int], ...]


class Fetch(NamedTuple):
    replica_id: int
    broker_epoch: int
    leader: int
    position: Position


class Reply(NamedTuple):
    """`kind`: fenced, range, diverging or data; `offsets` are log start, high watermark, end."""

    kind: str
    position: Position
    state: State | None = None
    end: tuple[int, int] = (-1, -1)
    offsets: tuple[int, int, int] = (0, 0, 0)
    batches: tuple[Record, ...] = ()


class Propose(NamedTuple):
    broker_id: int
    broker_epoch: int
    proposal: Any


class Answer(NamedTuple):
    """`error` is the class of the refusal, or None."""

    proposal: Any
    error: Any
    state: State | None


class Late(NamedTuple):
    """A message that is still on its way when it should not be; `target` is a broker, or -1 for a
    proposal, which goes to a controller."""

    target: int
    body: Any


class Budget(NamedTuple):
    """How much of each kind may still happen. Everything else may happen at any time."""

    records: int = 2  # produced
    crashes: int = 1  # processes killed (each may come back)
    losses: int = 0  # restarts with an empty disk, or with the tail lost
    expiries: int = 0  # sessions that end under a live process
    lags: int = 0  # spans of time longer than replica.lag.time.max.ms
    failovers: int = 0  # new controllers; the old one stays, a zombie
    retentions: int = 0  # replicas that forget all that is committed
    elections: int = 0  # preferred leader elections
    shutdowns: int = 0  # brokers that announce that they will shut down
    late: int = 0  # messages that arrive late or twice
    faults: int = 0  # ZooKeeper connections lost during a write, applied or not


class Interner:
    """Numbers for values; 0 is None. Tuples of different types are different, though Python calls
    them equal where their items are."""

    def __init__(self) -> None:
        self.values: list[Any] = [None]
        self._numbers: dict[Any, int] = {(type(None), None): 0}

    def number(self, value: Any) -> int:
        key = (type(value), value)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.values)
            self.values.append(value)
        return found


@cache
def to_state(state: State) -> PartitionState:
    """As the core has it."""
    return PartitionState(
        state.leader,
        state.leader_epoch,
        state.isr,
        state.controller_epoch,
        state.version,
        dict(state.marks),
    )


def of_state(state: PartitionState) -> State:
    return State(
        state.leader,
        state.leader_epoch,
        state.isr,
        state.controller_epoch,
        state.partition_version,
        tuple(sorted(state.isr_storage.items())),
    )


@cache
def to_info(registration: Registration) -> BrokerInfo:
    broker_id, broker_epoch, storage, dirty = registration
    return BrokerInfo(
        broker_id,
        broker_name(broker_id),
        "-",
        0,
        storage_id=disk_name(storage),
        dirty=dirty,
        broker_epoch=broker_epoch,
    )


def of_info(info: BrokerInfo) -> Registration:
    return (info.broker_id, info.broker_epoch, int(info.storage_id[4:]), info.dirty)


def start_of(log: Sequence[Record | None]) -> int:
    """The log's start offset."""
    return next((offset for offset, record in enumerate(log) if record is not None), len(log))


def agree(one: Sequence[Record | None], other: Sequence[Record | None]) -> bool:
    """Are these equal, as far as they are not forgotten?"""
    return len(one) == len(other) and all(
        mine == yours or mine is None or yours is None
        for mine, yours in zip(one, other, strict=True)
    )


def disk_name(storage: int) -> str:
    """The storage id of a broker's disk number `storage` (they are compared per broker only)."""
    return f"disk{storage}"


@cache
def assignment(replicas: int) -> Assignment:
    return Assignment(tuple(range(1, replicas + 1)))


@cache
def topic(replicas: int) -> TopicDescription:
    return TopicDescription("t", TOPIC_ID, {0: assignment(replicas)})
