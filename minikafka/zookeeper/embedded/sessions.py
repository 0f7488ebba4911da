"""The table of live sessions and their clocks.

State: per session its password, timeout, deadline, identities and ephemeral znodes.

Invariants: a session lives until a transaction closes it: a passed deadline alone changes nothing.
The password and the timeout are durable; the deadline and the identities are not (identities belong
to a connection and are sent anew on each).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from minikafka.zookeeper.embedded.model import AuthId, SessionRecord

# The upper bits mark ids of this kind of server; the lower ones are the zxid of the opening.
SESSION_ID_BASE = 0x0100_0000_0000_0000


@dataclass(slots=True)
class Session:
    """One live session. `deadline_ms` moves with every sign of life."""

    session_id: int
    password: bytes
    timeout_ms: int
    deadline_ms: int
    identities: tuple[AuthId, ...] = ()
    ephemerals: set[str] = field(default_factory=set)


class Sessions:
    """All live sessions, by id."""

    def __init__(self) -> None:
        self._by_id: dict[int, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_id.values())

    def get(self, session_id: int) -> Session | None:
        return self._by_id.get(session_id)

    def open(self, record: SessionRecord, now_ms: int) -> Session:
        assert record.session_id not in self._by_id, record
        session = Session(
            session_id=record.session_id,
            password=record.password,
            timeout_ms=record.timeout_ms,
            deadline_ms=now_ms + record.timeout_ms,
        )
        self._by_id[record.session_id] = session
        return session

    def close(self, session_id: int) -> Session | None:
        return self._by_id.pop(session_id, None)

    def touch(self, session_id: int, now_ms: int) -> None:
        """A sign of life. It never shortens what the session has left."""
        session = self._by_id.get(session_id)
        if session is not None:
            session.deadline_ms = max(session.deadline_ms, now_ms + session.timeout_ms)

    def postpone(self, pause_ms: int) -> None:
        """Give every session the time back during which nobody listened to it."""
        for session in self._by_id.values():
            session.deadline_ms += pause_ms

    def restart_clocks(self, now_ms: int) -> None:
        """After a recovery: every session has its whole timeout to come back."""
        for session in self._by_id.values():
            session.deadline_ms = now_ms + session.timeout_ms

    def overdue(self, now_ms: int) -> list[int]:
        """Ids of the sessions whose deadline has passed, the longest overdue first."""
        late = [(s.deadline_ms, s.session_id) for s in self if s.deadline_ms <= now_ms]
        return [session_id for _, session_id in sorted(late)]

    def next_deadline_ms(self) -> int | None:
        return min((session.deadline_ms for session in self), default=None)

    def records(self) -> tuple[SessionRecord, ...]:
        return tuple(SessionRecord(s.session_id, s.timeout_ms, s.password) for s in self)
