"""All logs of one data directory: whose it is, opening, checkpointing, deleting, closing.

Layout (Kafka's names):

    <directory>/.lock, meta.properties, .clean-shutdown                 see meta.py
    <directory>/{replication,recovery-point,log-start,cleaner}-offset-checkpoint
    <directory>/<topic>-<partition>/partition.metadata                  the topic id
                                    leader-epoch-checkpoint
                                    <base offset>.log, .index, .timeindex, .snapshot
    <directory>/<topic>-<partition>.<random>-delete                     on its way out

State: the logs by partition, the files and folders that wait for their removal, the numbers of the
last checkpoint. Invariants: one process at a time (the lock); the clean-shutdown marker is on disk
only while nobody serves from the directory and everything in it has been flushed; checkpoint files
never say more than a log holds (`on_lowered`).

Opening and closing may take long and may run in any thread; all else is for the broker's loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minikafka.config import TopicConfig
from minikafka.errors import KafkaStorageError
from minikafka.log import checkpoints, meta
from minikafka.log.cleaner import MAP_BYTES, Cleaner
from minikafka.log.files import Disk
from minikafka.log.partition_log import DiskLog
from minikafka.log.recovery import Checkpointed, load_segments
from minikafka.log.unsynced import PARTITION_METADATA
from minikafka.model import UNKNOWN_BROKER_EPOCH, TopicPartition

_FOLDER = re.compile(r"(?P<topic>[a-zA-Z0-9._-]+)-(?P<partition>\d+)")
_DELETE_SUFFIX = "-delete"
_NAME_MAX = 255
_THREADS = 2
_logger = logging.getLogger("minikafka.log")


class DiskLogStore:
    """The LogStore of the ports, on disk."""

    def __init__(
        self,
        directory: Path,
        cluster_id: str,
        broker_id: int,
        default_config: TopicConfig,
        *,
        cleaner_map_bytes: int = MAP_BYTES,
        disk: Disk | None = None,
        boot_id: str | None = None,
        new_storage_id: Callable[[], str] = lambda: secrets.token_urlsafe(16),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the directory and every log in it (with `default_config` until `open` says better).

        UsageError if it is in use, or of another cluster or broker; KafkaStorageError if the disk
        fails.
        """
        self.disk = disk or Disk()
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="minikafka-log")
        self._directory = directory
        self._boot_id = meta.host_boot_id() if boot_id is None else boot_id
        self._monotonic = monotonic
        self._broker_epoch = UNKNOWN_BROKER_EPOCH
        self._logs: dict[TopicPartition, DiskLog] = {}
        self._trash: deque[tuple[float, Path]] = deque()
        self._checkpoint_lock = threading.Lock()
        self._checkpoint_number = 0
        self._written_number = 0
        self._written_clean_offsets: dict[TopicPartition, int] = {}
        self._let_go_already = False
        self._cleaner = Cleaner(self.disk, self.discard, cleaner_map_bytes)
        self._lock_fd = meta.lock(directory)
        try:
            self._open_all(cluster_id, broker_id, default_config, new_storage_id)
        except OSError as error:
            self._let_go()
            raise KafkaStorageError(f"data directory {directory} failed: {error}") from error
        except BaseException:
            self._let_go()
            raise

    @property
    def storage_id(self) -> str:
        return self._identity.storage_id

    @property
    def dirty(self) -> bool:
        return self._identity.dirty

    @property
    def directory(self) -> Path:
        return self._directory

    def logs(self) -> Mapping[TopicPartition, DiskLog]:
        """See the port."""
        return self._logs

    def record_broker_epoch(self, broker_epoch: int) -> None:
        self._broker_epoch = broker_epoch

    # --- opening ---------------------------------------------------------------------------------

    def _open_all(
        self,
        cluster_id: str,
        broker_id: int,
        default_config: TopicConfig,
        new_storage_id: Callable[[], str],
    ) -> None:
        for path in self._directory.glob(f"*{_DELETE_SUFFIX}"):
            shutil.rmtree(path, ignore_errors=True)
        found = {path: _parse_folder(path) for path in sorted(self._directory.iterdir())}
        folders = {path: tp for path, tp in found.items() if tp is not None}
        self._identity = meta.identify(
            self.disk,
            self._directory,
            cluster_id,
            broker_id,
            self._boot_id,
            new_storage_id,
            has_partitions=bool(folders),
        )
        said = self._read_checkpoints()
        self._written_clean_offsets = {
            tp: each.clean_offset for tp, each in said.items() if each.clean_offset
        }
        for folder, topic_partition in folders.items():
            self._logs[topic_partition] = self._load(
                folder,
                topic_partition,
                _read_topic_id(folder),
                default_config,
                said.get(topic_partition, Checkpointed()),
            )
        self._checkpointed = set(said)
        if not self._identity.clean:
            self.on_lowered()  # recovery may have cut
        meta.remove_clean_marker(self.disk, self._directory)

    def _read_checkpoints(self) -> dict[TopicPartition, Checkpointed]:
        tables = [
            checkpoints.read_offsets(self._directory / name)
            for name in (
                checkpoints.RECOVERY_POINTS,
                checkpoints.LOG_STARTS,
                checkpoints.HIGH_WATERMARKS,
                checkpoints.CLEAN_OFFSETS,
            )
        ]
        return {
            tp: Checkpointed(*(table.get(tp, 0) for table in tables)) for tp in set().union(*tables)
        }

    def _load(
        self,
        folder: Path,
        topic_partition: TopicPartition,
        topic_id: str,
        config: TopicConfig,
        said: Checkpointed,
    ) -> DiskLog:
        loaded = load_segments(self.disk, folder, config, said, self._identity.clean)
        return DiskLog(self, topic_partition, topic_id, folder, config, loaded)

    def open(self, topic_partition: TopicPartition, topic_id: str, config: TopicConfig) -> DiskLog:
        """See the port. KafkaStorageError if the disk does not allow it."""
        log = self._logs.get(topic_partition)
        try:
            if log is not None and log.topic_id not in (topic_id, ""):
                _logger.warning(
                    "%s: the log is of topic id %s, the topic is %s now: the log is deleted",
                    topic_partition,
                    log.topic_id,
                    topic_id,
                )
                self.delete(topic_partition, log.topic_id)
                log = None
            if log is None:
                return self._create(topic_partition, topic_id, config)
            if log.topic_id == "":
                _write_topic_id(self.disk, log.directory, topic_id)
                log.topic_id = topic_id
        except OSError as error:
            raise KafkaStorageError(
                f"log of {topic_partition} in {self._directory} cannot be opened: {error}"
            ) from error
        log.configure(config)
        return log

    def _create(
        self, topic_partition: TopicPartition, topic_id: str, config: TopicConfig
    ) -> DiskLog:
        if topic_partition in self._checkpointed:
            self.on_lowered()  # what was checkpointed of a deleted log must not count for this one
        folder = self._directory / str(topic_partition)
        folder.mkdir()
        _write_topic_id(self.disk, folder, topic_id)
        log = self._load(folder, topic_partition, topic_id, config, Checkpointed())
        log.configure(config)
        self._logs[topic_partition] = log
        return log

    # --- deleting --------------------------------------------------------------------------------

    def delete(self, topic_partition: TopicPartition, topic_id: str) -> None:
        """See the port. Does nothing if there is no such log."""
        log = self._logs.get(topic_partition)
        if log is None or log.topic_id not in (topic_id, ""):
            return
        suffix = f".{secrets.token_hex(16)}{_DELETE_SUFFIX}"
        name = str(topic_partition)[: _NAME_MAX - len(suffix)] + suffix
        target = self._directory / name
        try:
            log.close(durable=False)
            self.disk.rename(log.directory, target)
        except OSError as error:
            raise KafkaStorageError(
                f"log of {topic_partition} in {self._directory} cannot be deleted: {error}"
            ) from error
        del self._logs[topic_partition]
        self.executor.submit(shutil.rmtree, target, ignore_errors=True)

    def discard(self, paths: Iterable[Path], delay_ms: int) -> None:
        """See LogHost: unlinked by the first checkpoint after the delay, or at the next start."""
        due = self._monotonic() + delay_ms / 1000
        self._trash.extend((due, path) for path in paths)

    def _due_trash(self) -> list[Path]:
        now = self._monotonic()
        due = [path for at, path in self._trash if at <= now]
        if due:
            self._trash = deque(entry for entry in self._trash if entry[0] > now)
        return due

    # --- compaction ------------------------------------------------------------------------------

    async def compact(self, now_timestamp_ms: int) -> bool:
        """See the port."""
        cleaned = await self._cleaner.clean_dirtiest(self._logs.values(), now_timestamp_ms)
        if cleaned:
            await self.checkpoint()
        return cleaned

    # --- checkpoints -----------------------------------------------------------------------------

    async def checkpoint(self) -> None:
        """See the port. Also unlinks deleted segments. KafkaStorageError if the disk fails."""
        tables, number = self._gather(), self._checkpoint_number
        logs, trash = list(self._logs.values()), self._due_trash()

        def work() -> None:
            problems = [problem for log in logs if (problem := _write_epochs(log)) is not None]
            self._write_tables(tables, number)
            for path in trash:
                self.disk.remove(path)
            if problems:
                raise problems[0]

        try:
            await asyncio.get_running_loop().run_in_executor(self.executor, work)
        except OSError as error:
            raise KafkaStorageError(
                f"checkpoint of data directory {self._directory} failed: {error}"
            ) from error

    def on_lowered(self) -> None:
        """See LogHost."""
        self._write_tables(self._gather(), self._checkpoint_number)

    def _gather(self) -> dict[str, dict[TopicPartition, int]]:
        """The checkpoints of this moment, by file. Every gathering has a higher number."""
        self._checkpoint_number += 1
        self._checkpointed = set(self._logs)
        for log in self._logs.values():
            log.checkpointed_end = max(log.recovery_point, log.high_watermark, log.clean_offset)
        logs = self._logs.items()
        return {
            checkpoints.HIGH_WATERMARKS: {tp: log.high_watermark for tp, log in logs},
            checkpoints.RECOVERY_POINTS: {tp: log.recovery_point for tp, log in logs},
            checkpoints.LOG_STARTS: {
                tp: log.log_start_offset for tp, log in logs if log.log_start_offset
            },
            checkpoints.CLEAN_OFFSETS: {
                tp: log.clean_offset for tp, log in logs if log.clean_offset
            },
        }

    def _write_tables(self, tables: dict[str, dict[TopicPartition, int]], number: int) -> None:
        """Unless younger ones have been written. From any thread; OSError."""
        with self._checkpoint_lock:
            if number <= self._written_number:
                return
            for name, offsets in tables.items():
                if name != checkpoints.CLEAN_OFFSETS or offsets != self._written_clean_offsets:
                    checkpoints.write_offsets(self.disk, self._directory / name, offsets)
            self._written_clean_offsets = tables[checkpoints.CLEAN_OFFSETS]
            self._written_number = number

    # --- closing ---------------------------------------------------------------------------------

    async def close(self, clean: bool) -> None:
        """See the port. KafkaStorageError, after everything was let go of, if a log or checkpoint
        could not be written: then there is no clean-shutdown marker. Again does nothing."""
        if self._let_go_already:
            return
        self._cleaner.close()
        logs = list(self._logs.values())
        results = await asyncio.gather(*(log.flush() for log in logs), return_exceptions=True)
        problems: list[BaseException] = [r for r in results if isinstance(r, BaseException)]
        tables, number = self._gather(), self._checkpoint_number

        def work() -> None:
            for log in logs:
                try:
                    log.close(durable=True)
                except OSError as error:
                    problems.append(error)
            self._write_tables(tables, number)
            for _, path in self._trash:
                self.disk.remove(path)
            if clean and not problems and all(log.intact for log in logs):
                epoch = self._broker_epoch
                meta.write_clean_marker(self.disk, self._directory, epoch, self._boot_id)

        try:
            await asyncio.get_running_loop().run_in_executor(self.executor, work)
        except OSError as error:
            problems.append(error)
        finally:
            self._let_go()
        if problems:
            raise KafkaStorageError(
                f"data directory {self._directory} was not closed cleanly: {problems[0]}"
            ) from problems[0]

    def _let_go(self) -> None:
        self._let_go_already = True
        self._cleaner.close()
        self.executor.shutdown(wait=True)
        for log in self._logs.values():
            log.close(durable=False)
        os.close(self._lock_fd)


def _write_epochs(log: DiskLog) -> OSError | None:
    """In a thread. A log that failed or was deleted meanwhile is passed over."""
    try:
        if not log.failed and not log.closed:
            log.write_epochs()
    except OSError as error:
        return None if log.closed else error
    return None


def _parse_folder(path: Path) -> TopicPartition | None:
    match = _FOLDER.fullmatch(path.name)
    if match is None or not path.is_dir():
        return None
    return TopicPartition(match["topic"], int(match["partition"]))


def _read_topic_id(folder: Path) -> str:
    """ "" if it is not known: the next `open` gives the log its id then, as Kafka does."""
    try:
        text = (folder / PARTITION_METADATA).read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == "topic_id":
            return value.strip()
    _logger.warning("%s has no readable %s: its topic id is unknown", folder, PARTITION_METADATA)
    return ""


def _write_topic_id(disk: Disk, folder: Path, topic_id: str) -> None:
    content = f"version: 0\ntopic_id: {topic_id}\n"
    disk.write_file(folder / PARTITION_METADATA, content.encode(), durable=False)
