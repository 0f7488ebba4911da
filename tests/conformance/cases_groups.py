"""Consumer groups: membership, committed offsets and their administration."""

from __future__ import annotations

from typing import Any

from minikafka.kafka.apis import ApiKey
from tests.conformance.cases_topics import settled
from tests.conformance.exchange import Case, Known

SESSION_MS = 60_000
_SIMPLE = ("generation_id_or_member_epoch", "member_id")


def _find(name: str, key: str, versions: Any = None, **more: Any) -> Case:
    values = {"key": key, "key_type": 0, "coordinator_keys": [key]}
    until = more.pop("until", None)
    return Case(name, ApiKey.FIND_COORDINATOR, values | more, versions, until)


SETUP = [_find("a coordinator comes to be", "g", [3], until=settled)]
FIND = [
    _find("a group", "g"),
    _find("the empty group", ""),
    _find("an unknown type", "g", range(1, 5), key_type=7),
    _find("a type below 0", "g", range(1, 5), key_type=-1),
    _find("several", "", [4], coordinator_keys=["g", "h"]),
    _find("one twice", "", [4], coordinator_keys=["g", "g"]),
    _find("none", "", [4], coordinator_keys=[]),
]


def _join(name: str, group: str, member: Any = "", versions: Any = None, **more: Any) -> Case:
    values = {
        "group_id": group,
        "session_timeout": SESSION_MS,
        "rebalance_timeout": SESSION_MS,
        "member_id": member,
        "group_instance_id": None,
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b"\0\1"}],
        "reason": None,
    }
    remember, until = more.pop("remember", {}), more.pop("until", None)
    return Case(name, ApiKey.JOIN_GROUP, values | more, versions, until, remember)


def _member(answer: Any) -> Any:
    return answer["member_id"]


JOIN = [
    _join("a first member", "join-{v}", remember={"joined-{v}": _member}, until=settled),
    _join("with its id", "join-{v}", Known("joined-{v}", ""), range(4, 8)),
    _join("a stranger", "join-{v}", "nobody"),
    _join("a stranger in a new group", "join-new-{v}", "nobody"),
    _join("the empty group", ""),
    _join("a session that is too short", "join-short-{v}", session_timeout=1),
    _join("a session that is too long", "join-long-{v}", session_timeout=2_000_000),
    _join("no protocols", "join-none-{v}", protocols=[]),
    _join("no type of protocol", "join-untyped-{v}", protocol_type=""),
    _join("other protocols", "join-{v}", protocols=[{"name": "other", "metadata": b""}]),
    _join("another type of protocol", "join-{v}", protocol_type="other"),
    _join("a static member", "static-{v}", versions=range(5, 8), group_instance_id="i-1"),
    _join("an empty instance id", "static-e-{v}", versions=range(5, 8), group_instance_id=""),
    _join(
        "an instance's stranger",
        "static-{v}",
        "nobody",
        versions=range(5, 8),
        group_instance_id="i-1",
    ),
    _join(
        "a stranger's instance",
        "static-{v}",
        "nobody",
        versions=range(5, 8),
        group_instance_id="i-2",
    ),
    _join(
        "a member that stays", "stable", versions=[3], remember={"stable": _member}, until=settled
    ),
]
_STABLE = Known("stable", "")


def _sync(name: str, group: str, member: Any, generation: int = 1, **more: Any) -> Case:
    values = {
        "group_id": group,
        "generation_id": generation,
        "member_id": member,
        "group_instance_id": None,
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": [{"member_id": member, "assignment": b"\0\2"}],
    }
    versions = more.pop("versions", None)
    return Case(name, ApiKey.SYNC_GROUP, values | more, versions)


SYNC = [
    _sync("the leader", "stable", _STABLE),
    _sync("another generation", "stable", _STABLE, 9),
    _sync("a stranger", "stable", "nobody"),
    _sync("the empty member", "stable", ""),
    _sync("a group that is not there", "no-such-group", "nobody"),
    _sync("the empty group", "", "nobody"),
    _sync("another protocol", "stable", _STABLE, protocol_name="other", versions=[5]),
    _sync("another type", "stable", _STABLE, protocol_type="other", versions=[5]),
    _sync("no protocol", "stable", _STABLE, protocol_name=None, protocol_type=None, versions=[5]),
    _sync("an unknown instance", "stable", _STABLE, group_instance_id="i-9", versions=[3, 4, 5]),
]


