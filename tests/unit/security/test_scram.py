"""SCRAM: the vectors of the RFC, our client against our server, and who lies."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.security.mechanism import Authenticated, Challenge, Failed
from minikafka.security.principal import Principal
from minikafka.security.scram import (
    HASHES,
    SHA_256,
    SHA_512,
    Credential,
    Found,
    Hash,
    ScramClient,
    ScramServer,
    Users,
    credential_for,
    read_credential,
    write_credential,
)
from tests.helpers.amounts import amount

ALICE = Principal("User", "alice")
SALT = b"salt of alice"
CREDENTIALS = {
    (kind.name, user): credential_for(kind, password, SALT + user.encode(), 4_096)
    for kind in HASHES.values()
    for user, password in [("alice", "secret"), ("a,b=c", "p=,")]
}
KINDS = pytest.mark.parametrize("kind", HASHES.values(), ids=lambda kind: kind.name)


def users_of(kind: Hash) -> Users:
    def find(user: str, by_token: bool) -> Found | None:
        credential = CREDENTIALS.get((kind.name, user))
        if credential is None or by_token != (user == "a,b=c"):
            return None
        return Found(credential, ALICE, by_token, 5_000 if by_token else None)

    return Users(find, b"the cluster's")


def server_of(kind: Hash, nonce: str = "server") -> ScramServer:
    return ScramServer(kind, users_of(kind), nonce)


def challenge(server: ScramServer, token: bytes) -> bytes:
    step = server.step(token)
    assert isinstance(step, Challenge), step
    return step.token


def refused(server: ScramServer, token: bytes) -> str:
    """The reason. What is told is always the same, and after it nothing more is taken."""
    step = server.step(token)
    assert isinstance(step, Failed), step
    assert step.told.startswith("Authentication failed: the credentials are not valid, with SASL")
    after = server.step(b"n,,n=alice,r=x")
    assert isinstance(after, Failed)
    assert (after.told, after.reason) == (step.told, "the exchange is over")
    return step.reason


def proof(server: ScramServer, kind: Hash, user: str = "alice", password: str = "secret") -> bytes:
    client = ScramClient(kind, user, password, "client")
    return client.final(challenge(server, client.first()))


# --- the RFC -------------------------------------------------------------------------------------


def test_the_exchange_of_rfc_7677() -> None:
    salt = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    credential = credential_for(SHA_256, "pencil", salt, 4_096)
    users = Users(lambda user, _: Found(credential, Principal("User", user)), b"")
    server = ScramServer(SHA_256, users, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    client = ScramClient(SHA_256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    assert client.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    first = challenge(server, client.first())
    assert first == nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = client.final(first)
    assert final == b"c=biws," + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    step = server.step(final)
    assert step == Authenticated(
        Principal("User", "user"), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    )
    client.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


@KINDS
def test_who_knows_the_password_is_who_they_are(kind: Hash) -> None:
    server = server_of(kind)
    client = ScramClient(kind, "alice", "secret", "client")
    step = server.step(client.final(challenge(server, client.first())))
    assert isinstance(step, Authenticated)
    assert (step.principal, step.expires_ms, step.by_token) == (ALICE, None, False)
    client.check(step.token)


@KINDS
def test_a_token_stands_for_its_owner(kind: Hash) -> None:
    client = ScramClient(kind, "a,b=c", "p=,", "client")
    bare = client.first() + b",tokenauth=true"
    client._bare = bare.decode()[3:]  # what Kafka's clients say for a delegation token
    server = server_of(kind)
    step = server.step(client.final(challenge(server, bare)))
    assert isinstance(step, Authenticated)
    assert (step.principal, step.expires_ms, step.by_token) == (ALICE, 5_000, True)
    # Its name and secret are no user's, and a user's are no token's.
    assert "no user 'a,b=c'" in refused(*wrong(kind, "a,b=c", "p=,"))


def wrong(kind: Hash, user: str, password: str) -> tuple[ScramServer, bytes]:
    server = server_of(kind)
    return server, proof(server, kind, user, password)


# --- who does not know it ------------------------------------------------------------------------


@KINDS
def test_a_wrong_password(kind: Hash) -> None:
    assert refused(*wrong(kind, "alice", "guess")) == "wrong password of 'alice'"
    assert refused(*wrong(kind, "alice", "")) == "wrong password of 'alice'"


@KINDS
def test_who_is_no_user_sees_what_a_user_sees(kind: Hash) -> None:
    assert refused(*wrong(kind, "mallory", "guess")).startswith("there is no user 'mallory'")
    said = [challenge(server_of(kind), b"n,,n=mallory,r=client") for _ in range(2)]
    assert said[0] == said[1]
    assert said[0].endswith(b",i=4096")
    assert said[0] != challenge(server_of(kind), b"n,,n=malory,r=client")
    # The all-zero key of nobody is no key that opens.
    server = server_of(kind)
    first = challenge(server, b"n,,n=mallory,r=client").decode()
    before = f"c=biws,{first.split(',')[0]}"
    said_all = f"n=mallory,r=client,{first},{before}".encode()
    zero = b64encode(kind.hmac(bytes(kind.size_bytes), said_all)).decode()
    assert "no user" in refused(server, f"{before},p={zero}".encode())


@KINDS
def test_a_proof_is_good_in_its_own_exchange_only(kind: Hash) -> None:
    """CVE-2024-56128."""
    heard = proof(server_of(kind, "one"), kind)
    replayed = server_of(kind, "two")
    challenge(replayed, b"n,,n=alice,r=client")
    assert refused(replayed, heard) == "the nonce is not that of this exchange"
    # With the nonce of now, the proof of then is wrong.
    again = server_of(kind, "two")
    challenge(again, b"n,,n=alice,r=client")
    assert refused(again, heard.replace(b"clientone", b"clienttwo")) == "wrong password of 'alice'"


def nonced(kind: Hash, nonce: str) -> tuple[ScramServer, bytes]:
    """A right proof under another nonce."""
    server = server_of(kind)
    first = challenge(server, b"n,,n=alice,r=client").decode()
    salted = kind.salted("secret", SALT + b"alice", 4_096)
    key = kind.hmac(salted, b"Client Key")
    before = f"c=biws,r={nonce}"
    signature = kind.hmac(kind.h(key), f"n=alice,r=client,{first},{before}".encode())
    proved = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return server, f"{before},p={b64encode(proved).decode()}".encode()


@KINDS
def test_two_nonces_are_taken_and_no_third(kind: Hash) -> None:
    for nonce in ("clientserver", "clientclientserver"):
        server, final = nonced(kind, nonce)
        assert isinstance(server.step(final), Authenticated)
    for nonce in ("server", "xclientserver", "client", "clientserverx", "clientclientclientserver"):
        assert refused(*nonced(kind, nonce)) == "the nonce is not that of this exchange"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "channel binding"),
        (b"y,,n=alice,r=x", "channel binding"),
        (b"p=tls-unique,,n=alice,r=x", "channel binding"),
        (b"n", "channel binding"),
        (b"n,", "no header"),
        (b"n,b=alice,n=alice,r=x", "no header"),
        (b"n,,", "not n=user,r=nonce"),
        (b"n,,m=ext,n=alice,r=x", "not n=user,r=nonce"),
        (b"n,,r=x,n=alice", "not n=user,r=nonce"),
        (b"n,,n=alice", "not n=user,r=nonce"),
        (b"n,,n=,r=x", "lacks a user or a nonce"),
        (b"n,,n=alice,r=", "lacks a user or a nonce"),
        (b"n,,n=alice,r=a b", "lacks a user or a nonce"),
        (b"n,,n=alice,r=x,ext", "an extension is not"),
        (b"n,,n=alice,r=x,=y", "an extension is not"),
        (b"n,a=bob,n=alice,r=x", "'alice' asks to act for another"),
        (b"n,,n=al=ice,r=x", "neither =2C nor =3D"),
        (b"n,,n=alice=,r=x", "neither =2C nor =3D"),
        (b"n,,n=alice=2c,r=x", "neither =2C nor =3D"),
        (b"n,,n=\xff,r=x", "not UTF-8"),
        (b"n,,n=a\0b,r=x", "zero byte"),
    ],
)
def test_first_messages_that_are_none(token: bytes, reason: str) -> None:
    assert reason in refused(server_of(SHA_256), token)


@pytest.mark.parametrize("authzid", [b"", b"a=alice"])
def test_to_act_for_oneself_is_allowed(authzid: bytes) -> None:
    server = server_of(SHA_256)
    challenge(server, b"n," + authzid + b",n=alice,r=client")
    bound = b64encode(b"n," + authzid + b",")
    other = b64encode(b"n,," if authzid else b"n,a=alice,")
    final = b"c=" + other + b",r=clientserver,p=" + b64encode(bytes(32))
    assert refused(server, final) == "the channel binding is not what the first message said"
    again = server_of(SHA_256)
    challenge(again, b"n," + authzid + b",n=alice,r=client")
    final = b"c=" + bound + b",r=clientserver,p=" + b64encode(bytes(32))
    assert refused(again, final) == "wrong password of 'alice'"


@pytest.mark.parametrize(
    ("final", "reason"),
    [
        (b"", "not c="),
        (b"c=biws,r=clientserver", "not c="),
        (b"r=clientserver,c=biws,p=AA==", "not c="),
        (b"c=biws,p=AA==", "not c="),
        (b"c=biws,r=clientserver,p=!", "not in base64"),
        (b"c=!,r=clientserver,p=AA==", "not in base64"),
        (b"c=biws,r=clientserver,p=AA==", "length of the hash"),
        (b"c=biws,r=clientserver,p=", "length of the hash"),
        (b"c=biwss,r=clientserver,p=AA==", "not in base64"),
        (b"c=eSws,r=clientserver,p=AA==", "channel binding"),
        ("c=biws,r=clientservér,p=AA==".encode(), "nonce"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_final_messages_that_are_none(final: bytes, reason: str) -> None:
    server = server_of(SHA_256)
    challenge(server, b"n,,n=alice,r=client")
    assert reason in refused(server, final)


@settings(max_examples=amount(300), deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)), max_size=3)
)
def test_no_message_is_an_exception_or_a_proof(tokens: list[bytes]) -> None:
    server = server_of(SHA_512)
    for token in tokens:
        assert isinstance(server.step(token), Challenge | Failed)


# --- our client ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"r=other,s=AAAA,i=4096", "does not begin with ours"),
        (b"r=client,s=AAAA,i=4096", "does not begin with ours"),
        (b"s=AAAA,i=4096", "does not begin with ours"),
        (b"r=clientx,s=AAAA,i=4095", "4095 iterations"),
        (b"r=clientx,s=AAAA,i=100000000", "100000000 iterations"),
        (b"r=clientx,s=AAAA", "0 iterations"),
    ],
)
def test_a_server_that_asks_for_nonsense_is_refused(said: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ScramClient(SHA_256, "alice", "secret", "client").final(said)


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    client = ScramClient(SHA_256, "alice", "secret", "client")
    with pytest.raises(ValueError, match="does not know"):
        client.check(b"v=")
    server = server_of(SHA_256)
    client.final(challenge(server, client.first()))
    for said in (b"", b"v=", b"v=" + b64encode(bytes(32)), b"e=other-error"):
        with pytest.raises(ValueError, match="does not know"):
            client.check(said)


# --- what is kept --------------------------------------------------------------------------------


@KINDS
def test_a_credential_is_kept_as_kafka_keeps_it(kind: Hash) -> None:
    credential = CREDENTIALS[kind.name, "alice"]
    text = write_credential(credential)
    assert text.startswith("salt=c2FsdCBvZiBhbGljZWFsaWNl,stored_key=")
    assert text.endswith(",iterations=4096")
    assert read_credential(kind, text) == credential
    assert "key" not in repr(credential)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("iterations=4096", "iterations=4095"), "4096 to 16384"),
        (("iterations=4096", "iterations=16385"), "4096 to 16384"),
        (("iterations=4096", "iterations=x"), "invalid literal"),
        ((",iterations=4096", ""), "has salt, stored_key"),
        (("salt=", "salt=!"), "in base64"),
        (("stored_key=", "stored_key=AAAA"), "have 32 bytes"),
    ],
)
def test_what_is_no_credential(change: tuple[str, str], reason: str) -> None:
    text = write_credential(CREDENTIALS[SHA_256.name, "alice"])
    with pytest.raises(ValueError, match=reason):
        read_credential(SHA_256, text.replace(*change))


def test_one_family_is_not_the_other() -> None:
    with pytest.raises(ValueError, match="have 64 bytes"):
        read_credential(SHA_512, write_credential(CREDENTIALS[SHA_256.name, "alice"]))
    assert Credential(b"", b"", b"", 4_096) != CREDENTIALS[SHA_256.name, "alice"]
