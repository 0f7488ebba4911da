"""A crash at every step of a compaction: what is there at the next start is what was there before
the step or after it, and the next round finishes the work."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.log.swap import finish_interrupted
from tests.unit.log.helpers import TOPIC_ID, TP, QuickDisk, append, append_keyed, close, keyed
from tests.unit.log.test_compaction import (
    COMPACTED,
    DAY_MS,
    NOW_MS,
    bases,
    compact,
    contents,
    open_store,
    records_of,
    roll,
)

pytestmark = pytest.mark.slow


class Photographer(QuickDisk):
    """Copies the directory before every step that changes a file's name: what a killed process
    would leave behind there."""

    def __init__(self, directory: Path, album: Path) -> None:
        super().__init__()
        self._directory = directory
        self._album = album
        self._lock = threading.Lock()
        self.photos: list[tuple[str, Path]] = []
        self.on = False

    def take(self, step: str) -> None:
        if not self.on:
            return
        with self._lock:
            target = self._album / str(len(self.photos))
            shutil.copytree(self._directory, target)
            self.photos.append((step, target))

    def rename(self, source, target):  # type: ignore[no-untyped-def, override]
        self.take(f"rename {Path(source).name} to {Path(target).name}")
        super().rename(source, target)

    def unlink(self, path):  # type: ignore[no-untyped-def, override]
        self.take(f"unlink {Path(path).name}")
        super().unlink(path)


def newest(log: DiskLog) -> dict[bytes | None, tuple[int, bytes | None]]:
    return {key: (offset, value) for offset, key, value in contents(log)}


def written(store: DiskLogStore) -> DiskLog:
    """Segments that become one, segments that do not, tombstones past their time, a producer."""
    log = store.open(TP, TOPIC_ID, COMPACTED)
    for number in range(30):
        append_keyed(log, (b"key%d" % (number % 7), b"%d" % number))
    append_keyed(log, (b"key3", None), (b"key5", None))
    append(log, keyed(32, (b"key1", b"x"), producer_id=4, base_sequence=0))
    roll(log)
    compact(store)
    for number in range(33, 60):
        append_keyed(log, (b"key%d" % (number % 3), b"%d" % number))
    roll(log)
    append_keyed(log, (b"key0", b"not closed"))
    return log


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("compaction")
    disk = Photographer(root / "data", root / "album")
    store = open_store(root / "data", disk=disk)
    log = written(store)
    expected = newest(log)
    disk.on = True
    assert asyncio.run(store.compact(NOW_MS + DAY_MS))
    disk.on = False
    del expected[b"key3"], expected[b"key5"]
    assert newest(log) == expected
    close(store)
    return disk.photos


def test_every_kind_of_step_was_seen(photos: list[tuple[str, Path]]) -> None:
    steps = "\n".join(step for step, _ in photos)
    for kind in (
        r".log.cleaned to 00000000000000000000-",
        r".swap to 00000000000000000000.log",
        r".log to 00000000000000000000.log.deleted",
        r".index.cleaned to 00000000000000000000.index",
        r".timeindex.cleaned to 00000000000000000000.timeindex",
        "cleaner-offset-checkpoint",
    ):
        assert kind in steps
    assert len(photos) > 20


def test_after_a_crash_at_any_step_nothing_is_lost_and_the_next_round_ends_the_same(
    photos: list[tuple[str, Path]],
) -> None:
    final = None
    for step, directory in reversed(photos):
        store = open_store(directory)
        log = store.open(TP, TOPIC_ID, COMPACTED)
        found = newest(log)
        assert found.pop(b"key3", (30, None)) == (30, None), step
        assert found.pop(b"key5", (31, None)) == (31, None), step
        assert log.log_end_offset == 61, step
        offsets = [record.offset for record in records_of(log)]
        assert offsets == sorted(set(offsets)), step
        assert [segment.next_offset for segment in log.closed_segments()] == bases(log)[1:], step
        names = [path.name for path in log.directory.iterdir()]
        assert not [name for name in names if name.endswith((".cleaned", ".swap", ".deleted"))]
        for offset in range(0, 61, 5):
            assert records_of(log, offset) == [r for r in records_of(log) if r.offset >= offset]
        log.set_high_watermark(61)
        asyncio.run(log.flush())
        compact(store, NOW_MS + DAY_MS)
        final = found if final is None else final
        assert newest(log) == found == final, step
        close(store)


def test_a_crash_while_a_swap_is_finished_is_finished_again(
    photos: list[tuple[str, Path]], tmp_path: Path
) -> None:
    step, start = next(photo for photo in photos if ".swap to" in photo[0])
    copy = tmp_path / "start"
    shutil.copytree(start, copy)
    disk = Photographer(copy, tmp_path / "album")
    disk.on = True
    finish_interrupted(disk, copy / str(TP))
    final = {path.name: path.read_bytes() for path in (copy / str(TP)).glob("*.log")}
    assert not list(copy.rglob("*.swap")), step
    for again, directory in disk.photos:
        finish_interrupted(QuickDisk(), directory / str(TP))
        found = {path.name: path.read_bytes() for path in (directory / str(TP)).glob("*.log")}
        assert found == final, again


def test_foreign_files_are_no_swaps(tmp_path: Path) -> None:
    (tmp_path / "something.swap").write_text("of an editor")
    finish_interrupted(QuickDisk(), tmp_path)
    assert (tmp_path / "something.swap").exists()
