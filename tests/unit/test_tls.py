"""TLS over real sockets, in both event loops and against openssl; and files that are replaced."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import load_pem_x509_certificates

from minikafka import certificates
from minikafka.certificates import Issued
from minikafka.config.tls import SUITES_OF_TLS_1_2, ClientAuth, tls_settings
from minikafka.errors import UsageError
from minikafka.privacy import write_private
from minikafka.security.mapping import PrincipalMapping
from minikafka.tls import (
    MAX_FILE_BYTES,
    Material,
    ReloadingContext,
    client_context,
    load_material,
    server_context,
)

HOSTS = ("localhost", "127.0.0.1")
LIMIT_S = 20.0
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]
CA, OTHER_CA = certificates.new_authority("ca"), certificates.new_authority("other ca")
BROKER = certificates.issue(CA, "broker", HOSTS)
ALICE = certificates.issue(CA, "alice")


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def inline(issued: Issued | None, *trusted: Issued) -> dict[str, str]:
    properties = {}
    if issued is not None:
        properties["ssl.keystore.key"] = issued.key.reveal()
        properties["ssl.keystore.certificate.chain"] = issued.chain
    if trusted:
        properties["ssl.truststore.certificates"] = "".join(each.chain for each in trusted)
    return properties


def server(issued: Issued = BROKER, *trusted: Issued, **more: str) -> ssl.SSLContext:
    properties = inline(issued, *trusted) | dotted(more)
    return server_context(load_material(tls_settings(properties, server=True)))


def client(issued: Issued | None = None, *trusted: Issued, **more: str) -> ssl.SSLContext:
    properties = inline(issued, *(trusted or (CA,))) | dotted(more)
    return client_context(load_material(tls_settings(properties, server=False)))


def dotted(properties: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): text for name, text in properties.items()}


REQUIRED = {"ssl_client_auth": "required"}
REQUESTED = {"ssl_client_auth": "requested"}


class Seen(NamedTuple):
    """What the server knows of a connection after the handshake."""

    version: str | None
    principal: str
    compression: str | None


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[Seen]]]:
    """An echo on a free port."""
    seen: list[Seen] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = writer.get_extra_info("ssl_object")
        principal = PrincipalMapping().of_certificate(link.getpeercert(binary_form=True))
        seen.append(Seen(link.version(), str(principal), link.compression()))
        try:
            writer.write(await reader.readline())
            await writer.drain()
        finally:
            writer.close()

    listener = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1], seen


async def say_hello(port: int, context: ssl.SSLContext, name: str = "localhost") -> bytes:
    """What comes back; ssl.SSLError or ConnectionError if the two do not agree. In TLS 1.3 a client
    hears what the server thinks of its certificate with the first bytes only."""
    async with asyncio.timeout(LIMIT_S):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name
        )
        try:
            writer.write(b"hello\n")
            await writer.drain()
            answer = await reader.readline()
            if not answer:
                raise ConnectionResetError("closed without an answer")
            return answer
        finally:
            writer.close()


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    def run_in(work: Awaitable[Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: None)
            return runner.run(work)  # type: ignore[arg-type]

    return run_in


Run = Callable[[Awaitable[Any]], Any]


async def exchange(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext, name: str = "localhost"
) -> Seen:
    async with serving(server_side) as (port, seen):
        assert await say_hello(port, client_side, name) == b"hello\n"
        (only,) = seen
        return only


# --- handshakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_client_is_whom_its_certificate_names(run: Run, version: str) -> None:
    seen = run(
        exchange(server(BROKER, CA, **REQUIRED), client(ALICE, CA, ssl_enabled_protocols=version))
    )
    assert seen == Seen(version, "User:CN=alice", None)


def test_a_client_without_certificate_is_nobody_where_none_is_required(run: Run) -> None:
    for auth in ({}, REQUESTED):
        seen = run(exchange(server(BROKER, CA, **auth), client()))
        assert seen == Seen("TLSv1.3", "User:ANONYMOUS", None)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(
    ("issued", "auth"),
    [
        (None, REQUIRED),
        (certificates.issue(OTHER_CA, "alice"), REQUIRED),
        (certificates.issue(OTHER_CA, "alice"), REQUESTED),
        (certificates.new_authority("alice"), REQUIRED),
        (certificates.issue(CA, "alice", now=datetime(2020, 1, 1, tzinfo=UTC)), REQUIRED),
    ],
    ids=["none", "of another authority", "requested", "signed by itself", "expired"],
)
def test_a_client_that_proves_nothing_is_refused(
    run: Run, issued: Issued | None, auth: dict[str, str], version: str
) -> None:
    async def attempt() -> list[Seen]:
        context = client(issued, CA, ssl_enabled_protocols=version)
        async with serving(server(BROKER, CA, **auth)) as (port, seen):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await say_hello(port, context)
            return seen

    assert run(attempt()) == []


def test_our_clients_check_who_answers(run: Run) -> None:
    async def attempt() -> None:
        async with serving(server()) as (port, seen):
            for context, name in (
                (client(None, OTHER_CA), "localhost"),
                (client(), "elsewhere"),
                (client_context(Material(tls_settings({}, server=False))), "localhost"),
            ):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await say_hello(port, context, name)
            unnamed = client(None, CA, **{"ssl.endpoint.identification.algorithm": ""})
            assert await say_hello(port, unnamed, "elsewhere") == b"hello\n"
            assert len(seen) == 1

    run(attempt())


def test_whom_a_truststore_names_is_believed_without_a_root(run: Run) -> None:
    run(exchange(server(), client(None, BROKER)))


def test_an_encrypted_key_is_opened_with_its_password(run: Run, tmp_path: Path) -> None:
    properties = inline(None, CA) | {
        "ssl.keystore.location": str(encrypted(tmp_path, "swordfish")),
        "ssl.key.password": "swordfish",
    }
    material = load_material(tls_settings(properties, server=True))
    run(exchange(server_context(material), client()))
    assert material.plain_key == BROKER.key


@pytest.mark.parametrize("between", ["\n", " ", "\r\n", ""])
def test_keys_in_properties_may_be_lines_or_one(between: str) -> None:
    properties = {
        name: re.sub(r"(?<=[A-Za-z0-9+/=-])\n", between, text).strip()
        for name, text in inline(BROKER, CA).items()
    }
    material = load_material(tls_settings(properties, server=True))
    assert (material.key, material.chain) == (BROKER.key, BROKER.chain)
    assert material.trusted_pem == CA.chain
    server_context(material)


@pytest.mark.parametrize("kind", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("password", [None, "swordfish"])
def test_keys_of_each_form_are_read(kind: str, password: str | None) -> None:
    pem = key_of(BROKER).private_bytes(
        serialization.Encoding.PEM,
        getattr(serialization.PrivateFormat, kind),
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption(),
    )
    properties = inline(BROKER) | {"ssl.keystore.key": pem.decode()}
    if password:
        properties["ssl.key.password"] = password
    material = load_material(tls_settings(properties, server=True))
    server_context(material)
    assert material.plain_key is not None
    assert (
        key_of(Issued(material.plain_key, "")).private_numbers() == key_of(BROKER).private_numbers()
    )


def test_a_pkcs12_file_is_as_good(run: Run, tmp_path: Path) -> None:
    properties = {
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(as_pkcs12(tmp_path, "swordfish")),
        "ssl.keystore.password": "swordfish",
        "ssl.truststore.type": "PKCS12",
        "ssl.truststore.location": str(as_pkcs12(tmp_path, "trout")),
        "ssl.truststore.password": "trout",
        "ssl.client.auth": "required",
    }
    material = load_material(tls_settings(properties, server=True))
    seen = run(exchange(server_context(material), client(ALICE)))
    assert seen.principal == "User:CN=alice"
    assert material.plain_key == BROKER.key


def key_of(issued: Issued) -> Any:
    return serialization.load_pem_private_key(issued.key.reveal().encode(), None)


def encrypted(folder: Path, password: str) -> Path:
    pem = key_of(BROKER).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    return private_file(folder / "encrypted.pem", pem.decode() + BROKER.chain)


def as_pkcs12(folder: Path, password: str) -> Path:
    (own,) = load_pem_x509_certificates(BROKER.chain.encode())
    path = private_file(folder / f"{password}.p12", "")
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"broker",
            key_of(BROKER),
            own,
            load_pem_x509_certificates(CA.chain.encode()),
            serialization.BestAvailableEncryption(password.encode()),
        )
    )
    return path


def private_file(path: Path, text: str) -> Path:
    write_private(path, text)
    return path


# --- openssl as the client -----------------------------------------------------------------------


async def s_client(port: int, *options: str, said: bytes = b"hello\n") -> tuple[int, str]:
    """Its exit status, and all that it prints."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(said), LIMIT_S)
    return await process.wait(), output.decode(errors="replace")


