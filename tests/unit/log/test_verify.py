"""log/verify.py: the CRCs of a log's files, slice by slice."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikafka.log.segment import LOG_SUFFIX, offset_name
from minikafka.log.verify import VerifiedSlice, verify_slice
from minikafka.records.header import split, stamp
from tests.helpers.brokers import batch_of

END = 1 << 40


def batch_at(offset: int, *values: bytes) -> bytes:
    data = batch_of(*values)
    [header] = split(data)
    return stamp(offset, header.size_bytes, 0) + data[16:]


def segment(directory: Path, base_offset: int, *batches: bytes) -> Path:
    path = directory / offset_name(base_offset, LOG_SUFFIX)
    path.write_bytes(b"".join(batches))
    return path


def verify_all(directory: Path, max_bytes: int = 1, end_offset: int = END) -> list[VerifiedSlice]:
    slices = [verify_slice(directory, 0, 0, max_bytes, end_offset)]
    while not slices[-1].done:
        last = slices[-1]
        slices.append(verify_slice(directory, last.segment, last.position, max_bytes, end_offset))
    return slices


def sums(slices: list[VerifiedSlice]) -> tuple[int, int, list[str]]:
    return (
        sum(each.batches for each in slices),
        sum(each.size_bytes for each in slices),
        [line for each in slices for line in each.damage],
    )


@pytest.mark.parametrize("max_bytes", [1, 150, 1 << 20])
def test_every_batch_of_every_segment_is_looked_at_once(tmp_path: Path, max_bytes: int) -> None:
    batches = [batch_at(offset, b"v" * 50) for offset in range(5)]
    segment(tmp_path, 0, *batches[:3])
    segment(tmp_path, 3, *batches[3:])
    segment(tmp_path, 5)
    assert sums(verify_all(tmp_path, max_bytes)) == (5, sum(map(len, batches)), [])


def test_what_lies_above_the_end_is_not_looked_at(tmp_path: Path) -> None:
    path = segment(tmp_path, 0, batch_at(0, b"a"), batch_at(1, b"b"))
    path.write_bytes(path.read_bytes() + b"half of a ba")
    segment(tmp_path, 9, b"garbage")
    assert sums(verify_all(tmp_path, 1 << 20, end_offset=1))[0] == 1
    path.write_bytes(batch_at(0, b"a"))
    assert sums(verify_all(tmp_path, end_offset=1))[2] == []


def test_a_batch_that_fails_its_crc_is_named_and_the_next_ones_are_looked_at(
    tmp_path: Path,
) -> None:
    batches = [batch_at(offset, b"value") for offset in range(3)]
    damaged = bytearray(batches[1])
    damaged[-1] ^= 1
    segment(tmp_path, 0, batches[0], bytes(damaged), batches[2])
    count, _, [line] = sums(verify_all(tmp_path))
    assert count == 3
    assert f"at {len(batches[0])}: the batch of offsets 1 to 1 fails its CRC" in line


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (b"\0" * 100, "has magic 0"),
        (batch_at(1, b"v")[:65], "cut off"),
        (b"x" * 9, "needs a header"),
    ],
)
def test_what_is_no_batch_ends_the_segment_and_not_the_log(
    tmp_path: Path, tail: bytes, why: str
) -> None:
    segment(tmp_path, 0, batch_at(0, b"a"), tail)
    segment(tmp_path, 2, batch_at(2, b"c"))
    count, _, [line] = sums(verify_all(tmp_path))
    assert count == 2
    assert why in line
    assert "the rest of the segment is unread" in line


def test_a_segment_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    segment(tmp_path, 7, batch_at(7, b"a"))
    found = verify_slice(tmp_path, 3, 500, 1, END)
    assert (found.batches, found.damage) == (1, ())
    assert verify_slice(tmp_path, 8, 0, 1, END).done
    assert verify_slice(tmp_path / "nothing", 0, 0, 1, END).done
