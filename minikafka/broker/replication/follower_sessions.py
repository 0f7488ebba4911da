"""The leader's side of fetch sessions: what each follower follows here, without being told again.

A follower's first fetch is a full one: it names all its positions and begins a session. Each later
fetch names what has changed since; what is not named was fetched all the same, from where it was
(KIP-227). A fetch costs what is `due` and what is `news`, not what is followed.

State, per session (one per follower): where the follower stands in each partition; `due`, to be
looked at by the next or the waiting fetch, in this order; `news`, of which this follower has not
heard the present offsets, which can wait until there is an answer; `outside`, where it is not in
the ISR. `session_epoch` is the number of the last fetch that arrived, `fetched_ms` when it did.

Invariants:

- A session belongs to one incarnation of one follower, and takes its requests in order, each once;
  with any other it is over for the follower, which then asks in full. So what the leader knows of a
  session is what the follower has told in it, and every answer so far has been received.
- What is followed was found valid when it was looked at last. An error or a divergence ends the
  following of that partition until the follower names it again; both sides know.
- Whatever may make a look come out otherwise (an append, a State, the log start) makes it due, and
  what has not been sent yet, whatever the reason, stays due.
- A fetch counts for each partition once, as of its arrival: at once where it is named, due or the
  follower is outside; else before anything happens to the partition that asks when the follower was
  heard last (`settle`), and before the partition leaves the session. It counts only if the position
  holds under the State of then (rule R7).
- At most MAX_SESSIONS, and none that follows nothing: memory is bounded by the replicas there are.
"""

from __future__ import annotations

from collections.abc import Callable

from minikafka.api.requests import ReplicaFetchRequest
from minikafka.broker.replication.replica import FetchWaiter, Replica
from minikafka.core.replication.events import ReplicaFetched
from minikafka.errors import (
    FetchSessionIdNotFoundError,
    InvalidFetchSessionEpochError,
    MinikafkaError,
    StaleBrokerEpochError,
)
from minikafka.model import FollowerPosition, TopicPartition

MAX_SESSIONS = 1_000
_NOT_COUNTED = -1


class Followed:
    """One partition of a session; what the replica there tells the session (`FollowerWatch`)."""

    __slots__ = ("counted_epoch", "position", "replica", "session", "told")

    def __init__(self, session: FollowerSession, position: FollowerPosition) -> None:
        self.session = session
        self.position = position
        self.replica: Replica | None = None  # None until it was found valid
        self.told: tuple[int, int] | None = None  # high watermark and log start, in this session
        self.counted_epoch = _NOT_COUNTED  # the last fetch of the session that counted here

    @property
    def replica_id(self) -> int:
        return self.session.replica_id

    @property
    def waiter(self) -> FetchWaiter | None:
        return self.session.waiter

    def count(self, replica: Replica) -> None:
        """The session's last fetch, of a position that was found valid. Raises
        StaleBrokerEpochError."""
        session = self.session
        if self.counted_epoch == session.session_epoch:
            return
        self.counted_epoch = session.session_epoch
        replica.on_follower_fetched(
            ReplicaFetched(session.replica_id, session.broker_epoch, self.position),
            session.fetched_ms,
        )
        assert replica.core.state is not None, "who leads has a State"
        if session.replica_id in replica.core.state.isr:
            session.outside.pop(self.position.topic_partition, None)
        else:
            session.outside[self.position.topic_partition] = self

    def settle(self) -> None:
        """Count the session's last fetch, if it has not been and still holds."""
        replica = self.replica
        if self.counted_epoch == self.session.session_epoch or replica is None:
            return
        if replica.stopped or replica.topic_id != self.position.topic_id:
            return  # it is about another log by now, which a look will find
        try:
            core = replica.core
            if core.check_replica_fetch(self.session.replica_id, self.position) is None:
                self.count(replica)
        except MinikafkaError:
            # It holds no more, so it counts for nothing. What ended it has made it due, and the
            # look at it tells the follower why.
            return

    def on_appended(self) -> None:
        topic_partition = self.position.topic_partition
        self.session.due.setdefault(topic_partition, self)
        if self.session.waiter is not None:
            self.session.waiter.wake(topic_partition)

    def on_high_watermark(self) -> None:
        self.session.news[self.position.topic_partition] = self

    def on_changed(self) -> None:
        """A State, an assignment, or the log start: not urgent by itself."""
        topic_partition = self.position.topic_partition
        self.session.due.setdefault(topic_partition, self)
        self.session.outside[topic_partition] = self


