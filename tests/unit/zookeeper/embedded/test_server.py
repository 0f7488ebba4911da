"""A real server process: protocol over a socket, sessions, durability, how it starts and ends."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.protocol import serialization as kazoo
from kazoo.protocol.states import ZnodeStat
from kazoo.security import OPEN_ACL_UNSAFE

from minikafka.zookeeper.embedded.jute import pack_int, pack_string

pytestmark = pytest.mark.slow  # real processes

NO_NODE, SESSION_EXPIRED, MARSHALLING, AUTH_FAILED = -101, -112, -5, -115
EPHEMERAL, SEQUENTIAL = 1, 2

# Fixtures come from conftest.py; pytest's import mode keeps their classes out of reach.
Server = Any
Starter = Callable[..., Any]


def word(server: Server, letters: bytes) -> str:
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(letters)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    return answer.decode()


# --- the protocol --------------------------------------------------------------------------------


def test_kazoo_works_with_it(server: Server) -> None:
    client = KazooClient(f"127.0.0.1:{server.port}", timeout=5)
    client.start()
    try:
        told = threading.Event()
        client.create("/a", b"1", ephemeral=True)
        assert client.get("/a", watch=lambda _event: told.set())[0] == b"1"
        client.set("/a", b"2")
        assert told.wait(10)
        assert client.get_children("/") == ["zookeeper", "a"]
        assert client.server_version() == (3, 8, 0)
    finally:
        client.stop()
        client.close()


def test_answers_come_in_the_order_of_the_requests(server: Server) -> None:
    client = server.client()
    client.create("/a")
    for xid in range(1, 2_001):
        client.send(xid, kazoo.SetData("/a", b"", -1) if xid % 3 else kazoo.Exists("/a", None))
    assert [client.receive()[0] for _ in range(2_000)] == list(range(1, 2_001))


def test_a_client_reads_its_own_writes_without_waiting_for_answers(server: Server) -> None:
    client = server.client()
    client.create("/a")
    for number in range(200):
        client.send(2 * number, kazoo.SetData("/a", b"%d" % number, -1))
        client.send(2 * number + 1, kazoo.GetData("/a", None))
    for number in range(200):
        client.receive()
        body = client.receive()[3]
        assert kazoo.GetData.deserialize(body, 0)[0] == b"%d" % number


def test_far_more_requests_than_fit_anywhere_are_all_answered(server: Server) -> None:
    client = server.client()
    client.create("/big", b"x" * 20_000)
    request = kazoo.GetData("/big", None)
    frame = struct.pack(">ii", 1, request.type) + bytes(request.serialize())
    stream = (struct.pack(">i", len(frame)) + frame) * 10_000
    sender = threading.Thread(target=client.socket.sendall, args=(stream,))
    sender.start()
    try:
        for _ in range(10_000):
            assert client.receive()[2] == 0
    finally:
        client.socket.shutdown(socket.SHUT_RDWR)
        sender.join()


def test_a_watch_event_precedes_every_read_that_shows_the_change(server: Server) -> None:
    writer, reader = server.client(), server.client()
    writer.create("/a")

    def write() -> None:
        for _ in range(300):
            writer.ask(kazoo.SetData("/a", b"", -1))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        events = version_watched = seen = 0
        while seen < 300:
            reader.send(1, kazoo.GetData("/a", True))
            reader.send(2, kazoo.GetData("/a", None))
            versions = []
            while len(versions) < 2:
                xid, _, _, body = reader.receive()
                if xid == -1:
                    events += 1
                    continue
                stat: ZnodeStat = kazoo.GetData.deserialize(body, 0)[1]
                # Whoever watches at one version and reads a later one has heard of it before.
                if xid == 2 and stat.version > versions[0]:
                    assert events > 0
                versions.append(stat.version)
            if versions[0] > version_watched:
                version_watched, events = versions[0], 0
            seen = versions[1]
    finally:
        thread.join()


@pytest.mark.parametrize("length", [-1, 2**20, 2**31 - 1])
def test_a_frame_of_impossible_length_closes_the_connection(server: Server, length: int) -> None:
    client = server.client()
    client.socket.sendall(struct.pack(">i", length))
    client.wait_until_closed()
    assert f"frame of {length} bytes" in server.log.read_text()
    assert server.client().create("/still-alive") == 0


def test_a_first_frame_that_is_no_handshake_closes_the_connection(server: Server) -> None:
    client = server.client(handshake=False)
    client.send_frame(b"hello")
    client.wait_until_closed()


def test_a_request_that_cannot_be_read_is_an_error_and_no_more(server: Server) -> None:
    client = server.client()
    client.send_frame(struct.pack(">iii", 1, kazoo.Create.type, 1_000))
    assert client.receive()[2] == MARSHALLING
    assert client.create("/a") == 0


def test_an_unknown_operation_is_unimplemented(server: Server) -> None:
    client = server.client()
    client.send_frame(struct.pack(">ii", 1, 999))
    assert client.receive()[2] == -6


@pytest.mark.parametrize(
    ("request_", "answers"),
    [(kazoo.Auth(0, "unknown", "x:y"), [AUTH_FAILED]), (kazoo.SASL(b""), [])],
)
def test_who_cannot_prove_itself_is_disconnected(
    server: Server, request_: Any, answers: list[int]
) -> None:
    client = server.client()
    client.send(-4, request_)
    assert [client.receive()[2] for _ in answers] == answers
    client.wait_until_closed()


def test_the_four_letter_words_are_answered(server: Server) -> None:
    client = server.client()
    client.create("/e", flags=EPHEMERAL)
    assert word(server, b"ruok") == "imok"
    assert word(server, b"isro") == "rw"
    assert "Mode: standalone\n" in word(server, b"srvr")
    assert "Clients:\n /127.0.0.1:" in word(server, b"stat")
    assert "zk_ephemerals_count\t1\n" in word(server, b"mntr")
    assert f"clientPort={server.port}\n" in word(server, b"conf")
    assert f"sid={client.session[0]:#x}" in word(server, b"cons")
    assert "zookeeper.version=3.8.0" in word(server, b"envi")
    assert f"{client.session[0]:#x}:\n\t/e\n" in word(server, b"dump")


# --- sessions ------------------------------------------------------------------------------------


def test_the_session_timeout_is_negotiated(start: Starter) -> None:
    server = start("--tick-time-ms", "500", "--max-session-timeout-ms", "7000")
    assert [server.client(timeout_ms=ms).timeout_ms for ms in (1, 5_000, 60_000)] == [
        1_000,
        5_000,
        7_000,
    ]


def test_a_silent_session_expires_and_its_ephemerals_go(server: Server) -> None:
    silent, watcher = server.client(timeout_ms=400), server.client()
    silent.create("/e", flags=EPHEMERAL)
    watcher.ask(kazoo.Exists("/e", True))
    xid, _, _, body = watcher.receive()
    assert xid == -1
    assert kazoo.Watch.deserialize(body, 0)[0] == (2, 3, "/e")
    silent.wait_until_closed()
    assert server.client(session=silent.session).timeout_ms == 0


def test_pings_keep_a_session_alive(server: Server) -> None:
    client, clock = server.client(timeout_ms=400), server.client(timeout_ms=400)
    client.create("/e", flags=EPHEMERAL)
    # The other session, silent, expires meanwhile: more than its timeout has passed.
    watched = False
    while not watched:
        client.send(-2, kazoo.Ping())
        assert client.receive()[0] == -2
        watched = f"{clock.session[0]:#x}" not in word(server, b"dump")
    assert client.ask(kazoo.Exists("/e", None))[0] == 0


def test_a_session_lives_on_when_its_connection_is_lost(server: Server) -> None:
    client = server.client()
    client.create("/e", flags=EPHEMERAL)
    client.close()
    again = server.client(session=client.session)
    assert again.session == client.session
    assert again.ask(kazoo.Exists("/e", None))[0] == 0


def test_a_session_that_moves_closes_its_earlier_connection(server: Server) -> None:
    first = server.client()
    second = server.client(session=first.session)
    first.wait_until_closed()
    assert second.create("/e", flags=EPHEMERAL) == 0
    stat = kazoo.Exists.deserialize(second.ask(kazoo.Exists("/e", None))[1], 0)
    assert stat.ephemeralOwner == first.session[0]


def test_a_session_with_a_wrong_password_has_expired(server: Server) -> None:
    client = server.client()
    thief = server.client(session=(client.session[0], b"x" * 16))
    assert (thief.timeout_ms, thief.session[0]) == (0, 0)
    thief.wait_until_closed()
    assert client.create("/a") == 0


def test_a_closed_session_is_answered_and_disconnected(server: Server) -> None:
    client = server.client()
    client.create("/e", flags=EPHEMERAL)
    assert client.ask(kazoo.Close())[0] == 0
    client.wait_until_closed()
    assert server.client().ask(kazoo.Exists("/e", None))[0] == NO_NODE


def test_a_client_that_has_seen_the_future_is_turned_away(server: Server) -> None:
    with pytest.raises((EOFError, ConnectionError)):
        server.client(last_zxid=1_000)
    assert "knows another server" in server.log.read_text()


def test_missed_events_are_told_when_watches_are_set_again(server: Server) -> None:
    client, other = server.client(), server.client()
    client.create("/a")
    client.close()
    other.ask(kazoo.SetData("/a", b"new", -1))
    again = server.client(session=client.session)
    strings = pack_int(1) + pack_string("/a")
    body = struct.pack(">q", 3) + strings + pack_int(0) + strings
    again.send_frame(struct.pack(">ii", -8, 101) + body)
    assert again.receive()[0] == -1
    assert again.receive()[:1] == (-8,)
    other.create("/a/b")
    xid, _, _, event = again.receive()
    assert (xid, kazoo.Watch.deserialize(event, 0)[0]) == (-1, (4, 3, "/a"))


def test_a_pause_of_the_server_expires_nobody(
    server: Server, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    client, clock = server.client(timeout_ms=2_000), server.client(timeout_ms=400)
    client.create("/e", flags=EPHEMERAL)
    server.process.send_signal(signal.SIGSTOP)
    resume_s = time.monotonic() + 2.5
    eventually(lambda: time.monotonic() >= resume_s)
    server.process.send_signal(signal.SIGCONT)
    # Time goes on for those who are really silent ...
    eventually(lambda: f"{clock.session[0]:#x}" not in word(server, b"dump"))
    # ... and the other has most of its timeout left.
    assert client.ask(kazoo.Exists("/e", None))[0] == 0


# --- durability ----------------------------------------------------------------------------------

SMALL_FILES = """
import sys
from pathlib import Path
from minikafka.zookeeper.embedded.server import Settings, serve
sys.exit(serve(Settings(Path(sys.argv[2]), port=0, snapshot_after_bytes=20_000,
                        log_file_bytes=4_000)))
