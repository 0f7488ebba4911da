"""`minikafka zk tree|get|ls|watch|controller|guarantees`: what ZooKeeper holds, and keeps."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import data_dir_option, format_option
from minikafka.cli.kit.output import (
    clock_time,
    print_json,
    print_json_line,
    print_table,
    say,
)
from minikafka.config.properties import read_zookeeper_connect
from minikafka.errors import UsageError
from minikafka.escaping import escaped, escaped_lines
from minikafka.local import clusterfile
from minikafka.local.discovery import NoCluster
from minikafka.watching.text import text_or_base64

if TYPE_CHECKING:
    from minikafka.broker.ports import Takeover
    from minikafka.zookeeper.looking.inspect import ControllerView, Inspector
    from minikafka.zookeeper.looking.watching import Change
    from minikafka.zookeeper.node import Node

Function = TypeVar("Function", bound=Callable[..., Any])

_DATA_SHOWN = 160


@click.group("zk", cls=SuggestingGroup)
def command() -> None:
    """Look at what ZooKeeper holds. All but `guarantees` only read.

    ZooKeeper is found by --zookeeper, else MINIKAFKA_ZOOKEEPER, else cluster.json of the data
    directory.
    """


def zookeeper_options(function: Function) -> Function:
    with_data_dir = data_dir_option(function)
    return click.option(
        "--zookeeper",
        "connect",
        metavar="HOST:PORT,...[/CHROOT]",
        envvar="MINIKAFKA_ZOOKEEPER",
        show_envvar=True,
        help="The servers; without it, those of the data directory's cluster.json.",
    )(with_data_dir)


def find_zookeeper(connect: str | None, data_dir: Path) -> str:
    """The connect string. Raises NoCluster if there is nothing to go by."""
    if connect:
        try:
            return read_zookeeper_connect(connect)
        except ValueError as error:
            raise UsageError(f"--zookeeper {connect!r}: {error}") from None
    cluster = clusterfile.load(data_dir)
    if cluster is None:
        raise NoCluster(
            "no ZooKeeper to look at: neither --zookeeper nor MINIKAFKA_ZOOKEEPER is given, and "
            f"there is no {clusterfile.path_of(data_dir)}; `minikafka up` starts a cluster here"
        )
    return cluster.zookeeper.hosts


@contextlib.contextmanager
def inspecting(connect: str, *, linearizable: bool = False) -> Iterator[Inspector]:
    """A connection to look through. Raises NoCluster if no server answers."""
    import logging

    from minikafka.zookeeper.looking.inspect import open_inspector
    from minikafka.zookeeper.servers.addresses import answers, port_of

    servers = connect.partition("/")[0].split(",")
    if not any(answers(*port_of(server)) for server in servers):
        raise NoCluster(f"no ZooKeeper answers at {connect}: does it run?")
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # what matters comes as an error
    with open_inspector(connect, linearizable=linearizable) as inspector:
        yield inspector


linearizable_option = click.option(
    "--linearizable", is_flag=True, help="Let the server catch up (sync) before it answers."
)


@command.command("tree")
@click.argument("path", default="/")
@linearizable_option
@zookeeper_options
@format_option
def tree(
    path: str, linearizable: bool, connect: str | None, data_dir: Path, output_format: str
) -> None:
    """Show PATH and everything below it, with data, version and owner."""
    hosts = find_zookeeper(connect, data_dir)
    with inspecting(hosts, linearizable=linearizable) as inspector:
        root = inspector.tree(path)
    if output_format == "json":
        print_json(node_document(root, with_children=True))
    else:
        for line in tree_lines(root):
            say(line)


@command.command("get")
@click.argument("path")
@linearizable_option
@zookeeper_options
@format_option
def get(
    path: str, linearizable: bool, connect: str | None, data_dir: Path, output_format: str
) -> None:
    """Show the data of PATH as they are, then what ZooKeeper knows of the node."""
    hosts = find_zookeeper(connect, data_dir)
    with inspecting(hosts, linearizable=linearizable) as inspector:
        node = inspector.get(path)
    document = node_document(node, with_children=False)
    if output_format == "json":
        print_json(document)
        return
    if node.data:
        say(printable(node.data, escaped_lines))
    for name, value in document.items():
        if name not in ("path", "data", "json"):
            say(f"{name} = {value}")


@command.command("ls")
@click.argument("path", default="/")
@linearizable_option
@zookeeper_options
@format_option
def ls(
    path: str, linearizable: bool, connect: str | None, data_dir: Path, output_format: str
) -> None:
    """List the names of the nodes right below PATH."""
    hosts = find_zookeeper(connect, data_dir)
    with inspecting(hosts, linearizable=linearizable) as inspector:
        names = inspector.ls(path)
    if output_format == "json":
        print_json(names)
    else:
        for name in names:
            say(escaped(name))


@command.command("watch")
@click.argument("path")
@click.option("--recursive", is_flag=True, help="Watch all that is below PATH, too.")
@zookeeper_options
@format_option
def watch(
    path: str, recursive: bool, connect: str | None, data_dir: Path, output_format: str
) -> None:
    """Show what PATH is now, then every change, until Ctrl-C.

    PATH need not be there yet. What happens faster than it can be read becomes one line; the
    version tells how often the data were set.
    """
    with inspecting(find_zookeeper(connect, data_dir)) as inspector:
        try:
            for change in inspector.watch(path, recursive=recursive).changes():
                if output_format == "json":
                    print_json_line(change_document(change))
                else:
                    say(change_line(change))
                    sys.stdout.flush()
        except KeyboardInterrupt:
            return


def change_line(change: Change) -> str:
    """`14:03:07.125 /controller created  {"brokerid":2}  (version 0)`."""
    parts = [f"{clock_time(change.timestamp_ms / 1000)} {change.path} {change.what.value}"]
    if change.added or change.removed:
        parts.append(
            ", ".join(
                [f"+{name}" for name in change.added] + [f"-{name}" for name in change.removed]
            )
        )
    elif change.node is not None:
        parts += _node_parts(change.node)
    return "  ".join(parts)


def change_document(change: Change) -> dict[str, Any]:
    """The JSON document of a change (docs/cli.md)."""
    document: dict[str, Any] = {
        "event": change.what.value,
        "time_ms": change.timestamp_ms,
        "path": change.path,
    }
    if change.node is not None:
        document |= node_document(change.node, with_children=False)
    if change.added or change.removed:
        document |= {"added": list(change.added), "removed": list(change.removed)}
    return document


@command.command("controller")
@zookeeper_options
@format_option
def controller(connect: str | None, data_dir: Path, output_format: str) -> None:
    """Show who is controller, whom it took over from, and who waits in the queue.

    "woke 1 of 4 waiting brokers" is what the brokers themselves have said: how many of those who
    stood in the queue heard from ZooKeeper that they should look.
    """
    with inspecting(find_zookeeper(connect, data_dir)) as inspector:
        view = inspector.controller()
    if output_format == "json":
        print_json(controller_document(view))
    else:
        for line in controller_lines(view):
            say(line)


def controller_document(view: ControllerView) -> dict[str, Any]:
    """The JSON document of `zk controller` (docs/cli.md)."""
    takeover = _takeover(view)
    return {
        "controller": view.controller_id,
        "controller_epoch": view.controller_epoch,
        "since_ms": view.since_timestamp_ms,
        "previous": takeover.previous_id if takeover else None,
        "woken": takeover.woken if takeover else None,
        "waiting": takeover.waiting if takeover else None,
        "queue": list(view.queue),
    }


@command.command("guarantees")
@zookeeper_options
@format_option
def guarantees(connect: str | None, data_dir: Path, output_format: str) -> None:
    """Check what ZooKeeper promises, and print a table: a pass for each.

    Works below a node of its own, which is removed in the end. With several servers in --zookeeper
    its clients are spread over them. The status is 1 if a promise is not kept.
    """
    servers = find_zookeeper(connect, data_dir)
    with inspecting(servers):  # that it can be reached, and quiet
        from minikafka.zookeeper.looking.guarantees import check_all

        verdicts = list(check_all(servers))
    if output_format == "json":
        print_json(
            [
                {"guarantee": each.guarantee, "kept": each.kept, "evidence": each.evidence}
                for each in verdicts
            ]
        )
    else:
        rows = [
            (each.guarantee, "pass" if each.kept else "FAIL", each.evidence) for each in verdicts
        ]
        print_table(("guarantee", "result", "seen"), rows)
    if not all(each.kept for each in verdicts):
        raise SystemExit(1)


def _takeover(view: ControllerView) -> Takeover | None:
    """That of the controller that there is, once it is written."""
    takeover = view.takeover
    is_present = takeover is not None and takeover.controller_epoch == view.controller_epoch
    return takeover if is_present else None


def controller_lines(view: ControllerView) -> list[str]:
    """What a person reads of it."""

    def name(broker_id: int) -> str:
        return view.names.get(broker_id, str(broker_id))

    takeover = _takeover(view)
    if view.controller_id < 0:
        lines = [f"nobody is controller (controller epoch {view.controller_epoch})"]
    else:
        line = f"controller {name(view.controller_id)}, controller epoch {view.controller_epoch}"
        if takeover is not None:
            if takeover.previous_id not in (-1, view.controller_id):
                line += f", moved from {takeover.previous_name}"
            brokers = "broker" if takeover.waiting == 1 else "brokers"
            line += f", woke {takeover.woken} of {takeover.waiting} waiting {brokers}"
        lines = [line]
    waiting = [name(each) for each in view.queue if each != view.controller_id]
    return [*lines, f"waiting: {', '.join(waiting) or 'nobody'}"]


def printable(data: bytes, escape: Callable[[str], str] = escaped) -> str:
    """Text, of which `escape` leaves what a terminal may show; anything else in Python's
    notation."""
    try:
        return escape(data.decode())
    except UnicodeDecodeError:
        return repr(data)


def tree_lines(root: Node) -> list[str]:
    """One line a node, drawn as a tree."""
    return [_node_line(root.path, root), *_below(root, "")]


def _below(node: Node, indent: str) -> Iterator[str]:
    for number, child in enumerate(node.children, start=1):
        last = number == len(node.children)
        yield f"{indent}{'└── ' if last else '├── '}{_node_line(child.name, child)}"
        yield from _below(child, indent + ("    " if last else "│   "))


def _node_line(name: str, node: Node) -> str:
    return "  ".join([name, *_node_parts(node)])


def _node_parts(node: Node) -> list[str]:
    parts = []
    if node.data:
        data = printable(node.data)
        parts.append(data if len(data) <= _DATA_SHOWN else f"{data[:_DATA_SHOWN]}...")
    parts.append(f"(version {node.stat.version})")
    if node.stat.ephemeral_owner:
        parts.append(f"ephemeral, session 0x{node.stat.ephemeral_owner:x}")
    return parts


def node_document(node: Node, with_children: bool) -> dict[str, Any]:
    """The JSON document of a node (docs/cli.md). `json`: the data, where they are JSON."""
    stat = node.stat
    document: dict[str, Any] = {"path": node.path, "data": text_or_base64(node.data)}
    try:
        document["json"] = json.loads(node.data) if node.data else None
    except ValueError:
        document["json"] = None
    document |= {
        "version": stat.version,
        "cversion": stat.cversion,
        "czxid": stat.czxid,
        "mzxid": stat.mzxid,
        "pzxid": stat.pzxid,
        "ctime_ms": stat.ctime_ms,
        "mtime_ms": stat.mtime_ms,
        "ephemeral_owner": stat.ephemeral_owner,
        "children_count": stat.num_children,
    }
    if with_children:
        document["children"] = [node_document(child, True) for child in node.children]
    return document
