"""The machine before the name: every row of its table, and what is in none."""

from __future__ import annotations

import pickle

import pytest

from minikafka.security.jaas import parse_jaas
from minikafka.security.mechanism import Authenticated, Challenge, Failed, MechanismKind, Step
from minikafka.security.plain import PlainServer
from minikafka.security.principal import Principal
from minikafka.security.sasl import (
    Exchange,
    HandshakeAnswer,
    Nothing,
    State,
    TokenAnswer,
)
from minikafka.security.secret import Secret

ALICE, BOB = Principal("User", "alice"), Principal("User", "bob")
NAMES = ("PLAIN", "TWO-STEP")
WALL_MS = 1_000_000


class TwoSteps:
    """`who`, then `who@expiry`."""

    def __init__(self) -> None:
        self._asked = False

    def step(self, token: bytes) -> Step:
        if not self._asked:
            self._asked = True
            return Challenge(b"and?")
        name, _, expiry = token.decode().partition("@")
        expires_ms = int(expiry) if expiry else None
        return Authenticated(Principal("User", name), b"well", expires_ms)


class Wrong:
    def step(self, token: bytes) -> Step:
        return Failed("no", f"not {token!r}")


def exchange(max_reauth_ms: int = 0) -> Exchange:
    kinds = (
        MechanismKind("PLAIN", 100, lambda: PlainServer({"alice": Secret("secret")})),
        MechanismKind("TWO-STEP", 10, TwoSteps),
    )
    return Exchange({kind.name: kind for kind in kinds}, max_reauth_ms)


def opened(max_reauth_ms: int = 0, token: bytes = b"alice") -> Exchange:
    made = exchange(max_reauth_ms)
    assert made.on_api_versions(served=True)
    assert made.on_handshake(1, "TWO-STEP", 0) == HandshakeAnswer(0, NAMES)
    assert made.on_token(b"x", 0, WALL_MS) == TokenAnswer(token=b"and?")
    answer = made.on_token(token, 0, WALL_MS)
    assert isinstance(answer, TokenAnswer)
    assert (made.state, answer.error) == (State.OPEN, 0)
    return made


def test_the_usual_way() -> None:
    made = exchange()
    assert (made.state, made.max_token_bytes, made.mechanism_name) == (State.START, 0, "")
    assert made.on_api_versions(served=True)
    assert made.state.name == "HANDSHAKE"
    assert made.on_handshake(1, "PLAIN", 0) == HandshakeAnswer(0, NAMES)
    assert (made.state, made.max_token_bytes) == (State.TOKENS, 100)
    assert made.on_token(b"\0alice\0secret", 0, WALL_MS) == TokenAnswer()
    assert made.state is State.OPEN
    assert made.authenticated == Authenticated(ALICE)
    assert not made.is_over(10**15)
    assert made.on_api_versions(served=True)
    assert made.state is State.OPEN


def test_api_versions_may_be_asked_in_vain_and_need_not_be() -> None:
    made = exchange()
    assert made.on_api_versions(served=False)
    assert made.on_api_versions(served=False)
    assert made.state is State.START
    assert made.on_handshake(1, "PLAIN", 0) == HandshakeAnswer(0, NAMES)


@pytest.mark.parametrize("state", ["handshake", "tokens", "raw", "failed"])
def test_api_versions_come_once(state: str) -> None:
    made = exchange()
    made.on_api_versions(served=True)
    if state != "handshake":
        made.on_handshake(0 if state == "raw" else 1, "PLAIN", 0)
    if state == "failed":
        made.on_other("Metadata")
    assert not made.on_api_versions(served=True)
    assert made.state is State.FAILED


@pytest.mark.parametrize("version", [0, 1])
def test_a_mechanism_that_is_not_offered(version: int) -> None:
    made = exchange()
    assert made.on_handshake(version, "GSSAPI", 0) == HandshakeAnswer(33, NAMES)
    assert made.state is State.FAILED
    assert made.reason == "the mechanism GSSAPI is not offered"
    assert isinstance(made.on_handshake(version, "PLAIN", 0), Nothing)


