"""The composition root: the one place where the broker's ports get their real parts.

    ZooKeeperStore (kazoo)  ->  DiskLogStore (files)  ->  GrpcPeers (gRPC)  ->  Broker
    Broker  ->  GrpcServer (gRPC), KafkaServer (Kafka's protocol)

`run_broker` is what `minikafka broker` runs: a broker process from start to exit status.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from minikafka import loop_watch
from minikafka.api.features import MAX_TRANSACTION_LEVEL
from minikafka.app.access import access_of
from minikafka.app.background import BackgroundServices
from minikafka.app.guarding import authorizer_of, grpcs, kafkas
from minikafka.app.keys import Keys
from minikafka.app.listeners import served_listeners, warn_of_what_is_open
from minikafka.broker.broker import Broker
from minikafka.broker.guard.audit import AUDIT
from minikafka.broker.ports import SessionLostError
from minikafka.config import BrokerConfig
from minikafka.config.properties import Endpoint, connection_overrides
from minikafka.descriptors import descriptor_budget, raise_descriptor_limit
from minikafka.errors import KafkaStorageError
from minikafka.kafka.admission import ConnectionLimits
from minikafka.kafka.server import KafkaServer
from minikafka.log.store import DiskLogStore
from minikafka.metrics.process import read_process
from minikafka.model import BrokerInfo, KafkaListener
from minikafka.privacy import keep_from_others
from minikafka.rpc.malloc import GiveBack, tune_malloc
from minikafka.rpc.peers import GrpcPeers
from minikafka.rpc.server import GrpcServer
from minikafka.zookeeper.stores.store import ZooKeeperStore

if TYPE_CHECKING:
    from minikafka.metrics.endpoint import MetricsEndpoint

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
SERVING_WAIT_S = 10.0
# Objects, and rounds of the younger generations. Nearly all that a broker makes goes when nobody
# holds it any more; what the collector walks over is what is alive, and everybody waits while it
# does: a long request makes a hundred thousand objects, and must not bring on a walk over all.
_COLLECTED_AFTER = (10_000, 5, 200)
_FILES_OF_CALLS = 16  # what reads, fsyncs and a compaction open for a moment


def run_broker(config: BrokerConfig) -> int:
    """Run one broker until SIGTERM or SIGINT; returns the exit status: 0 after an orderly shutdown,
    1 if it could not go on. UsageError if it cannot start as it is configured."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("kazoo").setLevel(logging.WARNING)
    keep_from_others()
    tune_malloc()
    raise_descriptor_limit()
    gc.freeze()  # what is imported stays: the collector need not walk it again and again
    gc.set_threshold(*_COLLECTED_AFTER)
    return uvloop.run(_run(config))


