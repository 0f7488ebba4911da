"""What must hold of the offsets of consumer groups in the simulated cluster, whose coordinators are
those of the product; their clients are in members.py.

Each commit has an offset that no other has, so an offset tells whose it is.

State: what was committed (`sent`, by offset); the log of the groups as far as it is committed
(`entries`), as the ledger hears of it; and for each key the record that must be seen at least, by
whoever asks from now on (`_floors`). Invariants (transactions.md section 9), each judged where it
can be broken:

    no. 20, 32  what a coordinator knows is what its log says: `check_step`
    no. 23      markers in the log of the groups are those of the outcome: `on_committed`; of a
                committed transaction all offsets are there: `check_end`
    no. 24      a staged offset is of the producer and epoch that have sent it: `on_appended`
    no. 32      what was acknowledged is never undone by what lies below it, nor forgotten because
                of its age while a transaction has it: `judge`, `_check_forgotten`
    no. 33      who wants stable offsets is told none that a transaction may replace: `judge`
    no. 35      when all is healed, nothing is staged: `unsettled`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minikafka.api.groups import CommittedOffset
from minikafka.broker.groups.shard import GroupShard
from minikafka.broker.service import Service
from minikafka.errors import NetworkError, UnstableOffsetCommitError
from minikafka.model import OFFSETS_TOPIC
from minikafka.records.header import is_transactional
from tests.simulation.group_log import Ended, Entry, Key, Said, Written, describe, entries_of, said
from tests.simulation.states import PartitionLedger

if TYPE_CHECKING:
    from minikafka.broker.replication.replica import Replica
    from tests.simulation.coordinated import Attempt
    from tests.simulation.disk import Batch, SimulatedLog
    from tests.simulation.world import Host, World


@dataclass
class Sent:
    """A commit of an offset: in a transaction, or without one."""

    key: Key
    attempt: Attempt | None

    def __str__(self) -> str:
        whose = "a plain commit" if self.attempt is None else str(self.attempt)
        return f"{describe(self.key)} of {whose}"


class Grouped:
    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: dict[int, Sent] = {}  # by committed offset
        self.forgettable: set[str] = set()  # groups that somebody has deleted, or offsets of them
        self.entries: list[Entry] = []
        self._offsets_in_log: dict[int, int] = {}  # by committed offset: where its last record lies
        self._forgotten: dict[Key, int] = {}  # where the last record lies that takes it away
        self._staged: dict[int, list[Written]] = {}  # committed, and without a marker yet
        self._floors: dict[bool, dict[Key, int]] = {False: {}, True: {}}  # for stable ones: True
        self._parsed: dict[tuple[int, int], list[Entry]] = {}  # by CRC and offset of a batch
        self._looked_at: dict[int, tuple[int, ...]] = {}
        self._shards: list[GroupShard] = []  # kept, so that none is taken for another

    # --- what is sent ----------------------------------------------------------------------------

    def next_offset(self, key: Key, attempt: Attempt | None) -> int:
        """One that was never committed before, for a commit in this transaction, or without one."""
        offset = 1_000 + len(self.sent)
        self.sent[offset] = Sent(key, attempt)
        return offset

    def least(self, key: Key, *, stable: bool) -> int:
        """The record that has to be seen by whoever asks now, or one above it."""
        return self._floors[stable].get(key, -1)

    # --- what was said ---------------------------------------------------------------------------

    def _must_see(self, key: Key, offset: int, *, both: bool) -> None:
        """Whoever asks from now on sees this, or what lies above it; `both`: also who does not
        mind that a transaction is about to end."""
        at = self._offsets_in_log.get(offset, -1)
        if at < 0:
            if self._partition() is not None:
                raise self.world.violation(
                    "32", f"{self.sent[offset]}: {offset} is acknowledged, and not committed"
                )
            return
        for floors in self._floors.values() if both else (self._floors[True],):
            floors[key] = max(at, floors.get(key, -1))

    def on_acknowledged(self, key: Key, offset: int) -> None:
        """Of a plain commit."""
        self._must_see(key, offset, both=True)

    def on_decided(self, attempt: Attempt) -> None:
        """It is committed: its offsets are what counts, or will be when its marker is committed."""
        for key, offset in attempt.offsets.items():
            self._must_see(key, offset, both=False)

    def judge(
        self, key: Key, found: CommittedOffset, host: Host, *, stable: bool, least: int
    ) -> int:
        """Nos. 32 and 33, of an answer in the moment that it is given: returns the offset. `least`:
        the record that had to be seen when it was asked for. One that was deposed and does not know
        it yet has an old answer."""
        ledger = self._partition()
        replica = None if ledger is None else host.replica(ledger.topic_partition)
        if ledger is None or replica is None:
            raise NetworkError("nobody knows")
        if stable and found.error is None and key in self._said_by(replica).unstable:
            raise self.world.violation(
                "33", f"{host.name}: {describe(key)} is {found.offset}, and a transaction is open"
            )
        if found.error is not None:
            assert isinstance(found.error, UnstableOffsetCommitError), found.error
            raise found.error
        if ledger.state is None or (ledger.state.leader, ledger.state.leader_epoch) != (
            host.number,
            replica.core.leader_epoch,
        ):
            return found.offset
        at = self._forgotten.get(key, -1)
        if found.offset >= 0:
            self._check_known(key, found.offset)
            at = self._offsets_in_log[found.offset]
        if at < least:
            raise self.world.violation(
                "33" if stable else "32",
                f"{host.name}: {describe(key)} is {found.offset}, of record {at}; "
                f"record {least} was committed before it was asked",
            )
        if found.offset >= 0:
            self._must_see(key, found.offset, both=True)
        return found.offset

    def _check_known(self, key: Key, offset: int) -> None:
        """No. 23: it is somebody's, and of no transaction that was aborted."""
        sent = self.sent.get(offset)
        if sent is None or sent.key != key or offset not in self._offsets_in_log:
            raise self.world.violation("32", f"{describe(key)} is {offset}: nobody's ({sent})")
        if sent.attempt is not None:
            self.world.coordinated.decide(sent.attempt, "commit", "a group is told its offset:")

    # --- the log ---------------------------------------------------------------------------------

    def _entries(self, batch: Batch) -> list[Entry]:
        key = (batch.header.crc, batch.header.base_offset)
        found = self._parsed.get(key)
        if found is None:
            found = self._parsed[key] = entries_of(batch.data, batch.header, batch.marker)
        return found

    def _said_by(self, replica: Replica) -> Said:
        stored = replica.log.stored  # type: ignore[attr-defined]
        entries = (entry for batch in stored.batches for entry in self._entries(batch))
        return said(entries, stored.high_watermark)

    def on_appended(self, log: SimulatedLog, batch: Batch) -> None:
        """No. 24, of what a leader stages."""
        header = batch.header
        replica = log.store.host.replica(log.topic_partition)
        if replica is None or not replica.core.is_leader or not is_transactional(header):
            return
        for entry in self._entries(batch):
            if isinstance(entry, Ended):
                continue
            sent = self.sent.get(-1 if entry.value is None else entry.value)
            attempt = None if sent is None else sent.attempt
            of = None if attempt is None else (attempt.producer_id, attempt.producer_epoch)
            if of != (header.producer_id, header.producer_epoch):
                raise self.world.violation(
                    "24", f"{log}: {sent} is staged for producer {header.producer_id}"
                )

    def on_committed(self, batch: Batch) -> None:
        """In the order of the log."""
        for entry in self._entries(batch):
            self.entries.append(entry)
            if isinstance(entry, Ended):
                self._on_ended(entry)
            elif entry.value is None:
                self._check_forgotten(entry)
                self._forgotten[entry.key] = entry.offset
            else:
                self._offsets_in_log[entry.value] = entry.offset
                if entry.producer_id is not None:
                    self._staged.setdefault(entry.producer_id, []).append(entry)

    def _on_ended(self, ended: Ended) -> None:
        """Nos. 21, 22 and 23."""
        outcome = "commit" if ended.commits else "abort"
        for entry in self._staged.pop(ended.producer_id, ()):
            assert entry.value is not None
            attempt = self.sent[entry.value].attempt
            assert attempt is not None
            self.world.coordinated.decide(attempt, outcome, "the marker of its offsets says")

    def _check_forgotten(self, entry: Written) -> None:
        """No. 32: nobody but a client, or the deletion of a topic, takes away what is staged."""
        group_id, topic_partition = entry.key
        topic = topic_partition.topic
        ids = {known for known, each in self.world.ledger.partitions if self._is_of(known, topic)}
        is_gone = topic not in self.world.ledger.topic_ids or self.world.is_marked_deleted(topic)
        if group_id in self.forgettable or is_gone or len(ids) > 1:
            return
        if any(each.key == entry.key for some in self._staged.values() for each in some):
            raise self.world.violation(
                "32", f"{describe(entry.key)} is forgotten, and a transaction is about to commit it"
            )

    def _is_of(self, topic_id: str, topic: str) -> bool:
        ledger = self.world.ledger.partitions.get((topic_id, 0))
        return ledger is not None and ledger.topic_partition.topic == topic

    # --- what must hold --------------------------------------------------------------------------

    def _partition(self) -> PartitionLedger | None:
        """Of the groups. (In the simulation they have one.)"""
        topic_id = self.world.ledger.topic_ids.get(OFFSETS_TOPIC)
        return None if topic_id is None else self.world.ledger.partitions.get((topic_id, 0))

    def check_step(self, host: Host) -> None:
        """Nos. 20 and 32, of all groups that are coordinated here."""
        if not host.runs or self._partition() is None:
            return
        service = service_of(host)
        for shard in [] if service is None else service.group_shards._loaded():
            log = shard.replica.core.log_state
            seen = (log.high_watermark, log.log_end_offset, shard.partition.leader_epoch)
            if shard not in self._shards:
                self._shards.append(shard)
            if self._looked_at.get(id(shard)) != seen:
                self._looked_at[id(shard)] = seen
                self._check_memory(host, shard)

    def _check_memory(self, host: Host, shard: GroupShard) -> None:
        by_log = self._said_by(shard.replica)
        tables = [(group_id, each.offsets.table) for group_id, each in shard.groups.items()]
        offsets = {
            (group_id, partition): (value.record_offset, value.offset)
            for group_id, table in tables
            for partition, value in table.committed.items()
        }
        unstable = {(group_id, each) for group_id, table in tables for each in table.staged()}
        if (offsets, unstable) != (by_log.offsets, by_log.unstable):
            raise self.world.violation(
                "20, 32",
                f"{host.name} knows {_told(offsets)}, staged {sorted(map(describe, unstable))}; "
                f"its log says {_told(by_log.offsets)}, "
                f"staged {sorted(map(describe, by_log.unstable))}",
            )

    def _leading(self) -> tuple[Host, Replica] | None:
        ledger = self._partition()
        host = None
        if ledger is not None and ledger.state is not None:
            host = self.world.hosts.get(ledger.state.leader)
        replica = None if host is None or ledger is None else host.replica(ledger.topic_partition)
        return None if host is None or replica is None else (host, replica)

    def unsettled(self) -> str | None:
        """No. 35: why not every group is there, without anything staged."""
        if self.world.members.at_work:
            return f"{self.world.members.at_work} clients of groups are at work"
        leading = self._leading()
        if leading is None or self.world.coordinated.is_lost():
            return None
        host, replica = leading
        service = service_of(host)
        if service is None or service.group_shards.loading:
            return f"{host.name} reads its groups"
        unstable = self._said_by(replica).unstable
        if unstable:
            return f"staged: {sorted(map(describe, unstable))}"
        log = replica.core.log_state
        if log.last_stable_offset != log.high_watermark:
            return f"the groups are stable up to {log.last_stable_offset} of {log.high_watermark}"
        return None

    def check_end(self) -> None:
        """Nos. 23 and 32: every group answers what the ledger says, and of what was committed in a
        transaction all is there, unless something lies above it."""
        leading = self._leading()
        if leading is None:
            return
        host, replica = leading
        service = service_of(host)
        assert service is not None
        by_ledger = said(self.entries, replica.core.log_state.log_end_offset)
        answers = {
            (group.group_id, each.topic_partition): each.offset
            for group in service.group_shards.loaded_groups()
            for each in group.fetch_offsets(None, require_stable=True)
        }
        expected = {key: value for key, (_, value) in by_ledger.offsets.items()}
        if not self.world.coordinated.is_lost() and answers != expected:
            raise self.world.violation("32", f"{host.name} answers {answers}, not {expected}")
        for key, offset in expected.items():
            self._check_known(key, offset)
        for attempt in self.world.coordinated.attempts:
            for key, offset in attempt.offsets.items() if attempt.outcome == "commit" else ():
                at = self._offsets_in_log[offset]
                if key not in by_ledger.counting or by_ledger.counting[key].offset < at:
                    raise self.world.violation(
                        "23", f"{attempt}: committed, and {describe(key)} is not {offset}"
                    )


def _told(offsets: Mapping[Key, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {describe(key): offsets[key] for key in sorted(offsets)}


def service_of(host: Host) -> Service | None:
    process = host.process
    if process is None or process.broker is None or process.ended:
        return None
    return process.broker.service
