"""`log dump`: every byte of a segment file accounted for, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.errors import UsageError
from minikafka.log.dump import DumpedBatch, DumpedGarbage, dump_segment, segment_files
from tests.unit.log.helpers import batch


def dumped(path: Path, content: bytes, records: bool = False) -> list[DumpedBatch | DumpedGarbage]:
    path.write_bytes(content)
    return list(dump_segment(path, records))


def test_batches_are_listed_with_positions_and_records(tmp_path: Path) -> None:
    first, second = batch(0, 2, value=b"one"), batch(2, value=b"two")
    one, two = dumped(tmp_path / "x.log", first + second, records=True)
    assert isinstance(one, DumpedBatch)
    assert isinstance(two, DumpedBatch)
    assert (one.position, two.position) == (0, len(first))
    assert (one.crc_is_valid, two.crc_is_valid) == (True, True)
    assert [record.value for record in one.records + two.records] == [b"one", b"one", b"two"]
    assert [record.offset for record in one.records + two.records] == [0, 1, 2]


def test_a_wrong_crc_is_told_and_the_next_batch_is_found(tmp_path: Path) -> None:
    damaged = bytearray(batch(0) + batch(1))
    damaged[65] ^= 1
    one, two = dumped(tmp_path / "x.log", bytes(damaged), records=True)
    assert [one.crc_is_valid, two.crc_is_valid] == [False, True]  # type: ignore[union-attr]


def test_garbage_between_batches_is_skipped(tmp_path: Path) -> None:
    first, garbage, last = batch(0), b"\x02" * 40 + b"no batch" * 9, batch(1)
    found = dumped(tmp_path / "x.log", first + garbage + last)
    assert [type(item) for item in found] == [DumpedBatch, DumpedGarbage, DumpedBatch]
    assert (found[1].position, found[1].size_bytes) == (len(first), len(garbage))  # type: ignore[union-attr]


def test_a_torn_tail_is_told(tmp_path: Path) -> None:
    _, torn = dumped(tmp_path / "x.log", batch(0) + batch(1)[:-1])
    assert isinstance(torn, DumpedGarbage)
    assert "cut off" in torn.problem


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert dumped(tmp_path / "x.log", b"") == []


@given(st.lists(st.binary(max_size=80) | st.builds(batch, st.integers(0, 9)), max_size=6))
def test_every_byte_belongs_to_one_result(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    content = b"".join(parts)
    position = 0
    for item in dumped(tmp_path_factory.mktemp("dump") / "x.log", content, records=True):
        assert item.position == position
        position += item.header.size_bytes if isinstance(item, DumpedBatch) else item.size_bytes
    assert position == len(content)


def test_a_folder_stands_for_its_segments_in_order(tmp_path: Path) -> None:
    for name in ("00000000000000000010.log", "00000000000000000000.log", "x.index"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in segment_files(tmp_path)] == [
        "00000000000000000000.log",
        "00000000000000000010.log",
    ]
    assert segment_files(tmp_path / "x.index") == [tmp_path / "x.index"]


def test_a_path_without_segments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a segment file nor a folder"):
        segment_files(tmp_path / "nothing")
    with pytest.raises(UsageError):
        segment_files(tmp_path)
