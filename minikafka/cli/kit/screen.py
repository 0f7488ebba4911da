"""What happens in a cluster, live: a table and the last events on a terminal, lines in a pipe.

Both get the same lines (`Board.describe_change`), each behind the time of day.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from minikafka.cli.kit.output import clock_time, on_terminal, rich_table, say
from minikafka.escaping import escaped
from minikafka.watching.board import Board, is_leaderless, is_under_replicated

if TYPE_CHECKING:
    from rich.console import RenderableType

_EVENTS_SHOWN = 14
_PARTITIONS_SHOWN = 30
COLUMNS = ("partition", "leader", "epoch", "version", "replicas", "isr")


class Screen(Protocol):
    """Where events go. `headline` is the first line of a terminal's picture."""

    def event(self, text: str) -> None: ...
    def refresh(self) -> None: ...


class PlainScreen:
    """One line an event, flushed."""

    def event(self, text: str) -> None:
        say(f"{clock_time()} {escaped(text)}")

    def refresh(self) -> None:
        """Nothing stands still in a pipe."""


class LiveScreen:
    """A rich Live picture of the board and the last events."""

    def __init__(self, board: Board, headline: Callable[[], str]) -> None:
        from rich.live import Live

        self._board = board
        self._headline = headline
        self._events: deque[str] = deque(maxlen=_EVENTS_SHOWN)
        self._live = Live(get_renderable=self._picture, refresh_per_second=8, transient=False)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def event(self, text: str) -> None:
        self._events.append(f"{clock_time()} {escaped(text)}")
        self._live.refresh()

    def refresh(self) -> None:
        self._live.refresh()

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        rows = partition_rows(self._board)
        parts: list[RenderableType] = [Text(escaped(self._headline()), style="bold")]
        if rows:
            parts.append(rich_table(COLUMNS, rows[:_PARTITIONS_SHOWN]))
        if len(rows) > _PARTITIONS_SHOWN:
            parts.append(Text(f"... and {len(rows) - _PARTITIONS_SHOWN} more partitions"))
        parts.append(Text("\n".join(self._events)))
        return Group(*parts)


def partition_rows(board: Board) -> list[list[str]]:
    """One row a partition, for COLUMNS; brokers by name."""
    rows = []
    for key in sorted(board.partitions):
        partition = board.partitions[key]
        state = partition.state
        rows.append(
            [
                str(key),
                "none" if is_leaderless(partition) else board.name(state.leader),
                str(state.leader_epoch),
                str(state.partition_version),
                name_set(board, partition.assignment.replicas),
                name_set(board, sorted(state.isr)),
            ]
        )
    return rows


def name_set(board: Board, broker_ids: Sequence[int]) -> str:
    """{A,B,C}"""
    return "{" + ",".join(board.name(each) for each in broker_ids) + "}"


def controller_words(board: Board) -> str:
    """`controller A (epoch 1)`, as the brokers told."""
    if board.controller_id < 0:
        return "no controller"
    return f"controller {board.name(board.controller_id)} (epoch {board.controller_epoch})"


def count_words(board: Board, controller: str | None = None) -> str:
    """`3 brokers, controller A (epoch 1), 2 topics, 0 leaderless, 0 under-replicated`. `controller`
    says it in other words."""
    partitions = list(board.partitions.values())
    topics = {each.topic_partition.topic for each in partitions}
    who = controller_words(board) if controller is None else controller
    return (
        f"{plural(len(board.brokers), 'broker')}, {who}, {plural(len(topics), 'topic')}, "
        f"{sum(map(is_leaderless, partitions))} leaderless, "
        f"{sum(map(is_under_replicated, partitions))} under-replicated"
    )


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@contextlib.contextmanager
def open_screen(board: Board, headline: Callable[[], str]) -> Iterator[Screen]:
    """The screen that fits standard output."""
    if on_terminal():
        with LiveScreen(board, headline) as screen:
            yield screen
    else:
        yield PlainScreen()
