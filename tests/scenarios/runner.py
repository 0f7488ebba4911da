"""Reads and runs scenario files, and can write their expectations anew.

A file begins with its story (`#` lines) and consists of blocks: commands, one a line, with comments
of their own, then `----`, then the expected output up to the next blank line. What a command means
stands at its method below; docs/contributing.md has the table. A State that is written is printed
in the words of the slide; `ok` stands for no output at all.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minikafka.core.replication.events import LogStartRaised, SettingsChanged, StorageFailed
from minikafka.core.replication.settings import PartitionSettings
from minikafka.errors import MinikafkaError
from minikafka.model import UNKNOWN_OFFSET
from tests.helpers.core_builders import leader_of
from tests.scenarios.harness import Cluster, Link
from tests.scenarios.node import TP, Disk, Node, Produce

SEPARATOR = "----"


@dataclass
class Block:
    """`head`: comments and commands as written; `commands`: (line number, command)."""

    head: list[str] = field(default_factory=list)
    commands: list[tuple[int, str]] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)


def parse(text: str) -> list[Block]:
    """The blocks of a file. Comments alone (the story) are a block without commands."""
    blocks: list[Block] = []
    block, in_output = Block(), False
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if not line.strip():
            if block.head:
                blocks.append(block)
            block, in_output = Block(), False
        elif line == SEPARATOR:
            in_output = True
        elif in_output:
            block.expected.append(line)
        else:
            block.head.append(line)
            if not line.startswith("#"):
                block.commands.append((number, line))
    return blocks


def play(text: str) -> str:
    """The file with what really comes out. Raises AssertionError where an invariant breaks."""
    runner = Runner()
    parts = []
    for block in parse(text):
        lines = list(block.head)
        if block.commands:
            output = [line for command in block.commands for line in runner.run(*command)]
            lines += [SEPARATOR, *(output or ["ok"])]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def check(path: Path, rewrite: bool) -> None:
    """Play a file; compare, or rewrite it."""
    text = path.read_text()
    played = play(text)
    if rewrite:
        path.write_text(played)
    else:
        assert played == text, f"{path.name} plays otherwise (--rewrite-scenarios takes it over)"


class Runner:
    """One cluster, and the commands that move it."""

    def __init__(self) -> None:
        self.cluster: Cluster = None  # type: ignore[assignment]

    def run(self, number: int, line: str) -> list[str]:
        """The output of one command, after which everything has come to rest."""
        verb, *words = shlex.split(line, comments=True)
        command: Callable[..., None] | None = getattr(self, f"do_{verb.replace('-', '_')}", None)
        assert command is not None, f"line {number}: there is no command {verb!r}"
        try:
            command(*words)
            self.cluster.settle()
        except (AssertionError, KeyError, TypeError) as error:
            raise AssertionError(f"line {number}: {line}: {error}") from error
        said, self.cluster.lines = self.cluster.lines, []
        return said

    def node(self, name: str) -> Node:
        return self.cluster.nodes[name]

    # --- the cluster ---

    def do_cluster(self, names: str, *options: str) -> None:
        """cluster A,B,C [replicas=A,B] [min.insync=2] [lag=30s] [session=6s] [controller=C]
        [unclean]: brokers, and topic t with one partition."""
        given = dict(option.partition("=")[::2] for option in options)
        self.cluster = Cluster(
            names.split(","),
            given.pop("replicas", names).split(","),
            int(given.pop("min.insync", "1")),
            duration_ms(given.pop("lag", "30s")),
            duration_ms(given.pop("session", "6s")),
            given.pop("controller", ""),
            given.pop("unclean", None) is not None,
        )
        assert not given, f"unknown options {sorted(given)}"

    def do_min_insync(self, count: str) -> None:
        """min-insync 2: the topic's configuration changes."""
        old = self.cluster.settings
        new = PartitionSettings(int(count), old.replica_lag_time_max_ms)
        self.cluster.settings = new
        for node in self.cluster.nodes.values():
            if node.partition is not None:
                node.step(SettingsChanged(new))

    def do_tick(self, duration: str) -> None:
        """tick 15s: time passes, heartbeats and fetches go on."""
        self.cluster.tick(duration_ms(duration))

    # --- processes and sessions ---

    def do_kill(self, *names: str) -> None:
        """kill A B: the processes end, their sessions too; ZooKeeper sees it at once."""
        for name in names:
            self.cluster.crash(self.node(name))
            self.cluster.zookeeper.expire(self.node(name).broker_id)

    def do_crash(self, *names: str) -> None:
        """crash A: the process ends; its session lingers until it times out or A restarts."""
        for name in names:
            self.cluster.crash(self.node(name))

    def do_restart(self, *words: str) -> None:
        """restart A B [empty | dirty] [lost=N] [stale]: new processes on the old disks, all before
        the controller looks. empty: on a new disk. dirty: after the host went down; lost=N: with
        it the last N records went. stale: the checkpoint of the high watermark is an old one."""
        names = [word for word in words if word in self.cluster.nodes]
        options = {word.partition("=")[0]: word.partition("=")[2] for word in words[len(names) :]}
        for name in names:
            node = self.node(name)
            node.dirty = "dirty" in options
            if "empty" in options:
                node.disk = Disk(f"{node.disk.storage_id}'", damaged=True)
            if node.dirty:  # from now on the disk has another storage id
                node.disk.storage_id += "'"
                node.disk.damaged = True
                node.disk.cut(max(node.disk.start, node.disk.end - int(options.get("lost", "0"))))
            if "stale" in options:
                node.disk.high_watermark = node.disk.start
            self.cluster.restart(node)

    def do_pause(self, *names: str) -> None:
        """pause A: SIGSTOP; what is sent to it waits in its sockets."""
        for name in names:
            self.node(name).paused = True

    def do_resume(self, *names: str) -> None:
        """resume A: it reads what waited first, and only then notices a lost session."""
        for name in names:
            self.cluster.resume(self.node(name))

    def do_expire(self, name: str) -> None:
        """expire A: its session ends in ZooKeeper; A does not know it yet."""
        self.cluster.zookeeper.expire(self.node(name).broker_id)

    def do_register(self, name: str) -> None:
        """register A: A notices, and registers as a new incarnation."""
        self.cluster.register(self.node(name))

    def do_shutdown(self, name: str) -> None:
        """shutdown A: a controlled one; the process ends if it leads nothing any more."""
        node = self.node(name)
        remaining = self.cluster.control(
            lambda controller: controller.on_controlled_shutdown(node.broker_id, node.broker_epoch)
        )
        self.cluster.settle()
        if remaining:
            self.cluster.say(f"{name} cannot hand its leadership over")
            return
        self.do_kill(name)

    def do_announce_shutdown(self, name: str) -> None:
        """announce-shutdown A: like shutdown, but the process goes on."""
        node = self.node(name)
        self.cluster.control(
            lambda controller: controller.on_controlled_shutdown(node.broker_id, node.broker_epoch)
        )

    def do_fail(self, name: str) -> None:
        """fail A: the disk fails under the replica on A, and the controller hears of it."""
        node = self.node(name)
        partition = node.partition
        assert partition is not None
        node.step(StorageFailed("the disk failed"))
        self.cluster.control(
            lambda controller: controller.on_failed_replicas(
                node.broker_id, node.broker_epoch, [(TP, partition.topic_id)]
            )
        )

    # --- the network ---

    def do_partition(self, *words: str) -> None:
        """partition A | B,C,ZK: no side hears the others. Who is not named hears all."""
        groups = " ".join(words).split("|")
        self.cluster.cuts.append([set(group.strip().split(",")) for group in groups])

    def do_heal(self) -> None:
        """heal: everybody hears everybody; lost sessions are begun anew."""
        self.cluster.heal()

    def do_hold(self, link: str, kind: str = "*") -> None:
        """hold A->B [kind]: messages of a kind (state, fetch, reply, propose, answer) wait."""
        self._link(link, kind, copies=False)

    def do_copy(self, link: str, kind: str = "*") -> None:
        """copy A->B [kind]: messages pass, and a copy of each waits."""
        self._link(link, kind, copies=True)

    def _link(self, link: str, kind: str, *, copies: bool) -> None:
        sender, target = link.split("->")
        self.cluster.links.append(Link(sender, target, kind, copies))

    def do_release(self, link: str, *words: str) -> None:
        """release A->B [kind] [reversed | twice]: what waited arrives."""
        found = self._find(link)
        messages = list(found.kept)
        if "reversed" in words:
            messages.reverse()
        if "twice" in words:
            messages += messages
        assert messages, "nothing was held"
        self.cluster.release(found, messages)

    def do_pass(self, link: str, *_: str) -> None:
        """pass A->B: what comes from now on passes; what waited goes on waiting."""
        self._find(link).copies = True

    def do_drop(self, link: str, *_: str) -> None:
        """drop A->B [kind]: what waited is gone; the link is free again."""
        self.cluster.release(self._find(link), [])

    def _find(self, link: str) -> Link:
        sender, target = link.split("->")
        found = [li for li in self.cluster.links if (li.sender, li.target) == (sender, target)]
        assert found, f"{link} is neither held nor copied"
        return found[0]

    def do_fault(self, kind: str) -> None:
        """fault lost | applied: the connection to ZooKeeper breaks during the next write of a
        State, before or after it is applied; the controller sees a conflict and looks again."""
        self.cluster.zookeeper.fault = kind

    # --- clients ---

    def do_produce(self, *words: str) -> None:
        """produce x y [acks=all | acks=1] [at=A] [id=7 seq=0]: one batch of one record each, to
        the leader that ZooKeeper names, or to A."""
        options = dict(word.split("=") for word in words if "=" in word)
        acks = -1 if options.get("acks", "all") == "all" else int(options["acks"])
        producer_id, sequence = int(options.get("id", "-1")), int(options.get("seq", "-1"))
        for payload in (word for word in words if "=" not in word):
            name = options.get("at") or self._leader_name()
            producer = (producer_id, -1 if producer_id < 0 else 0, sequence)
            body = Produce(payload, acks, producer)
            if name is None or not self.node(name).up:
                self.cluster.say(f"{payload} finds nobody who answers")
            else:
                self.cluster.send("client", name, "produce", body)
            self.cluster.deliver_all()
            sequence += producer_id >= 0
        self.cluster.settle()

    def _leader_name(self) -> str | None:
        state = self.cluster.state
        node = None if state is None else self.cluster.by_id.get(state.leader)
        return None if node is None else node.name

    def do_fetch(self, name: str = "") -> None:
        """fetch [A]: a consumer reads all that it may see, from the leader or from A."""
        self._ask(name, lambda node: self._visible(node))

    def _visible(self, node: Node) -> str:
        assert node.partition is not None
        log = node.partition.log_state
        node.partition.check_consumer_fetch(log.log_start_offset, -1)
        offsets = range(log.log_start_offset, log.high_watermark)
        seen = [stored.payload for o in offsets if (stored := node.disk.at(o)) is not None]
        return " ".join(seen) or "nothing"

    def do_latest(self, name: str = "") -> None:
        """latest [A]: a consumer asks for the end of the log."""
        self._ask(name, lambda node: str(node.partition and node.partition.latest_offset()))

    def _ask(self, name: str, question: Callable[[Node], str]) -> None:
        name = name or self._leader_name() or ""
        if not name:
            self.cluster.say("nobody leads")
            return
        try:
            self.cluster.say(f"{name}: {question(self.node(name))}")
        except MinikafkaError as error:
            self.cluster.say(f"{name}: {error.name}")

    # --- administration ---

    def do_elect(self, kind: str) -> None:
        """elect preferred | unclean: an admin asks for an election."""
        results = self.cluster.control(
            lambda controller: controller.elect_leaders([TP], unclean=kind == "unclean")
        )
        for _, error in results:
            if error is not None:
                self.cluster.say(error.name)

    def do_reassign(self, target: str) -> None:
        """reassign B,C,D | cancel: the replicas that there shall be; the topic's node is printed as
        it becomes, and so is an error."""
        ids = [self.node(name).broker_id for name in target.split(",") if target != "cancel"]
        results = self.cluster.control(
            lambda controller: controller.alter_partition_reassignments({TP: ids or None})
        )
        for _, error in results or ():
            if error is not None:
                self.cluster.say(error.name)

    def do_depose(self, writes: str) -> None:
        """depose 2: after so many more writes to ZooKeeper another controller is elected, and the
        next write of this one is refused."""
        self.cluster.zookeeper.deposes = int(writes)

    def do_recreate(self) -> None:
        """recreate: topic t is deleted and made again, with another topic id."""
        self.cluster.recreate_topic()

    def do_retain(self, name: str, offset: str) -> None:
        """retain A 3: retention on A removes what lies below the offset."""
        node = self.node(name)
        assert node.partition is not None
        node.step(LogStartRaised(int(offset)))
        node.disk.forget_below(node.partition.log_state.log_start_offset)

    # --- looking ---

    def do_show(self) -> None:
        """show: the State, then every replica: role, epoch, high watermark, log as payload/epoch,
        and for a leader the maximal ISR where it differs, and what it knows of others."""
        state, cluster = self.cluster.state, self.cluster
        assert state is not None
        controller = cluster.by_id.get(cluster.zookeeper.controller)
        who = "nobody" if controller is None else controller.name
        cluster.say(
            f"{cluster.describe(state)} version={state.partition_version} "
            f"controller={who}/{cluster.zookeeper.controller_epoch}"
        )
        for node in cluster.nodes.values():
            if node.disk.topic_id is not None:
                cluster.say(self._line(node))

    def _line(self, node: Node) -> str:
        log = " ".join(f"{stored.payload}/{stored.epoch}" for stored in node.disk.batches)
        start = f"{node.disk.start}: " if node.disk.start else ""
        held = f"[{start}{log}]"
        if not node.up:
            return f"{node.name} down {held}"
        paused = " paused" if node.paused else ""
        partition = node.partition
        if partition is None:
            return f"{node.name} {node.role.value}{paused} {held}"
        line = (
            f"{node.name} {node.role.value}{paused} epoch={partition.leader_epoch} "
            f"hw={partition.log_state.high_watermark} {held}"
        )
        return line + (self._leader_words(node) if partition.is_leader else "")

    def _leader_words(self, node: Node) -> str:
        assert node.partition is not None
        leader = leader_of(node.partition)
        known = " ".join(
            f"{self.cluster.by_id[broker_id].name}={_offset(progress.log_end_offset)}"
            for broker_id, progress in sorted(leader.followers.items())
        )
        names = ",".join(self.cluster.by_id[b].name for b in sorted(leader.isr.maximal))
        maximal = f" maximal={{{names}}}" if leader.isr.additions else ""
        return f" knows {known}{maximal}" if known else maximal


def _offset(offset: int) -> str:
    return "?" if offset == UNKNOWN_OFFSET else str(offset)


def duration_ms(text: str) -> int:
    """`15s` or `500` (milliseconds)."""
    return int(text[:-1]) * 1000 if text.endswith("s") else int(text)
