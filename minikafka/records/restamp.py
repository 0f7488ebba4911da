"""Giving a finished batch another producer id, epoch and sequence (records/header.py has the
layout).

A producer that has to send a batch under a new epoch (KIP-360) must not compress it again: the
three fields have fixed places, and only the CRC covers them. No state.
"""

from __future__ import annotations

from struct import Struct

from crc32c import crc32c

from minikafka.records.header import CRC_START

_CRC_POSITION = 17
_CRC = Struct(">I")
_PRODUCER_POSITION = 43
_PRODUCER = Struct(">qhi")  # producer id, producer epoch, base sequence


def restamp(batch: bytes, producer_id: int, producer_epoch: int, base_sequence: int) -> bytes:
    """The same batch as of this producer; `batch` must be one whole, valid batch."""
    changed = bytearray(batch)
    _PRODUCER.pack_into(changed, _PRODUCER_POSITION, producer_id, producer_epoch, base_sequence)
    _CRC.pack_into(changed, _CRC_POSITION, crc32c(memoryview(changed)[CRC_START:]))
    return bytes(changed)
