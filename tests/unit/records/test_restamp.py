"""A restamped batch is the batch that would have been built for that producer."""

import pytest

from minikafka.records.build import BatchBuilder
from minikafka.records.compression import Codec
from minikafka.records.header import parse_header, verify_crc
from minikafka.records.restamp import restamp


@pytest.mark.parametrize("codec", Codec)
def test_a_restamped_batch_equals_one_built_with_these_values(codec):
    def build(*producer):
        builder = BatchBuilder()
        for number in range(10):
            builder.append(b"k", b"v" * 100, (("h", None),), 1000 + number)
        return builder.build(codec, *producer)

    changed = restamp(build(7, 0, 5), 2**40, 3, 2**31 - 1)
    assert changed == build(2**40, 3, 2**31 - 1)
    header = parse_header(changed)
    verify_crc(changed, 0, header)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (
        2**40,
        3,
        2**31 - 1,
    )