@pytest.mark.parametrize("version", [0, 1])
def test_a_handshake_while_one_is_under_way(version: int) -> None:
    made = exchange()
    made.on_handshake(version, "PLAIN", 0)
    assert isinstance(made.on_handshake(version, "PLAIN", 0), Nothing)
    assert made.state is State.FAILED


def test_bare_tokens_follow_the_old_handshake() -> None:
    made = exchange()
    made.on_handshake(0, "TWO-STEP", 0)
    assert made.state.name == "RAW"
    assert made.on_token(b"x", 0, WALL_MS) == TokenAnswer(token=b"and?")
    assert made.on_token(b"alice", 0, WALL_MS) == TokenAnswer(token=b"well")
    assert made.state is State.OPEN


def test_a_failure_is_told_over_the_new_form_and_not_over_the_old() -> None:
    told = TokenAnswer(58, "Authentication failed: Invalid username or password")
    for version, expected in [(1, told), (0, Nothing("wrong password of 'alice'"))]:
        made = exchange()
        made.on_handshake(version, "PLAIN", 0)
        assert made.on_token(b"\0alice\0guess", 0, WALL_MS) == expected
        assert (made.state, made.reason) == (State.FAILED, "wrong password of 'alice'")
        assert made.authenticated is None
        assert isinstance(made.on_token(b"\0alice\0secret", 0, WALL_MS), Nothing)
        assert made.authenticated is None


def test_a_long_token_is_not_looked_at() -> None:
    made = exchange()
    made.on_handshake(1, "TWO-STEP", 0)
    assert made.on_token(b"x" * 11, 0, WALL_MS) == TokenAnswer(58, "The token is too long")
    assert made.state is State.FAILED


@pytest.mark.parametrize("asked", [False, True])
def test_no_other_request_is_served(asked: bool) -> None:
    made = exchange()
    if asked:
        made.on_api_versions(served=True)
    assert made.on_other("Produce") == Nothing("Produce before the authentication")
    assert made.state is State.FAILED
    early = exchange()
    assert isinstance(early.on_token(b"\0alice\0secret", 0, WALL_MS), Nothing)
    assert early.state is State.FAILED


# --- again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_reauth_ms", "token", "lifetime_ms"),
    [(0, b"alice", 0), (500, b"alice", 500), (0, b"a@1000300", 300), (200, b"a@1000300", 200)],
)
def test_the_least_lifetime_counts(max_reauth_ms: int, token: bytes, lifetime_ms: int) -> None:
    made = exchange(max_reauth_ms)
    made.on_handshake(1, "TWO-STEP", 0)
    made.on_token(b"x", 0, WALL_MS)
    assert made.on_token(token, 7, WALL_MS) == TokenAnswer(token=b"well", lifetime_ms=lifetime_ms)
    assert made.is_over(7 + lifetime_ms) is (lifetime_ms > 0)
    assert not made.is_over(6 + lifetime_ms)


def test_what_has_expired_proves_nothing() -> None:
    made = exchange()
    made.on_handshake(1, "TWO-STEP", 0)
    made.on_token(b"x", 0, WALL_MS)
    assert made.on_token(b"a@1000000", 0, WALL_MS) == TokenAnswer(58, "The credential has expired")
    assert made.state is State.FAILED
    assert made.authenticated is None


def test_who_has_to_proves_it_again_as_who_they_are() -> None:
    made = opened(10_000)
    assert made.on_handshake(1, "TWO-STEP", 9_000) == HandshakeAnswer(0, NAMES)
    assert made.on_token(b"x", 9_000, WALL_MS) == TokenAnswer(token=b"and?")
    answer = made.on_token(b"alice", 9_000, WALL_MS)
    assert answer == TokenAnswer(token=b"well", lifetime_ms=10_000)
    assert not made.is_over(18_999)
    assert made.is_over(19_000)


