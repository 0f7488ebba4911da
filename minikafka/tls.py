"""TLS, as both doors and our clients use it: contexts from TlsSettings, and what is done when the
files behind them are replaced.

`Material` is what was read, once: what is checked is what is used, whatever happens to the files
meanwhile. Python takes keys and chains from paths only; they go to it through memory files, so that
no key is written to a disk. `TlsFiles` holds the newest material and what was built of it.

TLS 1.2 and 1.3 with ECDHE and authenticated encryption. No compression and no renegotiation. No
tickets: a session that is resumed asks nobody whether its certificate is still believed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from minikafka.config.tls import (
    PKCS12,
    SUITES_OF_TLS_1_2,
    SUITES_OF_TLS_1_3,
    TLS_1_2,
    TLS_1_3,
    ClientAuth,
    Store,
    TlsSettings,
)
from minikafka.errors import UsageError
from minikafka.escaping import escaped
from minikafka.security.certificate import Certificate, certificates_in_pem, read_certificate
from minikafka.security.secret import Secret

log = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 256
MAX_FILE_BYTES = 1_048_576
_NOT_FOR_OTHERS = stat.S_IRWXO | stat.S_IWGRP
_VERSIONS = {TLS_1_2: ssl.TLSVersion.TLSv1_2, TLS_1_3: ssl.TLSVersion.TLSv1_3}
_VERIFY = {
    ClientAuth.NONE: ssl.CERT_NONE,
    ClientAuth.REQUESTED: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRED: ssl.CERT_REQUIRED,
}
_BEGIN_KEY = re.compile(r"-----BEGIN ((?:[A-Z]{1,16} ){0,2}PRIVATE KEY)-----")
_PEM_COLUMNS = 64
_ENCRYPTED = ("ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED")


@dataclass(frozen=True, slots=True)
class Material:
    """`key` and `chain` in PEM, the chain without anything between its certificates and the one of
    the key first; `password` if the key wants one. `trusted`: in DER; None: whom the system
    believes. `certificate` is the first of the chain; the earliest of it expires first."""

    settings: TlsSettings
    key: Secret | None = None
    password: Secret | None = None
    chain: str = ""
    certificate: Certificate | None = None
    expires_ms: int | None = None
    trusted: tuple[bytes, ...] | None = None

    @property
    def plain_key(self) -> Secret | None:
        """For gRPC, which takes no password. UsageError if `cryptography` is needed and missing."""
        if self.key is None or self.password is None or not _is_encrypted(self.key):
            return self.key
        from minikafka import certificates

        assert self.settings.keystore is not None
        return certificates.decrypted_key(self.key, self.password, self.settings.keystore.named)

    @property
    def trusted_pem(self) -> str | None:
        return None if self.trusted is None else _pem(self.trusted)


def load_material(settings: TlsSettings) -> Material:
    """Reads the files; blocks. UsageError that names the property if one is not what it must be."""
    trusted = None if settings.truststore is None else _trusted(settings.truststore)
    if settings.keystore is None:
        return Material(settings, trusted=trusted)
    store = settings.keystore
    key, chain = _key_and_chain(store)
    password = None if store.type == PKCS12 else store.password
    if _is_encrypted(key) and password is None:
        name = store.names.get("key_password", "ssl.key.password")
        raise UsageError(f"{name} is not set: the private key of {store.named} is encrypted")
    read = [_read(each, store) for each in chain]
    expires_ms = min(each.not_after_ms for each in read)
    return Material(settings, key, password, _pem(chain), read[0], expires_ms, trusted)


# --- contexts ------------------------------------------------------------------------------------


def server_context(material: Material) -> ssl.SSLContext:
    """For connections that others make."""
    assert material.key is not None, "a server has a key"
    context = _context(ssl.PROTOCOL_TLS_SERVER, material)
    context.verify_mode = _VERIFY[material.settings.client_auth]
    return context


def client_context(material: Material) -> ssl.SSLContext:
    """For connections that we make: who answers has to prove a name, and to have the one that was
    asked for unless that is switched off."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, material)
    context.check_hostname = material.settings.check_hostname
    context.verify_mode = ssl.CERT_REQUIRED
    if material.trusted is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _context(protocol: int, material: Material) -> ssl.SSLContext:
    settings = material.settings
    context = ssl.SSLContext(protocol)
    suites = settings.cipher_suites or (*SUITES_OF_TLS_1_3, *SUITES_OF_TLS_1_2)
    older = [SUITES_OF_TLS_1_2[each] for each in suites if each in SUITES_OF_TLS_1_2]
    versions = [
        _VERSIONS[each]
        for each in settings.protocols
        if (older if each == TLS_1_2 else set(suites) & set(SUITES_OF_TLS_1_3))
    ]
    assert versions, "the settings leave a protocol with a suite"
    context.minimum_version, context.maximum_version = min(versions), max(versions)
    if older:
        context.set_ciphers(":".join((*older, "@SECLEVEL=2")))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whom a truststore names is believed
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    if material.key is not None:
        _load_key(context, material)
    if material.trusted is not None:
        _load_trusted(context, material)
    return context


