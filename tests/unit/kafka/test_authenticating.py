"""Connections without a name: how they get one, and what they may do and cost until then.

Over real sockets; who logs in says its bytes itself."""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from datetime import timedelta
from typing import Any

import pytest

from minikafka.kafka import authenticating, lobby
from minikafka.kafka.acceptor import ServedListener
from minikafka.kafka.apis import APIS, ApiKey
from minikafka.model import SecurityProtocol
from minikafka.security import plain, scram
from minikafka.security.mechanism import MechanismKind
from minikafka.security.principal import Caller, Principal
from minikafka.security.secret import Secret
from tests.helpers.waiting import until
from tests.unit.kafka.conftest import Client, Ground

USERS = {"alice": Secret("wonderland"), "bob": Secret("builder")}
PLAIN = MechanismKind(plain.NAME, plain.MAX_TOKEN_BYTES, lambda: plain.PlainServer(USERS))
KEYS = scram.credential_for(scram.SHA_256, "wonderland", b"salt" * 6, 4096)


def find(user: str, by_token: bool) -> scram.Found | None:
    return scram.Found(KEYS, Principal("User", user)) if user == "alice" and not by_token else None


SCRAM = MechanismKind(
    scram.SHA_256.name,
    scram.MAX_TOKEN_BYTES,
    lambda: scram.ScramServer(scram.SHA_256, scram.Users(find, b"decoy"), secrets.token_hex(12)),
)
RIGHT = b"\0alice\0wonderland"
WRONG = b"\0alice\0builder"
NOTHING: dict[str, Any] = {"topics": []}
CLIENT = {"client_software_name": "test", "client_software_version": "1"}


class Doorway:
    """The server, and the callers for whom it has asked for a service."""

    def __init__(self, ground: Ground, port: int, callers: list[Caller]) -> None:
        self.ground, self.port, self.callers = ground, port, callers

    async def connect(self) -> Client:
        return await self.ground.connect(self.port)

    async def logged_in(self, token: bytes = RIGHT) -> Client:
        client = await self.connect()
        await handshake(client, "PLAIN")
        await authenticate(client, token)
        return client


async def handshake(client: Client, mechanism: str, version: int = 1) -> Any:
    return await client.ask(ApiKey.SASL_HANDSHAKE, version, {"mechanism": mechanism})


async def authenticate(client: Client, token: bytes, version: int = 2, error: int = 0) -> Any:
    response = await client.ask(ApiKey.SASL_AUTHENTICATE, version, {"auth_bytes": token})
    assert int(response.error_code) == error, response
    return response


async def opened(
    ground: Ground, max_reauth_ms: int = 0, mechanisms: tuple[MechanismKind, ...] = (PLAIN, SCRAM)
) -> Doorway:
    callers: list[Caller] = []

    def service_for(caller: Caller) -> Any:
        callers.append(caller)
        return ground.broker

    kinds = {each.name: each for each in mechanisms}
    listener = ServedListener(
        "INSIDE",
        "127.0.0.1",
        0,
        SecurityProtocol.SASL_PLAINTEXT,
        mechanisms=kinds,
        max_reauth_ms=max_reauth_ms,
    )
    ports = await ground.start_listeners([listener], service_for=service_for, failure_delay_ms=20)
    return Doorway(ground, ports["INSIDE"], callers)


def kept(ground: Ground) -> tuple[int, int]:
    """Connections, and those of them that have no name."""
    assert ground.listener is not None
    return ground.listener.connection_count, len(ground.listener._lobby)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("asks_first", [True, False])
async def test_a_password_gives_a_name(ground: Ground, version: int, asks_first: bool) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    if asks_first:
        response = await client.ask(ApiKey.API_VERSIONS, 3, CLIENT)
        assert len(response.api_keys) == len(APIS)
    assert doorway.callers == []
    told = await handshake(client, "PLAIN")
    assert (int(told.error_code), list(told.mechanisms)) == (0, ["PLAIN", "SCRAM-SHA-256"])
    await authenticate(client, RIGHT, version)
    assert doorway.callers == [Caller(Principal("User", "alice"), "127.0.0.1", "INSIDE")]
    await client.ask(ApiKey.METADATA, 5, NOTHING)
    assert kept(ground) == (1, 0)


async def test_scram_gives_a_name(ground: Ground) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    await handshake(client, "SCRAM-SHA-256")
    person = scram.ScramClient(scram.SHA_256, "alice", "wonderland", "nonce")
    first = await authenticate(client, person.first())
    final = await authenticate(client, person.final(first.auth_bytes))
    person.check(final.auth_bytes)
    assert [str(each.principal) for each in doorway.callers] == ["User:alice"]


async def test_tokens_may_come_without_a_frame_of_kafkas(ground: Ground) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    await handshake(client, "PLAIN", version=0)
    client.send_frame(RIGHT)
    assert await client.receive_frame() == b""
    await client.ask(ApiKey.METADATA, 5, NOTHING)