def test_nobody_becomes_another() -> None:
    made = opened(10_000)
    made.on_handshake(1, "TWO-STEP", 9_000)
    made.on_token(b"x", 9_000, WALL_MS)
    answer = made.on_token(b"bob", 9_000, WALL_MS)
    assert answer == TokenAnswer(58, "Cannot change principals during re-authentication")
    assert made.state is State.FAILED
    made = opened(10_000)
    assert made.on_handshake(1, "PLAIN", 9_000) == HandshakeAnswer(33, NAMES)
    assert made.state is State.FAILED


def test_who_need_not_may_not() -> None:
    for made, version, now_ms in [
        (opened(), 1, 9_000),
        (opened(10_000), 0, 9_000),
        (opened(10_000), 1, 999),
    ]:
        assert made.on_handshake(version, "TWO-STEP", now_ms) == HandshakeAnswer(34, NAMES)
        answer = made.on_token(b"x", now_ms, WALL_MS)
        assert isinstance(answer, TokenAnswer)
        assert answer.error == 34
        assert made.state is State.OPEN
        assert made.authenticated is not None


# --- PLAIN ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "not authzid"),
        (b"alice\0secret", "not authzid"),
        (b"\0alice\0secret\0", "not authzid"),
        (b"\0\0secret", "empty"),
        (b"\0alice\0", "empty"),
        (b"\0mallory\0secret", "there is no user 'mallory'"),
        (b"\0alice\0guess", "wrong password of 'alice'"),
        (b"bob\0alice\0secret", "'alice' asks to act for another"),
        (b"bob\0alice\0guess", "wrong password of 'alice'"),
        (b"\xff\0alice\0secret", "UTF-8"),
    ],
)
def test_plain_refuses(token: bytes, reason: str) -> None:
    users = {"alice": Secret("secret"), "bob": Secret("")}
    step = PlainServer(users).step(token)
    assert isinstance(step, Failed)
    assert step.told == "Authentication failed: Invalid username or password"
    assert reason in step.reason


def test_plain_takes() -> None:
    users = {"alice": Secret("sécret\n")}
    for authzid in ("", "alice"):
        server = PlainServer(users)
        token = f"{authzid}\0alice\0sécret\n".encode()
        assert server.step(token) == Authenticated(ALICE)
        assert isinstance(server.step(token), Failed)


# --- the configuration's text --------------------------------------------------------------------

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


def test_jaas_is_read() -> None:
    login = parse_jaas(f' {_PLAIN} required\n username="a\\"b" password=secret user_bob="x y"; ')
    assert login.module == "PLAIN"
    assert {name: each.reveal() for name, each in login.options.items()} == {
        "username": 'a"b',
        "password": "secret",
        "user_bob": "x y",
    }
    assert {name: each.reveal() for name, each in login.users.items()} == {"bob": "x y"}
    assert "secret" not in repr(login)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{_PLAIN} required",
        f"{_PLAIN};",
        f"{_PLAIN} hunter2;",
        "evil.Module required hunter2=x;",
        f"{_PLAIN} required password=hunter2",
        f'{_PLAIN} required password="hunter2;',
        f'{_PLAIN} required password="hunter2" x;',
        f'{_PLAIN} required password="hunter2" = ;',
        f'{_PLAIN} required password="hunter2" password="hunter2";',
        f"{_PLAIN} required password='hunter2';",
    ],
)
def test_what_is_no_jaas_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"sasl\.jaas\.config|login module") as caught:
        parse_jaas(text)
    assert "hunter2" not in str(caught.value)


# --- secrets -------------------------------------------------------------------------------------


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("hunter2")
    shown = f"{secret} {secret!r} {secret!s} {secret:>10} {[secret]} {{'a': secret}}"
    assert "hunter2" not in shown
    assert "hunter2" not in f"{secret} {secret!r}"
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2") != Secret("hunter3")
    assert secret != "hunter2"
    assert hash(secret) == hash(Secret("hunter2"))
    assert bool(secret)
    assert not Secret("")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
