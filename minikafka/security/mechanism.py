"""What a SASL mechanism is to who drives it (sasl.py): bytes of the client in, a step out.

A mechanism has one text for all of its failures, whatever the reason: what a client is told must
not depend on whether there is such a user. The reason is for our own log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from minikafka.security.principal import Principal


@dataclass(frozen=True, slots=True)
class Challenge:
    """Not done: the client is to answer this."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Proved. `token` goes to the client. `expires_ms` is wall-clock time, None: never.
    `by_token`: by a delegation token."""

    principal: Principal
    token: bytes = b""
    expires_ms: int | None = None
    by_token: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Not proved. `told` is for the client, `reason` for the log."""

    told: str
    reason: str


Step = Challenge | Authenticated | Failed


class Mechanism(Protocol):
    """One exchange. It is over once a step is Authenticated or Failed."""

    def step(self, token: bytes) -> Step: ...


@dataclass(frozen=True, slots=True)
class MechanismKind:
    """A mechanism that a listener offers. `max_token_bytes` bounds what a client may send in one
    token before it has proved anything."""

    name: str
    max_token_bytes: int
    begin: Callable[[], Mechanism]
