"""Whose data directory this is, and how it was left.

    .lock              held by flock while a process uses the directory; says that process's id
    meta.properties    version, cluster.id, broker.id, storage.id, boot.id
    .clean-shutdown    broker epoch and boot id of the incarnation that shut down cleanly, and which
                       logs had failed by then: those are looked through as after a crash

Kafka's format for meta.properties (key=value lines). The storage id names this disk's content, the
boot id the boot of the host under which the directory was last used.

The dirty rule (replication.md, storage identity): no clean-shutdown marker *and* another boot id
than last time means that the host went down under us, so that what was acknowledged may be missing.
A directory that is found so gets a new storage id at once, written together with the new boot id:
even if this incarnation dies before the controller has heard that it is dirty, the log that is
missing something can never be taken for the one it was.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from minikafka.errors import UsageError
from minikafka.log.files import DIRECTORY_MODE, FILE_MODE, Disk
from minikafka.model import TopicPartition

META = "meta.properties"
CLEAN_SHUTDOWN = ".clean-shutdown"
LOCK = ".lock"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_VERSION = "1"
_FAILED = "failed"
_logger = logging.getLogger("minikafka.log")


@dataclass(frozen=True)
class Identity:
    """What opening found: `clean` and `dirty` are of the stop before this start; `failed` are the
    logs that had failed when it was clean."""

    storage_id: str
    clean: bool
    dirty: bool
    failed: frozenset[TopicPartition] = frozenset()


def host_boot_id() -> str:
    """Names the boot of this host; "" where the system does not tell (then no start is ever taken
    for one after a reboot)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def lock(directory: Path) -> int:
    """Take the directory for this process: a file descriptor, to be closed to let go of it.

    UsageError if another process has it, or if it cannot be used as a directory.
    """
    try:
        directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise UsageError(
            f"data directory {directory} cannot be used: {error}; it must be a folder that this "
            "user may write in"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise UsageError(
            f"data directory {directory} is in use by another process (pid {holder}); stop that "
            "broker or give this one a directory of its own"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def identify(
    disk: Disk,
    directory: Path,
    cluster_id: str,
    broker_id: int,
    boot_id: str,
    new_storage_id: Callable[[], str],
    has_partitions: bool,
) -> Identity:
    """Check that the directory is this broker's (UsageError if not), make it so if it is empty, and
    judge how it was left. OSError if it cannot be written."""
    found = _read_properties(disk, directory / META)
    if found is None:
        if has_partitions:
            raise UsageError(
                f"data directory {directory} holds partitions but no {META}, so it cannot be told "
                f"whose they are; put {META} back, or use an empty directory"
            )
        storage_id = new_storage_id()
        _write_meta(disk, directory, cluster_id, broker_id, storage_id, boot_id)
        return Identity(storage_id, clean=False, dirty=False)
    _check_owner(directory, found, cluster_id, broker_id)
    clean = (directory / CLEAN_SHUTDOWN).exists()
    storage_id = found.get("storage.id", "")
    rebooted = found.get("boot.id") != boot_id
    dirty = not clean and rebooted
    if dirty:
        _logger.warning(
            "the host was booted since %s was last used, and it was not shut down cleanly: what "
            "was acknowledged may be missing; its storage id %s ends here",
            directory,
            storage_id,
        )
        storage_id = new_storage_id()
    if rebooted:
        _write_meta(disk, directory, cluster_id, broker_id, storage_id, boot_id)
    failed = _read_failed(disk, directory) if clean else frozenset()
    return Identity(storage_id, clean, dirty, failed)


def _read_failed(disk: Disk, directory: Path) -> frozenset[TopicPartition]:
    found = set()
    for line in disk.read_file(directory / CLEAN_SHUTDOWN).decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        topic, _, partition = value.rpartition("-")
        if key == _FAILED and partition.isdecimal():
            found.add(TopicPartition(topic, int(partition)))
    return frozenset(found)


def write_clean_marker(
    disk: Disk,
    directory: Path,
    broker_epoch: int,
    boot_id: str,
    failed: Iterable[TopicPartition] = (),
) -> None:
    """`failed`: logs whose files may be other than the log says. Raises OSError."""
    content = f"broker.epoch={broker_epoch}\nboot.id={boot_id}\n"
    content += "".join(f"{_FAILED}={topic_partition}\n" for topic_partition in failed)
    disk.write_file(directory / CLEAN_SHUTDOWN, content.encode(), durable=True)


def remove_clean_marker(disk: Disk, directory: Path) -> None:
    """Durably: from here on this incarnation has to earn it. Raises OSError."""
    disk.remove(directory / CLEAN_SHUTDOWN)
    disk.sync_directory(directory)


def _check_owner(directory: Path, found: dict[str, str], cluster_id: str, broker_id: int) -> None:
    version = found.get("version")
    if version != _VERSION or not found.get("storage.id"):
        raise UsageError(
            f"{directory / META} cannot be used: it needs version={_VERSION} and a storage.id"
        )
    if found.get("cluster.id") != cluster_id:
        raise UsageError(
            f"data directory {directory} belongs to cluster {found.get('cluster.id')}; this is "
            f"cluster {cluster_id}; use that cluster's ZooKeeper or another directory"
        )
    if found.get("broker.id") != str(broker_id):
        raise UsageError(
            f"data directory {directory} belongs to broker {found.get('broker.id')}; this is "
            f"broker {broker_id}; set broker.id={found.get('broker.id')} or use another directory"
        )


def _read_properties(disk: Disk, path: Path) -> dict[str, str] | None:
    try:
        lines = disk.read_file(path).decode().splitlines()
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{path} is not text; it must hold key=value lines") from error
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _write_meta(
    disk: Disk, directory: Path, cluster_id: str, broker_id: int, storage_id: str, boot_id: str
) -> None:
    content = (
        f"version={_VERSION}\ncluster.id={cluster_id}\nbroker.id={broker_id}\n"
        f"storage.id={storage_id}\nboot.id={boot_id}\n"
    )
    disk.write_file(directory / META, content.encode(), durable=True)
