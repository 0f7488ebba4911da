"""Transactions of the simulated cluster with the coordinators of the product: clients that ask
them, in both versions of the protocol, and what they were told.

A client does one transaction an action: it gets itself a producer id and epoch if it has none, adds
partitions (version 1), writes, has offsets of groups in it (members.py), and ends it. What fails
for the moment is asked again a few times; what fails for good makes it abort. A client that has
given up, or is still at work when its slot is to do the next transaction, gets a successor with
the same transactional id, and may go on as a zombie. A request that was given up is followed by
others on a new connection (T10).

State: the clients by slot, and all attempts at a transaction with what is known of their outcome.
It is decided by whoever hears of it first: the client, or a reader. Invariants (transactions.md
section 9), each judged where it can be broken:

    no. 21, 23  one outcome, of all partitions alike: `on_consumed`, `check_end`; unknown is
                all or nothing
    no. 20      what a coordinator knows is what its log says: `check_end`
    no. 30      who was fenced has no success any more: `_judge_fenced`
    no. 31      a producer id and epoch are given to one producer: `_become`
    no. 35      when all is healed, nothing is under way: `unsettled`
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from minikafka.api.groups import COORDINATES_TRANSACTIONS, FindCoordinatorRequest
from minikafka.api.requests import ProducePartition, ProduceRequest
from minikafka.api.transactions import (
    AddPartitionsRequest,
    EndTransactionRequest,
    InitProducerIdRequest,
    NewestOf,
    ProducerIdentity,
)
from minikafka.broker.service import Service
from minikafka.broker.transactions.records import decode
from minikafka.core.transactions.values import TransactionValue
from minikafka.errors import (
    MinikafkaError,
    NetworkError,
    NotLeaderOrFollowerError,
    TransactionAbortableError,
)
from minikafka.model import NO_LEADER, TRANSACTIONS_TOPIC, TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.header import parse_header, split
from minikafka.records.read import iter_records
from tests.simulation.group_log import Key as GroupKey
from tests.simulation.network import Exchange
from tests.simulation.states import PartitionLedger, Violation

if TYPE_CHECKING:
    from minikafka.broker.replication.replica import Replica
    from tests.simulation.world import Host, World

REQUEST_MS = 1_500
ATTEMPTS = 6
AGAIN_S = 0.1
TIMEOUT_MS = 3_000  # of transactions
END_VERSIONS = {1: 4, 2: 5}  # of EndTxn
PREFIX = "orders-"
Key = tuple[str, int]  # topic id, partition


@dataclass
class Attempt:
    """At a transaction. `outcome`: commit, abort, or None while nobody knows. `asked`: its client
    may have asked to commit it. `acknowledged`: the CRCs of its batches; `offsets`: those of groups
    that were."""

    name: str
    producer_id: int
    producer_epoch: int
    outcome: str | None = None
    asked: bool = False
    acknowledged: dict[Key, set[int]] = field(default_factory=dict)
    crcs: dict[Key, set[int]] = field(default_factory=dict)
    offsets: dict[GroupKey, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} (producer {self.producer_id} epoch {self.producer_epoch})"


@dataclass
class Client:
    """`version` of the protocol; `number` tells the clients of one id apart."""

    slot: int
    version: int
    number: int
    connection: int
    producer_id: int = -1
    producer_epoch: int = -1
    sequences: dict[Key, int] = field(default_factory=dict)
    busy: bool = False
    dead: bool = False

    @property
    def transactional_id(self) -> str:
        return f"{PREFIX}{self.slot}"

    @property
    def name(self) -> str:
        return f"{self.transactional_id}.{self.number}"


class Coordinated:
    def __init__(self, world: World) -> None:
        self.world = world
        self.clients: dict[int, Client] = {}
        self.attempts: list[Attempt] = []
        self.by_crc: dict[int, Attempt] = {}
        self.at_work = 0
        self._connections = 0
        self._made = 0
        self._newest: dict[str, tuple[int, int]] = {}  # by id: highest epoch given, to which client
        self._given: dict[tuple[int, int], str] = {}  # producer id and epoch to the client's name

    # --- a transaction ---------------------------------------------------------------------------

    def transact(
        self,
        slot: int,
        version: int,
        outcome: str,
        partitions: Sequence[TopicPartition],
        groups: Sequence[GroupKey] = (),
    ) -> None:
        """The client of this slot does one, or its successor if it cannot."""
        client = self.clients.get(slot)
        if client is None or client.busy or client.dead or client.version != version:
            number = 0 if client is None else client.number + 1
            client = Client(slot, version, number, self._connect())
            self.clients[slot] = client
        client.busy = True
        self.at_work += 1
        work = self._transact(client, outcome, partitions, groups)
        self.world.loop.create_task(work, context=self.world.context)

    def _connect(self) -> int:
        self._connections += 1
        return self._connections

    async def _transact(
        self,
        client: Client,
        outcome: str,
        partitions: Sequence[TopicPartition],
        groups: Sequence[GroupKey],
    ) -> None:
        try:
            if client.producer_id < 0:
                await self._init(client, goes_on=False)
            attempt = Attempt(client.name, client.producer_id, client.producer_epoch)
            self.attempts.append(attempt)
            failed = await self._write_all(client, attempt, partitions, groups)
            await self._end(client, attempt, "abort" if failed else outcome)
            if client.version == 1 and (failed or attempt.outcome != outcome):
                await self._init(client, goes_on=True)
        except Violation:
            client.dead = True
        except MinikafkaError as error:
            client.dead = True
            self.world.tell(f"{client.name} gives up: {type(error).__name__}")
        finally:
            client.busy = False
            self.at_work -= 1

    async def _write_all(
        self,
        client: Client,
        attempt: Attempt,
        partitions: Sequence[TopicPartition],
        groups: Sequence[GroupKey],
    ) -> bool:
        """Whether something failed for good."""
        try:
            if client.version == 1:
                await self._add(client, partitions)
            for topic_partition in partitions:
                await self._produce(client, attempt, topic_partition)
            for key in groups:
                await self.world.members.send(client, attempt, key)
        except Violation:
            raise
        except MinikafkaError as error:
            self.world.tell(f"{client.name}: {type(error).__name__}")
            return True
        return False

    # --- requests to the coordinator -------------------------------------------------------------

    async def _init(self, client: Client, *, goes_on: bool) -> None:
        known = (client.producer_id, client.producer_epoch) if goes_on else (-1, -1)
        request = InitProducerIdRequest(client.transactional_id, TIMEOUT_MS, *known)

        async def serve(service: Service) -> ProducerIdentity:
            return _right(await service.transactions.init_producer_id(request))

        identity = await self._coordinate(client, "init", request, serve)
        self._become(client, identity)

    def _become(self, client: Client, identity: ProducerIdentity) -> None:
        """No. 31."""
        given = (identity.producer_id, identity.producer_epoch)
        other = self._given.setdefault(given, client.name)
        if other != client.name:
            raise self.world.violation("31", f"{given} is given to {other} and {client.name}")
        newest = (identity.producer_epoch, client.number)
        transactional_id = client.transactional_id
        self._newest[transactional_id] = max(newest, self._newest.get(transactional_id, newest))
        client.producer_id, client.producer_epoch = given
        client.sequences.clear()
        self.world.tell(f"{client.name} is producer {given[0]} epoch {given[1]}")

    async def _add(self, client: Client, partitions: Sequence[TopicPartition]) -> None:
        request = AddPartitionsRequest(
            client.transactional_id, client.producer_id, client.producer_epoch, partitions
        )

        async def serve(service: Service) -> None:
            for error in (await service.transactions.add_partitions(request)).values():
                if error is not None:
                    raise error

        is_newest = self._is_newest(client)
        await self._coordinate(client, "add", request, serve)
        self._judge_fenced(client, "adds partitions", is_newest)

    async def _end(self, client: Client, attempt: Attempt, outcome: str) -> None:
        attempt.asked = attempt.asked or outcome == "commit"
        request = EndTransactionRequest(
            client.transactional_id,
            client.producer_id,
            client.producer_epoch,
            outcome == "commit",
            END_VERSIONS[client.version],
        )

        async def serve(service: Service) -> ProducerIdentity:
            return _right(await service.transactions.end(request))

        is_newest = self._is_newest(client)
        try:
            identity = await self._coordinate(client, "end", request, serve)
        except TransactionAbortableError:
            if outcome == "abort":
                raise
            self.decide(attempt, "abort", "the coordinator says")
            await self._end(client, attempt, "abort")
            return
        self._judge_fenced(client, f"ends with {outcome}", is_newest)
        self.decide(attempt, outcome, "the coordinator says")
        if client.version == 2:
            self._become(client, identity)

    def _is_newest(self, client: Client) -> bool:
        return self._newest[client.transactional_id][1] == client.number

    def _judge_fenced(self, client: Client, what: str, was_newest: bool) -> None:
        """No. 30, of who was not the newest any more when it asked."""
        if not was_newest:
            raise self.world.violation("30", f"{client.name} was fenced, and {what}")

    def decide(self, attempt: Attempt, outcome: str, how: str) -> None:
        """Nos. 21, 23."""
        if attempt.outcome is None:
            attempt.outcome = outcome
            self.world.tell(f"{attempt}: {outcome}, {how}")
            if outcome == "commit":
                self.world.grouped.on_decided(attempt)
        if attempt.outcome != outcome or (outcome == "commit" and not attempt.asked):
            raise self.world.violation(
                "21, 23",
                f"{attempt}: {how} {outcome}; it was {attempt.outcome}, asked: {attempt.asked}",
            )

    async def _coordinate(self, client: Client, kind: str, request: Any, ask: Any) -> Any:
        """Ask the coordinator, as T10 has it."""

        async def find() -> Host:
            return await self.find(client.transactional_id, COORDINATES_TRANSACTIONS)

        async def serve(service: Service, connection: int) -> Any:
            asked, transactional_id = service.transactions, request.transactional_id
            if not (
                asked.fences(transactional_id, request.producer_id, request.producer_epoch)
                or asked.hears(transactional_id, NewestOf.COORDINATION, connection)
            ):
                raise NetworkError("the connection is closed")
            return await ask(service)

        return await self._ask(client, kind, find, serve)

    async def find(self, name: str, kind: int) -> Host:
        """The coordinator of this transactional id or group, as anybody knows it."""
        request = FindCoordinatorRequest([name], kind)

        async def serve(service: Service) -> int:
            asked = service.transactions if kind == COORDINATES_TRANSACTIONS else service.groups
            [found] = (await asked.find_coordinator(request)).coordinators
            if found.error is not None:
                raise found.error
            assert found.broker is not None
            return found.broker.broker_id

        anyone = self.world.chance.choice(list(self.world.hosts.values()))
        exchange = Exchange(
            self.world.network, None, anyone.number, "find", None, serve, 5 * REQUEST_MS
        )
        return self.world.hosts[await exchange.result()]

    async def _ask(self, client: Client, kind: str, find: Callable[[], Any], serve: Any) -> Any:
        """Again, if it may be different later. `serve(service, connection)`."""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(AGAIN_S * attempt)
            try:
                host = await find()
                on_this = partial(_on_connection, serve, client.connection)
                exchange = Exchange(
                    self.world.network, None, host.number, kind, None, on_this, REQUEST_MS
                )
                return await exchange.result()
            except MinikafkaError as error:
                if not error.retriable:
                    raise
                last = error
                if isinstance(error, NetworkError):
                    client.connection = self._connect()
        raise last

    # --- writing ---------------------------------------------------------------------------------

    async def _produce(
        self, client: Client, attempt: Attempt, topic_partition: TopicPartition
    ) -> None:
        ledger = self.world.ledger.current(topic_partition)
        if ledger is None:
            raise NotLeaderOrFollowerError(f"there is no {topic_partition}")
        key = (ledger.topic_id, topic_partition.partition)
        self._made += 1
        builder = BatchBuilder()
        timestamp_ms = self.world.now_ms() + 1_700_000_000_000
        builder.append(None, b"c%d" % self._made, (), timestamp_ms)
        batch = builder.build(
            producer_id=client.producer_id,
            producer_epoch=client.producer_epoch,
            base_sequence=client.sequences.get(key, 0),
            transactional=True,
        )
        crc = parse_header(batch).crc
        attempt.crcs.setdefault(key, set()).add(crc)
        self.by_crc[crc] = attempt
        request = ProduceRequest(
            -1,
            REQUEST_MS // 2,
            [ProducePartition(topic_partition, batch)],
            transactional_id=client.transactional_id,
            adds_to_transaction=client.version == 2,
        )

        async def find() -> Host:
            state = ledger.state
            if state is None or state.leader == NO_LEADER:
                raise NotLeaderOrFollowerError(f"nobody leads {ledger}")
            return self.world.hosts[state.leader]

        async def serve(service: Service, _: int) -> None:
            [result] = await service.produce(request)
            if result.error is not None:
                raise result.error

        is_newest = self._is_newest(client)
        await self._ask(client, "produce", find, serve)
        self._judge_fenced(client, f"writes to {topic_partition}", is_newest)
        if self.world.ledger.current(topic_partition) is ledger:
            attempt.acknowledged.setdefault(key, set()).add(crc)
        client.sequences[key] = client.sequences.get(key, 0) + 1

    # --- what must hold --------------------------------------------------------------------------

    def on_consumed(self, crc: int, *, seen: bool) -> None:
        """By a reader of committed records: a batch is read, or passed over."""
        attempt = self.by_crc.get(crc)
        if attempt is not None:
            how = "a reader sees it:" if seen else "a reader passes over it:"
            self.decide(attempt, "commit" if seen else "abort", how)

    def is_lost(self) -> bool:
        """Has a coordinator's partition lost all its disks? Then what was open there stays open."""
        return any(
            each.topic_partition.topic == TRANSACTIONS_TOPIC and self._has_lost_all(each)
            for each in self.world.ledger.partitions.values()
        )

    def _has_lost_all(self, ledger: PartitionLedger) -> bool:
        state = ledger.state
        return (
            state is not None
            and state.leader == NO_LEADER
            and not any(self.world.ledger.is_intact(state, member) for member in state.isr)
        )

    def _cannot_end(self, value: TransactionValue) -> bool:
        """One of its partitions is there and will never be led again."""
        ledgers = [self.world.ledger.current(each) for each in value.partitions]
        return any(each is not None and self._has_lost_all(each) for each in ledgers)

    def unsettled(self) -> str | None:
        """No. 35: why not every transaction has ended."""
        if self.at_work:
            return f"{self.at_work} clients are at work"
        if self.is_lost():
            return None
        for host in self.world.hosts.values():
            service = _service(host)
            for shard in [] if service is None else service.transaction_shards.all():
                if not shard.serving:
                    return f"{shard.topic_partition} is loading"
                for name in shard.coordinator.awake():
                    value = shard.coordinator.value(name)
                    if value is None or value.state.is_quiet or self._cannot_end(value):
                        continue
                    return f"{name} is {value.state.name}"
        return None

    def check_end(self) -> None:
        """Nos. 20, 21 and 23, of all that is left."""
        if self.is_lost():
            return
        for host in self.world.hosts.values():
            service = _service(host)
            for shard in [] if service is None else service.transaction_shards.all():
                replica = host.replica(shard.topic_partition)
                assert replica is not None
                said = _replayed(replica)
                known = {name: shard.coordinator.value(name) for name in said}
                if known != said or set(shard.coordinator.transactional_ids()) != set(said):
                    raise self.world.violation("20", f"{replica.log!r}: {known}, not {said}")
        seen = self._seen()
        for attempt in self.attempts:
            self._check_attempt(attempt, seen)

    def _seen(self) -> dict[Key, tuple[set[int], set[int]]]:
        """By partition that can be judged: the CRCs that a reader of committed records sees, and
        those that were committed to the log and not deleted since."""
        found: dict[Key, tuple[set[int], set[int]]] = {}
        for ledger in self.world.ledger.live():
            state = ledger.state
            if state is None or state.leader == NO_LEADER or ledger.unclean_version >= 0:
                continue
            replica = self.world.hosts[state.leader].replica(ledger.topic_partition)
            if replica is not None:
                start = replica.core.log_state.log_start_offset
                left = {crc for end, (_, crc) in ledger.committed.items() if end > start}
                key = (ledger.topic_id, ledger.topic_partition.partition)
                found[key] = (self.world.transactions.read_committed(replica), left)
        return found

    def _check_attempt(self, attempt: Attempt, seen: dict[Key, tuple[set[int], set[int]]]) -> None:
        for key in attempt.crcs.keys() & seen.keys():
            read, left = seen[key]
            if read & attempt.crcs[key]:
                self.decide(attempt, "commit", "a reader sees it:")
        for key in attempt.crcs.keys() & seen.keys():
            read, left = seen[key]
            acknowledged = attempt.acknowledged.get(key, set()) & left
            if attempt.outcome == "commit" and not acknowledged <= read:
                raise self.world.violation("23", f"{attempt}: committed, and not all is read")


async def _on_connection(serve: Any, connection: int, service: Service) -> Any:
    return await serve(service, connection)


def _right(identity: ProducerIdentity) -> ProducerIdentity:
    if identity.error is not None:
        raise identity.error
    return identity


def _service(host: Host) -> Service | None:
    process = host.process
    if process is None or process.broker is None or process.ended:
        return None
    return process.broker.service


def _replayed(replica: Replica) -> dict[str, TransactionValue]:
    """What the log of a coordinator says, to its end."""
    log = replica.core.log_state
    data = replica.read(log.log_start_offset, 10**9, log.log_end_offset)
    said: dict[str, TransactionValue] = {}
    at = 0
    for header in split(data) if data else []:
        batch = data[at : at + header.size_bytes]
        at += header.size_bytes
        for entry in iter_records(batch, header):
            record = decode(entry.key, entry.value)
            assert record is not None
            if record.value is None:
                said.pop(record.transactional_id, None)
            else:
                said[record.transactional_id] = record.value
    return said
