"""core/groups/members.py: how much memory is kept for the members of a group."""

from __future__ import annotations

from minikafka.api.groups import GroupProtocol
from minikafka.core.groups.members import Member, Members


def member(member_id: str, metadata: bytes) -> Member:
    return Member(
        member_id, None, "client", "/127.0.0.1", (GroupProtocol("range", metadata),), 1, 1, 1
    )


def test_what_members_tell_and_ids_that_were_given_out_are_counted() -> None:
    members = Members()
    empty_bytes = members.held_bytes
    assert empty_bytes == 0
    members.give_out("a", 10)
    of_one_bytes = members.held_bytes
    assert of_one_bytes > 0
    members.add(member("a", b"x" * 100))
    assert members.size_bytes == len("range") + 100
    assert members.held_bytes == of_one_bytes + members.size_bytes
    members.tell(members["a"], (GroupProtocol("range", b""),))
    assert members.held_bytes == of_one_bytes + len("range")
    members.remove("a")
    assert members.held_bytes == empty_bytes
