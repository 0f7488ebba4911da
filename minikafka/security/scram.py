"""SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, 7677; KIP-84), the server's side and the client's.

    client first    n,,n=<user>,r=<client nonce>[,tokenauth=true]
    server first    r=<client nonce><server nonce>,s=<salt>,i=<iterations>
    client final    c=biws,r=<whole nonce>,p=<proof>
    server final    v=<signature>

The server keeps no password: it has salt, iterations, StoredKey = H(ClientKey) and ServerKey. A
proof is ClientKey xor HMAC(StoredKey, what was said), so it is good in this exchange only.

Nobody learns who is a user here: who is none gets a salt that is made of the name and a key of the
cluster's, is asked for the usual iterations, and fails at the end, after the same work.

A whole nonce is the client's with the server's behind. librdkafka before 2.6.1 puts the client's in
front once more; that is taken too, and nothing else (CVE-2024-56128: not to look at it is to take
proofs of another exchange). The channel binding that the client names must be none, in each of its
messages.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass

from minikafka.security.mechanism import Authenticated, Challenge, Failed, Step
from minikafka.security.principal import Principal

MIN_ITERATIONS, MAX_ITERATIONS = 4_096, 16_384
MAX_TOKEN_BYTES = 4_096
SALT_BYTES = 24
_HEADER = "n,,"
_TOLD = "Authentication failed: the credentials are not valid, with SASL mechanism "


@dataclass(frozen=True, slots=True)
class Hash:
    """One of the two families. `name` is the mechanism's."""

    name: str
    algorithm: str
    size_bytes: int

    def h(self, data: bytes) -> bytes:
        return hashlib.new(self.algorithm, data).digest()

    def hmac(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self.algorithm)

    def salted(self, password: str, salt: bytes, iterations: int) -> bytes:
        """Takes milliseconds: that is what it is for. Not for the loop."""
        return hashlib.pbkdf2_hmac(self.algorithm, password.encode(), salt, iterations)


SHA_256 = Hash("SCRAM-SHA-256", "sha256", 32)
SHA_512 = Hash("SCRAM-SHA-512", "sha512", 64)
HASHES = {each.name: each for each in (SHA_256, SHA_512)}


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """What a server keeps of a user's password."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int

    def __repr__(self) -> str:
        return f"Credential(iterations={self.iterations})"


def credential_of(kind: Hash, salted_password: bytes, salt: bytes, iterations: int) -> Credential:
    client_key = kind.hmac(salted_password, b"Client Key")
    server_key = kind.hmac(salted_password, b"Server Key")
    return Credential(salt, kind.h(client_key), server_key, iterations)


def credential_for(kind: Hash, password: str, salt: bytes, iterations: int) -> Credential:
    """See Hash.salted for what it takes."""
    return credential_of(kind, kind.salted(password, salt, iterations), salt, iterations)


def write_credential(credential: Credential) -> str:
    """As Kafka keeps it in a user's node."""
    encoded = [
        b64encode(each).decode()
        for each in (credential.salt, credential.stored_key, credential.server_key)
    ]
    salt, stored, server = encoded
    return f"salt={salt},stored_key={stored},server_key={server},iterations={credential.iterations}"


def read_credential(kind: Hash, text: str) -> Credential:
    """ValueError if it is none of that family."""
    fields = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if fields.keys() != {"salt", "stored_key", "server_key", "iterations"}:
        raise ValueError("a SCRAM credential has salt, stored_key, server_key and iterations")
    try:
        salt, stored, server = (
            b64decode(fields[name], validate=True) for name in ("salt", "stored_key", "server_key")
        )
    except Base64Error:
        raise ValueError("the keys of a SCRAM credential are in base64") from None
    iterations = int(fields["iterations"])
    if {len(stored), len(server)} != {kind.size_bytes}:
        raise ValueError(f"the keys of {kind.name} have {kind.size_bytes} bytes")
    if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
        raise ValueError(f"iterations are from {MIN_ITERATIONS} to {MAX_ITERATIONS}")
    return Credential(salt, stored, server, iterations)


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """Whom a name and its credential stand for. A token's name stands for its owner."""

    credential: Credential
    principal: Principal
    by_token: bool = False
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Users:
    """What the server knows. `find(user, by_token)`; `decoy_key` is the cluster's, `iterations`
    what most of its users have."""

    find: Callable[[str, bool], Found | None]
    decoy_key: bytes
    iterations: int = MIN_ITERATIONS


