"""gRPC over TLS on loopback: who may call, who is told to be calling, and new keys while calls go
on."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from minikafka import certificates
from minikafka.api.requests import (
    ClusterMetadata,
    ClusterUpdate,
    FetchRequest,
    ProduceRequest,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    UpdateStateRequest,
    UpdateStateResponse,
)
from minikafka.certificates import Issued
from minikafka.config.tls import SUITES_OF_TLS_1_2, SUITES_OF_TLS_1_3, tls_settings
from minikafka.errors import NetworkError, UnknownServerError, UsageError
from minikafka.privacy import write_private
from minikafka.rpc.credentials import (
    NOT_KNOWN,
    CertificateCallers,
    ChannelTls,
    Refusals,
    ServerTls,
    address_of,
    current_caller,
)
from minikafka.security.mapping import PrincipalMapping
from minikafka.security.principal import ANONYMOUS, Caller, Principal

HOSTS = ("localhost", "127.0.0.1")
CA, OTHER_CA = certificates.new_authority("ca"), certificates.new_authority("other ca")
BROKER = certificates.issue(CA, "broker", HOSTS)
ALICE = certificates.issue(CA, "alice")
METADATA = ClusterMetadata("id", 1, 2, (), ())
UPDATE_STATE = UpdateStateRequest(1, 2, 3, (), (), ())
FETCH = ReplicaFetchRequest(3, 8, 30_000, 1, 1 << 20, 1 << 20, [])
DEADLINE_S = 20.0


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def write(folder: Path, name: str, issued: Issued) -> Path:
    path = folder / f"{name}.pem"
    write_private(path, issued.pem.reveal())
    return path


def properties(folder: Path, name: str, issued: Issued | None, ca: Issued = CA) -> dict[str, str]:
    trusted = folder / f"{name}-trusts.crt"
    write_private(trusted, ca.chain)
    found = {"ssl.truststore.location": str(trusted)}
    if issued is not None:
        found["ssl.keystore.location"] = str(write(folder, name, issued))
    return found


def server_tls(folder: Path, auth: str = "required", **more: str) -> ServerTls:
    given = properties(folder, "server", BROKER) | {"ssl.client.auth": auth} | more
    return ServerTls(tls_settings(given, server=True), now_ms)


def channel_tls(folder: Path, issued: Issued | None = ALICE, ca: Issued = CA) -> ChannelTls:
    return ChannelTls(tls_settings(properties(folder, "client", issued, ca), server=False), now_ms)


@pytest.fixture
async def secured(loopback: Any, tmp_path: Path) -> Any:
    """A server that wants certificates and tells who calls."""
    loopback.tls = server_tls(tmp_path)
    callers = CertificateCallers(PrincipalMapping())
    await loopback.start(credentials=loopback.tls.credentials(), caller_of=callers)
    loopback.service.replies["metadata"] = METADATA
    return loopback


async def test_mutual_tls_works(secured: Any, tmp_path: Path) -> None:
    channel = secured.channel(credentials=channel_tls(tmp_path).value)
    assert await channel.metadata() == METADATA
    assert await channel.check_health() is True


@pytest.mark.parametrize(
    ("issued", "ca"),
    [
        (None, CA),
        (certificates.issue(OTHER_CA, "alice"), CA),
        (certificates.issue(CA, "alice", now=datetime(2020, 1, 1, tzinfo=UTC)), CA),
        (ALICE, OTHER_CA),
    ],
    ids=["no certificate", "of another authority", "expired", "a server of another authority"],
)
async def test_who_proves_nothing_does_not_get_to_any_service(
    secured: Any, tmp_path: Path, issued: Issued | None, ca: Issued
) -> None:
    channel = secured.channel(credentials=channel_tls(tmp_path, issued, ca).value)
    for call in (channel.metadata(), channel.check_health()):
        with pytest.raises(NetworkError):
            await call
    assert secured.service.calls == {}


async def test_who_does_not_encrypt_is_refused(secured: Any) -> None:
    with pytest.raises(NetworkError):
        await secured.channel().metadata()
    assert secured.service.calls == {}


async def test_a_server_of_another_name_is_refused(loopback: Any, tmp_path: Path) -> None:
    elsewhere = certificates.issue(CA, "broker", ["elsewhere.example"])
    path = write(tmp_path, "elsewhere", elsewhere)
    tls = server_tls(tmp_path, "none", **{"ssl.keystore.location": str(path)})
    await loopback.start(credentials=tls.credentials())
    with pytest.raises(NetworkError):
        await loopback.channel(credentials=channel_tls(tmp_path).value).metadata()


# --- who calls -----------------------------------------------------------------------------------


class Telling:
    """Notes who calls, where a service would ask for it."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self.callers: list[tuple[str, Caller]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._service, name)

        def noting(*arguments: Any) -> Any:
            self.callers.append((name, current_caller()))
            return method(*arguments)

        return noting


