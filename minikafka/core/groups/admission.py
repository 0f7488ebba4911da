"""Who may join a group: sessions within the broker's limits, not too much told, room, a protocol in
common.

State: none of its own. Whoever is refused has changed nothing, except that an id which was given
out is taken back where there is no room for its client.
"""

from __future__ import annotations

from minikafka.api.groups import UNKNOWN_MEMBER, JoinGroupRequest
from minikafka.core.groups.generation import Generation
from minikafka.core.groups.lifecycle import GroupState, Lifecycle
from minikafka.core.groups.members import Members, size_of
from minikafka.core.groups.settings import GroupSettings
from minikafka.errors import (
    FencedInstanceIdError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidRequestError,
    InvalidSessionTimeoutError,
)

# Of what members tell. A group is stored as one record, which is smaller than all of this.
MAX_PROTOCOLS = 100
MAX_TEXT = 1_000
MAX_MEMBER_BYTES = 1 << 20
MAX_GROUP_BYTES = 16 << 20


class Admission:
    """See the module."""

    def __init__(
        self,
        settings: GroupSettings,
        lifecycle: Lifecycle,
        generation: Generation,
        members: Members,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._generation = generation
        self._members = members

    def check(self, request: JoinGroupRequest) -> None:
        """Raises what the client is to be told if it may not join, or not again."""
        self._lifecycle.refuse_if_dead()
        self._check_instance(request)
        self._check_session(request)
        self._check_sizes(request)
        self._check_room(request)
        self._check_protocols(request)

    def _check_instance(self, request: JoinGroupRequest) -> None:
        """An id that was given out is for a dynamic member: with it, nobody takes the place of a
        static one. (In Kafka it must not have an instance id at all.)"""
        if request.instance_id is None or request.member_id not in self._members.pending:
            return
        holder = self._members.static_id(request.instance_id)
        if holder is not None:
            raise FencedInstanceIdError(
                f"{request.instance_id!r} is member {holder!r}, not {request.member_id!r}"
            )

    def _check_session(self, request: JoinGroupRequest) -> None:
        low, high = self._settings.min_session_timeout_ms, self._settings.max_session_timeout_ms
        if not low <= request.session_timeout_ms <= high:
            raise InvalidSessionTimeoutError(
                f"session timeout {request.session_timeout_ms} ms is not within "
                f"group.min.session.timeout.ms={low} and group.max.session.timeout.ms={high}"
            )

    def _check_sizes(self, request: JoinGroupRequest) -> None:
        """What could never be stored, or would cost everybody in the group too much."""
        texts = [request.protocol_type, request.instance_id or ""]
        texts += [each.name for each in request.protocols]
        size_bytes = size_of(request.protocols)
        if len(request.protocols) > MAX_PROTOCOLS or max(map(len, texts)) > MAX_TEXT:
            raise InvalidRequestError(
                f"a member has at most {MAX_PROTOCOLS} protocols, and texts of at most {MAX_TEXT} "
                "characters"
            )
        if size_bytes > MAX_MEMBER_BYTES:
            raise InvalidRequestError(
                f"a member tells {size_bytes} bytes of its protocols: at most {MAX_MEMBER_BYTES}"
            )
        others = self._members.size_bytes
        if request.member_id in self._members:
            others -= self._members[request.member_id].size_bytes
        if size_bytes + others > MAX_GROUP_BYTES:
            raise GroupMaxSizeReachedError(
                f"the members of group {self._lifecycle.group_id!r} tell {others} bytes of their "
                f"protocols: together at most {MAX_GROUP_BYTES}"
            )

    def _check_room(self, request: JoinGroupRequest) -> None:
        if not self._has_room(request):
            self._members.take_back(request.member_id)
            raise GroupMaxSizeReachedError(
                f"group {self._lifecycle.group_id!r} has {self._settings.max_size} members, which "
                "is group.max.size"
            )

    def _has_room(self, request: JoinGroupRequest) -> bool:
        members = self._members
        member_id = request.member_id
        if member_id == UNKNOWN_MEMBER and request.instance_id is not None:
            # Back in its own place. (Kafka refuses it in a full group.)
            member_id = members.static_id(request.instance_id) or UNKNOWN_MEMBER
        if self._lifecycle.state is GroupState.PREPARING_REBALANCE:
            joined = sum(each.awaits_join for each in members)
            known = member_id in members and members[member_id].awaits_join
            return known or joined < self._settings.max_size
        return member_id in members or len(members) < self._settings.max_size

    def _check_protocols(self, request: JoinGroupRequest) -> None:
        if not self._supports(request):
            raise InconsistentGroupProtocolError(
                f"group {self._lifecycle.group_id!r} is of type "
                f"{self._generation.protocol_type!r}; a member of type {request.protocol_type!r} "
                f"with {', '.join(each.name for each in request.protocols) or 'no protocol'} "
                "has nothing in common with all the others"
            )

    def _supports(self, request: JoinGroupRequest) -> bool:
        if not request.protocol_type or not request.protocols:
            return False
        if not self._members:
            return True
        same_type = request.protocol_type == self._generation.protocol_type
        return same_type and self._members.supports_any(request.protocols)
