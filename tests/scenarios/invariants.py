"""What must hold after every step of every scenario (replication.md section 7, by number).

The ledger is the memory of the whole: every offset that any replica's high watermark has ever
passed, with what lay there, and every record that was acknowledged with acks=all. Only an unclean
election, which someone has to allow, may take anything out of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from minikafka.core.replication.effects import Role
from minikafka.model import NO_LEADER, PartitionState
from tests.helpers.core_builders import leader_of

if TYPE_CHECKING:
    from tests.scenarios.harness import Cluster
    from tests.scenarios.node import Disk, Node, Stored


@dataclass
class Ledger:
    """`committed`: offset -> what lies there. `acknowledged`: payload -> offset. `unclean`: there
    has been an unclean election."""

    committed: dict[int, Stored] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    unclean: bool = False

    def commit(self, node: Node, high_watermark: int) -> None:
        """No. 11: an offset once below any high watermark never changes its content."""
        for offset in range(node.disk.start, high_watermark):
            stored = node.disk.at(offset)
            assert stored is not None, f"{node.name} commits {offset}, which it does not have"
            known = self.committed.setdefault(offset, stored)
            assert known == stored, f"{node.name} commits {stored} at {offset}: it was {known}"

    def acknowledge(self, node: Node, payload: str, cluster: Cluster) -> int:
        """No. 10: an acknowledged record is on every member of the committed ISR."""
        assert node.partition is not None
        leader = leader_of(node.partition)
        offset = next(o for o in range(node.disk.end, -1, -1) if _is(node.disk.at(o), payload))
        members = leader.isr.committed
        assert len(members) >= leader.effective_min_insync
        for member in members:
            disk = cluster.by_id[member].disk
            if not disk.damaged:
                assert _is(disk.at(offset), payload), f"{payload} is not on {member}"
        self.acknowledged[payload] = offset
        return offset

    def check_leader(self, node: Node, state: PartitionState | None) -> None:
        """No. 4: whoever leads the current epoch holds every committed record."""
        if not _leads_now(node, state):
            return
        for offset, stored in self.committed.items():
            if offset >= node.disk.start:
                found = node.disk.at(offset)
                assert found == stored, f"{node.name} leads with {found} at {offset}, not {stored}"

    def forget_what_lacks(self, disk: Disk) -> None:
        """An unclean leader with this disk was elected: what it lacks is lost, knowingly."""
        self.unclean = True
        self.committed = {o: s for o, s in self.committed.items() if disk.at(o) == s}
        self.acknowledged = {p: o for p, o in self.acknowledged.items() if _is(disk.at(o), p)}


def check_cluster(cluster: Cluster) -> None:
    state = cluster.state
    topic = cluster.zookeeper.topics.get("t")
    nodes = [n for n in cluster.nodes.values() if topic and n.disk.topic_id == topic.topic_id]
    for node in nodes:
        cluster.ledger.check_leader(node, state)
        _check_node(node)
        if state is not None:
            _check_presumed_leader(cluster, node, state)
    if not cluster.ledger.unclean:
        for one, other in combinations(nodes, 2):
            _check_agreement(one, other)


def _check_node(node: Node) -> None:
    """Nos. 8 and 15, and that the core's mirror is what lies on the disk."""
    if node.partition is None or node.role is Role.FAILED:
        return
    log = node.partition.log_state
    node.partition.check()
    assert (log.log_start_offset, log.log_end_offset) == (node.disk.start, node.disk.end)
    assert log.high_watermark == node.disk.high_watermark
    for offset in range(node.disk.start, node.disk.end):
        stored = node.disk.at(offset)
        assert stored is not None
        assert log.epochs.epoch_at(offset) == stored.epoch, f"{node.name}: epoch at {offset}"


def _check_presumed_leader(cluster: Cluster, node: Node, state: PartitionState) -> None:
    """No. 6: what is below the high watermark of anybody who thinks that it leads is on every
    intact member of ZooKeeper's ISR. No. 7: the leader of the current epoch counts all of it."""
    if node.partition is None or not node.partition.is_leader:
        return
    if cluster.ledger.unclean:
        return
    log = node.partition.log_state
    for member in state.isr:
        disk = cluster.by_id[member].disk
        if disk.damaged or disk.topic_id != node.disk.topic_id:
            continue
        for offset in range(max(disk.start, log.log_start_offset), log.high_watermark):
            assert disk.at(offset) == node.disk.at(offset), (
                f"{node.name} has {offset} committed, {cluster.by_id[member].name} lacks it"
            )
    if _leads_now(node, state):
        maximal = leader_of(node.partition).isr.maximal
        assert maximal >= set(state.isr), f"{node.name} counts {maximal}, not all of {state.isr}"


def _check_agreement(one: Node, other: Node) -> None:
    """No. 5: where two logs have a batch of one epoch at one offset, they are equal up to there;
    and they agree below both high watermarks."""
    start = max(one.disk.start, other.disk.start)
    end = min(one.disk.end, other.disk.end)
    committed = min(one.disk.high_watermark, other.disk.high_watermark)
    equal = True
    for offset in range(start, end):
        mine, yours = one.disk.at(offset), other.disk.at(offset)
        assert mine is not None
        assert yours is not None
        if mine.epoch == yours.epoch:
            assert equal, f"{one.name} and {other.name} differ below {offset}"
            assert mine == yours, f"{one.name} and {other.name} differ at {offset}"
        equal = equal and mine == yours
        if offset < committed:
            assert equal, f"{one.name} and {other.name} differ below both high watermarks"


def _leads_now(node: Node, state: PartitionState | None) -> bool:
    partition = node.partition
    return (
        state is not None
        and state.leader not in (NO_LEADER,)
        and partition is not None
        and partition.is_leader
        and partition.leader_epoch == state.leader_epoch
        and state.leader == node.broker_id
    )


def _is(stored: Stored | None, payload: str) -> bool:
    return stored is not None and stored.payload == payload
