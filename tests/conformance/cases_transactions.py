"""Transactions: producers with a transactional id, what they add and end, and administration.

Every version has transactional ids of its own: `txn-{v}`, which is used, `idle-{v}`, which is only
begun, and `tv1-{v}`, `tv2-{v}`, which are ended.
"""

from __future__ import annotations

from typing import Any

from minikafka.kafka.apis import ApiKey
from tests.conformance.exchange import Case, Known

_STRANGER = 987_654_321
# The coordinator loads, is not known yet, or still ends what was before.
_UNDER_WAY = {14, 15, 16, 51}


def at_rest(answer: Any) -> bool:
    """Nothing in an answer says that something has still to come to its end."""
    if isinstance(answer, dict):
        return all(
            at_rest(item) and not (name.endswith("error_code") and item in _UNDER_WAY)
            for name, item in answer.items()
        )
    return not isinstance(answer, list) or all(map(at_rest, answer))


def _pid(name: str) -> Known:
    return Known(f"pid of {name}", 0)


def _find(name: str, key: str, versions: Any = range(1, 5), **more: Any) -> Case:
    values = {"key": key, "key_type": 1, "coordinator_keys": [key]}
    until = more.pop("until", None)
    return Case(name, ApiKey.FIND_COORDINATOR, values | more, versions, until)


FIND = [
    _find("a transactional id", "txn", until=at_rest),
    _find("the empty transactional id", ""),
    _find("several transactional ids", "", [4], coordinator_keys=["txn", ""]),
]


def _init(name: str, transactional_id: str | None, versions: Any = None, **more: Any) -> Case:
    values = {"transactional_id": transactional_id, "transaction_timeout": 60_000} | more
    remember = {f"pid of {transactional_id}": lambda answer: answer["producer_id"]}
    good = not more
    return Case(
        name,
        ApiKey.INIT_PRODUCER_ID,
        values,
        versions,
        at_rest,
        remember if good else {},
    )


_KNOWN = range(3, 6)
INIT = [
    _init("a transactional id", "txn-{v}"),
    _init("it again", "txn-{v}"),
    _init("one that stays idle", "idle-{v}"),
    _init("one for TV1", "tv1-{v}"),
    _init("one for TV2", "tv2-{v}"),
    _init("a timeout of 0", "txn-{v}", transaction_timeout=0),
    _init("a timeout below 0", "txn-{v}", transaction_timeout=-1),
    _init("a timeout that is too long", "txn-{v}", transaction_timeout=2**31 - 1),
    _init("a stranger's producer id", "txn-{v}", _KNOWN, producer_id=_STRANGER, producer_epoch=0),
    _init("a producer id below 0", "txn-{v}", _KNOWN, producer_id=-7, producer_epoch=0),
    _init("an old epoch", "txn-{v}", _KNOWN, producer_id=_pid("txn-{v}"), producer_epoch=0),
    _init("an epoch to come", "txn-{v}", _KNOWN, producer_id=_pid("txn-{v}"), producer_epoch=9),
    _init("an epoch without an id", "txn-{v}", _KNOWN, producer_epoch=0),
    _init("an id without an epoch", "txn-{v}", _KNOWN, producer_id=_pid("txn-{v}")),
    _init("an unknown id of a producer", "new-{v}", _KNOWN, producer_id=3, producer_epoch=0),
]


def _add(name: str, transactional_id: str, *topics: tuple[str, list[int]], **more: Any) -> Case:
    values = {
        "v3_and_below_transactional_id": transactional_id,
        "v3_and_below_producer_id": more.pop("pid", _pid(transactional_id)),
        "v3_and_below_producer_epoch": more.pop("epoch", 0),
        "v3_and_below_topics": [{"name": t, "partitions": indexes} for t, indexes in topics],
    }
    return Case(name, ApiKey.ADD_PARTITIONS_TO_TXN, values, more.pop("versions", None), at_rest)


