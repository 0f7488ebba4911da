"""Transactions of the simulated cluster: producers that write them, and a coordinator that is
played: it gives the words that leaders ask for, and hands out the markers, in more ways than a
right one would. What is real is the leaders' and followers' part, and the consumers'; with the
coordinators of the product it is coordinated.py.

State: per slot a producer with its id, its epoch and the transaction under way; all transactions
that ever were, with what became of them. A producer sends one batch a partition at a time, and
sends it again as it is until it is acknowledged. It commits only what was all acknowledged. Kinds:

    1   one epoch for many transactions; partitions are added before they are written to; after an
        abort with a batch in doubt there is another epoch: the marker has it (slot 2: it was a
        fence), or the next transaction does
    2   (KIP-890) every end raises the epoch; a partition is added by the first write

Invariants (transactions.md section 9), each judged where it can be broken:

    no. 23  what a reader of committed records gets (`on_consumed`), and all of it at the end
    no. 24  what a leader appends to an open transaction (`on_appended`)
    no. 25, 26  the epochs of what becomes committed (`on_committed`), and of replicas
                (`check_replicas`)
    no. 27  the last stable offset of each leadership, against the batches (`check_step`)
    no. 29  replicas of one log (`check_replicas`)
    no. 35  when all is healed: `unsettled`
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minikafka.api.requests import FetchPartition, FetchRequest
from minikafka.broker.ports import TransactionCoordinators
from minikafka.broker.replication.produced import own_batch
from minikafka.broker.replication.transactional import TransactionalAppend, end_transaction
from minikafka.broker.service import Service
from minikafka.client.consuming.isolation import aborted_batches
from minikafka.core.replication.effects import TransactionQuestion
from minikafka.core.replication.transactional import TransactionalProduce, TransactionEnd
from minikafka.errors import (
    InvalidProducerEpochError,
    MinikafkaError,
    NotCoordinatorError,
    NotLeaderOrFollowerError,
    TransactionAbortableError,
    TransactionCoordinatorFencedError,
)
from minikafka.model import NO_LEADER, BatchHeader, TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.header import is_control, is_transactional, parse_header, split
from tests.simulation.network import Exchange
from tests.simulation.states import PartitionLedger, Violation

if TYPE_CHECKING:
    from minikafka.broker.replication.replica import Replica
    from tests.simulation.disk import SimulatedLog
    from tests.simulation.world import BrokerProcess, Host, World

REQUEST_MS = 2_000
AGAIN_S = 0.1
FENCED_SLOTS = 2  # from which on
Key = tuple[str, int]  # topic id, partition


@dataclass
class Transaction:
    """`partitions`: those that are in it, and whether their marker is confirmed. `acknowledged`:
    the CRCs of its batches. `outcome`: commit, abort, or None while it is open."""

    producer_id: int
    producer_epoch: int
    partitions: dict[Key, bool] = field(default_factory=dict)
    acknowledged: dict[Key, set[int]] = field(default_factory=dict)
    crcs: set[int] = field(default_factory=set)
    outcome: str | None = None

    @property
    def done(self) -> bool:
        return self.outcome is not None and all(self.partitions.values())


@dataclass
class TransactionalProducer:
    """`unsure`: the batch of a partition that is not acknowledged yet."""

    slot: int
    kind: int
    producer_id: int
    producer_epoch: int = 0
    transaction: Transaction | None = None
    sequences: dict[Key, int] = field(default_factory=dict)
    unsure: dict[Key, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"transactions-{self.slot}"


class _Words:
    """What the leaders of one process ask: about our own ids here, else the coordinators."""

    def __init__(self, played: Transactions, real: TransactionCoordinators) -> None:
        self._played = played
        self._real = real

    async def is_in_transaction(self, question: TransactionQuestion) -> None:
        played = question.transactional_id.startswith("transactions-")
        await (self._played if played else self._real).is_in_transaction(question)


class Transactions:
    def __init__(self, world: World) -> None:
        self.world = world
        self.producers: dict[int, TransactionalProducer] = {}
        self.all: list[Transaction] = []
        self.by_crc: dict[int, Transaction] = {}
        self.coordinator_epoch = 0
        self.word_gate: asyncio.Future[None] | None = None  # words wait for it on their way back
        self._made = 0
        self._stable: dict[tuple[int, int], int] = {}  # (id of a core, its leadership) to offset
        self._cores: list[object] = []  # so that no id of one is given twice
        self._looked_at: dict[int, tuple[int, ...]] = {}

    def _spawn(self, work: Any) -> None:
        self.world.loop.create_task(work, context=self.world.context)

    def producer(self, slot: int) -> TransactionalProducer:
        """Their ids are far from those of others; every other one is of kind 2."""
        found = self.producers.get(slot)
        if found is None:
            found = TransactionalProducer(slot, 1 + slot % 2, 1_000_000 + slot)
            self.producers[slot] = found
        return found

    # --- writing ---------------------------------------------------------------------------------

    def write(self, host: Host, topic_partition: TopicPartition, slot: int) -> None:
        """The producer of this slot sends a batch, or again the one that it is not sure of."""
        ledger = self.world.ledger.current(topic_partition)
        producer = self.producer(slot)
        transaction = producer.transaction
        if ledger is None or (transaction is not None and transaction.outcome is not None):
            return
        if transaction is None:
            transaction = Transaction(producer.producer_id, producer.producer_epoch)
            producer.transaction = transaction
            self.all.append(transaction)
        key = (ledger.topic_id, topic_partition.partition)
        if producer.kind == 1:
            transaction.partitions.setdefault(key, False)
        if key not in producer.unsure:
            producer.unsure[key] = self._batch(producer, key)
        batch = producer.unsure[key]
        crc = parse_header(batch).crc
        transaction.crcs.add(crc)
        self.by_crc[crc] = transaction
        self._spawn(self._write(host, ledger, producer, transaction, key, batch))

    def _batch(self, producer: TransactionalProducer, key: Key) -> bytes:
        builder = BatchBuilder()
        self._made += 1
        builder.append(None, b"t%d" % self._made, (), self.world.now_ms() + 1_700_000_000_000)
        return builder.build(
            producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch,
            base_sequence=producer.sequences.get(key, 0),
            transactional=True,
        )

    async def _write(
        self,
        host: Host,
        ledger: PartitionLedger,
        producer: TransactionalProducer,
        transaction: Transaction,
        key: Key,
        batch: bytes,
    ) -> None:
        async def serve(service: Service) -> None:
            replica = self._leading(host, ledger)
            produce = TransactionalProduce(producer.name, producer.kind == 2)
            waiting = TransactionalAppend(replica, own_batch(batch), produce)
            waiting.begin()
            error = await waiting.done
            header = parse_header(batch)
            said = f"at {waiting.base_offset}" if error is None else type(error).__name__
            self.world.tell(
                f"{host.name} {ledger} {producer.name} epoch {header.producer_epoch} "
                f"{header.crc:08x}: {said}"
            )
            if error is not None:
                assert isinstance(error, MinikafkaError)
                raise error
            end_offset = waiting.base_offset + header.record_count
            self.world.ledger.on_acknowledged(ledger, replica, end_offset, header.crc)

        try:
            await self._ask(host, "produce", serve)
        except (MinikafkaError, Violation):
            return
        crc = parse_header(batch).crc
        transaction.acknowledged.setdefault(key, set()).add(crc)
        if producer.transaction is transaction and producer.unsure.get(key) is batch:
            del producer.unsure[key]
            producer.sequences[key] = producer.sequences.get(key, 0) + 1

    async def _ask(self, host: Host, kind: str, serve: Any) -> Any:
        exchange = Exchange(self.world.network, None, host.number, kind, None, serve, REQUEST_MS)
        return await exchange.result()

    def _leading(self, host: Host, ledger: PartitionLedger) -> Replica:
        replica = host.replica(ledger.topic_partition)
        if replica is None or replica.topic_id != ledger.topic_id:
            raise NotLeaderOrFollowerError(f"{host.name} has no replica of {ledger}")
        return replica

    # --- ending ----------------------------------------------------------------------------------

    def end(self, slot: int, outcome: str) -> None:
        """Commit, if all of it was acknowledged; else abort, which is a fence for kind 1."""
        producer = self.producer(slot)
        transaction = producer.transaction
        if transaction is None or transaction.outcome is not None:
            return
        in_doubt = bool(producer.unsure)
        transaction.outcome = "abort" if in_doubt else outcome
        raised = producer.kind == 2 or (in_doubt and producer.slot >= FENCED_SLOTS)
        marker_epoch = producer.producer_epoch + raised
        self.world.tell(f"{producer.name} epoch {producer.producer_epoch}: {transaction.outcome}")
        if raised or in_doubt:
            producer.producer_epoch += 1
            producer.sequences.clear()
            producer.unsure.clear()
        self._send_markers(producer, transaction, marker_epoch, raised)

    def _send_markers(
        self,
        producer: TransactionalProducer,
        transaction: Transaction,
        producer_epoch: int,
        raised: bool,
    ) -> None:
        """To each partition until it has confirmed; one that is lost holds up no other."""
        left = list(transaction.partitions)

        async def send(key: Key) -> None:
            while True:
                if await self._send_marker(transaction, key, producer_epoch, raised):
                    break
                await asyncio.sleep(AGAIN_S)
            transaction.partitions[key] = True
            left.remove(key)
            if not left:
                self._complete(producer, transaction)

        for key in list(left):
            self._spawn(send(key))
        if not left:
            self._complete(producer, transaction)

    def _complete(self, producer: TransactionalProducer, transaction: Transaction) -> None:
        producer.transaction = None
        self.world.tell(f"{producer.name}: {transaction.outcome} is complete")

    async def _send_marker(
        self, transaction: Transaction, key: Key, producer_epoch: int, raised: bool
    ) -> bool:
        """Whether the partition has confirmed it, or has gone."""
        ledger = self.world.ledger.partitions[key]
        current = self.world.ledger.current(ledger.topic_partition)
        if current is not ledger or ledger.state is None:
            return True
        if ledger.state.leader == NO_LEADER:
            return False
        host = self.world.hosts[ledger.state.leader]
        end = TransactionEnd(
            transaction.producer_id,
            producer_epoch,
            self.coordinator_epoch,
            transaction.outcome == "commit",
            raised,
        )

        async def serve(service: Service) -> None:
            # A copy that comes late must not end the next one of the same epoch: the channel of the
            # coordinator sees to that (T5), which is not there yet.
            if not raised and transaction.partitions[key]:
                raise TransactionCoordinatorFencedError("a late copy")
            replica = self._leading(host, ledger)
            error = await end_transaction(replica, end, self.world.now_ms() + 1_700_000_000_000)
            if error is not None:
                assert isinstance(error, MinikafkaError)
                raise error

        try:
            await self._ask(host, "marker", serve)
        except InvalidProducerEpochError:
            return True  # the partition is past this epoch
        except (MinikafkaError, Violation):
            return False
        return True

    # --- the word --------------------------------------------------------------------------------

    async def is_in_transaction(self, question: TransactionQuestion) -> None:
        """As the port says; the question and the word take their time."""
        world = self.world
        await asyncio.sleep(world.network.delay())
        if world.network.trouble and world.chance.random() < world.network.trouble:
            raise NotCoordinatorError("it has moved")
        error = self._word(question)
        if self.word_gate is not None:
            await self.word_gate
        await asyncio.sleep(world.network.delay())
        if error is not None:
            raise error

    def _word(self, question: TransactionQuestion) -> MinikafkaError | None:
        producer = next(p for p in self.producers.values() if p.name == question.transactional_id)
        transaction = producer.transaction
        if question.producer_epoch != producer.producer_epoch:
            return InvalidProducerEpochError("fenced")
        if transaction is None:
            return TransactionAbortableError("no transaction is open")
        if transaction.outcome is not None:
            return NotCoordinatorError("it is ending")
        ledger = self.world.ledger.current(question.topic_partition)
        if ledger is None:
            return TransactionAbortableError("there is no such partition")
        key = (ledger.topic_id, question.topic_partition.partition)
        if question.adds:
            transaction.partitions.setdefault(key, False)
        return None if key in transaction.partitions else TransactionAbortableError("not in it")

    def on_started(self, process: BrokerProcess) -> None:
        """Its leaders ask here, about the producers that are played here."""
        assert process.broker is not None
        words = process.broker.replicas.words
        assert words.coordinators is not None
        words.coordinators = _Words(self, words.coordinators)

    # --- reading ---------------------------------------------------------------------------------

    def consume(self, host: Host, topic_partition: TopicPartition, offset: int) -> None:
        """A reader of committed records fetches once."""
        self._spawn(self._consume(host, topic_partition, offset, 300))

    async def _consume(
        self, host: Host, topic_partition: TopicPartition, offset: int, max_wait_ms: int
    ) -> None:
        wanted = [FetchPartition(topic_partition, offset, 1_000)]
        request = FetchRequest(max_wait_ms, 1, 10_000, wanted, read_committed=True)

        async def serve(service: Service) -> None:
            before = host.replica(topic_partition)
            [result] = await service.fetch(request)
            replica = host.replica(topic_partition)
            if result.error is None and replica is not None and replica is before:
                ledger = self.world.ledger.of(replica.topic_id, topic_partition)
                if not ledger.is_from_before_unclean(replica) and ledger.unclean_version < 0:
                    self.on_consumed(ledger, offset, result)

        try:
            await self._ask(host, "fetch", serve)
        except (MinikafkaError, Violation):
            return

    def on_consumed(self, ledger: PartitionLedger, offset: int, result: Any) -> None:
        """No. 23: nothing that is not committed, and nothing of what is committed is left out."""
        headers = split(result.records) if result.records else []
        hidden = aborted_batches(result.records, headers, result.aborted or ())
        for header in headers:
            if is_control(header) or header.next_offset <= offset:
                continue
            seen = header.base_offset not in hidden
            if header.next_offset > result.last_stable_offset:
                raise self.world.violation("27", f"{ledger}: {header.base_offset} is not stable")
            self.world.coordinated.on_consumed(header.crc, seen=seen)
            transaction = self.by_crc.get(header.crc)
            if transaction is None:
                continue
            if seen != (transaction.outcome == "commit"):
                told = "is read" if seen else "is passed over"
                raise self.world.violation(
                    "23",
                    f"{ledger}: offset {header.base_offset} of producer {header.producer_id} "
                    f"{told}; its transaction: {transaction.outcome}",
                )

    # --- what must hold --------------------------------------------------------------------------

    def on_appended(self, ledger: PartitionLedger, log: SimulatedLog, header: BatchHeader) -> None:
        """No. 24, of what the leader appends: its transaction has this partition, and was not ended
        here. (One that was deposed may not know; what it appends is cut.)"""
        if not is_transactional(header) or is_control(header):
            return
        replica = log.store.host.replica(log.topic_partition)
        state = ledger.state
        if replica is None or not replica.core.is_leader or ledger.unclean_version >= 0:
            return
        if state is None or replica.core.leader_epoch != state.leader_epoch:
            return
        if header.crc in self.world.coordinated.by_crc:
            return
        transaction = self.by_crc.get(header.crc)
        key = (ledger.topic_id, ledger.topic_partition.partition)
        if transaction is None or transaction.partitions.get(key, True):
            raise self.world.violation(
                "24",
                f"{log}: offset {header.base_offset} of producer {header.producer_id} epoch "
                f"{header.producer_epoch} opens or goes on a transaction that is not there",
            )

    def on_committed(self, ledger: PartitionLedger, header: BatchHeader) -> None:
        """Nos. 25 and 26, of what all replicas will have: no epoch of a producer falls."""
        if not is_transactional(header) or ledger.unclean_version >= 0:
            return
        known = ledger.transactional_epochs.get(header.producer_id, -1)
        if header.producer_epoch < known:
            raise self.world.violation(
                "25, 26",
                f"{ledger}: producer {header.producer_id} has epoch {header.producer_epoch} at "
                f"{header.base_offset}, after {known}",
            )
        ledger.transactional_epochs[header.producer_id] = header.producer_epoch

    def check_step(self, replica: Replica) -> None:
        """No. 27, of one that leads."""
        core = replica.core
        log = core.log_state
        stable = log.last_stable_offset
        leadership = (id(core), core.leaderships)
        if leadership not in self._stable:
            self._cores.append(core)
        known = self._stable.get(leadership, 0)
        if stable < known:
            raise self.world.violation("27", f"{replica.log!r}: stable up to {stable}, not {known}")
        self._stable[leadership] = stable
        seen = (log.log_start_offset, log.high_watermark, log.log_end_offset, stable)
        if self._looked_at.get(id(core)) == seen:
            return
        self._looked_at[id(core)] = seen
        ledger = self.world.ledger.of(replica.topic_id, replica.topic_partition)
        if ledger.unclean_version >= 0:
            return
        most = self._stable_end(replica, max(log.high_watermark, ledger.committed_end))
        least = self._stable_end(replica, log.high_watermark)
        whole = not replica.log.stored.base  # type: ignore[attr-defined]
        if stable > most or (whole and stable < least):
            raise self.world.violation(
                "27",
                f"{replica.log!r}: stable up to {stable}; by its batches up to {least} or {most}",
            )

    def _stable_end(self, replica: Replica, committed_end: int) -> int:
        """By the batches alone, if what is committed ends there: a leader that has just started may
        not know yet how far that is, and still that a marker was committed once. What began below
        the first batch is not known from them."""
        log = replica.core.log_state
        first: dict[int, int] = {}
        stored = replica.log.stored  # type: ignore[attr-defined]
        unstable = log.high_watermark
        for batch in stored.batches:
            header = batch.header
            if not is_transactional(header):
                continue
            if not is_control(header):
                first.setdefault(header.producer_id, header.base_offset)
            elif header.base_offset < committed_end:
                first.pop(header.producer_id, None)
            elif header.producer_id in first:
                unstable = min(unstable, first.pop(header.producer_id))
        unstable = min([unstable, *first.values()])
        return max(log.log_start_offset, min(unstable, log.high_watermark))

    def check_replicas(self, ledger: PartitionLedger) -> None:
        """No. 29: who has the same log, from its begin, has the same epochs and open ones; and no.
        25: the epochs are those of the last batches, markers included."""
        found: dict[tuple[int, int], tuple[str, Any]] = {}
        for host in self.world.hosts.values():
            replica = host.replica(ledger.topic_partition)
            if replica is None or replica.core.failed or replica.topic_id != ledger.topic_id:
                continue
            stored = replica.log.stored  # type: ignore[attr-defined]
            if stored.base:
                continue
            last = {
                batch.header.producer_id: batch.header.producer_epoch
                for batch in stored.batches
                if is_transactional(batch.header)
            }
            says = {
                producer_id: (state.producer_epoch, state.open_first_offset)
                for producer_id, state in replica.core.log_state.producers.items()
                if producer_id in last or producer_id >= 1_000_000
            }
            if {producer_id: epoch for producer_id, (epoch, _) in says.items()} != last:
                raise self.world.violation(
                    "25", f"{ledger}: {host.name} says {says}; the last epochs in its log: {last}"
                )
            name, other = found.setdefault(
                (stored.end, stored.chains[stored.end]), (host.name, says)
            )
            if other != says:
                raise self.world.violation(
                    "29", f"{ledger}: {name} says {other}, and {host.name} {says} at {stored.end}"
                )

    # --- the end ---------------------------------------------------------------------------------

    def end_all(self) -> None:
        """Whatever is open is aborted or committed: as it happens."""
        for slot in self.producers:
            self.end(slot, "commit")

    def unsettled(self) -> str | None:
        """No. 35: why not every transaction has ended."""
        for producer in self.producers.values():
            transaction = producer.transaction
            left = {} if transaction is None else transaction.partitions
            if any(not done and not self._is_lost(key) for key, done in left.items()):
                return f"{producer.name} has a transaction under way"
        for ledger in self.world.ledger.live():
            state = ledger.state
            if state is None or state.leader == NO_LEADER:
                continue
            replica = self.world.hosts[state.leader].replica(ledger.topic_partition)
            if replica is None or ledger.unclean_version >= 0:
                continue
            log = replica.core.log_state
            if (
                log.last_stable_offset != log.high_watermark
                and not self.world.coordinated.is_lost()
            ):
                return f"{ledger}: stable up to {log.last_stable_offset} of {log.high_watermark}"
        return None

    def _is_lost(self, key: Key) -> bool:
        """Has every member of the ISR lost its disk? Then nobody leads, and it never ends."""
        state = self.world.ledger.partitions[key].state
        return (
            state is not None
            and state.leader == NO_LEADER
            and not any(self.world.ledger.is_intact(state, member) for member in state.isr)
        )

    def check_end(self) -> None:
        """No. 23, of all that is left."""
        for ledger in self.world.ledger.live():
            state = ledger.state
            if state is None or state.leader == NO_LEADER or ledger.unclean_version >= 0:
                continue
            replica = self.world.hosts[state.leader].replica(ledger.topic_partition)
            if replica is None:
                continue
            seen = self.read_committed(replica)
            key = (ledger.topic_id, ledger.topic_partition.partition)
            start = replica.core.log_state.log_start_offset
            left = {crc for end, (_, crc) in ledger.committed.items() if end > start}
            for transaction in self.all:
                expected = transaction.acknowledged.get(key, set()) & left
                if transaction.outcome != "commit":
                    expected = set()
                if seen & transaction.crcs != expected:
                    raise self.world.violation(
                        "23",
                        f"{ledger}: {len(seen & transaction.crcs)} batches of a transaction are "
                        f"read, not {len(expected)}: {transaction.outcome}",
                    )

    def read_committed(self, replica: Replica) -> set[int]:
        """The CRCs of what a reader of committed records sees of all."""
        log = replica.core.log_state
        offset, seen = log.log_start_offset, set()
        while offset < log.last_stable_offset:
            data = replica.read(offset, 500, log.last_stable_offset)
            headers = split(data)
            hidden = aborted_batches(
                data, headers, replica.aborted(offset, 500, log.last_stable_offset)
            )
            seen |= {h.crc for h in headers if h.base_offset not in hidden}
            offset = headers[-1].next_offset
        return seen
