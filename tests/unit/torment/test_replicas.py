"""Replicas are compared on disk, below the high watermark."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikafka.records.build import BatchBuilder
from minikafka.records.compression import codec_named
from minikafka.records.header import STAMP_BYTES, stamp
from tests.integration.torment.replicas import compare

NAME = "t-0"


def batch(offset: int, *values: bytes, leader_epoch: int = 0) -> bytes:
    builder = BatchBuilder()
    for value in values:
        builder.append(None, value, (), 1)
    data = builder.build(codec_named("none"), -1, -1, -1)
    return stamp(offset, len(data), leader_epoch) + data[STAMP_BYTES:]


BATCHES = [batch(0, b"a", b"b"), batch(2, b"c"), batch(3, b"d")]


class Disks:
    def __init__(self, path: Path) -> None:
        self.dirs = {1: path / "1", 2: path / "2", 3: path / "3"}
        for broker_id in (1, 2):
            self.write(broker_id, 0, *BATCHES)
        self.dirs[3].mkdir()  # no replica there

    def write(self, broker_id: int, base_offset: int, *batches: bytes) -> None:
        folder = self.dirs[broker_id] / NAME
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{base_offset:020}.log").write_bytes(b"".join(batches))

    def verdict(self, high_watermark: int = 4) -> list[str]:
        return [each.kind for each in compare(self.dirs, NAME, high_watermark)]


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


def test_equal_replicas_are_fine_wherever_their_segments_begin(disks: Disks) -> None:
    assert disks.verdict() == []
    disks.write(2, 0, BATCHES[0])
    disks.write(2, 2, *BATCHES[1:])
    assert disks.verdict() == []


def test_what_is_not_committed_may_differ_or_be_missing(disks: Disks) -> None:
    disks.write(2, 0, *BATCHES[:2], batch(3, b"other"), batch(4, b"more"))
    assert disks.verdict(3) == []
    disks.write(2, 0, *BATCHES[:2])
    assert disks.verdict(3) == []


@pytest.mark.parametrize("leader_epoch", [0, 1])
def test_other_bytes_are_found(disks: Disks, leader_epoch: int) -> None:
    other = batch(3, b"d" if leader_epoch else b"e", leader_epoch=leader_epoch)
    disks.write(2, 0, *BATCHES[:2], other)
    assert disks.verdict() == ["replicas differ"]


def test_a_replica_that_ends_too_early_is_found(disks: Disks) -> None:
    disks.write(2, 0, *BATCHES[:2])
    assert disks.verdict() == ["replica damaged", "replicas differ"]


def test_a_gap_in_the_offsets_is_found(disks: Disks) -> None:
    disks.write(2, 0, BATCHES[0], BATCHES[2])
    assert disks.verdict() == ["replica damaged", "replicas differ"]


def test_garbage_and_a_wrong_crc_are_found(disks: Disks) -> None:
    for bad in (b"x" * 80, BATCHES[1][:-1] + b"?"):
        disks.write(2, 0, BATCHES[0], bad, BATCHES[2])
        assert disks.verdict() == ["replica damaged", "replicas differ"]
