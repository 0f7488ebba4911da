"""The walk over a batch's records, compiled and in Python: the same answers, whatever comes."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minikafka.records import walk as walking
from minikafka.records.build import BatchBuilder, encode_varint
from minikafka.records.header import HEADER_BYTES
from minikafka.records.walk import NAMED_AT_MOST, walk_in_python
from tests.helpers.amounts import amount

TWINS = [walk_in_python]
if walking.COMPILED:
    TWINS.append(walking.walk)
ALWAYS = (-(2**63), 2**63 - 1)


def record(
    delta: int,
    key: bytes | None = b"k",
    value: bytes | None = b"v",
    timestamp_delta: int = 0,
    headers: bytes = b"\x00",
) -> bytes:
    def with_length(content: bytes | None) -> bytes:
        return b"\x01" if content is None else encode_varint(len(content)) + content

    body = b"\x00" + encode_varint(timestamp_delta) + encode_varint(delta)
    body += with_length(key) + with_length(value) + headers
    return encode_varint(len(body)) + body


def sized(body: bytes) -> bytes:
    return encode_varint(len(body)) + body


@pytest.fixture(params=TWINS, ids=lambda twin: "python" if twin is walk_in_python else "compiled")
def walk(request: pytest.FixtureRequest) -> walking.Walk:
    return request.param


class TestWhatIsRight:
    def test_records_are_counted_and_the_largest_timestamp_is_found(self, walk):
        data = record(0, timestamp_delta=5) + record(1, timestamp_delta=9) + record(2)
        found = walk(data, 0, 3, 0, 1_000, False, *ALWAYS)
        assert found == (len(data), 3, 0, 1_009, 1, None, None, None)

    def test_the_first_of_several_records_with_the_largest_timestamp_is_named(self, walk):
        data = record(0) + record(1, timestamp_delta=3) + record(2, timestamp_delta=3)
        assert walk(data, 0, 3, 0, 0, False, *ALWAYS)[3:5] == (3, 1)

    def test_records_without_a_timestamp_have_none_that_is_largest(self, walk):
        assert walk(record(0), 0, 1, 0, -1, False, *ALWAYS)[3:5] == (-1, -1)

    def test_what_a_builder_makes_is_walked_over_wholly(self, walk):
        builder = BatchBuilder()
        for index in range(300):
            key = None if index % 3 else b"k" * index
            builder.append(key, b"v" * (index % 90), [("häder", None), ("b", b"x")], 10_000 - index)
        data = builder.build()[HEADER_BYTES:]
        position, walked, wanted, max_ms, max_index, _, _, problem = walk(
            data, 0, 300, 0, 10_000, False, *ALWAYS
        )
        assert (position, walked, wanted) == (len(data), 300, 0)
        assert (max_ms, max_index, problem) == (10_000, 0, None)

    def test_no_more_records_are_walked_over_than_there_are_counted(self, walk):
        data = record(0) + b"anything"
        assert walk(data, 0, 1, 0, 0, False, *ALWAYS)[:3] == (len(record(0)), 1, 0)

    def test_records_without_a_key_are_named_where_keys_are_asked_for(self, walk):
        data = record(0, key=None) + record(1, key=b"") + record(2, key=None)
        assert walk(data, 0, 3, 0, 0, True, *ALWAYS)[5] == [0, 2]
        assert walk(data, 0, 3, 0, 0, False, *ALWAYS)[5] is None

    def test_records_of_another_time_are_named_but_not_those_without_one(self, walk):
        data = record(0, timestamp_delta=-6) + record(1) + record(2, timestamp_delta=5)
        data += record(3, timestamp_delta=-5) + record(4, timestamp_delta=-1_001)
        assert walk(data, 0, 5, 0, 1_000, False, 995, 1_004)[6] == [0, 2]

    def test_so_many_are_named_and_no_more(self, walk):
        count = NAMED_AT_MOST + 50
        data = b"".join(record(index, key=None) for index in range(count))
        found = walk(data, 0, count, 0, 0, True, 5, 6)
        assert found[5] == found[6] == list(range(NAMED_AT_MOST))

    def test_a_batch_can_be_walked_over_piece_by_piece(self, walk):
        data = b"".join(record(index, value=b"v" * (index % 200)) for index in range(500))
        position = walked = 0
        rest = b""
        for start in range(0, len(data), 97):
            rest += data[start : start + 97]
            end, more, wanted, _, _, _, _, problem = walk(
                rest, 0, 500 - walked, walked, 0, False, *ALWAYS
            )
            assert problem is None
            assert (wanted > len(rest) - end) == (walked + more < 500)
            rest, walked, position = rest[end:], walked + more, position + end
        assert (position, walked, rest) == (len(data), 500, b"")

    def test_what_the_next_record_needs_is_told(self, walk):
        data = record(0) + record(1, value=b"v" * 1_000)
        for cut in range(len(record(0)) + 2, len(data)):
            position, walked, wanted, *_ = walk(data[:cut], 0, 2, 0, 0, False, *ALWAYS)
            assert (position, walked) == (len(record(0)), 1)
            assert position + wanted == len(data)

    def test_a_length_that_is_not_whole_needs_one_byte_more(self, walk):
        assert walk(b"\x80\x80", 0, 1, 0, 0, False, *ALWAYS)[:3] == (0, 0, 3)
        assert walk(b"", 0, 1, 0, 0, False, *ALWAYS)[:3] == (0, 0, 1)


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"\xff\xff\xff\xff\xff\x0f", "its length is impossible"),
            (b"\xff\xff\xff\xff\x7f", "its length is impossible"),
            (sized(b""), "its length is impossible"),
            (encode_varint(-5) + b"12345", "its length is impossible"),
            (sized(b"\x80\x00\x00\x01\x01\x00"), "its attributes are above 127"),
            (sized(b"\x00" + b"\x80" * 9 + b"\x02" + b"\x00"), "its timestamp or its offset"),
            (sized(b"\x00\x00"), "its timestamp or its offset does not fit"),
            (record(1), "its offset delta is not its place in the batch"),
            (record(-1), "its offset delta is not its place in the batch"),
            (record(0, timestamp_delta=2**63 - 1), "its timestamp is beyond 64 bits"),
            (sized(b"\x00\x00\x00" + encode_varint(9) + b"k"), "its key does not fit"),
            (sized(b"\x00\x00\x00" + encode_varint(-2)), "its key does not fit"),
            (sized(b"\x00\x00\x00\x01" + encode_varint(9) + b"k"), "its value does not fit"),
            (sized(b"\x00\x00\x00\x01" + encode_varint(-2)), "its value does not fit"),
            (sized(b"\x00\x00\x00\x01\x01"), "its header count is missing"),
            (record(0, headers=encode_varint(-1)), "its header count is impossible"),
            (record(0, headers=encode_varint(500)), "a header's key does not fit"),
            (record(0, headers=encode_varint(1) + b"\x01\x01"), "a header's key does not fit"),
            (record(0, headers=encode_varint(1) + b"\x02\xff\x01"), "a header's key is not UTF-8"),
            (record(0, headers=encode_varint(1) + b"\x02k\x08v"), "a header's value does not fit"),
            (record(0, headers=b"\x00\x00"), "its fields do not fill its length"),
        ],
    )
    def test_it_is_told(self, walk, data, problem):
        position, walked, wanted, _, _, _, _, found = walk(data, 0, 1, 0, 1_000, False, *ALWAYS)
        assert (position, walked, wanted) == (0, 0, 0)
        assert found is not None
        assert found.startswith(problem)

    def test_what_came_before_counts(self, walk):
        data = record(0, key=None, timestamp_delta=7) + record(5)
        found = walk(data, 0, 2, 0, 0, True, *ALWAYS)
        assert found[:7] == (len(record(0, key=None)), 1, 0, 7, 0, [0], None)

    def test_a_start_outside_of_the_data_is_the_callers_mistake(self, walk):
        for start in (-1, 4):
            with pytest.raises(ValueError, match="the start is outside of the data"):
                walk(b"123", start, 1, 0, 0, False, *ALWAYS)


@pytest.mark.skipif(not walking.COMPILED, reason="no compiled walk was installed")
class TestTheTwins:
    @settings(max_examples=amount(400), deadline=None)
    @example(data=b"\x80" * 9 + b"\x01", count=1, first=0, base_ms=0, keyed=True)
    @given(
        data=st.binary(max_size=200),
        count=st.integers(0, 5) | st.just(2**31 - 1),
        first=st.integers(0, 3) | st.just(2**31 - 1),
        base_ms=st.integers(-(2**63), 2**63 - 1),
        keyed=st.booleans(),
    )
    def test_they_say_the_same_of_any_bytes(self, data, count, first, base_ms, keyed):
        arguments = (data, 0, count, first, base_ms, keyed, -10, 10)
        assert walking.walk(*arguments) == walk_in_python(*arguments)

    def test_they_say_the_same_of_records_with_a_few_bytes_changed(self):
        draw = random.Random(20)
        headers = encode_varint(1) + encode_varint(1) + b"h" + encode_varint(2) + b"xy"
        whole = b"".join(
            record(index, None if index % 2 else b"key", b"v" * 70, index - 3, headers)
            for index in range(8)
        )
        for _ in range(20_000):
            data = bytearray(whole)
            for _ in range(draw.randrange(1, 4)):
                data[draw.randrange(len(data))] = draw.choice((0, 1, 2, 127, 128, 255))
            data = data[: draw.randrange(len(data) + 1)] if draw.random() < 0.2 else data
            arguments = (bytes(data), 0, 8, 0, 100, True, 98, 103)
            assert walking.walk(*arguments) == walk_in_python(*arguments)
