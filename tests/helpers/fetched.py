"""What tests bring from a package registry when they run, and what becomes of them without it.

A program that is not installed fails the test where everything has to be there
(MINIKAFKA_REQUIRE_CLIENTS=1), and skips it elsewhere. A registry that cannot be reached is nobody's
fault here: after some tries the test is skipped, wherever it runs, and says so.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

from minikafka.errors import UsageError

TRIES = 3
_TIMEOUT_S = 180


class NotFetchedError(UsageError):
    """A registry did not give what was asked of it."""


def fetch(command: Sequence[str], folder: Path, what: str) -> None:
    """Run a command that brings something into `folder`. NotFetchedError if it fails TRIES times;
    once that has happened, at once."""
    problem = _outcome(tuple(command), folder)
    if problem is not None:
        raise NotFetchedError(f"{what} could not be fetched: {problem}")


@cache
def _outcome(command: tuple[str, ...], folder: Path) -> str | None:
    """None, or why the last try failed."""
    problem = ""
    for _ in range(TRIES):
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            problem = f"no answer within {_TIMEOUT_S} s"
            continue
        if done.returncode == 0:
            return None
        problem = (done.stdout + done.stderr)[-1500:]
    return problem


def without(missing: UsageError) -> NoReturn:
    """Fail or skip the test that cannot go on."""
    required = os.environ.get("MINIKAFKA_REQUIRE_CLIENTS") == "1"
    if required and not isinstance(missing, NotFetchedError):
        pytest.fail(str(missing))
    pytest.skip(str(missing))
