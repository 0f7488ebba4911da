"""A sequence of events, told so that a person can follow it.

`tell(model, start, events)` plays the events again and gives a line for each, followed by what it
changed: the State in ZooKeeper in the words of the slide, and each replica as its role, epoch and
incarnation, its log as record/epoch (- if forgotten), and a bar where its high watermark stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikafka.model import broker_name, describe_state
from tests.exhaustive.machine import Event, Violation, World
from tests.exhaustive.values import (
    Answer,
    Broker,
    Fetch,
    Late,
    Propose,
    Reply,
    State,
    UpdateStateBatch,
)
from tests.exhaustive.world import Model


def tell(model: Model, start: World, events: Sequence[Event]) -> list[str]:
    """The whole story, from the state of the world that it starts in."""
    shown = _scene(model, start)
    lines = ["    at first", *shown]
    world = start
    for number, event in enumerate(events, 1):
        lines.append(f"{number:>3} {_sentence(model, world, event)}")
        after = dict(model.successors(world))[event]
        if isinstance(after, Violation):
            lines.append(f"    VIOLATED {after}")
            break
        world = after
        scene = _scene(model, world)
        lines += [line for line in scene if line not in shown]
        shown = scene
    return lines


def _scene(model: Model, world: World) -> list[str]:
    zookeeper = model.zookeeper(world)
    alive = ",".join(broker_name(entry[0]) for entry in zookeeper.registrations)
    state = "none" if zookeeper.state is None else describe(zookeeper.state)
    return [
        f"        ZooKeeper: {state}; registered {alive or 'nobody'}",
        *(
            f"        {broker_name(number)}: {describe_broker(broker)}"
            for number, broker in enumerate(model.brokers(world), 1)
        ),
    ]


def describe(state: State) -> str:
    words = describe_state(state.leader, state.leader_epoch, state.isr, {})
    return f"{words} version {state.version}"


def describe_broker(broker: Broker) -> str:
    marks = ["-" if record is None else f"{record[1]}/{record[0]}" for record in broker.log]
    marks.insert(broker.high_watermark, "|")
    log = " ".join(marks)
    if not broker.up:
        return f"down; disk {broker.storage}: {log}"
    role, counts = "no role yet", ""
    if broker.state is not None:
        role = "follows" if broker.lead is None else "leads"
        role += f" in epoch {broker.state.leader_epoch} version {broker.state.version}"
    if broker.lead is not None:
        ends = ", ".join(
            f"{broker_name(b)} {'?' if p.log_end_offset < 0 else p.log_end_offset}"
            for b, p in broker.lead.followers
        )
        counts = f"; knows {ends}"
        if broker.lead.pending is not None:
            counts += f"; proposes {_members(broker.lead.pending)}"
    return f"{role}, incarnation {broker.broker_epoch}; log {log}{counts}"


def _members(proposal: Any) -> str:
    return "{" + ",".join(broker_name(member) for member, _ in proposal.isr) + "}"


def _controller(which: int) -> str:
    return ("the deposed controller", "the controller")[which]


def _fault(fault: str | None) -> str:
    if fault is None:
        return ""
    how = "lost" if fault == "lost" else "applied, and the controller does not know"
    return f" (the write to ZooKeeper is {how})"


def _sentence(model: Model, world: World, event: Event) -> str:
    match event:
        case ("produce", me, payload, acks):
            how = "all" if acks == -1 else str(acks)
            return f"a producer sends {payload} to {broker_name(me)}, acks={how}"
        case ("fetch", me):
            state = model.broker(world, me).state
            assert state is not None
            return f"a fetch of {broker_name(me)} arrives at {broker_name(state.leader)}"
        case ("reply", me):
            reply = model.value(world, model.at_replies + me - 1)
            return f"{broker_name(me)} gets {_message(reply)}"
        case ("answer", me):
            answer = model.value(world, model.at_answers + me - 1)
            return f"{broker_name(me)} gets {_message(answer)}"
        case ("age", me, followers):
            names = ",".join(map(broker_name, followers))
            return f"{names} not heard for too long, and {broker_name(me)} looks for laggards"
        case ("propose", which, me, fault):
            proposal = model.broker(world, me).lead
            assert proposal is not None
            members = _members(proposal.pending)
            who = _controller(which)
            return f"{broker_name(me)} proposes {members} to {who}{_fault(fault)}"
        case ("message", which, target):
            term = model.value(world, model.at_terms + which)
            message = dict(term.messages)[target]
            return f"{_controller(which)} tells {broker_name(target)} {_message(message)}"
        case ("lose", which, target):
            return f"what {_controller(which)} tells {broker_name(target)} is lost; newer follows"
        case ("read", fault):
            return f"the controller looks who lives{_fault(fault)}"
        case _:
            return _rarer_sentence(model, event)


def _rarer_sentence(model: Model, event: Event) -> str:
    match event:
        case ("elect",):
            return "a preferred leader election is asked for"
        case ("failover",):
            return "another controller is elected and takes over; the old one does not know"
        case ("retain", me):
            return f"{broker_name(me)} forgets all that is committed (retention)"
        case ("leave", me):
            return f"{broker_name(me)} announces to the controller that it will shut down"
        case ("kill", me):
            return f"kill {broker_name(me)}"
        case ("expire", me):
            return f"the session of {broker_name(me)} ends"
        case ("register", me):
            return f"{broker_name(me)} notices, and registers again"
        case ("restart", me, how):
            disk = {
                "kept": "with its disk",
                "stale": "with its disk, but an older high watermark",
                "empty": "with an empty disk",
                "tail": "with the tail of its log lost",
            }[how]
            return f"restart {broker_name(me)} {disk}"
        case ("late", _, _, number):
            late: Late = model.parts.values[number]
            return f"a copy of a message will be late: {_message(late.body)}{_to(late)}"
        case ("deliver", number, *_):
            late = model.parts.values[number]
            return f"the late message arrives: {_message(late.body)}{_to(late)}"
    raise AssertionError(event)


def _to(late: Late) -> str:
    return "" if late.target == -1 else f", to {broker_name(late.target)}"


def _message(body: Any) -> str:
    match body:
        case Fetch(replica_id, broker_epoch, _, (offset, last_epoch, leader_epoch, _)):
            return (
                f"the fetch of {broker_name(replica_id)} (incarnation {broker_epoch}) from {offset}"
                f" after epoch {last_epoch}, in epoch {leader_epoch}"
            )
        case Reply(kind="fenced", state=State() as state):
            return f"the reply that its epoch is over: {describe(state)}"
        case Reply(kind="range", offsets=offsets):
            return f"the reply that its offset is out of range {offsets[0]} to {offsets[2]}"
        case Reply(kind="diverging", end=(offset, leader_epoch)):
            return f"the reply that its log diverges: epoch {leader_epoch} ends at {offset}"
        case Reply(batches=batches, offsets=offsets):
            records = " ".join(f"{payload}/{leader_epoch}" for leader_epoch, payload in batches)
            return f"the reply with {records or 'no record'}, high watermark {offsets[1]}"
        case Propose(broker_id, broker_epoch, proposal):
            who = f"{broker_name(broker_id)} (incarnation {broker_epoch})"
            version = proposal.partition_version
            return f"the proposal {_members(proposal)} of {who} over version {version}"
        case Answer(error=error, state=state):
            held = "" if state is None else f" {describe(state)}"
            return f"the answer to its proposal: {error.__name__ if error else 'agreed'};{held}"
        case UpdateStateBatch(state=state):
            return "who lives" if state is None else describe(state)
    raise AssertionError(body)
