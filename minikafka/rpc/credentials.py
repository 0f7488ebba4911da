"""TLS for gRPC, and who makes a call.

A server's credentials ask for the newest keys at each handshake, so new files take over without a
word to anybody. A channel's credentials are fixed when it is made; `ChannelTls.value` are those for
the next one.

gRPC has its own OpenSSL, and less to choose than ssl.* properties say: TLS 1.2 and 1.3 with its own
suites, which are good ones; clients are asked for nothing or must show a certificate; the name of a
server is always checked. Other wishes are refused rather than passed over.

Whose call it is, only its context tells, which interceptors do not see: so each handler is wrapped
(`knowing`), and what it runs finds the caller by `current_caller`, in tasks that it starts as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from math import inf
from time import monotonic
from typing import Any, NoReturn, Protocol, TypeAlias, cast
from urllib.parse import unquote

import grpc
import grpc.aio

from minikafka.config.tls import (
    PROTOCOLS,
    SUITES_OF_TLS_1_2,
    SUITES_OF_TLS_1_3,
    ClientAuth,
    TlsSettings,
)
from minikafka.errors import UsageError
from minikafka.escaping import escaped
from minikafka.security.certificate import certificates_in_pem
from minikafka.security.mapping import PrincipalMapping
from minikafka.security.principal import ANONYMOUS, Caller, Principal, plain_address
from minikafka.tls import Material, TlsFiles, client_context, server_context

log = logging.getLogger(__name__)

LISTENER = "GRPC"
_OWN = f"listener.name.{LISTENER.lower()}."
NOT_KNOWN = "the certificate of this client names nobody whom this broker knows"
_MAX_KNOWN = 1_024
_SHOWN_CHARACTERS = 256
_TOLD_EVERY_S = 1.0


class CallContext(Protocol):
    """What is asked of a call."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...
    def peer(self) -> str: ...
    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn: ...


ChannelCredentials: TypeAlias = grpc.ChannelCredentials
CallerOf: TypeAlias = Callable[[CallContext], Caller]
Handle: TypeAlias = Callable[[Any, Any], Any]  # of grpc.aio: what it returns is awaited


# --- keys ----------------------------------------------------------------------------------------


class ServerTls(TlsFiles[grpc.ServerCertificateConfiguration]):
    """The keys of a server. UsageError for settings that gRPC cannot have."""

    def __init__(self, settings: TlsSettings, now_ms: Callable[[], int]) -> None:
        _check(settings)
        if settings.client_auth is ClientAuth.REQUESTED:
            raise UsageError(
                "ssl.client.auth=requested is not supported for GRPC: expected required or none "
                f"({_OWN}ssl.client.auth is for it alone)"
            )
        self._asks = settings.client_auth is ClientAuth.REQUIRED
        super().__init__(settings, _server_keys, now_ms, name=f"listener {LISTENER}")

    def credentials(self) -> grpc.ServerCredentials:
        """For one server; they follow `value` by themselves. gRPC builds all anew for whatever it
        is told, so what is new is said once."""
        given = self.value

        def news() -> grpc.ServerCertificateConfiguration | None:
            """Called at each handshake, in a thread of gRPC's. None: nothing new."""
            nonlocal given
            newest = self.value
            if newest is given:
                return None
            given = newest
            return newest

        # That it may answer None is not in its types.
        fetcher = cast(Callable[[], grpc.ServerCertificateConfiguration], news)
        return grpc.dynamic_ssl_server_credentials(given, fetcher, self._asks)


class ChannelTls(TlsFiles[grpc.ChannelCredentials]):
    """The keys of a client: `value` are the credentials of the next channel. UsageError for
    settings that gRPC cannot have."""

    def __init__(self, settings: TlsSettings, now_ms: Callable[[], int]) -> None:
        _check(settings)
        if not settings.check_hostname:
            raise UsageError(
                "ssl.endpoint.identification.algorithm is blank: gRPC always checks the name of a "
                f"server. Leave it out, or set {_OWN}ssl.endpoint.identification.algorithm=https"
            )
        super().__init__(settings, _channel_keys, now_ms, name="connections over gRPC")


