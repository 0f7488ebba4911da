"""The mark of an ISR member against the broker that is registered now."""

from __future__ import annotations

import pytest

from minikafka.core.control.incarnation import Standing, marked_epoch, standing, storage_mark
from tests.helpers.controller_bench import broker


def test_a_mark_names_the_disk_and_the_incarnation() -> None:
    assert storage_mark(broker(1, broker_epoch=17)) == "disk-A@17"


@pytest.mark.parametrize(
    ("mark", "epoch"),
    [
        ("disk-A@17", 17),
        ("a@b@17", 17),
        ("@-1", -1),
        ("disk-A", None),
        ("17", None),
        ("disk-A@x", None),
        ("", None),
        (None, None),
    ],
)
def test_the_broker_epoch_of_a_mark(mark: str | None, epoch: int | None) -> None:
    assert marked_epoch(mark) == epoch


@pytest.mark.parametrize(
    ("mark", "dirty", "expected"),
    [
        ("disk-A@17", False, Standing.SAME),
        ("disk-A@17", True, Standing.SAME),  # it was admitted as it is
        ("disk-A@16", False, Standing.RETURNED),
        ("disk-A@16", True, Standing.LOST),
        ("other@16", False, Standing.LOST),
        ("disk-A", False, Standing.SAME),  # of another tool: judged by storage alone
        ("disk-A", True, Standing.LOST),
        ("other", False, Standing.LOST),
        (None, False, Standing.SAME),
        (None, True, Standing.LOST),
    ],
)
def test_how_a_live_broker_stands_to_its_mark(
    mark: str | None, dirty: bool, expected: Standing
) -> None:
    assert standing(mark, broker(1, broker_epoch=17, dirty=dirty)) is expected
