"""A history is written line by line and comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.torment.history import (
    FAILED,
    OK,
    End,
    Fault,
    History,
    Poll,
    Seek,
    Send,
    from_lines,
    producer_of,
)

OPERATIONS = [
    Send("p.1", "t-0", "p.1:0", 1.0, 2.0, OK, 7),
    Send("w.1", "t-0", "w.1:0", 1.0, 2.5, FAILED, -1, False, "NOT_ENOUGH_REPLICAS: no"),
    Seek("c", "t-0", 1.0, 3),
    Poll("c", "t-0", 3.0, 4.0, [(3, "p.1:0"), (4, "w.1:0")], 5),
    End("c", "t-0", 5.0, 6.0, 5),
    Fault("kill", "SIGKILL A", 7.0, 8.0),
]


def test_a_history_comes_back_as_it_was(tmp_path: Path) -> None:
    with History(tmp_path / "history.jsonl") as history:
        for operation in OPERATIONS:
            history.add(operation)
    assert history.operations == OPERATIONS
    assert list(from_lines((tmp_path / "history.jsonl").read_text().splitlines())) == OPERATIONS


def test_the_last_write_that_counts_is_remembered() -> None:
    history = History()
    for operation in OPERATIONS:
        history.add(operation)
    assert history.last_ok == {"t-0": 2.0}


def test_a_value_names_its_producer_and_its_number() -> None:
    assert producer_of("p.1:17") == ("p.1", 17)
    for bad in ("", "17", "p.1:x", ":17"):
        with pytest.raises(ValueError):
            producer_of(bad)
