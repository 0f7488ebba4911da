"""What a group's current event wants done, and how many of its writes are on their way.

Every part of a group puts its effects here, in the order to be done; at the end of the event the
group takes them all out and gives them to the runtime.

State: the effects of this event, the number of Appends given out and not yet answered. Invariants:
nothing is left between events; a token is answered once, since whoever answers a member takes its
token out.
"""

from __future__ import annotations

from minikafka.api.groups import (
    JoinGroupResult,
    OffsetCommitResult,
    OffsetDeleteResult,
    SyncGroupResult,
)
from minikafka.core.groups.effects import Append, DeleteGroupResult, Effect, Record, Reply
from minikafka.core.groups.members import Member
from minikafka.errors import MinikafkaError


class Outgoing:
    """See the module."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._writes = 0

    @property
    def writes_under_way(self) -> bool:
        return self._writes > 0

    def take(self) -> list[Effect]:
        """The end of an event: what is to be done."""
        effects, self._effects = self._effects, []
        return effects

    # --- writing ---------------------------------------------------------------------------------

    def append(self, records: tuple[Record, ...], write: object) -> None:
        """Write these; the runtime tells of it with `write`."""
        self._effects.append(Append(records, write))
        self._writes += 1

    def on_appended(self) -> None:
        """One write has ended, well or not."""
        self._writes -= 1
        assert self._writes >= 0, "a write that nobody asked for has ended"

    # --- answering -------------------------------------------------------------------------------

    def reply(
        self,
        token: object,
        result: (
            JoinGroupResult
            | SyncGroupResult
            | OffsetCommitResult
            | OffsetDeleteResult
            | DeleteGroupResult
        ),
    ) -> None:
        self._effects.append(Reply(token, result))

    def refuse_join(self, member: Member, error: MinikafkaError) -> None:
        """If the member waits for the next generation, it is told `error` instead."""
        token = member.take_join_token()
        if token is not None:
            self.reply(token, JoinGroupResult(error, member.member_id))

    def refuse_sync(self, member: Member, error: MinikafkaError) -> None:
        """If the member waits for its part, it is told `error` instead."""
        token = member.take_sync_token()
        if token is not None:
            self.reply(token, SyncGroupResult(error))
