"""A screen of lines that is drawn anew, and the keys that are pressed at it.

The alternate screen of the terminal is used, so what was there before comes back. Keys are read
from standard input without echo; if that is no terminal there are none, and Ctrl-C ends it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from minikafka.cli.top.frame import Line


class Screen:
    """`lines(height)` gives what to draw; `keys` are what single characters do, besides `q`, which
    sets `quit`; `footer()` is the last line."""

    def __init__(
        self,
        lines: Callable[[int], Sequence[Line]],
        keys: dict[str, Callable[[], None]],
        footer: Callable[[], str],
    ) -> None:
        self.quit = asyncio.Event()
        self._lines = lines
        self._keys = keys | {"q": self.quit.set}
        self._footer = footer
        self._console = Console()
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            screen=True,
            auto_refresh=False,
        )
        self._input: int | None = None
        self._settings: list[Any] = []

    def __enter__(self) -> Screen:
        self._live.start()
        if sys.stdin.isatty():
            self._input = sys.stdin.fileno()
            self._settings = termios.tcgetattr(self._input)
            tty.setcbreak(self._input)
            asyncio.get_running_loop().add_reader(self._input, self._on_input)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._input is not None:
            asyncio.get_running_loop().remove_reader(self._input)
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._settings)
        self._live.stop()

    def refresh(self) -> None:
        """Draw what is so now."""
        self._live.refresh()

    def _on_input(self) -> None:
        assert self._input is not None
        typed = os.read(self._input, 64)
        if not typed:  # the terminal is gone
            self.quit.set()
        for key in typed.decode(errors="replace").lower():
            if key in self._keys:
                self._keys[key]()
                self.refresh()

    def _picture(self) -> Text:
        height = self._console.size.height
        shown = list(self._lines(height - 1))[: height - 1]
        shown += [Line("")] * (height - 1 - len(shown))
        picture = Text(no_wrap=True, overflow="ellipsis")
        for line in shown:
            picture.append(f"{line.text}\n", style=line.style)
        return picture.append(self._footer(), style="reverse")
