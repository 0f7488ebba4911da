from __future__ import annotations

import struct

import pytest

from benchmarks.kafka.wire import (
    create_topic_frame,
    created_in,
    describe_quorum_frame,
    init_producer_id_frame,
    leader_in,
    producer_id_error_in,
)
from minikafka.kafka.apis import ApiKey
from tests.helpers.kio_messages import read_request


def _created(error: int) -> bytes:
    name = struct.pack(">h", 4) + b"made"
    return struct.pack(">iii", 1, 0, 1) + name + struct.pack(">hh", error, -1)


def test_a_topic_is_made_also_if_a_try_before_made_it() -> None:
    assert created_in(_created(0))
    assert created_in(_created(36))


def test_a_topic_is_not_made_by_a_broker_that_is_not_controller_or_cannot_be_understood() -> None:
    assert not created_in(_created(41))
    assert not created_in(_created(0)[:10])


def test_frames_have_their_length_first() -> None:
    frames = (
        create_topic_frame("made", 2),
        describe_quorum_frame(),
        init_producer_id_frame("known-1"),
    )
    for frame in frames:
        assert struct.unpack_from(">i", frame)[0] == len(frame) - 4


def _quorum(error: int, partition_error: int, leader: int) -> bytes:
    name = b"__cluster_metadata"
    partition = struct.pack(">ihi", 0, partition_error, leader)
    head = struct.pack(">i", 1) + b"\0" + struct.pack(">h", error) + b"\x02"
    return head + bytes([len(name) + 1]) + name + b"\x02" + partition


def test_the_leader_of_the_quorum_is_read_from_the_answer() -> None:
    assert leader_in(_quorum(0, 0, 3)) == 3


def test_nobody_leads_if_the_answer_says_so_has_an_error_or_ends_early() -> None:
    assert leader_in(_quorum(0, 0, -1)) is None
    assert leader_in(_quorum(41, 0, 3)) is None
    assert leader_in(_quorum(0, 3, 3)) is None
    assert leader_in(_quorum(0, 0, 3)[:20]) is None


def test_an_answer_to_init_producer_id_has_an_error_or_none() -> None:
    answer = struct.pack(">iihqh", 1, 0, 0, 4000, 0)
    assert producer_id_error_in(answer) == 0
    assert producer_id_error_in(struct.pack(">iihqh", 1, 0, 16, -1, -1)) == 16
    with pytest.raises(ValueError, match="6 bytes"):
        producer_id_error_in(answer[:6])


def test_init_producer_id_asks_for_an_id_that_nobody_has() -> None:
    frame = init_producer_id_frame("known-1")
    head = 4 + 8 + 2 + len("probe")  # length, key, version and correlation, client
    request = read_request(ApiKey.INIT_PRODUCER_ID, 1, frame[head:])
    assert request.transactional_id == "known-1"
    assert request.transaction_timeout.total_seconds() == 60
