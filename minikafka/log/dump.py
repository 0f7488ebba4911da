"""Looking into segment files without a log, and into the transaction indexes beside them: for
`minikafka log dump`. Opens read-only, takes no lock, and goes on after garbage. No state."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minikafka.errors import CorruptMessageError, MinikafkaError, UsageError
from minikafka.log.segment import LOG_SUFFIX, TRANSACTION_INDEX_SUFFIX
from minikafka.log.transaction_index import AbortedEntry, decode
from minikafka.model import CONTROL, BatchHeader, EndMarker
from minikafka.records.header import HEADER_BYTES, MAGIC, crc_of, parse_header
from minikafka.records.markers import read_marker
from minikafka.records.read import Record, iter_records

_MAGIC_AT = 16


@dataclass(frozen=True)
class DumpedBatch:
    """A batch at `position`. `records` are empty unless asked for; `problem` is why they are not
    all there. `marker`: what a control batch says of a transaction."""

    position: int
    header: BatchHeader
    crc_is_valid: bool
    records: tuple[Record, ...] = ()
    problem: str | None = None
    marker: EndMarker | None = None


@dataclass(frozen=True)
class DumpedGarbage:
    """Bytes that are no batch, up to the next one or the end of the file."""

    position: int
    size_bytes: int
    problem: str


def segment_files(path: Path) -> list[Path]:
    """The segment file itself, or those of a partition's folder in order. UsageError if neither."""
    if path.is_file():
        return [path]
    files = sorted(path.glob(f"*{LOG_SUFFIX}")) if path.is_dir() else []
    if not files:
        raise UsageError(
            f"{path} is neither a segment file nor a folder with some; give a *{LOG_SUFFIX} file "
            "or the folder <data directory>/<topic>-<partition>"
        )
    return files


def dump_segment(path: Path, records: bool = False) -> Iterator[DumpedBatch | DumpedGarbage]:
    """Everything in one segment file, in order; every byte belongs to exactly one of the results.

    OSError if the file cannot be read. A batch with a wrong CRC is told as such; what cannot be a
    batch is skipped up to the next one with a valid CRC.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            try:
                yield from _dump(content, view, records)
            finally:
                view.release()


def _dump(
    content: mmap.mmap, view: memoryview, records: bool
) -> Iterator[DumpedBatch | DumpedGarbage]:
    position, end = 0, len(view)
    while position < end:
        try:
            header = parse_header(view, position)
            if header.size_bytes > end - position:
                raise CorruptMessageError(
                    f"a batch of {header.size_bytes} bytes is cut off after {end - position}"
                )
        except CorruptMessageError as error:
            following = _next_batch(content, view, position + 1)
            yield DumpedGarbage(position, following - position, str(error))
            position = following
            continue
        valid = crc_of(view, position, header.size_bytes) == header.crc
        found: tuple[Record, ...] = ()
        problem = None
        if records:
            found, problem = _records(view, position, header)
        marker = _marker(view, position, header) if valid else None
        yield DumpedBatch(position, header, valid, found, problem, marker)
        position += header.size_bytes


def dump_aborted(segment: Path) -> tuple[Path, list[AbortedEntry], str | None]:
    """The transaction index beside a segment file, its entries, and why there may be more that
    cannot be read. OSError if the file cannot be read; none is no problem."""
    path = segment.with_suffix(TRANSACTION_INDEX_SUFFIX)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return path, [], None
    try:
        base_offset = int(segment.stem) if segment.stem.isdecimal() else 0
        return path, decode(content, base_offset, 2**63), None
    except ValueError as error:
        return path, [], str(error)


def _marker(view: memoryview, position: int, header: BatchHeader) -> EndMarker | None:
    if not header.attributes & CONTROL:
        return None
    try:
        return read_marker(view[position : position + header.size_bytes], header)
    except MinikafkaError:  # whoever asks for its records is told
        return None


def _records(
    view: memoryview, position: int, header: BatchHeader
) -> tuple[tuple[Record, ...], str | None]:
    found: list[Record] = []
    batch = bytes(view[position : position + header.size_bytes])
    try:
        for record in iter_records(batch, header):
            found.append(record)  # noqa: PERF402 -- those before the damage count
    except MinikafkaError as error:
        return tuple(found), str(error)
    return tuple(found), None


def _next_batch(content: mmap.mmap, view: memoryview, position: int) -> int:
    """Where the next whole batch with a valid CRC begins, from `position` on; else the end."""
    end = len(view)
    while position + HEADER_BYTES <= end:
        magic = content.find(bytes((MAGIC,)), position + _MAGIC_AT)
        if magic < 0:
            return end
        position = magic - _MAGIC_AT
        try:
            header = parse_header(view, position)
        except CorruptMessageError:
            position += 1
            continue
        fits = header.size_bytes <= end - position
        if fits and crc_of(view, position, header.size_bytes) == header.crc:
            return position
        position += 1
    return end