"""

LITTLE_DISK = """
import resource, sys
from minikafka.zookeeper.embedded.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("small_files", [False, True])
def test_kill_minus_nine_in_the_middle_of_writes_loses_nothing_acknowledged(
    start: Starter, small_files: bool
) -> None:
    command = ["-c", SMALL_FILES] if small_files else None
    acknowledged: set[str] = set()
    session = (0, bytes(16))
    for round_ in range(4):
        server = start(command=command)
        owner = server.client(session=session, timeout_ms=30_000)
        if round_ == 0:
            session = owner.session
            owner.create("/e", flags=EPHEMERAL)
        assert owner.session == session  # sessions survive
        writers = [threading.Thread(target=write_until_lost, args=(server.client(), acknowledged,
                   f"/r{round_}w{index}-")) for index in range(3)]  # fmt: skip
        for writer in writers:
            writer.start()
        enough = len(acknowledged) + 400 + 250 * round_
        while len(acknowledged) < enough:
            assert owner.ask(kazoo.Exists("/e", None))[0] == 0
        server.end(signal.SIGKILL)
        for writer in writers:
            writer.join()

    client = start().client(session=session)
    error, body = client.ask(kazoo.GetChildren("/", None))
    there = set(kazoo.GetChildren.deserialize(body, 0))
    assert error == 0
    assert len(acknowledged) > 1_600
    assert acknowledged <= there
    assert "e" in there


