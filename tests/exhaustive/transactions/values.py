"""The values of the model of transactions: everything a state of its world is made of.

Plain tuples, that hash and compare, as in tests/exhaustive/values.py. Two brokers (0 and 1) may
coordinate the one transactional id; a third (DATA, or OTHER) leads the partitions; two producers (0
and 1) have the id, the second after the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minikafka.core.transactions.markers import Incarnation, Leader, MarkerMessage
from minikafka.core.transactions.values import TransactionValue
from minikafka.model import TopicPartition

ID = "id"
DATA, OTHER = 9, 8  # the broker that leads the partitions, and one that may
PARTITIONS = (TopicPartition("__consumer_offsets", 0), TopicPartition("t", 0))
OFFSETS = 0  # the index of the first of them, where a group has its offsets, if there is one
NO_SEQUENCE = -1  # of a commit of offsets
PLAIN = 2  # who commits offsets without a transaction: in labels, after the producers

# Where what stands in a state of the world; the brokers and the producers follow on one another.
LOG, DATA_AT, PRODUCERS, LATE, LEDGER, BUDGET = 2, 3, 4, 6, 7, 8

Label = tuple[int, int]  # a transaction as its client began it: which producer, its how manieth


class StateLog(NamedTuple):
    """The partition of `__transaction_state`: its last committed record, those after it, who leads
    it under which epoch, whether the ISR is below its minimum, and the next fresh producer id."""

    committed: TransactionValue | None
    tail: tuple[TransactionValue | None, ...]
    leader: int
    leader_epoch: int
    shrunk: bool
    next_producer_id: int

    @property
    def last(self) -> TransactionValue | None:
        return self.tail[-1] if self.tail else self.committed


class Txn(NamedTuple):
    """A Transaction of the core between two events. `uncommitted`: (value, what is due)."""

    value: TransactionValue | None = None
    uncommitted: tuple[Any, ...] = ()
    held: tuple[Any, ...] = ()
    unconfirmed: frozenset[TopicPartition] | None = None
    retries: bool = False


class Outbox(NamedTuple):
    """A MarkerOutbox of the core between two events; items are (shard, marker, partition)."""

    number: int = 0
    in_flight: tuple[Any, ...] | None = None  # incarnation of DATA, number, items
    queue: tuple[Any, ...] = ()
    retries: tuple[Any, ...] = ()


class Broker(NamedTuple):
    """A broker that coordinates, or has, or may. `role`: none, loading, serving, deposed (another
    leads, and it has not heard of that). `wire` is its marker message that is on its way, `outcome`
    what the answer to it will say."""

    incarnation: int
    newest: int = 0  # the youngest connection of the id
    role: str = "none"
    leader_epoch: int = -1
    spare: tuple[int, ...] = ()
    txn: Txn = Txn()
    outbox: Outbox = Outbox()
    wire: MarkerMessage | None = None
    outcome: tuple[Any, ...] | None = None


class Pid(NamedTuple):
    """What a partition knows of a producer id. `opened`: the labels of the open transaction's
    records; `batches`: those of its epoch."""

    producer_id: int
    producer_epoch: int
    coordinator_epoch: int = -1
    opened: tuple[Label, ...] = ()
    batches: tuple[Label, ...] = ()


class Part(NamedTuple):
    """A partition. `records`: (label, open, committed or aborted), in order."""

    pids: tuple[Pid, ...] = ()
    records: tuple[tuple[Label, str], ...] = ()


class Produce(NamedTuple):
    """A batch of one record for a partition, by its index; without a sequence it is a commit of the
    group's offset."""

    partition: int
    producer_id: int
    producer_epoch: int
    sequence: int
    label: Label
    tv: int


class Pending(NamedTuple):
    """A batch that waits for the coordinator's word. `asked`: which broker, in which incarnation;
    `word`: its answer, on its way."""

    produce: Produce
    token: tuple[int, int]
    guard: bool = True
    asked: Incarnation | None = None
    word: str | None = None


Heard = tuple[tuple[int, tuple[int, int]], ...]  # of each sender: incarnation, number


