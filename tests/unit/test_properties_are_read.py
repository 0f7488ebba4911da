"""Every property that is declared is read where it counts, and a change of it is seen there.

That it is read at all is looked up in the sources; that a change arrives is tried: for those of a
topic at a replica and its log, for a broker's defaults of them in what a new topic gets, for the
other dynamic ones at what they govern.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path

import pytest

import minikafka
from minikafka.broker.replication import replica_manager
from minikafka.config import (
    BrokerConfig,
    Property,
    TopicConfig,
    as_text,
    field_name,
    parse_broker_config,
    properties,
)
from minikafka.config.reading import LISTENER_PROPERTIES
from minikafka.config.tls import NAMES
from minikafka.core.replication.throttle import ReplicationThrottle
from tests.helpers.replicas import TP, Bench

PACKAGE = Path(minikafka.__file__).parent
REQUIRED = {"broker.id": "1", "zookeeper.connect": "127.0.0.1:2181", "log.dirs": "/data"}
# What objects that hold a configuration are called.
HOLDERS = {"config", "_config", "current", "replaced", "defaults"}
# Values besides the default, of properties that are no numbers and no booleans.
OTHERS = {
    "cleanup.policy": "compact",
    "compression.type": "zstd",
    "log.cleanup.policy": "compact",
    "log.message.format.version": "2.8",
    "log.message.timestamp.type": "LogAppendTime",
    "message.format.version": "2.8",
    "message.timestamp.type": "LogAppendTime",
}
# Of a broker, and one value by design: declared so that a wrong one is refused.
ONE_VALUE = {"log.cleaner.threads"}


def another(declared: Property) -> str:
    """A right value that is not the default."""
    if declared.kind == "list" and declared.name not in OTHERS:
        return "0:1"
    if declared.kind == "boolean":
        return as_text(not declared.default)
    if declared.kind in ("integer", "long"):
        return "17" if declared.name.endswith("bytes") else "7"
    return "0.25" if declared.kind == "double" else OTHERS[declared.name]


def own_default(declared: Property) -> bool:
    """Whether a broker's property does nothing else than to be a topic's default."""
    return declared.name in {each.broker_property for each in properties(TopicConfig)} | {
        "log.flush.scheduler.interval.ms",
        "log.retention.hours",
        "log.retention.minutes",
        "log.roll.hours",
        "log.roll.jitter.hours",
    }


# --- in the sources ------------------------------------------------------------------------------


def attributes(tree: ast.AST) -> set[tuple[str, str]]:
    """(what the object is called, the attribute) of everything that is read."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            found.add((name, node.attr))
    return found


