"""The journal: what was appended is there again, whatever happens to the end of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minikafka.zookeeper.embedded.journal import Journal, JournalError
from minikafka.zookeeper.embedded.model import (
    Acl,
    Create,
    Delete,
    Multi,
    SetAcl,
    SetData,
    Transaction,
    TreeImage,
)
from minikafka.zookeeper.embedded.records import encode_transaction
from minikafka.zookeeper.embedded.tree import Tree

SMALL_FILE_BYTES = 400


def some_transactions(count: int) -> list[Transaction]:
    """Transactions of every kind, from the birth of a tree."""
    tree = Tree()
    made = [tree.open_session(5_000, b"p" * 16, 0).transaction]
    session = next(iter(tree.sessions)).session_id
    requests = [
        Create("/a", b"data"),
        Create("/a/e", None, flags=1),
        SetData("/a", b"more"),
        SetAcl("/a", (Acl(31, "world", "anyone"), Acl(1, "ip", "10.0.0.1"))),
        Multi((Create("/m"), Delete("/m"), SetData("/a", None))),
        Delete("/a/e"),
        Create("/a/s-", flags=2),
    ]
    index = 0
    while len(made) < count:
        outcome = tree.request(session, requests[index % len(requests)], now_ms=index)
        if outcome.transaction is not None:
            made.append(outcome.transaction)
        index += 1
    return made


def image_after(transactions: list[Transaction]) -> TreeImage:
    tree = Tree()
    for txn in transactions:
        tree.apply(txn)
    return tree.image()


@contextmanager
def opened(directory: Path, warnings: list[str] | None = None) -> Iterator[tuple[Journal, Tree]]:
    warn = (lambda _message: None) if warnings is None else warnings.append
    journal, tree = Journal.open(directory, SMALL_FILE_BYTES, warn), Tree()
    try:
        journal.recover(tree, now_ms=0)
        yield journal, tree
    finally:
        journal.close()


def append(journal: Journal, transactions: list[Transaction]) -> None:
    journal.append(transactions[0].zxid, [encode_transaction(txn) for txn in transactions])


def logs_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("log.*"))


def snapshots_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("snapshot.*"))


def test_an_empty_directory_gives_an_empty_tree(tmp_path: Path) -> None:
    with opened(tmp_path / "new" / "dir") as (_, tree):
        assert tree.last_zxid == 0
        assert tree.image() == Tree().image()


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    made = some_transactions(20)
    with opened(tmp_path) as (journal, _):
        append(journal, made[:1])
        append(journal, made[1:5])
        append(journal, made[5:])
    with opened(tmp_path) as (_, tree):
        assert tree.image() == image_after(made)


def test_appending_goes_on_after_a_recovery(tmp_path: Path) -> None:
    made = some_transactions(20)
    for txn in made:
        with opened(tmp_path) as (journal, _):
            append(journal, [txn])
    with opened(tmp_path) as (_, tree):
        assert tree.image() == image_after(made)
    assert len(logs_of(tmp_path)) > 1


@pytest.mark.slow
def test_a_log_torn_at_any_byte_loses_the_torn_batch_and_nothing_else(tmp_path: Path) -> None:
    made = some_transactions(6)
    directory = tmp_path / "whole"
    ends = []
    with opened(directory) as (journal, _):
        for index in range(0, 6, 2):
            append(journal, made[index : index + 2])
            ends.append(logs_of(directory)[-1].stat().st_size)
    (log,) = logs_of(directory)
    whole = log.read_bytes()
    for size in range(len(whole) + 1):
        torn = tmp_path / f"torn-{size}"
        torn.mkdir()
        (torn / log.name).write_bytes(whole[:size])
        batches = sum(1 for end in ends if end <= size)
        with opened(torn) as (journal, tree):
            assert tree.image() == image_after(made[: 2 * batches]), size
            append(journal, made[2 * batches : 2 * batches + 1] or made[-1:])  # and goes on


def test_any_garbage_after_the_last_batch_is_cut(tmp_path: Path) -> None:
    made = some_transactions(3)
    with opened(tmp_path) as (journal, _):
        append(journal, made)
    (log,) = logs_of(tmp_path)
    size = log.stat().st_size
    log.write_bytes(log.read_bytes() + b"\xb5MKB" + bytes(100))
    warnings: list[str] = []
    with opened(tmp_path, warnings) as (_, tree):
        assert tree.image() == image_after(made)
    assert log.stat().st_size == size
    assert len(warnings) == 1


def test_damage_in_the_middle_is_not_taken_for_a_torn_tail(tmp_path: Path) -> None:
    made = some_transactions(4)
    directory = tmp_path / "whole"
    with opened(directory) as (journal, _):
        append(journal, made[:2])
        first_end = logs_of(directory)[0].stat().st_size
        append(journal, made[2:])
    (log,) = logs_of(directory)
    whole = log.read_bytes()
    for offset in range(8, first_end):
        log.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x55]) + whole[offset + 1 :])
        with pytest.raises(JournalError, match="damaged"), opened(directory):
            pass


def test_damage_in_an_earlier_file_is_not_taken_for_a_torn_tail(tmp_path: Path) -> None:
    made = some_transactions(20)
    with opened(tmp_path) as (journal, _):
        for txn in made:
            append(journal, [txn])
    first = logs_of(tmp_path)[0]
    os.truncate(first, first.stat().st_size - 1)
    with pytest.raises(JournalError, match="damaged"), opened(tmp_path):
        pass


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    made = some_transactions(20)
    with opened(tmp_path) as (journal, _):
        for txn in made:
            append(journal, [txn])
    logs_of(tmp_path)[1].unlink()
    with pytest.raises(JournalError, match="lost"), opened(tmp_path):
        pass


def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "log.old").write_text("mine")
    with pytest.raises(JournalError, match="does not belong"), opened(tmp_path):
        pass
    (tmp_path / "log.old").rename(tmp_path / "log.12")
    (tmp_path / "log.12").write_text("something longer than a magic")
    with pytest.raises(JournalError, match="not a log"), opened(tmp_path):
        pass
    assert (tmp_path / "log.12").exists()


@pytest.mark.parametrize("content", [b"", b"MKZK", bytes(8)])
def test_a_file_that_never_got_its_head_is_removed(tmp_path: Path, content: bytes) -> None:
    made = some_transactions(2)
    with opened(tmp_path) as (journal, _):
        append(journal, made)
    (tmp_path / f"log.{3:016x}").write_bytes(content)
    with opened(tmp_path) as (journal, tree):
        assert tree.image() == image_after(made)
        append(journal, some_transactions(3)[2:])
    with opened(tmp_path) as (_, tree):
        assert tree.image() == image_after(some_transactions(3))


# --- snapshots -----------------------------------------------------------------------------------


def fill(directory: Path, count: int, snapshots_at: tuple[int, ...]) -> list[Transaction]:
    """Append transactions one by one, with a snapshot after each number given."""
    made = some_transactions(count)
    with opened(directory) as (journal, tree):
        for txn in made:
            append(journal, [txn])
            tree.apply(txn)
            if txn.zxid in snapshots_at:
                journal.save_snapshot(tree.image())
    return made


def test_a_snapshot_and_the_log_after_it_give_the_tree(tmp_path: Path) -> None:
    made = fill(tmp_path, 30, snapshots_at=(7, 18))
    with opened(tmp_path) as (_, tree):
        assert tree.image() == image_after(made)
        tree.check_invariants()


def test_two_snapshots_are_kept_and_the_logs_that_they_need(tmp_path: Path) -> None:
    fill(tmp_path, 60, snapshots_at=(10, 20, 30, 40, 50))
    assert [int(path.suffix[1:], 16) for path in snapshots_of(tmp_path)] == [40, 50]
    first_zxids = [int(path.suffix[1:], 16) for path in logs_of(tmp_path)]
    assert first_zxids[0] <= 41 < first_zxids[1]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_snapshot_is_replaced_by_the_one_before(tmp_path: Path, damage: str) -> None:
    made = fill(tmp_path, 60, snapshots_at=(20, 40))
    newest = snapshots_of(tmp_path)[-1]
    whole = newest.read_bytes()
    damaged = {"cut": whole[:-1], "flip": whole[:30] + b"\xee" + whole[31:], "empty": b""}
    newest.write_bytes(damaged[damage])
    warnings: list[str] = []
    with opened(tmp_path, warnings) as (_, tree):
        assert tree.image() == image_after(made)
    assert "damaged" in warnings[0]


def test_without_any_good_snapshot_the_directory_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 60, snapshots_at=(10, 20, 40))
    for path in snapshots_of(tmp_path):
        path.write_bytes(b"no")
    with pytest.raises(JournalError), opened(tmp_path):
        pass
    for path in logs_of(tmp_path):
        path.unlink()
    with pytest.raises(JournalError, match="damaged"), opened(tmp_path):
        pass


def test_an_unfinished_snapshot_is_forgotten(tmp_path: Path) -> None:
    made = fill(tmp_path, 10, snapshots_at=())
    unfinished = tmp_path / f"snapshot.{10:016x}.tmp"
    unfinished.write_bytes(b"half")
    with opened(tmp_path) as (_, tree):
        assert tree.image() == image_after(made)
    assert not unfinished.exists()


def test_every_session_has_its_whole_timeout_after_a_recovery(tmp_path: Path) -> None:
    fill(tmp_path, 3, snapshots_at=())
    journal, tree = Journal.open(tmp_path), Tree()
    try:
        journal.recover(tree, now_ms=1_000_000)
        assert [session.deadline_ms for session in tree.sessions] == [1_005_000]
    finally:
        journal.close()


# --- the directory -------------------------------------------------------------------------------


def test_a_directory_belongs_to_one_journal_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(JournalError, match=f"process {os.getpid()}"):
        Journal.open(tmp_path)
    with opened(tmp_path):
        pass


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match="file"):
        Journal.open(tmp_path / "file")


def test_an_unreadable_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"log.{1:016x}").mkdir()
    with pytest.raises(JournalError), opened(tmp_path):
        pass
