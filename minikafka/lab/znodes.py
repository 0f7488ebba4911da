"""What ZooKeeper holds, before and after: the difference of two trees in lines for a person.

Where both are JSON objects, only the fields that changed are shown. Left out is what would hide the
rest: times of day, addresses, random ids, and what is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minikafka.zookeeper.node import Node

# A line of each kind of znode: states and topics, registrations, the load of nodes.
_UNTOLD = frozenset(
    [
        *("timestamp", "version", "topic_id", "storage_id", "isr_storage"),
        *("dirty", "host", "port", "rack", "grpc_host", "grpc_port"),
        *("broker_id", "started_at_ms", "status", "cpu_percent", "rss_bytes"),
        *("disk_used_bytes", "disk_free_bytes", "bytes_in_per_s", "bytes_out_per_s"),
        *("partitions_led", "partitions_held"),
    ]
)
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Znode:
    """`owner`: the session of an ephemeral one, else 0."""

    data: bytes
    version: int
    czxid: int
    owner: int


Tree = Mapping[str, Znode]


def flatten(root: Node) -> dict[str, Znode]:
    """Every node by its path, the root included."""
    return {node.path: _znode(node) for node in _walk(root)}


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _znode(node: Node) -> Znode:
    return Znode(node.data, node.stat.version, node.stat.czxid, node.stat.ephemeral_owner)


def diff_lines(before: Tree, after: Tree) -> list[str]:
    """A line for each node that came (+), went (-) or changed (~), by path; a node that was
    deleted and made again (another czxid) is one that changed."""
    lines = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old is None and new is not None:
            lines.append(f"+ {path}  {_described(new)}".rstrip())
        elif old is not None and new is None:
            lines.append(f"- {path}  {_described(old)}".rstrip())
        elif old is not None and new is not None and old != new and not _is_untold(path, old, new):
            lines.append(f"~ {path}  {_changed(old, new)}")
    return lines


def _described(node: Znode) -> str:
    owner = f"(ephemeral, session {node.owner:#x})" if node.owner else ""
    return "  ".join(part for part in (_data(node.data), owner) if part)


def _changed(old: Znode, new: Znode) -> str:
    parts = []
    if old.data != new.data:
        parts.append(_data_change(old.data, new.data))
    if old.czxid != new.czxid:
        parts.append(f"(made anew: czxid {old.czxid} → {new.czxid})")
    elif old.version != new.version:
        parts.append(f"(version {old.version} → {new.version})")
    if old.owner != new.owner:
        parts.append(f"(session {old.owner:#x} → {new.owner:#x})")
    return "  ".join(part for part in parts if part)


def _is_untold(path: str, old: Znode, new: Znode) -> bool:
    """Whether nothing but fields that are left out has changed, as when a node reports its load."""
    if path.startswith("/nodes/"):
        return old.czxid == new.czxid
    return (
        old.czxid == new.czxid
        and old.data != new.data
        and _fields(old.data) is not None
        and _fields(new.data) is not None
        and not _data_change(old.data, new.data)
    )


def _data_change(old: bytes, new: bytes) -> str:
    before, after = _fields(old), _fields(new)
    if before is None or after is None:
        return f"{_text(old) or 'nothing'} → {_text(new) or 'nothing'}"
    names = dict.fromkeys([*before, *after])
    changes = [
        f"{name} {_value(before.get(name))} → {_value(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name) and name not in _UNTOLD
    ]
    return ", ".join(changes)


def _data(data: bytes) -> str:
    fields = _fields(data)
    if fields is None:
        return _text(data)
    told = [
        f"{name} {_value(value)}"
        for name, value in fields.items()
        if name not in _UNTOLD and value not in ({}, [], None)
    ]
    return ", ".join(told)


def _fields(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _value(value: object) -> str:
    return "none" if value is None else _shortened(json.dumps(value, ensure_ascii=False))


def _text(data: bytes) -> str:
    return _shortened(data.decode(errors="backslashreplace"))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
