"""Strangers read what is stored: kafka-python and aiokafka, each by its own code, which nobody here
wrote. What no reader can read is a violation in the moment when a log takes it.

State: the CRCs of the batches that they have read (world.read_by_strangers): a follower takes the
same ones again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.record.default_records import DefaultRecordBatch as OfAiokafka
from kafka.record.default_records import DefaultRecordBatch as OfKafkaPython

from minikafka.model import BatchHeader

if TYPE_CHECKING:
    from tests.simulation.world import World

_LOG_APPEND_TIME = 0x08


def check_readable(world: World, where: object, header: BatchHeader, data: bytes) -> None:
    """A batch as a log takes it. Raises Violation."""
    if header.crc in world.read_by_strangers:
        return
    found: dict[str, list[tuple[Any, ...]]] = {}
    for name, read in (("kafka-python", _by_kafka_python), ("aiokafka", _by_aiokafka)):
        try:
            found[name] = read(data)
        except Exception as error:  # whatever a library says when it cannot read what is there
            told = f"{type(error).__name__}: {error}"
            raise world.violation("liar", f"{where}: {name} cannot read {header}: {told}") from None
    first, second = found.values()
    if first != second:
        raise world.violation("liar", f"{where}: {list(found)} read {header} differently")
    offsets = [offset for offset, *_ in first]
    first_offset = header.base_offset
    if offsets != list(
        range(first_offset, first_offset + len(first))
    ) or header.next_offset != first_offset + len(first):
        raise world.violation("liar", f"{where}: {header} holds offsets {offsets[:9]}")
    newest = max(-1, *(timestamp for _, timestamp, *_ in first))  # -1: none, as in Kafka
    if newest != header.max_timestamp_ms and not header.attributes & _LOG_APPEND_TIME:
        raise world.violation("liar", f"{where}: the newest record of {header} is of {newest}")
    world.read_by_strangers.add(header.crc)


def _by_kafka_python(data: bytes) -> list[tuple[Any, ...]]:
    batch = OfKafkaPython(data)
    if not batch.validate_crc():
        raise ValueError("the CRC is wrong")
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in batch]


def _by_aiokafka(data: bytes) -> list[tuple[Any, ...]]:
    batch = OfAiokafka(bytearray(data))
    if not batch.validate_crc():
        raise ValueError("the CRC is wrong")
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in batch]