# Level 0 lets openssl offer what is weak.
@pytest.mark.parametrize(
    "offered",
    [
        ("-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"),
        ("-tls1", "-cipher", "DEFAULT:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-GCM-SHA256:AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"),
        ("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"),
    ],
    ids=" ".join,
)
async def test_old_protocols_and_weak_suites_are_refused(offered: tuple[str, ...]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    async with serving(server()) as (port, seen):
        status, output = await s_client(port, *offered)
        assert seen == []
    assert status != 0
    assert "unexpected eof" in output  # said hello, and was left


@pytest.mark.parametrize("suite", [x for x in SUITES_OF_TLS_1_2.values() if "ECDSA" in x])
async def test_the_good_suites_of_tls_1_2_are_spoken(suite: str) -> None:
    async with serving(server()) as (port, _):
        status, output = await s_client(port, "-tls1_2", "-cipher", suite)
    assert (status, f"Cipher is {suite}" in output) == (0, True)


async def test_only_the_suites_that_are_named_are_spoken() -> None:
    named = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with serving(server(BROKER, ssl_cipher_suites=named)) as (port, _):
        status, output = await s_client(port)
        assert (status, "TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in output) == (0, True)
        status, _ = await s_client(port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384")
        assert status != 0
        status, _ = await s_client(port, "-tls1_3")
        assert status != 0


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_no_ticket_is_given(version: str) -> None:
    with_tickets = server()
    with_tickets.options &= ~ssl.OP_NO_TICKET
    with_tickets.num_tickets = 2
    given = []
    for context in (with_tickets, server()):
        async with serving(context) as (port, _):
            _, output = await s_client(port, version, "-ign_eof")
        assert "\nhello\n" in output
        given.append("TLS session ticket:" in output)
    assert given == [True, False]


async def test_no_session_is_resumed_past_an_authority_that_was_dropped(tmp_path: Path) -> None:
    """Within one context TLS 1.2 may be, which Python cannot switch off."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    session = str(tmp_path / "session")
    pem = str(private_file(tmp_path / "alice.pem", ALICE.pem.reveal()))
    shown = ("-tls1_2", "-cert", pem, "-key", pem)
    before, after = server(BROKER, CA, **REQUIRED), server(BROKER, OTHER_CA, **REQUIRED)
    resumed = []
    async with serving(before) as (port, _), serving(after) as (port_after, seen_after):
        await s_client(port, *shown, "-sess_out", session)
        for each in (port, port_after):
            _, output = await s_client(each, *shown, "-sess_in", session)
            resumed.append("Reused, TLS" in output)
    assert resumed == [True, False]
    assert seen_after == []


async def test_renegotiation_is_refused() -> None:
    """R at the beginning of a line asks openssl for it."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with serving(server()) as (port, _):
        _, output = await s_client(port, "-tls1_2", said=b"R\nhello\n")
    assert "RENEGOTIATING" in output
    assert "no renegotiation" in output


# --- files ---------------------------------------------------------------------------------------


def files(folder: Path, issued: Issued = BROKER, *, mode: int = 0o600) -> dict[str, str]:
    keystore = private_file(folder / "broker.pem", issued.pem.reveal())
    keystore.chmod(mode)
    truststore = private_file(folder / "ca.crt", CA.chain)
    return {"ssl.keystore.location": str(keystore), "ssl.truststore.location": str(truststore)}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o601, 0o666])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    settings = tls_settings(files(tmp_path, mode=mode), server=True)
    with pytest.raises(UsageError, match=rf"has mode {mode:04o}, .*chmod 600"):
        load_material(settings)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_key_that_its_group_can_read_is_taken(tmp_path: Path, mode: int) -> None:
    settings = tls_settings(files(tmp_path, mode=mode), server=True)
    assert load_material(settings).key == BROKER.key


def broken(pem: str) -> str:
    return pem.replace("M", "A", 1)


BIG = "x" * (MAX_FILE_BYTES + 1)
STRANGER = certificates.issue(OTHER_CA, "broker", HOSTS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no private key in PEM"),
        (BROKER.chain, "holds no private key in PEM"),
        (BROKER.key.reveal(), "there is no certificate in PEM"),
        (BROKER.key.reveal() + STRANGER.chain, "the private key does not fit the certificate"),
        (BROKER.key.reveal().replace("END", "FIN") + BROKER.chain, "the private key has no END"),
        (BROKER.key.reveal()[:60] + BROKER.chain, "the private key has no END"),
        (BROKER.key.reveal().replace("\nM", "\nA") + BROKER.chain, "the key or a certificate is"),
        (BROKER.key.reveal() + BROKER.chain.replace("M", "*"), "not in base64"),
        (BROKER.key.reveal() + BROKER.chain.replace("\nM", "\nA", 1), "DER"),
        (BIG, f"is larger than {MAX_FILE_BYTES} bytes"),
        (
            "-----BEGIN PRIVATE KEY-----" + "x" * 900_000 + "-----END PRIVATE KEY-----",
            "certificate",
        ),
        ("\x30\x82", "is not in PEM"),
        ("\xfe\xed\xfe\xed", "a JKS file is not read"),
        ("-----BEGIN PRIVATE KEY-----", "the private key has no END"),
        (
            BROKER.pem.reveal().replace("PRIVATE", "ENCRYPTED PRIVATE"),
            "ssl.key.password is not set",
        ),
    ],
)
def test_a_keystore_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = private_file(tmp_path / "broker.pem", "")
    path.write_bytes(content.encode("latin-1"))
    settings = tls_settings({"ssl.keystore.location": str(path)}, server=True)
    with pytest.raises(UsageError) as refused:
        server_context(load_material(settings))
    assert said in str(refused.value)
    assert "ssl.ke" in str(refused.value)
    assert BROKER.key.reveal()[40:80] not in str(refused.value)


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, said in (("none", "No such file"), ("", "is no file"), ("fifo", "is no file")):
        settings = tls_settings({"ssl.keystore.location": f"{tmp_path}/{name}"}, server=True)
        with pytest.raises(UsageError, match=f"ssl.keystore.location=.*{said}"):
            load_material(settings)