async def test_what_is_sent_behind_the_proof_is_served_afterwards(ground: Ground) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    client.send(ApiKey.SASL_HANDSHAKE, 1, {"mechanism": "PLAIN"})
    client.send(ApiKey.SASL_AUTHENTICATE, 1, {"auth_bytes": RIGHT})
    client.send(ApiKey.METADATA, 5, NOTHING)
    client.send(ApiKey.METADATA, 5, NOTHING)
    for api, version in [
        (ApiKey.SASL_HANDSHAKE, 1),
        (ApiKey.SASL_AUTHENTICATE, 1),
        (ApiKey.METADATA, 5),
        (ApiKey.METADATA, 5),
    ]:
        await client.receive(api, version)


async def test_it_may_come_byte_by_byte(ground: Ground) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    wire = bytearray()
    client.writer, writer = Recorder(wire), client.writer  # type: ignore[assignment]
    client.send(ApiKey.SASL_HANDSHAKE, 1, {"mechanism": "PLAIN"})
    client.send(ApiKey.SASL_AUTHENTICATE, 1, {"auth_bytes": RIGHT})
    client.send(ApiKey.METADATA, 5, NOTHING)
    client.writer = writer
    for byte in wire:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    await client.receive(ApiKey.SASL_HANDSHAKE, 1)
    await client.receive(ApiKey.SASL_AUTHENTICATE, 1)
    await client.receive(ApiKey.METADATA, 5)


class Recorder:
    def __init__(self, into: bytearray) -> None:
        self.write = into.extend


