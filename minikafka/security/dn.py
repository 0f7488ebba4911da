"""The text of a distinguished name: RFC 2253 in the dialect of Java's X500Principal.getName(), as
Kafka's access control entries hold it (`User:CN=alice,O=Example\\, Inc.`).

    the last relative name first, commas between; several attributes of one have + between
    CN OU O L ST C STREET DC UID by that name, as text
    every other attribute as OID=#hexadecimal DER, and so is a value that is no text
    backslash before , = + < > # ; " \\ anywhere, and before blanks at either end; NUL is \\00

Java takes the bytes of every kind of text for UTF-8, BMPString as well, and so does this: a name
that a person copied from Kafka's log has to be the same one. What is no UTF-8 is written as
hexadecimal: with Java's U+FFFD in its place, different names would be the same.
"""

from __future__ import annotations

from minikafka.security.der import OID, SEQUENCE, SET, Element, elements, only, read_oid

# Bounds for patterns, too, that are tried on such a name: those of mapping.py may look at each way
# in which commas and attributes could be shared out.
MAX_DN_CHARACTERS = 1_024
MAX_ATTRIBUTES = 32

_KEYWORDS = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
# UTF8String, PrintableString, T61String, IA5String, GeneralString, BMPString
_TEXTS = frozenset((0x0C, 0x13, 0x14, 0x16, 0x1B, 0x1E))
_ESCAPES = {ord(each): "\\" + each for each in ',=+<>#;"\\'} | {0: "\\00"}
_BLANKS = " \r"


def distinguished_name(der: bytes) -> str:
    """Of a Name (RFC 5280, 4.1.2.4), with its tag; empty if it has no parts. ValueError."""
    relative_names = [
        _relative_name(each) for each in elements(only(der, SEQUENCE).content, MAX_ATTRIBUTES)
    ]
    if sum(map(len, relative_names)) > MAX_ATTRIBUTES:
        raise ValueError(f"a distinguished name has more than {MAX_ATTRIBUTES} attributes")
    text = ",".join("+".join(each) for each in reversed(relative_names))
    if len(text) > MAX_DN_CHARACTERS:
        raise ValueError(f"a distinguished name has more than {MAX_DN_CHARACTERS} characters")
    return text


def _relative_name(element: Element) -> list[str]:
    attributes = elements(element.content, MAX_ATTRIBUTES)
    if element.tag != SET or not attributes:
        raise ValueError("a part of a distinguished name is no set of attributes")
    return [_attribute(each) for each in attributes]


def _attribute(element: Element) -> str:
    parts = elements(element.content, 2)
    if element.tag != SEQUENCE or len(parts) != 2 or parts[0].tag != OID:
        raise ValueError("an attribute of a distinguished name is no identifier with a value")
    identifier, value = read_oid(parts[0].content), parts[1]
    keyword = _KEYWORDS.get(identifier)
    text = _text(value)
    if keyword is None or text is None:
        return f"{keyword or identifier}=#{value.whole.hex()}"
    return f"{keyword}={_escaped(text)}"


def _text(value: Element) -> str | None:
    if value.tag not in _TEXTS:
        return None
    try:
        return value.content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _escaped(text: str) -> str:
    escaped = text.translate(_ESCAPES)
    inner = escaped.strip(_BLANKS)
    if inner == escaped:
        return escaped
    lead = len(escaped) - len(escaped.lstrip(_BLANKS))
    ends = lead + len(inner)
    before, after = escaped[:lead], escaped[ends:]
    return "".join("\\" + each for each in before) + inner + "".join("\\" + x for x in after)
