"""SaslHandshake 0 and 1, SaslAuthenticate 0 to 2, by hand: they come before there is a name, and so
no more of them is read than the machine (security/sasl.py) asks for.

    SaslHandshake      mechanism                 -> error, mechanisms
    SaslAuthenticate   token                     -> error, message, token, [lifetime in ms] (1+)
"""

from __future__ import annotations

from minikafka.kafka.wire import (
    INT16,
    INT64,
    MalformedRequestError,
    Reader,
    byte_string,
    count,
    string,
)
from minikafka.security.sasl import HandshakeAnswer, TokenAnswer

_FIRST_FLEXIBLE_AUTHENTICATE = 2
_FIRST_WITH_LIFETIME = 1


def read_handshake(reader: Reader) -> str:
    """The mechanism. MalformedRequestError."""
    return reader.string()


def read_authenticate(reader: Reader) -> bytes:
    """The token. MalformedRequestError."""
    token = reader.nullable_bytes()
    if token is None:
        raise MalformedRequestError("SaslAuthenticate without a token")
    reader.tags()
    return bytes(token)


def write_handshake(answer: HandshakeAnswer) -> bytes:
    names = b"".join(string(name, flexible=False) for name in answer.mechanisms)
    return INT16.pack(answer.error) + count(len(answer.mechanisms), flexible=False) + names


def write_authenticate(version: int, answer: TokenAnswer) -> bytes:
    flexible = version >= _FIRST_FLEXIBLE_AUTHENTICATE
    return b"".join(
        (
            INT16.pack(answer.error),
            string(answer.told, flexible=flexible),
            byte_string(answer.token, flexible=flexible),
            INT64.pack(answer.lifetime_ms) if version >= _FIRST_WITH_LIFETIME else b"",
            b"\x00" if flexible else b"",
        )
    )
