"""The worker in every broker: looks into its folder in ZooKeeper and does what is there.

State: the jobs that it does, each a task of its own. What is in the folder for this incarnation of
the node and is not being done is taken up; what is being done and is in the folder no more is
ended: it was given to another, or cancelled. When the session is lost all are ended, since the node
went with it, and a result that comes too late has no effect (core/jobs/master.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from minikafka.broker.jobs.kinds import KINDS, JobEnvironment, Work
from minikafka.broker.jobs.ports import JobHold, JobResult, JobStore
from minikafka.broker.ports import SessionLostError, StoreEvent
from minikafka.core.jobs.master import Entry, JobState
from minikafka.errors import MinikafkaError

log = logging.getLogger("minikafka.jobs")

_PROGRESS_INTERVAL_S = 1.0


class JobWorker:
    """`incarnation()` is that of this node's status, 0 while there is none. The folder is looked
    at when it changes, and every `interval_ms` whatever happens."""

    def __init__(
        self,
        store: JobStore,
        node_id: int,
        incarnation: Callable[[], int],
        environment: JobEnvironment,
        interval_ms: int,
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._incarnation = incarnation
        self._environment = environment
        self._interval_ms = interval_ms
        self._wake = asyncio.Event()
        self._doing: dict[Entry, asyncio.Task[None]] = {}

    def on_store_event(self, event: StoreEvent) -> None:
        if event is StoreEvent.LOST:
            self._end_all("the session is lost")
        if event in (StoreEvent.LOST, StoreEvent.RECONNECTED):
            self._wake.set()

    def look(self) -> None:
        """Something changed."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._look()
                except SessionLostError as lost:
                    log.debug("no jobs while the session is gone: %s", lost)
                except MinikafkaError as error:
                    log.warning("the folder of this worker cannot be read: %s", error)
                try:
                    async with asyncio.timeout(self._interval_ms / 1000):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._end_all("the broker stops")
            await asyncio.gather(*self._doing.values(), return_exceptions=True)

    async def _look(self) -> None:
        incarnation = self._incarnation()
        if not incarnation:
            return
        folder = await self._store.read_folder(self._node_id, self.look)
        if incarnation != self._incarnation():
            return
        mine = {entry for entry in folder if entry.incarnation == incarnation}
        for entry, task in self._doing.items():
            if entry not in mine and not task.done():
                log.info("job %s is no longer this worker's", entry.job_id)
                task.cancel()
        for entry in mine - self._doing.keys():
            task = asyncio.create_task(self._do(entry), name=f"job {entry.job_id}")
            self._doing[entry] = task
            task.add_done_callback(partial(self._done, entry))

    def _done(self, entry: Entry, _: asyncio.Task[None]) -> None:
        del self._doing[entry]

    def _end_all(self, why: str) -> None:
        for entry, task in self._doing.items():
            log.info("job %s is left: %s", entry.job_id, why)
            task.cancel()

    async def _do(self, entry: Entry) -> None:
        try:
            hold = await self._store.take_up(entry)
            if hold is None:
                return
            log.info("job %s: attempt %d begins", entry.job_id, entry.attempt)
            state, result = await self._outcome(entry, hold)
            counts = await hold.finish(state, result)
            what = f"{state.value}: {result.summary}" if counts else "its result came too late"
            log.info("job %s: %s", entry.job_id, what)
        except (SessionLostError, MinikafkaError) as error:
            log.warning("job %s: nothing can be written about it: %s", entry.job_id, error)

    async def _outcome(self, entry: Entry, hold: JobHold) -> tuple[JobState, JobResult]:
        kind = KINDS.get(hold.spec.kind)
        if kind is None:
            return JobState.FAILED, JobResult(False, f"no worker knows the kind {hold.spec.kind!r}")
        work = Work(self._environment, hold.spec, _Progress(hold))
        try:
            return JobState.DONE, await kind(work)
        except MinikafkaError as error:
            return JobState.FAILED, JobResult(False, error.message, work.details)
        except SessionLostError:
            raise
        except Exception as error:  # a bug fails its job and is told; the broker goes on
            log.exception("job %s failed by an error of minikafka", entry.job_id)
            return JobState.FAILED, JobResult(False, f"an error of minikafka: {error!r}")


class _Progress:
    """Writes how far a job is, at most once in a while. Ends it if its attempt is over."""

    def __init__(self, hold: JobHold) -> None:
        self._hold = hold
        self._next_s = 0.0
        self._last = ""

    async def __call__(self, summary: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_s or summary == self._last:
            return
        self._next_s, self._last = now_s + _PROGRESS_INTERVAL_S, summary
        if not await self._hold.progress(summary):
            raise asyncio.CancelledError
