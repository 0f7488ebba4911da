"""The event loops that the package runs on: brokers on uvloop, which differs from asyncio's own in
small ways (a timer that is due at once is a plain handle; a closed transport refuses what asyncio's
forgives), and clients of the library on whichever their program has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
