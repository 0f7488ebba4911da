"""The demo's arithmetic: what counts as lost, as duplicated, as neither; whom to pause."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikafka.cli.demo.command import choose_follower, demo_document, read_lines
from minikafka.cli.demo.load import Audit, DemoLoad, audit
from minikafka.cli.demo.stage import Act
from minikafka.errors import UsageError
from minikafka.model import PartitionState

LINES = [b"a", b"b", b"c"]


def at(offset: int, number: int, value: bytes | None = None) -> tuple[int, bytes, bytes]:
    """What is read back where record `number` was written at `offset`."""
    return offset, b"%d" % number, LINES[number % 3] if value is None else value


def test_everything_acknowledged_and_read_back_once_is_clean() -> None:
    outcome = audit({0: 0, 1: 1, 2: 2, 3: 3}, LINES, [at(each, each) for each in range(4)])
    assert outcome == Audit(4, 4, (), (), 0)
    assert outcome.clean


def test_an_acknowledged_record_that_is_not_there_is_lost() -> None:
    outcome = audit({0: 0, 1: 1}, LINES, [at(0, 0)])
    assert (outcome.lost, outcome.clean) == ((1,), False)


def test_an_acknowledged_record_with_another_value_is_lost() -> None:
    assert audit({0: 0}, LINES, [at(0, 0, b"x")]).lost == (0,)


def test_an_acknowledged_record_at_another_offset_is_lost() -> None:
    assert audit({0: 0}, LINES, [at(1, 0)]).lost == (0,)


def test_a_record_that_is_there_twice_is_duplicated() -> None:
    outcome = audit({0: 0, 1: 1}, LINES, [at(0, 0), at(1, 1), at(2, 1)])
    assert (outcome.duplicated, outcome.lost, outcome.clean) == ((1,), (), False)


def test_a_record_without_acknowledgement_may_be_there_or_not() -> None:
    outcome = audit({0: 0}, LINES, [at(0, 0), at(1, 1)])
    assert outcome == Audit(1, 2, (), (), 1)
    assert outcome.clean


def test_an_unacknowledged_record_that_is_there_twice_is_duplicated() -> None:
    assert audit({}, LINES, [at(0, 7), at(1, 7)]).duplicated == (7,)


@pytest.mark.parametrize(
    ("isr", "leader", "controller", "chosen"),
    [
        ((2, 3, 4), 2, 2, 4),
        ((2, 3, 4), 2, 3, 4),
        ((2, 3, 4), 2, 4, 3),
        ((2, 3, 4), 4, 1, 3),
        ((2, 3), 2, 3, 3),
    ],
)
def test_a_follower_is_paused_and_not_the_controller_if_there_is_another(
    isr: tuple[int, ...], leader: int, controller: int, chosen: int
) -> None:
    assert choose_follower(PartitionState(leader, 1, isr, 1, 1), controller) == chosen


def test_the_lines_of_a_file_are_written(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"one\n\nthree")
    assert read_lines(path) == [b"one", b"", b"three"]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    with pytest.raises(UsageError, match="it is empty"):
        read_lines(tmp_path / "text")


def test_without_a_file_there_is_something_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_lines(None)
    (tmp_path / "README.md").write_text("mine\n")
    assert read_lines(None) == [b"mine"]


async def test_the_document_has_the_documented_fields() -> None:
    load = DemoLoad(None, "demo", LINES)  # type: ignore[arg-type]  # it sends nothing here
    load.sent = 5
    act = Act("kill E", "before", "after", 12, 3)
    state = PartitionState(2, 3, (1, 2), 1, 9)
    document = demo_document([act], Audit(4, 5, (1,), (), 1), load, state, 1000, False)
    assert document == {
        "ok": False,
        "took_ms": 1000,
        "events": [
            {
                "event": "kill E",
                "before": "before",
                "after": "after",
                "took_ms": 12,
                "acknowledged": 3,
            }
        ],
        "sent": 5,
        "acknowledged": 4,
        "failed": 0,
        "read_back": 5,
        "lost": 1,
        "duplicated": 0,
        "leader": 2,
        "leader_epoch": 3,
        "isr": [1, 2],
    }
