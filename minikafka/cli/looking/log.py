"""`minikafka log dump`: what lies in a segment, with CRC verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import format_option
from minikafka.cli.kit.output import (
    print_json_line,
    say,
)
from minikafka.watching.text import text_or_base64

if TYPE_CHECKING:
    from minikafka.log.dump import DumpedBatch, DumpedGarbage
    from minikafka.log.transaction_index import AbortedEntry
    from minikafka.model import EndMarker

_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_CODEC_MASK = 0x07
_TRANSACTIONAL = 0x10
_CONTROL = 0x20


@click.group("log", cls=SuggestingGroup)
def command() -> None:
    """Look into the files of a log. Reads only, also while a broker writes."""


@command.command("dump")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--records", is_flag=True, help="Show each record, not only the batches.")
@format_option
@click.pass_context
def dump(ctx: click.Context, path: Path, records: bool, output_format: str) -> None:
    """Show the record batches of PATH, a *.log file or the folder of a partition.

    Each batch comes with the verdict on its CRC; bytes that are no batch are told as such. After a
    segment come the transactions that its index says were aborted. Exit status 1 if there was any
    damage. A batch cut off at the end of the last segment is what a crash leaves behind, or one
    that a broker is just writing.
    """
    from minikafka.log.dump import DumpedBatch, dump_aborted, dump_segment, segment_files

    damaged = False
    for segment in segment_files(path):
        if output_format == "table":
            say(f"segment {segment}")
        for item in dump_segment(segment, records):
            damaged |= not isinstance(item, DumpedBatch) or not item.crc_is_valid
            damaged |= isinstance(item, DumpedBatch) and item.problem is not None
            if output_format == "json":
                print_json_line(item_document(segment, item, records))
            else:
                for line in item_lines(item):
                    say(line)
        index, entries, problem = dump_aborted(segment)
        damaged |= problem is not None
        for entry in entries:
            if output_format == "json":
                print_json_line({"index": str(index), **entry._asdict()})
            else:
                say(aborted_line(entry))
        if problem is not None:
            if output_format == "json":
                print_json_line({"index": str(index), "problem": problem})
            else:
                say(f"transaction index {index}: {problem}")
    ctx.exit(1 if damaged else 0)


def item_document(
    segment: Path, item: DumpedBatch | DumpedGarbage, records: bool
) -> dict[str, Any]:
    """The JSON document of a batch or of bytes that are none."""
    from minikafka.log.dump import DumpedGarbage

    document: dict[str, Any] = {"segment": str(segment), "position": item.position}
    if isinstance(item, DumpedGarbage):
        return document | {
            "batch": False,
            "size_bytes": item.size_bytes,
            "problem": item.problem,
        }
    header = item.header
    document |= {
        "batch": True,
        "size_bytes": header.size_bytes,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "record_count": header.record_count,
        "leader_epoch": header.leader_epoch,
        "base_timestamp_ms": header.base_timestamp_ms,
        "max_timestamp_ms": header.max_timestamp_ms,
        "compression": _codec(header.attributes),
        "transactional": bool(header.attributes & _TRANSACTIONAL),
        "control": bool(header.attributes & _CONTROL),
        "marker": None if item.marker is None else _marker_document(item.marker),
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "crc": header.crc,
        "crc_is_valid": item.crc_is_valid,
    }
    if records:
        document["problem"] = item.problem
        document["records"] = [
            {
                "offset": record.offset,
                "timestamp_ms": record.timestamp_ms,
                "key": text_or_base64(record.key),
                "value": text_or_base64(record.value),
                "headers": [[name, text_or_base64(value)] for name, value in record.headers],
            }
            for record in item.records
        ]
    return document


def item_lines(item: DumpedBatch | DumpedGarbage) -> list[str]:
    """The same for a person: a line a batch, an indented line a record."""
    from minikafka.log.dump import DumpedGarbage

    if isinstance(item, DumpedGarbage):
        return [f"position {item.position}: {item.size_bytes} bytes are no batch: {item.problem}"]
    header = item.header
    producer = (
        f" producer {header.producer_id}/{header.producer_epoch} sequence {header.base_sequence}"
        if header.producer_id >= 0
        else ""
    )
    flags = "".join(
        word
        for bit, word in ((_TRANSACTIONAL, " transactional"), (_CONTROL, " control"))
        if header.attributes & bit
    )
    if item.marker is not None:
        said = _marker_document(item.marker)
        flags += f" {said['type']} of coordinator epoch {said['coordinator_epoch']}"
    verdict = "crc ok" if item.crc_is_valid else "CRC WRONG"
    lines = [
        f"position {item.position}: offsets {header.base_offset}..{header.last_offset} "
        f"({header.record_count} records, {header.size_bytes} bytes) "
        f"leader epoch {header.leader_epoch} {_codec(header.attributes)}{producer}{flags} {verdict}"
    ]
    for record in item.records:
        key = "" if record.key is None else f" key {record.key!r}"
        headers = "".join(f" {name}={value!r}" for name, value in record.headers)
        lines.append(
            f"  offset {record.offset} timestamp {record.timestamp_ms}{key} "
            f"value {record.value!r}{headers}"
        )
    if item.problem:
        lines.append(f"  records broken off: {item.problem}")
    return lines


def aborted_line(entry: AbortedEntry) -> str:
    """An entry of a transaction index for a person."""
    return (
        f"aborted: producer {entry.producer_id} offsets {entry.first_offset}..{entry.last_offset} "
        f"last stable offset {entry.last_stable_offset}"
    )


def _marker_document(marker: EndMarker) -> dict[str, Any]:
    return {
        "type": "commit" if marker.commits else "abort",
        "coordinator_epoch": marker.coordinator_epoch,
    }


def _codec(attributes: int) -> str:
    codec = attributes & _CODEC_MASK
    return _CODECS[codec] if codec < len(_CODECS) else f"codec {codec}"
