"""The asyncio shell around the tree: sockets, the clock, the journal's threads, signals.

State: the tree, the connection of each session, transactions that wait for the journal, and
`durable_zxid`, up to which everything is on disk.

How a write goes: the tree applies it at once, its transaction joins `_waiting`, the answer is
held by the connection. At the end of the loop's turn all waiting transactions go to the writer
thread as one batch, with one fsync; when that is done `durable_zxid` moves and the connections
release what they hold. While one batch is being written the next one gathers.

Invariants: batches are written one after the other, in order; `durable_zxid <= tree.last_zxid`;
if the journal fails then the server stops, since it can no longer tell what is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from minikafka.model import join_address
from minikafka.zookeeper.embedded import wire, words
from minikafka.zookeeper.embedded.connection import Connection
from minikafka.zookeeper.embedded.journal import DEFAULT_LOG_FILE_BYTES, Journal
from minikafka.zookeeper.embedded.model import Transaction, TreeImage, WatchEvent
from minikafka.zookeeper.embedded.records import encode_transaction
from minikafka.zookeeper.embedded.tree import Tree

log = logging.getLogger("minikafka.zookeeper.embedded")

# The longest time between two looks at the clock. A look that comes a little late, as on a busy
# machine, is followed by another one, since the pings that came meanwhile are to be read first. One
# that comes very late means that the process was stopped: nobody was listened to, and the sessions
# get that time back.
_HEARTBEAT_MS = 500
_LATE_MS = 50
_STOPPED_MS = 500
_LOOK_AGAIN_S = 0.001


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run a server. Session timeouts are bounded by 2 and 20 ticks unless told otherwise."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 2181
    tick_time_ms: int = 2_000
    min_session_timeout_ms: int = 0
    max_session_timeout_ms: int = 0
    max_frame_bytes: int = wire.DEFAULT_MAX_FRAME_BYTES
    snapshot_after_bytes: int = 4 * DEFAULT_LOG_FILE_BYTES
    log_file_bytes: int = DEFAULT_LOG_FILE_BYTES

    def timeout_bounds_ms(self) -> tuple[int, int]:
        return (
            self.min_session_timeout_ms or 2 * self.tick_time_ms,
            self.max_session_timeout_ms or 20 * self.tick_time_ms,
        )


@dataclass(slots=True)
class _Batch:
    """Transactions that wait to be written together."""

    first_zxid: int
    last_zxid: int
    records: list[bytes] = field(default_factory=list)


class Server:
    """One server on one data directory. `run` returns the exit status of the process."""

    def __init__(self, settings: Settings, journal: Journal, tree: Tree, log_bytes: int) -> None:
        """`tree` is what `journal` recovered, from `log_bytes` of log."""
        self.settings = settings
        self.tree = tree
        self.counters = words.Counters()
        self.connections: set[Connection] = set()
        self.port = settings.port
        self._journal = journal
        self._of_session: dict[int, Connection] = {}
        self._waiting: _Batch | None = None
        self._writing = False
        self._durable_zxid = tree.last_zxid
        self._with_held: dict[Connection, None] = {}
        self._settle_is_due = False
        self._image: TreeImage | None = None
        self._snapshot: asyncio.Future[None] | None = None
        self._snapshot_zxid = -1
        self._bytes_since_snapshot = log_bytes
        self._exit_status = 0

    # --- life ------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Raises OSError if the address cannot be had."""
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._written = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, "journal")
        listener = await self.loop.create_server(
            lambda: Connection(self, self.settings.max_frame_bytes),
            self.settings.host,
            self.settings.port,
            backlog=1024,
        )
        self.port = listener.sockets[0].getsockname()[1]
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(signal_number, self._stop.set)
        self.tree.sessions.restart_clocks(self.now_ms())
        self._schedule_heartbeat()
        print(
            f"minikafka embedded zookeeper: serving on "
            f"{join_address(self.settings.host, self.port)}, "
            f"data in {self.settings.data_dir}",
            flush=True,
        )
        await self._stop.wait()
        listener.close()
        await self._shut_down()
        return self._exit_status

    async def _shut_down(self) -> None:
        for connection in list(self.connections):
            connection.drop()
        self._heartbeat.cancel()
        if self._exit_status == 0:
            while self._waiting or self._writing:
                self._start_writing()
                self._written.clear()
                await self._written.wait()
            if self._snapshot is not None:
                await asyncio.wait([self._snapshot])
            if self._snapshot_zxid < self.tree.last_zxid and self._exit_status == 0:
                self._save_last_snapshot()
        self._writer.shutdown()

    def _save_last_snapshot(self) -> None:
        try:
            self._save_snapshot(self.tree.image())
        except OSError as error:
            # Nothing is lost without it: the next start has more of the log to read.
            log.error("the last snapshot cannot be written: %s", error)

    def _fail(self, why: str) -> None:
        log.critical("%s: stopping, since what is on disk is no longer certain", why)
        self._exit_status = 1
        self._stop.set()
        self._written.set()

    # --- the clock -------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Wall-clock time at the start, monotonic from there on."""
        return _WALL_MS_AT_ZERO + int(time.monotonic() * 1000)

    def _schedule_heartbeat(self) -> None:
        deadline_ms = self.tree.sessions.next_deadline_ms()
        delay_ms = _HEARTBEAT_MS
        if deadline_ms is not None:
            delay_ms = max(1, min(delay_ms, deadline_ms - self.now_ms()))
        self._heartbeat_due_ms = self.now_ms() + delay_ms
        self._heartbeat = self.loop.call_later(delay_ms / 1000, self._on_heartbeat)

    def _on_heartbeat(self) -> None:
        now_ms = self.now_ms()
        late_ms = now_ms - self._heartbeat_due_ms
        if late_ms > _STOPPED_MS:
            self.tree.sessions.postpone(late_ms)
        elif late_ms > _LATE_MS:
            self._heartbeat = self.loop.call_later(_LOOK_AGAIN_S, self._expire_sessions)
            return
        self._expire_sessions()

    def _expire_sessions(self) -> None:
        now_ms = self.now_ms()
        for expired in self.tree.expire(now_ms):
            log.info("session %#x has expired", expired.session_id)
            self.commit(expired.transaction, expired.events)
            connection = self._of_session.pop(expired.session_id, None)
            if connection is not None:
                connection.drop()
        self._schedule_heartbeat()

    # --- sessions and connections ----------------------------------------------------------------

    @staticmethod
    def new_password() -> bytes:
        return secrets.token_bytes(16)

    def on_session_attached(self, connection: Connection) -> None:
        """The session now lives on this connection; an earlier one is closed."""
        earlier = self._of_session.get(connection.session_id)
        self._of_session[connection.session_id] = connection
        if earlier is not None and earlier is not connection:
            earlier.drop()

    def on_session_closed(self, connection: Connection) -> None:
        self._of_session.pop(connection.session_id, None)

    def on_connection_lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._with_held.pop(connection, None)
        if self._of_session.get(connection.session_id) is connection:
            del self._of_session[connection.session_id]
            self.tree.detach(connection.session_id)

    def answer_word(self, word: bytes) -> bytes:
        status = words.Status(
            tree=self.tree,
            counters=self.counters,
            connections=tuple(connection.info() for connection in self.connections),
            outstanding=self.tree.last_zxid - self._durable_zxid,
            settings=self._described_settings(),
            environment=_environment(),
        )
        return words.answer(word, status)

    def _described_settings(self) -> dict[str, str]:
        min_ms, max_ms = self.settings.timeout_bounds_ms()
        return {
            "clientPort": str(self.port),
            "clientPortAddress": self.settings.host,
            "dataDir": str(self.settings.data_dir),
            "dataLogDir": str(self.settings.data_dir),
            "tickTime": str(self.settings.tick_time_ms),
            "maxClientCnxns": "0",
            "minSessionTimeout": str(min_ms),
            "maxSessionTimeout": str(max_ms),
            "serverId": "0",
        }

    # --- writes and answers ----------------------------------------------------------------------

    def commit(self, txn: Transaction, events: Iterable[WatchEvent]) -> None:
        """Send an applied transaction on its way to the disk, and its events to their sessions."""
        if self._waiting is None:
            self._waiting = _Batch(txn.zxid, txn.zxid)
        assert txn.zxid == self._waiting.first_zxid + len(self._waiting.records)
        self._waiting.records.append(encode_transaction(txn))
        self._waiting.last_zxid = txn.zxid
        self.deliver(events)
        self._settle_soon()

    def deliver(self, events: Iterable[WatchEvent]) -> None:
        for event in events:
            connection = self._of_session.get(event.session_id)
            if connection is not None:
                connection.send_event(event)

    def on_message_held(self, connection: Connection) -> None:
        self._with_held[connection] = None
        self._settle_soon()

    def _settle_soon(self) -> None:
        """Write and release at the end of this turn of the loop, for all its requests at once."""
        if not self._settle_is_due:
            self._settle_is_due = True
            self.loop.call_soon(self._settle)

    def _settle(self) -> None:
        self._settle_is_due = False
        self._start_writing()
        self._release()

    def _release(self) -> None:
        for connection in list(self._with_held):
            if connection.release(self._durable_zxid):
                self._with_held.pop(connection, None)

    def _start_writing(self) -> None:
        batch = self._waiting
        if batch is None or self._writing or self._exit_status:
            return
        self._waiting = None
        self._writing = True
        self._bytes_since_snapshot += sum(map(len, batch.records))
        writing = self.loop.run_in_executor(
            self._writer, self._journal.append, batch.first_zxid, batch.records
        )
        writing.add_done_callback(lambda done: self._on_written(batch, done))

    def _on_written(self, batch: _Batch, done: asyncio.Future[None]) -> None:
        self._writing = False
        error = done.exception()
        if error is not None:
            self._fail(f"the journal cannot be written ({error})")
            return
        assert self._durable_zxid < batch.last_zxid <= self.tree.last_zxid
        self._durable_zxid = batch.last_zxid
        self._written.set()
        self._start_writing()
        self._release()
        self._maybe_snapshot()

    # --- snapshots -------------------------------------------------------------------------------

    def _maybe_snapshot(self) -> None:
        """Take a picture when the log has grown enough, write it down when the log has it all."""
        if self._snapshot is not None:
            return
        if self._image is None:
            if self._bytes_since_snapshot < self.settings.snapshot_after_bytes:
                return
            self._image = self.tree.image()
            self._bytes_since_snapshot = 0
        if self._image.last_zxid <= self._durable_zxid:
            self._snapshot = self.loop.run_in_executor(None, self._save_snapshot, self._image)
            self._snapshot.add_done_callback(self._on_snapshot)
            self._image = None

    def _save_snapshot(self, image: TreeImage) -> None:
        self._journal.save_snapshot(image)
        self._snapshot_zxid = image.last_zxid

    def _on_snapshot(self, done: asyncio.Future[None]) -> None:
        self._snapshot = None
        error = done.exception()
        if error is not None:
            log.error("a snapshot cannot be written, the log goes on growing: %s", error)


_WALL_MS_AT_ZERO = int((time.time() - time.monotonic()) * 1000)


def _environment() -> dict[str, str]:
    return {
        "host.name": platform.node(),
        "python.version": platform.python_version(),
        "os.name": platform.system(),
        "os.arch": platform.machine(),
        "user.dir": os.getcwd(),
        "process.id": str(os.getpid()),
    }


def serve(settings: Settings) -> int:
    """Run a server until it is told to stop.

    Returns the exit status of the process. Raises JournalError or OSError if it cannot start.
    """
    min_ms, max_ms = settings.timeout_bounds_ms()
    tree = Tree(min_ms, max_ms)
    journal = Journal.open(settings.data_dir, settings.log_file_bytes, warn=log.warning)
    try:
        log_bytes = journal.recover(tree, 0)
        server = Server(settings, journal, tree, log_bytes)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(server.run())
    finally:
        journal.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
