"""One-shot watches of sessions on paths.

State: two tables from path to the sessions that watch it, one for data (getData, exists), one for
children (getChildren), and the way back from a session to its entries.

Invariants: an entry fires at most once and is gone when it has; a session that is dropped has no
entry left; sessions are told in the order in which they began to watch, so runs are reproducible.
"""

from __future__ import annotations

from minikafka.zookeeper.embedded.model import EventType, WatchEvent, parent_of

# Ordered sets: a dict whose values say nothing.
_Table = dict[str, dict[int, None]]


class Watches:
    """All watches of all sessions."""

    def __init__(self) -> None:
        self._data: _Table = {}
        self._children: _Table = {}
        self._of_session: dict[int, set[tuple[bool, str]]] = {}

    def __len__(self) -> int:
        """How many (session, kind, path) entries there are."""
        return sum(len(entries) for entries in self._of_session.values())

    def watch_data(self, session_id: int, path: str) -> None:
        self._data.setdefault(path, {})[session_id] = None
        self._of_session.setdefault(session_id, set()).add((False, path))

    def watch_children(self, session_id: int, path: str) -> None:
        self._children.setdefault(path, {})[session_id] = None
        self._of_session.setdefault(session_id, set()).add((True, path))

    def drop_session(self, session_id: int) -> None:
        """Forget everything that a session watches."""
        for of_children, path in self._of_session.pop(session_id, ()):
            table = self._children if of_children else self._data
            watchers = table[path]
            del watchers[session_id]
            if not watchers:
                del table[path]

    def created(self, path: str) -> list[WatchEvent]:
        events = self._fire(False, path, path, EventType.NODE_CREATED)
        return events + self._parent_changed(path)

    def deleted(self, path: str) -> list[WatchEvent]:
        """A session that watches both the data and the children hears of a deletion once."""
        events = self._fire(False, path, path, EventType.NODE_DELETED)
        told = {event.session_id for event in events}
        for event in self._fire(True, path, path, EventType.NODE_DELETED):
            if event.session_id not in told:
                events.append(event)
        return events + self._parent_changed(path)

    def data_changed(self, path: str) -> list[WatchEvent]:
        return self._fire(False, path, path, EventType.NODE_DATA_CHANGED)

    def _parent_changed(self, path: str) -> list[WatchEvent]:
        parent = parent_of(path)
        return self._fire(True, parent, parent, EventType.NODE_CHILDREN_CHANGED)

    def _fire(
        self, of_children: bool, watched: str, path: str, event: EventType
    ) -> list[WatchEvent]:
        table = self._children if of_children else self._data
        watchers = table.pop(watched, None)
        if not watchers:
            return []
        for session_id in watchers:
            entries = self._of_session[session_id]
            entries.discard((of_children, watched))
            if not entries:
                del self._of_session[session_id]
        return [WatchEvent(session_id, event, path) for session_id in watchers]
