"""The part of DER (X.690) that certificates need: elements, object identifiers, times.

Nothing here is recursive: the caller opens what it knows the shape of, one level a call. An element
is as long as it says, or is refused: no length makes anybody take memory, and what is nested deep
is not entered. ValueError for whatever is no DER; it shows nothing of the bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

BOOLEAN, INTEGER, OCTET_STRING, OID = 0x01, 0x02, 0x04, 0x06
SEQUENCE, SET = 0x30, 0x31
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18

_MANY_OCTETS_OF_TAG = 0x1F
_MAX_OCTETS_OF_LENGTH = 4
_MAX_OID_BYTES = 64
_DIGITS_OF_MOMENT = 10  # month to second
_UTC_TIME_CENTURY = 50  # years of two digits below it are of this century (RFC 5280, 4.1.2.5.1)


class Element(NamedTuple):
    """`whole`: with its tag and length, as it stood there."""

    tag: int
    content: bytes
    whole: bytes


def elements(data: bytes, at_most: int) -> list[Element]:
    """All that stand in `data` one after the other."""
    found: list[Element] = []
    position = 0
    while position < len(data):
        if len(found) == at_most:
            raise ValueError(f"more than {at_most} elements of DER stand where fewer are sensible")
        element, position = _element(data, position)
        found.append(element)
    return found


def only(data: bytes, tag: int) -> Element:
    """The one element that `data` is."""
    (*rest, element) = elements(data, 1) or [Element(0, b"", b"")]
    assert not rest
    if element.tag != tag:
        raise ValueError(f"an element of DER has tag {element.tag:#04x}, not {tag:#04x}")
    return element


def _element(data: bytes, start: int) -> tuple[Element, int]:
    """(the one that begins there, where the next does)."""
    tag = data[start]
    if tag & _MANY_OCTETS_OF_TAG == _MANY_OCTETS_OF_TAG:
        raise ValueError("an element of DER has a tag of several octets")
    length, begins = _length(data, start + 1)
    ends = begins + length
    if ends > len(data):
        raise ValueError("an element of DER is cut off, or says that it is longer than it is")
    return Element(tag, data[begins:ends], data[start:ends]), ends


def _length(data: bytes, position: int) -> tuple[int, int]:
    """(the length, where the content begins)."""
    if position >= len(data):
        raise ValueError("an element of DER has no length")
    first, position = data[position], position + 1
    if first < 0x80:
        return first, position
    count = first & 0x7F
    octets = data[position : position + count]
    if not 1 <= count <= _MAX_OCTETS_OF_LENGTH or len(octets) < count:
        raise ValueError("the length of an element of DER is not definite, or has too many octets")
    length = int.from_bytes(octets, "big")
    if octets[0] == 0 or length < 0x80:
        raise ValueError("the length of an element of DER is not in its shortest form")
    return length, position + count


def read_oid(content: bytes) -> str:
    """2.5.4.3"""
    if not content or content[-1] & 0x80 or len(content) > _MAX_OID_BYTES:
        raise ValueError("an object identifier is empty, cut off or too long")
    numbers: list[int] = []
    value, begun = 0, False
    for octet in content:
        if octet == 0x80 and not begun:
            raise ValueError("an object identifier is not in its shortest form")
        value, begun = value << 7 | octet & 0x7F, True
        if not octet & 0x80:
            numbers.append(value)
            value, begun = 0, False
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def read_time_ms(element: Element) -> int:
    """Of a certificate: whole seconds, UTC. Since 1970."""
    content = element.content
    digits_of_year = {UTC_TIME: 2, GENERALIZED_TIME: 4}.get(element.tag, 0)
    digits = content[:-1]
    if (
        digits_of_year == 0
        or len(digits) != digits_of_year + _DIGITS_OF_MOMENT
        or not digits.isdigit()
        or content[-1:] != b"Z"
    ):
        raise ValueError("a time in a certificate is not YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ")
    year = int(digits[:digits_of_year])
    if element.tag == UTC_TIME:
        year += 2000 if year < _UTC_TIME_CENTURY else 1900
    rest = digits[digits_of_year:]
    month, day, hour, minute, second = (int(rest[at : at + 2]) for at in range(0, len(rest), 2))
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return int(moment.timestamp()) * 1000
