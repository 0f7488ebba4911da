"""A client of the product's transaction coordinators that a scenario leads by the hand: one request
at a time, to the broker that is right at that moment, and never again by itself.

    hand = Hand(cluster, TV2)
    hand.begin()
    assert hand.write() is None
    sent = hand.send_end("commit")      # an answer that may be waited for later
    assert hand.answer(sent) is None

State: what the client was told last, as one of the clients of coordinated.py; what it writes is an
attempt there, so all that is judged there is judged of it, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from minikafka.api.groups import COORDINATES_TRANSACTIONS
from minikafka.api.requests import ProducePartition, ProduceRequest
from minikafka.api.transactions import (
    AddPartitionsRequest,
    EndTransactionRequest,
    InitProducerIdRequest,
    ProducerIdentity,
)
from minikafka.broker.service import Service
from minikafka.broker.transactions.shard import TransactionShard
from minikafka.core.transactions.values import TransactionState
from minikafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    MinikafkaError,
    NetworkError,
    NotCoordinatorError,
    NotLeaderOrFollowerError,
)
from minikafka.model import TopicPartition
from minikafka.records.build import BatchBuilder
from minikafka.records.header import parse_header
from tests.simulation.coordinated import (
    END_VERSIONS,
    PREFIX,
    REQUEST_MS,
    TIMEOUT_MS,
    Attempt,
    Client,
)
from tests.simulation.directed import T0, DirectedCluster
from tests.simulation.network import Exchange

TV1, TV2 = 1, 2
AGAIN_MS = 50
MOST_MS = 20_000  # of asking again
ASKED_AGAIN = (  # what may be different in a moment
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NetworkError,
    NotCoordinatorError,
    NotLeaderOrFollowerError,
)
Sent = asyncio.Task[Any]


def coordinator(cluster: DirectedCluster, slot: int) -> str:
    """The name of the broker that coordinates this id."""
    for host in cluster.world.hosts.values():
        process = host.process
        if process is None or process.broker is None or process.ended:
            continue
        topic = process.broker.service._transactions_topic
        if topic.partition_of("") is not None:
            return cluster.world.name(topic.coordinator_of(f"{PREFIX}{slot}").broker_id)
    raise AssertionError("there is no coordinator yet")


def slot_of(cluster: DirectedCluster, *names: str) -> int:
    """One whose id one of these brokers coordinates; there is a coordinator."""
    return next(slot for slot in range(30) if coordinator(cluster, slot) in names)


class Hand:
    """`number` tells the clients of one id apart. `producer`: the id and epoch that it has now."""

    def __init__(
        self, cluster: DirectedCluster, version: int, slot: int = 0, number: int = 0
    ) -> None:
        self._cluster = cluster
        self._coordinated = cluster.world.coordinated
        self.slot = slot
        self.client = Client(slot, version, number, self._coordinated._connect())
        self._coordinated.clients[slot] = self.client
        self.attempt: Attempt | None = None
        self._made = 0

    @property
    def producer(self) -> tuple[int, int]:
        return self.client.producer_id, self.client.producer_epoch

    # --- asking ----------------------------------------------------------------------------------

    def _send(self, kind: str, target: str, serve: Callable[[Service], Any]) -> Sent:
        world = self._cluster.world
        number = self._cluster.player.host(target).number
        exchange = Exchange(world.network, None, number, kind, None, serve, REQUEST_MS * 4)
        return world.loop.create_task(exchange.result(), context=world.context)

    def answer(self, sent: Sent) -> MinikafkaError | None:
        """What came back: an error, or None. What an Init or an end gives is taken over."""
        self._cluster.until(sent.done)
        error = sent.exception()
        if error is not None:
            assert isinstance(error, MinikafkaError), error
            return error
        found = sent.result()
        if isinstance(found, ProducerIdentity):
            if found.error is None and found.producer_id >= 0:
                self._coordinated._become(self.client, found)
            return found.error
        if isinstance(found, Mapping):
            return next((each for each in found.values() if each is not None), None)
        assert found is None or isinstance(found, MinikafkaError), found
        return found

    def settled(self, send: Callable[[], Sent]) -> MinikafkaError | None:
        """The answer that is one: until then it asks again, of whoever is to be asked."""
        waited_ms = 0
        while isinstance(error := self._answer_to(send), ASKED_AGAIN):
            assert waited_ms < MOST_MS, error
            self._cluster.run(AGAIN_MS)
            waited_ms += AGAIN_MS
        return error

    def _answer_to(self, send: Callable[[], Sent]) -> MinikafkaError | None:
        try:
            sent = send()
        except MinikafkaError as error:  # nobody knows who coordinates
            return error
        return self.answer(sent)

    def _coordinate(self, kind: str, serve: Callable[[Service], Any]) -> Sent:
        return self._send(kind, coordinator(self._cluster, self.slot), serve)

    # --- requests --------------------------------------------------------------------------------

    def send_init(self, known: tuple[int, int] = (-1, -1)) -> Sent:
        """For a new producer, or as the one that is given."""
        request = InitProducerIdRequest(self.client.transactional_id, TIMEOUT_MS, *known)
        return self._coordinate(
            "init", lambda service: service.transactions.init_producer_id(request)
        )

    def begin(self) -> None:
        """It finds its coordinator, and gets itself a producer id and epoch."""
        world = self._cluster.world
        found = world.loop.create_task(
            self._coordinated.find(self.client.transactional_id, COORDINATES_TRANSACTIONS),
            context=world.context,
        )
        self._cluster.until(found.done)
        assert self.init() is None

    def init(self, known: tuple[int, int] = (-1, -1)) -> MinikafkaError | None:
        """As a new producer, or as this one; asked again as it was."""
        self.attempt = None
        return self.settled(lambda: self.send_init(known=known))

    def send_add(self, *partitions: TopicPartition) -> Sent:
        request = AddPartitionsRequest(
            self.client.transactional_id, *self.producer, partitions or (T0,)
        )
        return self._coordinate("add", lambda service: service.transactions.add_partitions(request))

    def send_end(
        self, outcome: str, *, version: int = 0, known: tuple[int, int] | None = None
    ) -> Sent:
        """`version`: of the protocol, if not that of the client."""
        if self.attempt is not None and outcome == "commit":
            self.attempt.asked = True
        request = EndTransactionRequest(
            self.client.transactional_id,
            *(known or self.producer),
            outcome == "commit",
            END_VERSIONS[version or self.client.version],
        )
        return self._coordinate("end", lambda service: service.transactions.end(request))

    def write(self, partition: TopicPartition = T0) -> MinikafkaError | None:
        """A batch of its transaction; in TV1 the partition is added before."""
        if self.client.version == TV1:
            error = self.settled(lambda: self.send_add(partition))
            if error is not None:
                return error
        batch = self.batch(partition)
        return self.settled(lambda: self.send_batch(batch, partition))

    def batch(self, partition: TopicPartition = T0, producer_epoch: int | None = None) -> bytes:
        """The next one."""
        world, client = self._cluster.world, self.client
        ledger = world.ledger.current(partition)
        assert ledger is not None
        key = (ledger.topic_id, partition.partition)
        if self.attempt is None:
            self.attempt = Attempt(client.name, *self.producer)
            self._coordinated.attempts.append(self.attempt)
        self._made += 1
        builder = BatchBuilder()
        content = b"h%d.%d.%d" % (client.slot, client.number, self._made)
        builder.append(None, content, (), world.now_ms() + 1_700_000_000_000)
        sequence = client.sequences.get(key, 0)
        client.sequences[key] = sequence + 1
        batch = builder.build(
            producer_id=client.producer_id,
            producer_epoch=client.producer_epoch if producer_epoch is None else producer_epoch,
            base_sequence=sequence,
            transactional=True,
        )
        crc = parse_header(batch).crc
        self.attempt.crcs.setdefault(key, set()).add(crc)
        self._coordinated.by_crc[crc] = self.attempt
        return batch

    def send_batch(
        self,
        batch: bytes,
        partition: TopicPartition = T0,
        *,
        timeout_ms: int = REQUEST_MS,
        leader: str = "",
    ) -> Sent:
        request = ProduceRequest(
            -1,
            timeout_ms,
            [ProducePartition(partition, batch)],
            transactional_id=self.client.transactional_id,
            adds_to_transaction=self.client.version == TV2,
        )
        ledger = self._cluster.world.ledger.current(partition)
        assert ledger is not None
        assert ledger.state is not None
        key, attempt = (ledger.topic_id, partition.partition), self.attempt

        async def serve(service: Service) -> MinikafkaError | None:
            [result] = await service.produce(request)
            if result.error is None and attempt is not None:
                attempt.acknowledged.setdefault(key, set()).add(parse_header(batch).crc)
            return result.error

        name = leader or self._cluster.world.name(ledger.state.leader)
        if name == "-1":
            name = self._cluster.replicas[0]
        return self._send("produce", name, serve)

    # --- whole transactions ----------------------------------------------------------------------

    def end(self, outcome: str, *, version: int = 0) -> MinikafkaError | None:
        """Asked again as it was, until there is an answer to it."""
        known = self.producer
        error = self.settled(lambda: self.send_end(outcome, version=version, known=known))
        if error is None:
            self.decided(outcome)
        return error

    def decided(self, outcome: str) -> None:
        """It was told that the end was this one."""
        if self.attempt is not None:
            self._coordinated.decide(self.attempt, outcome, "the coordinator says")
        self.attempt = None

    def transact(self, outcome: str = "commit") -> None:
        """A transaction without trouble."""
        assert self.write() is None
        assert self.end(outcome) is None


# --- its coordinator ------------------------------------------------------------------------------


def begun(cluster: DirectedCluster, version: int, where: str = "BC") -> Hand:
    """A client with a producer id and epoch, which one of these brokers coordinates; t-0 is led by
    another, A, so that its markers go over the network."""
    Hand(cluster, version, slot=99).begin()
    hand = Hand(cluster, version, slot_of(cluster, *where))
    hand.begin()
    return hand


def shard_of(cluster: DirectedCluster, hand: Hand) -> TransactionShard:
    process = cluster.player.host(coordinator(cluster, hand.slot)).process
    assert process is not None
    assert process.broker is not None
    return process.broker.service.transaction_shards.of_id(hand.client.transactional_id)


def state_of(cluster: DirectedCluster, hand: Hand) -> TransactionState:
    value = shard_of(cluster, hand).coordinator.value(hand.client.transactional_id)
    assert value is not None
    return value.state


def is_quiet(cluster: DirectedCluster, hand: Hand) -> bool:
    """Nothing of it is under way, says who coordinates it, if anybody does."""
    try:
        return shard_of(cluster, hand).serving and state_of(cluster, hand).is_quiet
    except MinikafkaError:
        return False


def has_coordinator(cluster: DirectedCluster, hand: Hand) -> bool:
    """Is there one as far as is known?"""
    try:
        return bool(coordinator(cluster, hand.slot))
    except CoordinatorNotAvailableError:
        return False
