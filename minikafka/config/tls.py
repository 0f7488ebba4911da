"""Kafka's ssl.* properties, read into what `minikafka.tls` builds contexts from. Nothing is opened
here: paths, texts and choices, checked against each other.

A property of a listener is sought as `listener.name.<name>.P`, then as `P`; the unprefixed
ssl.client.auth says nothing of listeners where SASL names the client. Differences from Kafka:

- ssl.keystore.type and ssl.truststore.type are PEM unless they are set (there: JKS, which is
  refused here); PKCS12 is the other one
- TLS 1.2 and 1.3 are the protocols, and of TLS 1.2 only suites with a key of the moment (ECDHE) and
  authenticated encryption; of those of TLS 1.3 all are taken or none
- a server that asks for certificates of clients needs a truststore: it does not believe the whole
  internet about who may enter
- classes and providers are refused
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from minikafka.errors import UsageError
from minikafka.security.mapping import PrincipalMapping
from minikafka.security.secret import Secret

PEM, PKCS12 = "PEM", "PKCS12"
TLS_1_2, TLS_1_3 = "TLSv1.2", "TLSv1.3"
PROTOCOLS = (TLS_1_2, TLS_1_3)
HTTPS = "https"

SUITES_OF_TLS_1_3 = (
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
)
# By the name that IANA gives: OpenSSL's name. In order of preference.
SUITES_OF_TLS_1_2 = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
}

# What a broker or a client may set: for each, whether its value must not be seen.
NAMES: dict[str, bool] = {
    "ssl.keystore.type": False,
    "ssl.keystore.location": False,
    "ssl.keystore.password": True,
    "ssl.keystore.key": True,
    "ssl.keystore.certificate.chain": False,
    "ssl.key.password": True,
    "ssl.truststore.type": False,
    "ssl.truststore.location": False,
    "ssl.truststore.password": True,
    "ssl.truststore.certificates": False,
    "ssl.client.auth": False,
    "ssl.enabled.protocols": False,
    "ssl.protocol": False,
    "ssl.cipher.suites": False,
    "ssl.endpoint.identification.algorithm": False,
    "ssl.principal.mapping.rules": False,
    "ssl.allow.dn.changes": False,
    "ssl.allow.san.changes": False,
}
# Kafka's, and the one value that each may have here.
FIXED: dict[str, str] = {
    "ssl.keymanager.algorithm": "SunX509",
    "ssl.trustmanager.algorithm": "PKIX",
}
REFUSED: dict[str, str] = {
    "ssl.engine.factory.class": "classes are not loaded",
    "ssl.provider": "the one provider is OpenSSL",
    "ssl.secure.random.implementation": "random numbers are OpenSSL's",
}


class ClientAuth(Enum):
    """What a server asks of who connects. REQUESTED: who shows none is nobody in particular, and
    who shows a wrong one is refused."""

    NONE = "none"
    REQUESTED = "requested"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Store:
    """Where a key or trusted certificates are: a file, or a text as it stands in the properties.
    `names`: as the properties are called in which they were found, by what they are."""

    type: str = PEM
    location: str | None = None
    password: Secret | None = None
    key: Secret | None = None
    certificates: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def named(self) -> str:
        """What a person has set, for the beginning of an error."""
        if self.location is not None:
            return f"{self.names['location']}={self.location}"
        return self.names["certificates"]


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """`keystore` None: a client without a certificate. `truststore` None: a server that asks for no
    certificates, or a client that believes whom its system does. `cipher_suites`: by IANA's names;
    None: all that are good. `check_hostname` is for clients."""

    keystore: Store | None = None
    truststore: Store | None = None
    client_auth: ClientAuth = ClientAuth.NONE
    protocols: tuple[str, ...] = PROTOCOLS
    cipher_suites: tuple[str, ...] | None = None
    check_hostname: bool = True
    mapping_rules: str = "DEFAULT"
    allow_dn_changes: bool = False
    allow_san_changes: bool = False


def tls_settings(
    properties: Mapping[str, str],
    *,
    server: bool,
    listener: str | None = None,
    sasl: bool = False,
    prefix: str = "",
) -> TlsSettings:
    """Of a server's listener, or of a client. `sasl`: it is SASL that names clients there.
    `prefix` stands before ssl. (`zookeeper.`). UsageError for the first property that is wrong."""
    found = _Found(properties, listener, prefix)
    found.refuse()
    auth = found.one_of(
        "ssl.client.auth", tuple(each.value for each in ClientAuth), "none", own=sasl
    )
    settings = TlsSettings(
        _keystore(found),
        _truststore(found),
        ClientAuth(auth) if server else ClientAuth.NONE,
        _protocols(found),
        _cipher_suites(found),
        _checks_hostname(found),
        _mapping_rules(found),
        found.boolean("ssl.allow.dn.changes"),
        found.boolean("ssl.allow.san.changes"),
    )
    _check_together(settings, found, server)
    return settings


class _Found:
    """The properties, as one listener sees them."""

    def __init__(self, properties: Mapping[str, str], listener: str | None, prefix: str) -> None:
        self._properties = properties
        self._listener = "" if listener is None else f"listener.name.{listener.lower()}."
        self._prefix = prefix

    def name(self, plain: str, *, own: bool = False) -> str:
        """Under which it is set, or would be."""
        by_listener = self._listener + self._prefix + plain
        if own or by_listener in self._properties:
            return by_listener
        return self._prefix + plain

    def text(self, plain: str, *, own: bool = False, blank: bool = False) -> str | None:
        """`own`: that of the listener alone counts. `blank`: nothing is a value."""
        name = self.name(plain, own=own)
        value = self._properties.get(name)
        if value is None:
            return None
        if not value.strip() and not blank:
            raise UsageError(f"{name} is blank: leave it out, or set it")
        return value.strip()

    def secret(self, plain: str) -> Secret | None:
        """As it stands there: a password may begin with a blank."""
        value = self._properties.get(self.name(plain))
        if value is None:
            return None
        if not value:
            raise UsageError(f"{self.name(plain)} is blank: leave it out, or set it")
        return Secret(value)

    def one_of(
        self, plain: str, choices: tuple[str, ...], default: str, *, own: bool = False
    ) -> str:
        text = self.text(plain, own=own)
        if text is None:
            return default
        chosen = next((each for each in choices if each.lower() == text.lower()), None)
        if chosen is None:
            raise UsageError(
                f"{self.name(plain, own=own)}={text[:80]} is not valid: "
                f"expected one of {', '.join(choices)}"
            )
        return chosen

    def boolean(self, plain: str) -> bool:
        return self.one_of(plain, ("true", "false"), "false") == "true"

    def listed(self, plain: str) -> tuple[str, ...] | None:
        text = self.text(plain)
        if text is None:
            return None
        return tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))

    def refuse(self) -> None:
        for plain, why in REFUSED.items():
            if self.text(plain, blank=True):
                raise UsageError(f"{self.name(plain)} is not supported: {why}. Leave it out")
        for plain, value in FIXED.items():
            self.one_of(plain, (value,), value)
        self.one_of("ssl.protocol", ("TLS", *PROTOCOLS), "TLS")

    def names_of(self, **plain: str) -> dict[str, str]:
        return {what: self.name(each) for what, each in plain.items()}


def _keystore(found: _Found) -> Store | None:
    names = found.names_of(
        location="ssl.keystore.location",
        key="ssl.keystore.key",
        certificates="ssl.keystore.certificate.chain",
        key_password="ssl.key.password",
        password="ssl.keystore.password",
    )
    kind = _store_type(found, "ssl.keystore.type")
    location = found.text("ssl.keystore.location")
    key, chain = found.secret("ssl.keystore.key"), found.text("ssl.keystore.certificate.chain")
    password, store_password = (
        found.secret("ssl.key.password"),
        found.secret("ssl.keystore.password"),
    )
    _check_inline(names, kind, location, key is not None or chain is not None)
    if (key is None) != (chain is None):
        there, lacks = ("key", "certificates") if chain is None else ("certificates", "key")
        raise UsageError(f"{names[there]} is set and {names[lacks]} is not: set both, or neither")
    if location is None and key is None:
        for unused in ("key_password", "password"):
            if (password if unused == "key_password" else store_password) is not None:
                raise UsageError(
                    f"{names[unused]} is set, and there is no key: set {names['location']}, too"
                )
        return None
    if kind == PEM and store_password is not None:
        raise UsageError(
            f"{names['password']} is set, and a PEM file has no password of its own: "
            f"set {names['key_password']} if the key in it has one"
        )
    if kind == PKCS12:
        if store_password is None:
            raise UsageError(f"{names['password']} is not set: a PKCS12 file has a password")
        if password is not None and password != store_password:
            raise UsageError(
                f"{names['key_password']} differs from {names['password']}: "
                "in a PKCS12 file the key has the password of the file"
            )
        password = store_password
    return Store(kind, location, password, key, chain, names)


def _truststore(found: _Found) -> Store | None:
    names = found.names_of(
        location="ssl.truststore.location",
        certificates="ssl.truststore.certificates",
        password="ssl.truststore.password",
    )
    kind = _store_type(found, "ssl.truststore.type")
    location = found.text("ssl.truststore.location")
    certificates = found.text("ssl.truststore.certificates")
    password = found.secret("ssl.truststore.password")
    _check_inline(names, kind, location, certificates is not None)
    if password is not None and kind == PEM:
        raise UsageError(f"{names['password']} is set, and certificates in PEM have no password")
    if location is None and certificates is None:
        return None
    return Store(kind, location, password, None, certificates, names)


def _store_type(found: _Found, plain: str) -> str:
    text = found.text(plain)
    if text is not None and text.upper() == "JKS":
        raise UsageError(
            f"{found.name(plain)}=JKS is not supported: expected PEM or PKCS12 "
            "(keytool -importkeystore -deststoretype PKCS12 makes one of it)"
        )
    return found.one_of(plain, (PEM, PKCS12), PEM)


def _check_inline(names: Mapping[str, str], kind: str, location: str | None, inline: bool) -> None:
    if not inline:
        return
    if location is not None:
        raise UsageError(
            f"{names['location']} is set, and {names['certificates']} as well: leave one out"
        )
    if kind != PEM:
        raise UsageError(f"{names['certificates']} is in PEM, and the type of the store is {kind}")


def _protocols(found: _Found) -> tuple[str, ...]:
    listed = found.listed("ssl.enabled.protocols")
    if listed is None:
        return PROTOCOLS
    if not listed or not set(listed) <= set(PROTOCOLS):
        raise UsageError(
            f"{found.name('ssl.enabled.protocols')}={','.join(listed)[:80]} is not valid: "
            f"expected {' or '.join(PROTOCOLS)}, or both with a comma between; older ones are "
            "not safe"
        )
    return tuple(each for each in PROTOCOLS if each in listed)


def _cipher_suites(found: _Found) -> tuple[str, ...] | None:
    listed = found.listed("ssl.cipher.suites")
    if listed is None:
        return None
    name = found.name("ssl.cipher.suites")
    known = (*SUITES_OF_TLS_1_3, *SUITES_OF_TLS_1_2)
    for each in listed:
        if each not in known:
            raise UsageError(
                f"{name}: {each[:80]} is not one that minikafka takes: {', '.join(known)} are"
            )
    of_1_3 = set(listed) & set(SUITES_OF_TLS_1_3)
    if of_1_3 and of_1_3 != set(SUITES_OF_TLS_1_3):
        raise UsageError(
            f"{name} names some of the suites of TLS 1.3: name all of them "
            f"({', '.join(SUITES_OF_TLS_1_3)}), or none, which leaves TLS 1.2"
        )
    return listed


def _checks_hostname(found: _Found) -> bool:
    name = "ssl.endpoint.identification.algorithm"
    text = found.text(name, blank=True)
    if text is None:
        return True
    if text.lower() not in ("", HTTPS):
        raise UsageError(
            f"{found.name(name)}={text[:80]} is not valid: expected https, "
            "or nothing if the server may have any name"
        )
    return bool(text)


def _mapping_rules(found: _Found) -> str:
    rules = found.text("ssl.principal.mapping.rules") or "DEFAULT"
    try:
        PrincipalMapping(rules)
    except ValueError as problem:
        name = found.name("ssl.principal.mapping.rules")
        raise UsageError(f"{name} is not valid: {problem}") from None
    return rules


def _check_together(settings: TlsSettings, found: _Found, server: bool) -> None:
    if server and settings.keystore is None:
        raise UsageError(
            f"{found.name('ssl.keystore.location')} is not set: a server that speaks TLS needs a "
            "key and its certificates"
        )
    if settings.client_auth is not ClientAuth.NONE and settings.truststore is None:
        raise UsageError(
            f"{found.name('ssl.truststore.location')} is not set: a server that asks for the "
            "certificates of clients (ssl.client.auth) needs to know whose word counts"
        )
    suites = settings.cipher_suites
    if suites is None:
        return
    without = {
        protocol
        for protocol, some in ((TLS_1_2, SUITES_OF_TLS_1_2), (TLS_1_3, SUITES_OF_TLS_1_3))
        if not set(suites) & set(some)
    }
    if set(settings.protocols) <= without:
        raise UsageError(
            f"{found.name('ssl.cipher.suites')} names no suite of {' or '.join(settings.protocols)}"
        )