def _beat(name: str, group: str, member: Any, generation: int = 1, **more: Any) -> Case:
    values = {"group_id": group, "generation_id": generation, "member_id": member}
    versions = more.pop("versions", None)
    return Case(name, ApiKey.HEARTBEAT, values | {"group_instance_id": None} | more, versions)


HEARTBEAT = [
    _beat("a member", "stable", _STABLE),
    _beat("another generation", "stable", _STABLE, 9),
    _beat("a stranger", "stable", "nobody"),
    _beat("a group that is not there", "no-such-group", "nobody"),
    _beat("the empty group", "", "nobody"),
    _beat("an unknown instance", "stable", _STABLE, group_instance_id="i-9", versions=[3, 4]),
]


def _commit(name: str, group: str, topic: str = "plain", **more: Any) -> Case:
    partition = {
        "partition_index": more.pop("partition", 0),
        "committed_offset": more.pop("offset", 5),
        "committed_leader_epoch": more.pop("epoch", -1),
        "committed_metadata": more.pop("metadata", "note"),
    }
    values = {
        "group_id": group,
        "generation_id_or_member_epoch": -1,
        "member_id": "",
        "group_instance_id": None,
        "retention_time": -1,
        "topics": [{"name": topic, "partitions": [partition]}],
    }
    versions, until = more.pop("versions", None), more.pop("until", None)
    return Case(name, ApiKey.OFFSET_COMMIT, values | more, versions, until)


_BY = {"generation_id_or_member_epoch": 1, "member_id": _STABLE}
COMMIT = [
    _commit("by a simple consumer", "offsets"),
    _commit("with an epoch", "offsets", partition=1, epoch=0),
    _commit("without a note", "offsets", metadata=None),
    _commit("the empty group", ""),
    _commit("a topic that is not there", "offsets", "no-such"),
    _commit("a partition that is not there", "offsets", partition=9),
    _commit("a partition below 0", "offsets", partition=-1),
    _commit("a note that is too long", "offsets", metadata="m" * 101),
    _commit("offset -1", "minus", offset=-1),
    _commit("offset -2", "minus", offset=-2),
    _commit("no topics", "offsets", topics=[]),
    _commit("a generation of a group without members", "offsets", generation_id_or_member_epoch=4),
    _commit("a member of a group without members", "offsets", member_id="nobody"),
    _commit("a member of no group", "no-such-group", **(_BY | {"member_id": "nobody"})),
    _commit("by a member", "stable", **_BY),
    _commit("by a member of another generation", "stable", **(_BY | {_SIMPLE[0]: 9})),
    _commit("by a stranger", "stable", **(_BY | {"member_id": "nobody"})),
    _commit("by a simple consumer into a group with members", "stable"),
    _commit("by an unknown instance", "stable", **_BY, group_instance_id="i", versions=[7, 8]),
]


def _fetch(name: str, group: str, topics: Any, versions: Any = None, **more: Any) -> Case:
    listed = topics and [{"name": t, "partition_indexes": p} for t, p in topics]
    values = {
        "group_id": group,
        "topics": listed,
        "groups": [{"group_id": group, "topics": listed}],
        "require_stable": False,
    }
    return Case(name, ApiKey.OFFSET_FETCH, values | more, versions)


_TWO = range(2, 9)
_ONE = {"topics": [{"name": "plain", "partition_indexes": [0]}]}
FETCH = [
    _fetch("of a partition", "offsets", [("plain", [0, 1])]),
    _fetch("of one without", "offsets", [("filled", [0])]),
    _fetch("of a partition that is not there", "offsets", [("plain", [9])]),
    _fetch("of a topic that is not there", "offsets", [("no-such", [0])]),
    _fetch("of a bad name", "offsets", [("a b", [0])]),
    _fetch("of a partition twice", "offsets", [("plain", [0, 0])]),
    _fetch("of all", "offsets", None, _TWO),
    _fetch("of none", "offsets", []),
    _fetch("of a group that is not there", "no-such-group", [("plain", [0])]),
    _fetch("of all of a group that is not there", "no-such-group", None, _TWO),
    _fetch("of the empty group", "", [("plain", [0])]),
    _fetch("of all of the empty group", "", None, _TWO),
    _fetch("of offsets below 0", "minus", None, _TWO),
    _fetch("what is stable", "offsets", [("plain", [0])], [7, 8], require_stable=True),
    _fetch(
        "of several groups",
        "",
        [],
        [8],
        groups=[{"group_id": each} | _ONE for each in ("offsets", "no-such-group", "")],
    ),
    _fetch("of a group twice", "", [], [8], groups=[{"group_id": "offsets"} | _ONE] * 2),
]


