"""Servers, stores and proxies. Tests share one server of each kind, each under its own chroot;
those that stop or pause a server start their own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from minikafka.zookeeper.servers.addresses import port_of
from minikafka.zookeeper.servers.launcher import RunningZooKeeper
from minikafka.zookeeper.stores.store import ZooKeeperStore
from tests.helpers.zookeeper import ZooKeeperProxy, start_zookeeper

KINDS = ["embedded", "local"]

StartServer = Callable[[str, Path], RunningZooKeeper]
NewStore = Callable[..., Awaitable[ZooKeeperStore]]
NewProxy = Callable[..., Awaitable[ZooKeeperProxy]]


@pytest.fixture(scope="session")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    running: dict[str, RunningZooKeeper] = {}

    def hosts(kind: str) -> str:
        if kind not in running:
            running[kind] = start_zookeeper(kind, tmp_path_factory.mktemp(kind))
        return running[kind].hosts

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [server.stop() for server in running.values()])
        yield hosts


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def hosts(kind: str, shared_servers: Callable[[str], str]) -> str:
    """`host:port` of the shared server."""
    return shared_servers(kind)


@pytest.fixture
def chroot() -> str:
    return f"/test/{uuid.uuid4().hex}"


@pytest.fixture
def connect(hosts: str, chroot: str) -> str:
    """The shared server, with a chroot of this test's own."""
    return hosts + chroot


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers that are stopped when the test ends."""
    with contextlib.ExitStack() as stack:

        def start(mode: str, data_dir: Path = tmp_path / "zookeeper") -> RunningZooKeeper:
            server = start_zookeeper(mode, data_dir)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
async def new_store() -> AsyncIterator[NewStore]:
    """Makes started stores, which are closed when the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        async def new(connect: str, session_timeout_ms: int = 10_000) -> ZooKeeperStore:
            store = ZooKeeperStore(connect, session_timeout_ms, 15_000)
            stack.push_async_callback(store.close)
            await store.start()
            return store

        yield new


@pytest.fixture
async def new_proxy() -> AsyncIterator[NewProxy]:
    async with contextlib.AsyncExitStack() as stack:

        async def new(hosts: str) -> ZooKeeperProxy:
            proxy = ZooKeeperProxy(port_of(hosts))
            await proxy.start()
            stack.push_async_callback(proxy.close)
            return proxy

        yield new
