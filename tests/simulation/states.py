"""What the ledger makes of every write to ZooKeeper: the invariants of States (replication.md
section 7, nos. 1, 3, 4 and 13), and the vocabulary of the ledger (ledger.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minikafka.model import (
    INTERNAL_TOPICS,
    NO_LEADER,
    Assignment,
    PartitionState,
    TopicPartition,
    describe_state,
)
from minikafka.zookeeper import codec
from minikafka.zookeeper.embedded import model
from tests.helpers.core_builders import leader_of

if TYPE_CHECKING:
    from minikafka.broker.replication.replica import Replica
    from tests.simulation.disk import StoredLog
    from tests.simulation.world import World

TOPICS = "/brokers/topics/"


class Violation(Exception):
    """An invariant does not hold. `number` is that of replication.md section 7, or a word."""

    def __init__(self, number: str, what: str) -> None:
        super().__init__(f"invariant {number}: {what}")
        self.number = number


@dataclass
class PartitionLedger:
    """Of one partition of one topic id."""

    topic_partition: TopicPartition
    topic_id: str
    state: PartitionState | None = None
    committed: dict[int, tuple[int, int]] = field(default_factory=lambda: {0: (0, 0)})
    committed_end: int = 0
    appended: dict[tuple[int, int], int] = field(default_factory=dict)  # (offset, epoch) -> chain
    acknowledged: dict[int, int] = field(default_factory=dict)  # end -> CRC
    sequences: dict[tuple[int, int], int] | None = field(default_factory=dict)
    producer_epochs: set[tuple[int, int]] = field(default_factory=set)  # that began in this topic
    shown: dict[int, int] = field(default_factory=dict)  # leader epoch -> latest offset shown
    unclean_allowed: bool = False
    unclean_version: int = -1  # of the last unclean election
    moved: bool = False  # the assignment was written since the State was
    assigned: Assignment | None = None  # as it is now
    targets: list[tuple[int, int]] = field(default_factory=list)  # see `fewest_since`
    reassigned: bool = False  # ever
    transactional_epochs: dict[int, int] = field(default_factory=dict)  # by producer id

    def __str__(self) -> str:
        return str(self.topic_partition)

    @property
    def is_internal(self) -> bool:
        """Of the brokers' own topics?"""
        return self.topic_partition.topic in INTERNAL_TOPICS

    def fewest_since(self, partition_version: int) -> int:
        """Of how many replicas there should ever be since this State was written: who leads by it
        may not have heard of any wish since, and those who had to leave are gone."""
        last = len(self.assigned.target) if self.assigned is not None else 0
        return min((n for version, n in self.targets if version >= partition_version), default=last)

    def is_from_before_unclean(self, replica: Replica | None) -> bool:
        """Does this replica still live in the history that an unclean election has ended?"""
        if self.unclean_version < 0:
            return False
        state = None if replica is None else replica.core.state
        return state is None or state.partition_version < self.unclean_version


