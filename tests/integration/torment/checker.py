"""Judges a history: pure functions from operations to anomalies.

The end of a run is a full read of every partition after all faults were taken back, by the consumer
`FINAL`. What it reads is the truth about what is committed, and everything else is held against it:

| anomaly | what it means |
|---|---|
| lost | acknowledged with acks=all, and not in the log |
| unseen | in the log, and a consumer that read past it, or ought to have, was never given it |
| duplicate | sent once by an idempotent producer, and in the log twice |
| inconsistent offset | two different records seen or acknowledged at one offset |
| uncommitted read | a consumer was given a record that is not in the log in the end |
| beyond high watermark | a consumer was given a record at or above the high watermark it was told |
| non-monotonic poll | a consumer was given an offset again, or a lower one |
| gap | a consumer jumped over offsets |
| non-monotonic send | a producer's later record was acknowledged at a lower offset |
| order | records of one producer stand in the log in another order than they were sent |
| end went back | a client was told a smaller end of the log than before |
| commit lost | a member of the group was told an offset older than a commit that had succeeded |
| unread by group | below what the group has committed, and no member was ever given it |
| no outcome | a producer was closed, and one of its records has none |
| phantom | a record that nobody sent, or that had certainly failed, or before it was sent |

Records of a producer without idempotence, or with acks=1, may be lost, repeated and reordered: they
are counted, and all the rules about consumers hold for them.

Every rule is one function over `Facts`, so that each can be shown to fail.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.integration.torment.history import (
    FAILED,
    NEVER,
    NOTHING,
    OK,
    Commit,
    Committed,
    End,
    Fault,
    Operation,
    Poll,
    Seek,
    Send,
    producer_of,
)

FINAL = "final"


class Anomaly(NamedTuple):
    kind: str
    partition: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.partition}: {self.message}"


@dataclass
class Facts:
    """A history, sorted by who needs what. `log`: per partition what the final read found, as
    (offset, value). `reads`: per consumer and partition its polls and seeks, in order.
    `followers`: the consumers that read everything from the beginning to the end."""

    sends: list[Send] = field(default_factory=list)
    log: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    reads: dict[tuple[str, str], list[Poll | Seek]] = field(default_factory=dict)
    ends: list[End] = field(default_factory=list)
    commits: dict[str, list[Commit]] = field(default_factory=dict)
    committed: list[Committed] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    followers: frozenset[str] = frozenset()

    @staticmethod
    def of(operations: Iterable[Operation], followers: Iterable[str] = ()) -> Facts:
        facts = Facts(followers=frozenset(followers))
        for each in operations:
            match each:
                case Send():
                    facts.sends.append(each)
                case Poll() | Seek():
                    facts.reads.setdefault((each.by, each.partition), []).append(each)
                    if each.by == FINAL:
                        found = facts.log.setdefault(each.partition, [])
                        found.extend(each.records if isinstance(each, Poll) else ())
                case End():
                    facts.ends.append(each)
                case Commit():
                    facts.commits.setdefault(each.partition, []).append(each)
                case Committed():
                    facts.committed.append(each)
                case Fault():
                    facts.faults.append(each)
        return facts

    def polls(self) -> Iterator[Poll]:
        for reads in self.reads.values():
            yield from (each for each in reads if isinstance(each, Poll))

    def at(self) -> dict[tuple[str, int], str]:
        """The value at each (partition, offset) of the final log."""
        return {
            (partition, offset): value
            for partition, records in self.log.items()
            for offset, value in records
        }

    def offsets_of(self) -> dict[tuple[str, str], list[int]]:
        """The offsets of each (partition, value) of the final log."""
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for partition, records in self.log.items():
            for offset, value in records:
                found[partition, value].append(offset)
        return found


Rule = Callable[[Facts], Iterator[Anomaly]]


def lost(facts: Facts) -> Iterator[Anomaly]:
    there = facts.offsets_of()
    for send in facts.sends:
        if send.once and send.outcome == OK and (send.partition, send.value) not in there:
            yield Anomaly(
                "lost",
                send.partition,
                f"{send.value} was acknowledged at offset {send.offset} ({send.end:.3f}), "
                "and is not in the log",
            )


def unseen(facts: Facts) -> Iterator[Anomaly]:
    seen: dict[tuple[str, str], set[int]] = {}
    for follower in facts.followers:
        for partition in facts.log:
            polls = facts.reads.get((follower, partition), [])
            seen[follower, partition] = {
                offset for poll in polls if isinstance(poll, Poll) for offset, _ in poll.records
            }
    for (follower, partition), offsets in seen.items():
        missing = [offset for offset, _ in facts.log[partition] if offset not in offsets]
        if missing:
            yield Anomaly(
                "unseen",
                partition,
                f"{follower} was never given {len(missing)} of {len(facts.log[partition])} "
                f"records, the first at offset {missing[0]}, the last at {missing[-1]}",
            )


def duplicates(facts: Facts) -> Iterator[Anomaly]:
    once = {send.by for send in facts.sends if send.once}
    for (partition, value), offsets in facts.offsets_of().items():
        if len(offsets) > 1 and _producer(value) in once:
            yield Anomaly("duplicate", partition, f"{value} is at offsets {offsets}")


def inconsistent_offsets(facts: Facts) -> Iterator[Anomaly]:
    """What consumers were given, and what idempotent producers were told, must agree."""
    claims: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for send in facts.sends:
        if send.once and send.outcome == OK and send.offset >= 0:
            claims[send.partition, send.offset].setdefault(send.value, f"{send.by} (producer)")
    for poll in facts.polls():
        for offset, value in poll.records:
            claims[poll.partition, offset].setdefault(value, poll.by)
    for (partition, offset), values in claims.items():
        if len(values) > 1:
            said = ", ".join(f"{value} (said {who})" for value, who in values.items())
            yield Anomaly("inconsistent offset", partition, f"at offset {offset} are {said}")


def uncommitted_reads(facts: Facts) -> Iterator[Anomaly]:
    truth = facts.at()
    for poll in facts.polls():
        if poll.by == FINAL or poll.partition not in facts.log:
            continue
        for offset, value in poll.records:
            if truth.get((poll.partition, offset)) != value:
                yield Anomaly(
                    "uncommitted read",
                    poll.partition,
                    f"{poll.by} was given {value} at offset {offset} ({poll.end:.3f}), where the "
                    f"log has {truth.get((poll.partition, offset), 'nothing')}",
                )


def beyond_high_watermark(facts: Facts) -> Iterator[Anomaly]:
    for poll in facts.polls():
        if poll.high_watermark < 0 or not poll.records:
            continue
        last = poll.records[-1][0]
        if last >= poll.high_watermark:
            yield Anomaly(
                "beyond high watermark",
                poll.partition,
                f"{poll.by} was given offset {last} under a high watermark of "
                f"{poll.high_watermark} ({poll.end:.3f})",
            )


def polls_out_of_step(facts: Facts) -> Iterator[Anomaly]:
    """Non-monotonic polls and gaps: after a seek to o come o, o+1, o+2, …"""
    for (consumer, partition), reads in facts.reads.items():
        position = 0
        for each in reads:
            if isinstance(each, Seek):
                position = each.offset
                continue
            for offset, value in each.records:
                if offset != position:
                    kind = "non-monotonic poll" if offset < position else "gap"
                    yield Anomaly(
                        kind,
                        partition,
                        f"{consumer} was given offset {offset} ({value}) where {position} was "
                        f"next ({each.end:.3f})",
                    )
                position = offset + 1


def non_monotonic_sends(facts: Facts) -> Iterator[Anomaly]:
    by_lane: dict[tuple[str, str], list[Send]] = defaultdict(list)
    for send in facts.sends:
        if send.once and send.outcome == OK and send.offset >= 0:
            by_lane[send.by, send.partition].append(send)
    for (producer, partition), sends in by_lane.items():
        highest: Send | None = None
        for send in sorted(sends, key=lambda each: producer_of(each.value)[1]):
            if highest is not None and send.offset <= highest.offset:
                yield Anomaly(
                    "non-monotonic send",
                    partition,
                    f"{producer} was told offset {send.offset} for {send.value}, after "
                    f"{highest.offset} for {highest.value}",
                )
            else:
                highest = send


def order(facts: Facts) -> Iterator[Anomaly]:
    once = {send.by for send in facts.sends if send.once}
    for partition, records in facts.log.items():
        last: dict[str, int] = {}
        seen: set[str] = set()
        for offset, value in records:
            producer = _producer(value)
            if producer not in once or value in seen:
                continue  # a repetition is a duplicate, and that rule tells
            seen.add(value)
            number = producer_of(value)[1]
            if number < last.get(producer, -1):
                yield Anomaly(
                    "order",
                    partition,
                    f"{value} is at offset {offset}, after {producer}:{last[producer]}",
                )
            last[producer] = max(number, last.get(producer, -1))


def ends_went_back(facts: Facts) -> Iterator[Anomaly]:
    highest: dict[tuple[str, str], int] = {}
    for each in facts.ends:
        key = (each.by, each.partition)
        if each.offset < highest.get(key, -1):
            yield Anomaly(
                "end went back",
                each.partition,
                f"{each.by} was told {each.offset} after {highest[key]} ({each.end:.3f})",
            )
        highest[key] = max(each.offset, highest.get(key, -1))


def commits_lost(facts: Facts) -> Iterator[Anomaly]:
    """What is committed is a register: a read gives a write that no later one has replaced for
    certain before the read began. A write of unknown outcome may count at any later time."""
    for read in facts.committed:
        writes = [each for each in facts.commits.get(read.partition, ()) if each.outcome != FAILED]
        done = [each for each in writes if each.outcome == OK and each.end < read.start]
        settled = max((each.start for each in done), default=-1.0)
        possible = {
            each.offset
            for each in writes
            if each.start < read.end and (each.outcome != OK or each.end >= settled)
        }
        if not done:
            possible.add(NOTHING)
        if read.offset not in possible:
            last = max(done, key=lambda each: each.start, default=None)
            yield Anomaly(
                "commit lost",
                read.partition,
                f"{read.by} was told {read.offset} ({read.end:.3f}) where it can be one of "
                f"{sorted(possible)} only; the last commit was {last}",
            )


def unread_by_group(facts: Facts) -> Iterator[Anomaly]:
    """At least once: what the group has committed, its members were given."""
    members = {each.by for commits in facts.commits.values() for each in commits}
    members |= {each.by for each in facts.committed}
    for partition, commits in facts.commits.items():
        through = max((each.offset for each in commits if each.outcome == OK), default=0)
        given = {
            offset
            for (reader, of), reads in facts.reads.items()
            if of == partition and reader in members
            for poll in reads
            if isinstance(poll, Poll)
            for offset, _ in poll.records
        }
        below = [offset for offset, _ in facts.log.get(partition, ()) if offset < through]
        if missing := [offset for offset in below if offset not in given]:
            yield Anomaly(
                "unread by group",
                partition,
                f"{len(missing)} of {len(below)} records below {through}, which is committed, were "
                f"given to no member, the first at offset {missing[0]}",
            )


def phantoms(facts: Facts) -> Iterator[Anomaly]:
    sends = {(send.partition, send.value): send for send in facts.sends}
    told: set[tuple[str, str]] = set()
    for poll in facts.polls():
        for offset, value in poll.records:
            send = sends.get((poll.partition, value))
            if send is None:
                problem = "nobody sent it"
            elif send.outcome == FAILED and send.once:
                problem = f"it had certainly failed ({send.error})"
            elif poll.end < send.start:
                problem = f"it was sent at {send.start:.3f} only"
            else:
                continue
            if (poll.partition, value) not in told:
                told.add((poll.partition, value))
                yield Anomaly(
                    "phantom",
                    poll.partition,
                    f"{poll.by} was given {value} at offset {offset} ({poll.end:.3f}): {problem}",
                )


def no_outcomes(facts: Facts) -> Iterator[Anomaly]:
    for send in facts.sends:
        if send.error == NEVER:
            yield Anomaly("no outcome", send.partition, f"{send.value}, sent at {send.start:.3f}")


RULES: tuple[Rule, ...] = (
    lost,
    unseen,
    duplicates,
    inconsistent_offsets,
    uncommitted_reads,
    beyond_high_watermark,
    polls_out_of_step,
    non_monotonic_sends,
    order,
    ends_went_back,
    commits_lost,
    unread_by_group,
    no_outcomes,
    phantoms,
)


def judge(facts: Facts) -> list[Anomaly]:
    """Everything that is wrong. A history without a final read is wrong by itself."""
    if not facts.log:
        return [Anomaly("lost", "all", "there was no final read, so nothing can be judged")]
    return [anomaly for rule in RULES for anomaly in rule(facts)]


@dataclass(frozen=True)
class Counts:
    """How much was done. `weak_*` are about the producers that may lose and repeat records."""

    sends: int
    acknowledged: int
    failed: int
    unknown: int
    unknown_written: int
    commits: int
    polls: int
    records_read: int
    records_in_log: int
    weak_acknowledged: int
    weak_lost: int
    weak_duplicated: int
    errors: dict[str, int]


def count(facts: Facts) -> Counts:
    there = facts.offsets_of()
    strong = [send for send in facts.sends if send.once]
    weak = [send for send in facts.sends if not send.once]
    outcomes = Counter(send.outcome for send in strong)
    unknown = [send for send in strong if send.outcome not in (OK, FAILED)]
    weak_acknowledged = [send for send in weak if send.outcome == OK]
    polls = [poll for poll in facts.polls() if poll.by != FINAL]
    return Counts(
        sends=len(facts.sends),
        acknowledged=outcomes[OK],
        failed=outcomes[FAILED],
        unknown=len(unknown),
        unknown_written=sum((send.partition, send.value) in there for send in unknown),
        commits=sum(each.outcome == OK for of in facts.commits.values() for each in of),
        polls=len(polls),
        records_read=sum(len(poll.records) for poll in polls),
        records_in_log=sum(len(records) for records in facts.log.values()),
        weak_acknowledged=len(weak_acknowledged),
        weak_lost=sum((send.partition, send.value) not in there for send in weak_acknowledged),
        weak_duplicated=sum(len(there.get((each.partition, each.value), ())) > 1 for each in weak),
        errors=dict(Counter(send.error.partition(":")[0] for send in facts.sends if send.error)),
    )


def _producer(value: str) -> str:
    try:
        return producer_of(value)[0]
    except ValueError:
        return ""
