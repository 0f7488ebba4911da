"""The newest connection speaks: which connection of a transactional id is heard.

Where the epoch stays from one transaction to the next (TV1), a request that is late ends, or joins,
the next transaction (KAFKA-17754). A late request comes on an older connection than the one that
the client, having given it up, went on with. So for each id a broker remembers the youngest
connection that sent InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn or EndTxn, and, apart,
TxnOffsetCommit: one of these on an older connection is not executed, and that connection is closed.
Who is fenced is not asked about here: whatever it asks of the coordinator is refused, on any
connection, and makes none the youngest.

State: for the hash of each (id, kind) the number of that connection: an id may have 32 KB, and two
that collide only close a connection that did not have to be. Connections are numbered by the broker
as they are accepted, from 1 on, rising. Invariants: a number never falls while its id is
remembered; at most `limit` are remembered, and who was heard of least recently goes.
"""

from __future__ import annotations

from collections import OrderedDict

from minikafka.api.transactions import NewestOf

REMEMBERED = 100_000


class NewestConnections:
    """See the module."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._newest: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._newest)

    def hears(self, transactional_id: str, kind: NewestOf, connection: int) -> bool:
        """May a request of this kind be executed that came on this connection? False: close it."""
        key = hash((transactional_id, kind))
        newest = self._newest.get(key, 0)
        self._newest[key] = max(newest, connection)
        self._newest.move_to_end(key)
        if len(self._newest) > self._limit:
            self._newest.popitem(last=False)
        return connection >= newest
