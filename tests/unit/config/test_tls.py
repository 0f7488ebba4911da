"""Kafka's ssl.* properties: what they give, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from minikafka.config.tls import (
    SUITES_OF_TLS_1_2,
    SUITES_OF_TLS_1_3,
    ClientAuth,
    Store,
    TlsSettings,
    tls_settings,
)
from minikafka.errors import UsageError
from minikafka.security.secret import Secret

KEY = {"ssl.keystore.location": "/k"}
TRUST = {"ssl.truststore.location": "/t"}
OWN = "listener.name.external."


def names(store: Store | None) -> dict[str, str]:
    assert store is not None
    return dict(store.names)


def test_a_server_with_a_key_has_kafkas_defaults() -> None:
    settings = tls_settings(KEY, server=True)
    assert settings == TlsSettings(Store(location="/k", names=names(settings.keystore)))
    assert settings.protocols == ("TLSv1.2", "TLSv1.3")
    assert settings.client_auth is ClientAuth.NONE


def test_a_client_needs_nothing_and_checks_names() -> None:
    settings = tls_settings({}, server=False)
    assert settings == TlsSettings()
    assert settings.check_hostname is True


def test_a_client_does_not_obey_what_is_for_servers() -> None:
    assert tls_settings({"ssl.client.auth": "required"}, server=False) == TlsSettings()


def test_what_is_set_for_a_listener_comes_first() -> None:
    properties = {
        **KEY,
        OWN + "ssl.keystore.location": "/own",
        "ssl.key.password": "p",
        **TRUST,
        "listener.name.other.ssl.truststore.location": "/other",
    }
    settings = tls_settings(properties, server=True, listener="EXTERNAL")
    keystore, truststore = settings.keystore, settings.truststore
    assert keystore == Store(location="/own", password=Secret("p"), names=names(keystore))
    assert truststore == Store(location="/t", names=names(truststore))
    assert keystore is not None
    assert keystore.named == OWN + "ssl.keystore.location=/own"
    assert keystore.names["key_password"] == "ssl.key.password"


@pytest.mark.parametrize(
    ("properties", "sasl", "expected"),
    [
        ({"ssl.client.auth": "required"}, False, ClientAuth.REQUIRED),
        ({"ssl.client.auth": "REQUESTED"}, False, ClientAuth.REQUESTED),
        ({"ssl.client.auth": "required"}, True, ClientAuth.NONE),
        ({OWN + "ssl.client.auth": "required"}, True, ClientAuth.REQUIRED),
        (
            {OWN + "ssl.client.auth": "none", "ssl.client.auth": "required"},
            False,
            ClientAuth.NONE,
        ),
    ],
)
def test_sasl_listeners_obey_their_own_client_auth_alone(
    properties: dict[str, str], sasl: bool, expected: ClientAuth
) -> None:
    settings = tls_settings(KEY | TRUST | properties, server=True, listener="external", sasl=sasl)
    assert settings.client_auth is expected


def test_a_prefix_stands_before_all_names() -> None:
    properties = {f"zookeeper.{name}": text for name, text in (KEY | TRUST).items()}
    properties["zookeeper.ssl.endpoint.identification.algorithm"] = ""
    settings = tls_settings(properties, server=False, prefix="zookeeper.")
    assert settings.keystore is not None
    assert settings.keystore.named == "zookeeper.ssl.keystore.location=/k"
    assert settings.check_hostname is False


def test_keys_may_stand_in_the_properties_and_are_not_shown() -> None:
    inline = {
        "ssl.keystore.key": "the key",
        "ssl.keystore.certificate.chain": "the chain",
        "ssl.key.password": " swordfish ",
        "ssl.truststore.certificates": "the authority",
    }
    settings = tls_settings(inline, server=True)
    assert settings.keystore == Store(
        key=Secret("the key"),
        certificates="the chain",
        password=Secret(" swordfish "),
        names=names(settings.keystore),
    )
    assert "the key" not in repr(settings)
    assert "swordfish" not in repr(settings)


def test_a_pkcs12_file_has_one_password() -> None:
    properties = KEY | {"ssl.keystore.type": "pkcs12", "ssl.keystore.password": "p"}
    for more in ({}, {"ssl.key.password": "p"}):
        settings = tls_settings(properties | more, server=True)
        assert settings.keystore == Store(
            "PKCS12", "/k", Secret("p"), names=names(settings.keystore)
        )


def test_protocols_and_suites_are_chosen() -> None:
    suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    settings = tls_settings(
        KEY | {"ssl.enabled.protocols": "TLSv1.3, TLSv1.2,TLSv1.3", "ssl.cipher.suites": suite},
        server=True,
    )
    assert settings.protocols == ("TLSv1.2", "TLSv1.3")
    assert settings.cipher_suites == (suite,)
    every = (*SUITES_OF_TLS_1_3, *SUITES_OF_TLS_1_2)
    named = tls_settings(KEY | {"ssl.cipher.suites": ",".join(every)}, server=True)
    assert named.cipher_suites == every


INLINE = {"ssl.keystore.key": "k", "ssl.keystore.certificate.chain": "c"}
P12 = KEY | {"ssl.keystore.type": "PKCS12"}


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({}, "ssl.keystore.location is not set: a server that speaks TLS needs a key"),
        ({"ssl.keystore.location": " "}, "ssl.keystore.location is blank"),
        (
            KEY | {"ssl.keystore.type": "JKS"},
            "ssl.keystore.type=JKS is not supported: expected PEM",
        ),
        (KEY | {"ssl.keystore.type": "BKS"}, "expected one of PEM, PKCS12"),
        (KEY | {"ssl.truststore.type": "jks"}, "ssl.truststore.type=JKS is not supported"),
        (P12, "ssl.keystore.password is not set: a PKCS12 file has a password"),
        (
            P12 | {"ssl.keystore.password": "hidden1", "ssl.key.password": "hidden2"},
            "ssl.key.password differs from ssl.keystore.password",
        ),
        (KEY | {"ssl.keystore.password": "hidden1"}, "a PEM file has no password of its own"),
        (KEY | {"ssl.key.password": ""}, "ssl.key.password is blank"),
        ({"ssl.key.password": "hidden1"}, "ssl.key.password is set, and there is no key"),
        (KEY | INLINE, "leave one out"),
        ({"ssl.keystore.key": "hidden1"}, "ssl.keystore.certificate.chain is not: set both"),
        ({"ssl.keystore.certificate.chain": "c"}, "ssl.keystore.key is not: set both"),
        (INLINE | {"ssl.keystore.type": "PKCS12"}, "the type of the store is PKCS12"),
        (KEY | TRUST | {"ssl.truststore.certificates": "c"}, "leave one out"),
        (KEY | TRUST | {"ssl.truststore.password": "hidden1"}, "have no password"),
        (KEY | {"ssl.client.auth": "required"}, "ssl.truststore.location is not set"),
        (KEY | TRUST | {"ssl.client.auth": "maybe"}, "expected one of none, requested, required"),
        (KEY | {"ssl.enabled.protocols": "TLSv1.1"}, "older ones are not safe"),
        (KEY | {"ssl.enabled.protocols": "SSLv3,TLSv1.3"}, "expected TLSv1.2 or TLSv1.3"),
        (KEY | {"ssl.enabled.protocols": ","}, "expected TLSv1.2 or TLSv1.3"),
        (KEY | {"ssl.protocol": "SSL"}, "expected one of TLS, TLSv1.2, TLSv1.3"),
        (KEY | {"ssl.cipher.suites": "TLS_RSA_WITH_AES_128_CBC_SHA"}, "is not one that minikafka"),
        (KEY | {"ssl.cipher.suites": "ECDHE-RSA-AES128-GCM-SHA256"}, "is not one that minikafka"),
        (KEY | {"ssl.cipher.suites": "TLS_AES_128_GCM_SHA256"}, "names some of the suites of TLS"),
        (KEY | {"ssl.cipher.suites": ","}, "names no suite"),
        (
            KEY
            | {
                "ssl.cipher.suites": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "ssl.enabled.protocols": "TLSv1.3",
            },
            "ssl.cipher.suites names no suite of TLSv1.3",
        ),
        (KEY | {"ssl.endpoint.identification.algorithm": "ldaps"}, "expected https"),
        (KEY | {"ssl.principal.mapping.rules": "RULE:("}, "ssl.principal.mapping.rules is not val"),
        (KEY | {"ssl.allow.dn.changes": "yes"}, "expected one of true, false"),
        (KEY | {"ssl.engine.factory.class": "x.Y"}, "classes are not loaded"),
        (KEY | {"ssl.provider": "BC"}, "ssl.provider is not supported"),
        (KEY | {"ssl.keymanager.algorithm": "Mine"}, "expected one of SunX509"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    properties: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        tls_settings(properties, server=True)
    assert said in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_an_error_names_the_property_of_the_listener() -> None:
    properties = KEY | {OWN + "ssl.client.auth": "required"}
    with pytest.raises(UsageError, match="truststore"):
        tls_settings(properties, server=True, listener="EXTERNAL")
    with pytest.raises(UsageError, match=r"listener\.name\.external\.ssl\.client\.auth=x is not"):
        tls_settings(KEY | {OWN + "ssl.client.auth": "x"}, server=True, listener="EXTERNAL")
