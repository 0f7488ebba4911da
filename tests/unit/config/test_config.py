"""Configuration: what is accepted, what is refused, and what a person is told."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.config import (
    BrokerConfig,
    Endpoint,
    TopicConfig,
    as_text,
    parse_broker_config,
    parse_properties,
    properties,
    topic_config,
    validate_topic_overrides,
    without_effect,
)
from minikafka.config.listeners import Listener
from minikafka.errors import InvalidConfigError, UsageError
from minikafka.model import KafkaListener, SecurityProtocol
from tests.helpers import property_docs
from tests.helpers.listeners import plaintext_at

REQUIRED = {"broker.id": "1", "zookeeper.connect": "127.0.0.1:2181", "log.dirs": "/data"}


def broker(**more: str) -> BrokerConfig:
    return parse_broker_config(
        REQUIRED | {name.replace("_", "."): text for name, text in more.items()}
    )


def refusal(**more: str) -> str:
    with pytest.raises(UsageError) as caught:
        broker(**more)
    return str(caught.value)


def topic_refusal(name: str, text: str) -> str:
    with pytest.raises(InvalidConfigError) as caught:
        validate_topic_overrides({name: text})
    return str(caught.value)


# --- Defaults -----------------------------------------------------------------------------------


def test_a_broker_needs_an_id_zookeeper_and_a_directory_and_nothing_else() -> None:
    config = broker()
    assert (config.broker_id, config.zookeeper_connect, config.log_dirs) == (
        1,
        "127.0.0.1:2181",
        "/data",
    )
    assert config == BrokerConfig(1, "127.0.0.1:2181", "/data")


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_missing_required_property_is_named_with_what_is_expected(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is required and not set: expected \S"):
        parse_broker_config({other: text for other, text in REQUIRED.items() if other != name})


def test_the_defaults_of_a_topic_are_those_of_kafka() -> None:
    assert {entry.name: entry.value for entry in TopicConfig().describe()} == {
        "cleanup.policy": "delete",
        "compression.gzip.level": "-1",
        "compression.lz4.level": "9",
        "compression.type": "producer",
        "compression.zstd.level": "3",
        "delete.retention.ms": "86400000",
        "file.delete.delay.ms": "60000",
        "follower.replication.throttled.replicas": "",
        "leader.replication.throttled.replicas": "",
        "flush.before.ack": "false",
        "flush.messages": "9223372036854775807",
        "flush.ms": "9223372036854775807",
        "index.interval.bytes": "4096",
        "local.retention.bytes": "-2",
        "local.retention.ms": "-2",
        "max.compaction.lag.ms": "9223372036854775807",
        "max.message.bytes": "1048588",
        "message.downconversion.enable": "true",
        "message.format.version": "3.0-IV1",
        "message.timestamp.after.max.ms": "9223372036854775807",
        "message.timestamp.before.max.ms": "9223372036854775807",
        "message.timestamp.difference.max.ms": "9223372036854775807",
        "message.timestamp.type": "CreateTime",
        "min.cleanable.dirty.ratio": "0.5",
        "min.compaction.lag.ms": "0",
        "min.insync.replicas": "1",
        "preallocate": "false",
        "remote.log.copy.disable": "false",
        "remote.log.delete.on.disable": "false",
        "remote.storage.enable": "false",
        "retention.bytes": "-1",
        "retention.ms": "604800000",
        "segment.bytes": "1073741824",
        "segment.index.bytes": "10485760",
        "segment.jitter.ms": "0",
        "segment.ms": "604800000",
        "unclean.leader.election.enable": "false",
    }


def test_a_broker_without_log_properties_gives_topics_the_default_configuration() -> None:
    assert broker().topic_defaults() == TopicConfig()


def test_every_topic_property_has_a_broker_property_for_its_default_where_kafka_has_one() -> None:
    of_broker = {declared.name for declared in properties(BrokerConfig)}
    of_topic = {declared.name: declared.broker_property for declared in properties(TopicConfig)}
    without = {name for name, of in of_topic.items() if of is None}
    assert without == {
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "remote.storage.enable",
    }
    assert set(of_topic.values()) - {None} <= of_broker


@pytest.mark.parametrize(
    ("text", "throttled"),
    [
        ("*", {(0, 1), (0, 2), (1, 1), (1, 2)}),
        ("0:1, 1:2", {(0, 1), (1, 2)}),
        ("1:1", {(1, 1)}),
        (" ", set()),
        ("11:1,1:12", set()),
    ],
)
def test_throttled_replicas_are_all_or_those_that_are_named(
    text: str, throttled: set[tuple[int, int]]
) -> None:
    replicas = [(partition, broker_id) for partition in (0, 1) for broker_id in (1, 2)]
    config = topic_config({"follower.replication.throttled.replicas": text}, TopicConfig())
    assert {each for each in replicas if config.throttles_follower(*each)} == throttled
    assert not any(config.throttles_leader(*each) for each in replicas)
    config = topic_config({"leader.replication.throttled.replicas": text}, TopicConfig())
    assert {each for each in replicas if config.throttles_leader(*each)} == throttled


@pytest.mark.parametrize("text", ["none", "0", "0:", "0:1,", "0:A", "*,0:1"])
def test_a_wrong_list_of_replicas_is_refused_with_what_is_right(text: str) -> None:
    with pytest.raises(InvalidConfigError, match=r"PARTITION:BROKER,\.\.\. such as"):
        topic_config({"leader.replication.throttled.replicas": text}, TopicConfig())


def test_a_list_of_replicas_at_a_broker_is_sent_to_the_topic() -> None:
    with pytest.raises(UsageError, match="is a topic's property: set it there"):
        broker(**{"leader.replication.throttled.replicas": "*"})


def test_every_default_is_one_that_could_have_been_written_in_a_file() -> None:
    for entry in broker().describe():
        if entry.value:
            assert broker(**{entry.name: entry.value}) == broker()
    for entry in TopicConfig().describe():
        assert topic_config({entry.name: entry.value}, TopicConfig()) == TopicConfig()


def test_every_property_says_in_one_sentence_what_it_is_for() -> None:
    for declared in properties(BrokerConfig) + properties(TopicConfig):
        assert re.fullmatch(r"[A-Z][^\n]+\.", declared.doc), declared.name


# --- Topic defaults of a broker -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_texts", "field", "value"),
    [
        ({"log_retention_ms": "5", "log_retention_minutes": "1"}, "retention_ms", 5),
        ({"log_retention_minutes": "2", "log_retention_hours": "1"}, "retention_ms", 120_000),
        ({"log_retention_minutes": "-1"}, "retention_ms", -1),
        ({"log_retention_hours": "1"}, "retention_ms", 3_600_000),
        ({"log_retention_hours": "-1"}, "retention_ms", -1),
        ({"log_retention_ms": "-1"}, "retention_ms", -1),
        ({"log_roll_ms": "7", "log_roll_hours": "1"}, "segment_ms", 7),
        ({"log_roll_hours": "2"}, "segment_ms", 7_200_000),
        ({"log_segment_bytes": "1024"}, "segment_bytes", 1024),
        ({"log_roll_jitter_ms": "7", "log_roll_jitter_hours": "1"}, "segment_jitter_ms", 7),
        ({"log_roll_jitter_hours": "2"}, "segment_jitter_ms", 7_200_000),
        ({"log_flush_interval_ms": "7", "log_flush_scheduler_interval_ms": "1"}, "flush_ms", 7),
        ({"log_flush_scheduler_interval_ms": "2"}, "flush_ms", 2),
        ({"compression_type": "zstd"}, "compression_type", "zstd"),
        (
            {"log_message_timestamp_type": "LogAppendTime"},
            "message_timestamp_type",
            "LogAppendTime",
        ),
        ({"log_flush_before_ack": "true"}, "flush_before_ack", True),
        ({"message_max_bytes": "2048"}, "max_message_bytes", 2048),
        ({"log_index_size_max_bytes": "64"}, "segment_index_bytes", 64),
        ({"unclean_leader_election_enable": "true"}, "unclean_leader_election_enable", True),
        ({"min_insync_replicas": "2"}, "min_insync_replicas", 2),
    ],
)
def test_the_finest_unit_that_is_set_gives_a_topic_its_default(
    given_texts: dict[str, str], field: str, value: Any
) -> None:
    expected = dataclasses.replace(TopicConfig(), **{field: value})
    assert broker(**given_texts).topic_defaults() == expected


def test_an_override_of_a_topic_wins_over_the_default_of_the_broker() -> None:
    defaults = broker(min_insync_replicas="2", log_segment_bytes="4096").topic_defaults()
    config = topic_config({"min.insync.replicas": "3", "retention.ms": "-1"}, defaults)
    assert config == dataclasses.replace(
        defaults, min_insync_replicas=3, retention_ms=-1, segment_bytes=4096
    )


# --- Values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("FALSE", False), (" True ", True), ("false\t", False)]
)
def test_a_boolean_is_read_in_any_case_and_without_its_blanks(text: str, value: bool) -> None:
    assert broker(delete_topic_enable=text).delete_topic_enable is value


@pytest.mark.parametrize("text", ["yes", "1", "on", "truee"])
def test_anything_else_is_no_boolean(text: str) -> None:
    assert (
        refusal(delete_topic_enable=text)
        == f"delete.topic.enable={text} is not valid: expected true or false"
    )


@pytest.mark.parametrize("text", ["-2", "2147483648", "1.5", "0x10", "1_000", "٣", "ten", "1e3"])
def test_a_number_out_of_range_or_no_number_is_refused_with_the_range(text: str) -> None:
    message = refusal(replica_fetch_wait_max_ms=text)
    assert message.startswith(f"replica.fetch.wait.max.ms={text} is not valid: expected")
    assert "a whole number from 0 to 2147483647" in message


def test_a_number_too_large_for_64_bits_is_refused() -> None:
    assert "a whole number from -1 to 9223372036854775807" in topic_refusal(
        "retention.ms", str(2**63)
    )
    validate_topic_overrides({"retention.ms": str(2**63 - 1)})


@pytest.mark.parametrize(
    ("name", "text", "plain"),
    [
        ("retention.ms", "7d", "7d is 604800000 milliseconds"),
        ("retention.ms", "500ms", "500ms is 500 milliseconds"),
        ("retention.bytes", "1 GiB", "1 GiB is 1073741824 bytes"),
        ("retention.bytes", "3kb", "3kb is 3000 bytes"),
        ("retention.bytes", "3parsecs", "without a unit"),
    ],
)
def test_a_value_with_a_unit_is_refused_and_reckoned_out(name: str, text: str, plain: str) -> None:
    assert plain in topic_refusal(name, text)


@pytest.mark.parametrize("text", ["", "   ", "\t"])
def test_a_blank_value_is_refused_and_the_default_named(text: str) -> None:
    assert refusal(num_partitions=text).startswith("num.partitions is blank: expected a whole")
    assert refusal(num_partitions=text).endswith("or leave it out for 1")
    assert refusal(broker_rack=text).endswith("or leave it out for none")
    assert topic_refusal("retention.ms", text).endswith("or leave it out for 604800000")
    assert refusal(broker_id=text).endswith("expected a whole number from 0 to 2147483647")


def test_a_broker_id_starts_at_zero_as_in_kafka() -> None:
    assert (broker(broker_id="0").broker_id, broker(broker_id="0").name) == (0, "0")
    assert (
        refusal(broker_id="-1")
        == "broker.id=-1 is not valid: expected a whole number from 0 to 2147483647"
    )


@pytest.mark.parametrize(
    ("text", "policy", "compacted"),
    [
        ("delete", "delete", False),
        ("compact", "compact", True),
        ("compact,delete", "compact,delete", True),
        ("delete , compact", "delete,compact", True),
        ("compact,compact", "compact,compact", True),
        ("", "", False),
    ],
)
def test_old_records_are_deleted_compacted_or_both(text: str, policy: str, compacted: bool) -> None:
    config = topic_config({"cleanup.policy": text}, TopicConfig())
    assert (config.cleanup_policy, config.compacted) == (policy, compacted)
    assert broker(log_cleanup_policy=text).topic_defaults() == config


@pytest.mark.parametrize("text", ["none", "compact,none", "compact,", ",", "Compact"])
def test_any_other_cleanup_policy_is_refused(text: str) -> None:
    message = topic_refusal("cleanup.policy", text)
    assert message.endswith("expected compact or delete, or several with commas between")


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        *(("0", 0.0), ("1", 1.0), (".25", 0.25), ("0.01", 0.01)),
        *(("1e-3", 0.001), ("1.", 1.0), ("+5E-1", 0.5)),
    ],
)
def test_the_dirty_ratio_is_a_number_from_0_to_1(text: str, ratio: float) -> None:
    config = topic_config({"min.cleanable.dirty.ratio": text}, TopicConfig())
    assert config.min_cleanable_dirty_ratio == ratio
    assert broker(log_cleaner_min_cleanable_ratio=text).topic_defaults() == config


@pytest.mark.parametrize("text", ["1.1", "-0.1", "50%", "1e3", "nan", ".", "1e", "1e-9999"])
def test_a_ratio_that_is_none_is_refused(text: str) -> None:
    message = topic_refusal("min.cleanable.dirty.ratio", text)
    assert message.endswith("expected a number from 0 to 1, such as 0.5")


def test_the_properties_of_compaction_are_kafkas() -> None:
    config = broker(
        log_cleaner_enable="false",
        log_cleaner_backoff_ms="1",
        log_cleaner_dedupe_buffer_size="1000",
        log_cleaner_delete_retention_ms="2",
        log_cleaner_min_compaction_lag_ms="3",
        log_cleaner_max_compaction_lag_ms="4",
    )
    topic = config.topic_defaults()
    assert (config.log_cleaner_enable, config.log_cleaner_backoff_ms) == (False, 1)
    assert (topic.delete_retention_ms, topic.min_compaction_lag_ms) == (2, 3)
    assert topic.max_compaction_lag_ms == 4
    assert "expected a whole number from 1 to 1" in refusal(log_cleaner_threads="2")


@pytest.mark.parametrize("codec", ["uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"])
def test_the_codec_of_a_topic_is_the_producers_or_its_own(codec: str) -> None:
    assert topic_config({"compression.type": codec}, TopicConfig()).compression_type == codec


@pytest.mark.parametrize("codec", ["none", "GZIP", "brotli"])
def test_another_codec_is_refused_with_those_that_there_are(codec: str) -> None:
    assert topic_refusal("compression.type", codec).endswith(
        "expected one of producer, uncompressed, gzip, snappy, lz4, zstd"
    )


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("compression.gzip.level", ("-1", "1", "9"), ("0", "10", "-2")),
        ("compression.lz4.level", ("1", "17"), ("0", "18", "-1")),
        ("compression.zstd.level", ("-131072", "0", "22"), ("-131073", "23")),
        ("flush.messages", ("1", str(2**63 - 1)), ("0", "-1")),
        ("flush.ms", ("0", str(2**63 - 1)), ("-1", str(2**63))),
        ("local.retention.ms", ("-2", "-1", "0"), ("-3",)),
        ("message.format.version", ("3.0", "3.0-IV1", "0.10.2", "2.8.1"), ("3", "new", "3.0-IV")),
        ("message.timestamp.after.max.ms", ("0",), ("-1",)),
        ("message.timestamp.type", ("CreateTime", "LogAppendTime"), ("createtime", "Now")),
        ("retention.bytes", ("-1", "-5", str(-(2**63))), (str(-(2**63) - 1),)),
        ("segment.jitter.ms", ("0", "1"), ("-1",)),
    ],
)
def test_a_topics_property_has_the_range_that_it_has_in_kafka(
    name: str, right: tuple[str, ...], wrong: tuple[str, ...]
) -> None:
    for text in right:
        validate_topic_overrides({name: text})
    for text in wrong:
        assert f"{name}={text} is not valid: expected" in topic_refusal(name, text)


def test_the_difference_of_timestamps_counts_where_before_and_after_have_their_default() -> None:
    unlimited = TopicConfig()
    assert unlimited.timestamp_before_max_ms == unlimited.timestamp_after_max_ms == 2**63 - 1
    both = dataclasses.replace(unlimited, message_timestamp_difference_max_ms=5)
    assert (both.timestamp_before_max_ms, both.timestamp_after_max_ms) == (5, 5)
    before = dataclasses.replace(both, message_timestamp_before_max_ms=7)
    assert (before.timestamp_before_max_ms, before.timestamp_after_max_ms) == (7, 5)
    after = dataclasses.replace(both, message_timestamp_after_max_ms=9)
    assert (after.timestamp_before_max_ms, after.timestamp_after_max_ms) == (5, 9)


def test_a_property_without_effect_says_so_wherever_it_is_described() -> None:
    entries = {entry.name: entry.doc for entry in TopicConfig().describe()}
    assert entries["preallocate"] == (
        "Whether a new segment's file has its full size at once. "
        "Without effect: the files of a log grow as they are written."
    )
    assert "Without effect" not in entries["flush.ms"]
    of_broker = {entry.name: entry.doc for entry in broker().describe()}
    for declared in properties(TopicConfig):
        if declared.no_effect and declared.broker_property is not None:
            assert declared.no_effect in of_broker[declared.broker_property]


# --- Addresses, directories, names --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("localhost:1", Endpoint("localhost", 1)),
        ("127.0.0.1:0", Endpoint("127.0.0.1", 0)),
        ("[::1]:65535", Endpoint("::1", 65535)),
        ("[2001:db8::7]:1", Endpoint("2001:db8::7", 1)),
    ],
)
def test_a_listener_is_a_host_and_a_port(text: str, endpoint: Endpoint) -> None:
    config = broker(grpc_listener=text)
    assert config.grpc_listener == config.advertised_grpc == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        ":9092",
        "a:65536",
        "::1:9092",
        "a b:1",
        "[:]:9092",
        "[1.2]:9092",
        "[::1]",
        "[::g]:1",
        "[::1]9092",
        "http://a:1",
        "a:-1",
    ],
)
def test_a_listener_of_another_form_is_refused_with_an_example(text: str) -> None:
    assert refusal(grpc_listener=text) == (
        f"grpc.listener={text} is not valid: "
        "expected HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:19092"
        + ("; an IPv6 address stands in brackets, as in [::1]:9092" if text[0] == text[1] else "")
    )


def test_others_cannot_be_told_port_zero() -> None:
    assert "a port from 1 to 65535" in refusal(grpc_advertised_listener="a:0")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_a_broker_that_listens_everywhere_must_say_what_others_connect_to(host: str) -> None:
    assert "set grpc.advertised.listener" in refusal(grpc_listener=f"{host}:19092")
    config = broker(grpc_listener=f"{host}:19092", grpc_advertised_listener="kafka-1:19092")
    assert config.advertised_grpc == Endpoint("kafka-1", 19092)


def test_listeners_have_kafkas_form() -> None:
    assert broker().advertised_kafka == ()
    config = broker(listeners="PLAINTEXT://localhost:9092")
    assert config.listeners == (Listener("PLAINTEXT", "localhost", 9092),)
    assert config.advertised_kafka == plaintext_at("localhost", 9092)
    everywhere = broker(listeners="PLAINTEXT://:0", advertised_listeners="plaintext://[::1]:9092")
    assert everywhere.listeners == (Listener("PLAINTEXT", "0.0.0.0", 0),)
    assert everywhere.advertised_kafka == plaintext_at("::1", 9092)


def test_there_may_be_several_listeners_of_which_some_are_advertised() -> None:
    config = broker(
        listeners="inside://10.0.0.5:9092, OUTSIDE://:9094,PLAINTEXT://127.0.0.1:0",
        advertised_listeners="OUTSIDE://kafka.example:443,INSIDE://10.0.0.5:9092",
        listener_security_protocol_map="INSIDE:PLAINTEXT,outside:plaintext",
    )
    plaintext = SecurityProtocol.PLAINTEXT
    assert config.advertised_kafka == (
        KafkaListener("INSIDE", plaintext, "10.0.0.5", 9092),
        KafkaListener("OUTSIDE", plaintext, "kafka.example", 443),
    )
    assert str(config.listeners) == (
        "INSIDE://10.0.0.5:9092,OUTSIDE://0.0.0.0:9094,PLAINTEXT://127.0.0.1:0"
    )
    assert str(config.listener_security_protocol_map) == "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("localhost:9092", "expected NAME://HOST:PORT,..."),
        ("PLAINTEXT://localhost", "expected NAME://HOST:PORT,..."),
        ("PLAINTEXT://localhost:70000", "with ports from 0 to 65535"),
        ("PLAINTEXT://a:1,PLAINTEXT://b:2", "expected each name once: PLAINTEXT is there twice"),
        ("A://a:1,B://b:1", "expected a port for each listener: 1 is there twice"),
        ("GRPC://a:1", "GRPC names grpc.listener"),
        (",".join(f"L{n}://a:{n}" for n in range(1, 66)), "expected 64 listeners at most"),
        ("INSIDE://a:1", "add INSIDE: and one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
    ],
)
def test_listeners_of_another_form_are_refused(text: str, why: str) -> None:
    assert why in refusal(listeners=text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("INSIDE", "expected NAME:PROTOCOL,..."),
        ("INSIDE:TLS", "TLS is no security protocol"),
        ("A:SSL,a:SSL", "expected each name once: A is there twice"),
    ],
)
def test_a_protocol_map_of_another_form_is_refused(text: str, why: str) -> None:
    assert why in refusal(listener_security_protocol_map=text)


def test_only_listeners_that_there_are_can_be_advertised() -> None:
    assert "names OUTSIDE, which is not in listeners: PLAINTEXT may be advertised" in refusal(
        listeners="PLAINTEXT://a:1", advertised_listeners="OUTSIDE://b:2"
    )


def test_kafkas_clients_must_be_told_an_address_that_they_can_connect_to() -> None:
    assert "set advertised.listeners" in refusal(listeners="PLAINTEXT://:9092")
    alone = refusal(advertised_listeners="PLAINTEXT://localhost:9092")
    assert alone == "advertised.listeners is set and listeners is not: set both, or neither"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a:1, b:2 ,c:3/kafka/one", "a:1,b:2,c:3/kafka/one"),
        ("[::1]:2181", "[::1]:2181"),
        ("zookeeper-1.example:2181/chroot", "zookeeper-1.example:2181/chroot"),
    ],
)
def test_zookeeper_is_a_list_of_servers_and_perhaps_a_path(text: str, kept: str) -> None:
    assert broker(zookeeper_connect=text).zookeeper_connect == kept


@pytest.mark.parametrize("text", ["embedded", "a", "a:1,", "a:0", "a:1/", "a:1//b", "a:1/x,b:2/x"])
def test_a_zookeeper_address_of_another_form_is_refused(text: str) -> None:
    assert refusal(zookeeper_connect=text) == (
        f"zookeeper.connect={text} is not valid: "
        "expected HOST:PORT[,HOST:PORT...][/chroot], such as 127.0.0.1:2181"
    )


def test_log_dir_is_another_name_of_log_dirs_and_they_must_agree() -> None:
    without = {name: text for name, text in REQUIRED.items() if name != "log.dirs"}
    assert parse_broker_config(without | {"log.dir": "/data"}) == broker()
    assert broker(log_dir="/data") == broker()
    assert refusal(log_dir="/elsewhere").startswith("log.dir and log.dirs differ")


def test_a_broker_keeps_its_data_in_one_directory() -> None:
    assert "expected one directory" in refusal(log_dirs="/a,/b")


def test_a_broker_without_a_name_is_called_by_its_number() -> None:
    assert (broker().name, broker(broker_id="5").name, broker(broker_id="27").name) == (
        "A",
        "E",
        "27",
    )
    assert broker(broker_name="kafka-1.rack_2").name == "kafka-1.rack_2"


def test_a_name_that_reads_like_the_id_of_another_broker_is_refused() -> None:
    assert broker(broker_name="1").name == "1"
    assert "reads like the id of another broker" in refusal(broker_name="2")
    assert "1 to 64 letters" in refusal(broker_name="a b")


@pytest.mark.parametrize(
    ("larger", "smaller", "value"),
    [
        ("replica.fetch.wait.max.ms", "replica.lag.time.max.ms", "499"),
        ("message.max.bytes", "socket.request.max.bytes", "1048587"),
        ("socket.request.max.bytes", "queued.max.request.bytes", "104857599"),
    ],
)
def test_two_properties_that_contradict_each_other_are_both_named(
    larger: str, smaller: str, value: str
) -> None:
    message = refusal(**{smaller: value})
    assert larger in message
    assert f"{smaller}={value}" in message
    assert message.endswith(f"expected at most {value}")


# --- Names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("broker_id", "broker.id"),
        ("Broker.Id", "broker.id"),
        ("brokerid", "broker.id"),
        ("zookeper.connect", "zookeeper.connect"),
        ("num.partition", "num.partitions"),
        ("replica.lag.max.time.ms", "replica.lag.time.max.ms"),
        ("grpc.listeners", "grpc.listener"),
        ("group.initial.rebalance.delay", "group.initial.rebalance.delay.ms"),
        ("offsets.topic.partitions", "offsets.topic.num.partitions"),
    ],
)
def test_a_misspelt_broker_property_gets_a_suggestion(misspelt: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_broker_config(REQUIRED | {misspelt: "1"})
    assert str(caught.value) == f"{misspelt!r} is not a property of a broker: did you mean {meant}?"


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("min.isr.replicas", "min.insync.replicas"),
        ("retention_ms", "retention.ms"),
        ("segment.byte", "segment.bytes"),
        ("unclean.leader.election", "unclean.leader.election.enable"),
    ],
)
def test_a_misspelt_topic_property_gets_a_suggestion(misspelt: str, meant: str) -> None:
    assert topic_refusal(misspelt, "1").endswith(f"did you mean {meant}?")


def test_a_name_like_no_other_gets_the_list_of_properties() -> None:
    message = topic_refusal("quux", "1")
    for declared in properties(TopicConfig):
        assert declared.name in message


def test_a_topic_property_at_the_broker_is_answered_with_the_brokers_name_for_it() -> None:
    assert refusal(retention_ms="1").endswith("the broker's default for it is log.retention.ms")
    assert refusal(segment_ms="1").endswith("the broker's default for it is log.roll.ms")


def test_a_broker_property_at_a_topic_is_answered_with_the_topics_name_for_it() -> None:
    assert topic_refusal("log.retention.ms", "1").endswith("the topic's is retention.ms")
    assert topic_refusal("message.max.bytes", "1").endswith("the topic's is max.message.bytes")
    assert "a broker's property, not a topic's" in topic_refusal("num.partitions", "1")
    assert "a broker's property, not a topic's" in topic_refusal("log.dir", "1")


@pytest.mark.parametrize(
    "name",
    [
        "num.network.threads",
        "ssl.secure.random.implementation",
        "node.id",
        "group.consumer.assignors",
        "offsets.load.buffer.size",
        "remote.log.storage.system.enable",
    ],
)
def test_a_property_that_only_kafka_has_a_use_for_is_taken_and_told_of(name: str) -> None:
    texts = REQUIRED | {name: "anything", "num.partitions": "3"}
    assert parse_broker_config(texts) == broker(num_partitions="3")
    sentence = f"{name} has no effect: minikafka has no use for it"
    assert without_effect(BrokerConfig, texts) == [sentence]
    message = topic_refusal(name, "1")
    assert (
        message == f"{name} is a property of Kafka's brokers that has no effect here: leave it out"
    )


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("create.topic.policy.class.name", "example.Policy", ""),
        ("process.roles", "broker,controller", ""),
        ("security.inter.broker.protocol", "SASL_SSL", "PLAINTEXT"),
        ("zookeeper.set.acl", "true", "false"),
        ("zookeeper.ssl.client.enable", "True", "FALSE"),
    ],
)
def test_a_property_of_kafka_that_would_protect_is_refused_unless_it_asks_for_nothing(
    name: str, wrong: str, right: str
) -> None:
    with pytest.raises(UsageError, match=rf"^{name}={re.escape(wrong)} would not hold here, since"):
        parse_broker_config(REQUIRED | {name: wrong})
    assert parse_broker_config(REQUIRED | {name: right}) == broker()


def test_a_property_without_effect_is_told_where_it_differs_from_its_default() -> None:
    given_texts = {"preallocate": "TRUE", "remote.storage.enable": "false", "flush.ms": "5"}
    validate_topic_overrides(given_texts)
    assert without_effect(TopicConfig, given_texts) == [
        "preallocate=TRUE has no effect: the files of a log grow as they are written"
    ]
    assert without_effect(BrokerConfig, {"log.local.retention.ms": "7"}) == [
        "log.local.retention.ms=7 has no effect: there is no tiered storage, so all of a log is "
        "local"
    ]


def test_the_page_of_properties_is_that_of_the_declarations() -> None:
    again = "python -m tests.helpers.property_docs > docs/properties.md"
    assert property_docs.PAGE.read_text() == property_docs.page(), again


# --- beside Apache Kafka's own declarations -----------------------------------------------------

# scope, name, type and default, as tests/helpers/KafkaProperties.java prints them.
_KAFKAS = [
    line.split("\t")
    for line in (Path(__file__).parent / "kafka_properties.tsv").read_text().splitlines()
]
_KINDS = {
    "boolean": {"BOOLEAN"},
    "double": {"DOUBLE"},
    "integer": {"INT", "SHORT"},
    "list": {"LIST"},
    "password": {"PASSWORD"},
    "long": {"LONG"},
    "text": {"STRING"},
}


def test_every_topic_property_of_kafka_is_declared_with_its_type_and_default() -> None:
    declared = {each.name: each for each in properties(TopicConfig)}
    for scope, name, kind, default in _KAFKAS:
        if scope == "topic":
            ours = declared.pop(name)
            assert kind in _KINDS[ours.kind], name
            assert as_text(ours.default) == default.strip("[]"), name
    assert set(declared) == {"flush.before.ack"}


def test_every_broker_property_of_kafka_is_declared_or_taken_without_effect() -> None:
    from minikafka.config.foreign import is_foreign

    declared = {each.name: each for each in properties(BrokerConfig)}
    for scope, name, kind, _ in _KAFKAS:
        if scope == "broker" and name != "log.dir":
            assert (name in declared) is not is_foreign(name), name
            if name in declared:
                assert kind in _KINDS[declared[name].kind], name
    known = {name for scope, name, *_ in _KAFKAS if scope == "broker"}
    for name in set(declared) - known - {"super.users", "allow.everyone.if.no.acl.found"}:
        # (Those are of its authorizer's.)
        assert "inikafka's own" in declared[name].doc or name.endswith("throttled.rate"), name


# --- describe -----------------------------------------------------------------------------------


def test_describe_tells_what_was_set_from_what_is_default() -> None:
    entries = {entry.name: entry for entry in broker(num_partitions="3").describe()}
    assert (entries["num.partitions"].value, entries["num.partitions"].is_default) == ("3", False)
    assert entries["min.insync.replicas"].is_default
    assert entries["grpc.listener"].value == "127.0.0.1:19092"
    assert entries["broker.rack"].value == ""
    assert entries["broker.id"].is_default is False
    assert list(entries) == sorted(entries)


def test_describe_of_a_broker_is_enough_to_start_it_again() -> None:
    config = broker(num_partitions="3", broker_name="kafka", log_roll_ms="5")
    texts = {entry.name: entry.value for entry in config.describe() if entry.value}
    assert parse_broker_config(texts) == config


# --- .properties files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "pairs"),
    [
        ("", {}),
        ("# comment\n! comment\n\n  \t\n   # comment", {}),
        ("a=1\nb:2\nc 3\n d\t=\t4 ", {"a": "1", "b": "2", "c": "3", "d": "4 "}),
        ("a.b.c = x=y:z", {"a.b.c": "x=y:z"}),
        ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
        ("a=1\na=2", {"a": "2"}),
        ("a=\nb", {"a": "", "b": ""}),
        ("a=1,\\\n    2,\\\n\t3\nb=4", {"a": "1,2,3", "b": "4"}),
        ("a=1\\\n# not a comment", {"a": "1# not a comment"}),
        ("a=one\\\\\nb=2", {"a": "one\\", "b": "2"}),
        ("a=1\\", {"a": "1"}),
        ("a\\ b\\=c=d", {"a b=c": "d"}),
        ("a=\\t\\n\\u00e9\\q", {"a": "\t\né" + "q"}),
        ("\\", {}),
    ],
)
def test_a_properties_file_is_read_as_java_reads_it(content: str, pairs: dict[str, str]) -> None:
    assert parse_properties(content) == pairs


def test_a_line_without_a_name_is_refused_with_its_number() -> None:
    with pytest.raises(UsageError, match=r"^line 3: '=1' has no property name"):
        parse_properties("# one\n\n=1")


def test_a_broken_unicode_escape_is_refused_with_its_number() -> None:
    with pytest.raises(UsageError, match=r"^line 2: .* has a broken escape: expected \\uXXXX"):
        parse_properties("a=1\nb=\\u12")


def test_a_file_with_comments_and_continuations_gives_a_broker() -> None:
    content = """
        # The broker of the example.
        broker.id=3
        zookeeper.connect=one:2181,\\
                          two:2181/kafka
        log.dirs : /var/lib/minikafka
    """
    config = parse_broker_config(parse_properties(content))
    assert config == BrokerConfig(3, "one:2181,two:2181/kafka", "/var/lib/minikafka")


@given(st.text())
def test_any_text_is_either_pairs_or_a_usage_error(content: str) -> None:
    try:
        pairs = parse_properties(content)
    except UsageError as error:
        pairs = {"refused": str(error)}
    assert pairs.get("refused", "line ").startswith("line ")
    assert all(isinstance(value, str) for value in pairs.values())


@given(
    st.dictionaries(st.text(alphabet="abc.", min_size=1), st.text(alphabet="xyz,:/ =1", max_size=9))
)
def test_pairs_written_plainly_are_read_back(pairs: dict[str, str]) -> None:
    content = "".join(f"{name} = {value}\n" for name, value in pairs.items())
    expected = {name: value.lstrip(" ") for name, value in pairs.items()}
    assert parse_properties(content) == expected


def test_some_session_timeout_of_a_member_must_be_right() -> None:
    message = refusal(group_min_session_timeout_ms="9000", group_max_session_timeout_ms="8000")
    assert "no session timeout would be right" in message