def _load_key(context: ssl.SSLContext, material: Material) -> None:
    assert material.key is not None
    assert material.settings.keystore is not None
    password = material.password
    with _memory_file(material.chain) as chain, _memory_file(material.key.reveal()) as key:
        try:
            # Without a password of ours OpenSSL would ask at the terminal.
            context.load_cert_chain(chain, key, lambda: password.reveal() if password else "")
        except (ssl.SSLError, ValueError) as failure:
            raise UsageError(_why_refused(failure, material.settings.keystore)) from None


def _why_refused(failure: ssl.SSLError | ValueError, store: Store) -> str:
    reason = getattr(failure, "reason", None) or "it cannot be read"
    if reason == "KEY_VALUES_MISMATCH":
        return f"{store.named}: the private key does not fit the certificate that comes first"
    if store.password is not None and store.type != PKCS12:
        name = store.names.get("key_password", "ssl.key.password")
        return f"{store.named}: {name} does not open the private key, or it is none ({reason})"
    return f"{store.named}: the key or a certificate is refused ({reason})"


def _load_trusted(context: ssl.SSLContext, material: Material) -> None:
    assert material.trusted is not None
    assert material.settings.truststore is not None
    try:
        context.load_verify_locations(cadata=b"".join(material.trusted))
    except ssl.SSLError as failure:
        named = material.settings.truststore.named
        raise UsageError(f"{named}: a certificate is refused ({failure.reason})") from None