@pytest.mark.parametrize("password", [None, "trout", ""])
def test_a_wrong_password_asks_nobody_and_is_not_told(tmp_path: Path, password: str | None) -> None:
    properties = {"ssl.keystore.location": str(encrypted(tmp_path, "swordfish"))}
    if password is not None:
        properties["ssl.key.password"] = password
    with pytest.raises(UsageError, match=r"ssl\.key\.password") as refused:
        server_context(load_material(tls_settings(properties, server=True)))
    assert "trout" not in str(refused.value)


def test_a_truststore_that_holds_nonsense_is_refused(tmp_path: Path) -> None:
    for content, said in ((broken(CA.chain), "refused"), ("", "no certificate in PEM")):
        properties = files(tmp_path)
        Path(properties["ssl.truststore.location"]).write_text(content)
        with pytest.raises(UsageError, match=f"ssl.truststore.location=.*{said}"):
            server_context(load_material(tls_settings(properties, server=True)))


def test_no_key_is_written_to_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    server()
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) == before


# --- files that are replaced ---------------------------------------------------------------------


def reloading(properties: dict[str, str], **more: str) -> ReloadingContext:
    settings = tls_settings(properties | dotted(more), server=True)
    return ReloadingContext(settings, now_ms, server=True, name="listener TEST")


