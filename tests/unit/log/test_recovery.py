"""What is there after a crash: torn tails, damage, stale checkpoints, killed writers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.log import checkpoints
from minikafka.log.files import Disk
from minikafka.log.store import DiskLogStore
from minikafka.model import EpochEntry
from minikafka.records.header import split
from tests.helpers.amounts import sample
from tests.unit.log.helpers import (
    CONFIG,
    TOPIC_ID,
    TP,
    append,
    append_values,
    batch,
    close,
    crashed_copy,
    open_store,
    read_all,
)

SMALL = replace(CONFIG, segment_bytes=500)
SEGMENT = "orders-0/00000000000000000000.log"


def written(directory: Path, count: int, config=CONFIG) -> tuple[DiskLogStore, list]:  # type: ignore[no-untyped-def, type-arg]
    store = open_store(directory)
    log = store.open(TP, TOPIC_ID, config)
    append_values(log, *[b"%05d" % index for index in range(count)])
    return store, read_all(log)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x40
    path.write_bytes(content)


def segment_paths(directory: Path) -> list[Path]:
    return sorted((directory / "orders-0").glob("*.log"))


def test_a_clean_shutdown_is_trusted_and_all_is_there(tmp_path: Path) -> None:
    store, expected = written(tmp_path / "data", 50, SMALL)
    store.record_broker_epoch(77)
    close(store)
    marker = tmp_path / "data" / ".clean-shutdown"
    assert marker.read_text() == "broker.epoch=77\nboot.id=boot-1\n"
    store = open_store(tmp_path / "data")
    assert not marker.exists(), "the marker goes before anything is served"
    log = store.logs()[TP]
    assert read_all(log) == expected
    assert log.recovery_point == 50
    append_values(log, b"more")
    close(store)


def test_a_process_that_is_killed_loses_nothing_that_it_appended(tmp_path: Path) -> None:
    store, expected = written(tmp_path / "data", 50, SMALL)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    assert read_all(store.logs()[TP]) == expected
    close(store)


@pytest.mark.parametrize("missing", sample(range(1, len(batch(9, value=b"00009")) + 1)))
def test_a_torn_last_batch_is_cut_wherever_it_is_torn(tmp_path: Path, missing: int) -> None:
    store, expected = written(tmp_path / "data", 10)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    os.truncate(copy / SEGMENT, (copy / SEGMENT).stat().st_size - missing)
    store = open_store(copy)
    log = store.logs()[TP]
    assert (log.log_end_offset, read_all(log)) == (9, expected[:9])
    assert (copy / SEGMENT).stat().st_size == log.size_bytes
    append_values(log, b"again")
    assert [base for base, _ in read_all(log)] == list(range(10))
    close(store)


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\xff" * 100, b"\x02" * 70, b"x"])
def test_garbage_after_the_last_batch_is_cut(tmp_path: Path, garbage: bytes) -> None:
    store, expected = written(tmp_path / "data", 10)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    with (copy / SEGMENT).open("ab") as file:
        file.write(garbage)
    store = open_store(copy)
    assert read_all(store.logs()[TP]) == expected
    close(store)


def test_garbage_after_the_last_batch_is_cut_in_spite_of_a_clean_marker(tmp_path: Path) -> None:
    store, expected = written(tmp_path / "data", 10)
    close(store)
    with (tmp_path / "data" / SEGMENT).open("ab") as file:
        file.write(b"\x00" * 100)
    store = open_store(tmp_path / "data")
    assert read_all(store.logs()[TP]) == expected
    close(store)


def test_a_bad_crc_after_the_recovery_point_cuts_there_and_drops_later_segments(
    tmp_path: Path,
) -> None:
    store, expected = written(tmp_path / "data", 60, SMALL)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    paths = segment_paths(copy)
    third = int(paths[2].stem)
    flip(paths[2], expected[third][1] + 70)  # the value of its second batch
    store = open_store(copy)
    log = store.logs()[TP]
    assert (log.log_end_offset, read_all(log)) == (third + 1, expected[: third + 1])
    assert segment_paths(copy) == paths[:3]
    assert not list(copy.rglob("*.deleted"))
    close(store)


def test_what_lies_below_the_recovery_point_is_not_read_again(tmp_path: Path) -> None:
    store, expected = written(tmp_path / "data", 60, SMALL)
    assert asyncio.run(store.logs()[TP].flush()) == 60
    asyncio.run(store.checkpoint())
    append_values(store.logs()[TP], b"later")
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    flip(segment_paths(copy)[2], 75)
    store = open_store(copy)
    assert len(read_all(store.logs()[TP])) == len(expected) + 1
    close(store)


def test_a_segment_whose_tail_is_missing_ends_the_log(tmp_path: Path) -> None:
    store, expected = written(tmp_path / "data", 60, SMALL)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    paths = segment_paths(copy)
    end = int(paths[3].stem)
    os.truncate(paths[2], paths[2].stat().st_size - expected[end - 1][1])  # at a batch boundary
    store = open_store(copy)
    assert read_all(store.logs()[TP]) == expected[: end - 1]
    close(store)


def test_offsets_that_go_back_are_damage(tmp_path: Path) -> None:
    store, expected = written(tmp_path / "data", 5)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    with (copy / SEGMENT).open("ab") as file:
        file.write(batch(2))
    store = open_store(copy)
    assert read_all(store.logs()[TP]) == expected
    close(store)


def test_deleted_index_files_are_rebuilt_after_a_crash(tmp_path: Path) -> None:
    store, expected = written(tmp_path / "data", 100, SMALL)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    for path in (copy / "orders-0").glob("*index"):
        path.unlink()
    store = open_store(copy)
    log = store.logs()[TP]
    assert read_all(log) == expected
    assert len(list((copy / "orders-0").glob("*.index"))) == len(segment_paths(copy)) - 1
    close(store)


def test_a_stale_high_watermark_is_kept_and_one_ahead_of_the_log_is_lowered(
    tmp_path: Path,
) -> None:
    store, _ = written(tmp_path / "data", 10)
    log = store.logs()[TP]
    log.set_high_watermark(4)
    asyncio.run(store.checkpoint())
    log.set_high_watermark(9)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    assert store.logs()[TP].high_watermark == 4
    store.logs()[TP].set_high_watermark(10)
    asyncio.run(store.checkpoint())
    copy = crashed_copy(copy, tmp_path / "copy2")
    close(store)
    os.truncate(copy / SEGMENT, 300)
    store = open_store(copy)
    log = store.logs()[TP]
    assert log.high_watermark == log.log_end_offset < 10
    written_back = checkpoints.read_offsets(Disk(), copy / checkpoints.HIGH_WATERMARKS)
    assert written_back[TP] == log.log_end_offset, "or it would count once the log has grown"
    close(store)


def test_the_log_start_is_restored(tmp_path: Path) -> None:
    store, expected = written(tmp_path / "data", 20)
    store.logs()[TP].advance_log_start(7)
    asyncio.run(store.checkpoint())
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    log = store.logs()[TP]
    assert (log.log_start_offset, log.log_end_offset) == (7, 20)
    assert read_all(log) == expected[7:]
    close(store)


def test_a_log_that_lost_all_above_its_start_begins_anew_there(tmp_path: Path) -> None:
    store, _ = written(tmp_path / "data", 20)
    store.logs()[TP].advance_log_start(7)
    asyncio.run(store.checkpoint())
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    os.truncate(copy / SEGMENT, 200)
    store = open_store(copy)
    log = store.logs()[TP]
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (7, 7, 0)
    append_values(log, b"x")
    close(store)


@pytest.mark.parametrize(
    "name",
    [
        checkpoints.HIGH_WATERMARKS,
        checkpoints.RECOVERY_POINTS,
        checkpoints.LOG_STARTS,
        "orders-0/leader-epoch-checkpoint",
    ],
)
@pytest.mark.parametrize("content", ["", "0\n", "0\n5\norders 0 1\n", "1\n0\n", "0\n1\na b c\n"])
def test_a_damaged_checkpoint_costs_no_records(tmp_path: Path, name: str, content: str) -> None:
    store, expected = written(tmp_path / "data", 20)
    store.logs()[TP].set_high_watermark(20)
    close(store)
    (tmp_path / "data" / name).write_text(content)
    store = open_store(tmp_path / "data")
    assert read_all(store.logs()[TP]) == expected
    assert store.logs()[TP].high_watermark in (0, 20)
    close(store)


# --- epochs --------------------------------------------------------------------------------------


def with_epochs(directory: Path) -> DiskLogStore:
    """Offsets 0-3 of epoch 0, 4-5 of epoch 2, 6-9 of epoch 5; only the first two are stored."""
    store = open_store(directory)
    log = store.open(TP, TOPIC_ID, SMALL)
    log.store_epochs([EpochEntry(0, 0)])
    append_values(log, *[b"a" * 50] * 4, leader_epoch=0)
    log.store_epochs([EpochEntry(0, 0), EpochEntry(2, 4)])
    append_values(log, *[b"b" * 50] * 2, leader_epoch=2)
    append_values(log, *[b"c" * 50] * 4, leader_epoch=5)
    return store


EPOCHS = (EpochEntry(0, 0), EpochEntry(2, 4), EpochEntry(5, 6))


def test_epochs_that_were_not_stored_in_time_are_found_in_the_batches(tmp_path: Path) -> None:
    store = with_epochs(tmp_path / "data")
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    assert store.logs()[TP].recovered().epochs == EPOCHS
    asyncio.run(store.checkpoint())
    assert tuple(checkpoints.read_epochs(Disk(), copy / "orders-0") or ()) == EPOCHS
    close(store)


def test_an_epoch_that_is_added_is_stored_by_the_flush_of_its_first_batch(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, SMALL)
    epochs = [EpochEntry(0, 0), EpochEntry(2, 1)]
    log.store_epochs(epochs[:1])
    append_values(log, b"a", leader_epoch=0)
    assert checkpoints.read_epochs(Disk(), log.directory) is None
    asyncio.run(log.flush())
    assert checkpoints.read_epochs(Disk(), log.directory) == epochs[:1]
    log.store_epochs(epochs)
    asyncio.run(log.flush())
    asyncio.run(store.checkpoint())
    assert checkpoints.read_epochs(Disk(), log.directory) == epochs[:1]  # it has no batch yet
    append_values(log, b"b", leader_epoch=2)
    asyncio.run(store.checkpoint())
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    asyncio.run(log.flush())
    assert checkpoints.read_epochs(Disk(), log.directory) == epochs
    close(store)
    store = open_store(copy)
    assert store.logs()[TP].recovered().epochs == tuple(epochs)
    close(store)


def test_an_epoch_that_is_cut_is_gone_from_the_checkpoint_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, SMALL)
    log.store_epochs([EpochEntry(0, 0), EpochEntry(2, 1)])
    append_values(log, b"a", leader_epoch=0)
    append_values(log, b"b", leader_epoch=2)
    asyncio.run(log.flush())
    log.truncate_to(1)
    log.store_epochs([EpochEntry(0, 0), EpochEntry(3, 1)])
    assert checkpoints.read_epochs(Disk(), log.directory) == [EpochEntry(0, 0), EpochEntry(3, 1)]
    close(store)


def test_without_an_epoch_checkpoint_all_epochs_are_found_in_the_batches(tmp_path: Path) -> None:
    store = with_epochs(tmp_path / "data")
    close(store)
    (tmp_path / "data/orders-0/leader-epoch-checkpoint").unlink()
    store = open_store(tmp_path / "data")
    assert store.logs()[TP].recovered().epochs == EPOCHS
    close(store)


def test_stored_epochs_beyond_the_logs_end_are_cut(tmp_path: Path) -> None:
    store = with_epochs(tmp_path / "data")
    store.logs()[TP].store_epochs([*EPOCHS, EpochEntry(6, 10)])
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    os.truncate(segment_paths(copy)[-1], 0)
    store = open_store(copy)
    log = store.logs()[TP]
    recovered = log.recovered().epochs
    assert recovered == tuple(entry for entry in EPOCHS if entry.start_offset < log.log_end_offset)
    close(store)


def test_a_stale_epoch_checkpoint_yields_to_what_the_batches_say(tmp_path: Path) -> None:
    # Truncation stores epochs lazily: a crash may leave an epoch whose records were replaced.
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, CONFIG)
    log.store_epochs([EpochEntry(4, 0), EpochEntry(5, 3)])
    append_values(log, b"a", b"b", b"c", leader_epoch=4)
    append_values(log, b"d", leader_epoch=5)
    asyncio.run(log.flush())
    log.truncate_to(3)
    append_values(log, b"e", b"f", leader_epoch=4)
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    assert checkpoints.read_epochs(Disk(), copy / "orders-0") == [
        EpochEntry(4, 0),
        EpochEntry(5, 3),
    ]
    close(store)
    assert checkpoints.read_epochs(Disk(), tmp_path / "data/orders-0") == [EpochEntry(4, 0)]
    store = open_store(copy)
    assert store.logs()[TP].recovered().epochs == (EpochEntry(4, 0),)
    close(store)


def test_records_that_were_deleted_and_are_back_have_their_epochs_again(tmp_path: Path) -> None:
    # Deleted below 1, a new leader epoch at once, and killed before the log start was written.
    store = with_epochs(tmp_path / "data")
    log = store.logs()[TP]
    log.store_epochs(EPOCHS)
    asyncio.run(log.flush())
    asyncio.run(store.checkpoint())
    log.advance_log_start(1)
    log.store_epochs([EpochEntry(0, 1), *EPOCHS[1:]])
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(copy)
    recovered = store.logs()[TP].recovered()
    assert recovered.log_start_offset == 0
    assert recovered.epochs == EPOCHS
    close(store)


# --- producers and processes ---------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_producers_are_recovered(tmp_path: Path, clean: bool) -> None:
    store = open_store(tmp_path / "data")
    log = store.open(TP, TOPIC_ID, SMALL)
    for offset in range(40):
        append(log, batch(offset, producer_id=offset % 4, producer_epoch=0, base_sequence=offset))
    expected = log.load_producers()
    copy = crashed_copy(tmp_path / "data", tmp_path / "copy")
    close(store)
    store = open_store(tmp_path / "data" if clean else copy)
    assert store.logs()[TP].recovered().producers == expected
    close(store)


WRITER = """
import sys
from pathlib import Path
from tests.unit.log.helpers import *
store = open_store(Path(sys.argv[1]))
log = store.open(TP, TOPIC_ID, replace(CONFIG, segment_bytes=5000))
while True:
    append_values(log, b"%08d" % log.log_end_offset)
    print(log.log_end_offset, flush=True)
"""


def test_everything_that_a_killed_writer_said_it_appended_is_there(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    )
    said = 0
    try:
        assert writer.stdout is not None
        while said < 500:
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout:
            if line.endswith("\n"):
                said = int(line)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()  # type: ignore[union-attr]
    store = open_store(tmp_path / "data")
    log = store.logs()[TP]
    assert said <= log.log_end_offset <= said + 1
    assert [base for base, _ in read_all(log)] == list(range(log.log_end_offset))
    for offset in range(said):
        data = log.read(offset, 1, said)
        assert b"%08d" % offset in data
        assert split(data)[0].base_offset == offset
    close(store)
