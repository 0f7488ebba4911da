"""The index files of closed segments, which are searched page by page."""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct

import pytest

from minikafka.log.index import OFFSET_ENTRY, TIME_ENTRY, IndexFile

PAGE_BYTES = 4096


class File:
    """Bytes that are read as a file is; counts the reads."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.reads = 0

    def pread(self, size: int, at: int) -> bytes:
        self.reads += 1
        return self.content[at : at + size]


def entries(count: int) -> list[tuple[int, int]]:
    return [(10 * number + 7, 4100 * number + 5000) for number in range(count)]


@pytest.mark.parametrize("entry", [OFFSET_ENTRY, TIME_ENTRY], ids=["offsets", "times"])
@pytest.mark.parametrize("count", [0, 1, 2, 340, 341, 342, 511, 512, 513, 1023, 1024, 1025, 4000])
@pytest.mark.parametrize("field", [0, 1])
def test_the_floor_is_found_in_whatever_page_it_is(entry: Struct, count: int, field: int) -> None:
    known = entries(count)
    file = File(b"".join(entry.pack(*each) for each in known))
    values = [each[field] for each in known]
    ends = [*values[:3], *values[338:344], *values[509:515], *values[1022:1026], *values[-2:]]
    for value in [0, *(end + step for end in ends for step in (-1, 0, 1))]:
        index = IndexFile(file.pread, len(file.content), entry)
        at = bisect_right(values, value)
        assert index.floor(value, field) == (known[at - 1] if at else None)


def test_an_index_of_a_page_is_read_once_and_a_long_one_seldom() -> None:
    small = File(b"".join(OFFSET_ENTRY.pack(*each) for each in entries(512)))
    assert len(small.content) == PAGE_BYTES
    IndexFile(small.pread, len(small.content), OFFSET_ENTRY).floor(2_222, 0)
    assert small.reads == 1
    large = File(b"".join(OFFSET_ENTRY.pack(*each) for each in entries(60_000)))
    IndexFile(large.pread, len(large.content), OFFSET_ENTRY).floor(222_222, 0)
    assert large.reads <= 9  # a hundred pages, halved until one is left, and its neighbour


def test_an_index_that_became_shorter_meanwhile_is_an_error_of_the_disk() -> None:
    file = File(OFFSET_ENTRY.pack(1, 1) * 3)
    index = IndexFile(file.pread, 4 * OFFSET_ENTRY.size, OFFSET_ENTRY)
    with pytest.raises(OSError, match="the index ends before entry 4"):
        index.floor(1, 0)
