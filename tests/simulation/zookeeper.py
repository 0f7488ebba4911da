"""ZooKeeper in the simulation: the real tree of `zookeeper/embedded/tree.py`, the clock of its
sessions, and the faults that are to strike writes. Its clients are in kazoo_client.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from minikafka.zookeeper.embedded import model
from minikafka.zookeeper.embedded.tree import Tree
from minikafka.zookeeper.stores.candidates import in_order

if TYPE_CHECKING:
    from tests.simulation.kazoo_client import KazooStandIn
    from tests.simulation.world import World

ZOOKEEPER = 0  # its number in the network
EXPIRY_TICK_S = 0.25
PASSWORD = b"simulated-------"


class ZooKeeperServer:
    """`faults`: what befalls the next writes of a broker, by its number: "lost" (the connection
    breaks and nothing was done), "applied" (it breaks after the fact), or "pass". `on_written`
    hears of every transaction."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tree = Tree(400, 60_000)
        self.clients: dict[int, KazooStandIn] = {}  # by session, while attached
        self.faults: dict[int, list[str]] = {}
        self.on_written: Callable[[model.Transaction], None] = lambda _: None
        world.loop.call_later(EXPIRY_TICK_S, self._tick)

    def _tick(self) -> None:
        now_ms = self.world.now_ms()
        sessions = self.tree.sessions
        for session_id, client in self.clients.items():
            if client.pings:
                sessions.touch(session_id, now_ms)
        self._told(self.tree.expire(now_ms))
        self.world.loop.call_later(EXPIRY_TICK_S, self._tick)

    def _told(self, expired: list[model.Expired]) -> None:
        for end in expired:
            self.world.tell(f"the session of {self._owner(end.session_id)} expires")
            client = self.clients.pop(end.session_id, None)
            self.on_written(end.transaction)
            self.deliver(end.events)
            if client is not None:
                client.server_hangs_up()

    def _owner(self, session_id: int) -> str:
        for host in self.world.hosts.values():
            process = host.process
            if process is not None and session_id in process.sessions:
                return host.name
        return "a process that is gone"

    def expire(self, session_id: int) -> bool:
        """End this session now."""
        session = self.tree.sessions.get(session_id)
        if session is None:
            return False
        session.deadline_ms = 0
        self._told(self.tree.expire(self.world.now_ms()))
        return True

    def request(self, session_id: int, request: model.Request) -> model.Outcome:
        outcome = self.tree.request(session_id, request, self.world.now_ms())
        if outcome.transaction is not None:
            self.on_written(outcome.transaction)
        self.deliver(outcome.events)
        return outcome

    def depose(self, how: str = "") -> None:
        """Delete /controller and the controller's place in the queue, as a person may, from a
        session of its own; `softly`: /controller alone, so that another is elected only when the
        controller has noticed."""
        now_ms = self.world.now_ms()
        opened = self.tree.open_session(4_000, PASSWORD, now_ms)
        self.on_written(opened.transaction)
        self.request(opened.session_id, model.Delete("/controller"))
        line = in_order(self.tree.children("/controller_queue"))
        if line and how != "softly":
            self.request(opened.session_id, model.Delete(f"/controller_queue/{line[0]}"))
        self.request(opened.session_id, model.CloseSession())

    def jump_the_queue(self, number: int) -> bool:
        """Delete the places before this broker's in the queue for controller, as a person may;
        False if it has none yet."""
        line = in_order(self.tree.children("/controller_queue"))
        at = [index for index, name in enumerate(line) if name.startswith(f"c-{number}-")]
        if not at:
            return False
        opened = self.tree.open_session(4_000, PASSWORD, self.world.now_ms())
        self.on_written(opened.transaction)
        for name in line[: at[0]]:
            self.request(opened.session_id, model.Delete(f"/controller_queue/{name}"))
        self.request(opened.session_id, model.CloseSession())
        return True

    def deliver(self, events: tuple[model.WatchEvent, ...]) -> None:
        for event in events:
            client = self.clients.get(event.session_id)
            if client is not None:
                client.answer_later(client.on_event, event)

    # --- reading for the world and the ledger ----------------------------------------------------

    def data(self, path: str) -> bytes | None:
        node = self.tree.node(path)
        return None if node is None else node.data
