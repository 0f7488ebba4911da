"""All logs of one data directory: whose it is, opening, checkpointing, deleting, closing.

Layout (Kafka's names):

    <directory>/.lock, meta.properties, .clean-shutdown                 see meta.py
    <directory>/{replication,recovery-point,log-start,cleaner}-offset-checkpoint
    <directory>/<topic>-<partition>/partition.metadata                  the topic id
                                    leader-epoch-checkpoint
                                    <base offset>.log, .index, .timeindex, .snapshot,
                                    .txnindex
    <directory>/<topic>-<partition>.<random>-delete                     on its way out

State: the logs by partition, the folders that could not be opened (each offline by itself; all
others are served), the files and folders that wait for their removal, what the checkpoints are to
say (offset_tables.py), and which logs are compacted or fenced. Invariants: one process at a time
(the lock); the clean-shutdown marker is on disk only while nobody serves from the directory and
everything in it has been flushed; checkpoint files never say more than a log holds (`on_lowered`).

Opening and closing may take long and may run in any thread; all else is for the broker's loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minikafka.config import TopicConfig
from minikafka.errors import KafkaStorageError, MinikafkaError, ResourceShortageError
from minikafka.log import checkpoints, meta
from minikafka.log.cleaner import MAP_BYTES, Cleaner
from minikafka.log.failures import describe, is_shortage
from minikafka.log.files import DIRECTORY_MODE, Disk
from minikafka.log.folders import (
    DELETE_SUFFIX,
    UnusableLog,
    deleted_name,
    parse_folder,
    read_topic_id,
    reason_for,
    remove_quietly,
    write_topic_id,
)
from minikafka.log.offset_tables import OffsetTables
from minikafka.log.open_files import UNLIMITED, OpenFiles
from minikafka.log.partition_log import DiskLog
from minikafka.log.recovery import (
    Checkpointed,
    LoadedSegments,
    first_segment,
    load_segments,
)
from minikafka.model import UNKNOWN_BROKER_EPOCH, TopicPartition

THREADS = 2
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
        max_open_files: int = UNLIMITED,
        threads: int = THREADS,
        disk: Disk | None = None,
        boot_id: str | None = None,
        new_storage_id: Callable[[], str] = lambda: secrets.token_urlsafe(16),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the directory and every log in it (with `default_config` until `open` says better).
        `max_open_files`: what logs may keep open between two calls; `threads`: for fsyncs,
        checkpoints and deletions.

        UsageError if it is in use, or of another cluster or broker; KafkaStorageError if the disk
        fails under the directory itself. A single log that fails is offline, and no more.
        """
        self.disk = disk or Disk()
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="minikafka-log")
        self.open_files = OpenFiles(max_open_files, monotonic)
        self._directory = directory
        self._boot_id = meta.host_boot_id() if boot_id is None else boot_id
        self._monotonic = monotonic
        self._broker_epoch = UNKNOWN_BROKER_EPOCH
        self._logs: dict[TopicPartition, DiskLog] = {}
        self._unusable: dict[TopicPartition, UnusableLog] = {}
        self._trash: deque[tuple[float, Path]] = deque()
        self._checkpoints = OffsetTables(self.disk, directory)
        self.changed = self._checkpoints.changed
        self.compacted: dict[DiskLog, None] = {}
        self.fenced: dict[TopicPartition, str] = {}
        self._let_go_already = False
        self._making: asyncio.Future[None] | None = None
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

    def fenced_logs(self) -> Collection[TopicPartition]:
        """See the port."""
        return list(self.fenced)

    # --- opening ---------------------------------------------------------------------------------

    def _open_all(
        self,
        cluster_id: str,
        broker_id: int,
        default_config: TopicConfig,
        new_storage_id: Callable[[], str],
    ) -> None:
        for name in self.disk.names(self._directory, DELETE_SUFFIX):
            remove_quietly(self.disk, self._directory / name)
        paths = [self._directory / name for name in sorted(self.disk.listdir(self._directory))]
        found = {path: parse_folder(path) for path in paths}
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
        said = self._checkpoints.read()
        for folder, topic_partition in folders.items():
            each = said.get(topic_partition, Checkpointed())
            self._try_to_load(folder, topic_partition, default_config, each)
        for topic_partition in said.keys() - self._logs.keys() - self._unusable.keys():
            self._checkpoints.remove(topic_partition)
        for log in self._logs.values():
            self._checkpoints.take(log)
        if not self._identity.clean:
            self._checkpoint_after_recovery()
        meta.remove_clean_marker(self.disk, self._directory)

    def _try_to_load(
        self,
        folder: Path,
        topic_partition: TopicPartition,
        config: TopicConfig,
        said: Checkpointed,
    ) -> None:
        """One log that cannot be opened keeps no other from it, whatever is wrong with it."""
        topic_id = ""
        try:
            topic_id = read_topic_id(self.disk, folder)
            log = self._load(folder, topic_partition, topic_id, config, said)
        except Exception as error:
            reason = reason_for(topic_partition, folder, error)
            _logger.error("%s", reason, exc_info=None if isinstance(error, OSError) else error)
            self._unusable[topic_partition] = UnusableLog(folder, topic_id, reason)
        else:
            self._logs[topic_partition] = log

    def _checkpoint_after_recovery(self) -> None:
        """Recovery may have cut: no checkpoint may say more. On a disk that is full it is enough
        that there is none of the recovery points. OSError."""
        try:
            self.on_lowered()
        except OSError as error:
            _logger.error("the checkpoints cannot be written: %s", error)
            self.disk.remove(self._directory / checkpoints.RECOVERY_POINTS)

    def _load(
        self,
        folder: Path,
        topic_partition: TopicPartition,
        topic_id: str,
        config: TopicConfig,
        said: Checkpointed,
    ) -> DiskLog:
        clean = self._identity.clean and topic_partition not in self._identity.failed
        loaded = load_segments(self.disk, folder, config, said, clean)
        return DiskLog(self, topic_partition, topic_id, folder, config, loaded)

    def open(self, topic_partition: TopicPartition, topic_id: str, config: TopicConfig) -> DiskLog:
        """See the port. KafkaStorageError if the disk does not allow it, ResourceShortageError if
        it may be tried again soon."""
        try:
            unusable = self._unusable.get(topic_partition)
            if unusable is not None:
                if unusable.topic_id in (topic_id, ""):
                    raise KafkaStorageError(unusable.reason)
                self.delete(topic_partition, unusable.topic_id)
            log = self._logs.get(topic_partition)
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
                write_topic_id(self.disk, log.directory, topic_id)
                log.topic_id = topic_id
        except MinikafkaError:
            raise
        except Exception as error:
            kind = ResourceShortageError if is_shortage(error) else KafkaStorageError
            raise kind(
                f"log of {topic_partition} in {self._directory} cannot be opened: {describe(error)}"
            ) from error
        log.configure(config)
        return log

    async def make(self, wanted: Sequence[tuple[TopicPartition, str, TopicConfig]]) -> None:
        """See the port. Who gives up on it leaves the work to its end: what is made is entered."""
        await self._made()
        missing = [
            (tp, topic_id, config)
            for tp, topic_id, config in wanted
            # Where there is more to do than to make a folder, `open` does it.
            if tp not in self._logs
            and tp not in self._unusable
            and not self._checkpoints.may_say(tp)
        ]
        if missing and not self._let_go_already:
            self._making = making = asyncio.ensure_future(self._make(missing))
            await self._made()
            making.result()

    async def _made(self) -> None:
        """Wait until no log is being made any more. Who is cancelled here does not cancel that."""
        if self._making is not None:
            await asyncio.wait({self._making})

    async def _make(self, missing: Sequence[tuple[TopicPartition, str, TopicConfig]]) -> None:
        def work() -> list[LoadedSegments | None]:
            return [self._try_to_make_folder(tp, topic_id) for tp, topic_id, _ in missing]

        made = await asyncio.get_running_loop().run_in_executor(self.executor, work)
        for (tp, topic_id, config), loaded in zip(missing, made, strict=True):
            if loaded is not None:
                self._enter(tp, topic_id, config, loaded)

    def _try_to_make_folder(
        self, topic_partition: TopicPartition, topic_id: str
    ) -> LoadedSegments | None:
        try:
            return self._make_folder(topic_partition, topic_id)
        except Exception as error:
            _logger.debug("%s: not made yet: %r", topic_partition, error)
            return None  # `open` will try again, and say what is wrong

    def _create(
        self, topic_partition: TopicPartition, topic_id: str, config: TopicConfig
    ) -> DiskLog:
        if self._checkpoints.may_say(topic_partition):
            self.on_lowered()  # what was checkpointed of a deleted log must not count for this one
        loaded = self._make_folder(topic_partition, topic_id)
        return self._enter(topic_partition, topic_id, config, loaded)

    def _folder(self, topic_partition: TopicPartition) -> Path:
        return self._directory / str(topic_partition)

    def _make_folder(self, topic_partition: TopicPartition, topic_id: str) -> LoadedSegments:
        """With an empty log in it, which `_enter` makes one of ours; in any thread. Whatever it
        raises, there is no such folder."""
        folder = self._folder(topic_partition)
        self.disk.mkdir(folder, DIRECTORY_MODE)
        try:
            write_topic_id(self.disk, folder, topic_id)
            return first_segment(self.disk, folder)
        except BaseException:
            remove_quietly(self.disk, folder)
            raise

    def _enter(
        self,
        topic_partition: TopicPartition,
        topic_id: str,
        config: TopicConfig,
        loaded: LoadedSegments,
    ) -> DiskLog:
        folder = self._folder(topic_partition)
        log = DiskLog(self, topic_partition, topic_id, folder, config, loaded)
        log.configure(config)
        self._logs[topic_partition] = log
        self._checkpoints.take(log)
        return log

    # --- deleting --------------------------------------------------------------------------------

    def delete(self, topic_partition: TopicPartition, topic_id: str) -> None:
        """See the port. Does nothing if there is no such log."""
        log: DiskLog | UnusableLog | None
        log = self._logs.get(topic_partition) or self._unusable.get(topic_partition)
        if log is None or log.topic_id not in (topic_id, ""):
            return
        target = self._directory / deleted_name(topic_partition)
        try:
            if isinstance(log, DiskLog):
                log.close(durable=False)
            self.disk.rename(log.directory, target)
        except OSError as error:
            raise KafkaStorageError(
                f"log of {topic_partition} in {self._directory} cannot be deleted: {error}"
            ) from error
        self._logs.pop(topic_partition, None)
        self._unusable.pop(topic_partition, None)
        self.fenced.pop(topic_partition, None)
        if isinstance(log, DiskLog):
            self.compacted.pop(log, None)
        self._checkpoints.remove(topic_partition)
        self.executor.submit(remove_quietly, self.disk, target)

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
        cleaned = await self._cleaner.clean_dirtiest(list(self.compacted), now_timestamp_ms)
        if cleaned:
            await self.checkpoint()
        return cleaned

    # --- checkpoints -----------------------------------------------------------------------------

    async def checkpoint(self, recovery_points: bool = True) -> None:
        """See the port. Also unlinks deleted segments, and has idle logs rest. KafkaStorageError if
        the disk fails."""
        self.open_files.rest_idle()
        await self._checkpoints.take_changed_in_slices()
        copies, owing = self._checkpoints.copies(recovery_points), list(self._checkpoints.owing)
        trash = self._due_trash()
        if not copies and not owing and not trash:
            return

        def work() -> list[Exception]:
            problems = [problem for log in owing if (problem := _write_epochs(log)) is not None]
            try:
                self._checkpoints.write(copies, aside=True)
            except Exception as error:
                problems.append(error)
            return problems + self._empty_trash(trash)

        problems = await asyncio.get_running_loop().run_in_executor(self.executor, work)
        self._checkpoints.settle(owing)
        if problems:
            raise KafkaStorageError(
                f"checkpoint of data directory {self._directory} failed: {describe(problems[0])}"
            ) from problems[0]

    def _empty_trash(self, paths: Iterable[Path]) -> list[Exception]:
        """In a thread. What cannot be unlinked now is tried again with the next checkpoint."""
        problems: list[Exception] = []
        for path in paths:
            try:
                self.disk.remove(path)
            except Exception as error:
                problems.append(error)
                self._trash.append((self._monotonic(), path))
        return problems

    def on_lowered(self) -> None:
        """See LogHost."""
        self._checkpoints.take_changed()
        self._checkpoints.write(self._checkpoints.copies())

    # --- closing ---------------------------------------------------------------------------------

    async def close(self, clean: bool) -> None:
        """See the port. KafkaStorageError, after everything was let go of, if a log or checkpoint
        could not be written: then there is no clean-shutdown marker. Again does nothing."""
        if self._let_go_already:
            return
        self._cleaner.close()
        await self._made()
        logs = list(self._logs.values())
        results = await asyncio.gather(*(log.flush() for log in logs), return_exceptions=True)
        problems: list[BaseException] = [r for r in results if isinstance(r, BaseException)]
        for log in logs:
            self._checkpoints.take(log)
        copies = self._checkpoints.copies()

        def work() -> None:
            for log in logs:
                try:
                    log.close(durable=True)
                except Exception as error:
                    problems.append(error)
            self._checkpoints.write(copies)
            problems.extend(self._empty_trash([path for _, path in self._trash]))
            if clean and not problems and all(log.intact for log in logs):
                failed = [log.topic_partition for log in logs if log.failed]
                epoch = self._broker_epoch
                meta.write_clean_marker(self.disk, self._directory, epoch, self._boot_id, failed)

        try:
            await asyncio.get_running_loop().run_in_executor(self.executor, work)
        except Exception as error:
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
            try:
                log.close(durable=False)
            except Exception as error:
                _logger.error("%s: was not closed well: %r", log.topic_partition, error)
        os.close(self._lock_fd)


def _write_epochs(log: DiskLog) -> Exception | None:
    """In a thread. A log that failed or was deleted meanwhile is passed over."""
    try:
        if not log.failed and not log.closed:
            log.write_epochs()
    except Exception as error:
        return None if log.closed else error
    return None
