"""An idempotent producer under random failures: whatever happens, what is acknowledged is in the
log once, at the offset that was told, in order; what failed is there at most once.

Each run prints its seed in the test's name and can be repeated with it.
"""

import random

import pytest

from minikafka.client.producing.producer import AsyncProducer
from minikafka.errors import (
    CorruptMessageError,
    MinikafkaError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    RequestTimedOutError,
)
from tests.helpers.amounts import amount
from tests.unit.client.fake_cluster import FakeCluster, Fault, pass_time

FAULTS = [
    lambda: Fault(error=NotEnoughReplicasError()),
    lambda: Fault(append=True, error=NotEnoughReplicasAfterAppendError()),
    lambda: Fault(append=True, error=RequestTimedOutError()),
    lambda: Fault(append=True, error=NotLeaderOrFollowerError()),
    lambda: Fault(error=NotLeaderOrFollowerError()),
    lambda: Fault(error=CorruptMessageError()),
    lambda: Fault(append=True, disconnect=True),
    lambda: Fault(disconnect=True),
    lambda: Fault(append=True, hang=True),
    lambda: Fault(hang=True),
]


async def run(seed, delivery_timeout_ms):
    chance = random.Random(seed)
    cluster = FakeCluster()
    cluster.create("t", 2)
    cluster.hints = chance.random() < 0.5
    rate = chance.choice([0.05, 0.3, 0.6])

    def sometimes(broker_id, topic_partition, header):
        return chance.choice(FAULTS)() if chance.random() < rate else None

    cluster.faults.append(sometimes)
    given = {0: [], 1: []}
    async with AsyncProducer(
        cluster.bootstrap,
        connect=cluster.connect,
        uniform=chance.random,
        batch_size=chance.choice([100, 300, 2000]),
        linger_ms=chance.choice([0, 0, 5]),
        request_timeout_ms=800,
        delivery_timeout_ms=delivery_timeout_ms,
    ) as producer:
        for number in range(300):
            partition = chance.randrange(2)
            value = b"%05d" % number
            given[partition].append((value, await producer.send("t", value, partition=partition)))
            if chance.random() < 0.2:
                await pass_time(chance.choice([0, 0.0005, 0.002, 0.3]))
            if chance.random() < 0.03:
                cluster.move("t", chance.choice([1, 2, 3, 3, -1]), chance.randrange(2))
        cluster.faults.clear()
        for number in (0, 1):
            cluster.move("t", 1 + number, number)
        await producer.flush()
        assert producer.buffered_bytes == 0
    return cluster, given


def check(cluster, given):
    """Returns how many records failed."""
    failures = 0
    for number, sent in given.items():
        log = {record.offset: record.value for record in cluster.partition("t", number).records()}
        values = list(log.values())
        assert len(values) == len(set(values)), "a record is in the log twice"
        assert values == sorted(values), "records are out of order"
        for value, delivery in sent:
            error = delivery.exception()
            if error is None:
                assert log[delivery.result().offset] == value
            else:
                assert isinstance(error, MinikafkaError)
                failures += 1
    return failures


@pytest.mark.parametrize("seed", range(amount(60)))
async def test_with_time_enough_everything_is_written_once_in_order(seed):
    cluster, given = await run(seed, delivery_timeout_ms=10**6)
    assert check(cluster, given) == 0


@pytest.mark.parametrize("seed", range(amount(60)))
async def test_with_little_time_nothing_is_written_twice_or_told_wrongly(seed):
    cluster, given = await run(seed, delivery_timeout_ms=1500)
    check(cluster, given)
