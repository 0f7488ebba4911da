"""The assigner of jobs: a listener of the controller's term, in whose queue it works.

Whenever a task, a status, a worker or a request to cancel comes or changes, all is read and
`core.jobs.Master` says what is to be done; each effect is one fenced write over the version that
was read, and one that met a conflict is decided anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.control.term_listener import TermQueue
from minikafka.broker.jobs.ports import JobStore
from minikafka.broker.nodes.ports import LiveNode
from minikafka.broker.ports import StoreEvent
from minikafka.core.control.commands import DeposedError
from minikafka.core.jobs.master import Assign, End, Master, Worker
from minikafka.errors import MinikafkaError

log = logging.getLogger("minikafka.jobs")

_RETRY_MS = 1_000
_LONGEST_WAIT_MS = 600_000


class JobMaster:
    """`live` gives the live nodes as the monitor has read them; None: not yet in this term."""

    def __init__(
        self,
        store: JobStore,
        live: Callable[[], Mapping[int, LiveNode] | None],
        acknowledge_timeout_ms: int,
        retention_ms: int,
        now_ms: Callable[[], int],
        now_timestamp_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._live = live
        self._times = (acknowledge_timeout_ms, retention_ms)
        self._now_ms = now_ms
        self._now_timestamp_ms = now_timestamp_ms
        self._term: TermQueue | None = None
        self._master = Master(*self._times)
        self._waiting = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, term: TermQueue) -> None:
        self._term, self._waiting = term, False
        self._master = Master(*self._times)
        self.look_soon()

    def end(self) -> None:
        self._term = None
        self._arm(None)

    def on_store_event(self, event: StoreEvent) -> None:
        if event is StoreEvent.RECONNECTED:  # the watches died with the connection
            self.look_soon()

    def look_soon(self) -> None:
        """In its turn; one that waits is enough."""
        if self._term is not None and not self._waiting:
            self._waiting = True
            term = self._term
            term.enqueue(lambda: self._look(term))

    def _arm(self, delay_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay_ms is not None:
            delay_s = min(delay_ms, _LONGEST_WAIT_MS) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.look_soon)

    async def _look(self, term: TermQueue) -> None:
        if self._term is not term:
            return
        self._waiting = False
        live = self._live()
        if live is None:
            return  # the monitor calls when it has looked
        try:
            await self._assign(live)
        except MinikafkaError as error:  # a node that cannot be read
            log.warning("jobs cannot be assigned now: %s", error)
            self._arm(_RETRY_MS)

    async def _assign(self, live: Mapping[int, LiveNode]) -> None:
        records = await self._store.read_jobs(self.look_soon)
        entries = await self._store.read_entries()
        workers = {
            node_id: Worker(node.incarnation, node.status.cpu_percent)
            for node_id, node in live.items()
        }
        decision = self._master.decide(
            [record.view for record in records],
            entries,
            workers,
            self._now_ms(),
            self._now_timestamp_ms(),
        )
        self._arm(decision.look_again_ms)
        for effect in decision.effects:
            outcome = await self._store.carry_out(effect)
            if outcome is WriteOutcome.DEPOSED:
                raise DeposedError("another controller has been elected")
            if outcome is WriteOutcome.CONFLICT:
                self.look_soon()
            elif isinstance(effect, Assign):
                entry = effect.entry
                log.info(
                    "job %s: attempt %d, on node %d", entry.job_id, entry.attempt, entry.node_id
                )
            elif isinstance(effect, End):
                log.info("job %s: %s: %s", effect.job_id, effect.state.value, effect.reason)
