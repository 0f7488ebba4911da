"""Every asynchronous test of the runtime runs on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tests.helpers.loops import LOOPS


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS
