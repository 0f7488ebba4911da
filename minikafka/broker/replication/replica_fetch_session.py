"""The follower's side of a fetch session: what one leader has been told (KIP-227).

State: `told`, where the leader believes each partition to be; `moved`, of which that may not be so
any more, or which are to be named again (replicas that are fetched from this leader put themselves
in); `forgotten`, which the leader is to be told about; the id and the number of the last request.

Invariants: while the session is open, every request was answered, and the answer was taken; so both
sides know the same. Whatever goes wrong closes it, and the next fetch is a full one. A partition
that was refused, or diverges, is not in `told`: the leader does not follow it there, either.
"""

from __future__ import annotations

from minikafka.errors import NetworkError
from minikafka.model import FollowerPosition, TopicPartition


class ReplicaFetchSession:
    """With one leader, by one incarnation of this broker."""

    def __init__(self) -> None:
        self.session_id = 0  # 0: closed
        self.session_epoch = 0
        self.incarnation = (-1, -1)
        self.told: dict[TopicPartition, FollowerPosition] = {}
        self.moved: dict[TopicPartition, None] = {}  # a set, in the order of the events
        self._forgotten: dict[TopicPartition, None] = {}

    @property
    def is_open(self) -> bool:
        return self.session_id != 0

    def close(self) -> None:
        """The next fetch is a full one."""
        self.session_id = self.session_epoch = 0
        self.told.clear()
        self._forgotten.clear()

    def require(self, incarnation: tuple[int, int]) -> None:
        """Of this (broker id, broker epoch), or of none."""
        if incarnation != self.incarnation:
            self.close()
            self.incarnation = incarnation

    def forget(self, topic_partition: TopicPartition) -> None:
        """It is not fetched, for now or for ever."""
        self.moved.pop(topic_partition, None)
        if self.told.pop(topic_partition, None) is not None:
            self._forgotten[topic_partition] = None

    def name_again(self, topic_partition: TopicPartition) -> None:
        """The leader has refused it, or found that it diverges."""
        self.told.pop(topic_partition, None)
        self.moved[topic_partition] = None

    def begin_request(self, named: list[FollowerPosition]) -> list[TopicPartition]:
        """The next request names these; returns what it is to forget before."""
        if self.is_open:
            self.session_epoch += 1
        else:
            self.told.clear()
            self._forgotten.clear()
        for position in named:
            self.told[position.topic_partition] = position
        forgotten = list(self._forgotten)
        self._forgotten.clear()
        return forgotten

    def end_request(self, session_id: int) -> None:
        """The leader answered in this session (0: it keeps none). Raises NetworkError for an answer
        in a session that is not this one."""
        if self.is_open and session_id not in (0, self.session_id):
            raise NetworkError(f"an answer in session {session_id}, not in {self.session_id}")
        self.session_id = session_id
