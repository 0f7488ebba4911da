"""What Apache Kafka 3.9.1 has written into ZooKeeper is what is read here, and the other way round
(nodes as its AclAuthorizer and its controller made them)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.security.acl import (
    Entry,
    Operation,
    Pattern,
    PatternType,
    Permission,
    ResourceType,
)
from minikafka.security.principal import Principal
from minikafka.security.scram import (
    HASHES,
    SHA_256,
    SHA_512,
    credential_of,
    read_credential,
    write_credential,
)
from minikafka.zookeeper import codec
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.stores.acls import (
    _announced,
    decode_entries,
    encode_change,
    encode_entries,
)
from minikafka.zookeeper.stores.users import desanitized, sanitized
from tests.helpers.amounts import amount

TEXT = st.text(max_size=8) | st.sampled_from(["User:a", "*", "Read", "Allow", "Deny", "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("principal", "permissionType", "operation", "host"), TEXT | JSON),
)
NODE = st.fixed_dictionaries(
    {"version": st.just(1) | JSON, "acls": st.lists(FIELDS | JSON, max_size=3) | JSON}
).map(lambda value: json.dumps(value).encode())
ALICE = Principal("User", "alice")
WORDS = (
    b'{"acls":[{"principal":"User:alice","permissionType":"Allow","host":"*","operation":"Read"},'
    b'{"principal":"User:CN=a,O=b c","permissionType":"Allow","host":"10.1.2.3","operation":"All"},'
    b'{"principal":"User:alice","permissionType":"Deny","host":"::1","operation":"Write"}],'
    b'"version":1}'
)
PLAIN = (
    b'{"version":1,"config":{"SCRAM-SHA-512":"salt=MDEyMzQ1Njc4OWFiY2RlZg==,stored_key=q/EreRKSGUI'
    b"ZR1UPD9pyHj4eq8GuP1KxYzXZOS16ZLrWijQE6Fp8ceuj/VrrTV345ifSJhnOL3d2XVYHhjjDvw==,server_key=7z"
    b"DcJIY5VB0iQN2dRqhV1AZ8KEjOlrLxEC58v/HI8BYQh5h0RBZnH1UpFwwcO5qnkkTe6IjMlKjQcVZP8VzjRA==,iter"
    b'ations=16384","SCRAM-SHA-256":"salt=MDEyMzQ1Njc4OWFiY2RlZg==,stored_key=6ct9Uk0KN7n1jfXaUmgZ'
    b"zB35xmo8/+5PTPJQJlTypsA=,server_key=0ZBaoZOkXE9oO7v6B9O9LcsYDbYk8rLbc53xs81y4Bo=,iterations="
    b'4096"}}'
)


def test_entries_of_kafka_are_read_and_would_be_written_as_the_same() -> None:
    entries = decode_entries("/kafka-acl/Topic/words", WORDS)
    assert entries == {
        Entry(ALICE, "*", Operation.READ, Permission.ALLOW),
        Entry(Principal("User", "CN=a,O=b c"), "10.1.2.3", Operation.ALL, Permission.ALLOW),
        Entry(ALICE, "::1", Operation.WRITE, Permission.DENY),
    }
    written, theirs = json.loads(encode_entries(entries)), json.loads(WORDS)
    assert written["version"] == theirs["version"]
    assert sorted(written["acls"], key=str) == sorted(
        ({name: each[name] for name in written["acls"][0]} for each in theirs["acls"]), key=str
    )


@pytest.mark.parametrize("word", [each.word for each in Operation])
def test_every_operation_has_kafkas_word(word: str) -> None:
    data = json.dumps(
        {
            "version": 1,
            "acls": [
                {"principal": "User:a", "permissionType": "Deny", "operation": word, "host": "*"}
            ],
        }
    ).encode()
    [entry] = decode_entries("/x", data)
    assert entry.operation.word == word


@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        (b"TOPIC:words", Pattern(ResourceType.TOPIC, "words")),
        (b"TOPIC:*", Pattern(ResourceType.TOPIC, "*")),
        (b"TRANSACTIONAL_ID:t", Pattern(ResourceType.TRANSACTIONAL_ID, "t")),
        (b"DELEGATION_TOKEN:token", Pattern(ResourceType.DELEGATION_TOKEN, "token")),
        (b"GROUP:a:b", Pattern(ResourceType.GROUP, "a:b")),
        (
            b'{"version":1,"resourceType":"GROUP","name":"app-","patternType":"PREFIXED"}',
            Pattern(ResourceType.GROUP, "app-", PatternType.PREFIXED),
        ),
    ],
)
def test_announcements_are_kafkas(data: bytes, pattern: Pattern) -> None:
    assert encode_change(pattern) == data
    assert _announced(pattern.kind, "/x", data) == pattern


def test_credentials_of_kafka_are_read_and_would_be_written_as_the_same() -> None:
    config = codec.decode_config("/config/users/plain", PLAIN)
    assert {
        mechanism: read_credential(HASHES[mechanism], text) for mechanism, text in config.items()
    } == {
        kind.name: credential_of(
            kind, bytes(range(kind.size_bytes)), b"0123456789abcdef", iterations
        )
        for kind, iterations in ((SHA_256, 4096), (SHA_512, 16384))
    }
    for mechanism, text in config.items():
        assert write_credential(read_credential(HASHES[mechanism], text)) == text


def test_a_name_is_sanitized_as_kafka_did_it() -> None:
    name, node = "CN=a b,O=*+/%~ä", "CN%3Da%20b%2CO%3D%2A%2B%2F%25%7E%C3%A4"
    assert (sanitized(name), desanitized(node)) == (node, name)


@settings(max_examples=amount(300), deadline=None)
@given(st.binary(max_size=40) | NODE | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_node_holds_is_entries_or_cannot_be_read(data: bytes) -> None:
    try:
        entries = decode_entries("/x", data)
    except CorruptNodeError:
        return
    assert not entries or decode_entries("/x", encode_entries(entries)) == entries
    for entry in entries:
        str(entry).encode()


@settings(max_examples=amount(200), deadline=None)
@given(st.sampled_from(PatternType), st.binary(max_size=40) | NODE)
def test_whatever_is_announced_is_a_pattern_or_nothing(kind: PatternType, data: bytes) -> None:
    pattern = _announced(kind, "/x", data)
    assert pattern is None or (pattern.kind is kind and pattern.name)


@settings(max_examples=amount(200), deadline=None)
@given(st.text(max_size=60) | st.text("=,aA0salt_keyrvion", max_size=200))
def test_whatever_a_credential_is_it_is_none_or_a_right_one(text: str) -> None:
    with pytest.raises(ValueError):
        read_credential(SHA_256, text)
    with pytest.raises(ValueError):
        read_credential(SHA_512, f"salt=AAAA,{text}")


@settings(max_examples=amount(200), deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_every_name_is_that_of_a_node_and_of_nobody_else(name: str) -> None:
    node = sanitized(name)
    assert desanitized(node) == name
    assert node.isascii()
    assert "/" not in node


def test_half_a_character_is_no_name() -> None:
    data = WORDS.replace(b"User:alice", b"User:\\ud800")
    with pytest.raises(CorruptNodeError):
        decode_entries("/x", data)