class ScramServer:
    """One exchange. `nonce` is new for each: letters and digits, nobody can guess it."""

    def __init__(self, kind: Hash, users: Users, nonce: str) -> None:
        self._kind = kind
        self._users = users
        self._nonce = nonce
        self._first: _First | None = None
        self._server_first = ""
        self._found: Found | None = None
        self._over = False

    def step(self, token: bytes) -> Step:
        try:
            if self._over:
                raise _WrongError("the exchange is over")
            if self._first is None:
                return self._on_first(token)
            self._over = True
            return self._on_final(self._first, token)
        except _WrongError as error:
            self._over = True
            return Failed(_TOLD + self._kind.name, str(error))

    def _on_first(self, token: bytes) -> Step:
        self._first = first = _read_first(token)
        self._found = self._users.find(first.user, first.by_token)
        if self._found is None:
            salt, iterations = self._decoy(first.user), self._users.iterations
        else:
            salt, iterations = self._found.credential.salt, self._found.credential.iterations
        nonce = first.nonce + self._nonce
        self._server_first = f"r={nonce},s={b64encode(salt).decode()},i={iterations}"
        return Challenge(self._server_first.encode())

    def _decoy(self, user: str) -> bytes:
        """The same salt for the same name, as a user has it."""
        data = self._kind.name.encode() + b"\0" + user.encode()
        return SHA_256.hmac(self._users.decoy_key, data)[:SALT_BYTES]

    def _on_final(self, first: _First, token: bytes) -> Step:
        fields, before_proof = _read_final(token)
        nonce = first.nonce + self._nonce
        named = fields["r"].encode()
        taken = hmac.compare_digest(named, nonce.encode())
        taken |= hmac.compare_digest(named, (first.nonce + nonce).encode())
        if not taken:
            raise _WrongError("the nonce is not that of this exchange")
        if _base64(fields["c"]) != _header(first):
            raise _WrongError("the channel binding is not what the first message said")
        found = self._found
        credential = _NOBODYS[self._kind.name] if found is None else found.credential
        said = f"{first.bare},{self._server_first},{before_proof}".encode()
        proof = _base64(fields["p"])
        if len(proof) != self._kind.size_bytes:
            raise _WrongError("the proof has not the length of the hash")
        signature = self._kind.hmac(credential.stored_key, said)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        good = hmac.compare_digest(self._kind.h(client_key), credential.stored_key)
        verifier = b64encode(self._kind.hmac(credential.server_key, said))
        if found is None:
            raise _WrongError(f"there is no user '{first.user}' with {self._kind.name}")
        if not good:
            raise _WrongError(f"wrong password of '{first.user}'")
        return Authenticated(found.principal, b"v=" + verifier, found.expires_ms, found.by_token)


