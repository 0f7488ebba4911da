"""A connection that has no name yet: what it may send, and what it costs (security.md, S4 and A2).

    Authenticating   on SASL_PLAINTEXT and SASL_SSL: the bytes of security/sasl.py's machine
    ByCertificate    on SSL: the name is the certificate's, or ANONYMOUS where none was shown

Once there is a name the transport is given to a Connection, with what has arrived beyond. Until
then no handler is reached. A frame is MAX_FRAME_BYTES at most, or what the mechanism may take for a
token; there are MAX_FRAMES of them; all is over after MAX_S. `_buffer` holds what has arrived of
frames that are not complete, never what their lengths claim.

Who fails is told so at once, and closed upon after a while (connection.failed.authentication.delay
.ms), not reading: who guesses passwords guesses slowly. Not more than MAX_DELAYED wait like that.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic, time
from typing import Protocol, cast

from minikafka.api.features import Features
from minikafka.kafka import api_versions, sasl_messages
from minikafka.kafka.acceptor import Newcomer, ServedListener
from minikafka.kafka.apis import APIS, SASL, ApiKey, find
from minikafka.kafka.frames import what_it_may_be
from minikafka.kafka.wire import HEADER, INT32, MalformedRequestError, Reader
from minikafka.security.principal import ANONYMOUS, Caller, Principal
from minikafka.security.sasl import Exchange, HandshakeAnswer, Nothing, State, TokenAnswer

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 8 * 1024
MAX_FRAMES = 10
MAX_S = 15.0
MAX_DELAYED = 1_000
_OVERHEAD_BYTES = 512  # of a frame with a token


class LobbyService(Protocol):
    """What those without a name call (server.py)."""

    @property
    def cluster_features(self) -> Features | None: ...
    def open(
        self, newcomer: Unproved, caller: Caller, exchange: Exchange | None
    ) -> asyncio.Protocol:
        """The Connection that takes over."""

    def on_failed(self, newcomer: Unproved, reason: str) -> float:
        """It has proved nothing. After how many seconds it is to be closed."""

    def on_lost(self, newcomer: Unproved) -> None:
        """It has ended before it had a name. Nothing for one that has ended already."""


def now_ms() -> int:
    return int(monotonic() * 1000)


class Unproved(Newcomer):
    """See the module. Counts as a connection (admission.py) that is never idle: its time is bounded
    anyhow."""

    idle = False

    def __init__(
        self, lobby: LobbyService, listener: ServedListener, host: str, number: int
    ) -> None:
        self._lobby = lobby
        self.listener = listener
        self.host = host
        self.number = number
        self.last_active_s = monotonic()
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(MAX_S, self._fail, f"no name after {MAX_S:.0f} s")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.abandon()

    def abandon(self) -> None:
        self._timer.cancel()
        self._lobby.on_lost(self)

    def close(self, reason: str = "") -> None:
        if reason:
            log.info("closing the connection of %s: %s", self.host, reason)
        if self._transport is not None:
            self._transport.abort()
        elif self.establishing is not None:
            self.establishing.cancel()

    def _fail(self, reason: str) -> None:
        """Nothing more is read of it."""
        self._timer.cancel()
        delay_s = self._lobby.on_failed(self, reason)
        if self._transport is None or not delay_s:
            self.close()
            return
        self._transport.pause_reading()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.close)

    def _open(self, principal: Principal, exchange: Exchange | None, rest: bytes) -> None:
        transport = self._transport
        assert transport is not None
        self._timer.cancel()
        proved = None if exchange is None else exchange.authenticated
        by_token = proved is not None and proved.by_token
        caller = Caller(principal, self.host, self.listener.name, by_token)
        connection = self._lobby.open(self, caller, exchange)
        self._transport = None
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if rest:
            connection.data_received(rest)


class ByCertificate(Unproved):
    """`name_of(certificate)` is what is called with the peer's certificate in DER. ValueError: it
    has no name that is let in."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        principal = ANONYMOUS
        if shown is not None and self.listener.name_of is not None:
            try:
                principal = self.listener.name_of(shown)
            except ValueError as error:
                self._fail(str(error))
                return
        self._open(principal, None, b"")


