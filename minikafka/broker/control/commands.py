"""Carries the controller core's commands out on the `ClusterStore`.

Every State that was written is a line in the log, in the words of the slide and with the reason:
this is where people see who left the ISR and why.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import assert_never

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import ClusterStore
from minikafka.core.control.commands import (
    AllocateProducerIds,
    ClearPreferredElection,
    Command,
    CreateTopicNode,
    MarkTopicDeleted,
    NextTurn,
    ReadBrokerConfigs,
    ReadStates,
    ReadTopicConfigs,
    RemoveTopic,
    StateChange,
    UpdateTopicNode,
    WriteBrokerConfig,
    WriteStates,
    WriteTopicConfig,
)
from minikafka.turns import in_slices, next_turn

log = logging.getLogger("minikafka.controller")

PRODUCER_ID_BLOCK = 1000


async def execute(store: ClusterStore, command: Command, names: Mapping[int, str]) -> object:
    """The result of a command, as commands.py of the core lists them. `names`: brokers'
    names for the log. Raises SessionLostError."""
    match command:
        case WriteStates():
            return await _write_states(store, command.changes, names)
        case ReadStates():
            return await store.read_states(command.topics)
        case CreateTopicNode():
            outcome = await store.create_topic(command.topic, command.overrides)
            return _note("creating topic", command.topic.name, outcome)
        case UpdateTopicNode():
            outcome = await store.update_topic(command.topic)
            return _note("changing topic", command.topic.name, outcome)
        case RemoveTopic():
            outcome = await store.delete_topic_nodes(command.topic)
            return _note("deleting topic", command.topic.name, outcome)
        case ClearPreferredElection():
            return await store.clear_preferred_election()
        case ReadTopicConfigs():
            return await store.read_topic_configs()
        case WriteTopicConfig():
            outcome = await store.write_topic_config(command.topic, command.overrides)
            return _note("configuring topic", command.topic, outcome)
        case ReadBrokerConfigs():
            return await store.read_broker_configs()
        case WriteBrokerConfig():
            outcome = await store.write_broker_config(command.broker, command.overrides)
            return _note("configuring broker", command.broker, outcome)
        case MarkTopicDeleted():
            await store.mark_topic_deleted(command.topic)
            return None
        case AllocateProducerIds():
            return await store.allocate_producer_ids(command.broker_id, PRODUCER_ID_BLOCK)
        case NextTurn():
            await next_turn()
            return None
        case _:
            assert_never(command)


def _note(doing: str, name: str, outcome: WriteOutcome) -> WriteOutcome:
    level = logging.INFO if outcome is WriteOutcome.WRITTEN else logging.WARNING
    log.log(level, "%s %s: %s", doing, name, outcome.value)
    return outcome


async def _write_states(
    store: ClusterStore, changes: tuple[StateChange, ...], names: Mapping[int, str]
) -> list[WriteOutcome]:
    written = await store.write_states(changes)
    async for change, outcome in in_slices(zip(changes, written, strict=True)):
        if outcome is WriteOutcome.WRITTEN:
            level = logging.WARNING if change.unclean else logging.INFO
            log.log(level, "%s", change.describe(names))
        else:
            log.warning("%s: not written: %s", change.describe(names), outcome.value)
    return written
