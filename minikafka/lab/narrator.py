"""Who tells a scenario: to a terminal, or as Markdown. Nothing here decides what is told."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Protocol

import click

_WIDEST = 96


class Narrator(Protocol):
    """The parts of a telling, in the order in which they come."""

    def heading(self, name: str, title: str, slide: str, says: str) -> None: ...
    def note(self, text: str) -> None:
        """About the telling itself: what is being started, or skipped."""

    def begin_step(self, number: int, count: int, text: str) -> None: ...
    def say(self, text: str) -> None:
        """What was seen in this very run."""

    def block(self, title: str, lines: Sequence[str]) -> None:
        """Lines that are to be seen as they are: znodes, tables."""

    def proof(self, claim: str, seen: str, holds: bool) -> None: ...
    def ending(self, notice: str, commands: Sequence[str]) -> None: ...


class TerminalNarrator:
    """`step`: waits for a key before each step."""

    def __init__(self, step: bool = False) -> None:
        self._step = step
        self._width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)

    def heading(self, name: str, title: str, slide: str, says: str) -> None:
        click.echo()
        click.secho(f"{title}  ({name})", bold=True)
        click.secho(f"Slide: {slide}", dim=True)
        click.echo()
        self._paragraph(says)

    def note(self, text: str) -> None:
        click.secho(self._filled(text), dim=True)

    def begin_step(self, number: int, count: int, text: str) -> None:
        click.echo()
        if self._step:
            self._wait_for_key()
        click.secho(self._filled(text, f"{number}/{count} ", "    "), fg="cyan", bold=True)

    def say(self, text: str) -> None:
        click.echo(self._filled(text, "    ", "    "))

    def block(self, title: str, lines: Sequence[str]) -> None:
        click.echo(f"    {title}")
        for line in lines:
            colour = {"+": "green", "-": "red", "~": "yellow"}.get(line[:1])
            click.secho(self._filled(line, "      ", "          "), fg=colour)

    def proof(self, claim: str, seen: str, holds: bool) -> None:
        mark, colour = ("✓", "green") if holds else ("✗", "red")
        click.secho(self._filled(claim, f"  {mark} ", "    "), fg=colour)
        click.echo(self._filled(seen, "      ", "      "))

    def ending(self, notice: str, commands: Sequence[str]) -> None:
        click.echo()
        self._paragraph(f"Notice: {notice}")
        click.echo()
        click.echo("Try next:")
        for command in commands:
            click.secho(f"    {command}", bold=True)

    def _paragraph(self, text: str) -> None:
        click.echo(self._filled(text))

    def _filled(self, text: str, first: str = "", rest: str = "") -> str:
        return textwrap.fill(
            text,
            self._width,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _wait_for_key(self) -> None:
        click.secho("[any key goes on, Ctrl-C ends it]", dim=True, nl=False)
        try:
            click.getchar()
        finally:
            click.echo("\r\033[K", nl=False)


class MarkdownNarrator:
    """The same, to be put into a document."""

    def heading(self, name: str, title: str, slide: str, says: str) -> None:
        self._lines(f"## {title}", "", f"`minikafka lab run {name}` · slide: {slide}", "", says, "")

    def note(self, text: str) -> None:
        self._lines(f"*{text}*", "")

    def begin_step(self, number: int, count: int, text: str) -> None:
        self._lines(f"**{number}. {text}**", "")

    def say(self, text: str) -> None:
        self._lines(text, "")

    def block(self, title: str, lines: Sequence[str]) -> None:
        self._lines(title, "", "```", *lines, "```", "")

    def proof(self, claim: str, seen: str, holds: bool) -> None:
        self._lines(f"- {'✓' if holds else '✗ **false:**'} {claim} ({seen})", "")

    def ending(self, notice: str, commands: Sequence[str]) -> None:
        self._lines(f"Notice: {notice}", "", "```", *commands, "```", "")

    def _lines(self, *lines: str) -> None:
        click.echo("\n".join(lines))


def words(names: Iterable[str]) -> str:
    """A and B; A, B and C."""
    listed = list(names)
    if len(listed) < 2:
        return "".join(listed) or "nobody"
    return f"{', '.join(listed[:-1])} and {listed[-1]}"


def plural(count: int, noun: str) -> str:
    """1 record, 2 records."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