class FollowerSession:
    """`replica_id` and `broker_epoch` are the follower's."""

    def __init__(self, session_id: int, replica_id: int, broker_epoch: int, now_ms: int) -> None:
        self.session_id = session_id
        self.replica_id = replica_id
        self.broker_epoch = broker_epoch
        self.session_epoch = 0
        self.fetched_ms = now_ms
        self.closed = False
        self.waiter: FetchWaiter | None = None  # while a fetch waits
        self.followed: dict[TopicPartition, Followed] = {}
        self.due: dict[TopicPartition, Followed] = {}
        self.news: dict[TopicPartition, Followed] = {}
        self.outside: dict[TopicPartition, Followed] = {}

    def name(self, position: FollowerPosition) -> None:
        """It is due, behind all others; followed once it is found valid (`keep`)."""
        topic_partition = position.topic_partition
        followed = self.followed.get(topic_partition)
        if followed is None:
            followed = Followed(self, position)
        followed.position = position
        followed.counted_epoch = _NOT_COUNTED
        followed.told = None  # an answer that came too late for the position before was dropped
        self.due.pop(topic_partition, None)
        self.due[topic_partition] = followed

    def keep(self, followed: Followed, replica: Replica) -> None:
        """It is valid, at this replica."""
        if followed.replica is not replica:
            if followed.replica is not None:
                followed.replica.unwatch(followed)
            followed.replica = replica
            followed.counted_epoch = _NOT_COUNTED
            self.followed[followed.position.topic_partition] = followed
            replica.watch(followed)

    def drop(self, topic_partition: TopicPartition) -> None:
        """It is not followed any more, until it is named again."""
        followed = self.followed.pop(topic_partition, None)
        if followed is not None and followed.replica is not None:
            followed.settle()
            followed.replica.unwatch(followed)
        for where in (self.due, self.news, self.outside):
            where.pop(topic_partition, None)

    def count_outside(self) -> None:
        """Where the follower is not in the ISR it is waited for, so its fetches count at once. What
        is due counts when it is looked at."""
        for topic_partition, followed in list(self.outside.items()):
            if topic_partition not in self.due:
                followed.settle()

    def require_current(self, session_epoch: int) -> None:
        """A fetch that waited is still the last one of an open session."""
        if self.closed:
            raise FetchSessionIdNotFoundError(f"session {self.session_id} was replaced")
        if self.session_epoch != session_epoch:
            raise InvalidFetchSessionEpochError(
                f"fetch {session_epoch} of session {self.session_id} was overtaken by "
                f"{self.session_epoch}"
            )

    def close(self) -> None:
        """Its last fetch counts, and nothing after it; a fetch that waits is ended."""
        for topic_partition in list(self.followed):
            self.drop(topic_partition)
        self.closed = True
        if self.waiter is not None:
            self.waiter.end()


class FollowerSessions:
    """The sessions of all followers, who was heard last at the end."""

    def __init__(self, now_ms: Callable[[], int], most: int = MAX_SESSIONS) -> None:
        self._now_ms = now_ms
        self._most = most
        self._sessions: dict[int, FollowerSession] = {}  # by follower
        # Not what an earlier process gave: the clock is monotonic.
        self._next_id = (now_ms() << 20) + 1

    def on_request(self, request: ReplicaFetchRequest) -> FollowerSession:
        """The session of this request, which is its last one now. Raises StaleBrokerEpochError,
        FetchSessionIdNotFoundError, InvalidFetchSessionEpochError; then nothing has changed."""
        session = self._sessions.get(request.replica_id)
        if session is not None and request.replica_broker_epoch < session.broker_epoch:
            raise StaleBrokerEpochError(
                f"broker {request.replica_id} fetched with broker epoch "
                f"{request.replica_broker_epoch} after {session.broker_epoch}: an older incarnation"
            )
        if request.session_id == 0:
            return self._begin(request, session)
        if (
            session is None
            or session.session_id != request.session_id
            or session.broker_epoch != request.replica_broker_epoch
        ):
            raise FetchSessionIdNotFoundError(
                f"broker {request.replica_id}, incarnation {request.replica_broker_epoch}, has no "
                f"session {request.session_id} here"
            )
        if request.session_epoch != session.session_epoch + 1:
            raise InvalidFetchSessionEpochError(
                f"after fetch {session.session_epoch} of session {session.session_id} comes the "
                f"next one, not {request.session_epoch}"
            )
        self._sessions[request.replica_id] = self._sessions.pop(request.replica_id)
        session.session_epoch = request.session_epoch
        session.fetched_ms = self._now_ms()
        return session

    def _begin(
        self, request: ReplicaFetchRequest, before: FollowerSession | None
    ) -> FollowerSession:
        if before is not None:
            before.close()
            del self._sessions[request.replica_id]
        self._next_id += 1
        return FollowerSession(
            self._next_id, request.replica_id, request.replica_broker_epoch, self._now_ms()
        )

    def keep(self, session: FollowerSession) -> bool:
        """Once it has been looked at: is it a session from now on? One that follows nothing is not
        worth it. Who has been silent longest has to make room."""
        if session.closed or not session.followed:
            return False
        if session.replica_id not in self._sessions:
            while len(self._sessions) >= self._most:
                silent = next(iter(self._sessions))
                self._sessions.pop(silent).close()
            self._sessions[session.replica_id] = session
        return True
