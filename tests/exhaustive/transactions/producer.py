"""A client of the model: one transaction after another, as the protocol has it.

Pure functions from a value to the next. `choices` says what it may ask for next; `hear` what it
makes of an answer. In TV1 it adds a partition, then writes to it; after trouble it aborts, or does
not, and goes on with the next epoch (KIP-360). In TV2 writing adds, and every end gives the next
epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minikafka.core.transactions.requests import AddRequest, EndRequest, InitRequest
from tests.exhaustive.transactions.values import (
    NO_SEQUENCE,
    OFFSETS,
    PARTITIONS,
    Produce,
    Producer,
)

TIMEOUT_MS = 10_000
AGAIN = frozenset(
    {
        "CONCURRENT_TRANSACTIONS",
        "NOT_COORDINATOR",
        "COORDINATOR_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
    }
)
FATAL = frozenset({"PRODUCER_FENCED", "INVALID_PRODUCER_ID_MAPPING"})
DOOMING = frozenset(
    {
        "INVALID_PRODUCER_EPOCH",
        "TRANSACTION_ABORTABLE",
        "INVALID_TXN_STATE",
        "OUT_OF_ORDER_SEQUENCE_NUMBER",
    }
)


class Confused(Exception):
    """A client was told what it should never hear."""


def label_of(me: int, producer: Producer) -> tuple[int, int]:
    return me, producer.number


def is_of_offsets(request: Any) -> bool:
    return isinstance(request, Produce) and request.sequence == NO_SEQUENCE


def choices(
    me: int, producer: Producer, partitions: int, *, group: bool
) -> Iterator[tuple[str, Any]]:
    """(what, request) that it may send, while it waits for nothing. To begin a transaction is
    `begin`, with what it asks for first. `group`: the first partition takes offsets."""
    known = producer.producer_id, producer.producer_epoch
    if producer.phase == "new":
        yield "init", InitRequest(TIMEOUT_MS)
    elif producer.phase == "ready" and producer.bumps:
        yield "init", InitRequest(TIMEOUT_MS, *known)
    elif producer.phase == "ready":
        begun = producer._replace(number=producer.number + 1)
        yield "begin", _first(me, begun, 0, group=group)
    elif producer.phase == "open":
        version = 5 if producer.tv == 2 else 4
        if not producer.doomed:
            yield from _more(me, producer, partitions, group=group)
            if producer.added or producer.written:
                yield "commit", EndRequest(*known, True, version)
        yield "abort", EndRequest(*known, False, version)
        if producer.bumps:
            yield "init", InitRequest(TIMEOUT_MS, *known)


def _first(me: int, producer: Producer, index: int, *, group: bool) -> Any:
    if producer.tv == 2:
        return _produce(me, producer, index, group=group)
    known = producer.producer_id, producer.producer_epoch
    return AddRequest(*known, frozenset({PARTITIONS[index]}), knows_abortable=False)


def _produce(me: int, producer: Producer, index: int, *, group: bool) -> Produce:
    return Produce(
        index,
        producer.producer_id,
        producer.producer_epoch,
        NO_SEQUENCE if group and index == OFFSETS else producer.sequences[index],
        label_of(me, producer),
        producer.tv,
    )


def _more(
    me: int, producer: Producer, partitions: int, *, group: bool
) -> Iterator[tuple[str, Any]]:
    """The partitions come in their order; what was added need not be written to."""
    for index in producer.added:
        if index not in producer.written:
            yield "produce", _produce(me, producer, index, group=group)
            return
    index = len(producer.written)
    if index < partitions:
        first = _first(me, producer, index, group=group)
        yield ("produce" if producer.tv == 2 else "add"), first


def asked(producer: Producer, what: str, request: Any, partitions: int) -> Producer:
    """Having sent it."""
    if what == "begin":
        producer = producer._replace(phase="open", number=producer.number + 1)
    if not producer.sequences:
        producer = producer._replace(sequences=(0,) * partitions)
    return producer._replace(request=request, sent=True)


def given_up(producer: Producer) -> Producer:
    """The client waits no longer for what it asked. A batch is not sent again: the transaction is
    aborted. Offsets are, as Java does it, until there is an answer. (`Producer.sent` told whether
    the old copy is still on its way.)"""
    if isinstance(producer.request, Produce) and not is_of_offsets(producer.request):
        return producer._replace(
            request=None, sent=False, reply=None, doomed=True, bumps=producer.tv == 1
        )
    return producer._replace(sent=True, reply=None)


def hear(producer: Producer, reply: tuple[Any, ...]) -> Producer:
    """What comes of an answer to what it waits for."""
    request, word = producer.request, reply[0]
    producer = producer._replace(reply=None)
    if word in AGAIN and not isinstance(request, Produce):
        return producer._replace(sent=True)
    producer = producer._replace(request=None, sent=False)
    if word in FATAL:
        return producer._replace(phase="dead")
    match request:
        case InitRequest() if word == "ok":
            return _begun_anew(producer, *reply[1:])
        case AddRequest() if word == "ok":
            index = PARTITIONS.index(next(iter(request.partitions)))
            return producer._replace(added=(*producer.added, index))
        case Produce() if word == "ok":
            return _wrote(producer, request)
        case Produce() if word in DOOMING or word in AGAIN:
            return producer._replace(doomed=True, bumps=producer.tv == 1)
        case EndRequest() if word == "ok":
            return _ended(producer, *reply[1:])
        case EndRequest(commits=True) if word == "TRANSACTION_ABORTABLE" and producer.tv == 2:
            return producer._replace(doomed=True)
    raise Confused(f"{word} to {request}")


def _begun_anew(producer: Producer, producer_id: int, producer_epoch: int) -> Producer:
    return producer._replace(
        phase="ready",
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        added=(),
        written=(),
        sequences=(0,) * len(producer.sequences),
        doomed=False,
        bumps=False,
    )


def _wrote(producer: Producer, produce: Produce) -> Producer:
    index, sequences = produce.partition, list(producer.sequences)
    if produce.sequence != NO_SEQUENCE:
        sequences[index] += 1
    return producer._replace(written=(*producer.written, index), sequences=tuple(sequences))


def _ended(producer: Producer, producer_id: int, producer_epoch: int) -> Producer:
    bumps = producer.bumps
    if producer.tv == 2:
        return _begun_anew(producer, producer_id, producer_epoch)
    ready = _begun_anew(producer, producer.producer_id, producer.producer_epoch)
    return ready._replace(sequences=producer.sequences, bumps=bumps)
