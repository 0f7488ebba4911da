"""The registration of a broker: the ephemeral node /brokers/ids/<id>, whose czxid is the broker
epoch (replication.md section 1).

When the node is there already, its `ephemeralOwner` tells whose it is:

- this session's: the node was made and the answer lost; if it says something else than what is to
  be registered, it is made anew;
- an earlier session's of this process: deleted and made anew in one multi (KAFKA-7165);
- another's: perhaps a broker that died a moment ago. Its node goes with its session, so wait for as
  long as that can take, then refuse.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from minikafka.errors import UsageError
from minikafka.model import UNKNOWN_BROKER_EPOCH, BrokerInfo
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.fence import attempt, attempt_one
from minikafka.zookeeper.paths import Layout
from minikafka.zookeeper.session import ZooKeeperSession

# ZooKeeper looks for expired sessions once a tick (2 s by default).
_EXPIRY_MARGIN_MS = 3_000


async def register(session: ZooKeeperSession, layout: Layout, broker: BrokerInfo) -> int:
    """Make the node of `broker`; returns the broker epoch. UsageError if another broker has it."""
    path = layout.broker(broker.broker_id)
    deadline = time.monotonic() + (session.session_timeout_ms + _EXPIRY_MARGIN_MS) / 1000
    while True:
        await _create(session, path, broker)
        found = await session.get(path)
        if found is None:
            continue
        data, stat = found
        if stat.ephemeralOwner == session.session_id:
            if _same(path, data, broker):
                return int(stat.czxid)
            await _replace(session, path, broker)
        elif session.had_session(stat.ephemeralOwner):
            await _replace(session, path, broker)
        elif not await _gone(session, path, deadline):
            holder = codec.decode_broker(path, data, broker.broker_id, stat.czxid)
            raise UsageError(
                f"broker id {broker.broker_id} is taken by the live broker {holder.name} at "
                f"{holder.kafka_address or holder.grpc_address}: give this one another broker.id"
            )


async def unregister(session: ZooKeeperSession, layout: Layout, broker_id: int) -> None:
    """Delete the node if it is this session's."""
    path = layout.broker(broker_id)
    while True:
        found = await session.get(path)
        if found is None or found[1].ephemeralOwner != session.session_id:
            return
        await attempt_one(session, lambda client: client.delete_async(path))


async def _create(session: ZooKeeperSession, path: str, broker: BrokerInfo) -> None:
    """One attempt. Its outcome is read afterwards in any case."""
    data = codec.encode_broker(broker, int(time.time() * 1000))
    await attempt_one(session, lambda client: client.create_async(path, data, ephemeral=True))


async def _replace(session: ZooKeeperSession, path: str, broker: BrokerInfo) -> None:
    """Delete and create as one; one attempt, as above."""
    data = codec.encode_broker(broker, int(time.time() * 1000))

    def build(transaction: Any) -> None:
        transaction.delete(path)
        transaction.create(path, data, ephemeral=True)

    await attempt(session, build)


def _same(path: str, data: bytes, broker: BrokerInfo) -> bool:
    try:
        found = codec.decode_broker(path, data, broker.broker_id, UNKNOWN_BROKER_EPOCH)
    except CorruptNodeError:
        return False  # written over by somebody; it is this session's own
    return found == replace(broker, broker_epoch=UNKNOWN_BROKER_EPOCH)


async def _gone(session: ZooKeeperSession, path: str, deadline: float) -> bool:
    """Wait until the node changes; False if it did not until `deadline` (monotonic seconds)."""
    changed = asyncio.Event()
    watcher = session.watcher(changed.set)
    while not changed.is_set():
        stat = await session.repeat(lambda client: client.exists_async(path, watch=watcher))
        remaining_s = deadline - time.monotonic()
        if stat is None:
            break
        if remaining_s <= 0:
            return False
        try:
            # In steps, since the watch dies unheard if the connection drops meanwhile.
            async with asyncio.timeout(min(remaining_s, 1.0)):
                await changed.wait()
        except TimeoutError:
            continue
    return True
