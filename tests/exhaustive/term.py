"""One controller of the model: the real core.controller, built from a value, given one event.

Purpose: `TermStep` plays operations of the real Controller over a ZooKeeper that is a value. An
operation is one event of the model: between a controller's decision and its write only another
controller could come, and that is what the fence is for. What it has to tell leaves as in the
runtime (ControllerChannelManager): after each command, to each broker to whom nothing is on its
way; what has to wait is merged in the real outbox.

State: none but the settings. Invariants checked here, of every State that is written: nos. 1 and 3
from the two States alone (as tests/scenarios/zookeeper.py does), and no. 14: only the controller of
the epoch in ZooKeeper writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from minikafka.api.outcomes import WriteOutcome
from minikafka.core.control.commands import (
    DeposedError,
    GaveUpError,
    Operation,
    ReadStates,
    WriteStates,
)
from minikafka.core.control.controller import ClusterRead, Controller
from minikafka.core.control.outbox import _Box
from minikafka.errors import MinikafkaError, NotControllerError
from minikafka.model import BrokerInfo, IsrProposal, PartitionMetadata
from tests.exhaustive.values import (
    TOPIC_ID,
    TP,
    Answer,
    Box,
    Propose,
    Registration,
    State,
    Term,
    UpdateStateBatch,
    ZooKeeper,
    assignment,
    of_info,
    of_state,
    to_info,
    to_state,
    topic,
)
from tests.scenarios.zookeeper import check_step

CONTROLLER_ID = 99  # it lives on a broker of its own, which is no replica


class TermResult(NamedTuple):
    """`term` None: deposed. `writes`: the States that became of it, in order."""

    term: Term | None
    zookeeper: ZooKeeper
    writes: tuple[State, ...] = ()
    answer: Answer | None = None
    violation: str | None = None
    unclean: bool = False


class TermStep:
    def __init__(self, replicas: int, unclean: bool = False) -> None:
        self.replicas = replicas
        self.unclean = unclean

    def begin(self, zookeeper: ZooKeeper) -> TermResult:
        """A new controller is elected and takes over."""
        epoch = zookeeper.controller_epoch + 1
        live = LiveTerm(self, Term(epoch, (), None, (), (), ()), zookeeper, None)
        live.zookeeper_epoch = epoch
        state = zookeeper.state
        read = ClusterRead(
            _infos(zookeeper.registrations),
            {"t": topic(self.replicas)},
            {} if state is None else {TP: to_state(state)},
        )
        live.controller.context.forget_topic("t")
        return live.run(lambda controller: controller.load(read))

    def read_brokers(self, term: Term, zookeeper: ZooKeeper, fault: str | None) -> TermResult:
        """It hears that the live brokers changed, and reads them."""
        brokers = _infos(zookeeper.registrations)
        live = LiveTerm(self, term, zookeeper, fault)
        return live.run(lambda controller: controller.on_brokers(brokers))

    def judge(
        self, term: Term, zookeeper: ZooKeeper, propose: Propose, fault: str | None
    ) -> TermResult:
        """A leader's proposal arrives. Without an answer the leader asks again."""
        asked = propose.proposal
        proposal = IsrProposal(
            TP,
            TOPIC_ID,
            asked.leader_epoch,
            asked.partition_version,
            asked.isr,
            asked.reason,
        )
        live = LiveTerm(self, term, zookeeper, fault)
        result = live.run(
            lambda controller: controller.alter_partition(
                propose.broker_id, propose.broker_epoch, [proposal]
            )
        )
        if not live.result:
            return result
        (judged,) = live.result
        if isinstance(judged.error, NotControllerError):
            return result
        error = None if judged.error is None else type(judged.error)
        state = None if judged.state is None else of_state(judged.state)
        return result._replace(answer=Answer(asked, error, state))

    def elect_preferred(self, term: Term, zookeeper: ZooKeeper) -> TermResult:
        live = LiveTerm(self, term, zookeeper, None)
        return live.run(lambda controller: controller.elect_leaders([TP], unclean=False))

    def leave(
        self, term: Term, zookeeper: ZooKeeper, broker_id: int, broker_epoch: int
    ) -> TermResult:
        """A broker announces that it will shut down (it need not hurry)."""
        live = LiveTerm(self, term, zookeeper, None)
        return live.run(
            lambda controller: controller.on_controlled_shutdown(broker_id, broker_epoch)
        )

    def sent(self, term: Term, broker_id: int) -> Term:
        """The message to a broker has arrived: the next may leave."""
        live = LiveTerm(self, term, ZooKeeper((), (), term.controller_epoch, None), None)
        del live.messages[broker_id]
        live.post()
        return live.value()

    def lost(self, term: Term, broker_id: int) -> Term:
        """The message to a broker has not arrived: what is sent instead is the newest."""
        live = LiveTerm(self, term, ZooKeeper((), (), term.controller_epoch, None), None)
        message = live.messages.pop(broker_id)
        box = live.controller.outbox._boxes[broker_id]
        if message.state is not None:
            box.partitions.setdefault(TP, live.metadata(message.state))
        box.due = True
        live.post()
        return live.value()


