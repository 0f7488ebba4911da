"""ZooKeeper's servers: our embedded one, or an ensemble of Apache's, each of which can be killed
and started again by itself. (`minikafka.zookeeper.servers.launcher` starts them all or none.)"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from minikafka.zookeeper.servers import apache
from minikafka.zookeeper.servers.addresses import Ports, serving_mode
from minikafka.zookeeper.servers.launcher import (
    MAX_SESSION_TIMEOUT_MS,
    MIN_SESSION_TIMEOUT_MS,
    TICK_TIME_MS,
    ZooKeeperMode,
)
from tests.helpers.waiting import until
from tests.integration.torment.network import ZOOKEEPER, Address, Network
from tests.integration.torment.processes import Child

_START_WAIT_S = 40.0
_LOOPBACK = "127.0.0.1"


class ZooKeepers:
    """All servers; they are numbered from 0."""

    def __init__(self, mode: ZooKeeperMode, directory: Path, network: Network) -> None:
        if mode.kind == "local":
            apache.find_installation()
        self._mode = mode
        self._directory = directory
        self._network = network
        self._host = network.zookeeper_host()
        self._ports = Ports.choose(_LOOPBACK, mode.servers, 0)
        self.servers = [
            Child(f"zookeeper-{number}", directory / f"zookeeper-{number}.log")
            for number in range(mode.servers)
        ]

    @property
    def addresses(self) -> list[Address]:
        return [Address(self._host, ports.client) for ports in self._ports]

    @property
    def majority(self) -> int:
        return len(self.servers) // 2 + 1

    async def start(self) -> None:
        for number in range(len(self.servers)):
            self._start(number)
        await self.until_serving()

    async def restart(self, number: int) -> None:
        """Start a dead one, and wait until it serves (or, without a majority, only runs)."""
        self._start(number)
        if sum(server.is_running and not server.paused for server in self.servers) >= self.majority:
            await self._until(lambda: self.mode_of(number) is not None, number)

    def mode_of(self, number: int) -> str | None:
        """`leader`, `follower`, `standalone`; None: it does not serve."""
        if not self.servers[number].is_running or self.servers[number].paused:
            return None
        return serving_mode(*self.addresses[number])

    async def until_serving(self) -> None:
        for number in range(len(self.servers)):
            await self._until(lambda number=number: self.mode_of(number) is not None, number)

    async def _until(self, condition: Callable[[], bool], number: int) -> None:
        async def look() -> bool:
            server = self.servers[number]
            assert server.is_running, f"{server.name} has ended: {server.tail()}"
            return await asyncio.to_thread(condition)

        await until(look, _START_WAIT_S)

    def _start(self, number: int) -> None:
        directory = self._directory / f"zookeeper-{number}"
        directory.mkdir(exist_ok=True)
        if self._mode.kind == "embedded":
            command = self._embedded_command(directory)
        else:
            command = apache.command(
                directory, number + 1, self._ports, TICK_TIME_MS, MAX_SESSION_TIMEOUT_MS
            )
            config = directory / "zoo.cfg"
            config.write_text(config.read_text().replace(_LOOPBACK, self._host))
        pid = self.servers[number].start(self._network.command_at(ZOOKEEPER, command))
        self._network.started(ZOOKEEPER, pid)

    def _embedded_command(self, directory: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "minikafka.zookeeper.embedded",
            f"--data-dir={directory}",
            f"--host={self._host}",
            f"--port={self._ports[0].client}",
            f"--tick-time-ms={TICK_TIME_MS}",
            f"--min-session-timeout-ms={MIN_SESSION_TIMEOUT_MS}",
            f"--max-session-timeout-ms={MAX_SESSION_TIMEOUT_MS}",
        ]
