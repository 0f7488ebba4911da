from __future__ import annotations

import os
from pathlib import Path

from tests.fuzz.judge import Log, Memory

TRACEBACK = """\
12:00 METADATA version 4 failed
Traceback (most recent call last):
  File "x.py", line 1, in x
    raise ValueError
ValueError
"""


def test_a_traceback_in_a_log_is_found_once_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "broker-1.log"
    file.write_text("11:59 all is well\n")
    log = Log(file)
    assert log.news() == []
    with file.open("a") as more:
        more.write(TRACEBACK + "12:01 all is well\n")
    assert log.news() == [TRACEBACK.rstrip()]
    assert log.news() == []


def test_a_line_that_is_not_written_to_its_end_is_read_later(tmp_path: Path) -> None:
    file = tmp_path / "broker-1.log"
    log = Log(file)
    file.write_text("12:00 FETCH failed unex")
    assert log.news() == []
    file.write_text("12:00 FETCH failed unexpectedly\n")
    assert log.news() == ["12:00 FETCH failed unexpectedly"]


def test_a_process_that_is_gone_is_dead_and_one_that_lives_has_a_size() -> None:
    memory = Memory({"A": os.getpid(), "B": 2**22 + 1})
    assert memory.look() == ["B"]
    assert set(memory.most_mb) == {"A"}
    assert memory.most_mb["A"] > 1