_PLAIN = ("plain", [0])
ADD = [
    _add("an unknown id", "no-such-id", _PLAIN, pid=3),
    _add("the empty id", "", _PLAIN, pid=3),
    _add("a stranger's producer id", "idle-{v}", _PLAIN, pid=_STRANGER),
    _add("a producer id below 0", "idle-{v}", _PLAIN, pid=-1),
    _add("an old epoch", "txn-{v}", _PLAIN),
    _add("an epoch to come", "idle-{v}", _PLAIN, epoch=9),
    _add("an epoch below 0", "idle-{v}", _PLAIN, epoch=-1),
    _add("a topic that is not there", "idle-{v}", ("no-such", [0])),
    _add("a topic that cannot be", "idle-{v}", ("a b", [0])),
    _add("a partition that is not there and another", "idle-{v}", ("plain", [0, 9])),
    _add("a partition below 0", "idle-{v}", ("plain", [-1])),
    _add("an internal topic and another", "idle-{v}", ("__consumer_offsets", [0]), _PLAIN),
    _add("a partition", "tv1-{v}", _PLAIN),
    _add("it again", "tv1-{v}", _PLAIN),
    _add("it twice", "tv1-{v}", ("plain", [1, 1])),
]


def _add_offsets(name: str, transactional_id: str, group: str = "txn-group", **more: Any) -> Case:
    values = {
        "transactional_id": transactional_id,
        "producer_id": more.pop("pid", _pid(transactional_id)),
        "producer_epoch": more.pop("epoch", 0),
        "group_id": group,
    }
    return Case(name, ApiKey.ADD_OFFSETS_TO_TXN, values, until=at_rest)


ADD_OFFSETS = [
    _add_offsets("an unknown id", "no-such-id", pid=3),
    _add_offsets("the empty id", "", pid=3),
    _add_offsets("a stranger's producer id", "idle-{v}", pid=_STRANGER),
    _add_offsets("an old epoch", "txn-{v}"),
    _add_offsets("an epoch to come", "idle-{v}", epoch=9),
    _add_offsets("a group", "tv1-{v}"),
    _add_offsets("the empty group", "tv1-{v}", ""),
]


def _commit(name: str, transactional_id: str, topic: str = "plain", **more: Any) -> Case:
    partition = {
        "partition_index": more.pop("partition", 0),
        "committed_offset": 5,
        "committed_leader_epoch": -1,
        "committed_metadata": more.pop("metadata", "note"),
    }
    values = {
        "transactional_id": transactional_id,
        "group_id": "txn-group",
        "producer_id": more.pop("pid", _pid(transactional_id)),
        "producer_epoch": more.pop("epoch", 0),
        "topics": [{"name": topic, "partitions": [partition]}],
    }
    versions = more.pop("versions", None)
    return Case(name, ApiKey.TXN_OFFSET_COMMIT, values | more, versions, at_rest)


_MEMBERS = range(3, 6)
COMMIT = [
    _commit("offsets", "tv1-{v}", versions=range(5)),
    _commit("offsets of a group that is added by them", "tv2-{v}", versions=[5]),
    _commit("a topic that is not there", "tv1-{v}", "no-such"),
    _commit("a partition that is not there", "tv1-{v}", partition=9),
    _commit("a partition below 0", "tv1-{v}", partition=-1),
    _commit("a note that is too long", "tv1-{v}", metadata="m" * 101, versions=range(5)),
    _commit("no topics", "tv1-{v}", topics=[]),
    _commit("nothing was added", "idle-{v}", versions=range(5)),
    _commit("an unknown id", "no-such-id", pid=3),
    _commit("the empty id", "", pid=3),
    _commit("a stranger's producer id", "idle-{v}", pid=_STRANGER),
    _commit("an old epoch", "txn-{v}"),
    _commit("an epoch to come", "idle-{v}", epoch=9),
    _commit("a generation of a group without members", "tv1-{v}", generation_id=7, versions=[3, 4]),
    _commit("a member of a group without members", "tv1-{v}", member_id="nobody", versions=[3, 4]),
]


