"""Metrics as the text that Prometheus reads, written in small portions on the broker's loop.

A thread would not help: it would hold the interpreter for longer stretches than a portion takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_HEADER_LINES = 2  # HELP and TYPE


class Gauges(NamedTuple):
    """A family, or a portion of one, with a sample a partition: of these there are so many that
    they are written directly. `samples`: labels as `labels_text` writes them, and value."""

    name: str
    help_text: str
    samples: Sequence[tuple[str, float]]

    def text(self, *, continued: bool) -> bytes:
        name = self.name
        head = "" if continued else f"# HELP {name} {self.help_text}\n# TYPE {name} gauge\n"
        lines = [f"{name}{{{each}}} {_number(value)}\n" for each, value in self.samples]
        return (head + "".join(lines)).encode()


_number: Callable[[float], str] = floatToGoString


def labels_text(**labels: str) -> str:
    """Labels as prometheus_client writes them; give them in the order of their names."""
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class _Only(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def render_in_portions(families: Iterable[Metric | Gauges]) -> Iterator[bytes]:
    """The text of each family. One that has the name of the one before it continues it."""
    last = ""
    for family in families:
        continued = family.name == last
        last = family.name
        if isinstance(family, Gauges):
            yield family.text(continued=continued)
            continue
        text = generate_latest(_Only(family))
        if continued:
            text = text.split(b"\n", _HEADER_LINES)[_HEADER_LINES]
        yield text


async def render(families: Iterable[Metric | Gauges]) -> bytes:
    """The whole text; others have their turn after each portion."""
    portions = []
    for portion in render_in_portions(families):
        portions.append(portion)
        await asyncio.sleep(0)
    return b"".join(portions)
