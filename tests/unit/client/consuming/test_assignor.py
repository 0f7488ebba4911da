"""client/consuming/assignor.py: the range assignor, as Kafka's."""

from __future__ import annotations

from minikafka.api.groups import JoinedMember
from minikafka.client.consuming.assignor import assign_range
from minikafka.model import TopicPartition
from tests.helpers.group_bench import subscription


def member(member_id: str, *topics: str, instance_id: str | None = None) -> JoinedMember:
    return JoinedMember(member_id, instance_id, subscription(*topics))


def numbers(assigned: dict[str, list[TopicPartition]]) -> dict[str, list[str]]:
    return {member_id: [str(each) for each in given] for member_id, given in assigned.items()}


def test_each_topic_is_cut_into_runs_and_the_first_get_one_more() -> None:
    members = [member("b", "t", "u"), member("a", "t", "u")]
    assert numbers(assign_range(members, {"t": 3, "u": 2})) == {
        "a": ["t-0", "t-1", "u-0"],
        "b": ["t-2", "u-1"],
    }


def test_only_who_reads_a_topic_gets_of_it_and_an_unknown_topic_has_nothing() -> None:
    members = [member("a", "t"), member("b", "t", "u", "nothing")]
    assert numbers(assign_range(members, {"t": 1, "u": 1})) == {"a": ["t-0"], "b": ["u-0"]}


def test_static_members_come_first_and_in_the_order_of_their_instances() -> None:
    members = [
        member("a", "t"),
        member("z", "t", instance_id="1"),
        member("b", "t"),
        member("y", "t", instance_id="2"),
    ]
    assert numbers(assign_range(members, {"t": 4})) == {
        "z": ["t-0"],
        "y": ["t-1"],
        "a": ["t-2"],
        "b": ["t-3"],
    }
