"""Transactional ids that coordinators know, and the death of the broker that coordinates the most.

The ids are made by InitProducerId over connections of our own: a client library would want a
producer, with threads and connections, for each of them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.kafka import wire
from benchmarks.kafka.conditions import Watch, disturbed
from benchmarks.kafka.found import Found
from benchmarks.kafka.plan import Plan
from benchmarks.kafka.stage import all_led_without, kill, leaders, wait_for_isr
from benchmarks.kafka.system import (
    FailedError,
    Member,
    System,
    member_of,
    pids,
    wait_until,
)
from minikafka.broker.coordinators.topic import partition_for
from tests.helpers import kafka_probe

TOPIC = "__transaction_state"
_CONNECTIONS = 16  # to each broker
_MAKING_TIMEOUT_S = 900.0
_FAILOVER_TIMEOUT_S = 90.0
_PAUSE_S = 0.01
# Busy, loading, not yet or no more coordinator, ending a transaction: whoever asks comes again.
_COME_AGAIN = {7, 14, 15, 16, 51}
_READ = re.compile(r"coordinates (\d+) transactional ids now, read in (\d+) ms")


def dead_coordinator(system: System, plan: Plan) -> Found:
    """SIGKILL to the broker that coordinates most partitions of ids: until each of them has another
    leader, and until an id of each can begin anew."""
    count = plan.transactional_ids
    label = f"{count} transactional ids"
    ids = ids_by_partition(count, make_topic(system))
    led = leaders(system, TOPIC)
    coordinators = {number: member_of(system, leader).address for number, leader in led.items()}
    watch = Watch(pids(system), [os.getpid(), *system.zookeeper_pids])
    begin = time.monotonic()
    run(make((coordinators[number], each) for number in ids for each in ids[number]))
    made_s, conditions = time.monotonic() - begin, watch.end()
    found = Found()
    found.note(
        {f"{label}: made by InitProducerId, s": made_s},
        disturbed(conditions.others, conditions.stolen),
    )
    victim = member_of(system, Counter(led.values()).most_common(1)[0][0])
    lost = [number for number, leader in led.items() if leader == victim.broker_id]
    others = [each for each in system.members if each.broker_id != victim.broker_id]
    survivors = [pid for pid in pids(system) if pid != victim.pid]
    read_before = ids_read(system)
    watch = Watch(survivors, [os.getpid(), *system.zookeeper_pids])
    killed = kill(victim, found)
    addresses = [each.address for each in others]
    what = f"leaders of {TOPIC} after a death"
    wait_until(lambda: all_led_without(addresses, TOPIC, victim), what, _FAILOVER_TIMEOUT_S)
    led_s = time.monotonic() - killed
    run(all_begin_anew(others, [ids[number][0] for number in lost if number in ids]))
    served_s = time.monotonic() - killed
    conditions = watch.end()
    why = disturbed(conditions.others, conditions.stolen)
    found.note(
        {
            f"{label}: their partitions led after a kill, s": led_s,
            f"{label}: all can begin anew after a kill, s": served_s,
            f"{label}: beyond their leaders, s": served_s - led_s,
        },
        why,
    )
    logs = zip(read_before, ids_read(system), strict=True)
    read = [each for before, now in logs for each in now[len(before) :]]
    if read:
        found.note({f"{label}: read by the next coordinators, ids": sum(each.ids for each in read)})
        slowest_s = max(each.took_ms for each in read) / 1e3
        found.note({f"{label}: until a next coordinator had read its own, s": slowest_s}, why)
    system.restart(victim.name)
    wait_for_isr(system, TOPIC, len(system.members))
    return found


def make_topic(system: System) -> int:
    """Have the topic made, which the first who looks for a coordinator does; how many partitions it
    has, when all of its replicas are in sync."""
    address = system.members[0].address

    def is_there() -> bool:
        return kafka_probe.transaction_coordinator(address, "anybody") is not None

    wait_until(is_there, "a transaction coordinator")
    wait_for_isr(system, TOPIC, len(system.members))
    return len(leaders(system, TOPIC))


def ids_by_partition(count: int, partitions: int) -> dict[int, list[str]]:
    """Of the partitions that coordinate some of so many ids."""
    ids: dict[int, list[str]] = {}
    for number in range(count):
        transactional_id = f"known-{number}"
        ids.setdefault(partition_for(transactional_id, partitions), []).append(transactional_id)
    return ids


@dataclass(frozen=True)
class Read:
    """A partition that a coordinator has read."""

    ids: int
    took_ms: int


def ids_read(system: System) -> list[list[Read]]:
    """What each broker has said of it since it was started first: only our own say it."""
    logs = sorted(system.path.glob("broker-*.log"))
    return [reads_in(log.read_text(errors="replace")) for log in logs]


def reads_in(log: str) -> list[Read]:
    return [Read(int(ids), int(ms)) for ids, ms in _READ.findall(log)]


# --- InitProducerId -------------------------------------------------------------------------------


def run(asking: Coroutine[None, None, None]) -> None:
    """FailedError, which ends this system's round and not the whole run, if it does not succeed."""
    try:
        asyncio.run(asking)
    except (ExceptionGroup, TimeoutError) as error:
        first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        raise FailedError(f"InitProducerId: {first!r}") from error


