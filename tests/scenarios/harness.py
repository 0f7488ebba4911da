"""A cluster in one thread for scenarios: the real core of every broker and of the controller, over
disks, a network and a ZooKeeper in memory. No asyncio, no clock, no chance.

State: the time (`now_ms`), the nodes, ZooKeeper, who is cut off from whom, messages held back, and
the ledger of what is committed (invariants.py looks at it after every step). Messages are delivered
at once and in order, unless their link is held, cut, or their receiver paused. `settle` lets every
broker fetch, propose and decide until nothing changes any more; time moves with `tick` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from minikafka.api.requests import CreateTopic, UpdateStateRequest
from minikafka.core.control.commands import (
    DeposedError,
    GaveUpError,
    Operation,
    StateChange,
)
from minikafka.core.control.controller import ClusterRead, Controller
from minikafka.core.control.topics import NewTopicDefaults
from minikafka.core.replication.events import Registered
from minikafka.core.replication.settings import PartitionSettings
from minikafka.errors import MinikafkaError
from minikafka.model import (
    Assignment,
    BrokerInfo,
    IsrProposal,
    PartitionState,
    TopicDescription,
    describe_state,
)
from tests.helpers.controller_bench import check_settled
from tests.helpers.core_builders import leader_of
from tests.scenarios.invariants import Ledger, check_cluster
from tests.scenarios.node import TP, Answer, Deleted, Fetch, Node, Produce, Proposed, Reply
from tests.scenarios.zookeeper import MemoryZooKeeper

MAX_ROUNDS = 300


@dataclass(frozen=True)
class Message:
    """`kind`: state, fetch, reply, propose, answer or produce."""

    sender: str
    target: str
    kind: str
    body: Any


@dataclass
class Link:
    """What befalls messages from one broker to another (`*`: any), of one kind (`*`: any). With
    `copies` they pass, and a copy is kept; otherwise they are held back."""

    sender: str
    target: str
    kind: str
    copies: bool
    kept: list[Message] = field(default_factory=list)

    def takes(self, message: Message) -> bool:
        return (
            self.sender in ("*", message.sender)
            and self.target in ("*", message.target)
            and self.kind in ("*", message.kind)
        )

    def keep(self, message: Message) -> None:
        """A message that is sent again unchanged is kept once."""
        if message not in self.kept:
            self.kept.append(message)


class Cluster:
    """Brokers by name in the order given: the first has id 1."""

    def __init__(
        self,
        names: Sequence[str],
        replicas: Sequence[str] = (),
        min_insync: int = 1,
        lag_ms: int = 30_000,
        session_ms: int = 6_000,
        controller: str = "",
        unclean: bool = False,
    ) -> None:
        self.now_ms = 0
        self.settings = PartitionSettings(min_insync, lag_ms, False)
        self.session_ms = session_ms
        self.first_controller = controller
        self.unclean = unclean
        self.zookeeper = MemoryZooKeeper(self._on_state_written, self._on_topic_written)
        self.nodes = {name: Node(self, number + 1, name) for number, name in enumerate(names)}
        self.by_id = {node.broker_id: node for node in self.nodes.values()}
        self.cuts: list[list[set[str]]] = []
        self.links: list[Link] = []
        self.ledger = Ledger()
        self.lines: list[str] = []
        self._queue: list[Message] = []
        self._inboxes: dict[str, list[Message]] = {name: [] for name in names}
        self._topic_ids = self._messages = 0
        for node in self.nodes.values():
            node.up = True
            self.register(node)
        assigned = [self.nodes[name].broker_id for name in replicas or names]
        self.settle()
        self.control(
            lambda controller: controller.create_topics(
                [CreateTopic("t", assignments={0: assigned})],
                NewTopicDefaults(lambda _: 0, self._topic_id),
            )
        )
        self.settle()

    def _topic_id(self) -> str:
        self._topic_ids += 1
        return f"topic-{self._topic_ids}"

    # --- what is to be seen ---

    @property
    def state(self) -> PartitionState | None:
        return self.zookeeper.states.get(TP)

    @property
    def has_controller(self) -> bool:
        """Is there one that can act?"""
        node = self.by_id.get(self.zookeeper.controller)
        return (
            node is not None
            and node.controller is not None
            and node.running
            and self.reaches(node.name, "ZK")
        )

    def sees(self, node: Node) -> bool:
        """Does the controller know this incarnation?"""
        controller = self.by_id[self.zookeeper.controller].controller
        known = controller and controller.context.brokers.get(node.broker_id)
        return known is not None and known.broker_epoch == node.broker_epoch

    def say(self, line: str) -> None:
        self.lines.append(line)

    def describe(self, state: PartitionState) -> str:
        names = {broker_id: node.name for broker_id, node in self.by_id.items()}
        return describe_state(state.leader, state.leader_epoch, state.isr, names)

    def _on_state_written(self, change: StateChange) -> None:
        if change.old is None or self.describe(change.old) != self.describe(change.new):
            self.say(self.describe(change.new))
        if change.unclean:
            self.ledger.forget_what_lacks(self.by_id[change.new.leader].disk)
        for member in change.new.isr:
            node = self.by_id[member]
            if change.new.isr_storage.get(member, "").endswith(f"@{node.broker_epoch}"):
                node.disk.damaged = False

    def _on_topic_written(self, topic: TopicDescription) -> None:
        self.say(self.describe_assignment(topic.assignments[0]))

    def describe_assignment(self, assignment: Assignment) -> str:
        """`Replicas=B,C,A adding=C removing=A`, and who has yet to delete its log."""
        words = []
        for word in ("Replicas", "adding", "removing", "dropped"):
            if ids := getattr(assignment, word.lower()):
                names = ",".join(self.by_id[broker_id].name for broker_id in ids)
                words.append(f"{word}={names}")
        return " ".join(words)

    def on_cut(self, node: Node, offset: int, committed_lost: bool) -> None:
        assert not committed_lost or self.ledger.unclean, (
            f"{node.name} cuts committed records from {offset} on"
        )

    def on_deleted(self, node: Node) -> None:
        assert self.state is None or node.broker_id not in self.state.isr, (
            f"{node.name} deletes its log and is in the ISR"
        )

    def on_high_watermark(self, node: Node, high_watermark: int) -> None:
        self.ledger.commit(node, high_watermark)

    def on_adopted(self, node: Node) -> None:
        if node.partition is not None and node.partition.is_leader:
            self.ledger.check_leader(node, self.state)

    def on_appended(self, request: Produce, offset: int) -> None:
        if request.acks == 1:
            self.say(f"{request.payload} is appended at {offset}")

    def on_produced(self, node: Node, payload: str, error: MinikafkaError | None) -> None:
        if error is not None:
            self.say(f"{payload} fails: {error.name}")
            return
        offset = self.ledger.acknowledge(node, payload, self)
        self.say(f"{payload} is acknowledged at {offset}")

    # --- processes and sessions ---

    def info(self, node: Node) -> BrokerInfo:
        return BrokerInfo(
            node.broker_id, node.name, "-", 0, storage_id=node.disk.storage_id, dirty=node.dirty
        )

    def register(self, node: Node) -> None:
        """A new incarnation, with or without a new process."""
        node.controller = None
        node.last_heard_ms = self.now_ms
        node.broker_epoch = self.zookeeper.register(self.info(node))
        if node.partition is not None:
            node.step(Registered(node.broker_epoch))

    def registered(self, node: Node) -> bool:
        known = self.zookeeper.brokers.get(node.broker_id)
        return known is not None and known.broker_epoch == node.broker_epoch

    def crash(self, node: Node) -> None:
        """The process ends; its session lingers."""
        node.up = False
        self._inboxes[node.name].clear()
        node.begin()

    def restart(self, node: Node) -> None:
        assert not node.up, f"{node.name} runs already"
        node.begin()
        node.up = True
        self.register(node)

    def resume(self, node: Node) -> None:
        """What came in meanwhile is read before the process notices anything else."""
        node.paused = False
        waiting, self._inboxes[node.name] = self._inboxes[node.name], []
        for message in waiting:
            self._deliver(message)
        if not self.registered(node) and self.reaches(node.name, "ZK"):
            self.register(node)

    def heal(self) -> None:
        """All cuts end; whoever lost the session meanwhile registers again."""
        self.cuts.clear()
        for node in self.nodes.values():
            if node.running and not self.registered(node):
                self.register(node)

    # --- the network ---

    def reaches(self, one: str, other: str) -> bool:
        """Each cut is a list of groups; who is in none of them reaches everybody."""
        for groups in self.cuts:
            sides = [next((g for g in groups if end in g), None) for end in (one, other)]
            if one != other and None not in sides and sides[0] is not sides[1]:
                return False
        return True

    def send(self, sender: str, target: str, kind: str, body: Any) -> bool:
        """True if it arrives, as far as the sender can know."""
        message = Message(sender, target, kind, body)
        node = self.nodes.get(target)
        if node is None or not node.up or not self.reaches(sender, target):
            return False
        link = next((link for link in self.links if link.takes(message)), None)
        if link is not None:
            link.keep(message)
            if not link.copies:
                return False
        if node.paused:
            if message not in self._inboxes[target]:
                self._inboxes[target].append(message)
            return False
        self._queue.append(message)
        return True

    def deliver_all(self) -> None:
        while self._queue:
            self._deliver(self._queue.pop(0))

    def release(self, link: Link, messages: Iterable[Message]) -> None:
        """The link is free again; these of its messages come out of it, in this order."""
        self.links.remove(link)
        for message in link.kept:
            if message.kind in ("fetch", "reply"):  # whoever waits for them gives up
                fetcher = message.sender if message.kind == "fetch" else message.target
                self.nodes[fetcher].fetching = None
        for message in messages:
            if self.nodes[message.target].running:
                self._deliver(message)
                self.deliver_all()

    def _deliver(self, message: Message) -> None:
        node = self.nodes[message.target]
        match message.body:
            case UpdateStateRequest():
                deleted = node.on_state(message.body)
                if deleted is not None:
                    self._on_deleted(node.name, deleted)
            case Fetch():
                reply = node.on_fetch(message.body)
                self._answer(node, message, "reply", reply)
            case Reply():
                node.on_reply(message.body)
            case Proposed():
                self._judge(node, message)
            case Answer():
                node.on_answer(message.body)
            case Produce():
                node.produce(message.body)

    def _answer(self, node: Node, message: Message, kind: str, body: Any) -> None:
        """Without an answer the asker tries again, unless it waits for one that is held back."""
        asker = self.nodes[message.sender]
        if not self.send(node.name, asker.name, kind, body) and not self._held(kind, body):
            if kind == "reply":
                asker.fetching = None
            else:
                asker.proposed = False

    def _held(self, kind: str, body: Any) -> bool:
        kept = [message for link in self.links for message in link.kept]
        kept += [message for inbox in self._inboxes.values() for message in inbox]
        return any(message.kind == kind and message.body == body for message in kept)

    # --- the controller ---

    def control(self, operation: Callable[[Controller], Operation[Any]]) -> Any:
        """The active controller handles an event."""
        return self.run(self.by_id[self.zookeeper.controller], operation)

    def run(self, node: Node, operation: Callable[[Controller], Operation[Any]]) -> Any:
        """Carry an operation out; a controller that is deposed ends its term."""
        assert node.controller is not None
        controller = node.controller
        try:
            steps, result = operation(controller), None
            while True:
                command = steps.send(result)
                epoch = controller.context.controller_epoch
                result = self.zookeeper.execute(command, epoch)
        except StopIteration as stop:
            check_settled(controller)
            return stop.value
        except (DeposedError, GaveUpError):
            node.controller = None
            return None

    def _controller_turn(self) -> None:
        zookeeper = self.zookeeper
        if zookeeper.controller == -1:
            self._elect_controller()
        for node in self.nodes.values():
            if node.controller is None or not node.running or not self.reaches(node.name, "ZK"):
                continue
            if zookeeper.controller != node.broker_id:
                node.controller = None  # its watch tells it
                continue
            if node.controller.context.brokers != zookeeper.brokers:
                self.run(node, lambda controller: controller.on_brokers(dict(zookeeper.brokers)))
            self._send_letters(node)

    def _elect_controller(self) -> None:
        able = [
            node
            for node in self.nodes.values()
            if node.running and self.registered(node) and self.reaches(node.name, "ZK")
        ]
        if not able:
            return
        winner = next((node for node in able if node.name == self.first_controller), able[0])
        epoch = self.zookeeper.elect(winner.broker_id)
        winner.controller = Controller(
            winner.broker_id,
            epoch,
            lambda _: self.unclean,
            lambda _: self.settings.min_insync_replicas,
        )
        read = ClusterRead(
            dict(self.zookeeper.brokers), dict(self.zookeeper.topics), dict(self.zookeeper.states)
        )
        self.run(winner, lambda controller: controller.load(read))

    def _send_letters(self, node: Node) -> None:
        controller = node.controller
        if controller is None:
            return
        context = controller.context
        sent = []
        for broker_id, broker in controller.outbox.brokers().items():
            message = controller.outbox.take(broker_id, broker.broker_epoch)
            if message is None:
                continue
            request = UpdateStateRequest(
                context.controller_id,
                context.controller_epoch,
                broker.broker_epoch,
                list(context.brokers.values()),
                list(context.shutting_down),
                message.partitions,
                message.deletions,
                message.deleted_topics,
                number=self._next_number(),
                drops=message.drops,
            )
            if not self.send(node.name, broker.name, "state", request):
                controller.outbox.put_back(message)
            else:
                sent.append(message)
        self.deliver_all()
        for message in sent:
            controller.outbox.acknowledge(message)
        if sent and controller.awaits_word:
            self.run(node, lambda controller: controller.on_word())

    def _next_number(self) -> int:
        self._messages += 1
        return self._messages

    def _on_deleted(self, sender: str, deleted: Deleted) -> None:
        """A broker has deleted its replica, and the controller that asked for it hears so."""
        controller = self.by_id[deleted.controller_id]
        if controller.controller is not None and controller.running:
            self.run(
                controller,
                lambda core: core.on_replicas_deleted(
                    self.nodes[sender].broker_id, deleted.replicas
                ),
            )

    def _judge(self, node: Node, message: Message) -> None:
        """A proposal at whoever is taken for the controller; frozen without ZooKeeper."""
        proposed: Proposed = message.body
        proposal = proposed.proposal
        asker = self.nodes[message.sender]
        asker.proposed = False  # whatever goes wrong now, it is sent again
        if node.controller is None or not self.reaches(node.name, "ZK"):
            return
        try:
            judged = self.run(
                node,
                lambda controller: controller.alter_partition(
                    proposed.broker_id, proposed.broker_epoch, [_as_proposal(proposal)]
                ),
            )
        except MinikafkaError:
            return
        if judged is not None:
            answer = Answer(proposal, judged[0].error, judged[0].state)
            asker.proposed = True
            self._answer(node, message, "answer", answer)

    # --- until nothing changes ---

    def settle(self) -> None:
        for _ in range(MAX_ROUNDS):
            before = self._fingerprint()
            self._controller_turn()
            for node in self.nodes.values():
                self._fetch_turn(node)
            for node in self.nodes.values():
                self._proposal_turn(node)
            check_cluster(self)
            if self._fingerprint() == before:
                return
        raise AssertionError(f"the cluster does not settle: {self.lines[-10:]}")

    def _fetch_turn(self, node: Node) -> None:
        due = node.next_fetch() if node.running else None
        if due is not None:
            leader, fetch = due
            target = self.by_id[leader].name
            if not self.send(node.name, target, "fetch", fetch) and not self._held("fetch", fetch):
                node.fetching = None
            self.deliver_all()

    def _proposal_turn(self, node: Node) -> None:
        due = node.next_proposal() if node.running else None
        if due is not None:
            controller_id, proposed = due
            controller = self.by_id.get(controller_id)
            if controller is None or not self.send(node.name, controller.name, "propose", proposed):
                node.proposed = False
            self.deliver_all()

    def _fingerprint(self) -> object:
        zookeeper = self.zookeeper
        parts: list[object] = [
            dict(zookeeper.states),
            dict(zookeeper.topics),
            dict(zookeeper.brokers),
            zookeeper.controller_epoch,
        ]
        for node in self.nodes.values():
            disk = node.disk
            parts.append((disk.start, disk.end, disk.high_watermark, disk.epochs, node.role))
            partition = node.partition
            if partition is not None:
                parts.append((partition.state, partition.log_state.last_epoch, node.proposal))
                if partition.is_leader:
                    leader = leader_of(partition)
                    progress = sorted((b, p.log_end_offset) for b, p in leader.followers.items())
                    parts.append((progress, sorted(leader.isr.maximal), leader.isr.pending))
        return parts

    def tick(self, duration_ms: int) -> None:
        """Time passes, in steps: heartbeats, fetches, lag checks, sessions that end."""
        step_ms = max(1, self.settings.replica_lag_time_max_ms // 20)
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, self.now_ms + step_ms)
            for node in self.nodes.values():
                if node.running and self.registered(node) and self.reaches(node.name, "ZK"):
                    node.last_heard_ms = self.now_ms
                elif self.registered(node) or not node.up:
                    self._maybe_expire(node)
            self.settle()
            for node in self.nodes.values():
                if node.running and node.schedule.due(self.now_ms):
                    node.check_lag()
            self.settle()

    def _maybe_expire(self, node: Node) -> None:
        if not any(self.reaches(other.name, "ZK") for other in self.nodes.values()):
            return  # as an ensemble without a majority, which ends nobody's session
        if self.now_ms - node.last_heard_ms > self.session_ms:
            self.zookeeper.expire(node.broker_id)

    # --- topics ---

    def recreate_topic(self) -> None:
        """The topic is deleted and made again by somebody, with another id."""
        old = self.zookeeper.topics["t"]
        del self.zookeeper.states[TP]
        self.zookeeper.topics["t"] = TopicDescription("t", self._topic_id(), old.assignments)
        self.ledger = Ledger()
        self.control(lambda controller: controller.on_topics(dict(self.zookeeper.topics)))


def _as_proposal(proposal: IsrProposal) -> IsrProposal:
    return IsrProposal(
        proposal.topic_partition,
        proposal.topic_id,
        proposal.leader_epoch,
        proposal.partition_version,
        proposal.isr,
        proposal.reason,
    )
