"""Where everything that is seen of a cluster comes together: it becomes events with reasons in the
history, and messages to the browsers. Pure: what is seen and the time go in, `publish` gets out.

The sources (sources.py, or a fake one in the tests) call the `on_…` methods. The first picture is
the beginning: what was so already is no event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from minikafka.core.control.incarnation import marked_epoch
from minikafka.dashboard.documents import (
    event_document,
    picture_document,
    sample_document,
    samples_document,
    view_document,
)
from minikafka.dashboard.history import (
    BrokerView,
    ControllerView,
    History,
    PartitionView,
    Picture,
    Process,
    SourceView,
    Tone,
    TopicGone,
    View,
)
from minikafka.dashboard.offsets import Offsets, Sample
from minikafka.dashboard.reasons import Lag, Witness, why
from minikafka.model import (
    NO_LEADER,
    BrokerInfo,
    PartitionMetadata,
    TopicPartition,
    broker_name,
    describe_state,
)
from minikafka.watching.board import (
    BrokerCame,
    BrokerGone,
    Change,
    ControllerChanged,
    PartitionChanged,
    TopicDeleted,
)

Publish = Callable[[str, Any], None]

_SHUTS_DOWN_WITHIN_MS = 20_000
_FLOW_KEPT = 600


@dataclass(slots=True)
class _LeftAlive:
    """Events in which a broker left an ISR for no reason that was seen."""

    at_ms: int
    numbers: list[int] = field(default_factory=list)


class DashboardState:
    """See the module's docstring. Times are wall-clock milliseconds, never older than before."""

    def __init__(self, now_ms: int, publish: Publish, history_limit: int = 5_000) -> None:
        self.history = History(now_ms, history_limit)
        self.offsets = Offsets()
        self.tree: dict[str, dict[str, Any]] = {}
        self.groups: list[dict[str, Any]] = []
        self.transactions: dict[str, Any] = {"open": 0, "transactions": []}
        self.nodes: list[dict[str, Any]] = []
        self.flow: list[tuple[int, float]] = []
        self._publish = publish
        self._begun = False
        self._came_ms: dict[int, int] = {}
        self._left_alive: dict[int, _LeftAlive] = {}
        self._mute: set[str] = set()

    @property
    def picture(self) -> Picture:
        return self.history.now

    # --- what is seen ---

    def expect(self, brokers: Iterable[BrokerView]) -> None:
        """Brokers that are known beforehand, before anybody has told of them."""
        for broker in brokers:
            self.history.begin(broker)

    def on_changes(self, now_ms: int, changes: Sequence[Change]) -> None:
        """News of brokers or of ZooKeeper, from one update: brokers before partitions."""
        for change in changes:
            match change:
                case BrokerCame(broker):
                    self._on_came(now_ms, broker)
                case BrokerGone(broker):
                    self._on_gone(now_ms, broker)
                case ControllerChanged(controller_id, controller_epoch):
                    self._on_controller(now_ms, ControllerView(controller_id, controller_epoch))
                case PartitionChanged(partition, _):
                    self._on_partition(now_ms, partition)
                case TopicDeleted(name):
                    self.offsets.forget_topic(name)
                    self._record(now_ms, TopicGone(name), f"topic {name} was deleted")
        self._begun = self._begun or bool(changes)

    def on_controller_gone(self, now_ms: int, controller_epoch: int) -> None:
        """The controller of that epoch is none any more, and no other is elected yet."""
        held = self.picture.controller
        if held.controller_id >= 0 and held.controller_epoch == controller_epoch:
            self._on_controller(now_ms, ControllerView(-1, held.controller_epoch))

    def on_processes(self, now_ms: int, processes: Mapping[int, Process]) -> None:
        """What the processes of this machine do."""
        for broker_id, process in processes.items():
            held = self.picture.brokers.get(broker_id)
            if held is None or held.process == process:
                continue
            view = replace(held, process=process)
            words: dict[str, tuple[str, Tone]] = {
                "running": (" goes on" if held.process == "paused" else "'s process began", "note"),
                "paused": (" is paused", "bad"),
                "ended": ("'s process ended", "bad" if held.registered else "note"),
            }
            text, tone = words[process]
            self._record(now_ms, view, f"broker {held.name}{text}", tone=tone)

    def on_source(self, now_ms: int, source: str, is_heard: bool, detail: str = "") -> None:
        """Whether "brokers" or "zookeeper" can be heard."""
        held = self.picture.sources.get(source)
        view = SourceView(source, is_heard, detail)
        if held is not None and held.is_heard == is_heard:
            return
        who = {"brokers": "the brokers", "zookeeper": "ZooKeeper"}.get(source, source)
        if is_heard and held is None:
            self._begin(view)
        elif is_heard:
            self._record(now_ms, view, f"{who}: heard again", tone="good")
        else:
            self._record(now_ms, view, f"{who}: nothing is heard", detail, tone="bad")

    def on_offsets(self, now_ms: int, samples: Mapping[TopicPartition, Sample]) -> None:
        moved = self.offsets.record(now_ms, samples)
        if moved:
            self._publish("offsets", {"at": now_ms, "samples": self._samples(now_ms, moved)})

    def on_second(self, now_ms: int) -> None:
        """The flow of records as a whole, and partitions that have come to rest."""
        rates = {key: self.offsets.rate(key, now_ms) for key in self.picture.partitions}
        total = round(sum(rates.values()), 1)
        self.flow.append((now_ms, total))
        del self.flow[:-_FLOW_KEPT]
        still = [key for key, rate in rates.items() if rate == 0.0 and str(key) not in self._mute]
        self._mute = {str(key) for key, rate in rates.items() if rate == 0.0}
        self._publish(
            "flow", {"at": now_ms, "rate": total, "samples": self._samples(now_ms, still)}
        )

    def on_tree(self, changed: Mapping[str, dict[str, Any]], gone: Iterable[str]) -> None:
        """Znodes by path, as documents; those that are gone, by path."""
        self.tree.update(changed)
        paths = [path for path in gone if self.tree.pop(path, None) is not None]
        self._publish("tree", {"changed": dict(changed), "gone": paths})

    def on_groups(self, groups: list[dict[str, Any]]) -> None:
        if groups != self.groups:
            self.groups = groups
            self._publish("groups", groups)

    def on_transactions(self, transactions: dict[str, Any]) -> None:
        """Those that are open (watching/transactions.py)."""
        if transactions != self.transactions:
            self.transactions = transactions
            self._publish("transactions", transactions)

    def on_nodes(self, nodes: list[dict[str, Any]]) -> None:
        if nodes != self.nodes:
            self.nodes = nodes
            self._publish("nodes", nodes)

    # --- documents ---

    def whole(self, now_ms: int) -> dict[str, Any]:
        """Everything that a browser needs to begin."""
        samples = self.offsets.now()
        return {
            "now": now_ms,
            "began": self.history.began_ms,
            "limit": self.history.limit,
            "dropped": self.history.dropped,
            "views": picture_document(self.picture),
            "events": [event_document(each) for each in self.history.events],
            "samples": self._samples(now_ms, samples),
            "flow": self.flow,
            "tree": self.tree,
            "groups": self.groups,
            "transactions": self.transactions,
            "nodes": self.nodes,
        }

    def past(self, picture: Picture, moment_ms: int) -> dict[str, Any]:
        """The picture of a moment, with the offsets as of then."""
        samples = self.offsets.at(moment_ms)
        return {
            "at": moment_ms,
            "views": picture_document(picture),
            "samples": samples_document(samples, {}),
        }

    def series(self, key: TopicPartition) -> list[list[Any]]:
        """What is kept of one partition's offsets: [time, high watermark, end, replicas]."""
        return [
            [at_ms, each.high_watermark, each.log_end_offset, each.replicas]
            for at_ms, each in self.offsets.series(key)
        ]

    def _samples(self, now_ms: int, keys: Iterable[TopicPartition]) -> dict[str, list[Any]]:
        found = {}
        for key in keys:
            sample = self.offsets.latest(key)
            if sample is not None:
                found[str(key)] = sample_document(sample, self.offsets.rate(key, now_ms))
        return found

    # --- inside ---

    def _on_came(self, now_ms: int, broker: BrokerInfo) -> None:
        held = self.picture.brokers.get(broker.broker_id)
        view = BrokerView(
            broker.broker_id,
            broker.name or broker_name(broker.broker_id),
            registered=True,
            process=held.process if held else "",
            broker_epoch=broker.broker_epoch,
            grpc=broker.grpc_address,
            kafka=broker.kafka_address,
            rack=broker.rack,
        )
        if self._begun:
            self._came_ms[broker.broker_id] = now_ms
        self._record(now_ms, view, f"broker {view.name} is in the cluster", tone="good")

    def _on_gone(self, now_ms: int, broker: BrokerInfo) -> None:
        held = self.picture.brokers.get(broker.broker_id)
        if held is None or held.broker_epoch > broker.broker_epoch:
            return
        view = replace(held, registered=False)
        left = self._left_alive.pop(broker.broker_id, None)
        if left is not None and now_ms - left.at_ms <= _SHUTS_DOWN_WITHIN_MS:
            reason, tone = "it shut down", "note"
            self._amend(left.numbers, f"unknown: {held.name} is alive", f"{held.name} shut down")
        elif held.process == "ended":
            reason, tone = "its process ended, and then its session", "bad"
        elif held.process == "paused":
            reason, tone = "it is paused, and its session expired", "bad"
        else:
            reason, tone = "its session with ZooKeeper ended", "bad"
        self._record(now_ms, view, f"broker {held.name} left the cluster", reason, _tone(tone))

    def _amend(self, numbers: Iterable[int], old: str, new: str) -> None:
        kept = {event.number: event for event in self.history.events}
        for number in numbers:
            event = kept.get(number)
            if event is None:
                continue
            amended = self.history.amend(number, event.reason.replace(old, new))
            if amended is not None:
                self._publish("event", event_document(amended))

    def _on_controller(self, now_ms: int, view: ControllerView) -> None:
        held = self.picture.controller
        if view == held:
            return
        if view.controller_id < 0:
            self._record(now_ms, view, "no controller", self._gone_reason(held), "bad")
            return
        name = self.picture.name(view.controller_id)
        text = f"controller {name} (epoch {view.controller_epoch})"
        self._record(now_ms, view, text, self._gone_reason(held), "note")

    def _gone_reason(self, held: ControllerView) -> str:
        """Why the controller before is none any more, if that is seen."""
        broker = self.picture.brokers.get(held.controller_id)
        if broker is None or broker.status == "live":
            return ""
        return f"{broker.name} is paused" if broker.status == "paused" else f"{broker.name} died"

    def _on_partition(self, now_ms: int, partition: PartitionMetadata) -> None:
        key, state = partition.topic_partition, partition.state
        view = PartitionView(
            topic=key.topic,
            partition=key.partition,
            topic_id=partition.topic_id,
            replicas=partition.assignment.replicas,
            leader=state.leader,
            leader_epoch=state.leader_epoch,
            isr=state.isr,
            partition_version=state.partition_version,
            controller_epoch=state.controller_epoch,
            adding=partition.assignment.adding,
            removing=partition.assignment.removing,
            admitted=tuple(
                (member, epoch)
                for member, mark in state.isr_storage.items()
                if (epoch := marked_epoch(mark)) is not None
            ),
        )
        held = self.picture.partitions.get(key)
        witness = Witness(now_ms, self.picture.brokers, self._came_ms, self._lag)
        reason = why(held, view, witness)
        names = {each.broker_id: each.name for each in self.picture.brokers.values()}
        words = describe_state(state.leader, state.leader_epoch, state.isr, names)
        number = self._record(now_ms, view, f"{key} {words}", reason.text, _judge(held, view))
        for broker_id in reason.left_alive if number else ():
            left = self._left_alive.setdefault(broker_id, _LeftAlive(now_ms))
            left.at_ms = now_ms
            left.numbers.append(number)

    def _lag(self, key: TopicPartition, broker_id: int) -> Lag | None:
        sample = self.offsets.latest(key)
        for replica, end, lag_ms in sample.replicas if sample else ():
            if sample is not None and replica == broker_id and lag_ms >= 0:
                return Lag(max(sample.log_end_offset - end, 0), lag_ms)
        return None

    def _begin(self, view: View) -> None:
        self.history.begin(view)
        self._publish("views", [view_document(view)])

    def _record(
        self, now_ms: int, view: View, text: str, reason: str = "", tone: Tone = "note"
    ) -> int:
        """The number of the event; 0 if it belongs to the beginning."""
        if not self._begun:
            self._begin(view)
            return 0
        event = self.history.record(now_ms, view, text, reason, tone)
        self._publish("event", event_document(event))
        return event.number


def _tone(word: str) -> Tone:
    return "bad" if word == "bad" else "note"


def _judge(before: PartitionView | None, after: PartitionView) -> Tone:
    """Whether a change is for the better: members and leaders lost or won."""
    if before is None or before.topic_id != after.topic_id:
        return "note"
    if after.leader == NO_LEADER or set(before.isr) - set(after.isr):
        return "bad"
    if before.leader == NO_LEADER or set(after.isr) - set(before.isr):
        return "good"
    return "note"
