"""Which incarnation of a broker a member of an ISR is, and whether it still has its log.

`PartitionState.isr_storage` keeps a *mark* for each member: `<storage id>@<broker epoch>`, as they
were when the member was admitted or elected. From the mark and the broker's registration of today
follows all that is to be known, by whichever controller reads them (replication.md: R6, storage
identity): nothing of it is kept in memory only.

- the same broker epoch: the same incarnation, whatever its `dirty` says (it was admitted as it is);
- another one, with the same storage id and not dirty: it came back with its log intact;
- another one, dirty or with another storage id: what it held is lost.

A mark without a broker epoch, or none, was written by some other tool: judged by storage alone.
"""

from __future__ import annotations

from enum import Enum

from minikafka.model import BrokerInfo


class Standing(Enum):
    """A live broker, compared with the mark that a State holds of it."""

    SAME = "the same incarnation"
    RETURNED = "restarted, log intact"
    LOST = "restarted, log lost"


def storage_mark(broker: BrokerInfo) -> str:
    """The mark of this incarnation."""
    return f"{broker.storage_id}@{broker.broker_epoch}"


def marked_epoch(mark: str | None) -> int | None:
    """The broker epoch in a mark, or None if it holds none."""
    epoch = (mark or "").rpartition("@")[2]
    return int(epoch) if "@" in (mark or "") and epoch.removeprefix("-").isdecimal() else None


def standing(mark: str | None, broker: BrokerInfo) -> Standing:
    """How the live `broker` stands to the mark that was kept of it."""
    epoch = marked_epoch(mark)
    if epoch == broker.broker_epoch:
        return Standing.SAME
    storage_id = mark if mark is None or epoch is None else mark.rpartition("@")[0]
    if broker.dirty or (storage_id is not None and storage_id != broker.storage_id):
        return Standing.LOST
    return Standing.SAME if epoch is None else Standing.RETURNED
