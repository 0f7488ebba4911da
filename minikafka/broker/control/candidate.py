"""The broker's part in controllership: candidate, and when elected the active controller.

State: the term, if this broker is the controller (term.py), and whether it may stand for
election: it must be registered, in touch with ZooKeeper, and have given up an earlier term.

One task: stand for election; if won, serve the term until it ends, however that comes; give
`/controller` up (under the fence of the controller epoch) and stand again. LOST ends a term at
once, in the call that brings it.

Candidates stand in a queue, and only its head tries to be elected. The others wait until the one
before them goes; who is controller they hear from the controller (its UpdateState). The queue is no
more than manners: nothing that is safe rests on it, and nothing that is to go on. A candidate looks
again after a session timeout without news, and if nobody is controller then, as before, whoever is
first in line does not do its part, and it tries out of its turn.

The broker's main loop owns `store.events` and hands each event to `on_store_event`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from minikafka.api.access import AlterScramRequest, CreateAclsRequest, DeleteAclsRequest
from minikafka.api.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    ControlledShutdownRequest,
    ControlledShutdownResponse,
    ControllerRequest,
    ControllerResponse,
    DeleteTopicsRequest,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.broker.access.writer import AccessWriter
from minikafka.broker.control import requests
from minikafka.broker.control.takeover import TakeoverCount, WakeupCounter
from minikafka.broker.control.term import ControllerEnvironment, ControllerTerm
from minikafka.broker.control.term_listener import TermListener
from minikafka.broker.ports import (
    ClusterStore,
    ControllerElection,
    Peers,
    SessionLostError,
    StoreEvent,
    UnreadableNodeError,
)
from minikafka.config import BrokerConfig
from minikafka.core.control.commands import DeposedError, Operation
from minikafka.core.control.context import ControllerCounters
from minikafka.core.control.controller import Controller
from minikafka.errors import (
    NotControllerError,
    SecurityDisabledError,
    StaleControllerEpochError,
)
from minikafka.model import BrokerInfo

log = logging.getLogger("minikafka.controller")

_NEWS = (
    StoreEvent.RECONNECTED,
    StoreEvent.LOST,
    StoreEvent.CONTROLLER_CHANGED,
    StoreEvent.CANDIDATE_GONE,
)

# Long: a broker may have to open many logs before it answers. What is late is sent again.
UPDATE_STATE_TIMEOUT_MS = 30_000
NOBODY = -1


class ControllerRuntime:
    """Candidate and controller.

    `update_state` is how this broker itself is told its States: as any other, but for the network.
    `learned` hears who is controller whenever ZooKeeper was asked (id, controller epoch);
    `previous` tells who it was before: id (-1: not known) and name.
    """

    def __init__(
        self,
        store: ClusterStore,
        peers: Peers,
        config: BrokerConfig,
        update_state: Callable[[UpdateStateRequest], Awaitable[UpdateStateResponse]],
        now_ms: Callable[[], int],
        *,
        backoff_ms: int = 100,
        max_waiting_requests: int = 1000,
        deletion_wait_ms: int = 5000,
        learned: Callable[[int, int], None] = lambda _id, _epoch: None,
        previous: Callable[[], tuple[int, str]] = lambda: (NOBODY, ""),
    ) -> None:
        self._learned = learned
        self._previous = previous
        self._store = store
        self._peers = peers
        self._update_state = update_state
        self._broker_id = config.broker_id
        self._config = config
        self._backoff_ms = backoff_ms
        # What else the controller does; to be filled before `start`.
        self.term_listeners: list[TermListener] = []
        self.access: AccessWriter | None = None
        self._in_touch = asyncio.Event()
        self._in_touch.set()
        self._environment = ControllerEnvironment(
            store,
            self._send,
            config,
            self._in_touch,
            now_ms,
            backoff_ms=backoff_ms,
            max_waiting_requests=max_waiting_requests,
            deletion_wait_ms=deletion_wait_ms,
            term_listeners=self.term_listeners,
        )
        self._registered = asyncio.Event()
        self._news = asyncio.Event()  # of the candidate before this one, or of the controller
        self._wakeups = WakeupCounter()
        self._leads_queue = False
        self._out_of_turn = False
        self._sessions_lost = 0
        self._owes_resignation = False
        self._term: ControllerTerm | None = None
        self._past = ControllerCounters()  # of the terms that are over
        self._task: asyncio.Task[None] | None = None

    async def _send(self, broker: BrokerInfo, request: UpdateStateRequest) -> UpdateStateResponse:
        if broker.broker_id == self._broker_id:
            return self.with_wakeups(request, await self._update_state(request))
        return await self._peers.update_state(broker, request, UPDATE_STATE_TIMEOUT_MS)

    def with_wakeups(
        self, request: UpdateStateRequest, response: UpdateStateResponse
    ) -> UpdateStateResponse:
        """This broker's answer to a controller, with how often it was woken before."""
        return replace(response, wakeups=self._wakeups.tell(request.controller_epoch))

    # --- what others ask ---

    @property
    def active(self) -> bool:
        """Whether this broker is the controller and has taken over."""
        return self._term is not None and self._term.loaded

    @property
    def controller_epoch(self) -> int:
        """That of the present term; -1 without one."""
        return -1 if self._term is None else self._term.core.context.controller_epoch

    @property
    def core(self) -> Controller | None:
        """The controller's knowledge and counters while it is active, for reading."""
        return self._term.core if self._term is not None and self._term.loaded else None

    @property
    def counters(self) -> ControllerCounters:
        """What happened in all terms of this broker."""
        return self._past if self._term is None else self._past + self._term.core.counters

    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        """A leader proposes ISRs."""
        return await self._active_term().request(
            lambda core: requests.alter_partition(core, request)
        )

    async def controlled_shutdown(
        self, request: ControlledShutdownRequest
    ) -> ControlledShutdownResponse:
        """A broker wants to leave."""

        def shut_down(core: Controller) -> Operation[ControlledShutdownResponse]:
            remaining = yield from core.on_controlled_shutdown(
                request.broker_id, request.broker_epoch
            )
            return ControlledShutdownResponse(remaining)

        return await self._active_term().request(shut_down)

    async def controller_call(self, request: ControllerRequest) -> ControllerResponse:
        """Anything else. A deletion is answered when the topics are gone, or soon. Who may do what
        concerns nothing that a term knows: such requests do not wait in its queue."""
        term = self._active_term()
        if isinstance(request, CreateAclsRequest | DeleteAclsRequest | AlterScramRequest):
            if not term.loaded:
                raise NotControllerError(f"broker {self._broker_id} has not taken over yet")
            if self.access is None:
                raise SecurityDisabledError("this controller keeps no users and no entries")
            return await self.access.carry_out(request)
        deletable = self._config.delete_topic_enable
        response = await term.request(
            lambda core: requests.controller_call(core, request, term.chance(), deletable=deletable)
        )
        if isinstance(request, DeleteTopicsRequest):
            await term.deleted(request, response)
        return response

    def _active_term(self) -> ControllerTerm:
        if self._term is None:
            raise NotControllerError(f"broker {self._broker_id} is not the controller")
        return self._term

    # --- life ---

    async def start(self, on_task_done: Callable[[asyncio.Task[None]], None] | None = None) -> None:
        """Stand for election from now on; the broker is registered. `on_task_done` hears of the end
        of the candidate's task, which never ends unless it is stopped, or by a bug."""
        assert self._task is None, "started already"
        self._registered.set()
        self._task = asyncio.create_task(self._stand(), name="controller")
        if on_task_done is not None:
            self._task.add_done_callback(on_task_done)

    def on_registered(self, broker_epoch: int) -> None:
        """The broker is registered again, after LOST, under a new broker epoch."""
        log.debug("broker %d is registered with epoch %d", self._broker_id, broker_epoch)
        self._registered.set()

    async def stop(self, resign: bool = True) -> None:
        """End all; `resign`: let another be elected now, not when the session ends."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        # Who stops stands in nobody's way: the place in the queue goes too.
        if resign and (self._owes_resignation or self._store.connected):
            try:
                await self._store.resign_controller()
            except SessionLostError as lost:
                log.info("controllership ends with the session: %s", lost)
            self._owes_resignation = False

    def on_store_event(self, event: StoreEvent) -> None:
        """News from ZooKeeper, in the order in which they came."""
        if event is StoreEvent.SUSPENDED:
            self._in_touch.clear()
            return
        if event is StoreEvent.LOST:
            self._sessions_lost += 1
            self._registered.clear()
            self._owes_resignation = False
            self._end_term(SessionLostError("the session with ZooKeeper is lost"))
        if event in (StoreEvent.RECONNECTED, StoreEvent.LOST):
            self._in_touch.set()
        if event in _NEWS:
            self._news.set()
        if event is StoreEvent.CANDIDATE_GONE:
            self._wakeups.woken()
            return
        if event is StoreEvent.CONTROLLER_CHANGED and self._leads_queue:
            self._wakeups.woken()
        if self._term is not None:
            self._term.hint(event)

    def _end_term(self, reason: Exception) -> None:
        if self._term is not None:
            self._term.end(reason)
            self._close_term(self._term)

    def _close_term(self, term: ControllerTerm) -> None:
        self._past = self._past + term.core.counters
        self._term = None

    # --- the candidate ---

    async def _stand(self) -> None:
        while True:
            await self._registered.wait()
            await self._in_touch.wait()
            self._news.clear()
            sessions_lost = self._sessions_lost
            try:
                if self._owes_resignation:
                    await self._store.resign_controller()
                    self._owes_resignation = False
                election = await self._store.elect_controller(
                    self._broker_id, out_of_turn=self._out_of_turn
                )
            except SessionLostError as lost:
                log.info("no election while the session is gone: %s", lost)
                await asyncio.sleep(self._backoff_ms / 1000)
                continue
            except UnreadableNodeError as error:
                log.debug("broker %d cannot stand for election: %s", self._broker_id, error)
                await asyncio.sleep(self._backoff_ms / 100)
                continue
            except Exception:  # the candidate outlives whatever ZooKeeper says, and tells it
                log.exception("broker %d cannot stand for election", self._broker_id)
                await asyncio.sleep(self._backoff_ms / 100)
                continue
            if sessions_lost != self._sessions_lost:
                continue  # whatever it says, it is about a session that is gone
            if election.controller_id != NOBODY:
                self._wakeups.still_is(election.controller_epoch)
            previous = self._previous()
            self._learned(election.controller_id, election.controller_epoch)
            if election.won:
                await self._lead(election, previous)
            elif not election.ahead and election.controller_id in (NOBODY, self._broker_id):
                await asyncio.sleep(self._backoff_ms / 1000)
            else:
                await self._wait_for_news(election)

    async def _wait_for_news(self, election: ControllerElection) -> None:
        self._leads_queue = not election.ahead
        try:
            async with asyncio.timeout(self._config.zookeeper_session_timeout_ms / 1000):
                await self._news.wait()
            self._out_of_turn = False
        except TimeoutError:
            self._out_of_turn = election.controller_id == NOBODY
        finally:
            self._leads_queue = False

    async def _lead(self, election: ControllerElection, previous: tuple[int, str]) -> None:
        self._owes_resignation = True
        self._out_of_turn = False
        self._term = term = ControllerTerm(
            self._environment,
            self._broker_id,
            election.controller_epoch,
            TakeoverCount(self._broker_id, election, previous),
        )
        try:
            reason = await term.run()
        finally:
            if self._term is term:
                self._close_term(term)
        if isinstance(reason, DeposedError | StaleControllerEpochError):
            log.info("broker %d is no longer the controller: %s", self._broker_id, reason)
        elif isinstance(reason, SessionLostError):
            log.warning("broker %d resigns as controller: %s", self._broker_id, reason)
        else:
            log.error(
                "broker %d resigns as controller after a failure", self._broker_id, exc_info=reason
            )
            await asyncio.sleep(self._backoff_ms / 1000)
