"""What `minikafka top` shows: sections of a few tables, made of what is known, and fitted into the
height of a terminal. Pure; the same frame is printed as text and drawn on a screen.

Most urgent first: the health, brokers, partitions that are not well, topics, groups, transactions
that are open, events. Where
there is not enough room, the end of a table makes way for a line that says how many are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minikafka.cli.admin.status import assess
from minikafka.cli.kit.output import human_bytes
from minikafka.cli.top.load import BrokerLoad, Loads, Traffic, p99_ms
from minikafka.escaping import escaped
from minikafka.model import INTERNAL_TOPICS, TopicPartition
from minikafka.watching.board import Board, is_leaderless, is_under_replicated

WELL, WARNING, BAD, DIM = "", "yellow", "red", "dim"
SORTS = ("bytes in", "bytes out", "records in", "name")
MIN_ROWS = 2  # of a section, however little room there is

# What matters most stands first: a narrow terminal cuts the rest.
_BROKERS = "broker|>id|state|>records/s|>in/s|>out/s|>replicated/s|>cpu|>memory|>leads|>replicas"
_BROKERS += "|>requests/s|>p99 produce|>up"
_TOPICS = "topic|>partitions|>not well|>records/s|>in/s|>out/s"
_GROUPS = "group|state|>members|>lag"
_TRANSACTIONS = "transactional id|state|>open for|>partitions|holds back"
_HELD_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[str, ...]
    style: str = WELL


@dataclass(frozen=True, slots=True)
class Section:
    """`columns` are separated by bars, a number's begins with `>`; none: the cells are lines.
    `note` stands in place of rows."""

    title: str
    columns: str
    rows: Sequence[Row]
    note: str = ""


@dataclass(slots=True)
class Known:
    """All that a frame is made of. `gone_s` is when a broker left, `groups` are documents of
    group_documents.py and None before there are any; `transactions` are a document of
    watching/transactions.py; `events` are lines, the newest last."""

    board: Board
    loads: Loads
    expected: Mapping[int, str] = field(default_factory=dict)
    gone_s: dict[int, float] = field(default_factory=dict)
    groups: Sequence[Mapping[str, Any]] | None = None
    groups_note: str = ""
    transactions: Mapping[str, Any] | None = None
    transactions_note: str = ""
    events: Sequence[str] = ()
    remark: str = ""
    sort: str = SORTS[0]


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    style: str = WELL


def frame(
    known: Known, now_s: float, clock: str, wall_ms: float = 0
) -> tuple[list[Line], list[Section]]:
    """The first lines, and what follows."""
    health = assess(known.board, known.expected)
    style = "bold" if health.healthy and not known.remark else f"bold {BAD}"
    total = known.loads.total()
    load = (
        f"{_count(total.records_in)} records/s, {_bytes(total.bytes_in)}/s in, "
        f"{_bytes(total.bytes_out)}/s out"
    )
    said = escaped(known.remark or health.line)
    head = [Line(f"{clock}  {said}", style), Line(f"{'':8}  {load}")]
    sections = [
        Section("", _BROKERS, _broker_rows(known, now_s)),
        _unwell(known.board),
        Section(f"topics by {known.sort}", _TOPICS, _topic_rows(known), "no topics"),
        _groups(known),
        _transactions(known, wall_ms),
        Section("changes", "", [Row((event,)) for event in known.events], "none since the start"),
    ]
    return head, [each for each in sections if each.rows or each.note]


# --- brokers -------------------------------------------------------------------------------------


def _broker_rows(known: Known, now_s: float) -> list[Row]:
    board = known.board
    assigned = {
        each for partition in board.partitions.values() for each in partition.assignment.replicas
    }
    ids = {*board.brokers, *known.expected, *known.gone_s, *assigned}
    return [_broker_row(known, broker_id, now_s) for broker_id in sorted(ids)]


def _broker_row(known: Known, broker_id: int, now_s: float) -> Row:
    board, load = known.board, known.loads.brokers.get(broker_id)
    name = board.name(broker_id)
    if broker_id not in board.brokers:
        since = known.gone_s.get(broker_id)
        state = "gone" if since is None else f"gone {duration(now_s - since)}"
        return Row((name, str(broker_id), state, *["-"] * 11), BAD)
    if load is None:
        return Row((name, str(broker_id), "silent", *["-"] * 11), WARNING)
    state = "controller" if broker_id == board.controller_id else "up"
    return Row((name, str(broker_id), state, *_load_cells(load)), WELL)


def _load_cells(load: BrokerLoad) -> list[str]:
    metrics, traffic = load.metrics, load.traffic
    slow = p99_ms(metrics, ("Produce",))
    rates = ["-"] * 4
    if traffic is not None:
        rates = [_count(traffic.records_in), *map(_bytes, _three(traffic))]
    return [
        *rates,
        "-" if load.cpu is None else f"{load.cpu:.0%}",
        human_bytes(metrics.process.resident_bytes),
        str(metrics.replicas.leaders),
        str(metrics.replicas.partitions),
        "-" if load.requests is None else _count(load.requests),
        "-" if slow is None else f"{slow:.1f} ms",
        duration(metrics.uptime_ms / 1000),
    ]


def _three(traffic: Traffic) -> tuple[float, float, float]:
    return traffic.bytes_in, traffic.bytes_out, traffic.replication_in


# --- the others ----------------------------------------------------------------------------------


def _unwell(board: Board) -> Section:
    keys = sorted(board.partitions, key=lambda key: (key.topic in INTERNAL_TOPICS, key))
    leaderless = [key for key in keys if is_leaderless(board.partitions[key])]
    under = [
        key for key in keys if key not in leaderless and is_under_replicated(board.partitions[key])
    ]

    def row(key: TopicPartition, what: str, style: str) -> Row:
        partition = board.partitions[key]
        replicas = ",".join(board.name(each) for each in partition.assignment.replicas)
        return Row((str(key), what, board.describe(partition), f"of {{{replicas}}}"), style)

    rows = [row(key, "offline", BAD) for key in leaderless]
    rows += [row(key, "under-replicated", WARNING) for key in under]
    return Section(
        f"not well: {len(leaderless)} offline, {len(under)} under-replicated",
        "partition|what|state|replicas",
        rows,
    )


def _topic_rows(known: Known) -> list[Row]:
    board, rates = known.board, known.loads.topics()
    partitions: dict[str, list[bool]] = {}  # whether each is well
    for key, partition in board.partitions.items():
        well = not is_leaderless(partition) and not is_under_replicated(partition)
        partitions.setdefault(key.topic, []).append(well)
    order: dict[str, Callable[[str], Any]] = {
        "bytes in": lambda topic: -rates.get(topic, Traffic()).bytes_in,
        "bytes out": lambda topic: -rates.get(topic, Traffic()).bytes_out,
        "records in": lambda topic: -rates.get(topic, Traffic()).records_in,
        "name": lambda topic: topic,
    }
    names = sorted(sorted(partitions), key=order[known.sort])
    rows = []
    for name in names:
        traffic = rates.get(name, Traffic())
        unwell = partitions[name].count(False)
        cells = (
            name,
            str(len(partitions[name])),
            str(unwell) if unwell else "-",
            _count(traffic.records_in),
            _bytes(traffic.bytes_in),
            _bytes(traffic.bytes_out),
        )
        idle = DIM if traffic == Traffic() else WELL
        rows.append(Row(cells, WARNING if unwell else idle))
    return rows


def _groups(known: Known) -> Section:
    title = f"groups{f' ({known.groups_note})' if known.groups_note else ''}"
    if not known.groups:
        return Section(title, _GROUPS, (), "none" if known.groups is not None else "not known yet")
    rows = [
        Row(
            (
                str(each["group"]),
                str(each["state"]),
                str(len(each["members"])),
                f"{each['lag']:,}",
            ),
            WELL if each["members"] else DIM,
        )
        for each in sorted(known.groups, key=lambda each: (-each["lag"], each["group"]))
    ]
    return Section(title, _GROUPS, rows)


def _transactions(known: Known, wall_ms: float) -> Section:
    """Only where some are open: most clusters have none."""
    note = f" ({known.transactions_note})" if known.transactions_note else ""
    if known.transactions is None or not known.transactions["transactions"]:
        return Section("", _TRANSACTIONS, ())
    rows = []
    for each in known.transactions["transactions"]:
        started_ms = each["started_ms"]
        open_s = None if started_ms is None else (wall_ms - started_ms) / 1000
        hangs = each["transactional_id"] is None
        cells = (
            f"(producer {each['producer_id']})" if hangs else each["transactional_id"],
            each["state"],
            "-" if open_s is None else duration(open_s),
            str(each["partitions"]),
            _held(each["holds_back"]),
        )
        late = open_s is not None and open_s * 1000 > each["timeout_ms"]
        rows.append(Row(cells, BAD if hangs else WARNING if late else WELL))
    return Section(f"transactions: {known.transactions['open']} open{note}", _TRANSACTIONS, rows)


def _held(partitions: Sequence[Mapping[str, Any]]) -> str:
    shown = [f"{each['topic']}-{each['partition']}" for each in partitions[:_HELD_SHOWN]]
    more = len(partitions) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") or "-"


# --- lines ---------------------------------------------------------------------------------------


def lines(
    head: Sequence[Line], sections: Sequence[Section], height: int | None = None
) -> list[Line]:
    """At most `height` of them (None: as many as there are)."""
    limits = _limits(sections, None if height is None else height - len(head))
    found = list(head)
    for section, limit in zip(sections, limits, strict=True):
        found.append(Line(""))
        found += _section_lines(section, limit)
    return found if height is None else found[:height]


def _overhead(section: Section) -> int:
    """Lines besides rows: the blank one before it, title, headings, note."""
    headings = bool(section.columns and section.rows)
    return 1 + bool(section.title) + headings + bool(not section.rows and section.note)


def _limits(sections: Sequence[Section], height: int | None) -> list[int]:
    """How many rows of each section are shown. The first, brokers, gets what it wants; then room
    goes round in turns, so that a long section takes only what the short ones leave."""
    wanted = [len(section.rows) for section in sections]
    if height is None:
        return wanted
    room = height - sum(map(_overhead, sections))
    limits = [min(MIN_ROWS, want) for want in wanted]
    limits[:1] = wanted[:1]
    room -= sum(limits)
    while room > 0 and limits != wanted:
        for index, want in enumerate(wanted):
            if limits[index] < want and room > 0:
                limits[index] += 1
                room -= 1
    return limits


def _section_lines(section: Section, limit: int) -> list[Line]:
    found = [Line(section.title, "bold")] if section.title else []
    rows = list(section.rows)
    if not rows:
        return [*found, Line(f"  {escaped(section.note)}", DIM)]
    if not section.columns:
        return found + [Line(escaped(row.cells[0]), row.style) for row in rows[-limit:]]
    left_out = ""
    if limit < len(rows):
        rows, left_out = rows[: limit - 1], f"  ... and {len(rows) - limit + 1} more"
    headings = section.columns.split("|")
    right = [heading.startswith(">") for heading in headings]
    words = Row(tuple(heading.lstrip(">").upper() for heading in headings), DIM)
    table = [words, *(Row(tuple(map(escaped, row.cells)), row.style) for row in rows)]
    widths = [max(len(row.cells[index]) for row in table) for index in range(len(headings))]
    for row in table:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row.cells, widths, right, strict=True)
        ]
        found.append(Line("  ".join(cells).rstrip(), row.style))
    return [*found, Line(left_out, DIM)] if left_out else found


def _count(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 or per_second == 0 else f"{per_second:.1f}"


def _bytes(per_second: float) -> str:
    return "0" if per_second == 0 else human_bytes(int(per_second))


def duration(seconds: float) -> str:
    """45s, 12m30s, 3h05m, 2d04h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"
