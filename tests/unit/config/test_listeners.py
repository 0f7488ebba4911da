"""How single listeners are configured, and what would leave a door open."""

from __future__ import annotations

import pytest

from minikafka.config import BrokerConfig, parse_broker_config, without_effect
from minikafka.config.listeners import ListenerKey, listener_key
from minikafka.config.overrides import BrokerLayers, describe_broker
from minikafka.errors import UsageError
from minikafka.security.principal import Principal
from minikafka.security.secret import Secret

MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
JAAS = f'{MODULE} required user_alice="wonderland";'
REQUIRED = {"broker.id": "1", "zookeeper.connect": "z:1", "log.dirs": "/d"}
OPEN_GRPC = {"super.users": "User:ANONYMOUS"}
SASL = {
    **REQUIRED,
    **OPEN_GRPC,
    "listeners": "INSIDE://127.0.0.1:9092",
    "listener.security.protocol.map": "INSIDE:SASL_PLAINTEXT",
    "listener.name.inside.sasl.enabled.mechanisms": "plain",
    "listener.name.inside.plain.sasl.jaas.config": JAAS,
}


def refusal(**changes: str | None) -> str:
    given = {name: text for name, text in (SASL | changes).items() if text is not None}
    with pytest.raises(UsageError) as refused:
        parse_broker_config(given)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("listener.name.inside.ssl.client.auth", ("INSIDE", "", "ssl.client.auth")),
        ("listener.name.in.plain.sasl.jaas.config", ("IN", "PLAIN", "sasl.jaas.config")),
        (
            "listener.name.in.scram-sha-256.sasl.jaas.config",
            ("IN", "SCRAM-SHA-256", "sasl.jaas.config"),
        ),
        ("listener.name.inside", None),
        ("listeners", None),
    ],
)
def test_a_name_tells_listener_and_mechanism(name: str, key: tuple[str, ...] | None) -> None:
    assert listener_key(name) == (key and ListenerKey(*key))


def test_the_most_particular_value_holds() -> None:
    everywhere = JAAS.replace("alice", "everywhere")
    config = parse_broker_config(
        SASL
        | {
            "sasl.jaas.config": everywhere,
            "connections.max.reauth.ms": "7000",
            "listener.name.inside.connections.max.reauth.ms": "9000",
        }
    )
    assert config.of_listener("INSIDE", "sasl.jaas.config", "PLAIN") == Secret(JAAS)
    assert config.of_listener("INSIDE", "sasl.jaas.config", "SCRAM-SHA-256") == Secret(everywhere)
    assert config.of_listener("INSIDE", "connections.max.reauth.ms") == 9000
    assert config.of_listener("OTHER", "connections.max.reauth.ms") == 7000
    assert config.of_listener("INSIDE", "sasl.enabled.mechanisms") == ("PLAIN",)
    assert config.super_users == (Principal("User", "ANONYMOUS"),)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"listener.name.outside.connections.max.reauth.ms": "1"},
            "listener.name.outside.connections.max.reauth.ms is of no listener: there are INSIDE",
        ),
        ({"listener.name.inside.broker.id": "2"}, "broker.id is no property of single listeners"),
        ({"listener.name.inside.nonsense": "2"}, "nonsense is no property of single listeners"),
        ({"listener.name.inside.connections.max.reauth.ms": "x"}, "reauth.ms=x is not valid"),
        (
            {"listener.name.inside.sasl.enabled.mechanisms": "GSSAPI"},
            "GSSAPI is not supported: expected a list of PLAIN",
        ),
        (
            {"listener.name.inside.sasl.enabled.mechanisms": None},
            "nothing says how they are proved: set sasl.enabled.mechanisms",
        ),
        (
            {"listener.name.inside.plain.sasl.jaas.config": f'{MODULE} required username="a";'},
            "there are no users: set listener.name.inside.plain.sasl.jaas.config",
        ),
        ({"super.users": None}, "a back door"),
        ({"super.users": "User:other"}, "a back door"),
        (
            {"listener.security.protocol.map": "INSIDE:PLAINTEXT", "super.users": None}
            | {"authorizer.class.name": "kafka.security.authorizer.AclAuthorizer"},
            "authorizer.class.name is set, and grpc.listener asks for none",
        ),
        (
            {"authorizer.class.name": "com.example.Mine"},
            "expected one of kafka.security.authorizer.AclAuthorizer",
        ),
        ({"super.users": "alice"}, "'alice' is no principal: it is Type:name"),
        (
            {"grpc.listener": "0.0.0.0:1", "grpc.advertised.listener": "h:1"},
            "the listener INSIDE asks for names, and grpc.listener asks for none",
        ),
    ],
)
def test_what_is_wrong_of_a_listener_is_told(changes: dict[str, str | None], why: str) -> None:
    assert why in refusal(**changes)


def test_a_password_is_never_shown() -> None:
    wrong = {"listener.name.inside.plain.sasl.jaas.config": f'{MODULE} required a="wonderland"'}
    assert "wonderland" not in refusal(**wrong)
    everywhere = parse_broker_config(SASL | {"sasl.jaas.config": JAAS})
    assert "wonderland" not in repr(everywhere)
    assert "wonderland" not in "".join(map(str, everywhere.describe()))
    [told] = [
        each
        for each in describe_broker(BrokerLayers(everywhere))
        if each.name == "sasl.jaas.config"
    ]
    assert (told.value, told.kind) == (None, "password")
    assert "wonderland" not in str(told)


def test_what_has_no_effect_on_a_listener_is_told() -> None:
    texts = SASL | {"listener.name.inside.num.network.threads": "3"}
    parse_broker_config(texts)
    assert without_effect(BrokerConfig, texts) == [
        "listener.name.inside.num.network.threads has no effect: minikafka has no use for it"
    ]
