"""Names of certificates as Java writes them, and bytes that are none."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.security.dn import MAX_DN_CHARACTERS, distinguished_name

RECORDED = Path(__file__).with_name("java_names.tsv").read_text().splitlines()
NO_TEXT = "\ufffd"  # what Java writes in the place of bytes that are no UTF-8


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


CN = bytes.fromhex("0603550403")


def common_name(value: bytes, tag: int = 0x0C) -> bytes:
    return tlv(0x30, tlv(0x31, tlv(0x30, CN + tlv(tag, value))))


@pytest.mark.parametrize("line", RECORDED, ids=[line.split("\t")[0] for line in RECORDED])
def test_a_name_is_written_as_java_writes_it(line: str) -> None:
    _, der, recorded = line.split("\t")
    java = json.loads(recorded)
    if NO_TEXT not in java:
        assert distinguished_name(bytes.fromhex(der)) == java


@pytest.mark.parametrize("tag", [0x0C, 0x14, 0x1E])
def test_values_that_are_no_utf8_keep_apart(tag: int) -> None:
    names = [distinguished_name(common_name(value, tag)) for value in (b"a\xff", b"a\xfe")]
    assert names == [f"CN=#{tag:02x}0261ff", f"CN=#{tag:02x}0261fe"]


def test_a_value_cannot_pose_as_another_attribute() -> None:
    posing = distinguished_name(common_name(b"alice,O=Example+OU=x"))
    assert posing == "CN=alice\\,O\\=Example\\+OU\\=x"


def attribute_of(identifier: bytes) -> bytes:
    return tlv(0x30, tlv(0x31, tlv(0x30, tlv(6, identifier) + tlv(0x0C, b"a"))))


GOOD = common_name(b"alice")
ATTRIBUTE_SET = tlv(0x31, tlv(0x30, CN + tlv(0x0C, b"a")) * 2)


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_a_name_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(ValueError):
        distinguished_name(GOOD[:cut])


@pytest.mark.parametrize(
    ("what", "der"),
    [
        ("nothing", b""),
        ("a set", tlv(0x31, b"")),
        ("two names", GOOD + GOOD),
        ("a tail", GOOD + b"\0"),
        ("an empty set", tlv(0x30, tlv(0x31, b""))),
        ("no set", tlv(0x30, tlv(0x30, tlv(0x30, CN + tlv(0x0C, b"a"))))),
        ("no value", tlv(0x30, tlv(0x31, tlv(0x30, CN)))),
        ("two values", tlv(0x30, tlv(0x31, tlv(0x30, CN + tlv(0x0C, b"a") * 2)))),
        ("no identifier", tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x0C, b"a") * 2)))),
        ("an empty identifier", attribute_of(b"")),
        ("an identifier cut off", attribute_of(b"\x55\x84")),
        (
            "an identifier padded",
            attribute_of(b"\x55\x80\x01"),
        ),
        ("a long identifier", attribute_of(b"\x55" * 65)),
        ("an endless length", b"\x30\x80" + GOOD + b"\0\0"),
        ("a length of 2 GiB", b"\x30\x84\x7f\xff\xff\xff" + GOOD),
        ("a length of 2^64", b"\x30\x88" + b"\xff" * 8 + GOOD),
        ("a length with many octets", b"\x30\xfe" + b"\0" * 126),
        ("a length that is padded", b"\x30\x81\x05" + b"\0" * 5),
        ("a length with a zero before", b"\x30\x82\x00\x90" + b"\0" * 0x90),
        ("a tag of many octets", b"\x3f\x81\x81\x01\x00"),
        ("nested a hundred thousand times", b"\x30\x84\x00\xff\xff\xff" * 100_000),
        ("sets within sets", tlv(0x30, tlv(0x31, tlv(0x31, tlv(0x31, tlv(0x31, b"")))))),
        ("a million sets", tlv(0x30, b"\x31\x00" * 1_000_000)),
        ("a million attributes", tlv(0x30, tlv(0x31, b"\x30\x00" * 1_000_000))),
        ("too many attributes", tlv(0x30, ATTRIBUTE_SET * 17)),
        ("a million characters", common_name(b"x" * 1_000_000)),
        ("too many characters", common_name(b"x" * (MAX_DN_CHARACTERS - 2))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_name_is_refused(what: str, der: bytes) -> None:
    with pytest.raises(ValueError) as refused:
        distinguished_name(der)
    assert len(str(refused.value)) < 100


def test_the_longest_name_is_read() -> None:
    assert len(distinguished_name(common_name(b"x" * (MAX_DN_CHARACTERS - 3)))) == MAX_DN_CHARACTERS


def test_as_many_attributes_as_may_be_are_read() -> None:
    assert distinguished_name(tlv(0x30, ATTRIBUTE_SET * 16)) == ",".join(["CN=a+CN=a"] * 16)


@given(st.binary(max_size=64), st.data())
def test_no_bytes_raise_anything_but_a_value_error(noise: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD)))
    for der in (noise, GOOD[:at] + noise + GOOD[at:], tlv(0x30, noise)):
        with contextlib.suppress(ValueError):
            assert isinstance(distinguished_name(der), str)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_two_common_names_never_have_the_same_text(text: str) -> None:
    """The escaping can be undone."""
    written = distinguished_name(common_name(text.encode())).removeprefix("CN=")
    plain, position = "", 0
    while position < len(written):
        if written[position] != "\\":
            plain, position = plain + written[position], position + 1
        elif written[position + 1 : position + 3] == "00":
            plain, position = plain + "\0", position + 3
        else:
            plain, position = plain + written[position + 1], position + 2
    assert plain == text
