"""What must hold in every state of the world (the invariants of transactions, by number).

Pure functions; each answers None or says what is violated. The ledger says of each transaction, as
its client began it, what was asked and told: so they are judged by what became of the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minikafka.core.transactions.requests import (
    AddRequest,
    EndRequest,
    InitRequest,
    VerifyRequest,
)
from minikafka.core.transactions.rules import (
    Circumstances,
    Decision,
    Hold,
    Refuse,
    Repeat,
    Tell,
    Write,
    decide,
    timed_out,
)
from minikafka.core.transactions.values import TransactionState, TransactionValue
from tests.exhaustive.transactions import group, leader
from tests.exhaustive.transactions.coordinator import outcome_of
from tests.exhaustive.transactions.values import (
    LEDGER,
    OFFSETS,
    PARTITIONS,
    Broker,
    Data,
    Fate,
    GroupPart,
    Ledger,
    Produce,
    Producer,
    StateLog,
)

if TYPE_CHECKING:
    from tests.exhaustive.transactions.draft import Bounds, Draft


FRESH = 1_000_000  # a producer id that nobody has


def brief(value: TransactionValue | None) -> str:
    """A record, so that a person can read it."""
    if value is None:
        return "nothing"
    names = " ".join(map(str, sorted(value.partitions)))
    more = f" last {value.last_epoch}" if value.last_epoch >= 0 else ""
    more += f" previous {value.previous_producer_id}" if value.previous_producer_id >= 0 else ""
    more += f" next {value.next_producer_id}" if value.next_producer_id >= 0 else ""
    return (
        f"{value.state.name}({value.producer_id}, {value.producer_epoch}{more}; {names}; "
        f"{value.version.name})"
    )


# --- the coordinator -----------------------------------------------------------------------------


def check_memory(broker: Broker, log: StateLog) -> str | None:
    """No. 20: memory is the log."""
    if broker.txn.value != log.last:
        known = brief(broker.txn.value)
        return f"no. 20: the log ends with {brief(log.last)}, and the coordinator knows {known}"
    return None


def check_sent(log: StateLog, value: TransactionValue, *, leads: bool) -> str | None:
    """No. 22: markers go for a Prepare that is committed."""
    if leads and (log.tail or log.committed != value):
        return f"no. 22: markers go for {brief(value)}, which is not committed"
    return None


def check_decisions(before: TransactionValue | None, after: TransactionValue | None) -> str | None:
    """No. 21: after a Prepare comes its Complete, and nothing else."""
    if before is None or not before.state.is_prepare:
        return None
    if (
        after is None
        or not after.state.is_complete
        or after.state.commits is not before.state.commits
    ):
        return f"no. 21: {brief(before)} is followed by {brief(after)}"
    return None


def check_opened(log: StateLog, produce: Produce) -> str | None:
    """No. 24: what opens is in the committed set of its epoch, which has not ended for good."""
    value = log.committed
    epochs = set()
    if value is not None and value.state is TransactionState.ONGOING:
        epochs = {value.producer_epoch}
    elif value is not None and value.state.is_prepare:
        epochs = {value.producer_epoch, value.producer_epoch - 1}
    if (
        value is None
        or produce.producer_epoch not in epochs
        or produce.producer_id != value.producer_id
        or PARTITIONS[produce.partition] not in value.partitions
    ):
        return f"no. 24: {produce} opens a transaction, the log says {brief(value)}"
    return None


# --- the partitions ------------------------------------------------------------------------------


def check_appended(before: Data, after: Data, produce: Produce) -> str | None:
    """Nos. 25 and 26: the epoch of a producer id never falls at a partition, and nothing of an
    older epoch is appended."""
    for old, new in zip(before.parts, after.parts, strict=True):
        known = {each.producer_id: each.producer_epoch for each in old.pids}
        for each in new.pids:
            if each.producer_epoch < known.get(each.producer_id, -1):
                return f"nos. 25, 26: {produce} is appended after epoch {known}"
    return None


def check_world(ledger: Ledger, data: Data) -> str | None:
    """No. 23, as far as it can be seen before all has ended."""
    for fate in ledger.fates:
        outcomes = [
            {outcome for label, outcome in part.records if label == fate.label}
            for part in data.parts
        ]
        every = set().union(*outcomes)
        if {"committed", "aborted"} <= every:
            return f"nos. 21, 23: of {fate} some records are committed, some aborted"
        if "committed" in every and not fate.asked:
            return f"no. 23: {fate} is committed, and nobody asked for that"
        if fate.told == "abort" and "committed" in every:
            return f"no. 23: the client of {fate} was told that it is aborted; it is committed"
        if fate.told == "commit":
            if "aborted" in every:
                return f"no. 23: the client of {fate} was told that it is committed; it is aborted"
            if any(not outcomes[index] for index in fate.written):
                return f"no. 23: {fate} is committed without all of its records"
    return None


# --- the group -----------------------------------------------------------------------------------


def check_group(ledger: Ledger, data: Data) -> str | None:
    """Nos. 20, 32 and 33: what the shard knows is the replay of its log, of what is committed the
    highest record counts, and what a transaction may yet move is not told to who wants it stable.
    And what is told is never older than what a client knows to be committed."""
    part = data.group
    if part is None:
        return None
    if data.parts[OFFSETS] != leader.part_of(part.log):
        return f"no. 29: the producers of the group's log are {data.parts[OFFSETS]}"
    if not part.serves:
        return None
    known, told = group.replay(part.log, part.high_watermark), group.stable(part)
    if part.memory.committed != known.committed:
        return f"no. 32: the log says {known.committed}, the group {part.memory.committed}"
    if part.memory != known:
        return f"no. 20: the log says {known}, the group knows {part.memory}"
    if known.staged or known.ending:
        if told != "UNSTABLE_OFFSET_COMMIT":
            return f"no. 33: {told} is told, and a transaction may yet move it: {known}"
        return None
    if told != next((group.label_of(value.offset) for _, value in known.committed), None):
        return f"no. 32: {told} is told, the log says {known.committed}"
    return _check_told(ledger, part, told)


def _check_told(ledger: Ledger, part: GroupPart, told: Any) -> str | None:
    """By what the clients know. `told`: a label, or None."""
    labels = [each.label for each in part.log]
    where = max((offset for offset, label in enumerate(labels) if label == told), default=-1)
    for fate in ledger.fates:
        if fate.label == told and not fate.asked:
            return f"no. 23: the group is at {told}, which nobody asked to commit"
        if fate.label == told and fate.told == "abort":
            return f"no. 23: the group is at {told}, whose client was told that it is aborted"
        if fate.told != "commit" or OFFSETS not in fate.written:
            continue
        who, number = fate.label
        if told is None or fate.label not in labels or where < labels.index(fate.label):
            return f"no. 33: {told} is told, and {fate} is committed"
        if told[0] == who and told[1] < number:
            return f"no. 32: the group goes back from {fate} to {told}"
        if told[0] != who and told[0] in ledger.fenced:
            return f"no. 32: the group goes back from {fate} to {told}, whose producer is fenced"
    return None


# --- clients -------------------------------------------------------------------------------------


def _change(draft: Draft, who: int, change: Any) -> None:
    """Of the transaction that this client is in."""
    ledger = draft.ledger
    label = (who, draft.producer(who).number)
    fates = tuple(change(fate) if fate.label == label else fate for fate in ledger.fates)
    draft.parts[LEDGER] = ledger._replace(fates=fates)


def note(draft: Draft, who: int, *, asked: bool) -> None:
    _change(draft, who, lambda fate: fate._replace(asked=fate.asked or asked))


def note_told(draft: Draft, who: int, request: Any, word: str) -> None:
    """What this client hears about its transaction."""
    if word != "ok":
        return
    if isinstance(request, Produce):

        def written(fate: Fate) -> Fate:
            return fate._replace(written=(*fate.written, request.partition))

        _change(draft, who, written)
    elif isinstance(request, EndRequest):
        told = "commit" if request.commits else "abort"
        _change(draft, who, lambda fate: fate._replace(told=told))


def check_client(draft: Draft, who: int, after: Producer, bounds: Bounds) -> str | None:
    """No. 31: no client has more than the last epoch, none what another has. And nobody is fenced
    who is alone; but in TV1 somebody who adds a partition after a timeout is."""
    if after.producer_epoch > bounds.max_epoch:
        return f"no. 31: a client has epoch {after.producer_epoch}"
    for other in range(len(bounds.tv)):
        theirs = draft.producer(other)
        if other != who and theirs.producer_id >= 0:
            mine = after.producer_id, after.producer_epoch
            if mine == (theirs.producer_id, theirs.producer_epoch):
                return f"no. 31: both producers have {mine}"
    alone = all(
        draft.producer(other).phase in ("new", "absent") and draft.producer(other).request is None
        for other in range(2)
        if other != who
    )
    if after.phase == "dead" and alone and not (draft.ledger.timed_out and after.tv == 1):
        return "nobody else is there, and the producer is fenced"
    return None


# --- the rows of the table -----------------------------------------------------------------------


def row_of(value: TransactionValue | None, request: Any, max_epoch: int) -> tuple[str, ...]:
    """What was asked, in which state, with which epoch, and what the table says to it: (request,
    state, whose epoch, whether there is one left, decision)."""
    state = "none" if value is None else value.state.name
    name, standing = _name(request), "-"
    if value is not None and not isinstance(request, str):
        known = (request.producer_id, request.producer_epoch)
        if value.is_current(*known):
            standing = "current"
        elif value.is_last(*known):
            standing = "last"
        elif known != (-1, -1):
            standing = "other"
    exhausted = value is not None and value.producer_epoch >= max_epoch
    left = "exhausted" if exhausted else "epochs left"
    return name, state, standing, left, _decision(value, request, max_epoch)


def _decision(value: TransactionValue | None, request: Any, max_epoch: int) -> str:
    circumstances = Circumstances(FRESH, max_epoch, 0)
    if request == "timeout":
        assert value is not None
        decision: Decision = timed_out(value, circumstances)
    else:
        decision = decide(value, request, circumstances)
    match decision:
        case Hold():
            return "held"
        case Write(after):
            moved = "; another id" if FRESH in (after.producer_id, after.next_producer_id) else ""
            return f"{after.state.name}{moved}"
        case Tell() | Repeat():
            return "ok"
        case Refuse(result):
            return outcome_of(result)[0]
    raise AssertionError(decision)


def _name(request: Any) -> str:
    match request:
        case InitRequest(producer_id=-1):
            return "init"
        case InitRequest():
            return "init, going on"
        case AddRequest():
            return "add"
        case VerifyRequest():
            return "verify"
        case EndRequest(commits=commits, version=version):
            return f"{'commit' if commits else 'abort'} {version}"
    return str(request)
