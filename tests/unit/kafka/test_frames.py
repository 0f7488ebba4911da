"""The frame splitter: the same frames, however the stream is cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikafka.kafka.frames import FrameSplitter
from minikafka.kafka.wire import MalformedRequestError

MAX_BYTES = 100


def framed(*bodies: bytes) -> bytes:
    return b"".join(struct.pack(">i", len(body)) + body for body in bodies)


def split(stream: bytes, pieces: list[int]) -> list[bytes]:
    splitter = FrameSplitter(MAX_BYTES)
    found: list[bytes] = []
    position = 0
    for piece in [*pieces, len(stream)]:
        found += [bytes(frame) for frame in splitter.feed(stream[position : position + piece])]
        position += piece
    return found


@given(
    bodies=st.lists(st.binary(min_size=8, max_size=MAX_BYTES), max_size=8),
    pieces=st.lists(st.integers(1, 50), max_size=60),
)
def test_the_frames_are_the_same_however_the_stream_is_cut(
    bodies: list[bytes], pieces: list[int]
) -> None:
    assert split(framed(*bodies), pieces) == bodies


@pytest.mark.parametrize("size", [-1, 0, 7, MAX_BYTES + 1, 2**31 - 1, -(2**31)])
def test_a_length_that_cannot_be_is_malformed(size: int) -> None:
    splitter = FrameSplitter(MAX_BYTES)
    with pytest.raises(MalformedRequestError, match=f"a request of {size} bytes"):
        list(splitter.feed(struct.pack(">i", size)))


def test_frames_before_a_malformed_one_come_out_first() -> None:
    frames = FrameSplitter(MAX_BYTES).feed(framed(b"12345678") + b"\xff\xff\xff\xff")
    assert bytes(next(frames)) == b"12345678"
    with pytest.raises(MalformedRequestError):
        next(frames)