ALICE_CALLS = Caller(Principal("User", "CN=alice"), "127.0.0.1", "GRPC")


async def test_unary_calls_and_streams_know_who_calls(secured: Any, tmp_path: Path) -> None:
    telling = Telling(secured.service)
    secured.service = telling
    await secured.start(
        credentials=secured.tls.credentials(), caller_of=CertificateCallers(PrincipalMapping())
    )
    inner = telling._service
    inner.replies |= {"produce": [], "fetch": []}
    channel = secured.channel(credentials=channel_tls(tmp_path).value)
    await channel.metadata()
    await channel.produce(ProduceRequest(1, 1_000, []))
    await channel.fetch(FetchRequest(0, 1, 1, []))
    inner.updates.put_nowait(ClusterUpdate((), (), None, 1, 1))
    watch = channel.watch()
    await anext(watch)
    await watch.aclose()
    assert telling.callers == [
        (name, ALICE_CALLS) for name in ("metadata", "produce", "fetch", "watch")
    ]


async def test_two_who_call_at_once_are_kept_apart(secured: Any, tmp_path: Path) -> None:
    telling = Telling(secured.service)
    secured.service = telling
    await secured.start(
        credentials=secured.tls.credentials(),
        caller_of=CertificateCallers(PrincipalMapping("RULE:CN=(.*)/$1/")),
    )
    channels = [
        secured.channel(credentials=channel_tls(tmp_path, certificates.issue(CA, name)).value)
        for name in ("ann", "bob")
    ]
    await asyncio.gather(*(each.metadata() for each in channels * 10))
    names = [caller.principal.name for _, caller in telling.callers]
    assert sorted(names) == ["ann"] * 10 + ["bob"] * 10


async def test_a_certificate_that_names_nobody_is_refused_and_the_name_is_not_told(
    loopback: Any, tmp_path: Path
) -> None:
    callers = CertificateCallers(PrincipalMapping("RULE:CN=broker/$0/"))
    server = await loopback.start(credentials=server_tls(tmp_path).credentials(), caller_of=callers)
    credentials = channel_tls(tmp_path).value
    channel = loopback.channel(credentials=credentials)
    with pytest.raises(NetworkError, match=NOT_KNOWN):
        await channel.metadata()
    with pytest.raises(NetworkError, match=NOT_KNOWN):
        await channel.fetch(FetchRequest(0, 1, 1, []))
    assert loopback.service.calls == {}
    assert server.refusals.count == 2


def test_who_is_refused_again_and_again_is_told_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    now_s = [0.0]
    refusals = Refusals(lambda: now_s[0])
    told = []
    for now_s[0] in (0.0, 0.5, 0.9, 1.0, 1.5):
        caplog.clear()
        refusals.tell("ipv4:10.0.0.1:1", ValueError("CN=\nevil" + "x" * 1_000))
        told += [record.getMessage() for record in caplog.records]
    assert told == ["a client at ipv4:10.0.0.1:1 is refused: CN=\\nevil" + "x" * 248] * 2
    for port in range(3_000):
        refusals.tell(f"ipv4:10.0.{port // 250}.{port % 250}:1", ValueError("no"))
    assert refusals.count == 3_005
    assert len(refusals._told_s) <= 1_024


async def test_without_tls_everybody_is_nobody_in_particular(loopback: Any) -> None:
    telling = Telling(loopback.service)
    loopback.service.replies["metadata"] = METADATA
    loopback.service = telling
    await loopback.start(caller_of=CertificateCallers(PrincipalMapping()))
    await loopback.channel().metadata()
    assert telling.callers == [("metadata", Caller(ANONYMOUS, "127.0.0.1", "GRPC"))]


async def test_a_service_that_is_asked_by_nobody_has_no_caller(loopback: Any) -> None:
    """Nothing is wrapped unless it is asked for."""
    telling = Telling(loopback.service)
    loopback.service = telling
    await loopback.start()
    with pytest.raises(LookupError):
        current_caller()
    with pytest.raises(UnknownServerError):
        await loopback.channel().metadata()
    assert telling.callers == []


class AContext:
    """Of a call that shows `pem`."""

    def __init__(self, pem: bytes, peer: str = "ipv4:127.0.0.1:1") -> None:
        self._shown: Mapping[str, list[bytes]] = {"x509_pem_cert": [pem]}
        self._peer = peer

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return self._shown

    def peer(self) -> str:
        return self._peer