class StateRules:
    """The ledger's part about ZooKeeper. The rest of it is `Ledger`, which this is a base of."""

    world: World
    partitions: dict[tuple[str, int], PartitionLedger]
    topic_ids: dict[str, str]
    producer_id_end: int

    def of(self, topic_id: str, topic_partition: TopicPartition) -> PartitionLedger:
        raise NotImplementedError

    def log_of(self, ledger: PartitionLedger, broker_id: int) -> StoredLog | None:
        raise NotImplementedError

    def is_intact(self, state: PartitionState, member: int) -> bool:
        raise NotImplementedError

    def check_members(self, ledger: PartitionLedger) -> None:
        raise NotImplementedError

    def on_written(self, transaction: model.Transaction) -> None:
        body = transaction.body
        ops = body.ops if isinstance(body, model.MultiTxn) else (body,)
        for op in ops:
            path = getattr(op, "path", "")
            if path.startswith(TOPICS):
                self._on_topic_node(op, path)
            elif path.startswith("/brokers/ids/"):
                self._on_broker_node(op, int(path.rpartition("/")[2]), transaction.zxid)
            elif path == "/controller" and isinstance(op, model.CreateTxn):
                node = codec.decode_controller(path, op.data or b"")
                name = self.world.name(node.broker_id)
                self.world.tell(f"{name} is elected controller (zxid {transaction.zxid})")
            elif path == "/latest_producer_id_block":
                self._on_producer_ids(op)

    def _on_broker_node(self, op: Any, broker_id: int, zxid: int) -> None:
        name = self.world.name(broker_id)
        if isinstance(op, model.CreateTxn):
            self.world.tell(f"{name} registers, broker epoch {zxid}")
        elif isinstance(op, model.DeleteTxn):
            self.world.tell(f"{name} is gone from ZooKeeper")

    def _on_producer_ids(self, op: Any) -> None:
        block = codec.decode_producer_id_block("/latest_producer_id_block", op.data)
        if block.first < self.producer_id_end:
            raise self.world.violation(
                "16", f"producer ids from {block.first} are given away twice"
            )
        self.producer_id_end = block.last + 1

    def _on_topic_node(self, op: Any, path: str) -> None:
        name, _, rest = path.removeprefix(TOPICS).partition("/")
        if not rest:
            if isinstance(op, model.DeleteTxn):
                self.world.tell(f"topic {name} is gone from ZooKeeper")
                self.topic_ids.pop(name, None)
            else:
                topic = codec.decode_topic(path, op.data or b"", name)
                self.topic_ids[name] = topic.topic_id
                for number, assignment in topic.assignments.items():
                    ledger = self.of(topic.topic_id, TopicPartition(name, number))
                    self._on_assignment(ledger, assignment)
                self.world.on_topic(topic)
            return
        if not rest.endswith("/state") or isinstance(op, model.DeleteTxn):
            if rest.endswith("/state"):
                ledger = self.partitions.get((self.topic_ids[name], int(rest.split("/")[1])))
                if ledger is not None:
                    ledger.state = None
            return
        partition = TopicPartition(name, int(rest.split("/")[1]))
        node = self.world.zookeeper.tree.node(path)
        assert node is not None
        state = codec.decode_state(path, op.data or b"", node.version)
        self._on_state(self.of(self.topic_ids[name], partition), state)

    def _on_assignment(self, ledger: PartitionLedger, new: Assignment) -> None:
        """Of a reassignment: who leaves the assignment has left the ISR before, and all that there
        shall be are in sync when it is complete."""
        old, ledger.assigned, state = ledger.assigned, new, ledger.state
        if state is not None:
            ledger.targets.append((state.partition_version, len(new.target)))
        ledger.reassigned = ledger.reassigned or new.in_progress
        if old is None or old == new or state is None:
            return
        ledger.moved = True
        left = set(old.replicas) - set(new.replicas)
        if left.intersection(state.isr):
            raise self.world.violation("reassignment", f"{ledger}: {left} left, and {state}")
        complete = old.in_progress and not new.in_progress and set(old.origin) != set(old.target)
        if complete and new.replicas == old.target and not set(new.replicas) <= set(state.isr):
            raise self.world.violation("reassignment", f"{ledger}: on {new.replicas}, and {state}")

    def _on_state(self, ledger: PartitionLedger, new: PartitionState) -> None:
        old, ledger.state = ledger.state, new
        names = self.world.names
        seen = describe_state(new.leader, new.leader_epoch, new.isr, names)
        if old is None or seen != describe_state(old.leader, old.leader_epoch, old.isr, names):
            self.world.tell(f"{ledger}: {seen}")
        if ledger.topic_partition.topic in self.world.unclean_topics:
            ledger.unclean_allowed = True
        self._check_transition(ledger, old, new)
        if old is not None and new.leader not in (NO_LEADER, old.leader):
            self._check_election(ledger, old, new)
        self.check_members(ledger)
        self.check_leader(ledger)
        if old is not None:
            self._check_joiners(ledger, old, new)

    def _check_transition(
        self, ledger: PartitionLedger, old: PartitionState | None, new: PartitionState
    ) -> None:
        """No. 1, and no. 3."""
        tp = ledger.topic_partition
        assignment = self.world.topics[tp.topic].assignments[tp.partition]
        current = int(self.world.zookeeper.data("/controller_epoch") or b"0")
        if new.controller_epoch != current:
            raise self.world.violation(
                "1",
                f"{ledger}: controller epoch {new.controller_epoch} writes a State while "
                f"{current} is elected",
            )
        if new.leader != NO_LEADER and new.leader not in new.isr:
            raise self.world.violation("3", f"{ledger}: the leader is not in the ISR: {new}")
        reassigned = assignment.in_progress or ledger.moved
        ledger.moved = False
        if old is None:
            return
        if new.partition_version != old.partition_version + 1:
            raise self.world.violation("1", f"{ledger}: {new} follows on {old}")
        left = set(old.isr) - set(new.isr)
        bump = bool(left) or new.leader != old.leader
        if new.leader_epoch != old.leader_epoch + bump and not (
            reassigned and new.leader_epoch == old.leader_epoch + 1
        ):
            raise self.world.violation("1", f"{ledger}: the epoch of {new} is wrong after {old}")
        if not new.isr:
            for member in old.isr:
                if self.is_intact(old, member):
                    raise self.world.violation(
                        "3", f"{ledger}: the ISR is empty, and {member} has its log"
                    )

    def _check_election(
        self, ledger: PartitionLedger, old: PartitionState, new: PartitionState
    ) -> None:
        """No. 4: whoever is elected cleanly has all of the ledger."""
        clean = new.leader in old.isr and (
            old.leader != NO_LEADER or storage_in(old, new.leader) == storage_in(new, new.leader)
        )
        if not clean:
            if not ledger.unclean_allowed:
                raise self.world.violation(
                    "3", f"{ledger}: {new} follows on {old}: nobody allowed that"
                )
            self._forget(ledger, new)
        if self.is_intact(new, new.leader) and not self.has_all(ledger, new.leader):
            raise self.world.violation(
                "4",
                f"{ledger}: {self.world.name(new.leader)} is elected and lacks records below "
                f"{ledger.committed_end}",
            )

    def has_all(self, ledger: PartitionLedger, broker_id: int) -> bool:
        """Is all that is committed on the disk of this broker?"""
        log, end = self.log_of(ledger, broker_id), ledger.committed_end
        if log is None:
            return not end
        return log.base > end or log.chains.get(end) == ledger.committed[end][0]

    def check_leader(self, ledger: PartitionLedger) -> None:
        """No. 4: a living leader of the current epoch has all of the ledger."""
        state = ledger.state
        if state is None or state.leader == NO_LEADER:
            return
        replica = self.world.hosts[state.leader].replica(ledger.topic_partition)
        if replica is None or not replica.core.is_leader or replica.topic_id != ledger.topic_id:
            return
        if replica.core.leader_epoch != state.leader_epoch:
            return
        if not self.has_all(ledger, state.leader):
            raise self.world.violation(
                "4",
                f"{ledger}: {self.world.name(state.leader)} leads and lacks records below "
                f"{ledger.committed_end}",
            )
        maximal = leader_of(replica.core).isr.maximal
        if not maximal.issuperset(state.isr):
            raise self.world.violation("7", f"{ledger}: the leader counts {maximal} of {state.isr}")

    def _forget(self, ledger: PartitionLedger, new: PartitionState) -> None:
        """An unclean election that was allowed: what the new leader lacks is lost, knowingly."""
        log = self.log_of(ledger, new.leader)
        chains = {0: 0} if log is None else log.chains
        ends = [end for end, (chain, _) in ledger.committed.items() if chains.get(end) == chain]
        begins_anew = log is not None and not ends
        if begins_anew:  # another history, and this is where what is left of it begins
            ends = [min(chains)]
        end = max(ends, default=0)
        ledger.committed = {at: seen for at, seen in ledger.committed.items() if at <= end}
        ledger.acknowledged = {at: crc for at, crc in ledger.acknowledged.items() if at <= end}
        if begins_anew:
            ledger.committed[end] = (chains[end], 0)
            ledger.acknowledged.pop(end, None)
        ledger.committed_end = end
        ledger.sequences = None
        ledger.shown.clear()
        ledger.unclean_version = new.partition_version
        self.world.tell(f"{ledger}: an unclean election: committed up to {end}, the rest is lost")

    def _check_joiners(
        self, ledger: PartitionLedger, old: PartitionState, new: PartitionState
    ) -> None:
        """No. 13: a joiner is in the incarnation that the leader saw, and does not shut down."""
        if NO_LEADER in (old.leader, new.leader):
            return
        host = self.world.hosts[new.leader]
        replica = host.replica(ledger.topic_partition)
        for member in set(new.isr) - set(old.isr):
            marked = int(new.isr_storage[member].rpartition("@")[2])
            if member in self.world.shutting_down_for(new.controller_epoch):
                raise self.world.violation("13", f"{ledger}: {member} joins while it shuts down")
            if replica is None or not replica.core.is_leader:
                continue
            progress = leader_of(replica.core).followers.get(member)
            if progress is not None and -1 < progress.broker_epoch < marked:
                raise self.world.violation(
                    "13",
                    f"{ledger}: {self.world.name(member)} joins as incarnation {marked}; its "
                    f"leader has seen only {progress.broker_epoch}",
                )


def storage_in(state: PartitionState, member: int) -> str:
    return state.isr_storage.get(member, "").rpartition("@")[0]
