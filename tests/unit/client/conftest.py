"""Async tests of the client run on a loop whose clock jumps: waiting takes no time, and timeouts
of two minutes are tested in milliseconds. Everything in these tests is in memory, so that nothing
else passes the time."""

import asyncio
import selectors

import pytest


class _JumpingSelector(selectors.DefaultSelector):
    """Moves its loop's clock on instead of waiting."""

    loop: "VirtualTimeLoop"

    def select(self, timeout=None):
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise AssertionError("the test waits for something that never comes")
        self.loop.now_s += max(timeout, 0)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.now_s = 1000.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self):
        return self.now_s


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualTimeLoop}
