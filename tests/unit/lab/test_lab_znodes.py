"""The difference of two trees of znodes, as a person reads it."""

from __future__ import annotations

import json

from minikafka.lab.znodes import Znode, diff_lines, flatten
from minikafka.zookeeper.node import Node, NodeStat


def znode(data: str = "", version: int = 0, czxid: int = 1, owner: int = 0) -> Znode:
    return Znode(data.encode(), version, czxid, owner)


def node(path: str, *children: Node) -> Node:
    return Node(path, b"x", NodeStat(3, 7, 8, 9, 0, 0, 0, 5, 1, len(children)), children)


def test_a_tree_is_flattened_by_path() -> None:
    tree = flatten(node("/", node("/a", node("/a/b")), node("/c")))
    assert list(tree) == ["/", "/a", "/a/b", "/c"]
    assert tree["/a/b"] == Znode(b"x", 3, 7, 5)


def test_equal_trees_have_no_difference() -> None:
    assert diff_lines({"/a": znode("1")}, {"/a": znode("1")}) == []


def test_what_came_went_and_changed_is_told_by_path() -> None:
    before = {"/gone": znode("bye"), "/text": znode("v1"), "/same": znode()}
    after = {"/came": znode("hello", owner=255), "/text": znode("v2", 1), "/same": znode()}
    assert diff_lines(before, after) == [
        "+ /came  hello  (ephemeral, session 0xff)",
        "- /gone  bye",
        "~ /text  v1 → v2  (version 0 → 1)",
    ]


def test_of_json_only_the_fields_that_changed_are_told() -> None:
    old = {"version": 1, "leader": 1, "isr": [1, 2], "isr_storage": {"1": "x"}}
    new = old | {"isr": [1], "isr_storage": {}, "added": True}
    lines = diff_lines({"/s": znode(json.dumps(old), 4)}, {"/s": znode(json.dumps(new), 5)})
    assert lines == ["~ /s  isr [1, 2] → [1], added none → true  (version 4 → 5)"]


def test_a_new_json_node_is_told_without_what_is_empty_or_varies() -> None:
    data = json.dumps({"brokerid": 3, "timestamp": "17", "rack": None, "empty": {}})
    assert diff_lines({}, {"/c": znode(data)}) == ["+ /c  brokerid 3"]


def test_a_node_that_was_made_anew_is_told_with_both_sessions() -> None:
    lines = diff_lines(
        {"/controller": znode('{"brokerid": 1}', 0, 5, 16)},
        {"/controller": znode('{"brokerid": 2}', 0, 9, 17)},
    )
    assert lines == [
        "~ /controller  brokerid 1 → 2  (made anew: czxid 5 → 9)  (session 0x10 → 0x11)"
    ]


def test_a_write_of_the_same_data_is_told_by_its_version() -> None:
    assert diff_lines({"/a": znode("1")}, {"/a": znode("1", 1)}) == ["~ /a  (version 0 → 1)"]


def test_long_data_and_data_that_are_no_text_stay_on_a_line() -> None:
    [line] = diff_lines({}, {"/long": znode("x" * 500)})
    assert len(line) < 120
    assert line.endswith("...")
    assert diff_lines({}, {"/b": Znode(b"\xff", 0, 1, 0)}) == ["+ /b  \\xff"]


def test_a_node_that_only_reports_its_load_is_not_told() -> None:
    old, new = ({"name": "A", "cpu_percent": load, "version": 1} for load in (1.0, 2.0))
    before, after = {"/n": znode(json.dumps(old))}, {"/n": znode(json.dumps(new), 1)}
    assert diff_lines(before, after) == []