@pytest.mark.parametrize("pem", [b"", b"\xff", b"-----BEGIN CERTIFICATE-----"])
def test_a_certificate_that_cannot_be_read_names_nobody(pem: bytes) -> None:
    with pytest.raises(ValueError):
        CertificateCallers(PrincipalMapping())(AContext(pem))  # type: ignore[arg-type]


def test_no_more_certificates_are_remembered_than_is_sensible() -> None:
    callers = CertificateCallers(PrincipalMapping())
    for number in range(3_000):
        text = f"{number}\n{ALICE.chain}".encode()
        assert callers(AContext(text)) == ALICE_CALLS  # type: ignore[arg-type]
    assert len(callers._known) <= 1_024


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[::1]:4711", "::1"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:4711", "10.0.0.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::1%eth0"),
        ("unix:/tmp/socket", ""),
        ("unix:", ""),
    ],
)
def test_a_peer_has_its_address_in_plain_form(peer: str, address: str) -> None:
    assert address_of(peer) == address


# --- new keys ------------------------------------------------------------------------------------


async def shown_by(port: int) -> str:
    """The serial number of the certificate that the server shows now, to whoever connects."""
    process = await asyncio.create_subprocess_shell(
        f"openssl s_client -connect 127.0.0.1:{port} < /dev/null 2>&1 | "
        "openssl x509 -noout -fingerprint",
        stdout=subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return output.decode()


async def test_a_server_takes_new_keys_while_a_stream_goes_on(secured: Any, tmp_path: Path) -> None:
    peers = secured.peers(credentials=lambda: client.value)
    client = channel_tls(tmp_path)
    stream = peers.open_replication(secured.broker())
    under_way = asyncio.ensure_future(stream.fetch(FETCH))
    calls = secured.service.of("replica_fetch")
    await calls.count(1)
    before = await shown_by(secured.port)
    write(tmp_path, "server", certificates.issue(CA, "broker", HOSTS))
    assert await secured.tls.look() is True
    after = await shown_by(secured.port)
    assert "ingerprint" in before
    assert after not in ("", before)
    calls.answers[0].set_result(ReplicaFetchResponse([]))
    assert (await under_way).results == []
    channel = secured.channel(credentials=client.value)
    assert await channel.metadata() == METADATA


async def test_a_server_drops_an_authority_for_who_comes_anew(secured: Any, tmp_path: Path) -> None:
    old = channel_tls(tmp_path)
    connected = secured.channel(credentials=old.value)
    await connected.metadata()
    write_private(tmp_path / "server-trusts.crt", OTHER_CA.chain)
    assert await secured.tls.look() is True
    with pytest.raises(NetworkError):
        await secured.channel(credentials=old.value).metadata()
    assert await connected.metadata() == METADATA
    new = channel_tls(tmp_path, certificates.issue(OTHER_CA, "alice"))
    assert await secured.channel(credentials=new.value).metadata() == METADATA


async def test_peers_connect_with_new_keys_and_finish_what_is_under_way(
    secured: Any, tmp_path: Path, until: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    client = channel_tls(tmp_path)
    peers = secured.peers(credentials=lambda: client.value)
    stream = peers.open_replication(secured.broker())
    under_way = asyncio.ensure_future(stream.fetch(FETCH))
    calls = secured.service.of("replica_fetch")
    await calls.count(1)
    first = peers.connection(secured.broker())
    write(tmp_path, "client", certificates.issue(CA, "alice"))
    assert await client.look() is True
    second = peers.connection(secured.broker())
    assert second is not first
    assert second is peers.connection(secured.broker())
    secured.service.replies["update_state"] = UpdateStateResponse(())
    await peers.update_state(secured.broker(), UPDATE_STATE, 10_000)
    calls.answers[0].set_result(ReplicaFetchResponse([]))
    assert (await under_way).results == []
    # Another change ends what went on under the first one, and another incarnation everything.
    assert await client.look(asked=True) is True
    third = peers.connection(secured.broker())
    await until(lambda: is_closed(first))
    assert [is_closed(each) for each in (second, third)] == [False, False]
    peers.connection(secured.broker(broker_epoch=8))
    await until(lambda: is_closed(second) and is_closed(third))


def is_closed(connection: Any) -> bool:
    try:
        return connection.channel is None
    except NetworkError:
        return True


async def test_keys_that_do_not_fit_change_nothing(secured: Any, tmp_path: Path) -> None:
    before = await shown_by(secured.port)
    other = certificates.issue(CA, "broker", HOSTS)
    write(tmp_path, "server", Issued(other.key, BROKER.chain))
    for _ in range(3):
        assert await secured.tls.look() is False
    assert await shown_by(secured.port) == before


# --- what gRPC does by itself --------------------------------------------------------------------


async def s_client(port: int, *options: str) -> str:
    """What openssl prints until the server hangs up: what it is told is no HTTP/2."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(b"hello\n" * 20), DEADLINE_S)
    return output.decode(errors="replace")


@pytest.mark.parametrize(
    "offered",
    [
        ("-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-GCM-SHA256:AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
    ],
    ids=" ".join,
)
async def test_old_protocols_and_weak_suites_are_refused(
    loopback: Any, tmp_path: Path, offered: tuple[str, ...]
) -> None:
    await loopback.start(credentials=server_tls(tmp_path, "none").credentials())
    output = await s_client(loopback.port, *offered)
    assert "Cipher is (NONE)" in output
    assert "unexpected eof" in output  # said hello, and was left


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_no_session_is_resumed_past_an_authority_that_was_dropped(
    secured: Any, tmp_path: Path, version: str
) -> None:
    """gRPC gives tickets, which cannot be switched off; new keys make them worthless."""
    pem, session = str(write(tmp_path, "alice", ALICE)), str(tmp_path / "session")
    shown = (version, "-alpn", "h2", "-cert", pem, "-key", pem)
    await s_client(secured.port, *shown, "-sess_out", session)
    assert "Reused, TLS" in await s_client(secured.port, *shown, "-sess_in", session)
    write_private(tmp_path / "server-trusts.crt", OTHER_CA.chain)
    assert await secured.tls.look() is True
    assert "Reused, TLS" not in await s_client(secured.port, *shown, "-sess_in", session)


async def test_reflection_is_for_servers_without_tls(loopback: Any, tmp_path: Path) -> None:
    found = []
    for credentials in (None, server_tls(tmp_path, "none").credentials()):
        await loopback.start(credentials=credentials)
        handlers = grpc_methods(loopback.port, credentials is not None)
        found.append(await handlers)
    assert found == [True, False]


async def grpc_methods(port: int, secure: bool) -> bool:
    """Is the method of reflection there?"""
    address, options = f"localhost:{port}", [("grpc.enable_http_proxy", 0)]
    channel = (
        grpc.aio.secure_channel(
            address, grpc.ssl_channel_credentials(CA.chain.encode()), options=options
        )
        if secure
        else grpc.aio.insecure_channel(address, options=options)
    )
    async with channel:
        call = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )()
        await call.done_writing()
        return await call.code() is not grpc.StatusCode.UNIMPLEMENTED


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"ssl.client.auth": "requested"}, "ssl.client.auth=requested is not supported for GRPC"),
        ({"ssl.enabled.protocols": "TLSv1.3"}, "ssl.enabled.protocols cannot be chosen"),
        (
            {"ssl.cipher.suites": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
            "ssl.cipher.suites cannot be chosen",
        ),
    ],
)
def test_what_grpc_cannot_do_is_refused(tmp_path: Path, more: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        server_tls(tmp_path, **more)


def test_a_client_over_grpc_cannot_leave_out_the_name(tmp_path: Path) -> None:
    given = properties(tmp_path, "client", None)
    given["ssl.endpoint.identification.algorithm"] = ""
    with pytest.raises(UsageError, match="gRPC always checks the name"):
        ChannelTls(tls_settings(given, server=False), now_ms)


def test_what_is_set_for_other_listeners_can_be_put_right_for_grpc(tmp_path: Path) -> None:
    given = properties(tmp_path, "server", BROKER) | {
        "ssl.client.auth": "requested",
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.cipher.suites": ",".join(SUITES_OF_TLS_1_3),
        "listener.name.grpc.ssl.client.auth": "required",
        "listener.name.grpc.ssl.enabled.protocols": "TLSv1.2,TLSv1.3",
        "listener.name.grpc.ssl.cipher.suites": ",".join([*SUITES_OF_TLS_1_2, *SUITES_OF_TLS_1_3]),
    }
    tls = ServerTls(tls_settings(given, server=True, listener="GRPC"), now_ms)
    assert tls.material.chain == BROKER.chain


def test_keys_that_do_not_fit_are_refused_at_the_start(tmp_path: Path) -> None:
    other = Issued(ALICE.key, BROKER.chain)
    path = write(tmp_path, "unfit", other)
    with pytest.raises(UsageError, match="does not fit"):
        server_tls(tmp_path, **{"ssl.keystore.location": str(path)})
