"""What a connection may do before it has a name, and how it gets one (KIP-43, 152, 368).

    state      | what comes                        | what is said                    | then
    -----------|-----------------------------------|---------------------------------|----------
    START      | ApiVersions, served               | the table                       | HANDSHAKE
               | ApiVersions, of another version   | UNSUPPORTED_VERSION             | START
    START,     | SaslHandshake 0, of a mechanism   | the mechanisms                  | RAW
    HANDSHAKE  | SaslHandshake 1, of a mechanism   | the mechanisms                  | TOKENS
               | SaslHandshake, of another         | UNSUPPORTED_SASL_MECHANISM      | FAILED
    RAW        | bytes                             | the mechanism's                 | RAW, OPEN
    TOKENS     | SaslAuthenticate                  | the mechanism's, a lifetime     | TOKENS, OPEN
    RAW/TOKENS | what proves nothing               | – / SASL_AUTHENTICATION_FAILED  | FAILED
    OPEN       | SaslHandshake, to prove it again  | the mechanisms                  | TOKENS
               | SaslHandshake otherwise           | ILLEGAL_SASL_STATE              | OPEN
               | SaslAuthenticate                  | ILLEGAL_SASL_STATE              | OPEN
    any but it | anything else                     | –                               | FAILED

Who is FAILED is closed, after what is said and a while. Who proves again stays who they were, by
the same mechanism. Times are arguments, in ms: `now_ms` of a clock that does not jump, `wall_ms` of
the one that credentials expire by.

Pure: no bytes of Kafka's protocol; kafka/authenticating.py reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from minikafka.security.mechanism import (
    Authenticated,
    Challenge,
    Failed,
    Mechanism,
    MechanismKind,
    Step,
)

UNSUPPORTED_SASL_MECHANISM = 33
ILLEGAL_SASL_STATE = 34
SASL_AUTHENTICATION_FAILED = 58
AGAIN_AFTER_MS = 1_000  # nobody proves it more often


class State(Enum):
    START = "start"
    HANDSHAKE = "handshake"
    RAW = "raw"
    TOKENS = "tokens"
    OPEN = "open"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HandshakeAnswer:
    error: int
    mechanisms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """`lifetime_ms`: 0 where a proof is good for ever. `told` is null but for an error."""

    error: int = 0
    told: str | None = None
    token: bytes = b""
    lifetime_ms: int = 0


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing is said. `reason` is for the log."""

    reason: str


