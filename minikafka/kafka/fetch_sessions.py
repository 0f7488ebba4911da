"""Incremental fetch sessions (KIP-227): a consumer of many partitions names each only once.

A session is what one connection's fetches have in common: the partitions, in order, and what the
client was told last of each. The first fetch (session epoch 0) opens it, those after name only what
changed, and answers leave out partitions with nothing new; epoch -1 ends it.

State: at most `slots` sessions, each of one connection and gone with it. A client whose session is
not there begins anew by itself, so nothing here has to last.

A session is its owner's: to anybody else it is not there, and nobody else ends it.

Invariant: a session's epoch is the one that the next fetch must have, else INVALID_FETCH_SESSION_
EPOCH: an answer that got lost is noticed, and the client begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minikafka.api.requests import FetchPartition, FetchResult
from minikafka.errors import FetchSessionIdNotFoundError, InvalidFetchSessionEpochError
from minikafka.kafka.fetch import MAX_PARTITIONS, NO_SESSION, KafkaFetch
from minikafka.kafka.wire import MalformedRequestError
from minikafka.model import TopicPartition
from minikafka.security.principal import ANONYMOUS, Principal

SLOTS = 1_000  # max.incremental.fetch.session.cache.slots
_INITIAL_EPOCH = 0
_FINAL_EPOCH = -1
_MAX_INT32 = 2**31 - 1


@dataclass(slots=True)
class FetchSession:
    """`told`: high watermark and log start as the client knows them."""

    session_id: int
    next_epoch: int
    partitions: dict[TopicPartition, FetchPartition]
    owner: Principal = ANONYMOUS
    told: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)

    def update(self, fetch: KafkaFetch) -> None:
        """MalformedRequestError for more partitions than a session may have."""
        for item in fetch.partitions:
            self.partitions[item.topic_partition] = item
        for forgotten in fetch.forgotten:
            self.partitions.pop(forgotten, None)
            self.told.pop(forgotten, None)
        if len(self.partitions) > MAX_PARTITIONS:
            raise MalformedRequestError(
                f"a fetch session of {len(self.partitions)} partitions: {MAX_PARTITIONS} may be in "
                "one"
            )
        self.next_epoch = 1 if self.next_epoch == _MAX_INT32 else self.next_epoch + 1

    def select(self, results: Sequence[FetchResult], *, full: bool) -> list[FetchResult]:
        """The results that say anything that this client has not heard. Partitions that got
        records go to the end of the next fetch, so that none starves."""
        selected = []
        for result in results:
            topic_partition = result.topic_partition
            offsets = (result.high_watermark, result.log_start_offset)
            if (
                full
                or result.size_bytes
                or result.error is not None
                or self.told.get(topic_partition) != offsets
            ):
                selected.append(result)
            if result.error is None:
                self.told[topic_partition] = offsets
            else:
                self.told.pop(topic_partition, None)
            if result.size_bytes and topic_partition in self.partitions:
                self.partitions[topic_partition] = self.partitions.pop(topic_partition)
        return selected


class FetchSessions:
    """All sessions of a broker."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._sessions: dict[int, FetchSession] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def take(
        self, fetch: KafkaFetch, owner: Principal = ANONYMOUS
    ) -> tuple[FetchSession | None, bool]:
        """The session of a fetch of `owner`'s, brought up to date (None: it has none), and whether
        its answer is to be full. Raises FetchSessionIdNotFoundError and
        InvalidFetchSessionEpochError."""
        if fetch.session_epoch in (_INITIAL_EPOCH, _FINAL_EPOCH):
            if self._of(owner, fetch.session_id) is not None:
                self.close(fetch.session_id)
            if fetch.session_epoch == _FINAL_EPOCH or len(self._sessions) >= self._slots:
                return None, True
            return self._open(fetch, owner), True
        session = self._of(owner, fetch.session_id)
        if session is None:
            raise FetchSessionIdNotFoundError(f"there is no fetch session {fetch.session_id}")
        if session.next_epoch != fetch.session_epoch:
            raise InvalidFetchSessionEpochError(
                f"fetch session {fetch.session_id} expects epoch {session.next_epoch}, "
                f"not {fetch.session_epoch}"
            )
        session.update(fetch)
        return session, False

    def _of(self, owner: Principal, session_id: int) -> FetchSession | None:
        session = self._sessions.get(session_id)
        return session if session is not None and session.owner == owner else None

    def _open(self, fetch: KafkaFetch, owner: Principal) -> FetchSession:
        self._last_id = 1 if self._last_id == _MAX_INT32 else self._last_id + 1
        while self._last_id in self._sessions:
            self._last_id += 1
        partitions = {item.topic_partition: item for item in fetch.partitions}
        session = FetchSession(self._last_id, 1, partitions, owner)
        self._sessions[session.session_id] = session
        return session

    def close(self, session_id: int) -> None:
        """The client is gone, or begins anew."""
        if session_id != NO_SESSION:
            self._sessions.pop(session_id, None)
