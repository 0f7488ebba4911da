"""One broker: its parts, its life, and what it makes of news from ZooKeeper.

    start:     register -> run the controller candidate -> wait for the first UpdateState -> serve
    session    LOST: the controller resigns; register again (a new broker epoch); run for it again
    shutdown:  leadership moves away -> the ISR is left -> logs are closed clean -> deregister
    otherwise  crash-only: kill -9 at any moment is a supported way to stop

All on one event loop. The parts know each other as drawn here; `app/` brings the adapters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from minikafka.api.features import TRANSACTION_VERSION, features_of
from minikafka.api.metrics import ProcessUsage
from minikafka.api.requests import (
    ControlledShutdownRequest,
    ReportFailedReplicas,
)
from minikafka.broker.access.access import Access
from minikafka.broker.control.candidate import ControllerRuntime
from minikafka.broker.control.client import CALL_TIMEOUT_MS, ControllerClient
from minikafka.broker.metadata import MetadataCache
from minikafka.broker.metrics_reader import MetricsReader
from minikafka.broker.ports import ClusterStore, LogStore, Peers, SessionLostError, StoreEvent
from minikafka.broker.replication.isr_proposals import IsrProposals
from minikafka.broker.replication.replica_manager import ReplicaManager, StoredConfigs
from minikafka.broker.replication.replicator import Replicator
from minikafka.broker.service import Service
from minikafka.config import BrokerConfig
from minikafka.errors import BrokerNotAvailableError, MinikafkaError, UsageError
from minikafka.model import BrokerInfo, TopicPartition

logger = logging.getLogger(__name__)

REPORT_RETRY_S = 0.5
SHUTDOWN_CALL_TIMEOUT_MS = 5_000
HANDED_OVER_WAIT_S = 1.0
SESSION_RETRY_S = 0.1
DUTY_RETRY_S = 1.0
DUTY_RETRY_MAX_S = 60.0
BUGS_KEPT = 100


class Broker:
    """`info` is this broker as others shall see it; its broker epoch is set when it registers.
    `fatal` is completed with an error when the broker cannot go on."""

    def __init__(
        self,
        config: BrokerConfig,
        info: BrokerInfo,
        cluster_id: str,
        logs: LogStore,
        store: ClusterStore,
        peers: Peers,
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
        read_process: Callable[[], ProcessUsage] = ProcessUsage,
        access: Access | None = None,
    ) -> None:
        self.config = config
        self.info = info
        self.store = store
        self.peers = peers
        self.logs = logs
        self._now_ms = now_ms
        self.metadata = MetadataCache()
        self.replicator = Replicator(
            config,
            peers,
            lambda broker_id: self.metadata.brokers.get(broker_id),
            self.incarnation,
            now_ms,
            self.on_bug,
        )
        self.proposals = IsrProposals(
            lambda request: self.controller_client.alter_partition(request),
            self.incarnation,
            lambda: store.connected,
        )
        self.replicas = self._make_replicas(now_timestamp_ms)
        self.controller = ControllerRuntime(
            store,
            peers,
            config,
            self.replicas.update_state,
            now_ms,
            learned=self.metadata.set_controller,
            previous=self.metadata.last_controller,
        )
        self.controller_client = ControllerClient(
            config.broker_id, self.metadata, store, peers, self.controller, now_ms
        )
        self.service = self._make_service(cluster_id, now_timestamp_ms)
        self.metrics = MetricsReader(
            self.replicas,
            self.controller,
            self.service.group_shards,
            self.service.transaction_shards,
            self.service.markers.outbox.oldest_since_ms,
            lambda: store.connected,
            now_ms,
            now_timestamp_ms,
            read_process,
        )
        self.bugs: list[Exception] = []  # that this broker has outlived
        self.fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        # Hear of each event when the broker has done its own part about it.
        self.store_listeners: list[Callable[[StoreEvent], None]] = []
        # Run while the broker is registered; to be filled before `start`.
        self.duties: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.access = access
        if access is not None:
            self._take_access(access)

    def _take_access(self, access: Access) -> None:
        self.service.access = access
        self.controller.access = access.writer
        self.store_listeners.append(access.on_store_event)
        self.duties += access.duties()

    def _make_replicas(self, now_timestamp_ms: Callable[[], int]) -> ReplicaManager:
        return ReplicaManager(
            self.config,
            self.logs,
            self.metadata,
            self.replicator,
            self.proposals,
            self._read_configs,
            self._now_ms,
            now_timestamp_ms,
            self.on_bug,
        )

    def _make_service(self, cluster_id: str, now_timestamp_ms: Callable[[], int]) -> Service:
        return Service(
            self.config,
            cluster_id,
            self.metadata,
            self.replicas,
            self.controller,
            self.controller_client,
            self.store,
            self.peers,
            self._now_ms,
            now_timestamp_ms,
            self._on_task_done,
            lambda: self.metrics.read(),
        )

    def announce(
        self, *, grpc_port: int | None = None, kafka_ports: Mapping[str, int] | None = None
    ) -> None:
        """The ports that the servers got, where they differ from the configuration; before
        `start`. Those of Kafka's listeners by name."""
        if grpc_port is not None:
            self.info = replace(self.info, grpc_port=grpc_port)
        if kafka_ports is not None:
            listeners = tuple(
                replace(each, port=kafka_ports[each.name]) for each in self.info.kafka_listeners
            )
            self.info = replace(self.info, kafka_listeners=listeners)

    def incarnation(self) -> tuple[int, int]:
        """(broker id, broker epoch) of this broker now."""
        return self.config.broker_id, self.replicas.broker_epoch

    async def _read_configs(self) -> StoredConfigs:
        try:
            # A lagging server might not know yet what a topic was created with.
            await self.store.sync()
            return StoredConfigs(
                await self.store.read_topic_configs(), await self.store.read_broker_configs()
            )
        except SessionLostError as error:
            raise BrokerNotAvailableError("configurations cannot be read now") from error

    # --- starting --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register and take up work. UsageError if another live broker has the id; SessionLostError
        if the session with ZooKeeper ends meanwhile (a supervisor starts the broker again)."""
        try:
            await self.replicas.reload_configs()
        except BrokerNotAvailableError as error:
            raise SessionLostError(f"{error}: {error.__cause__}") from error
        if self.access is not None:
            await self.access.start()
        await self._register()
        runs = [
            self._run_store_events,
            self._run_failure_reports,
            self.proposals.run,
            self.replicas.run_lag_checks,
            self.replicas.run_checkpoints,
            self.replicas.run_retention,
            self.service.group_shards.run_expiry,
            self.service.group_shards.run_topic_deletions,
            self.service.transaction_shards.run_expiry,
            *self.duties,
        ]
        if self.config.log_cleaner_enable:
            runs.append(self.replicas.run_compaction)
        for run in runs:
            self._spawn(run)
        await self.controller.start(self._on_task_done)

    async def _read_features(self) -> None:
        """UsageError if the cluster has agreed upon more than this broker knows."""
        found = await self.store.read_feature()
        if found is None:
            return
        level, epoch = found
        if level > self.info.transaction_level:
            raise UsageError(
                f"this cluster has finalized {TRANSACTION_VERSION} {level}, and broker "
                f"{self.config.broker_id} knows {self.info.transaction_level} at most: start it "
                "with a newer minikafka"
            )
        self.service.features = features_of(level, epoch)

    async def _register(self) -> None:
        await self._read_features()
        broker_epoch = await self.store.register_broker(self.info)
        self.info = replace(self.info, broker_epoch=broker_epoch)
        self.replicas.on_registered(broker_epoch)
        self.controller.on_registered(broker_epoch)
        logger.info("registered as broker %s, broker epoch %d", self.info.broker_id, broker_epoch)

    async def wait_until_serving(self) -> None:
        """Until a controller has told this broker of the cluster."""
        async with aclosing(self.metadata.watch()) as updates:
            async for _ in updates:
                if self.config.broker_id in self.metadata.brokers:
                    return

    def _spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._keep_running(run))
        task.add_done_callback(self._on_task_done)
        self._tasks.append(task)

    async def _keep_running(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A duty that fails by a bug, or ends, begins anew after a while: what else this broker
        does is worth more. UsageError (the broker's id is taken) ends it."""
        name = getattr(run, "__qualname__", repr(run))
        delay_s = DUTY_RETRY_S
        while True:
            began_ms = self._now_ms()
            try:
                await run()
                raise RuntimeError(f"{name} has just ended")
            except UsageError:
                raise
            except Exception as error:
                if self._now_ms() - began_ms > DUTY_RETRY_MAX_S * 1000:
                    delay_s = DUTY_RETRY_S
                logger.critical(
                    "%s failed, and begins anew in %.0f s", name, delay_s, exc_info=error
                )
                self.on_bug(error)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, DUTY_RETRY_MAX_S)

    def on_bug(self, error: Exception) -> None:
        """A failure that nothing here foresaw; it is logged, and what it hit is put right or taken
        offline. Kept for whoever looks for bugs."""
        if len(self.bugs) < BUGS_KEPT:
            self.bugs.append(error)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """Of the controller and the groups, a task that fails takes the broker down (crash-only):
        another broker takes over from a state that was written. No duty ends."""
        if task.cancelled():
            return
        error = task.exception()
        if error is None and task not in self._tasks:
            return
        if isinstance(error, UsageError):
            logger.critical("%s", error)
        else:
            logger.critical("a task of the broker ended: %r", error, exc_info=error)
        if not self.fatal.done():
            self.fatal.set_exception(error or RuntimeError("a task of the broker ended"))
            self.fatal.exception()  # whoever asks gets it; nobody has to

    # --- news from ZooKeeper ---------------------------------------------------------------------

    async def _run_store_events(self) -> None:
        while True:
            event = await self.store.events.get()
            logger.debug("ZooKeeper: %s", event.value)
            refresh_first = event is StoreEvent.CONFIG_CHANGED
            if not refresh_first:
                self.controller.on_store_event(event)
            await self._take_store_event(event)
            if refresh_first:
                self.controller.on_store_event(event)
            for listener in self.store_listeners:
                listener(event)

    async def _take_store_event(self, event: StoreEvent) -> None:
        """Raises UsageError only."""
        while True:
            try:
                await self._on_store_event(event)
                return
            except UsageError:
                raise
            except (SessionLostError, MinikafkaError) as error:
                # Out of touch: RECONNECTED or LOST will come, and all is read anew. Or a node that
                # cannot be read: what is known stays.
                logger.warning("ZooKeeper: %s: %s", event.value, error)
                return
            except Exception as error:
                logger.critical("ZooKeeper: %s", event.value, exc_info=error)
                self.on_bug(error)
                if event is not StoreEvent.LOST:
                    return
            await asyncio.sleep(DUTY_RETRY_S)  # who is not registered serves nobody

    async def _on_store_event(self, event: StoreEvent) -> None:
        match event:
            case StoreEvent.SUSPENDED:
                self.replicas.counters.zookeeper_disconnects += 1
                logger.warning("ZooKeeper is out of touch")
            case StoreEvent.LOST:
                self.replicas.counters.zookeeper_expires += 1
                logger.warning("the ZooKeeper session is lost")
                self.replicas.on_session_lost()
                await self._register_again()
            case StoreEvent.RECONNECTED:
                logger.info("ZooKeeper is in touch again, in the same session")
                await self._read_controller()
                await self._read_features()
                await self.replicas.reload_configs()
            case StoreEvent.CONTROLLER_CHANGED:
                await self._read_controller()
            case StoreEvent.CONFIG_CHANGED:
                await self.replicas.reload_configs()
                await self._read_features()
            case _:
                pass  # the controller's business

    async def _register_again(self) -> None:
        """In a new session of the same process. Whatever its logs lacked when it started is told by
        the storage id that they got then; who has joined an ISR since has a log without gaps."""
        self.info = replace(self.info, dirty=False)
        while True:
            try:
                await self._register()
                break
            except SessionLostError:
                await asyncio.sleep(SESSION_RETRY_S)
        await self._read_controller()
        await self.replicas.reload_configs()

    async def _read_controller(self) -> None:
        election = await self.store.read_controller()
        self.metadata.set_controller(election.controller_id, election.controller_epoch)

    # --- failed disks ----------------------------------------------------------------------------

    async def _run_failure_reports(self) -> None:
        """Tell the controller of replicas whose disk failed, until it knows. Later ones learn of it
        from the answers to their messages (ReplicaManager.update_state)."""
        reported: dict[TopicPartition, str] = {}
        while True:
            await self.replicas.something_failed.wait()
            self.replicas.something_failed.clear()
            failed = {
                topic_partition: topic_id
                for topic_partition, topic_id in self.replicas.failed.items()
                if reported.get(topic_partition) != topic_id
            }
            if not failed:
                continue
            request = ReportFailedReplicas(*self.incarnation(), list(failed.items()))
            try:
                await self.controller_client.call(request, CALL_TIMEOUT_MS)
                reported.update(failed)
            except MinikafkaError as error:
                logger.warning("failed replicas could not be reported: %s", error)
                await asyncio.sleep(REPORT_RETRY_S)
                self.replicas.something_failed.set()

    # --- stopping --------------------------------------------------------------------------------

    async def shut_down(self) -> None:
        """Controlled shutdown: hand over leadership, leave the ISR. Serves until it returns."""
        if not self.config.controlled_shutdown_enable:
            return
        retries = self.config.controlled_shutdown_max_retries
        backoff_s = self.config.controlled_shutdown_retry_backoff_ms / 1000
        for attempt in range(retries + 1):
            if attempt and not self.store.connected:
                break  # nobody can hand over anything now
            request = ControlledShutdownRequest(*self.incarnation())
            try:
                response = await self.controller_client.controlled_shutdown(
                    request, SHUTDOWN_CALL_TIMEOUT_MS
                )
            except MinikafkaError as error:
                logger.warning("controlled shutdown: %s", error)
            else:
                remaining = [tp for tp in response.remaining if self._someone_may_take_over(tp)]
                if not remaining:
                    await self._wait_until_told()
                    logger.info("controlled shutdown: leadership is handed over")
                    return
                logger.info("controlled shutdown: still leads %s", ", ".join(map(str, remaining)))
            if attempt < retries:
                await asyncio.sleep(backoff_s)
        logger.warning("controlled shutdown did not succeed; stopping all the same")

    async def _wait_until_told(self) -> None:
        """Until this broker knows itself that it does not lead any more, so that whoever waits for
        an answer gets a clear one; not for long."""
        try:
            async with (
                asyncio.timeout(HANDED_OVER_WAIT_S),
                aclosing(self.metadata.watch()) as updates,
            ):
                async for _ in updates:
                    if not any(
                        replica.core.is_leader and self._someone_may_take_over(topic_partition)
                        for topic_partition, replica in self.replicas.replicas.items()
                    ):
                        return
        except TimeoutError:
            logger.info("controlled shutdown: the controller has not sent word in time")

    def _someone_may_take_over(self, topic_partition: TopicPartition) -> bool:
        """Is it worth waiting: is another replica alive that may come into sync?"""
        metadata = self.metadata.partition(topic_partition)
        return metadata is not None and any(
            replica in self.metadata.eligible
            for replica in metadata.assignment.replicas
            if replica != self.config.broker_id
        )

    async def close(self, *, clean: bool = True) -> None:
        """Stop all work, close the logs, deregister. Peers and store are the caller's. Not `clean`
        after a failure of the broker: the logs are looked through at the next start.

        Raises KafkaStorageError, when all is done, if a log could not be closed."""
        # First it follows nobody any more: the next controller does not know that this broker was
        # leaving, and would let it into the ISR again.
        await self.replicator.close()
        await self.controller.stop(resign=True)
        for task in self._tasks:
            task.remove_done_callback(self._on_task_done)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.service.close()
        self.replicas.close(BrokerNotAvailableError(f"broker {self.info.name} is stopping"))
        try:
            await self.logs.close(clean=clean)
        finally:
            try:
                await self.store.unregister_broker()
            except (SessionLostError, MinikafkaError) as error:
                logger.info("not deregistered, the session ends by itself: %s", error)
