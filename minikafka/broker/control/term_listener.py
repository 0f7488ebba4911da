"""Work that belongs to whoever is controller but is none of the core's: it is done in the queue of
the controller's term, between its own events, and ends with the term."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol


class TermQueue(Protocol):
    """One term of a controller."""

    def enqueue(self, event: Callable[[], Awaitable[None]]) -> None:
        """Have this done in its turn. What it raises ends the term: DeposedError and
        SessionLostError should, other errors are the listener's own to deal with."""


class TermListener(Protocol):
    """Told of each term of this broker, in the calls that begin and end it; neither blocks."""

    def begin(self, term: TermQueue) -> None:
        """This broker is controller and has taken over."""

    def end(self) -> None:
        """It is controller no more. May come without a `begin`."""