class ScramClient:
    """The other side. `first()`, then `final(server's first)`, then `check(server's final)`.
    ValueError if the server says what no server says that knows the password."""

    def __init__(self, kind: Hash, user: str, password: str, nonce: str) -> None:
        self._kind = kind
        self._password = password
        self._nonce = nonce
        self._bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        self._verifier = b""

    def first(self) -> bytes:
        return (_HEADER + self._bare).encode()

    def final(self, server_first: bytes) -> bytes:
        """Takes milliseconds. Bounded: a server cannot ask for a million iterations."""
        text = server_first.decode()
        fields = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        nonce, iterations = fields.get("r", ""), int(fields.get("i", "0"))
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ValueError("the server's nonce does not begin with ours")
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise ValueError(
                f"the server asks for {iterations} iterations: "
                f"{MIN_ITERATIONS} to {MAX_ITERATIONS} are sensible"
            )
        salt = b64decode(fields.get("s", ""), validate=True)
        salted = self._kind.salted(self._password, salt, iterations)
        credential = credential_of(self._kind, salted, salt, iterations)
        before_proof = f"c={b64encode(_HEADER.encode()).decode()},r={nonce}"
        said = f"{self._bare},{text},{before_proof}".encode()
        self._verifier = self._kind.hmac(credential.server_key, said)
        client_key = self._kind.hmac(salted, b"Client Key")
        signature = self._kind.hmac(credential.stored_key, said)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{before_proof},p={b64encode(proof).decode()}".encode()

    def check(self, server_final: bytes) -> None:
        expected = b"v=" + b64encode(self._verifier)
        if not self._verifier or not hmac.compare_digest(server_final, expected):
            raise ValueError("the server does not know the password either")


# --- messages ------------------------------------------------------------------------------------


class _WrongError(Exception):
    """The message says why, for the log."""


@dataclass(frozen=True, slots=True)
class _First:
    user: str
    nonce: str
    authzid: str
    bare: str  # what comes behind the header
    by_token: bool


# Keys of nobody, so that as much is computed for who is no user.
_NOBODYS = {
    each.name: Credential(b"", bytes(each.size_bytes), bytes(each.size_bytes), MIN_ITERATIONS)
    for each in HASHES.values()
}


def _text(token: bytes) -> str:
    try:
        text = token.decode()
    except UnicodeDecodeError:
        raise _WrongError("a message is not UTF-8") from None
    if "\0" in text:
        raise _WrongError("a message holds a zero byte")
    return text


def _read_first(token: bytes) -> _First:
    binding, comma, rest = _text(token).partition(",")
    if not comma or binding != "n":
        raise _WrongError("channel binding is asked for, and not supported")
    authzid, comma, bare = rest.partition(",")
    if not comma or not (authzid == "" or authzid.startswith("a=")):
        raise _WrongError("the first message has no header")
    attributes = bare.split(",")
    if len(attributes) < 2 or attributes[0][:2] != "n=" or attributes[1][:2] != "r=":
        raise _WrongError("the first message is not n=user,r=nonce")
    user, nonce = _unescaped(attributes[0][2:]), attributes[1][2:]
    if not user or not nonce or not all("!" <= each <= "~" for each in nonce):
        raise _WrongError("the first message lacks a user or a nonce")
    if authzid and _unescaped(authzid[2:]) != user:
        raise _WrongError(f"'{user}' asks to act for another")
    by_token = False
    for each in attributes[2:]:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise _WrongError("an extension is not name=value")
        by_token |= (name, value.lower()) == ("tokenauth", "true")
    return _First(user, nonce, authzid, bare, by_token)


def _header(first: _First) -> bytes:
    return f"n,{first.authzid},".encode()


def _read_final(token: bytes) -> tuple[dict[str, str], str]:
    """(its fields, what comes before the proof)."""
    text = _text(token)
    before_proof, comma, proof = text.rpartition(",p=")
    parts = before_proof.split(",")
    if not comma or len(parts) < 2 or parts[0][:2] != "c=" or parts[1][:2] != "r=":
        raise _WrongError("the final message is not c=…,r=…,p=…")
    return {"c": parts[0][2:], "r": parts[1][2:], "p": proof}, before_proof


def _unescaped(name: str) -> str:
    """A name in which only =2C and =3D stand for something."""
    parts = name.split("=")
    if any(part[:2] not in ("2C", "3D") for part in parts[1:]):
        raise _WrongError("a name holds an = that is neither =2C nor =3D")
    return parts[0] + "".join({"2C": ",", "3D": "="}[part[:2]] + part[2:] for part in parts[1:])


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise _WrongError("a field is not in base64") from None
