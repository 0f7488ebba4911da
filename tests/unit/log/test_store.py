"""The data directory: whose it is, dirty or not, locks, deletion, failing disks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.broker.ports import LogStore, PartitionLog
from minikafka.errors import KafkaStorageError, UsageError
from minikafka.log import checkpoints
from minikafka.log.files import Disk
from minikafka.log.offset_tables import OffsetTables
from minikafka.log.partition_log import DiskLog
from minikafka.log.store import DiskLogStore
from minikafka.model import TopicPartition
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    FaultyDisk,
    append,
    append_values,
    batch,
    close,
    crashed_copy,
    open_store,
    read_all,
)

OTHER = TopicPartition("orders", 1)


class SlowDisk(FaultyDisk):
    """An fsync says that it has begun, and ends when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.hold = threading.Event()
        self.hold.set()

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        if not self.hold.is_set():
            self.entered.set()
            assert self.hold.wait(30)
        super().fsync(fd)


def test_store_and_log_are_what_the_ports_ask_for(tmp_path: Path) -> None:
    store: LogStore = open_store(tmp_path / "data")
    log: PartitionLog = store.open(TP, TOPIC_ID, CONFIG)
    wanted = {name for name in vars(PartitionLog) if not name.startswith("_")}
    assert all(hasattr(log, name) for name in wanted)
    assert all(hasattr(store, name) for name in vars(LogStore) if not name.startswith("_"))
    asyncio.run(store.close(True))


# --- making logs off the loop --------------------------------------------------------------------


