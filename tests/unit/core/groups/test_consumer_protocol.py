"""core/groups/consumer_protocol.py: what consumers tell each other, as bytes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.core.groups.consumer_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from minikafka.errors import InvalidRequestError
from minikafka.model import TopicPartition

PARTITIONS = (TopicPartition("a", 0), TopicPartition("a", 2), TopicPartition("bc", 1))


def test_a_subscription_is_laid_out_as_in_kafka() -> None:
    encoded = encode_subscription(Subscription(("ab",), b"u", (TopicPartition("c", 7),), 3))
    assert encoded.hex(" ", -2) == (
        "0002 0000 0001 0002 6162 0000 0001 7500 0000 0100 0163 0000 0001 0000 0007 0000 0003"
    )


def test_an_assignment_is_laid_out_as_in_kafka() -> None:
    encoded = encode_assignment((TopicPartition("c", 7),))
    assert encoded.hex(" ", -2) == "0000 0000 0001 0001 6300 0000 0100 0000 0700 0000 00"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (0, Subscription(("ab",), b"")),
        (1, Subscription(("ab",), b"", (TopicPartition("c", 7),))),
        (2, Subscription(("ab",), b"", (TopicPartition("c", 7),), 9)),
        (7, Subscription(("ab",), b"", (TopicPartition("c", 7),), 9)),
    ],
)
def test_every_version_of_a_subscription_is_read_as_far_as_it_is_known(
    version: int, expected: Subscription
) -> None:
    parts = [bytes.fromhex("00000001 0002 6162 ffffffff")]
    if version >= 1:
        parts.append(bytes.fromhex("00000001 0001 63 00000001 00000007"))
    if version >= 2:
        parts.append(bytes.fromhex("00000009"))
    if version >= 3:
        parts.append(b"\0\1r and more")
    assert decode_subscription(version.to_bytes(2, "big") + b"".join(parts)) == expected


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_subscription_may_end_where_a_version_before_ended(version: int) -> None:
    encoded = version.to_bytes(2, "big") + bytes.fromhex("00000001 0002 6162")
    assert decode_subscription(encoded) == Subscription(("ab",))


def test_no_bytes_are_an_empty_assignment() -> None:
    assert decode_assignment(b"") == ()
    assert decode_assignment(encode_assignment(PARTITIONS, b"data")) == PARTITIONS


def test_a_subscription_comes_back_as_it_went() -> None:
    subscription = Subscription(("a", "ü"), b"user", PARTITIONS, 12)
    assert decode_subscription(encode_subscription(subscription)) == subscription


@given(st.binary(max_size=40))
def test_other_bytes_are_refused_and_nothing_worse(data: bytes) -> None:
    for decode in (decode_subscription, decode_assignment):
        with suppress(InvalidRequestError):
            decode(data)


def test_a_length_beyond_the_end_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="a length of 9"):
        decode_subscription(bytes.fromhex("0000 00000001 0009 61"))