def replace(properties: dict[str, str], content: str, store: str = "keystore") -> None:
    private_file(Path(properties[f"ssl.{store}.location"]), content)


async def test_a_new_key_takes_over_for_the_next_connection(tmp_path: Path) -> None:
    properties = files(tmp_path)
    context = reloading(properties)
    first = context.value
    assert await context.look() is False
    assert context.value is first
    renewed = certificates.issue(CA, "broker", (*HOSTS, "another.example"))
    replace(properties, renewed.pem.reveal())
    assert await context.look() is True
    assert context.value is not first
    assert context.material.chain == renewed.chain
    await exchange(context.value, client(), "another.example")
    assert await context.look() is False


async def test_an_authority_that_was_dropped_is_believed_no_more(tmp_path: Path) -> None:
    properties = files(tmp_path)
    context = reloading(properties, ssl_client_auth="required")
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    await exchange(context.value, client(ALICE))
    replace(properties, OTHER_CA.chain, "truststore")
    assert await context.look() is True
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await exchange(context.value, client(ALICE))
    await exchange(context.value, client(certificates.issue(OTHER_CA, "alice"), CA))


UNFIT = {
    "another name": certificates.issue(CA, "mallory", HOSTS).pem.reveal(),
    "fewer hosts": certificates.issue(CA, "broker", HOSTS[:1]).pem.reveal(),
    "another key": BROKER.key.reveal() + certificates.issue(CA, "broker", HOSTS).chain,
    "half a file": BROKER.pem.reveal()[:300],
    "expired": certificates.issue(
        CA, "broker", HOSTS, now=datetime.now(UTC) - timedelta(days=366)
    ).pem.reveal(),
    "not yet valid": certificates.issue(
        CA, "broker", HOSTS, now=datetime.now(UTC) + timedelta(days=2)
    ).pem.reveal(),
}