class Authenticating(Unproved):
    """State: the machine, what has arrived of the next frame, and how many frames there were."""

    def __init__(
        self,
        lobby: LobbyService,
        listener: ServedListener,
        host: str,
        number: int,
        exchange: Exchange,
    ) -> None:
        super().__init__(lobby, listener, host, number)
        self._exchange = exchange
        self._buffer = b""
        self._frames = 0

    def data_received(self, data: bytes) -> None:
        if self._exchange.state is State.FAILED:
            return  # what was under way when it failed
        self._buffer += data
        try:
            while self._exchange.state not in (State.OPEN, State.FAILED):
                frame = self._next_frame()
                if frame is None:
                    return
                self._take(frame)
        except MalformedRequestError as error:
            self._exchange.on_other("what cannot be read")
            self._fail(str(error))
            return
        authenticated = self._exchange.authenticated
        if self._exchange.state is State.OPEN and authenticated is not None:
            rest, self._buffer = self._buffer, b""
            self._open(authenticated.principal, self._exchange, rest)
        else:
            self._fail(self._exchange.reason)

    def _next_frame(self) -> memoryview | None:
        if len(self._buffer) < INT32.size:
            return None
        size: int = INT32.unpack_from(self._buffer)[0]
        most = max(MAX_FRAME_BYTES, self._exchange.max_token_bytes + _OVERHEAD_BYTES)
        if not 0 <= size <= most:
            may_be = what_it_may_be(self._buffer)
            raise MalformedRequestError(
                f"a frame of {size} bytes before the authentication, {most} are read{may_be}"
            )
        end = INT32.size + size
        if len(self._buffer) < end:
            return None
        self._frames += 1
        if self._frames > MAX_FRAMES:
            raise MalformedRequestError(f"more than {MAX_FRAMES} frames before the authentication")
        frame, self._buffer = memoryview(self._buffer)[INT32.size : end], self._buffer[end:]
        return frame

    def _take(self, frame: memoryview) -> None:
        if self._exchange.state is State.RAW:
            answer = self._exchange.on_token(bytes(frame), now_ms(), int(time() * 1000))
            if isinstance(answer, TokenAnswer):
                self._send(answer.token)
            return
        reader = Reader(frame)
        key, version, correlation_id = reader.unpack(HEADER)
        head = INT32.pack(correlation_id)
        if key == ApiKey.API_VERSIONS:
            self._on_api_versions(version, head)
        elif key in SASL and _is_served(key, version):
            api = ApiKey(key)
            skip_client(reader, api, version)
            body = answer_sasl(self._exchange, api, version, reader)
            if body is not None:
                self._send(head + (b"\x00" if reader.flexible else b"") + body)
        else:
            self._exchange.on_other(_named(key, version))

    def _on_api_versions(self, version: int, head: bytes) -> None:
        served = _is_served(ApiKey.API_VERSIONS, version)
        if not self._exchange.on_api_versions(served=served):
            return
        if served:
            features = self._lobby.cluster_features
            self._send(head + api_versions.write_response(version, features=features))
        else:
            self._send(head + api_versions.write_unsupported())

    def _send(self, answer: bytes) -> None:
        assert self._transport is not None
        self._transport.write(INT32.pack(len(answer)) + answer)


# --- also of connections that have a name, and prove it again ------------------------------------


def skip_client(reader: Reader, api: ApiKey, version: int) -> None:
    """The rest of a request's header: who says to be the client, and tags."""
    reader.nullable_string()
    reader.flexible = version >= APIS[api].first_flexible
    reader.tags()


def answer_sasl(exchange: Exchange, api: ApiKey, version: int, reader: Reader) -> bytes | None:
    """The body of the answer; None if nothing is to be said."""
    answer: HandshakeAnswer | TokenAnswer | Nothing
    if api is ApiKey.SASL_HANDSHAKE:
        mechanism = sasl_messages.read_handshake(reader)
        answer = exchange.on_handshake(version, mechanism, now_ms())
    else:
        token = sasl_messages.read_authenticate(reader)
        answer = exchange.on_token(token, now_ms(), int(time() * 1000))
    match answer:
        case HandshakeAnswer():
            return sasl_messages.write_handshake(answer)
        case TokenAnswer():
            return sasl_messages.write_authenticate(version, answer)
        case Nothing():
            return None


def _is_served(key: int, version: int) -> bool:
    served = find(key)
    return served is not None and served.min_version <= version <= served.max_version


def _named(key: int, version: int) -> str:
    if find(key) is None:
        return f"the API {key}"
    return f"{ApiKey(key).name} version {version}"
