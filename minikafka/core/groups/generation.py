"""What the members of a group have agreed upon: the generation, its protocol, the topics they read.

State: the number of the generation, the type and name of its protocol, the subscribed topics.
Invariants: the number never falls, but for the one after the last (`MAX_GENERATION`), which is 1
again; `subscribed_topics` is of this generation and None while it cannot be told. A group whose
members have all gone keeps its type, and the next member may bring another.
"""

from __future__ import annotations

from collections.abc import Sequence

from minikafka.api.groups import JoinedMember, JoinGroupResult, SyncGroupResult
from minikafka.core.groups.effects import GroupSnapshot
from minikafka.core.groups.members import Members
from minikafka.errors import IllegalGenerationError, InconsistentGroupProtocolError

MAX_GENERATION = 2**31 - 1  # the next one is 1 again


class Generation:
    """See the module. 0 is none yet. Everybody may read; only the methods change anything."""

    def __init__(self, group_id: str) -> None:
        self.generation_id = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.subscribed_topics: frozenset[str] | None = None
        self._group_id = group_id

    # --- changes ---------------------------------------------------------------------------------

    def adopt_type(self, protocol_type: str) -> None:
        """The first member says what kind of group this is."""
        self.protocol_type = protocol_type

    def advance(self, members: Members) -> None:
        """The next one, of these members; without any it has no protocol."""
        self.generation_id = self.generation_id % MAX_GENERATION + 1
        self.protocol_name = members.select_protocol() if members else None
        self._note_subscriptions(members)

    def restore(self, snapshot: GroupSnapshot, members: Members) -> None:
        """As the last coordinator wrote it down; `members` are those of `snapshot`."""
        self.generation_id = snapshot.generation_id
        self.protocol_type = snapshot.protocol_type or None
        self.protocol_name = snapshot.protocol_name if members else None
        self._note_subscriptions(members)

    def _note_subscriptions(self, members: Members) -> None:
        self.subscribed_topics = members.subscribed_topics(self.protocol_type, self.protocol_name)

    # --- what is asked of it ---------------------------------------------------------------------

    def check(self, generation_id: int) -> None:
        """Raises IllegalGenerationError for a member of another one."""
        if generation_id != self.generation_id:
            raise IllegalGenerationError(
                f"group {self._group_id!r} is in generation {self.generation_id}, "
                f"not {generation_id}"
            )

    def check_protocol(self, protocol_type: str | None, protocol_name: str | None) -> None:
        """Raises InconsistentGroupProtocolError if something else is given (None: not given)."""
        for given, chosen in (
            (protocol_type, self.protocol_type),
            (protocol_name, self.protocol_name),
        ):
            if given is not None and given != chosen:
                raise InconsistentGroupProtocolError(
                    f"group {self._group_id!r} has chosen {chosen!r}, not {given!r}"
                )

    # --- how it is told --------------------------------------------------------------------------

    def joined(
        self, member_id: str, leader_id: str | None, shown: Sequence[JoinedMember] = ()
    ) -> JoinGroupResult:
        """For a member of it; `shown` are the others, for the leader."""
        return JoinGroupResult(
            None,
            member_id,
            self.generation_id,
            self.protocol_type,
            self.protocol_name,
            leader_id or "",
            shown,
        )

    def assigned(self, assignment: bytes) -> SyncGroupResult:
        """For a member of it: its part."""
        return SyncGroupResult(None, assignment, self.protocol_type, self.protocol_name)
