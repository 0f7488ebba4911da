"""What is read of a certificate, and certificates that are none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka import certificates
from minikafka.security.certificate import (
    MAX_CERTIFICATE_BYTES,
    Certificate,
    certificates_in_pem,
    read_certificate,
)
from minikafka.security.der import Element, read_oid, read_time_ms
from minikafka.security.mapping import PrincipalMapping
from minikafka.security.principal import ANONYMOUS, Principal

ISSUED = certificates.issue(certificates.new_authority("authority"), "alice", ["localhost"])
(GOOD,) = certificates_in_pem(ISSUED.chain)
DAY_MS = 86_400_000


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


NAME = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403") + tlv(0x0C, b"bob"))))
VALIDITY = tlv(0x30, tlv(0x17, b"700101000000Z") + tlv(0x18, b"20500101000000Z"))
SERIAL, EMPTY = tlv(0x02, b"\1"), tlv(0x30, b"")
ALTERNATIVE_NAMES = bytes.fromhex("0603551d11")


def certificate(
    *extensions: bytes, validity: bytes = VALIDITY, name: bytes = NAME, version: bytes = b""
) -> bytes:
    parts = version + SERIAL + EMPTY + NAME + validity + name + EMPTY
    if extensions:
        parts += tlv(0xA3, tlv(0x30, b"".join(extensions)))
    return tlv(0x30, tlv(0x30, parts) + EMPTY + tlv(0x03, b"\0"))


def extension(value: bytes, identifier: bytes = ALTERNATIVE_NAMES, middle: bytes = b"") -> bytes:
    return tlv(0x30, identifier + middle + tlv(0x04, value))


NAMES = tlv(0x30, tlv(0x82, b"a") + tlv(0x82, b"b"))
CRITICAL = tlv(0x01, b"\xff")


@pytest.mark.parametrize("version", [b"", tlv(0xA0, tlv(0x02, b"\2"))])
@pytest.mark.parametrize("critical", [b"", CRITICAL])
def test_the_parts_that_matter_are_found(version: bytes, critical: bytes) -> None:
    other = extension(b"\xff", bytes.fromhex("0603551d0f"), CRITICAL)
    der = certificate(other, extension(NAMES, middle=critical), version=version)
    assert read_certificate(der) == Certificate(
        "CN=bob", frozenset((b"\x82\1a", b"\x82\1b")), 0, 80 * 365 * DAY_MS + 20 * DAY_MS
    )


def test_a_certificate_may_have_no_extensions() -> None:
    assert read_certificate(certificate()).alternative_names == frozenset()


@pytest.mark.parametrize("part", range(64))
def test_a_certificate_that_is_cut_off_is_refused(part: int) -> None:
    """(A signature is not always of the same length.)"""
    with pytest.raises(ValueError):
        read_certificate(GOOD[: len(GOOD) * part // 64])


@pytest.mark.parametrize(
    ("what", "der"),
    [
        ("nothing", b""),
        ("empty", EMPTY),
        ("two", GOOD + GOOD),
        ("too few parts", tlv(0x30, tlv(0x30, SERIAL + EMPTY) + EMPTY)),
        ("no validity", certificate(validity=EMPTY)),
        ("a validity of three", certificate(validity=tlv(0x30, tlv(0x17, b"700101000000Z") * 3))),
        ("a validity of numbers", certificate(validity=tlv(0x30, SERIAL * 2))),
        ("a subject of zeros", certificate(name=tlv(0x30, b"\0" * 64))),
        ("an extension without value", certificate(tlv(0x30, ALTERNATIVE_NAMES))),
        ("names that are text", certificate(extension(b"localhost"))),
        ("a million names", certificate(extension(tlv(0x30, b"\x82\0" * 40_000)))),
        ("a thousand extensions", certificate(*[extension(NAMES, b"\6\3\x55\x1d\x0f")] * 1_000)),
        ("very large", certificate(name=tlv(0x30, b"\0" * MAX_CERTIFICATE_BYTES))),
        ("a length of 2 GiB", b"\x30\x84\x7f\xff\xff\xff" + GOOD),
        (
            "nested a million times",
            (b"\x30\x84\x00\x0f\x42\x40" * 1_000_000)[:MAX_CERTIFICATE_BYTES],
        ),
        ("nested as it should be", b"\x30\x82\x80\x00" * 8_000 + b"\0" * 0x8000),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_certificate_is_refused(what: str, der: bytes) -> None:
    with pytest.raises(ValueError) as refused:
        read_certificate(der)
    assert len(str(refused.value)) < 120


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=8), st.integers(0, 8))
def test_a_certificate_with_a_few_wrong_bytes_never_raises_anything_else(
    at: int, noise: bytes, removed: int
) -> None:
    with contextlib.suppress(ValueError):
        read_certificate(GOOD[:at] + noise + GOOD[at + removed :])


@pytest.mark.parametrize(
    ("tag", "text", "expected_ms"),
    [
        (0x17, b"700101000001Z", 1_000),
        (0x17, b"491231235959Z", 2_524_607_999_000),
        (0x17, b"500101000000Z", -631_152_000_000),
        (0x18, b"20380119031408Z", 2_147_483_648_000),
        (0x18, b"99991231235959Z", 253_402_300_799_000),
    ],
)
def test_times_are_read(tag: int, text: bytes, expected_ms: int) -> None:
    assert read_time_ms(Element(tag, text, b"")) == expected_ms


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x17, b"7001010000Z"),
        (0x17, b"700101000000+0100"),
        (0x17, b"700101 00000Z"),
        (0x17, b"701301000000Z"),
        (0x17, b"700101000060Z"),
        (0x18, b"00000101000000Z"),
        (0x18, b"20300230000000Z"),
        (0x18, "2030010100000\u0664Z".encode()),
        (0x02, b"700101000000Z"),
    ],
)
def test_a_time_that_is_none_is_refused(tag: int, text: bytes) -> None:
    with pytest.raises(ValueError):
        read_time_ms(Element(tag, text, b""))


def test_identifiers_are_read() -> None:
    assert read_oid(bytes.fromhex("550403")) == "2.5.4.3"
    assert read_oid(bytes.fromhex("883701")) == "2.999.1"
    assert read_oid(b"\x00") == "0.0"


def test_certificates_are_found_in_a_text() -> None:
    text = f"Bag Attributes\r\n{ISSUED.chain}subject=ü\n{ISSUED.chain.replace(chr(10), chr(13))}"
    assert certificates_in_pem(text) == [GOOD, GOOD]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ISSUED.key.reveal(),
        ISSUED.chain.replace("END", "FIN"),
        ISSUED.chain.replace("M", "*"),
        ISSUED.chain * 1_001,
        "-----BEGIN CERTIFICATE-----" * 100_000,
    ],
)
def test_a_text_without_certificates_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        certificates_in_pem(text)
    assert len(str(refused.value)) < 100


def test_who_shows_a_certificate_is_whom_it_names_and_who_shows_none_is_nobody() -> None:
    mapping = PrincipalMapping("RULE:CN=(.*)/$1/")
    assert mapping.of_certificate(GOOD) == Principal("User", "alice")
    assert mapping.of_certificate(None) == ANONYMOUS
    with pytest.raises(ValueError):
        mapping.of_certificate(b"")
