"""The dashboard's pages and its stream of events, as a Starlette application.

What it lets in:

- a request must name a host that this server is (`Host`), so that a page of a foreign name that
  points here (DNS rebinding) reads nothing; when bound to other addresses than this host's own,
  names are not known, and any is taken;
- the only thing that changes anything is `POST /api/control/…`. It is there only with `--control`,
  wants JSON, the token of this run in a header, and an `Origin` that is this server: a page of
  another site has neither. The token is in no page and no answer: the command prints it, as a
  fragment of the link, which browsers do not send.

Nothing is loaded from elsewhere: a strict Content-Security-Policy says so to the browser.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minikafka.dashboard.control import Act
from minikafka.dashboard.hub import Hub, encode
from minikafka.dashboard.sources import wall_ms
from minikafka.dashboard.state import DashboardState
from minikafka.errors import MinikafkaError, UsageError
from minikafka.model import TopicPartition

STATIC = Path(__file__).parent / "static"
TOKEN_HEADER = "x-minikafka-token"
_HEARTBEAT_S = 5.0
_LONGEST_BODY = 4_096
_BODY_PATIENCE_S = 10.0

_SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Refuses foreign hosts, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_SECURITY_HEADERS)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if self._hosts is not None and host not in self._hosts:
            refusal = PlainTextResponse(f"this dashboard is not {host!r}\n", 421)
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


class Web:
    """The handlers. `act` and `token` are None without `--control`."""

    def __init__(
        self, dashboard_state: DashboardState, hub: Hub, act: Act | None, token: str | None
    ) -> None:
        assert (act is None) == (token is None)
        self._dashboard_state = dashboard_state
        self._hub = hub
        self._act = act
        self._token = token

    def app(self, hosts: Collection[str] | None) -> Starlette:
        """`hosts`: every value of `Host` that means this server; None: any."""
        app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/api/events", self._events),
                Route("/api/state", self._state),
                Route("/api/offsets", self._offsets),
                Route("/api/control/{action}", self._control, methods=["POST"]),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )
        app.add_middleware(Guard, hosts=hosts)
        return app

    async def _page(self, request: Request) -> Response:
        text = await asyncio.to_thread((STATIC / "index.html").read_text, "utf-8")
        return Response(text, media_type="text/html")

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        stream = self._hub.subscribe(self._beginning)
        try:
            async for text in stream:
                yield text
        finally:
            await stream.aclose()  # type: ignore[attr-defined]

    def _beginning(self) -> list[str]:
        whole = self._dashboard_state.whole(wall_ms()) | {"control": self._act is not None}
        return ["retry: 1000\n\n", encode("snapshot", whole)]

    async def beat(self) -> None:
        """A sign of life to every page, by which it knows a dead connection. Never returns."""
        while True:
            self._hub.publish("beat", {"now": wall_ms()})
            await asyncio.sleep(_HEARTBEAT_S)

    async def _state(self, request: Request) -> Response:
        """?event=N: right after that event; ?at=MS: at that moment."""
        history = self._dashboard_state.history
        number, at = request.query_params.get("event"), request.query_params.get("at")
        if number is not None and _is_whole(number):
            event = next((e for e in history.events if e.number == int(number)), None)
            if event is None:
                return _refused(404, f"event {number} is not kept, or no longer")
            return JSONResponse(
                self._dashboard_state.past(history.after(event.number), event.at_ms)
            )
        if at is not None and _is_whole(at):
            return JSONResponse(self._dashboard_state.past(history.at(int(at)), int(at)))
        return _refused(400, "expected ?event=NUMBER or ?at=MILLISECONDS")

    async def _offsets(self, request: Request) -> Response:
        topic, partition = request.query_params.get("topic"), request.query_params.get("partition")
        if not topic or partition is None or not _is_whole(partition):
            return _refused(400, "expected ?topic=NAME&partition=NUMBER")
        return JSONResponse(self._dashboard_state.series(TopicPartition(topic, int(partition))))

    async def _control(self, request: Request) -> Response:
        if self._act is None or self._token is None:
            return _refused(403, "this dashboard was started without --control")
        refusal = self._why_not(request, self._token)
        if refusal:
            return _refused(403, refusal)
        body = await _body(request)
        target = body.get("target") if isinstance(body, dict) else None
        if not isinstance(target, str) or len(target) > 249:
            return _refused(400, 'expected {"target": "…"}')
        try:
            return JSONResponse({"said": await self._act(request.path_params["action"], target)})
        except UsageError as error:
            return _refused(400, error.message)
        except MinikafkaError as error:
            return _refused(409, error.message)

    def _why_not(self, request: Request, token: str) -> str:
        """Why this request may change nothing; empty if it may."""
        headers = request.headers
        own = f"http://{headers.get('host', '')}"
        if headers.get("origin") != own:
            return "the request comes from another site, or does not say where from (Origin)"
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "the request comes from another site (Sec-Fetch-Site)"
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return "expected application/json"
        given = headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            return "the token is missing or of another run: open the link that the command printed"
        return ""


async def _body(request: Request) -> Any:
    """The JSON of a request; None if it is none, too much, or too slow."""
    raw = b""
    try:
        async with asyncio.timeout(_BODY_PATIENCE_S):
            async for piece in request.stream():
                raw += piece
                if len(raw) > _LONGEST_BODY:
                    return None
        return json.loads(raw)
    except (ValueError, RecursionError, TimeoutError):
        return None  # nested thousands deep is no JSON that anybody needs


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,15}", text) is not None


def _refused(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status)