def _describe(name: str, *groups: str, versions: Any = None, operations: bool = False) -> Case:
    values = {"groups": list(groups), "include_authorized_operations": operations}
    return Case(name, ApiKey.DESCRIBE_GROUPS, values, versions)


def _list(name: str, states: Any, versions: Any = None) -> Case:
    return Case(name, ApiKey.LIST_GROUPS, {"states_filter": states}, versions)


_WITH_STATES = [4]
ADMINISTER = [
    _describe("with a member", "stable"),
    _describe("without members", "offsets"),
    _describe("one that is not there", "no-such-group"),
    _describe("the empty group", ""),
    _describe("one twice", "stable", "stable"),
    _describe("none"),
    _describe(
        "with operations",
        "stable",
        "no-such-group",
        "",
        versions=range(3, 6),
        operations=True,
    ),
    _list("all", []),
    _list("stable ones", ["Stable"], _WITH_STATES),
    _list("stable ones in small letters", ["stable"], _WITH_STATES),
    _list("dead ones", ["Dead"], _WITH_STATES),
    _list("empty ones", ["Empty"], _WITH_STATES),
    _list("an unknown state", ["Nonsense"], _WITH_STATES),
    _list("an unknown state and another", ["Nonsense", "Stable"], _WITH_STATES),
]


def _forget(name: str, group: str, topic: str = "plain", *indexes: int) -> Case:
    partitions = [{"partition_index": index} for index in indexes]
    values = {"group_id": group, "topics": [{"name": topic, "partitions": partitions}]}
    return Case(name, ApiKey.OFFSET_DELETE, values)


FORGET = [
    _forget("of a partition", "offsets", "plain", 0),
    _forget("of one without", "offsets", "filled", 0),
    _forget("of a partition that is not there", "offsets", "plain", 9),
    _forget("of a topic that is not there", "offsets", "no-such", 0),
    _forget("of a bad name", "offsets", "a b", 0),
    _forget("a good one and a bad one", "offsets", "plain", 1, 9),
    _forget("of a group that is not there", "no-such-group", "plain", 0),
    _forget("of the empty group", "", "plain", 0),
    _forget("of a group with members", "stable", "filled", 0),
    _forget("of nothing", "offsets", "plain"),
]


def _leave(name: str, group: str, *members: Any, versions: Any = None) -> Case:
    listed = [
        {"member_id": each, "group_instance_id": instance, "reason": None}
        for each, instance in members
    ]
    values = {"group_id": group, "members": listed}
    values["member_id"] = members[0][0] if members else ""
    return Case(name, ApiKey.LEAVE_GROUP, values, versions)


def _delete(name: str, *groups: str) -> Case:
    return Case(name, ApiKey.DELETE_GROUPS, {"groups_names": list(groups)})


LEAVE = [
    *(
        _join(
            f"one that leaves {version}",
            f"leave-{version}",
            versions=[3],
            remember={f"leaver-{version}": _member},
        )
        for version in range(5)
    ),
    _leave("a stranger", "stable", ("nobody", None)),
    _leave("a group that is not there", "no-such-group", ("nobody", None)),
    _leave("the empty group", "", ("nobody", None)),
    _leave("a member", "leave-{v}", (Known("leaver-{v}", ""), None)),
    _leave("nobody", "stable", versions=[3, 4]),
    _leave("an unknown instance", "stable", ("", "i-9"), versions=[3, 4]),
    _leave("an instance with another's id", "stable", (_STABLE, "i-9"), versions=[3, 4]),
    _leave("a stranger twice", "stable", ("nobody", None), ("nobody", None), versions=[3, 4]),
]
DELETE = [
    _delete("with a member", "stable"),
    _delete("one that is not there", "no-such-group"),
    _delete("the empty group", ""),
    _delete("one without members", "leave-{v}"),
    _delete("one twice", "leave-4", "leave-4"),
    _delete("none"),
]
CASES = [
    *(*FIND, *COMMIT[:14], *FETCH, *JOIN[-1:], *SYNC, *HEARTBEAT, *COMMIT[14:]),
    *(*ADMINISTER, *FORGET, *JOIN[:-1], *LEAVE, *DELETE),
]