def write_until_lost(client: Any, acknowledged: set[str], prefix: str) -> None:
    """Keep 20 creates in flight until the connection breaks; note those that were answered."""
    sent = answered = 0
    try:
        while True:
            while sent < answered + 20:
                path = f"{prefix}{sent}"
                client.send(sent, kazoo.Create(path, b"x" * 50, OPEN_ACL_UNSAFE, 0))
                sent += 1
            xid, _, error, _ = client.receive()
            assert (xid, error) == (answered, 0)
            acknowledged.add(f"{prefix}{answered}"[1:])
            answered += 1
    except (EOFError, OSError):
        client.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end_leaves_a_snapshot_and_status_zero(
    start: Starter, how: signal.Signals
) -> None:
    server = start()
    client = server.client()
    client.create("/a", b"1")
    client.create("/e", flags=EPHEMERAL)
    assert server.end(how) == 0
    assert len(list(server.data_dir.glob("snapshot.*"))) == 1
    again = start().client(session=client.session, last_zxid=3)
    assert again.session == client.session
    assert again.ask(kazoo.Exists("/a", None))[0] == 0
    assert again.ask(kazoo.Exists("/e", None))[0] == 0


def test_snapshots_are_taken_while_it_serves_and_old_files_go(
    start: Starter, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    server = start(command=["-c", SMALL_FILES])
    client = server.client()
    for _ in range(30):
        for xid in range(100):
            client.send(xid, kazoo.Create("/n-", b"x" * 20, OPEN_ACL_UNSAFE, SEQUENTIAL))
        assert [client.receive()[2] for _ in range(100)] == [0] * 100
    eventually(lambda: len(list(server.data_dir.glob("snapshot.*"))) == 2)
    logs = [int(path.suffix[1:], 16) for path in server.data_dir.glob("log.*")]
    assert min(logs) > 1
    server.end(signal.SIGKILL)
    body = start().client().ask(kazoo.GetChildren("/", None))[1]
    assert len(kazoo.GetChildren.deserialize(body, 0)) == 3_001


def test_a_journal_that_cannot_be_written_stops_the_server(start: Starter) -> None:
    server = start(command=["-c", LITTLE_DISK])
    acknowledged: set[str] = set()
    write_until_lost(server.client(), acknowledged, "/w-")
    assert server.wait() == 1
    assert "the journal cannot be written" in server.log.read_text()
    body = start().client().ask(kazoo.GetChildren("/", None))[1]
    assert acknowledged <= set(kazoo.GetChildren.deserialize(body, 0))
    assert acknowledged


# --- starting ------------------------------------------------------------------------------------


def refused(server: Server) -> str:
    assert server.wait() == 2
    return str(server.log.read_text())


def test_a_port_that_is_taken_is_status_two(start: Starter, tmp_path: Path) -> None:
    server = start()
    flags = ("--port", str(server.port))
    second = start(*flags, data_dir=tmp_path / "other", wait=False)
    assert f"cannot listen on 127.0.0.1:{server.port}" in refused(second)


def test_an_address_of_another_machine_is_status_two(start: Starter) -> None:
    assert "cannot listen on 192.0.2.1" in refused(start("--host", "192.0.2.1", wait=False))


def test_a_directory_in_use_is_status_two(start: Starter) -> None:
    server = start()
    second = start(wait=False)
    assert f"in use by another server (process {server.process.pid})" in refused(second)


def test_a_damaged_directory_is_status_two(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log.0000000000000001").write_bytes(b"this was never a log")
    assert "not a log of this server" in refused(start(wait=False))


def test_bounds_that_contradict_each_other_are_status_two(start: Starter) -> None:
    flags = ("--min-session-timeout-ms", "900", "--max-session-timeout-ms", "800")
    assert "above the longest" in refused(start(*flags, wait=False))


def test_the_server_loads_neither_kazoo_nor_grpc() -> None:
    script = (
        "import sys, minikafka.zookeeper.embedded.__main__\n"
        "print(sorted({'kazoo', 'grpc', 'google'} & {name.split('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
