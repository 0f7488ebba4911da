"""The keys of one broker: of each door that speaks TLS, and of its calls to other brokers.

Files that are replaced are looked at every LOOK_S, and when a person asks for it (SIGHUP).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from minikafka.config import BrokerConfig
from minikafka.config.listeners import GRPC
from minikafka.config.tls import ClientAuth, tls_settings
from minikafka.errors import UsageError
from minikafka.rpc.credentials import CertificateCallers, ChannelCredentials, ChannelTls, ServerTls
from minikafka.security.mapping import PrincipalMapping
from minikafka.security.principal import Principal
from minikafka.tls import ReloadingContext, TlsFiles

logger = logging.getLogger(__name__)

LOOK_S = 10.0


class Keys:
    """Blocks while it is made: the files are read. UsageError if they do not do. `now_ms` since
    1970. What a door does not need is None."""

    def __init__(self, config: BrokerConfig, now_ms: Callable[[], int]) -> None:
        self._contexts: dict[str, ReloadingContext] = {}
        self._names: dict[str, Callable[[bytes], Principal]] = {}
        for listener in config.listeners or ():
            settings = config.tls_of(listener.name)
            if settings is None:
                continue
            self._contexts[listener.name] = ReloadingContext(
                settings, now_ms, server=True, name=f"listener {listener.name}"
            )
            sasl = config.protocol_of(listener.name).asks_by_sasl
            if settings.client_auth is not ClientAuth.NONE and not sasl:
                mapping = PrincipalMapping(settings.mapping_rules)
                self._names[listener.name] = mapping.of_certificate
        self.server: ServerTls | None = None
        self.callers: CertificateCallers | None = None
        self._channel: ChannelTls | None = None
        settings = config.tls_of(GRPC)
        if settings is not None:
            self.server = ServerTls(settings, now_ms)
            self.callers = CertificateCallers(PrincipalMapping(settings.mapping_rules))
            of_client = tls_settings(config.tls_texts(), server=False, listener=GRPC)
            self._channel = ChannelTls(of_client, now_ms)

    def context_of(self, listener: str) -> Callable[[], ssl.SSLContext] | None:
        """Gives the context for the next connection of a Kafka listener."""
        files = self._contexts.get(listener)
        return None if files is None else lambda: files.value

    def name_of(self, listener: str) -> Callable[[bytes], Principal] | None:
        """What a client's certificate makes of it there, where that is what names it."""
        return self._names.get(listener)

    @property
    def channel(self) -> Callable[[], ChannelCredentials] | None:
        """Gives the credentials of the next connection to another broker."""
        files = self._channel
        return None if files is None else lambda: files.value

    def files(self) -> list[TlsFiles[Any]]:
        more = [each for each in (self.server, self._channel) if each is not None]
        return [*self._contexts.values(), *more]

    async def look(self, *, asked: bool = False) -> None:
        """At all of them; `asked`: a person did. What cannot take over is in the log, and the old
        ones stay."""
        for each in self.files():
            try:
                await each.look(asked=asked)
            except (UsageError, OSError) as failure:
                logger.error("the old keys and trusted certificates stay: %s", failure)

    def duties(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [self._look_again] if self.files() else []

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()
