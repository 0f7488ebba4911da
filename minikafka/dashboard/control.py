"""What the buttons of `--control` do: signals, restarts, and bursts of records. Blocking work runs
in threads, one action on a broker at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

from minikafka.core.control.assignment import is_legal_name
from minikafka.errors import MinikafkaError, UsageError
from minikafka.local.cluster import LocalCluster
from minikafka.local.discovery import NoCluster, find_cluster
from minikafka.local.restarting import restart_broker
from minikafka.local.signals import signal_broker

BURST_RECORDS = 2_000
_BURST_VALUE = b"a burst of records from the dashboard ".ljust(100, b".")
_BURST_WITHIN_S = 20
_RESTART_TIMEOUT_S = 30.0
_SIGNALS = {"kill": "KILL", "pause": "STOP", "resume": "CONT"}

ACTIONS = (*_SIGNALS, "restart", "burst")


class Control:
    """Acts on the cluster of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._local = LocalCluster(data_dir)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def act(self, action: str, target: str) -> str:
        """Do it; returns what to tell. `target` is a broker's id or name, or a burst's topic.
        Raises UsageError for what does not exist, MinikafkaError for what did not work."""
        if action == "burst":
            if not is_legal_name(target):
                raise UsageError(f"{target!r} cannot be the name of a topic")
            return await self._burst(target)
        if action not in ACTIONS:
            raise UsageError(f"there is no action {action!r}: there are {', '.join(ACTIONS)}")
        broker = self._local.require().broker(target)
        # A paused broker must be resumable while a restart waits for it.
        lock = self._locks["signals" if action in _SIGNALS else str(broker.id)]
        async with lock:
            if action == "restart":
                return await asyncio.to_thread(self._restart, str(broker.id))
            return await asyncio.to_thread(
                signal_broker, self._local, str(broker.id), _SIGNALS[action]
            )

    def _restart(self, broker_id: str) -> str:
        said: list[str] = []
        restart_broker(LocalCluster(self._data_dir), broker_id, _RESTART_TIMEOUT_S, said.append)
        return said[-1]

    async def _burst(self, topic: str) -> str:
        from minikafka.client import AsyncProducer

        bootstrap = find_cluster(None, self._data_dir)
        try:
            async with (
                asyncio.timeout(_BURST_WITHIN_S),
                AsyncProducer(bootstrap.addresses, delivery_timeout_ms=15_000) as producer,
            ):
                sent: list[Awaitable[object]] = [
                    await producer.send(topic, b"%d %s" % (number, _BURST_VALUE))
                    for number in range(BURST_RECORDS)
                ]
                done = await asyncio.gather(*sent, return_exceptions=True)
        except TimeoutError:
            raise NoCluster(f"the burst to {topic} was not over in {_BURST_WITHIN_S} s") from None
        failed = [each for each in done if isinstance(each, BaseException)]
        for failure in failed:
            if not isinstance(failure, MinikafkaError):
                raise failure
        if failed:
            assert isinstance(failed[0], MinikafkaError)
            raise NoCluster(
                f"{len(failed)} of {BURST_RECORDS} records to {topic} were not acknowledged: "
                f"{failed[0].message}"
            )
        return f"{BURST_RECORDS} records to {topic} are acknowledged"


Act = Callable[[str, str], Awaitable[str]]