class Stop:
    """What a person wants: the first signal an orderly end, the second one a quick end, which
    leaves out the controlled shutdown (the logs are closed all the same)."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.at_once = asyncio.Event()
        self.on_hangup: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._looking: asyncio.Task[None] | None = None

    def on_signal(self) -> None:
        if self.wanted.is_set():
            self.at_once.set()
        self.wanted.set()

    def hang_up(self) -> None:
        """SIGHUP: files may have been replaced."""
        if self.on_hangup is not None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self.on_hangup())


async def _run(config: BrokerConfig) -> int:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.on_signal)
    store = ZooKeeperStore(
        config.zookeeper_connect,
        config.zookeeper_session_timeout_ms,
        config.zookeeper_connection_timeout_ms,
    )
    try:
        if not await _unless(stop.wanted, store.start()):
            return 0
        return await _run_in_cluster(config, store, stop)
    except SessionLostError as error:
        logger.critical("the ZooKeeper session was lost while starting: %s", error)
        return 1
    finally:
        await store.close()


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, unless the event comes first: then it is cancelled. Tells whether it was done;
    raises what it raised."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        doing.cancel()
        await asyncio.wait((doing,))
    if doing.cancelled():
        return False
    doing.result()
    return True


async def _run_in_cluster(config: BrokerConfig, store: ZooKeeperStore, stop: Stop) -> int:
    cluster_id = await store.cluster_id()
    logs = DiskLogStore(
        Path(config.log_dirs),
        cluster_id,
        config.broker_id,
        config.topic_defaults(),
        cleaner_map_bytes=config.log_cleaner_dedupe_buffer_size,
        max_open_files=_files_of_logs(config.log_max_open_files),
        threads=config.background_threads,
    )
    keys = Keys(config, _now_timestamp_ms)
    peers = GrpcPeers(credentials=keys.channel)
    try:
        info = _broker_info(config, logs)
        broker = Broker(
            config,
            info,
            cluster_id,
            logs,
            store,
            peers,
            _now_ms,
            _now_timestamp_ms,
            read_process,
            access_of(config, store, _now_ms),
        )
        duties = BackgroundServices(config, store, broker, logs, peers, _now_ms, _now_timestamp_ms)
        await duties.start()
        warn_of_what_is_open(config)
        broker.duties += keys.duties()
        if keys.files():
            stop.on_hangup = partial(keys.look, asked=True)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.hang_up)
        doors = Doors(config, broker, duties, keys)
        try:
            await doors.open()
            return await _serve(broker, doors, stop)
        finally:
            await doors.close()
    finally:
        await peers.close()
        await logs.close(clean=False)


def _files_of_logs(wanted: int | None) -> int:
    """What logs may keep open between two calls."""
    share = descriptor_budget().files - _FILES_OF_CALLS
    return share if wanted is None else min(share, wanted)


class Doors:
    """The servers of one broker: gRPC, Kafka's protocol if `listeners` is set, and /metrics if
    `metrics.listener` is. The first two share the account of what clients make the broker hold."""

    def __init__(
        self, config: BrokerConfig, broker: Broker, duties: BackgroundServices, keys: Keys
    ) -> None:
        self._config = config
        self._keys = keys
        self._broker = broker
        memory = broker.service.memory
        counters = broker.replicas.counters.requests
        named = keys.callers is not None
        self.grpc = GrpcServer(
            grpcs(broker, named=named),
            max_request_bytes=config.socket_request_max_bytes,
            memory=memory,
            counters=counters,
            more=duties.services(authorizer_of(broker.access) if named else None),
            max_connections=descriptor_budget().connections // 4,
            max_idle_ms=config.connections_max_idle_ms,
            credentials=None if keys.server is None else keys.server.credentials(),
            caller_of=keys.callers,
        )
        self._kafka: KafkaServer | None = None
        self._metrics: MetricsEndpoint | None = None
        self.metrics_address: Endpoint | None = None  # where /metrics is served
        if config.listeners is not None:
            self._kafka = KafkaServer(
                broker.service,
                memory,
                max_request_bytes=config.socket_request_max_bytes,
                max_idle_ms=config.connections_max_idle_ms,
                max_fetch_sessions=config.max_incremental_fetch_session_cache_slots,
                counters=counters,
                limits=_connection_limits(config),
                features=lambda: broker.service.features,
                service_for=kafkas(broker),
                failure_delay_ms=config.connection_failed_authentication_delay_ms,
            )

    async def open(self) -> None:
        """Take the ports, and tell the broker what it is to tell others. UsageError. Brokers are
        listened to, clients by Kafka's protocol not before `start_serving`."""
        listener = self._config.grpc_listener
        port = await self.grpc.start(listener.host, listener.port, serving=False)
        if self._config.grpc_advertised_listener is None:
            self._broker.announce(grpc_port=port)
        if self._kafka is not None:
            ports = await self._kafka.start(
                served_listeners(self._config, self._broker.access, self._keys), serving=False
            )
            if self._config.advertised_listeners is None:
                self._broker.announce(kafka_ports=ports)
        if self._config.metrics_listener is not None:
            from minikafka.metrics.endpoint import MetricsEndpoint  # with h11: only for those

            self._metrics = MetricsEndpoint(
                self._broker.metrics, self._config.name, self._kafka_connections
            )
            host, port = self._config.metrics_listener
            self.metrics_address = Endpoint(host, await self._metrics.start(host, port))

    async def start_serving(self) -> None:
        """The broker knows the cluster: let clients in. PortTakenError (see KafkaServer)."""
        if self._kafka is not None:
            await self._kafka.start_serving()
        await self.grpc.set_serving(True)

    def _kafka_connections(self) -> int:
        return 0 if self._kafka is None else self._kafka.connection_count

    async def close(self) -> None:
        """Nobody can ask any more. Idempotent."""
        if self._metrics is not None:
            await self._metrics.stop()
        if self._kafka is not None:
            await self._kafka.stop()
        await self.grpc.stop()


