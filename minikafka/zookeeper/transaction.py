"""What kazoo returns for a multi. `commit` does not raise what an operation failed with: it returns
one result or error per operation. When one fails, none takes effect; those before it are
RolledBackError, those after it RuntimeInconsistency.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kazoo.exceptions import RolledBackError


class Failure(NamedTuple):
    """The operation that made a multi fail: its position, and what was wrong."""

    position: int
    error: Exception


def failure(results: Sequence[Any]) -> Failure | None:
    """None if every operation took effect."""
    for position, result in enumerate(results):
        if isinstance(result, Exception) and not isinstance(result, RolledBackError):
            return Failure(position, result)
    assert not any(isinstance(result, Exception) for result in results), results
    return None