class LiveTerm:
    """The core of one controller between two values."""

    def __init__(self, step: TermStep, term: Term, zookeeper: ZooKeeper, fault: str | None) -> None:
        self.step = step
        self.zookeeper = zookeeper
        self.zookeeper_epoch = zookeeper.controller_epoch
        self.state = zookeeper.state
        self.fault = fault
        self.writes: list[State] = []
        self.unclean = False
        self.result: Any = None
        self.messages = dict(term.messages)
        self.controller = Controller(CONTROLLER_ID, term.controller_epoch, lambda _: step.unclean)
        context = self.controller.context
        context.put_topic(topic(step.replicas))
        context.brokers.update(_infos(term.brokers))
        context.shutting_down.update(term.shutting_down)
        if term.state is not None:
            context.put_state(TP, to_state(term.state))
        for broker_id, box in term.boxes:
            waiting = {} if box.state is None else {TP: self.metadata(box.state)}
            self.controller.outbox._boxes[broker_id] = _Box(
                to_info(box.registration), full=False, partitions=waiting, due=box.due
            )

    def metadata(self, state: State) -> PartitionMetadata:
        return PartitionMetadata(TP, TOPIC_ID, assignment(self.step.replicas), to_state(state))

    def run(self, operation: Callable[[Controller], Operation[Any]]) -> TermResult:
        term: Term | None = None
        violation = None
        try:
            steps, sent = operation(self.controller), None
            while True:
                try:
                    command = steps.send(sent)
                except StopIteration as stop:
                    self.result = stop.value
                    assert not self.controller.context.unsettled
                    break
                self.post()
                sent = self.execute(command)
            self.post()
            term = self.value()
        except (DeposedError, GaveUpError):
            pass
        except MinikafkaError:  # the request is refused as a whole: as if it had not come
            term = self.value()
        except AssertionError as failed:
            violation = f"assertion in the controller: {failed}"
        zookeeper = self.zookeeper._replace(controller_epoch=self.zookeeper_epoch, state=self.state)
        return TermResult(term, zookeeper, tuple(self.writes), None, violation, self.unclean)

    def value(self) -> Term:
        context = self.controller.context
        states = context.states
        return Term(
            context.controller_epoch,
            tuple(of_info(info) for _, info in sorted(context.brokers.items())),
            of_state(states[TP]) if TP in states else None,
            tuple(
                (broker_id, Box(of_info(box.broker), _waiting(box.partitions), box.due))
                for broker_id, box in sorted(self.controller.outbox._boxes.items())
            ),
            tuple(sorted(self.messages.items())),
            tuple(sorted(context.shutting_down.items())),
        )

    # --- ZooKeeper ---

    def execute(self, command: Any) -> Any:
        match command:
            case WriteStates(changes):
                (change,) = changes
                outcome = self.write(change.expected_version, of_state(change.new))
                self.unclean |= change.unclean and outcome is WriteOutcome.WRITTEN
                return [outcome]
            case ReadStates():
                return {} if self.state is None else {TP: to_state(self.state)}
            case _:
                raise AssertionError(f"no event of the model needs {command}")

    def write(self, expected_version: int, new: State) -> WriteOutcome:
        """Fenced by the controller epoch (R1), then by the version; `fault` is what befalls the
        first write: lost, or applied although the writer hears of a conflict."""
        if not passes_fence(self.controller.context.controller_epoch, self.zookeeper_epoch):
            return WriteOutcome.DEPOSED
        fault, self.fault = self.fault, None
        if fault == "lost":
            return WriteOutcome.CONFLICT
        old = self.state
        if expected_version != (-1 if old is None else old.version):
            return WriteOutcome.CONFLICT
        assert new.controller_epoch == self.zookeeper_epoch, "no. 14: a deposed controller writes"
        if old is not None:
            check_step(to_state(old), to_state(new))
        self.state = new
        self.writes.append(new)
        return WriteOutcome.CONFLICT if fault == "applied" else WriteOutcome.WRITTEN

    # --- messages ---

    def post(self) -> None:
        """What can leave, leaves; what was on its way to an incarnation that is over is void."""
        outbox, context = self.controller.outbox, self.controller.context
        current = outbox.brokers()
        for broker_id, message in list(self.messages.items()):
            broker = current.get(broker_id)
            if broker is None or broker.broker_epoch != message.target_broker_epoch:
                del self.messages[broker_id]
        eligible = tuple(
            (b, info.broker_epoch)
            for b, info in sorted(context.brokers.items())
            if b not in context.shutting_down
        )
        for broker_id, broker in current.items():
            if broker_id in self.messages:
                continue
            taken = outbox.take(broker_id, broker.broker_epoch)
            if taken is not None:
                self.messages[broker_id] = UpdateStateBatch(
                    context.controller_epoch,
                    broker.broker_epoch,
                    eligible,
                    of_state(taken.partitions[0].state) if taken.partitions else None,
                )


def passes_fence(controller_epoch: int, epoch_in_zookeeper: int) -> bool:
    """The check of /controller_epoch in every multi (R1)."""
    return controller_epoch == epoch_in_zookeeper


def _waiting(partitions: dict[Any, PartitionMetadata]) -> State | None:
    return of_state(partitions[TP].state) if partitions else None


def _infos(registrations: tuple[Registration, ...]) -> dict[int, BrokerInfo]:
    return {registration[0]: to_info(registration) for registration in registrations}
