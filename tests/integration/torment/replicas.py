"""Compares the replicas of each partition on disk: what is committed must be the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from minikafka.log.dump import DumpedGarbage, dump_segment, segment_files
from tests.integration.torment.checker import Anomaly


def committed_bytes(folder: Path, high_watermark: int) -> tuple[bytes, str]:
    """The batches below the high watermark, one after the other, and what is wrong with them."""
    data: list[bytes] = []
    next_offset = 0
    for path in segment_files(folder):
        content = path.read_bytes()
        for batch in dump_segment(path):
            if isinstance(batch, DumpedGarbage):
                return b"".join(data), f"{path}: garbage at {batch.position}: {batch.problem}"
            header = batch.header
            if header.base_offset >= high_watermark:
                return b"".join(data), ""
            if not batch.crc_is_valid:
                return b"".join(data), f"{path}: a wrong CRC at offset {header.base_offset}"
            if header.base_offset != next_offset:
                return b"".join(data), f"{path}: offset {header.base_offset} after {next_offset}"
            next_offset = header.next_offset
            data.append(content[batch.position : batch.position + header.size_bytes])
    missing = f"{folder}: ends at {next_offset}, below the high watermark {high_watermark}"
    return b"".join(data), missing if next_offset < high_watermark else ""


def compare(data_dirs: Mapping[int, Path], partition: str, high_watermark: int) -> list[Anomaly]:
    """Of one partition, over all brokers whose data directory has it."""
    anomalies: list[Anomaly] = []
    found: dict[int, bytes] = {}
    for broker_id, directory in data_dirs.items():
        if (directory / partition).is_dir():
            found[broker_id], problem = committed_bytes(directory / partition, high_watermark)
            if problem:
                anomalies.append(Anomaly("replica damaged", partition, problem))
    first, *others = found
    for other in others:
        if found[other] != found[first]:
            shorter = min(len(found[first]), len(found[other]))
            at = next(
                (at for at in range(shorter) if found[first][at] != found[other][at]), shorter
            )
            anomalies.append(
                Anomaly(
                    "replicas differ",
                    partition,
                    f"brokers {first} and {other}, from committed byte {at} on "
                    f"({len(found[first])} and {len(found[other])} bytes)",
                )
            )
    return anomalies
