"""What minikafka asks of an X.509 certificate: whose it is, for which names, until when. Whether it
is to be believed is OpenSSL's to say: here is nothing checked but the shape."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass

from minikafka.security.der import (
    OCTET_STRING,
    OID,
    SEQUENCE,
    Element,
    elements,
    only,
    read_oid,
    read_time_ms,
)
from minikafka.security.dn import distinguished_name

MAX_CERTIFICATE_BYTES = 102_400  # as much as OpenSSL takes of a peer's whole chain
MAX_CERTIFICATES = 1_000  # of one PEM text

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # context-specific, constructed
_SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
_MAX_PARTS = 16
_MAX_EXTENSIONS = 256
_MAX_ALTERNATIVE_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Certificate:
    """`alternative_names`: as DER. Times are in milliseconds since 1970."""

    distinguished_name: str
    alternative_names: frozenset[bytes]
    not_before_ms: int
    not_after_ms: int


def read_certificate(der: bytes) -> Certificate:
    """ValueError if it cannot be read."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise ValueError(f"a certificate of {len(der)} bytes: at most {MAX_CERTIFICATE_BYTES} are")
    parts = _sequence(only(der, SEQUENCE), _MAX_PARTS)
    if not parts:
        raise ValueError("a certificate is empty")
    signed = _sequence(parts[0], _MAX_PARTS)
    if signed and signed[0].tag == _VERSION:
        signed = signed[1:]
    if len(signed) < 6:  # serial number, algorithm, issuer, validity, subject, key
        raise ValueError("a certificate lacks some of its parts")
    validity, subject = signed[3], signed[4]
    times = _sequence(validity, 2)
    if len(times) != 2:
        raise ValueError("a certificate does not say from when and until when it is valid")
    extensions = next((each for each in signed[6:] if each.tag == _EXTENSIONS), None)
    return Certificate(
        distinguished_name(subject.whole),
        frozenset() if extensions is None else _alternative_names(extensions),
        read_time_ms(times[0]),
        read_time_ms(times[1]),
    )


def certificates_in_pem(text: str) -> list[bytes]:
    """The DER of each, in order; whatever stands between them is passed over. ValueError if there
    is none, or one cannot be read."""
    found: list[bytes] = []
    position = text.find(_BEGIN)
    while position >= 0:
        end = text.find(_END, position)
        if end < 0:
            raise ValueError("a certificate in PEM has no END")
        if len(found) == MAX_CERTIFICATES:
            raise ValueError(f"more than {MAX_CERTIFICATES} certificates in one text")
        body = "".join(text[position + len(_BEGIN) : end].split())
        try:
            found.append(b64decode(body, validate=True))
        except (Base64Error, ValueError):
            raise ValueError("a certificate in PEM is not in base64") from None
        position = text.find(_BEGIN, end)
    if not found:
        raise ValueError(f"there is no certificate in PEM ({_BEGIN})")
    return found


def _sequence(element: Element, at_most: int) -> list[Element]:
    if element.tag != SEQUENCE:
        raise ValueError("a part of a certificate is not a sequence")
    return elements(element.content, at_most)


def _alternative_names(extensions: Element) -> frozenset[bytes]:
    for extension in _sequence(only(extensions.content, SEQUENCE), _MAX_EXTENSIONS):
        parts = _sequence(extension, 3)  # identifier, whether it is critical, value
        if len(parts) < 2 or parts[0].tag != OID or parts[-1].tag != OCTET_STRING:
            raise ValueError("an extension of a certificate is not an identifier with its value")
        if read_oid(parts[0].content) == _SUBJECT_ALTERNATIVE_NAME:
            names = _sequence(only(parts[-1].content, SEQUENCE), _MAX_ALTERNATIVE_NAMES)
            return frozenset(each.whole for each in names)
    return frozenset()