@contextmanager
def _memory_file(text: str) -> Iterator[str]:
    """The path of a file that is nowhere but in memory, and gone afterwards."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


# --- files ---------------------------------------------------------------------------------------


def _key_and_chain(store: Store) -> tuple[Secret, list[bytes]]:
    if store.location is None:
        assert store.key is not None
        assert store.certificates is not None
        key, chain = store.key.reveal(), store.certificates
    elif store.type == PKCS12:
        from minikafka import certificates

        data = _read_file(store.location, store.named, private=True)
        loaded = certificates.read_pkcs12(data, store.password, store.named)
        if loaded.key is None:
            raise UsageError(f"{store.named} holds no private key with its certificate")
        key, chain = loaded.key.reveal(), loaded.chain
    else:
        key = chain = _text(_read_file(store.location, store.named, private=True), store)
    return _find_key(key, store), _find_certificates(chain, store)


def _trusted(store: Store) -> tuple[bytes, ...]:
    if store.location is None:
        assert store.certificates is not None
        return tuple(_find_certificates(store.certificates, store))
    data = _read_file(store.location, store.named, private=False)
    if store.type == PKCS12:
        from minikafka import certificates

        loaded = certificates.read_pkcs12(data, store.password, store.named)
        return tuple(_find_certificates(loaded.others, store))
    return tuple(_find_certificates(_text(data, store), store))


def _read_file(path: str, named: str, *, private: bool) -> bytes:
    """All of it. `private`: it holds a key, so others must not be able to read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as failure:
        raise UsageError(f"{named} cannot be read: {failure.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{named} is no file")
        if private and status.st_mode & _NOT_FOR_OTHERS:
            mode = stat.S_IMODE(status.st_mode)
            raise UsageError(
                f"{named} has mode {mode:04o}, and there is a private key in it: others must not "
                "be able to read or to change it (chmod 600, or 640 for a group)"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as failure:
        raise UsageError(f"{named} cannot be read: {failure.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{named} is larger than {MAX_FILE_BYTES} bytes")
    return data


def _text(data: bytes, store: Store) -> str:
    """PEM is ASCII; what stands around it may be anything."""
    if data[:1] == b"\x30" or data[:4] == b"\xfe\xed\xfe\xed":
        raise UsageError(
            f"{store.named} is not in PEM: expected -----BEGIN …, or the type of the store to be "
            "PKCS12 (a JKS file is not read)"
        )
    return data.decode("latin-1")


def _find_key(text: str, store: Store) -> Secret:
    """The first private key in it, in lines as OpenSSL wants them: in a property it may be one."""
    begin = _BEGIN_KEY.search(text)
    if begin is None:
        raise UsageError(
            f"{store.named} holds no private key in PEM: expected -----BEGIN PRIVATE KEY----- "
            "beside its certificates"
        )
    last = f"-----END {begin[1]}-----"
    end = text.find(last, begin.end())
    if end < 0:
        raise UsageError(f"{store.named}: the private key has no END")
    body = text[begin.end() : end]
    if ":" not in body:  # or it has headers, in lines of their own
        plain = "".join(body.split())
        body = "\n".join(plain[at : at + _PEM_COLUMNS] for at in range(0, len(plain), _PEM_COLUMNS))
    return Secret(f"{begin[0]}\n{body.strip()}\n{last}\n")


def _find_certificates(text: str, store: Store) -> list[bytes]:
    try:
        return certificates_in_pem(text)
    except ValueError as problem:
        raise UsageError(f"{store.named}: {problem}") from None


def _read(der: bytes, store: Store) -> Certificate:
    try:
        return read_certificate(der)
    except ValueError as problem:
        raise UsageError(f"{store.named}: {problem}") from None


def _is_encrypted(key: Secret) -> bool:
    return any(mark in key.reveal() for mark in _ENCRYPTED)


def _pem(certificates: Iterator[bytes] | list[bytes] | tuple[bytes, ...]) -> str:
    return "".join(ssl.DER_cert_to_PEM_cert(each) for each in certificates)


# --- replacing -----------------------------------------------------------------------------------

T = TypeVar("T")
_Signature = tuple[tuple[int, ...] | None, ...]


class TlsFiles(Generic[T]):
    """The newest material behind settings, and what `build` made of it (a context, credentials).

    Somebody calls `look` every few seconds. New files take over if they can be read, the key fits
    the certificate, and that is of the same name and for the names that the one before had; else
    all stays as it is. Who replaces two files does it one after the other: what does not fit
    together is looked at once more before it is called an error.

    `_taken`: the state of the files that is in force. `_suspected`: one that did not fit, once;
    `_refused`: one that did not fit twice, which is not read again.
    """

    def __init__(
        self,
        settings: TlsSettings,
        build: Callable[[Material], T],
        now_ms: Callable[[], int],
        *,
        name: str,
    ) -> None:
        """Blocks. UsageError if the files do not do. `name`: whose they are, for the log; `now_ms`
        since 1970."""
        self._settings = settings
        self._build = build
        self._now_ms = now_ms
        self._name = name
        self._looking = asyncio.Lock()
        self._suspected: _Signature | None = None
        self._refused: _Signature | None = None
        self._taken = self._signature()
        self.material = load_material(settings)
        self.value = build(self.material)
        if (left := self.seconds_to_expiry()) is not None and left <= 0:
            log.error("%s: a certificate of this server has expired", name)

    def seconds_to_expiry(self) -> float | None:
        """Of the certificate in the chain that is first to expire; None without a certificate."""
        expires_ms = self.material.expires_ms
        return None if expires_ms is None else (expires_ms - self._now_ms()) / 1000

    async def look(self, *, asked: bool = False) -> bool:
        """Has something taken over? `asked`: a person wants it, now; UsageError if it cannot."""
        async with self._looking:
            signature = await asyncio.to_thread(self._signature)
            if not asked and signature in (self._taken, self._refused):
                return False
            try:
                material, value = await asyncio.to_thread(self._load)
            except UsageError as failure:
                if asked:
                    raise
                self._on_failure(signature, failure)
                return False
            self.material, self.value = material, value
            self._taken, self._suspected, self._refused = signature, None, None
            log.info("%s: new keys or trusted certificates have taken over", self._name)
            return True

    def _on_failure(self, signature: _Signature, failure: UsageError) -> None:
        if signature != self._suspected:
            self._suspected = signature
            log.warning("%s: not taken over, and looked at once more: %s", self._name, failure)
            return
        self._refused = signature
        log.error("%s: not taken over, the old ones stay: %s", self._name, failure)

    def _load(self) -> tuple[Material, T]:
        material = load_material(self._settings)
        self._check_successor(material)
        return material, self._build(material)

    def _check_successor(self, material: Material) -> None:
        before, after = self.material.certificate, material.certificate
        if before is None or after is None:
            return
        store = self._settings.keystore
        assert store is not None
        settings, now_ms = self._settings, self._now_ms()
        if not settings.allow_dn_changes and after.distinguished_name != before.distinguished_name:
            raise UsageError(
                f"{store.named}: the new certificate is of {_shown(after)}, not of "
                f"{_shown(before)} (ssl.allow.dn.changes=true would allow it)"
            )
        if not settings.allow_san_changes and before.alternative_names - after.alternative_names:
            raise UsageError(
                f"{store.named}: the new certificate lacks some of the subject alternative names "
                "that the old one has (ssl.allow.san.changes=true would allow it)"
            )
        if not after.not_before_ms <= now_ms < after.not_after_ms:
            raise UsageError(f"{store.named}: the new certificate is not valid now")

    def _signature(self) -> _Signature:
        """Differs when a file was replaced or written to."""
        stores = (self._settings.keystore, self._settings.truststore)
        return tuple(_state(each.location) for each in stores if each and each.location)


def _shown(certificate: Certificate) -> str:
    return escaped(certificate.distinguished_name[:_SHOWN_CHARACTERS])


def _state(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class ReloadingContext(TlsFiles[ssl.SSLContext]):
    """`value` is the context for the next connection."""

    def __init__(
        self, settings: TlsSettings, now_ms: Callable[[], int], *, server: bool, name: str
    ) -> None:
        build = server_context if server else client_context
        super().__init__(settings, build, now_ms, name=name)