async def make(ids: Iterable[tuple[str, str]]) -> None:
    """Make each of these, by the address of its coordinator and the id."""
    waiting: dict[str, list[str]] = {}
    for address, transactional_id in ids:
        waiting.setdefault(address, []).append(transactional_id)
    async with asyncio.timeout(_MAKING_TIMEOUT_S), asyncio.TaskGroup() as group:
        for address, own in waiting.items():
            for _ in range(_CONNECTIONS):
                group.create_task(_make_some(address, own))


async def _make_some(address: str, waiting: list[str]) -> None:
    """Take ids from the list until there are none."""
    async with _connected([address]) as connections:
        while waiting:
            await _begin_anew(connections, waiting.pop())


async def all_begin_anew(members: Sequence[Member], ids: Iterable[str]) -> None:
    """Until each id has begun anew with one of these brokers: all are asked for at once."""
    addresses = [each.address for each in members]

    async def one(transactional_id: str) -> None:
        async with _connected(addresses) as connections:
            await _begin_anew(connections, transactional_id)

    async with asyncio.timeout(_FAILOVER_TIMEOUT_S), asyncio.TaskGroup() as group:
        for transactional_id in ids:
            group.create_task(one(transactional_id))


async def _begin_anew(connections: Sequence[_Connection], transactional_id: str) -> None:
    """Ask each in turn until it has its producer id."""
    for connection in itertools.cycle(connections):
        if await connection.begins_anew(transactional_id):
            return
        await asyncio.sleep(_PAUSE_S)


@asynccontextmanager
async def _connected(addresses: Iterable[str]) -> AsyncIterator[list[_Connection]]:
    connections: list[_Connection] = []
    try:
        connections.extend([await _Connection.to(address) for address in addresses])
        yield connections
    finally:
        for connection in connections:
            connection.close()


class _Connection:
    """One question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @staticmethod
    async def to(address: str) -> _Connection:
        host, _, port = address.rpartition(":")
        return _Connection(*await asyncio.open_connection(host, int(port)))

    async def begins_anew(self, transactional_id: str) -> bool:
        """Whether it has its producer id now; False if it is to be asked for again."""
        self._writer.write(wire.init_producer_id_frame(transactional_id))
        size = int.from_bytes(await self._reader.readexactly(4), "big")
        error = wire.producer_id_error_in(await self._reader.readexactly(size))
        if error and error not in _COME_AGAIN:
            raise FailedError(f"InitProducerId of {transactional_id}: error {error}")
        return error == 0

    def close(self) -> None:
        self._writer.close()
