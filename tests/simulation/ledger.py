"""The memory of a simulated life, and the invariants of replication.md section 7 that are judged at
the moment something happens: a State is written, a high watermark moves, a log is appended to or
cut, somebody is answered. Those about States are in states.py, those that can only be seen from
outside in invariants.py.

The ledger of a partition (of one topic id) holds all that was ever below any high watermark:
`committed` maps the end of each batch to the chain of the log up to there (disk.py) and its CRC.
So:

    no. 11  a high watermark passes an offset: the chain must be the one that is known there;
    no. 4, 6  every member of ZooKeeper's ISR whose disk is the one that was admitted has the chain
            of the whole ledger: checked whenever the ledger grows, a State is written or a log cut;
    no. 2, 5  what lies at an offset under an epoch is the same in every log, with all before it.

Only an unclean election that someone allowed takes anything out again (`forget`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikafka.api.requests import UpdateStateRequest
from minikafka.core.replication.effects import Role
from minikafka.model import NO_LEADER, OFFSETS_TOPIC, BatchHeader, PartitionState, TopicPartition
from minikafka.records.header import is_transactional
from tests.helpers.core_builders import leader_of
from tests.simulation.states import PartitionLedger, StateRules, storage_in

if TYPE_CHECKING:
    from minikafka.broker.replication.replica import Replica
    from tests.simulation.disk import SimulatedLog, StoredLog
    from tests.simulation.world import Host, World


class Ledger(StateRules):
    def __init__(self, world: World) -> None:
        self.world = world
        self.partitions: dict[tuple[str, int], PartitionLedger] = {}
        self.topic_ids: dict[str, str] = {}
        self.acknowledged_count = 0
        self.producer_id_end = 0

    def of(self, topic_id: str, topic_partition: TopicPartition) -> PartitionLedger:
        key = (topic_id, topic_partition.partition)
        ledger = self.partitions.get(key)
        if ledger is None:
            ledger = self.partitions[key] = PartitionLedger(topic_partition, topic_id)
        return ledger

    def current(self, topic_partition: TopicPartition) -> PartitionLedger | None:
        """Of the topic as it is in ZooKeeper now."""
        topic_id = self.topic_ids.get(topic_partition.topic)
        if topic_id is None:
            return None
        return self.partitions.get((topic_id, topic_partition.partition))

    def live(self) -> list[PartitionLedger]:
        """The partitions of clients that have a State now."""
        return [each for each in self.all_live() if not each.is_internal]

    def all_live(self) -> list[PartitionLedger]:
        """Those of the brokers' own topics as well."""
        current = self.topic_ids
        return [
            ledger
            for ledger in self.partitions.values()
            if ledger.state is not None
            and current.get(ledger.topic_partition.topic) == ledger.topic_id
        ]

    # --- who has what ----------------------------------------------------------------------------

    def log_of(self, ledger: PartitionLedger, broker_id: int) -> StoredLog | None:
        log = self.world.hosts[broker_id].disk.logs.get(ledger.topic_partition)
        return log if log is not None and log.topic_id == ledger.topic_id else None

    def is_intact(self, state: PartitionState, member: int) -> bool:
        """Does the member still have the disk with which it was admitted?"""
        host = self.world.hosts[member]
        return storage_in(state, member) == host.disk.storage_id and not host.disk.would_be_dirty(
            host.boot
        )

    def check_members(self, ledger: PartitionLedger) -> None:
        """No. 6, for all presumed leaders at once: intact members have the whole ledger."""
        state, end = ledger.state, ledger.committed_end
        if state is None or not end or self.world.is_marked_deleted(ledger.topic_partition.topic):
            return
        for member in state.isr:
            if not self.has_all(ledger, member) and self.is_intact(state, member):
                log = self.log_of(ledger, member)
                have = "no log" if log is None else f"a log that ends at {log.end}"
                raise self.world.violation(
                    "6",
                    f"{ledger}: {self.world.name(member)} is in the ISR with {have}, and lacks "
                    f"what is committed below {end}",
                )

    # --- logs ------------------------------------------------------------------------------------

    def on_opened(self, log: SimulatedLog) -> None:
        self.of(log.topic_id, log.topic_partition)

    def on_deleted(self, log: SimulatedLog) -> None:
        """The log of a topic that is marked as deleted, or of another topic id; or that of a
        replica that a reassignment has dropped: nobody counts on it."""
        name = log.topic_partition.topic
        if self.topic_ids.get(name) != log.topic_id or self.world.is_marked_deleted(name):
            return
        ledger = self.of(log.topic_id, log.topic_partition)
        host = log.store.host
        if not ledger.reassigned or ledger.state is None:
            raise self.world.violation("deletion", f"{log} is deleted, and its topic is not")
        if host.number in ledger.state.isr:
            raise self.world.violation("deletion", f"{log} is deleted, and is in the ISR")
        self.world.tell(f"{host.name} deletes its log of {ledger}")

    def on_appended(self, log: SimulatedLog, header: BatchHeader, chain: int) -> None:
        """Nos. 2 and 5."""
        ledger = self.partitions[log.topic_id, log.topic_partition.partition]
        key = (header.base_offset, header.leader_epoch)
        known = ledger.appended.setdefault(key, chain)
        if known != chain:
            raise self.world.violation(
                "2, 5",
                f"{log}: offset {header.base_offset} of epoch {header.leader_epoch} is not what "
                "another log has there, or follows on other records",
            )

        if ledger.topic_partition.topic == OFFSETS_TOPIC:
            self.world.grouped.on_appended(log, log.stored.batches[-1])
        else:
            self.world.transactions.on_appended(ledger, log, header)
        replica = log.store.host.replica(log.topic_partition)
        if replica is not None and replica.core.role is Role.FOLLOWER:
            self._check_follows(ledger, log, replica, header.next_offset, chain)

    def _check_follows(
        self,
        ledger: PartitionLedger,
        log: SimulatedLog,
        replica: Replica,
        end: int,
        chain: int,
    ) -> None:
        """No. 5: what a follower appends under an epoch is what the leader of that epoch has."""
        state = replica.core.state
        assert state is not None
        leader = self.world.hosts[state.leader].replica(ledger.topic_partition)
        if leader is None or not leader.core.is_leader or leader.topic_id != ledger.topic_id:
            return
        stored = leader.log.stored  # type: ignore[attr-defined]
        if leader.core.leader_epoch != state.leader_epoch or end < stored.base:
            return
        if stored.chains.get(end) != chain:
            raise self.world.violation(
                "5", f"{log}: appends what the leader of its epoch does not have below {end}"
            )

    def chain_of(self, stored: StoredLog, offset: int) -> int:
        """Of a log that begins anew at an offset of its leader's: as in any other log of it."""
        ledger = self.of(stored.topic_id, stored.topic_partition)
        if offset in ledger.committed:
            return ledger.committed[offset][0]
        leader = NO_LEADER if ledger.state is None else ledger.state.leader
        for broker_id in sorted(self.world.hosts, key=lambda number: number != leader):
            log = self.log_of(ledger, broker_id)
            if log is not None and log is not stored and offset in log.chains:
                return log.chains[offset]
        return 0

    def chain_of_emptied(self, stored: StoredLog) -> int:
        """Of a log that was cut to where it begins. What lay below was committed, and is so still:
        unless an unclean election chose another history, of which this log has nothing then."""
        ledger = self.of(stored.topic_id, stored.topic_partition)
        own = stored.chains[stored.base]
        return own if ledger.unclean_version < 0 else self.chain_of(stored, stored.base)

    def on_truncating(self, log: SimulatedLog, offset: int) -> None:
        """No. 12."""
        ledger = self.of(log.topic_id, log.topic_partition)
        if offset < log.high_watermark and ledger.unclean_version < 0:
            raise self.world.violation(
                "12", f"{log} is cut to {offset}, below its own high watermark"
            )
        if offset < log.stored.end:
            name = self.world.name(log.store.host.number)
            self.world.tell(f"{name} cuts {log.topic_partition} from {log.stored.end} to {offset}")

    def on_restarting(self, log: SimulatedLog, offset: int) -> None:
        ledger = self.of(log.topic_id, log.topic_partition)
        if offset < log.stored.end and log.stored.batches and ledger.unclean_version < 0:
            raise self.world.violation("12", f"{log} begins anew at {offset}, below its end")
        self.world.tell(f"{log} begins anew at {offset}")

    def on_truncated(self, log: SimulatedLog) -> None:
        self.check_members(self.of(log.topic_id, log.topic_partition))

    def on_log_start(self, log: SimulatedLog, offset: int) -> None:
        """No. 18."""
        if offset > log.high_watermark:
            raise self.world.violation(
                "18", f"{log}: records up to {offset} go, above the high watermark"
            )
        # Who begins at the leader's log start does not know who produced before (as in Kafka).
        self.of(log.topic_id, log.topic_partition).sequences = None

    # --- high watermarks -------------------------------------------------------------------------

    def on_high_watermark(self, log: SimulatedLog, offset: int) -> None:
        """Nos. 8, 10 and 11: this replica takes everything below `offset` for committed."""
        stored = log.stored
        if not stored.high_watermark < offset <= stored.end:
            raise self.world.violation(
                "8", f"{log}: the high watermark goes to {offset}; {stored.end=}"
            )
        ledger = self.of(log.topic_id, log.topic_partition)
        replica = log.store.host.replica(log.topic_partition)
        if ledger.is_from_before_unclean(replica):
            return
        chain = stored.chains.get(offset)
        if offset <= ledger.committed_end:
            if ledger.committed.get(offset, (None,))[0] != chain and offset >= stored.base:
                raise self.world.violation(
                    "11", f"{log}: what is committed below {offset} is not the same"
                )
            leads = replica is not None and replica.core.is_leader
        else:
            leads = replica is not None and replica.core.is_leader
            if not leads and ledger.unclean_version < 0:
                raise self.world.violation(
                    "8", f"{log}: a follower is ahead of every leader at {offset}"
                )
            self._commit(ledger, log, offset)
        if leads:
            assert replica is not None
            self._check_enough(ledger, replica, offset, chain)
            self.check_members(ledger)

    def _catch_up(self, ledger: PartitionLedger, replica: Replica | None) -> None:
        """An unclean leader may have led before, in a history of its own: what it took for
        committed then holds from now on."""
        if ledger.unclean_version < 0 or replica is None or not replica.core.is_leader:
            return
        offset = replica.core.log_state.high_watermark
        if offset > ledger.committed_end and not ledger.is_from_before_unclean(replica):
            self._commit(ledger, replica.log, offset)  # type: ignore[arg-type]

    def _commit(self, ledger: PartitionLedger, log: SimulatedLog, offset: int) -> None:
        stored, end = log.stored, ledger.committed_end
        if stored.chains.get(end, ledger.committed[end][0]) != ledger.committed[end][0]:
            raise self.world.violation(
                "11", f"{log}: commits {offset} and lacks what is committed at {end}"
            )
        for batch in stored.batches[stored.index_of(end) :]:
            header = batch.header
            if header.next_offset > offset:
                break
            ledger.committed[header.next_offset] = (batch.chain, header.crc)
            if ledger.topic_partition.topic == OFFSETS_TOPIC:
                self.world.grouped.on_committed(batch)
            if is_transactional(header):
                self.world.transactions.on_committed(ledger, header)
            elif header.producer_id >= 0 and ledger.sequences is not None:
                self._check_sequence(ledger, ledger.sequences, header)
        ledger.committed_end = offset
        if offset not in ledger.committed:
            raise self.world.violation("8", f"{log}: the high watermark {offset} is inside a batch")

    def _check_sequence(
        self, ledger: PartitionLedger, sequences: dict[tuple[int, int], int], header: BatchHeader
    ) -> None:
        """No. 16: gapless, and once each. What was on its way to a topic of the same name that is
        deleted now may be anywhere in its sequences."""
        key = (header.producer_id, header.producer_epoch)
        first = 0 if key in ledger.producer_epochs else header.base_sequence
        expected = sequences.get(key, first)
        if header.base_sequence != expected:
            raise self.world.violation(
                "16",
                f"{ledger}: producer {header.producer_id} has sequence {header.base_sequence} "
                f"committed at {header.base_offset}; {expected} was next",
            )
        sequences[key] = header.base_sequence + header.record_count

    def _check_enough(
        self, ledger: PartitionLedger, replica: Replica, offset: int, chain: int | None
    ) -> None:
        """No. 10: the leader counts enough members, and so many logs really hold it."""
        if self.world.is_marked_deleted(ledger.topic_partition.topic):
            return  # others may have deleted their logs
        leader = leader_of(replica.core)
        minimum = leader.effective_min_insync
        state = leader.state
        copies = 0
        for host in self.world.hosts.values():
            log = host.disk.logs.get(ledger.topic_partition)
            has_it = log is not None and log.chains.get(offset) == chain
            lost_it = host.number in state.isr and not self.is_intact(state, host.number)
            copies += has_it or lost_it
        # A leader that has not heard yet that there should be fewer replicas still counts those who
        # have left; as many as there should be hold it.
        enough = min(minimum, ledger.fewest_since(state.partition_version))
        if len(leader.isr.committed) < minimum or copies < enough:
            raise self.world.violation(
                "10",
                f"{ledger}: {offset} is committed by {leader.isr.committed} and on {copies} disks; "
                f"min.insync.replicas asks for {minimum}",
            )
        if leader.settings.flush_before_ack:
            self._check_flushed(ledger, state, offset)

    def _check_flushed(self, ledger: PartitionLedger, state: PartitionState, offset: int) -> None:
        """flush.before.ack: what is committed would survive the end of all hosts at once."""
        for member in state.isr:
            log = self.log_of(ledger, member)
            if log is None or not self.is_intact(state, member) or log.base >= offset:
                continue
            flushed = log.flushed[-1].header.next_offset if log.flushed else log.flushed_base
            if flushed < offset:
                raise self.world.violation(
                    "flush",
                    f"{ledger}: {offset} is committed; {self.world.name(member)} has only "
                    f"{flushed} on its disk",
                )

    # --- what clients are told -------------------------------------------------------------------

    def on_acknowledged(
        self, ledger: PartitionLedger, replica: Replica | None, end_offset: int, crc: int
    ) -> None:
        """Nos. 10 and 11: what is acknowledged with acks=all is committed, with this content."""
        if ledger.is_from_before_unclean(replica):
            return
        self._catch_up(ledger, replica)
        self.acknowledged_count += 1
        found = ledger.committed.get(end_offset)
        if found is None or found[1] != crc:
            raise self.world.violation(
                "10", f"{ledger}: acknowledged up to {end_offset}, and not committed there"
            )
        ledger.acknowledged[end_offset] = crc

    def on_consumed(
        self,
        ledger: PartitionLedger,
        replica: Replica | None,
        high_watermark: int,
        headers: list[BatchHeader],
    ) -> None:
        """No. 8: a consumer reads below the high watermark, and what is committed."""
        if ledger.is_from_before_unclean(replica):
            return
        self._catch_up(ledger, replica)
        for header in headers:
            end = header.next_offset
            if end > high_watermark or ledger.committed.get(end, (0, -1))[1] != header.crc:
                raise self.world.violation(
                    "8", f"{ledger}: a consumer reads up to {end}, not committed so"
                )

    def on_latest(
        self, ledger: PartitionLedger, replica: Replica | None, leader_epoch: int, offset: int
    ) -> None:
        """No. 9: the latest offset never falls, but for older leaders that still answer."""
        if ledger.is_from_before_unclean(replica):
            return
        for epoch, shown in ledger.shown.items():
            if epoch <= leader_epoch and shown > offset:
                raise self.world.violation(
                    "9",
                    f"{ledger}: the latest offset is {offset} in epoch {leader_epoch}; it was "
                    f"{shown} in epoch {epoch}",
                )
        ledger.shown[leader_epoch] = offset

    def on_state_message_taken(self, host: Host, request: UpdateStateRequest) -> None:
        """No. 14: what an older controller says, or says to an older incarnation, is refused. And
        nothing is told that is not written."""
        broker = host.process.broker if host.process is not None else None
        if broker is None:
            return
        if (request.controller_epoch, request.number) < broker.replicas._last_message:
            return  # passed over
        if request.controller_epoch < broker.metadata.controller_epoch:
            raise self.world.violation(
                "14", f"{host.name} listens to controller {request.controller_epoch}"
            )
        if request.target_broker_epoch < broker.replicas.broker_epoch:
            raise self.world.violation(
                "14", f"{host.name} takes a message for incarnation {request.target_broker_epoch}"
            )
        for told in request.partitions:
            state = self.of(told.topic_id, told.topic_partition).state
            if state is not None and told.state.partition_version > state.partition_version:
                raise self.world.violation(
                    "1", f"{host.name} is told {told.state}, not written yet"
                )