class Exchange:
    """One connection. `mechanisms`: what the listener offers; `max_reauth_ms`: after what time at
    most a proof is made again, 0: never."""

    def __init__(self, mechanisms: Mapping[str, MechanismKind], max_reauth_ms: int = 0) -> None:
        self._mechanisms = mechanisms
        self._max_reauth_ms = max_reauth_ms
        self._kind: MechanismKind | None = None
        self._mechanism: Mechanism | None = None
        self._began_ms = 0
        self._good_until_ms: int | None = None
        self.state = State.START
        self.authenticated: Authenticated | None = None
        self.reason = ""  # of a failure, for the log

    def opened(self) -> Exchange:
        """Of a connection that need not prove anything: whatever it asks for comes too late."""
        self.state = State.OPEN
        return self

    # --- what is asked ---

    @property
    def max_token_bytes(self) -> int:
        """How much the next token may have."""
        return 0 if self._kind is None else self._kind.max_token_bytes

    @property
    def mechanism_name(self) -> str:
        return "" if self._kind is None else self._kind.name

    def is_over(self, now_ms: int) -> bool:
        """Is the proof not good any more?"""
        return self._good_until_ms is not None and now_ms >= self._good_until_ms

    # --- what comes ---

    def on_api_versions(self, *, served: bool) -> bool:
        """Whether it is answered."""
        if self.state is State.OPEN:
            return True
        if self.state is not State.START:
            self._fail("ApiVersions comes first, and once")
            return False
        if served:
            self.state = State.HANDSHAKE
        return True

    def on_handshake(self, version: int, mechanism: str, now_ms: int) -> HandshakeAnswer | Nothing:
        names = tuple(self._mechanisms)
        if self.state is State.OPEN:
            if not self._may_prove_again(version, now_ms):
                return HandshakeAnswer(ILLEGAL_SASL_STATE, names)
            assert self._kind is not None
            if mechanism != self._kind.name:
                self._fail(f"it was {self._kind.name}, and cannot become {mechanism[:256]}")
                return HandshakeAnswer(UNSUPPORTED_SASL_MECHANISM, names)
        elif self.state not in (State.START, State.HANDSHAKE):
            return self._fail("a SaslHandshake while one is under way")
        kind = self._mechanisms.get(mechanism)
        if kind is None:
            self._fail(f"the mechanism {mechanism[:256]} is not offered")
            return HandshakeAnswer(UNSUPPORTED_SASL_MECHANISM, names)
        self._kind, self._mechanism, self._began_ms = kind, kind.begin(), now_ms
        self.state = State.RAW if version == 0 else State.TOKENS
        return HandshakeAnswer(0, names)

    def _may_prove_again(self, version: int, now_ms: int) -> bool:
        """Only who has to, over the form that has lifetimes, and not all the time."""
        return (
            version > 0
            and self._good_until_ms is not None
            and now_ms - self._began_ms >= AGAIN_AFTER_MS
        )

    def on_token(self, token: bytes, now_ms: int, wall_ms: int) -> TokenAnswer | Nothing:
        """Of SaslAuthenticate, or, after a handshake of version 0, by itself."""
        if self.state is State.OPEN:
            return TokenAnswer(ILLEGAL_SASL_STATE, "SaslAuthenticate comes after SaslHandshake")
        if self.state not in (State.RAW, State.TOKENS):
            return self._fail("a token comes after SaslHandshake")
        assert self._kind is not None
        assert self._mechanism is not None
        if len(token) > self._kind.max_token_bytes:
            return self._refuse(f"a token of {len(token)} bytes", "The token is too long")
        return self._on_step(self._mechanism.step(token), now_ms, wall_ms)

    def on_other(self, what: str) -> Nothing:
        """Any other request, of one who has no name. Its body is not read."""
        return self._fail(f"{what} before the authentication")

    # --- what becomes of it ---

    def _on_step(self, step: Step, now_ms: int, wall_ms: int) -> TokenAnswer | Nothing:
        match step:
            case Challenge(token):
                return TokenAnswer(token=token)
            case Failed(told, reason):
                return self._refuse(reason, told)
            case Authenticated():
                return self._on_authenticated(step, now_ms, wall_ms)

    def _on_authenticated(
        self, found: Authenticated, now_ms: int, wall_ms: int
    ) -> TokenAnswer | Nothing:
        before = self.authenticated
        if before is not None and before.principal != found.principal:
            reason = f"it was {before.principal}, and cannot become {found.principal}"
            return self._refuse(reason, "Cannot change principals during re-authentication")
        lifetimes_ms = [self._max_reauth_ms] if self._max_reauth_ms else []
        if found.expires_ms is not None:
            lifetimes_ms.append(found.expires_ms - wall_ms)
        lifetime_ms = min(lifetimes_ms, default=0)
        if lifetimes_ms and lifetime_ms <= 0:
            return self._refuse("the credential has expired", "The credential has expired")
        self.authenticated = found
        self._good_until_ms = now_ms + lifetime_ms if lifetimes_ms else None
        self._mechanism = None
        self.state = State.OPEN
        return TokenAnswer(token=found.token, lifetime_ms=lifetime_ms)

    def _refuse(self, reason: str, told: str) -> TokenAnswer | Nothing:
        raw = self.state is State.RAW
        nothing = self._fail(reason)
        return nothing if raw else TokenAnswer(SASL_AUTHENTICATION_FAILED, told)

    def _fail(self, reason: str) -> Nothing:
        self.state, self.reason, self._mechanism = State.FAILED, reason, None
        return Nothing(reason)
