"""Kafka's murmur2 and the sticky partitioner."""

import pytest

from minikafka.client.producing.partitioner import StickyPartitioner, murmur2, partition_for_key

# Apache Kafka's own expectations (UtilsTest.testMurmur2), as signed 32-bit numbers.
KAFKAS_VALUES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), KAFKAS_VALUES.items())
def test_murmur2_gives_kafkas_values(key, expected):
    assert murmur2(key) == expected & 0xFFFFFFFF


def test_a_key_goes_to_the_partition_that_kafkas_clients_choose():
    assert partition_for_key(b"foobar", 10) == (-790332482 & 0x7FFFFFFF) % 10


def test_keyless_records_stick_to_a_partition_until_it_has_had_its_bytes():
    sticky = StickyPartitioner(100, iter([0.0, 0.9, 0.0, 0.9]).__next__)
    chosen = [sticky.choose(50, 3, [0, 1, 2]) for _ in range(6)]
    assert chosen == [0, 0, 2, 2, 0, 0]


def test_a_partition_without_a_leader_is_left_and_not_chosen():
    sticky = StickyPartitioner(1000, lambda: 0.0)
    assert sticky.choose(1, 3, [0, 1, 2]) == 0
    sticky.keep_to([1, 2])
    assert sticky.choose(1, 3, [1, 2]) == 1


def test_without_any_leader_all_partitions_are_candidates():
    assert StickyPartitioner(10, lambda: 0.99).choose(1, 3, []) == 2


def test_a_single_partition_is_chosen_again_and_again():
    sticky = StickyPartitioner(1, lambda: 0.5)
    assert [sticky.choose(10, 1, [0]) for _ in range(3)] == [0, 0, 0]