def _connection_limits(config: BrokerConfig) -> ConnectionLimits:
    """What is left of the connections' share of descriptors when gRPC and metrics have theirs."""
    share = descriptor_budget().connections
    return ConnectionLimits(
        min(config.max_connections, share - share // 4),
        config.max_connections_per_ip,
        connection_overrides(config.max_connections_per_ip_overrides or ""),
    )


def _broker_info(config: BrokerConfig, logs: DiskLogStore) -> BrokerInfo:
    endpoint = config.advertised_grpc
    return BrokerInfo(
        config.broker_id,
        config.name,
        endpoint.host,
        endpoint.port,
        kafka_listeners=config.advertised_kafka,
        rack=config.broker_rack,
        storage_id=logs.storage_id,
        dirty=logs.dirty,
        transaction_level=MAX_TRANSACTION_LEVEL,
    )


async def _serve(broker: Broker, doors: Doors, stop: Stop) -> int:
    status = 0
    try:
        if await _unless(stop.wanted, broker.start()):
            await _serve_until_stopped(broker, doors, stop)
    finally:
        # First nobody can ask any more, then the logs are closed.
        await doors.close()
        AUDIT.flush()
        try:
            await broker.close(clean=not broker.fatal.done())
        except KafkaStorageError as error:
            # Not raised: it would hide why the broker ends, if that is another error.
            logger.error("%s", error)
            status = 1
    return 1 if broker.fatal.done() else status


async def _serve_until_stopped(broker: Broker, doors: Doors, stop: Stop) -> None:
    stopping = asyncio.ensure_future(stop.wanted.wait())
    serving = asyncio.ensure_future(_announce_serving(broker, doors))
    giving_back = asyncio.ensure_future(GiveBack(broker.replicas.counters.moved_bytes).run())
    try:
        await asyncio.wait((serving, stopping, broker.fatal), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        await asyncio.wait((stopping, broker.fatal), return_when=asyncio.FIRST_COMPLETED)
    finally:
        tasks = (serving, stopping, giving_back)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if broker.fatal.done():
        logger.critical("stopping: %s", broker.fatal.exception())
        return
    await doors.grpc.set_serving(False)
    if not await _unless(stop.at_once, broker.shut_down()):
        logger.warning("told twice: stopping without handing over")


async def _announce_serving(broker: Broker, doors: Doors) -> None:
    """Say that this broker serves, once it does."""
    try:
        async with asyncio.timeout(SERVING_WAIT_S):
            await broker.wait_until_serving()
    except TimeoutError:
        logger.warning("no controller has spoken to this broker yet: waiting for one")
        await broker.wait_until_serving()
    await doors.start_serving()
    _watch_loop()
    info = broker.info
    kafka = f", Kafka at {_told(info.kafka_listeners)}" if info.kafka_listeners else ""
    metrics = f", http://{doors.metrics_address}/metrics" if doors.metrics_address else ""
    print(
        f"broker {info.broker_id} ({info.name}) serves gRPC at {info.grpc_address}{kafka}{metrics}",
        flush=True,
    )


def _told(listeners: Sequence[KafkaListener]) -> str:
    """The address of a single listener; of several, with their names."""
    if len(listeners) == 1:
        return listeners[0].address
    return " ".join(f"{each.name}://{each.address}" for each in listeners)


def _watch_loop() -> None:
    """If the environment asks for it (loop_watch.py): from when the broker serves until the process
    ends. Starting may take what it takes."""
    asked = loop_watch.wanted()
    if asked is None:
        return

    def tell(held_ms: int, by: str) -> None:
        line = f"the loop was held for {held_ms} ms of CPU by {by}"
        logger.error("%s", line)
        if asked.file:
            with open(asked.file, "a") as file:
                file.write(f"process {os.getpid()}: {line}\n")

    loop_watch.LoopWatch(asked.bound_ms, tell).start()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _now_timestamp_ms() -> int:
    return time.time_ns() // 1_000_000
