"""What the Kafka door listens on, and how names are proved there, by the configuration."""

from __future__ import annotations

import logging
import secrets

from minikafka.app.keys import Keys
from minikafka.broker.access.access import Access
from minikafka.broker.access.users import UserCache
from minikafka.config import BrokerConfig
from minikafka.config.listeners import GRPC
from minikafka.config.properties import is_loopback
from minikafka.kafka.acceptor import ServedListener
from minikafka.security import plain, scram
from minikafka.security.jaas import parse_jaas
from minikafka.security.mechanism import MechanismKind
from minikafka.security.secret import Secret

logger = logging.getLogger(__name__)

_NONCE_BYTES = 24


def served_listeners(
    config: BrokerConfig, access: Access | None, keys: Keys
) -> list[ServedListener]:
    """In the order of `listeners`. `access`: the broker's, which knows SCRAM's users."""
    return [
        ServedListener(
            each.name,
            each.host,
            each.port,
            config.protocol_of(each.name),
            tls=keys.context_of(each.name),
            name_of=keys.name_of(each.name),
            mechanisms=_mechanisms(config, each.name, access),
            max_reauth_ms=config.of_listener(each.name, "connections.max.reauth.ms"),
        )
        for each in config.listeners or ()
    ]


def warn_of_what_is_open(config: BrokerConfig) -> None:
    """What others could read, or come in by, who are not on this machine."""
    for each in config.listeners or ():
        if is_loopback(each.host):
            continue
        encrypts = config.protocol_of(each.name).encrypts
        if not config.asks_names(each.name):
            logger.warning("%s is open to whoever reaches it: it asks for no names", each)
        elif not encrypts and plain.NAME in config.mechanisms_of(each.name):
            logger.warning("%s: PLAIN shows passwords to whoever can listen in between", each)
    if not is_loopback(config.grpc_listener.host) and config.tls_of(GRPC) is None:
        logger.warning("gRPC at %s is open to whoever reaches it", config.grpc_listener)


def _mechanisms(
    config: BrokerConfig, listener: str, access: Access | None
) -> dict[str, MechanismKind] | None:
    """Those that a listener offers; None if it asks for no proof."""
    if not config.protocol_of(listener).asks_by_sasl:
        return None
    kinds: dict[str, MechanismKind] = {}
    for name in config.mechanisms_of(listener):
        if name == plain.NAME:
            kinds[name] = _plain(config, listener)
        else:
            assert access is not None
            assert access.users is not None
            kinds[name] = _scram(scram.HASHES[name], access.users)
    return kinds


def _plain(config: BrokerConfig, listener: str) -> MechanismKind:
    jaas: Secret = config.of_listener(listener, "sasl.jaas.config", plain.NAME)
    users = parse_jaas(jaas.reveal()).users
    return MechanismKind(plain.NAME, plain.MAX_TOKEN_BYTES, lambda: plain.PlainServer(users))


def _scram(kind: scram.Hash, users: UserCache) -> MechanismKind:
    def begin() -> scram.ScramServer:
        return scram.ScramServer(kind, users.users(kind), secrets.token_urlsafe(_NONCE_BYTES))

    return MechanismKind(kind.name, scram.MAX_TOKEN_BYTES, begin)
