"""Incremental fetch sessions: what is fetched, what is left out of the answer, when they end."""

from __future__ import annotations

import pytest

from minikafka.api.requests import FetchPartition, FetchResult
from minikafka.errors import (
    FetchSessionIdNotFoundError,
    InvalidFetchSessionEpochError,
    OffsetOutOfRangeError,
)
from minikafka.kafka.fetch import KafkaFetch
from minikafka.kafka.fetch_sessions import FetchSession, FetchSessions
from minikafka.model import TopicPartition
from minikafka.security.principal import Principal

A, B, C = (TopicPartition("t", index) for index in range(3))


def asked(topic_partition: TopicPartition, offset: int = 0) -> FetchPartition:
    return FetchPartition(topic_partition, offset, 1000)


def a_fetch(
    session_id: int,
    session_epoch: int,
    *partitions: FetchPartition,
    forgotten: tuple[TopicPartition, ...] = (),
) -> KafkaFetch:
    return KafkaFetch(500, 1, 50_000, session_id, session_epoch, list(partitions), list(forgotten))


def result(
    topic_partition: TopicPartition, high_watermark: int, records: bytes = b""
) -> FetchResult:
    return FetchResult(topic_partition, None, high_watermark, 0, records)


def opened(sessions: FetchSessions, *partitions: FetchPartition) -> FetchSession:
    session, full = sessions.take(a_fetch(0, 0, *partitions))
    assert session is not None
    assert full
    return session


def test_the_fetches_after_the_first_name_only_what_changed() -> None:
    sessions = FetchSessions()
    session = opened(sessions, asked(A), asked(B))
    again, full = sessions.take(
        a_fetch(session.session_id, 1, asked(A, 5), asked(C), forgotten=(B,))
    )
    assert again is session
    assert not full
    assert list(session.partitions.values()) == [asked(A, 5), asked(C)]


def test_an_answer_leaves_out_what_the_client_knows() -> None:
    session = opened(FetchSessions(), asked(A), asked(B), asked(C))
    everything = [result(A, 3), result(B, 4, b"records"), result(C, 5)]
    assert session.select(everything, full=True) == everything
    assert session.select([result(A, 3), result(B, 4), result(C, 6)], full=False) == [result(C, 6)]
    failed = FetchResult(A, OffsetOutOfRangeError("below the start"))
    assert session.select([failed], full=False) == [failed]
    assert session.select([failed], full=False) == [failed]
    assert session.select([result(A, 3)], full=False) == [result(A, 3)]


def test_partitions_that_got_records_go_to_the_end() -> None:
    session = opened(FetchSessions(), asked(A), asked(B), asked(C))
    session.select([result(A, 3, b"records"), result(B, 4), result(C, 5)], full=True)
    assert list(session.partitions) == [B, C, A]


def test_a_fetch_out_of_order_is_refused() -> None:
    sessions = FetchSessions()
    session = opened(sessions, asked(A))
    with pytest.raises(InvalidFetchSessionEpochError, match="expects epoch 1, not 2"):
        sessions.take(a_fetch(session.session_id, 2))
    sessions.take(a_fetch(session.session_id, 1))
    with pytest.raises(InvalidFetchSessionEpochError, match="expects epoch 2, not 1"):
        sessions.take(a_fetch(session.session_id, 1))


def test_the_epoch_begins_anew_at_1_after_the_largest() -> None:
    sessions = FetchSessions()
    session = opened(sessions, asked(A))
    session.next_epoch = 2**31 - 1
    sessions.take(a_fetch(session.session_id, 2**31 - 1))
    assert session.next_epoch == 1


def test_the_final_fetch_ends_a_session_and_a_first_one_replaces_it() -> None:
    sessions = FetchSessions()
    first = opened(sessions, asked(A))
    again, _ = sessions.take(a_fetch(first.session_id, 0, asked(B)))
    assert again is not None
    assert again is not first
    assert len(sessions) == 1
    assert sessions.take(a_fetch(again.session_id, -1, asked(B))) == (None, True)
    assert len(sessions) == 0
    with pytest.raises(FetchSessionIdNotFoundError):
        sessions.take(a_fetch(again.session_id, 1))


def test_without_a_slot_a_client_fetches_without_a_session() -> None:
    sessions = FetchSessions(slots=1)
    opened(sessions, asked(A))
    assert sessions.take(a_fetch(0, 0, asked(B))) == (None, True)


def test_a_fetch_before_version_7_has_no_session() -> None:
    sessions = FetchSessions()
    assert sessions.take(a_fetch(0, -1, asked(A))) == (None, True)
    assert len(sessions) == 0


def test_a_session_is_its_owners_alone():
    alice, bob = Principal("User", "alice"), Principal("User", "bob")
    sessions = FetchSessions()
    session, _ = sessions.take(a_fetch(0, 0, asked(A)), alice)
    assert session is not None
    for epoch in (1, 2):
        with pytest.raises(FetchSessionIdNotFoundError):
            sessions.take(a_fetch(session.session_id, epoch), bob)
    for epoch in (0, -1):  # begins anew, or ends: what is another's stays
        sessions.take(a_fetch(session.session_id, epoch), bob)
    assert sessions.take(a_fetch(session.session_id, 1), alice) == (session, False)
