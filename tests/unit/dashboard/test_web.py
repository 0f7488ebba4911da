"""dashboard/web.py over HTTP: what is served, what is refused, and the stream of events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from minikafka.config.properties import is_loopback
from minikafka.dashboard.hub import Hub
from minikafka.dashboard.server import bind, own_hosts, serving
from minikafka.dashboard.state import DashboardState
from minikafka.dashboard.web import STATIC, Web
from minikafka.errors import MinikafkaError, UsageError
from minikafka.model import TopicPartition
from tests.helpers.dashboard import Watched, sample

HOST = "127.0.0.1:8080"
OWN = {"origin": f"http://{HOST}", "x-minikafka-token": "secret"}


class Acts:
    """Takes note of what the buttons ask for."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.error: MinikafkaError | None = None

    async def __call__(self, action: str, target: str) -> str:
        if self.error is not None:
            raise self.error
        self.done.append((action, target))
        return f"{action} {target}: done"


def client_of(state: DashboardState, act: Acts | None = None) -> TestClient:
    web = Web(state, Hub(), act, "secret" if act else None)
    app = web.app(own_hosts("127.0.0.1", 8080))
    return TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=True)


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    watched.begin()
    return watched


def test_the_page_and_all_that_it_names_are_served_from_here(watched: Watched) -> None:
    client = client_of(watched.state)
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    named += [
        f"static/{name}"
        for script in STATIC.glob("*.js")
        for name in re.findall(r'from "\./([^"]+)"', script.read_text())
    ]
    assert len(named) > 10
    for path in set(named):
        assert client.get(f"/{path}").status_code == 200, path
    for file in [*STATIC.glob("*.*"), *STATIC.glob("vendor/uPlot.min.css")]:
        loads = re.findall(r'(?:url\(|src="|href="|from "|fetch\()\W*https?:', file.read_text())
        assert not loads, f"{file.name} loads something from elsewhere"


def test_every_answer_has_the_headers_that_keep_other_sites_out(watched: Watched) -> None:
    client = client_of(watched.state)
    for path in ("/", "/static/main.js", "/api/state?at=1", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:9999", "127.0.0.1", ""])
def test_a_foreign_host_reads_nothing(watched: Watched, host: str) -> None:
    answer = client_of(watched.state).get("/api/state?at=1", headers={"host": host})
    assert answer.status_code == 421
    assert "views" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"])
def test_every_name_of_this_host_is_taken(watched: Watched, host: str) -> None:
    assert client_of(watched.state).get("/", headers={"host": host}).status_code == 200


def test_a_moment_is_asked_for_by_event_or_by_time(watched: Watched) -> None:
    watched.now_ms += 1_000
    event = watched.see_state(leader=2, epoch=1, isr=(2, 3), version=1)
    client = client_of(watched.state)
    after = client.get(f"/api/state?event={event.number}").json()
    assert (after["at"], after["views"][-1]["leader"]) == (event.at_ms, 2)
    before = client.get(f"/api/state?at={event.at_ms - 1}").json()
    assert before["views"][-1]["leader"] == 1


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("at=soon", 400), ("at=-1", 400), ("event=99", 404), ("event=x", 400)],
)
def test_a_moment_that_is_none_is_refused_with_what_was_expected(
    watched: Watched, query: str, status: int
) -> None:
    answer = client_of(watched.state).get(f"/api/state?{query}")
    assert answer.status_code == status
    assert "expected" in answer.json()["error"] or "not kept" in answer.json()["error"]


def test_the_offsets_of_a_partition_are_given_as_a_series(watched: Watched) -> None:
    watched.state.on_offsets(5, {TopicPartition("orders", 0): sample(3, 2, A=3, B=2)})
    client = client_of(watched.state)
    series = client.get("/api/offsets?topic=orders&partition=0").json()
    assert series == [[5, 2, 3, [[1, 3, 0], [2, 2, 0]]]]
    assert client.get("/api/offsets?topic=nothing&partition=0").json() == []
    assert client.get("/api/offsets?topic=orders").status_code == 400


# --- control ---


def test_a_button_of_the_page_itself_acts(watched: Watched) -> None:
    acts = Acts()
    client = client_of(watched.state, acts)
    answer = client.post("/api/control/kill", json={"target": "3"}, headers=OWN)
    assert (answer.status_code, answer.json()) == (200, {"said": "kill 3: done"})
    assert acts.done == [("kill", "3")]


def test_without_control_every_post_is_refused(watched: Watched) -> None:
    client = client_of(watched.state)
    answer = client.post("/api/control/kill", json={"target": "3"}, headers=OWN)
    assert answer.status_code == 403
    assert "--control" in answer.json()["error"]