@pytest.mark.parametrize("what", UNFIT)
async def test_what_does_not_fit_is_looked_at_twice_and_the_old_stays(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    properties = files(tmp_path)
    context = reloading(properties)
    first = context.value
    replace(properties, UNFIT[what])
    levels = []
    for _ in range(4):
        caplog.clear()
        assert await context.look() is False
        levels.append([record.levelno for record in caplog.records])
    assert levels == [[logging.WARNING], [logging.ERROR], [], []]
    assert context.value is first
    with pytest.raises(UsageError, match=r"ssl\.keystore\.location"):
        await context.look(asked=True)
    assert context.value is first
    replace(properties, BROKER.pem.reveal())
    assert await context.look() is True


async def test_two_files_are_replaced_one_after_the_other_without_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    properties = files(tmp_path)
    context = reloading(properties)
    renewed = certificates.issue(CA, "broker", HOSTS)
    replace(properties, renewed.key.reveal() + BROKER.chain)
    assert await context.look() is False
    replace(properties, renewed.pem.reveal())
    assert await context.look() is True
    assert [record.levelno for record in caplog.records if record.levelno > logging.WARNING] == []


async def test_a_file_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    properties = files(tmp_path)
    context = reloading(properties)
    first = context.value
    Path(properties["ssl.keystore.location"]).unlink()
    assert [await context.look() for _ in range(3)] == [False] * 3
    assert context.value is first


@pytest.mark.parametrize(
    ("what", "allowed"),
    [("another name", "ssl_allow_dn_changes"), ("fewer hosts", "ssl_allow_san_changes")],
)
async def test_other_names_take_over_where_that_is_allowed(
    tmp_path: Path, what: str, allowed: str
) -> None:
    properties = files(tmp_path)
    context = reloading(properties, **{allowed: "true"})
    replace(properties, UNFIT[what])
    assert await context.look() is True


async def test_who_asks_gets_what_is_there_even_if_no_file_has_changed(tmp_path: Path) -> None:
    context = reloading(files(tmp_path))
    first = context.value
    assert await context.look(asked=True) is True
    assert context.value is not first


async def test_those_who_ask_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    properties = files(tmp_path)
    context = reloading(properties)
    replace(properties, certificates.issue(CA, "broker", HOSTS).pem.reveal())
    took_over = await asyncio.gather(*(context.look() for _ in range(20)))
    assert sorted(took_over) == [False] * 19 + [True]


def test_the_time_that_is_left_is_that_of_the_first_to_expire() -> None:
    now = datetime.now(UTC)
    soon = certificates.issue(CA, "broker", HOSTS, now=now - timedelta(days=364))
    chained = Issued(soon.key, soon.chain + CA.chain)
    settings = tls_settings(inline(chained), server=True)
    end_ms = int((now + timedelta(days=1)).timestamp()) * 1000
    context = ReloadingContext(settings, lambda: end_ms - 5_500, server=True, name="x")
    assert context.seconds_to_expiry() == 5.5
    without = ReloadingContext(tls_settings({}, server=False), now_ms, server=False, name="x")
    assert without.seconds_to_expiry() is None


def test_an_expired_certificate_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    old = certificates.issue(CA, "broker", HOSTS, now=datetime.now(UTC) - timedelta(days=400))
    ReloadingContext(tls_settings(inline(old), server=True), now_ms, server=True, name="x")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_server_asks_for_certificates_as_it_is_told() -> None:
    modes = {
        auth: server(BROKER, CA, ssl_client_auth=auth.value).verify_mode for auth in ClientAuth
    }
    assert modes == {
        ClientAuth.NONE: ssl.CERT_NONE,
        ClientAuth.REQUESTED: ssl.CERT_OPTIONAL,
        ClientAuth.REQUIRED: ssl.CERT_REQUIRED,
    }