class MakingDisk(FaultyDisk):
    """Notes in which thread folders are made, and waits there while `hold` is not set. `full` names
    folders that cannot be made."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()
        self.entered = threading.Event()
        self.hold = threading.Event()
        self.hold.set()
        self.full: set[str] = set()
        self.made: list[str] = []

    def mkdir(self, path: Path, *arguments: int) -> None:  # type: ignore[override]
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.hold.wait(30)
        if path.name in self.full:
            raise OSError("no space left on device")
        os.mkdir(path, *arguments)
        self.made.append(path.name)


WANTED = [(TP, TOPIC_ID, CONFIG), (OTHER, TOPIC_ID, replace(CONFIG, segment_bytes=300))]


async def test_logs_are_made_in_a_thread_and_found_by_open(tmp_path: Path) -> None:
    disk = MakingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    await store.make(WANTED)
    assert set(store.logs()) == {TP, OTHER}
    assert all(name.startswith("minikafka-log") for name in disk.threads)
    made = dict(store.logs())
    log = store.open(OTHER, *WANTED[1][1:])
    assert log is made[OTHER]
    assert (log.topic_id, log.config.segment_bytes) == (TOPIC_ID, 300)
    await store.make(WANTED)
    assert dict(store.logs()) == made
    assert len(disk.made) == 2
    append_values(store.open(*WANTED[0]), b"a")
    await store.close(True)
    again = open_store(tmp_path / "data")
    assert set(again.logs()) == {TP, OTHER}
    assert again.open(*WANTED[0]).log_end_offset == 1
    await again.close(True)


async def test_a_log_that_cannot_be_made_is_left_to_open_and_the_others_are_made(
    tmp_path: Path,
) -> None:
    disk = MakingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    disk.full = {str(TP)}
    await store.make(WANTED)
    assert set(store.logs()) == {OTHER}
    with pytest.raises(KafkaStorageError, match="no space left"):
        store.open(*WANTED[0])
    disk.full = set()
    assert store.open(*WANTED[0]).log_end_offset == 0
    await store.close(True)


async def test_logs_whose_making_was_given_up_on_are_entered_all_the_same(tmp_path: Path) -> None:
    disk = MakingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    disk.hold.clear()
    given_up = asyncio.ensure_future(store.make(WANTED[:1]))
    await asyncio.to_thread(disk.entered.wait, 30)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert not store.logs()
    again = asyncio.ensure_future(store.make(WANTED))  # as another message of the controller
    await asyncio.to_thread(disk.entered.wait, 30)
    disk.hold.set()
    await again
    assert set(store.logs()) == {TP, OTHER}
    assert disk.made == [str(TP), str(OTHER)]
    await store.close(True)


async def test_a_store_that_is_closed_meanwhile_waits_and_leaves_no_file_open(
    tmp_path: Path,
) -> None:
    disk = MakingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    disk.hold.clear()
    making = asyncio.ensure_future(store.make(WANTED))
    await asyncio.to_thread(disk.entered.wait, 30)
    closing = asyncio.ensure_future(store.close(True))
    disk.hold.set()
    await closing
    await making
    assert all(log.closed for log in store.logs().values())
    assert set(store.logs()) == {TP, OTHER}
    await store.make([(TopicPartition("late", 0), TOPIC_ID, CONFIG)])
    assert len(disk.made) == 2
    again = open_store(tmp_path / "data")
    assert set(again.logs()) == {TP, OTHER}
    await again.close(True)


async def test_a_log_that_was_deleted_before_is_not_made_with_its_checkpoints(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path / "data")
    await store.make(WANTED)
    append_values(store.open(*WANTED[0]), b"a")
    store.open(*WANTED[0]).set_high_watermark(1)
    await store.checkpoint()
    store.delete(TP, TOPIC_ID)
    await store.make([(TP, "made-again", CONFIG)])
    assert TP not in store.logs()  # that is for `open`, which writes the checkpoints anew
    store.open(TP, "made-again", CONFIG)
    found = checkpoints.read_offsets(store.disk, tmp_path / "data" / checkpoints.HIGH_WATERMARKS)
    assert found.get(TP, 0) == 0
    await store.close(True)


# --- whose it is ---------------------------------------------------------------------------------


def test_an_empty_directory_becomes_this_brokers(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a" / "data", new_storage_id=lambda: "storage-1")
    assert (store.storage_id, store.dirty) == ("storage-1", False)
    close(store)
    assert (tmp_path / "a" / "data" / "meta.properties").read_text() == (
        "version=1\ncluster.id=cluster-1\nbroker.id=1\nstorage.id=storage-1\nboot.id=boot-1\n"
    )


def test_storage_ids_differ_and_stay(tmp_path: Path) -> None:
    first, second = open_store(tmp_path / "1"), open_store(tmp_path / "2")
    assert first.storage_id != second.storage_id
    close(first)
    close(second)
    again = open_store(tmp_path / "1")
    assert again.storage_id == first.storage_id
    close(again)


def test_another_clusters_directory_is_refused_naming_both(tmp_path: Path) -> None:
    close(open_store(tmp_path / "data"))
    with pytest.raises(UsageError, match=r"belongs to cluster cluster-1; this is cluster other"):
        DiskLogStore(tmp_path / "data", "other", 1, CONFIG)


def test_another_brokers_directory_is_refused_naming_both(tmp_path: Path) -> None:
    close(open_store(tmp_path / "data"))
    with pytest.raises(UsageError, match=r"belongs to broker 1; this is broker 2"):
        DiskLogStore(tmp_path / "data", "cluster-1", 2, CONFIG)
    close(open_store(tmp_path / "data"))  # the refusal let go of the lock


def test_partitions_without_meta_properties_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "orders-0").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"holds partitions but no meta\.properties"):
        open_store(tmp_path / "data")


@pytest.mark.parametrize("content", ["", "version=9\n", "nonsense", "version=1\n", "\udcff"])
def test_an_unusable_meta_properties_is_refused(tmp_path: Path, content: str) -> None:
    close(open_store(tmp_path / "data"))
    path = tmp_path / "data" / "meta.properties"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"meta\.properties"):
        open_store(tmp_path / "data")


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(UsageError, match="must be a folder"):
        open_store(tmp_path / "data")


def test_a_directory_in_use_is_refused_naming_the_process(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    code = (
        "import sys; from pathlib import Path; from tests.unit.log.helpers import open_store\n"
        "open_store(Path(sys.argv[1]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")], capture_output=True, text=True
    )
    assert other.returncode != 0
    assert f"is in use by another process (pid {os.getpid()})" in other.stderr
    close(store)
    close(open_store(tmp_path / "data"))


# --- the dirty rule ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clean", "boot_id", "dirty"),
    [
        (True, "boot-1", False),
        (True, "boot-2", False),
        (False, "boot-1", False),  # killed: the page cache lives on
        (False, "boot-2", True),  # the host went down under it
    ],
)
def test_dirty_is_no_clean_marker_and_another_boot(
    tmp_path: Path, clean: bool, boot_id: str, dirty: bool
) -> None:
    first = open_store(tmp_path / "data", boot_id="boot-1")
    close(first, clean)
    store = open_store(tmp_path / "data", boot_id=boot_id)
    assert store.dirty is dirty
    assert (store.storage_id == first.storage_id) is not dirty
    close(store)


def test_dirt_outlives_an_incarnation_that_nobody_has_heard_of(tmp_path: Path) -> None:
    first = open_store(tmp_path / "data", boot_id="boot-1")
    close(first, clean=False)
    close(open_store(tmp_path / "data", boot_id="boot-2"), clean=False)  # dirty, dies at once
    store = open_store(tmp_path / "data", boot_id="boot-2")
    assert store.storage_id != first.storage_id
    close(store)


def test_a_clean_shutdown_after_a_dirty_start_is_clean(tmp_path: Path) -> None:
    close(open_store(tmp_path / "data", boot_id="boot-1"), clean=False)
    close(open_store(tmp_path / "data", boot_id="boot-2"), clean=True)
    store = open_store(tmp_path / "data", boot_id="boot-3")
    assert not store.dirty
    close(store)


def test_the_boot_id_is_the_hosts(tmp_path: Path) -> None:
    store = DiskLogStore(tmp_path / "data", "cluster-1", 1, CONFIG)
    close(store)
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if boot_id.exists():
        meta = (tmp_path / "data" / "meta.properties").read_text()
        assert f"boot.id={boot_id.read_text().strip()}\n" in meta


# --- partitions ----------------------------------------------------------------------------------


def test_a_partition_is_found_again_with_its_topic_id(tmp_path: Path) -> None:
    topic = TopicPartition("a.b-delete_C-1", 12)
    store = open_store(tmp_path / "data")
    append_values(store.open(topic, TOPIC_ID, CONFIG), b"x")
    close(store)
    store = open_store(tmp_path / "data")
    assert list(store.logs()) == [topic]
    log = store.logs()[topic]
    assert (log.topic_id, log.log_end_offset) == (TOPIC_ID, 1)
    assert store.open(topic, TOPIC_ID, CONFIG) is log
    close(store)


def test_a_log_of_another_topic_id_is_deleted_first(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, CONFIG)
    append_values(log, b"a", b"b", b"c")
    log.set_high_watermark(3)
    asyncio.run(log.flush())
    asyncio.run(store.checkpoint())
    new = store.open(TP, "topic-id-2", CONFIG)
    assert (new.topic_id, new.log_end_offset) == ("topic-id-2", 0)
    append_values(new, b"d", b"e", b"f", b"g")
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    again = store.logs()[TP]
    assert (again.log_end_offset, again.high_watermark, again.recovery_point) == (4, 0, 0)
    assert not list(copy.glob("*-delete"))
    close(store)


def test_delete_is_for_the_right_topic_id_only(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    append_values(store.open(TP, TOPIC_ID, CONFIG), b"a")
    store.delete(TP, "topic-id-2")
    store.delete(OTHER, TOPIC_ID)
    assert TP in store.logs()
    store.delete(TP, TOPIC_ID)
    assert TP not in store.logs()
    close(store)
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]


def test_the_longest_topic_name_can_be_deleted(tmp_path: Path) -> None:
    topic = TopicPartition("t" * 249, 99999)
    store = open_store(tmp_path / "data")
    store.open(topic, TOPIC_ID, CONFIG)
    store.delete(topic, TOPIC_ID)
    close(store)
    assert not [path for path in (tmp_path / "data").iterdir() if path.is_dir()]


def test_a_deletion_that_was_interrupted_is_finished_at_the_next_start(tmp_path: Path) -> None:
    close(open_store(tmp_path / "data"))
    left = tmp_path / "data" / "orders-0.0123456789abcdef-delete"
    left.mkdir()
    (left / "00000000000000000000.log").write_bytes(batch(0))
    store = open_store(tmp_path / "data")
    assert not left.exists()
    assert store.logs() == {}
    close(store)


def test_a_lost_topic_id_is_given_again_by_the_next_open(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    append_values(store.open(TP, TOPIC_ID, CONFIG), b"a")
    close(store)
    (tmp_path / "data/orders-0/partition.metadata").unlink()
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, CONFIG)
    assert (log.topic_id, log.log_end_offset) == (TOPIC_ID, 1)
    close(store)
    store = open_store(tmp_path / "data")
    assert store.logs()[TP].topic_id == TOPIC_ID
    close(store)


# --- flush and checkpoint ------------------------------------------------------------------------


async def test_overlapping_flushes_share_one_fsync(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(TP, TOPIC_ID, CONFIG)
    append_values(log, b"a")
    await log.flush()
    append_values(log, b"b", b"c")
    before = disk.fsyncs
    assert await asyncio.gather(*(log.flush() for _ in range(50))) == [3] * 50
    assert disk.fsyncs == before + 1
    assert await log.flush() == 3
    assert disk.fsyncs == before + 1, "there was nothing to sync"
    await store.close(True)


async def test_an_append_during_a_flush_waits_for_the_next(tmp_path: Path) -> None:
    disk = SlowDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(TP, TOPIC_ID, CONFIG)
    append_values(log, b"a")
    disk.hold.clear()
    first = asyncio.ensure_future(log.flush())
    await asyncio.get_running_loop().run_in_executor(None, disk.entered.wait, 30)
    append_values(log, b"b")
    second = asyncio.ensure_future(log.flush())
    await asyncio.sleep(0)
    disk.hold.set()
    assert await first == 1
    assert not second.done()
    assert await second == 2
    await store.close(True)


async def test_a_truncation_during_a_flush_lowers_what_is_durable(tmp_path: Path) -> None:
    disk = SlowDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(TP, TOPIC_ID, CONFIG)
    append_values(log, b"a", b"b", b"c")
    disk.hold.clear()
    flush = asyncio.ensure_future(log.flush())
    await asyncio.get_running_loop().run_in_executor(None, disk.entered.wait, 30)
    log.truncate_to(1)
    append_values(log, b"x", b"y", b"z")
    disk.hold.set()
    assert await flush == 4, "what the first fsync may have covered of 1 and 2 is not what is there"
    await store.close(True)


async def test_rolled_segments_are_flushed_in_the_background(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=14))
    append_values(log, b"a", b"b")
    await asyncio.gather(*log._background)
    assert log.recovery_point >= 1
    await store.close(True)


async def test_checkpoints_are_in_kafkas_format(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, CONFIG)
    store.open(OTHER, TOPIC_ID, CONFIG)
    append_values(log, b"a", b"b", b"c")
    log.set_high_watermark(2)
    log.advance_log_start(1)
    await log.flush()
    await store.checkpoint()
    read = {path.name: path.read_text() for path in (tmp_path / "data").glob("*checkpoint")}
    assert read == {
        checkpoints.HIGH_WATERMARKS: "0\n2\norders 0 2\norders 1 0\n",
        checkpoints.RECOVERY_POINTS: "0\n2\norders 0 3\norders 1 0\n",
        checkpoints.LOG_STARTS: "0\n1\norders 0 1\n",
    }
    await store.close(True)


# --- what a checkpoint looks at ------------------------------------------------------------------


class WritingDisk(FaultyDisk):
    """Notes which checkpoints are written."""

    def __init__(self) -> None:
        super().__init__()
        self.wrote: list[str] = []

    def write_file(self, path: Path, content: bytes, durable: bool) -> None:
        if path.name.endswith("-offset-checkpoint"):
            self.wrote.append(path.name)
        super().write_file(path, content, durable)

    def take(self) -> list[str]:
        wrote, self.wrote = self.wrote, []
        return wrote


def said(directory: Path, name: str) -> dict[TopicPartition, int]:
    return checkpoints.read_offsets(Disk(), directory / name)


async def test_a_checkpoint_writes_the_files_that_would_say_something_else(tmp_path: Path) -> None:
    disk = WritingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log, other = (store.open(each, TOPIC_ID, CONFIG) for each in (TP, OTHER))
    append_values(log, b"a", b"b")
    append_values(other, b"a", b"b")
    await store.checkpoint()
    disk.take()
    await store.checkpoint()
    assert disk.take() == []
    log.set_high_watermark(1)
    log.set_high_watermark(2)
    await store.checkpoint(recovery_points=False)
    assert disk.take() == [checkpoints.HIGH_WATERMARKS]
    assert said(tmp_path / "data", checkpoints.HIGH_WATERMARKS) == {TP: 2, OTHER: 0}
    await log.flush()
    other.set_high_watermark(2)
    other.advance_log_start(1)
    await store.checkpoint(recovery_points=False)
    assert disk.take() == [checkpoints.HIGH_WATERMARKS, checkpoints.LOG_STARTS]
    await store.checkpoint()
    assert disk.take() == [checkpoints.RECOVERY_POINTS]
    assert said(tmp_path / "data", checkpoints.RECOVERY_POINTS) == {TP: 2, OTHER: 0}
    await store.close(True)


async def test_a_checkpoint_that_failed_is_made_up_for_though_nothing_changes(
    tmp_path: Path,
) -> None:
    disk = WritingDisk()
    store = open_store(tmp_path / "data", disk=disk)
    log = store.open(TP, TOPIC_ID, CONFIG)
    append_values(log, b"a")
    log.set_high_watermark(1)
    disk.broken = {"fsync"}
    with pytest.raises(KafkaStorageError):
        await store.checkpoint()
    disk.broken = set()
    await store.checkpoint()
    assert said(tmp_path / "data", checkpoints.HIGH_WATERMARKS) == {TP: 1}
    await store.close(True)


async def test_what_is_said_of_a_deleted_log_does_not_count_for_the_next_of_its_name(
    tmp_path: Path,
) -> None:
    """The recovery points are written less often than the rest."""
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, CONFIG)
    append_values(log, b"a", b"b", b"c")
    await log.flush()
    await store.checkpoint()
    store.delete(TP, TOPIC_ID)
    await store.checkpoint(recovery_points=False)
    assert said(tmp_path / "data", checkpoints.RECOVERY_POINTS) == {TP: 3}
    again = store.open(TP, "another", CONFIG)
    append_values(again, b"d")
    assert said(tmp_path / "data", checkpoints.RECOVERY_POINTS) == {}
    await store.close(True)


async def test_a_log_that_is_cut_while_a_checkpoint_is_gathered_is_not_said_to_be_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "data")
    logs = [store.open(TopicPartition("orders", n), TOPIC_ID, CONFIG) for n in range(5)]
    for log in logs:
        append_values(log, b"a", b"b")
        log.set_high_watermark(2)
    await store.checkpoint()
    for log in logs:
        append_values(log, b"c")
        log.set_high_watermark(3)
    take = OffsetTables.take
    read: list[dict[TopicPartition, int]] = []

    def cut_meanwhile(tables: OffsetTables, log: DiskLog) -> None:
        take(tables, log)
        if log is logs[2] and not read:
            read.append({})
            logs[0].truncate_to(1)
            read.append(said(tmp_path / "data", checkpoints.HIGH_WATERMARKS))
            logs[4].truncate_to(1)

    monkeypatch.setattr(OffsetTables, "take", cut_meanwhile)
    await store.checkpoint()
    assert read[1] == {TopicPartition("orders", n): 3 if n else 1 for n in range(5)}
    assert said(tmp_path / "data", checkpoints.HIGH_WATERMARKS) == {
        TopicPartition("orders", n): 1 if n in (0, 4) else 3 for n in range(5)
    }
    await store.close(True)


async def test_a_log_that_was_fenced_is_told_until_it_is_deleted(tmp_path: Path) -> None:
    store, (log, _) = two_logs(tmp_path / "data", disk := FaultyDisk())
    assert list(store.fenced_logs()) == []
    disk.broken = {"writev"}
    with pytest.raises(KafkaStorageError):
        append_values(log, b"a")
    disk.broken = set()
    assert list(store.fenced_logs()) == [TP]
    store.delete(TP, TOPIC_ID)
    assert list(store.fenced_logs()) == []
    await store.close(False)


# --- failing disks -------------------------------------------------------------------------------


def two_logs(directory: Path, disk: FaultyDisk) -> tuple[DiskLogStore, list]:  # type: ignore[type-arg]
    store = open_store(directory, disk=disk)
    logs = [store.open(tp, TOPIC_ID, CONFIG) for tp in (TP, OTHER)]
    for log in logs:
        append_values(log, b"a", b"b")
        log.load_producers()
    return store, logs


@pytest.mark.parametrize("room", [0, 1, 16, 60, 61, 100])
def test_a_full_disk_fences_the_log_and_leaves_whole_batches(tmp_path: Path, room: int) -> None:
    disk = FaultyDisk()
    store, (log, other) = two_logs(tmp_path / "data", disk)
    before = read_all(log)
    disk.full_after = room
    with pytest.raises(KafkaStorageError, match=r"append of orders-0 in .*No space left on device"):
        append(log, batch(2, value=b"x" * 100))
    disk.full_after = None
    with pytest.raises(KafkaStorageError, match="takes no records"):
        append(log, batch(2))
    with pytest.raises(KafkaStorageError):
        log.truncate_to(0)
    assert log.log_end_offset == 2
    assert read_all(log) == before
    assert (log.directory / "00000000000000000000.log").stat().st_size == log.size_bytes
    append_values(other, b"c")
    assert len(read_all(other)) == 3
    close(store)
    store = open_store(tmp_path / "data")
    assert store.dirty is False
    log = store.logs()[TP]
    assert read_all(log) == before
    append_values(log, b"works again")
    close(store)


def test_a_log_that_cannot_be_cut_back_is_recovered_at_the_next_start(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store, (log, _) = two_logs(tmp_path / "data", disk)
    before = read_all(log)
    disk.full_after = 30
    disk.broken = {"ftruncate"}
    with pytest.raises(KafkaStorageError):
        append(log, batch(2))
    disk.full_after = None
    assert read_all(log) == before
    with pytest.raises(KafkaStorageError):
        close(store)
    assert not (tmp_path / "data" / ".clean-shutdown").exists()
    store = open_store(tmp_path / "data")
    assert read_all(store.logs()[TP]) == before
    close(store)


async def test_a_failed_fsync_fences_the_log_for_good(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store, (log, other) = two_logs(tmp_path / "data", disk)
    disk.broken = {"fsync"}
    results = await asyncio.gather(log.flush(), log.flush(), return_exceptions=True)
    assert [type(result) for result in results] == [KafkaStorageError] * 2
    assert log.recovery_point == 0
    disk.broken = set()
    with pytest.raises(KafkaStorageError, match="fsync of orders-0"):
        append(log, batch(2))
    with pytest.raises(KafkaStorageError):
        await log.flush()  # a second fsync may succeed without the pages having been written
    assert len(read_all(log)) == 2
    assert await other.flush() == 2
    with pytest.raises(KafkaStorageError):
        await store.close(True)
    assert not (tmp_path / "data" / ".clean-shutdown").exists()


def test_an_unreadable_file_fences_its_log_only(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store, (log, other) = two_logs(tmp_path / "data", disk)
    disk.broken = {"pread"}
    with pytest.raises(KafkaStorageError, match="read of orders-0"):
        log.read(0, 100, 2)
    disk.broken = set()
    with pytest.raises(KafkaStorageError):
        append(log, batch(2))
    assert len(read_all(other)) == 2
    close(store)


def test_a_file_that_someone_cut_is_told_and_not_served(tmp_path: Path) -> None:
    store, (log, _) = two_logs(tmp_path / "data", FaultyDisk())
    os.truncate(log.directory / "00000000000000000000.log", 100)
    with pytest.raises(KafkaStorageError, match="the file ends at"):
        log.read(0, 1000, 2)
    close(store)


async def test_a_checkpoint_on_a_failing_disk_is_a_storage_error(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = open_store(tmp_path / "data", disk=disk)
    store.open(TP, TOPIC_ID, CONFIG)
    disk.broken = {"fsync"}
    with pytest.raises(KafkaStorageError, match="checkpoint of data directory"):
        await store.checkpoint()
    disk.broken = set()
    await store.checkpoint()
    await store.close(True)


def test_a_disk_that_fails_at_the_start_lets_go_of_the_directory(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.broken = {"fsync"}
    with pytest.raises(KafkaStorageError, match=r"data directory .* failed"):
        open_store(tmp_path / "data", disk=disk)
    close(open_store(tmp_path / "data"))


def test_a_file_size_limit_of_the_system_fences_too(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from minikafka.errors import KafkaStorageError
from tests.unit.log.helpers import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store(Path(sys.argv[1]))
log = store.open(TP, TOPIC_ID, CONFIG)
append_values(log, b"a")
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    append_values(log, *[b"x" * 300] * 100)
except KafkaStorageError as error:
    print(len(read_all(log)), log.size_bytes <= 5000, error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("14 True append of orders-0"), result
    assert "File too large" in result.stdout
