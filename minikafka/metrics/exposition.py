"""Metrics as the text that Prometheus reads, written in small portions on the broker's loop.

A thread would not help: it would hold the interpreter for longer stretches than a portion takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

_HEADER_LINES = 2  # HELP and TYPE


class _Only(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def render_in_portions(families: Iterable[Metric]) -> Iterator[bytes]:
    """The text of each family. One that has the name of the one before it continues it."""
    last = ""
    for family in families:
        text = generate_latest(_Only(family))
        if family.name == last:
            text = text.split(b"\n", _HEADER_LINES)[_HEADER_LINES]
        last = family.name
        yield text


async def render(families: Iterable[Metric]) -> bytes:
    """The whole text; others have their turn after each portion."""
    portions = []
    for portion in render_in_portions(families):
        portions.append(portion)
        await asyncio.sleep(0)
    return b"".join(portions)
