"""Messages with markers, from a coordinator's broker to a partition leader's, and who may be heard.

    Route          where the marker for a partition goes: the leader, its incarnation, and the
                   leader epoch that the sender knows; or nowhere yet; or the topic is deleted
    MarkerMessage  from one incarnation of a broker to one of another, with a number

Between two incarnations the numbers rise, and one message is under way at a time. `MarkerFilter` is
the receiving end: a message that is not for this incarnation, is of an older one of its sender, or
whose number is not above the last, is dropped. So a late copy of a marker ends nothing, not even in
TV1, where the next transaction has the same epoch.

That is not all: a message that was given up may wait for a broker that leads no more, until it
leads again. So each marker also names the leader epoch that the sender knew, and a leader takes it
only if its own leadership had begun by then (`is_for_leadership`).

State of the filter: for each sender, its incarnation and its last number. Both only rise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from minikafka.core.transactions.values import Marker
from minikafka.model import TopicPartition


class Incarnation(NamedTuple):
    broker_id: int
    broker_epoch: int


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a partition, as far as the sender knows."""

    incarnation: Incarnation
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Nobody leads it, or nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """The metadata are complete, as of the controller that there is now, and lack the topic. Not
    to know a topic yet, after a start, is no deletion."""


Route = Leader | Nowhere | Deleted


@dataclass(frozen=True, slots=True)
class MarkerEntry:
    """A marker for one partition. `coordinator_epoch` is the leader epoch of the id's partition of
    `__transaction_state` when it was sent."""

    marker: Marker
    partition: TopicPartition
    leader_epoch: int
    coordinator_epoch: int


@dataclass(frozen=True, slots=True)
class MarkerMessage:
    sender: Incarnation
    target: Incarnation
    number: int
    entries: tuple[MarkerEntry, ...]


class MarkerFilter:
    """See the module. One for each incarnation of a broker."""

    def __init__(self, own: Incarnation) -> None:
        self.own = own
        self._last: dict[int, tuple[int, int]] = {}

    def takes(self, message: MarkerMessage) -> bool:
        """Are its markers to be looked at? False: none, and nobody waits for an answer."""
        sender = message.sender
        heard = (sender.broker_epoch, message.number)
        if message.target != self.own or heard <= self._last.get(sender.broker_id, (0, 0)):
            return False
        self._last[sender.broker_id] = heard
        return True


def is_for_leadership(entry: MarkerEntry, first_leader_epoch: int) -> bool:
    """Was it sent to the leadership that began with this leader epoch, or to a later one?"""
    return entry.leader_epoch >= first_leader_epoch
