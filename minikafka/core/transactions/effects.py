"""What the transactions of a coordinator ask of their runtime, in the order to be done.

`Append`: the runtime writes the record to the id's partition of `__transaction_state` with acks=all
and calls `on_appended` once it is in the log, or `on_refused` if it is not and will not be; and
`on_committed` once it is below the high watermark. There is no fourth outcome but the end of the
leadership, upon which it calls `unload`. It may gather the records of many ids in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from minikafka.core.transactions.requests import Result
from minikafka.core.transactions.values import Marker, TransactionRecord
from minikafka.model import TopicPartition


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request. `token` is the runtime's, and was given with the request."""

    token: object
    result: Result


@dataclass(frozen=True, slots=True)
class Append:
    """Write this. `number` counts the records of the id."""

    record: TransactionRecord
    number: int


@dataclass(frozen=True, slots=True)
class SendMarkers:
    """Tell these partitions, until each has confirmed it or is known to be deleted."""

    marker: Marker
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class ReserveProducerId:
    """The shard has none to spare: get one, and call `on_producer_id`."""


Effect = Reply | Append | SendMarkers | ReserveProducerId