class Entry(NamedTuple):
    """What lies at an offset of the group's log: a committed offset, by its label, of a transaction
    or (without a producer id) plain; or, without a label, a marker."""

    label: Label | None
    producer_id: int = -1
    producer_epoch: int = -1
    coordinator_epoch: int = -1
    commits: bool = False


class Memory(NamedTuple):
    """An OffsetTable of the core between two events, each part of it in order: (partition, value);
    (producer id, partition, value); (offset of the marker, commits, partition, value)."""

    committed: tuple[Any, ...] = ()
    staged: tuple[Any, ...] = ()
    ending: tuple[Any, ...] = ()


class GroupPart(NamedTuple):
    """What there is at the first partition if a group has its offsets there: its log, what the
    group's shard knows of it, who waits until how much of it is committed. `load_end`: so far the
    shard has to read before it serves; -1: it serves. `newest`: the youngest connection that has
    sent it offsets of the id."""

    log: tuple[Entry, ...] = ()
    high_watermark: int = 0
    memory: Memory = Memory()
    load_end: int = -1
    newest: int = 0
    waiting: tuple[tuple[int, tuple[int, int]], ...] = ()  # (end offset, token)

    @property
    def serves(self) -> bool:
        return self.load_end < 0


class Until(NamedTuple):
    """In the place of what becomes of a marker: it is confirmed when all below is committed."""

    end_offset: int


class Data(NamedTuple):
    """The broker that leads the partitions, and what it has heard; and what the other one has that
    could lead them. `leader_epoch` moves with the leader. `parts` of the group's log are what a
    replay of it gives."""

    incarnation: int
    parts: tuple[Part, ...]
    pending: tuple[Pending, ...] = ()
    heard: Heard = ()
    broker_id: int = DATA
    leader_epoch: int = 0
    other_heard: Heard = ()
    group: GroupPart | None = None

    @property
    def leader(self) -> Leader:
        return Leader(Incarnation(self.broker_id, self.incarnation), self.leader_epoch)


class Producer(NamedTuple):
    """A client. `request`: what it waits for (`sent`: it is still on its way), `reply`: the answer
    on its way back. `doomed`: the transaction can only be aborted; `bumps`: then it goes on with
    the next epoch (in TV1)."""

    tv: int
    phase: str = "new"  # new, ready, open, dead
    connection: int = 0
    producer_id: int = -1
    producer_epoch: int = -1
    number: int = 0  # of its transactions
    added: tuple[int, ...] = ()
    written: tuple[int, ...] = ()
    sequences: tuple[int, ...] = ()
    request: Any = None
    sent: bool = False
    reply: tuple[Any, ...] | None = None
    doomed: bool = False
    bumps: bool = False


class Late(NamedTuple):
    """A request that its client has given up. `target`: the incarnation it was sent to."""

    target: Incarnation
    token: tuple[int, int, bool]
    request: Any


class Fate(NamedTuple):
    """What a client did about a transaction and was told. `told`: commit, abort or nothing."""

    label: Label
    written: tuple[int, ...] = ()
    asked: bool = False  # to commit it
    told: str = ""


class Ledger(NamedTuple):
    """What is known by nobody in the world: `fates`; who is fenced by another's Init, and who will
    be when the log is committed; whether a transaction has been timed out."""

    fates: tuple[Fate, ...] = ()
    fenced: tuple[int, ...] = ()
    fencing: tuple[int, ...] = ()
    timed_out: bool = False


class Budget(NamedTuple):
    """How much of each kind may still happen. Everything else may happen at any time."""

    transactions: int = 1
    crashes: int = 0  # of the leading coordinator; the other takes over
    depositions: int = 0  # another takes over, and the old one does not hear of it for a while
    restarts: int = 0  # of the broker that leads the partitions
    moves: int = 0  # of that leadership, to another broker or back
    retries: int = 0  # requests given up by their clients, and sent again
    lost: int = 0  # marker messages given up by their senders
    timeouts: int = 0  # transactions that take too long
    holds: int = 0  # requests that are held for too long
    shrinks: int = 0  # the ISR of the state partition goes below its minimum
    plain: int = 0  # the group's offset is committed without a transaction