FORGERIES: dict[str, dict[str, str | None]] = {
    "no origin": {"origin": None},
    "another site": {"origin": "http://evil.example"},
    "another port of this host": {"origin": "http://127.0.0.1:3000"},
    "an opaque origin": {"origin": "null"},
    "https in place of http": {"origin": f"https://{HOST}"},
    "the browser says cross-site": {"sec-fetch-site": "cross-site"},
    "the browser says same-site": {"sec-fetch-site": "same-site"},
    "no token": {"x-minikafka-token": None},
    "a wrong token": {"x-minikafka-token": "secre"},
    "a token that is no ASCII": {"x-minikafka-token": "sécret"},
    "a form": {"content-type": "application/x-www-form-urlencoded"},
    "plain text": {"content-type": "text/plain"},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_request_changes_nothing(watched: Watched, name: str) -> None:
    acts = Acts()
    headers: dict[str, str | None] = {**OWN, "content-type": "application/json"}
    headers |= FORGERIES[name]
    given = {k.encode(): v.encode() for k, v in headers.items() if v is not None}
    client = client_of(watched.state, acts)
    answer = client.post("/api/control/kill", content=b'{"target":"3"}', headers=given)  # type: ignore[arg-type]
    assert answer.status_code == 403, answer.text
    assert acts.done == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_only_a_post_acts(watched: Watched, method: str) -> None:
    acts = Acts()
    answer = client_of(watched.state, acts).request(method, "/api/control/kill", headers=OWN)
    assert answer.status_code == 405
    assert acts.done == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"target":3}',
        b'{"target":"' + b"x" * 5_000 + b'"}',
        b"[" * 4_000,
        b"[" * 2_000 + b"]" * 2_000,
        b'{"target":' * 400,
    ],
)
def test_a_body_that_is_none_is_refused(watched: Watched, body: bytes) -> None:
    acts = Acts()
    headers = {**OWN, "content-type": "application/json"}
    answer = client_of(watched.state, acts).post("/api/control/kill", content=body, headers=headers)
    assert answer.status_code == 400
    assert acts.done == []


def test_what_went_wrong_is_told(watched: Watched) -> None:
    acts = Acts()
    client = client_of(watched.state, acts)
    acts.error = UsageError("there is no broker 'X' here")
    answer = client.post("/api/control/kill", json={"target": "X"}, headers=OWN)
    assert (answer.status_code, answer.json()["error"]) == (400, "there is no broker 'X' here")
    acts.error = MinikafkaError("it does not run")
    answer = client.post("/api/control/kill", json={"target": "1"}, headers=OWN)
    assert (answer.status_code, answer.json()["error"]) == (409, "it does not run")


def test_the_token_is_in_no_answer(watched: Watched) -> None:
    client = client_of(watched.state, Acts())
    for path in ("/", "/static/control.js", "/api/state?at=1"):
        assert "secret" not in client.get(path).text
    assert "secret" not in json.dumps(watched.state.whole(0))


# --- the stream ---


async def read_events(
    port: int, wanted: Callable[[str, Any], bool]
) -> AsyncIterator[tuple[str, Any]]:
    """Events of /api/events, up to and with the first that is `wanted`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        kind = ""
        async with asyncio.timeout(30):
            while line := (await reader.readline()).decode():
                if line.startswith("event: "):
                    kind = line[7:].strip()
                elif line.startswith("data: "):
                    document = json.loads(line[6:])
                    yield kind, document
                    if wanted(kind, document):
                        return
    finally:
        writer.close()


async def test_the_stream_begins_with_everything_and_goes_on_with_what_changes() -> None:
    hub = Hub()
    watched = Watched()
    watched.state = DashboardState(watched.now_ms, hub.publish)
    watched.begin()
    web = Web(watched.state, hub, None, None)
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        async with serving(web.app(own_hosts("127.0.0.1", port)), listening, hub):
            heard = []
            async for kind, document in read_events(port, lambda kind, _: kind == "event"):
                heard.append(kind)
                if kind == "snapshot":
                    assert document["control"] is False
                    assert len(document["views"]) == 5
                    watched.see_process(3, "ended")
            assert heard == ["snapshot", "event"]
            assert document["text"] == "broker C's process ended"


async def test_stopping_the_server_does_not_wait_for_listeners() -> None:
    hub = Hub()
    web = Web(DashboardState(0, hub.publish), hub, None, None)
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        async with serving(web.app(None), listening, hub):
            events = read_events(port, lambda *_: False)
            assert (await anext(events))[0] == "snapshot"
        assert [kind async for kind, _ in events] == []


# --- where it listens ---


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.5", False),
        ("example.org", False),
    ],
)
def test_which_addresses_are_of_this_host_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_port_that_is_taken_is_refused_and_without_a_wish_another_is_found() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=rf"cannot listen at 127\.0\.0\.1:{port}: address"):
            bind("127.0.0.1", port)
    with bind("127.0.0.1", None) as one, bind("127.0.0.1", None) as other:
        assert one.getsockname()[1] != other.getsockname()[1]
