"""What commands print: JSON, tables for a terminal (rich), the same as aligned text in a pipe.

rich is imported only when a table goes to a terminal. Nothing here decides what to say.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from minikafka.escaping import escaped, escaped_json, escaped_lines

if TYPE_CHECKING:
    from rich.table import Table


def on_terminal() -> bool:
    """Whether standard output is read by a person."""
    return sys.stdout.isatty()


def print_json(document: object) -> None:
    """One document, indented."""
    click.echo(escaped_json(json.dumps(document, indent=2, ensure_ascii=False)))


def print_json_line(document: Mapping[str, Any]) -> None:
    """One of a stream of documents: a line each, flushed."""
    click.echo(json_line(document))
    sys.stdout.flush()


def json_line(document: Mapping[str, Any]) -> str:
    return escaped_json(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def say(text: str) -> None:
    """Lines of an answer, on standard output. What was quoted in them from elsewhere moves no
    cursor; whoever quotes a name that may hold a newline escapes that himself."""
    click.echo(escaped_lines(text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table with right-aligned numbers. `rows` hold one value a column, from wherever."""
    cells = [[escaped(str(value)) for value in row] for row in rows]
    title = escaped(title)
    if on_terminal():
        from rich.console import Console
        from rich.measure import Measurement

        console = Console()
        table = rich_table(columns, cells, title)
        # A table that is too wide is easier to read as lines that the terminal wraps.
        if Measurement.get(console, console.options, table).maximum < console.width:
            console.print(table)
            return
    if title:
        click.echo(title)
    for line in plain_table(columns, cells):
        click.echo(line)


def plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines, headings in capitals, two blanks between columns."""
    numeric = _numeric_columns(len(columns), cells)
    lines = [[heading.upper() for heading in columns], *cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    ]


def rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]], title: str = "") -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    cells = [[escaped(cell) for cell in row] for row in cells]
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    numeric = _numeric_columns(len(columns), cells)
    for heading, right in zip(columns, numeric, strict=True):
        words = heading.replace(" ", "\n")
        table.add_column(words, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _numeric_columns(count: int, cells: Sequence[Sequence[str]]) -> list[bool]:
    return [
        bool(cells) and all(row[index].lstrip("-").replace(".", "").isdigit() for row in cells)
        for index in range(count)
    ]


def clock_time(timestamp_s: float | None = None) -> str:
    """The local time of day with milliseconds: 14:03:07.125."""
    now = time.time() if timestamp_s is None else timestamp_s
    return time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"


def human_bytes(count: int) -> str:
    """1.5 MB and the like, in powers of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{int(size)} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
