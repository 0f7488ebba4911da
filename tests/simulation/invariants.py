"""What must hold of every replica after every step (replication.md section 7), seen from outside:
the core's mirror of the log is the log (no. 8), its epochs are those of the batches and at most one
that has not written yet (no. 15), and of every partition nos. 6 and 7 (ledger.py).

And what must come true when everything has been healed (no. 19): `unsettled`.
"""

from __future__ import annotations

from minikafka.broker.replication.replica import Replica
from minikafka.core.replication.effects import Role
from minikafka.model import NO_LEADER, Assignment, EpochEntry
from tests.helpers.core_builders import leader_of
from tests.simulation.states import PartitionLedger
from tests.simulation.world import World


def check_step(world: World) -> None:
    """Raises Violation."""
    ledger = world.ledger
    for partition in ledger.all_live():
        ledger.check_members(partition)
        ledger.check_leader(partition)
    for host in world.hosts.values():
        process = host.process
        if process is None or process.broker is None or process.ended:
            continue
        if process.broker.replicas.failed and not host.disk.was_full:
            raise world.violation(
                "liar", f"a log of {host.name} has failed, and its disk has had room"
            )
        controller_epoch = process.broker.metadata.controller_epoch
        if controller_epoch < process.controller_epoch_seen:
            raise world.violation(
                "14",
                f"{host.name} listens to controller epoch {controller_epoch} after "
                f"{process.controller_epoch_seen}",
            )
        process.controller_epoch_seen = controller_epoch
        world.grouped.check_step(host)
        for replica in process.broker.replicas.replicas.values():
            if replica.core.failed is None:
                _check_mirror(world, replica)
                if replica.core.is_leader:
                    _check_incarnations(world, replica)
                    world.transactions.check_step(replica)


def _check_mirror(world: World, replica: Replica) -> None:
    mirror, stored = replica.core.log_state, replica.log.stored  # type: ignore[attr-defined]
    if (mirror.log_start_offset, mirror.high_watermark, mirror.log_end_offset) != (
        stored.start,
        stored.high_watermark,
        stored.end,
    ):
        raise world.violation("8", f"{replica.log!r} is not what the core thinks: {mirror}")
    if stored.batches:
        last = stored.batches[-1].header
        if last.base_offset >= stored.start:
            found = mirror.epochs.epoch_at(last.base_offset)
            if found != last.leader_epoch:
                raise world.violation(
                    "15", f"{replica.log!r}: epoch {last.leader_epoch} at its end, not {found}"
                )


def _check_incarnations(world: World, replica: Replica) -> None:
    """No. 14: no fetch of an older incarnation counts after one of a newer."""
    leader = leader_of(replica.core)
    seen = world.incarnations_seen.setdefault(leader, {})
    for follower, progress in leader.followers.items():
        if progress.broker_epoch < seen.get(follower, -1) and progress.broker_epoch >= 0:
            raise world.violation(
                "14",
                f"{replica.log!r}: a fetch of incarnation {progress.broker_epoch} of "
                f"{world.name(follower)} counts after one of {seen[follower]}",
            )
        seen[follower] = progress.broker_epoch


def check_epochs(world: World) -> None:
    """No. 15 in full, and no. 29: for every living replica."""
    for ledger in world.ledger.all_live():
        world.transactions.check_replicas(ledger)
    for host in world.hosts.values():
        process = host.process
        if process is None or process.broker is None or process.ended:
            continue
        for replica in process.broker.replicas.replicas.values():
            if replica.core.failed is not None:
                continue
            stored = replica.log.stored  # type: ignore[attr-defined]
            entries = replica.core.log_state.epochs.entries()
            if entries and entries[-1].start_offset == stored.end:
                entries = entries[:-1]
            while len(entries) > 1 and entries[1].start_offset <= stored.start:
                del entries[0]  # of what retention has removed: harmless
            expected: list[EpochEntry] = []
            for batch in stored.batches:
                header = batch.header
                if header.next_offset <= stored.start:
                    continue
                if not expected or expected[-1].leader_epoch != header.leader_epoch:
                    start = max(header.base_offset, stored.start)
                    expected.append(EpochEntry(header.leader_epoch, start))
            found = [EpochEntry(e.leader_epoch, max(e.start_offset, stored.start)) for e in entries]
            if [e for e in found if e.start_offset < stored.end] != expected:
                raise world.violation("15", f"{replica.log!r}: {entries}, not {expected}")


def unsettled(world: World) -> str | None:
    """Why not everything is in sync and committed, or None if it is."""
    controller = world.controller()
    if controller is None or controller.process is None or controller.process.broker is None:
        return "there is no controller"
    if not controller.process.broker.controller.active:
        return "the controller has not taken over"
    if world.zookeeper.tree.children("/admin/delete_topics"):
        return "a topic is still being deleted"
    for host in world.hosts.values():
        if world.zookeeper.tree.node(f"/brokers/ids/{host.number}") is None:
            return f"{host.name} is not registered"
        if host.process is not None and host.process.stopping:
            return f"{host.name} is shutting down"  # it was asked to before all was healed
    for name, topic in world.topics.items():
        if world.ledger.topic_ids.get(name) != topic.topic_id:
            continue
        for number, assignment in topic.assignments.items():
            ledger = world.ledger.partitions.get((topic.topic_id, number))
            if ledger is None or ledger.state is None:
                return f"{name}-{number} has no State"
            why = _unsettled_partition(world, ledger, assignment)
            if why is not None:
                return f"{ledger}: {why}"
    return (
        world.coordinated.unsettled() or world.transactions.unsettled() or world.grouped.unsettled()
    )


def is_lost(world: World, ledger: PartitionLedger) -> bool:
    """Is there no leader because every member of the ISR has lost its disk?"""
    state = ledger.state
    return (
        state is not None
        and state.leader == NO_LEADER
        and not any(world.ledger.is_intact(state, member) for member in state.isr)
    )


def _unsettled_partition(
    world: World, ledger: PartitionLedger, assignment: Assignment
) -> str | None:
    state, replicas = ledger.state, assignment.replicas
    assert state is not None
    if is_lost(world, ledger):
        return None
    if state.leader == NO_LEADER:
        return f"nobody leads: {state}"
    if assignment.in_progress or assignment.dropped:
        return f"a reassignment is not complete: {assignment}"
    for number in world.hosts.keys() - set(replicas):
        if world.ledger.log_of(ledger, number) is not None:
            return f"{world.name(number)} is no replica, and has a log"
    if set(state.isr) != set(replicas):
        return f"the ISR is {state.isr}, not {replicas}"
    ends = set()
    for member in replicas:
        replica = world.hosts[member].replica(ledger.topic_partition)
        if replica is None or replica.core.role is not (
            Role.LEADER if member == state.leader else Role.FOLLOWER
        ):
            return f"{world.name(member)} does not have its role"
        if replica.core.leader_epoch != state.leader_epoch:
            return f"{world.name(member)} is at epoch {replica.core.leader_epoch}: {state}"
        ends |= {replica.core.log_state.high_watermark, replica.core.log_state.log_end_offset}
    if len(ends) > 1:
        return f"logs and high watermarks end at {sorted(ends)}"
    return None