def _check(settings: TlsSettings) -> None:
    """What holds for other listeners may not hold here: their properties come under this one's
    name, too."""
    if settings.protocols != PROTOCOLS:
        raise UsageError(
            "ssl.enabled.protocols cannot be chosen for gRPC: leave it out, or set "
            f"{_OWN}ssl.enabled.protocols={','.join(PROTOCOLS)}"
        )
    every = {*SUITES_OF_TLS_1_2, *SUITES_OF_TLS_1_3}
    if settings.cipher_suites is not None and set(settings.cipher_suites) != every:
        raise UsageError(
            "ssl.cipher.suites cannot be chosen for gRPC: leave it out, or name all that there are "
            f"in {_OWN}ssl.cipher.suites ({','.join(sorted(every))})"
        )


def _server_keys(material: Material) -> grpc.ServerCertificateConfiguration:
    server_context(material)  # finds what does not fit; gRPC would only tell its log
    key, trusted = material.plain_key, material.trusted_pem
    assert key is not None
    asks = material.settings.client_auth is not ClientAuth.NONE
    return grpc.ssl_server_certificate_configuration(
        [(key.reveal().encode(), material.chain.encode())],
        trusted.encode() if trusted is not None and asks else None,
    )


def _channel_keys(material: Material) -> grpc.ChannelCredentials:
    client_context(material)
    key, trusted = material.plain_key, material.trusted_pem
    return grpc.ssl_channel_credentials(
        None if trusted is None else trusted.encode(),
        None if key is None else key.reveal().encode(),
        None if key is None else material.chain.encode(),
    )


# --- callers -------------------------------------------------------------------------------------

_CALLER: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Of the call that is being served. LookupError where there is none: nobody is meant then, not
    anybody."""
    return _CALLER.get()


class CertificateCallers:
    """Who calls, by the certificate that TLS has believed; ANONYMOUS without one. Remembers whom
    certificates name, since each call shows one again: `_known`, bounded."""

    def __init__(self, mapping: PrincipalMapping, listener: str = LISTENER) -> None:
        self._mapping = mapping
        self._listener = listener
        self._known: dict[bytes, Principal] = {}

    def __call__(self, context: CallContext) -> Caller:
        """ValueError if a certificate names nobody."""
        shown = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        principal = ANONYMOUS if shown is None else self._principal(shown)
        return Caller(principal, address_of(context.peer()), self._listener)

    def _principal(self, pem: bytes) -> Principal:
        known = self._known.get(pem)
        if known is None:
            (der, *_) = certificates_in_pem(pem.decode("ascii"))
            known = self._mapping.of_certificate(der)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[pem] = known
        return known


def address_of(peer: str) -> str:
    """The address of a peer as gRPC names it (`ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`), in its
    plain form; empty if it has none (a Unix socket)."""
    kind, _, address = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    host = unquote(address).rpartition(":")[0].strip("[]")
    return str(plain_address(host))


class Refusals:
    """Tells the log who was refused: each address once in a second, however often it asks; and how
    many were, `count`. `_told_s`: by address, when; bounded."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self.count = 0
        self._now_s = now_s
        self._told_s: dict[str, float] = {}

    def tell(self, peer: str, why: ValueError) -> None:
        self.count += 1
        now_s, address = self._now_s(), address_of(peer)
        if now_s - self._told_s.get(address, -inf) < _TOLD_EVERY_S:
            return
        if len(self._told_s) >= _MAX_KNOWN:
            self._told_s.clear()
        self._told_s[address] = now_s
        log.info("a client at %s is refused: %s", peer, escaped(str(why)[:_SHOWN_CHARACTERS]))


def knowing(caller_of: CallerOf, handle: Handle, refusals: Refusals) -> Handle:
    """`handle`, in whose run `current_caller` tells who calls. Who cannot be named is refused."""

    async def handle_knowing(request: Any, context: CallContext) -> Any:
        try:
            caller = caller_of(context)
        except ValueError as failure:
            refusals.tell(context.peer(), failure)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, NOT_KNOWN)
        token = _CALLER.set(caller)
        try:
            return await handle(request, context)
        finally:
            _CALLER.reset(token)

    return handle_knowing