@cache
def read_outside() -> frozenset[str]:
    """What is read of a configuration by those who do not belong to it."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if not {"config", "generated"} & set(path.relative_to(PACKAGE).parts):
            tree = ast.parse(path.read_text())
            names |= {attribute for owner, attribute in attributes(tree) if owner in HOLDERS}
    return frozenset(names)


@cache
def read_by_methods() -> frozenset[str]:
    """Fields that are read by a method or property of a configuration that is itself read: as its
    own, or by name for a listener."""
    names: set[str] = set()
    for path in (PACKAGE / "config" / "topic.py", PACKAGE / "config" / "broker.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name in read_outside():
                names |= {attribute for owner, attribute in attributes(node) if owner == "self"}
                names |= {
                    field_name(argument.value)
                    for call in ast.walk(node)
                    if isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and call.func.attr == "of_listener"
                    for argument in call.args
                    if isinstance(argument, ast.Constant)
                }
    return frozenset(names)


@cache
def asked_for_by_name() -> frozenset[str]:
    """Of single listeners: those that somebody asks `of_listener` for, and those of TLS that
    config/tls.py looks for (they are listed there once, too)."""
    texts: Counter[str] = Counter()
    outside: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).parts
        if parts == ("config", "tls.py") or not {"config", "generated"} & set(parts):
            found = [
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            if parts == ("config", "tls.py"):
                texts.update(found)
            else:
                outside.update(found)
    of_tls = {name for name, count in texts.items() if name in NAMES and count > 1}
    return frozenset(of_tls | (outside & set(LISTENER_PROPERTIES)))


@pytest.mark.parametrize(
    "declared",
    [
        each
        for each in properties(TopicConfig) + properties(BrokerConfig)
        if not each.no_effect and not own_default(each) and each.name not in ONE_VALUE
    ],
    ids=lambda each: each.name,
)
def test_a_property_is_read_by_somebody_outside_of_the_configuration(declared: Property) -> None:
    field = field_name(declared.name)
    by_name = declared.name in asked_for_by_name()
    assert by_name or field in read_outside() or field in read_by_methods(), (
        f"{declared.name} is declared and nobody reads it: make it count, or declare no_effect"
    )


@pytest.mark.parametrize(
    "declared",
    [each for each in properties(TopicConfig) + properties(BrokerConfig) if each.no_effect],
    ids=lambda each: each.name,
)
def test_a_property_without_effect_is_read_by_nobody(declared: Property) -> None:
    assert field_name(declared.name) not in read_outside() | read_by_methods()


# --- a broker's defaults -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "declared",
    [each for each in properties(BrokerConfig) if own_default(each)],
    ids=lambda each: each.name,
)
def test_a_brokers_default_is_what_a_topic_gets(declared: Property) -> None:
    changed = parse_broker_config(REQUIRED | {declared.name: another(declared)})
    assert changed.topic_defaults() != parse_broker_config(REQUIRED).topic_defaults()


# --- at run time ---------------------------------------------------------------------------------


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


async def test_a_topics_property_that_is_altered_reaches_replica_and_log(bench: Bench) -> None:
    replica = await bench.lead(1)
    for declared in properties(TopicConfig):
        text, field = another(declared), field_name(declared.name)
        bench.overrides = {"t": {declared.name: text}}
        await bench.manager.reload_configs()
        for held in (replica.config, replica.log.config):  # type: ignore[attr-defined]
            assert as_text(getattr(held, field)) == text, declared.name
        bench.overrides = {}
        await bench.manager.reload_configs()
        for held in (replica.config, replica.log.config):  # type: ignore[attr-defined]
            assert getattr(held, field) == declared.default, declared.name


async def test_a_brokers_default_that_is_altered_reaches_replica_and_log(bench: Bench) -> None:
    replica = await bench.lead(1)
    before = replica.config
    for declared in properties(BrokerConfig):
        if not declared.dynamic or not own_default(declared):
            continue
        bench.broker_overrides = {"<default>": {declared.name: another(declared)}}
        await bench.manager.reload_configs()
        assert replica.config != before, declared.name
        assert replica.log.config == replica.config, declared.name  # type: ignore[attr-defined]
        bench.broker_overrides = {}
        await bench.manager.reload_configs()
        assert replica.config == before, declared.name


async def throttled_rate(throttle: ReplicationThrottle) -> int:
    return throttle.bytes_per_s


async def cleaner_backoff_ms(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> int:
    """How long compaction waits now."""
    waits: list[float] = []

    class Waited(Exception):
        pass

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)
        raise Waited

    monkeypatch.setattr(replica_manager.asyncio, "sleep", sleep)
    with pytest.raises(Waited):
        await bench.manager.run_compaction()
    monkeypatch.undo()
    return round(waits[0] * 1000)


async def producers_idle_ms(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> int:
    """How long producers must have written nothing to be forgotten now."""
    told: list[int] = []
    replica = bench.manager.replicas[TP]
    monkeypatch.setattr(replica.log, "expire_producers", lambda _, idle_ms: told.append(idle_ms))
    await bench.manager.retain([replica])
    monkeypatch.undo()
    return told[0]


# What a dynamic property of a broker that is no topic's default governs, as a number of now.
PROBES: dict[str, Callable[[Bench, pytest.MonkeyPatch], Awaitable[int]]] = {
    "follower.replication.throttled.rate": lambda bench, _: throttled_rate(
        bench.replicator.throttle
    ),
    "leader.replication.throttled.rate": lambda bench, _: throttled_rate(
        bench.manager.leader_throttle
    ),
    "log.cleaner.backoff.ms": cleaner_backoff_ms,
    "producer.id.expiration.ms": producers_idle_ms,
}


def test_each_dynamic_property_of_a_broker_has_a_probe_or_is_a_topics_default() -> None:
    dynamic = {each.name for each in properties(BrokerConfig) if each.dynamic}
    defaults = {each.name for each in properties(BrokerConfig) if own_default(each)}
    assert dynamic - defaults == PROBES.keys()


@pytest.mark.parametrize("name", sorted(PROBES))
async def test_a_dynamic_property_of_a_broker_counts_as_soon_as_it_is_altered(
    name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.lead(1)
    before = await PROBES[name](bench, monkeypatch)
    bench.broker_overrides = {"1": {name: "1234567"}}
    await bench.manager.reload_configs()
    after = await PROBES[name](bench, monkeypatch)
    assert before != after == 1_234_567
    bench.broker_overrides = {}
    await bench.manager.reload_configs()
    assert await PROBES[name](bench, monkeypatch) == before