# --- no names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [WRONG, b"\0nobody\0x", b"\0\0", b"", b"x" * 1025, b"\xff\0a\0b"])
async def test_a_wrong_password_is_told_and_the_connection_is_closed(
    ground: Ground, token: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    await handshake(client, "PLAIN")
    response = await authenticate(client, token, error=58)
    assert response.error_message in (
        "Authentication failed: Invalid username or password",
        "The token is too long",
    )
    client.send(ApiKey.METADATA, 5, NOTHING)
    await client.receive_end()
    assert doorway.callers == []
    assert "INSIDE:" in caplog.text
    assert "builder" not in caplog.text
    assert kept(ground) == (0, 0)


async def test_a_wrong_bare_token_is_closed_upon_without_an_answer(ground: Ground) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    await handshake(client, "PLAIN", version=0)
    client.send_frame(WRONG)
    await client.receive_end()


@pytest.mark.parametrize("mechanism", ["GSSAPI", "", "plain", "x" * 5_000])
async def test_a_mechanism_that_is_not_offered(ground: Ground, mechanism: str) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    told = await handshake(client, mechanism)
    assert (int(told.error_code), list(told.mechanisms)) == (33, ["PLAIN", "SCRAM-SHA-256"])
    await client.receive_end()


@pytest.mark.parametrize("api", sorted(set(APIS) - {ApiKey.API_VERSIONS}))
@pytest.mark.parametrize("after_handshake", [False, True])
async def test_no_other_api_is_reached_before_there_is_a_name(
    ground: Ground, api: ApiKey, after_handshake: bool
) -> None:
    if api is (ApiKey.SASL_AUTHENTICATE if after_handshake else ApiKey.SASL_HANDSHAKE):
        return
    doorway = await opened(ground)
    client = await doorway.connect()
    if after_handshake:
        await handshake(client, "PLAIN")
    version = APIS[api].max_version
    client.send_frame(struct.pack(">hhi", api, version, 1) + b"\x00\x04test" + bytes(40))
    await client.receive_end()
    assert (doorway.callers, ground.broker.produced, ground.broker.fetched) == ([], [], [])


async def test_the_versions_are_asked_for_once_and_first(ground: Ground) -> None:
    doorway = await opened(ground)
    for before in (
        [(ApiKey.API_VERSIONS, 3, CLIENT)],
        [(ApiKey.SASL_HANDSHAKE, 1, {"mechanism": "PLAIN"})],
    ):
        client = await doorway.connect()
        for api, version, values in before:
            await client.ask(api, version, values)
        client.send(ApiKey.API_VERSIONS, 3, CLIENT)
        await client.receive_end()


async def test_versions_that_are_not_served_may_be_asked_for_again(ground: Ground) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    client.send_frame(struct.pack(">hhi", 18, 99, 5) + b"whatever it may hold")
    assert struct.unpack_from(">ih", await client.receive_frame()) == (5, 35)
    await client.ask(ApiKey.API_VERSIONS, 3, CLIENT)
    await handshake(client, "PLAIN")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (struct.pack(">i", 2**31 - 1) + b"x", "2147483647 bytes before the authentication"),
        (struct.pack(">i", -1), "a frame of -1 bytes"),
        (struct.pack(">i", 8193), "a frame of 8193 bytes before the authentication, 8192 are"),
        (struct.pack(">i", 0), "8 bytes are expected and 0 are left"),
        (struct.pack(">ihhi", 8, 17, 1, 1), "2 bytes are expected"),
        (struct.pack(">ihhihh", 12, 17, 1, 1, -1, 30_000), "30000 bytes are expected"),
        (b"\x16\x03\x01\x02\x00\x01", "it looks like TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", "it looks like HTTP"),
    ],
)
async def test_what_cannot_be_read_ends_it(
    ground: Ground, sent: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    client.writer.write(sent)
    await client.receive_end()
    assert said in caplog.text
    assert kept(ground) == (0, 0)


async def test_there_are_not_many_frames(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    doorway = await opened(ground)
    client = await doorway.connect()
    for number in range(authenticating.MAX_FRAMES + 1):
        client.send_frame(struct.pack(">hhi", 18, 99, number))
    for _ in range(authenticating.MAX_FRAMES):
        await client.receive_frame()
    await client.receive_end()
    assert "more than 10 frames before the authentication" in caplog.text


async def test_it_does_not_take_long(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(authenticating, "MAX_S", 0.05)
    doorway = await opened(ground)
    silent = await doorway.connect()
    slow = await doorway.connect()
    await handshake(slow, "PLAIN")
    await silent.receive_end()
    await slow.receive_end()
    assert "no name after 0 s" in caplog.text
    assert kept(ground) == (0, 0)


async def test_there_are_not_many_without_a_name(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lobby, "MAX_WAITING_PER_HOST", 3)
    doorway = await opened(ground)
    named = await doorway.logged_in()
    silent = [await doorway.connect() for _ in range(3)]
    for each in silent:
        await handshake(each, "PLAIN")
    refused = await doorway.connect()
    await refused.receive_end()
    await named.ask(ApiKey.METADATA, 5, NOTHING)
    silent[0].writer.close()
    await silent[0].writer.wait_closed()
    await until(lambda: kept(ground) == (3, 2))
    await (await doorway.logged_in()).ask(ApiKey.METADATA, 5, NOTHING)


async def test_who_guesses_does_not_fill_the_log(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    doorway = await opened(ground)
    caplog.set_level(logging.WARNING)
    for _ in range(20):
        client = await doorway.connect()
        await handshake(client, "PLAIN")
        await authenticate(client, WRONG, error=58)
    assert ground.listener is not None
    assert ground.listener._lobby.failures == 20
    assert len(caplog.records) <= 3


# --- names again ---------------------------------------------------------------------------------


async def test_nothing_is_to_be_proved_on_a_listener_that_asks_for_nothing(ground: Ground) -> None:
    await ground.start()
    client = await ground.connect()
    told = await handshake(client, "PLAIN")
    assert (int(told.error_code), list(told.mechanisms)) == (34, [])
    await authenticate(client, RIGHT, error=34)
    await client.ask(ApiKey.METADATA, 5, NOTHING)


async def test_a_name_is_not_proved_twice_if_it_is_good_for_ever(ground: Ground) -> None:
    doorway = await opened(ground)
    client = await doorway.logged_in()
    assert int((await handshake(client, "PLAIN")).error_code) == 34
    await authenticate(client, RIGHT, error=34)
    await client.ask(ApiKey.METADATA, 5, NOTHING)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that go by, at [0]."""
    gone = [1000.0]
    monkeypatch.setattr(authenticating, "monotonic", lambda: gone[0])
    monkeypatch.setattr("minikafka.kafka.server.monotonic", lambda: gone[0])
    return gone


async def test_a_name_that_expires_is_proved_again(ground: Ground, clock: list[float]) -> None:
    doorway = await opened(ground, max_reauth_ms=60_000)
    client = await doorway.connect()
    await handshake(client, "PLAIN")
    told = await authenticate(client, RIGHT, version=1)
    assert told.session_lifetime == timedelta(minutes=1)
    clock[0] += 59
    await client.ask(ApiKey.METADATA, 5, NOTHING)
    await handshake(client, "PLAIN")
    await authenticate(client, RIGHT)
    clock[0] += 59
    await client.ask(ApiKey.METADATA, 5, NOTHING)
    clock[0] += 1
    client.send(ApiKey.METADATA, 5, NOTHING)
    await client.receive_end()


@pytest.mark.parametrize(
    ("mechanism", "token", "errors"),
    [("SCRAM-SHA-256", b"", (33, None)), ("PLAIN", b"\0bob\0builder", (0, 58))],
)
async def test_nobody_becomes_another(
    ground: Ground,
    clock: list[float],
    mechanism: str,
    token: bytes,
    errors: tuple[int, int | None],
) -> None:
    doorway = await opened(ground, max_reauth_ms=60_000)
    client = await doorway.logged_in()
    clock[0] += 5
    assert int((await handshake(client, mechanism)).error_code) == errors[0]
    if errors[1] is not None:
        await authenticate(client, token, error=errors[1])
    await client.receive_end()


async def test_nothing_comes_between_while_a_name_is_proved_again(
    ground: Ground, clock: list[float]
) -> None:
    doorway = await opened(ground, max_reauth_ms=60_000)
    client = await doorway.logged_in()
    clock[0] += 5
    await handshake(client, "PLAIN")
    client.send(ApiKey.METADATA, 5, NOTHING)
    await client.receive_end()