def _end(name: str, transactional_id: str, *, commits: bool = True, **more: Any) -> Case:
    values = {
        "transactional_id": transactional_id,
        "producer_id": more.pop("pid", _pid(transactional_id)),
        "producer_epoch": more.pop("epoch", 0),
        "committed": commits,
    }
    return Case(name, ApiKey.END_TXN, values, more.pop("versions", None), at_rest)


_TV1, _TV2 = range(5), [5]
END = [
    _end("an unknown id", "no-such-id", pid=3),
    _end("the empty id", "", pid=3),
    _end("a stranger's producer id", "idle-{v}", pid=_STRANGER),
    _end("an old epoch", "txn-{v}"),
    _end("an epoch to come", "idle-{v}", epoch=9),
    _end("a commit of nothing", "idle-{v}"),
    _end("an abort of nothing", "idle-{v}", commits=False),
    _end("a commit", "tv1-{v}", versions=_TV1),
    _end("it again", "tv1-{v}", versions=_TV1),
    _end("an abort after it", "tv1-{v}", commits=False, versions=_TV1),
    _end("a commit in TV2", "tv2-{v}", versions=_TV2),
    _end("it again in TV2", "tv2-{v}", versions=_TV2),
    _end("an abort after it in TV2", "tv2-{v}", commits=False, versions=_TV2),
]


def _mark(name: str, *topics: tuple[str, list[int]], commits: bool = False) -> Case:
    marker = {
        "producer_id": _STRANGER,
        "producer_epoch": 0,
        "transaction_result": commits,
        "topics": [{"name": t, "partition_indexes": indexes} for t, indexes in topics],
        "coordinator_epoch": 0,
    }
    return Case(name, ApiKey.WRITE_TXN_MARKERS, {"markers": [marker]})


def _producers(name: str, *topics: tuple[str, list[int]]) -> Case:
    listed = [{"name": t, "partition_indexes": indexes} for t, indexes in topics]
    return Case(name, ApiKey.DESCRIBE_PRODUCERS, {"topics": listed})


def _describe(name: str, *ids: str) -> Case:
    return Case(name, ApiKey.DESCRIBE_TRANSACTIONS, {"transactional_ids": list(ids)}, None, at_rest)


def _list(name: str, versions: Any = None, **more: Any) -> Case:
    values = {"state_filters": [], "producer_id_filters": []} | more
    return Case(name, ApiKey.LIST_TRANSACTIONS, values, versions, at_rest)


ADMINISTER = [
    _describe("one that is idle", "idle-0"),
    _describe("one that is not there", "no-such-id"),
    _describe("the empty id", ""),
    _describe("none"),
    _list("an unknown state", state_filters=["Nonsense"]),
    _list("a state in small letters", state_filters=["ongoing"]),
    _list("an unknown state and another", state_filters=["Nonsense", "PrepareCommit"]),
    _list("an unknown producer", producer_id_filters=[_STRANGER]),
    _producers("of a partition without any", ("filled", [0])),
    _producers("of a topic that is not there", ("no-such", [0])),
    _producers("of a partition that is not there", ("filled", [9, -1])),
    _producers("of none"),
    _mark("an abort of a topic that is not there", ("no-such", [0])),
    _mark("an abort of a partition that is not there", ("plain", [9])),
    _mark("an abort of nothing", ("plain", [0])),
    _mark("a commit", ("plain", [0]), commits=True),
    _mark("no partitions"),
    Case("no markers", ApiKey.WRITE_TXN_MARKERS, {"markers": []}),
]
CASES = [*FIND, *INIT, *ADD, *ADD_OFFSETS, *COMMIT, *END, *ADMINISTER]
