"""The lives of partitions: each event is followed by a check of the invariants, and a life that was
recorded can be lived again.

A partition has one way in (`Partition.step`), so wrapping it is enough, in the unit tests of the
core as in a whole broker.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from minikafka.core.replication.effects import (
    AppendWaiting,
    CompleteProduce,
    Effect,
    RefuseWaiting,
)
from minikafka.core.replication.events import (
    Event,
    LogTruncated,
    ProduceGivenUp,
    ProduceParked,
    TransactionalProduceWaits,
    WaitGivenUp,
)
from minikafka.core.replication.log_state import LogState
from minikafka.core.replication.partition import Partition
from minikafka.core.replication.settings import PartitionSettings
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition

Step = Callable[[Partition, Event, int], list[Effect]]


def check_after_every_event() -> None:
    """From now on, in this process."""
    step = Partition.step

    def step_and_check(partition: Partition, event: Event, now_ms: int) -> list[Effect]:
        effects = step(partition, event, now_ms)
        partition.check()
        return effects

    Partition.step = step_and_check  # type: ignore[method-assign]


# --- a life that is recorded ----------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """An event that was taken in: when, who could join an ISR then, and what came of it."""

    now_ms: int
    event: Event
    eligible: Mapping[int, int]
    effects: list[Effect] | None
    error: str | None
    log_state: LogState


@dataclass
class Life:
    """Of one replica, from when its log was opened on."""

    topic_partition: TopicPartition
    topic_id: str
    broker_id: int
    broker_epoch: int
    log_state: LogState
    settings: PartitionSettings
    moments: list[Moment] = field(default_factory=list)
    tokens: dict[int, int] = field(default_factory=dict)

    def value_of(self, event: Event) -> Event:
        """As it stays whatever becomes of its parts: tokens by number, producers as they were."""
        match event:
            case ProduceParked() | ProduceGivenUp() | TransactionalProduceWaits() | WaitGivenUp():
                return replace(event, token=self._number(event.token))
            case LogTruncated():
                return replace(event, producers=copy.deepcopy(event.producers))
        return event

    def values_of(self, effects: list[Effect]) -> list[Effect]:
        return [self._value_of_effect(effect) for effect in effects]

    def _value_of_effect(self, effect: Effect) -> Effect:
        match effect:
            case CompleteProduce() | RefuseWaiting():
                error: Any = _text(effect.error)
                return replace(effect, token=self._number(effect.token), error=error)
            case AppendWaiting():
                return replace(effect, tokens=tuple(map(self._number, effect.tokens)))
        return effect

    def _number(self, token: object) -> int:
        if isinstance(token, int):
            return token
        return self.tokens.setdefault(id(token), len(self.tokens))

    def live_again(self) -> Partition:
        """Hand the same events to a new partition; fails where anything else comes of one."""
        eligible: dict[int, int] = {}
        partition = Partition(
            self.topic_partition,
            self.topic_id,
            self.broker_id,
            self.broker_epoch,
            copy.deepcopy(self.log_state),
            self.settings,
            eligible,
        )
        for number, then in enumerate(self.moments):
            eligible.clear()
            eligible.update(then.eligible)
            effects: list[Effect] | None = None
            error = None
            try:
                effects = self.values_of(partition.step(copy.deepcopy(then.event), then.now_ms))
            except MinikafkaError as raised:
                error = str(raised)
            told = f"event {number}, {then.event}"
            assert (effects, error) == (then.effects, then.error), partition.explain(told)
            assert partition.log_state == then.log_state, partition.explain(told)
        return partition


def _text(error: MinikafkaError | None) -> Any:
    return None if error is None else f"{type(error).__name__}: {error}"


@contextmanager
def recorded() -> Iterator[list[tuple[Partition, Life]]]:
    """The lives of all partitions that begin meanwhile, with the partitions themselves."""
    lives: list[tuple[Partition, Life]] = []
    of: dict[int, Life] = {}  # by partition, which `lives` keeps
    begin, step = Partition.__init__, Partition.step

    def begin_recorded(partition: Partition, *arguments: Any) -> None:
        begin(partition, *arguments)
        life = Life(
            partition.topic_partition,
            partition.topic_id,
            partition.broker_id,
            partition.broker_epoch,
            copy.deepcopy(partition.log_state),
            partition.settings,
        )
        lives.append((partition, life))
        of[id(partition)] = life

    def step_recorded(partition: Partition, event: Event, now_ms: int) -> list[Effect]:
        life = of.get(id(partition))
        if life is None:  # began before
            return step(partition, event, now_ms)
        value, eligible = life.value_of(event), dict(partition.eligible)
        effects: list[Effect] | None = None
        error = None
        try:
            effects = step(partition, event, now_ms)
            return effects
        except MinikafkaError as raised:
            error = str(raised)
            raise
        finally:
            values = None if effects is None else life.values_of(effects)
            then = copy.deepcopy(partition.log_state)
            life.moments.append(Moment(now_ms, value, eligible, values, error, then))

    with (
        patch.object(Partition, "__init__", begin_recorded),
        patch.object(Partition, "step", step_recorded),
    ):
        yield lives
