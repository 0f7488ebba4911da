"""Random walks of a consumer group with clients that follow the protocol: what must always hold.

A client is a small naive machine: it joins, syncs when told of a generation, heartbeats, and joins
again when it is told to. It may leave, fall silent, come back under its instance id. Whatever the
order of events, and whichever writes fail: at most one of a generation is told that it leads, each
request is answered at most once and never left behind, generations only grow, who is assigned is
assigned in the generation that it is in, and nobody who keeps its session is told that it is
unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.api.groups import JoinGroupResult, SyncGroupResult
from minikafka.core.groups.lifecycle import GroupState
from minikafka.errors import (
    FencedInstanceIdError,
    IllegalGenerationError,
    MemberIdRequiredError,
    MinikafkaError,
    NotCoordinatorError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from tests.helpers.amounts import amount
from tests.helpers.group_bench import REBALANCE_MS, SESSION_MS, GroupBench

STEP_MS = 4_000  # a client is heard of in each, so its session never ends


@dataclass
class Client:
    name: str
    instance_id: str | None = None
    member_id: str = ""
    generation_id: int = -1
    joining: int | None = None
    syncing: int | None = None
    leads: bool = False
    assigned: bytes | None = None
    running: bool = True
    told: list[int] = field(default_factory=list)


class Walk:
    def __init__(self) -> None:
        self.bench = GroupBench()
        self.bench.writes_at_once = False
        self.clients = {
            name: Client(name, name if name in "xy" else None) for name in ("a", "b", "c", "x", "y")
        }
        for client in self.clients.values():
            client.running = False
        self.leaders: dict[int, str] = {}
        self.generation_id = 0
        self.ids = 0

    # --- what a client does ----------------------------------------------------------------------

    def join(self, client: Client) -> None:
        self.ids += 1
        client.syncing = None
        client.assigned = None
        client.joining = self.bench.join(
            client.member_id,
            fresh=f"{client.name}-{self.ids}",
            instance_id=client.instance_id,
            requires_id=client.instance_id is None,
        )

    def hear(self, client: Client) -> None:
        """Take what has been answered, and go on."""
        answers = self.bench.answers
        if client.joining in answers:
            token, client.joining = client.joining, None
            result = answers[token]
            assert isinstance(result, JoinGroupResult)
            self.on_joined(client, result)
        elif client.syncing in answers:
            token, client.syncing = client.syncing, None
            answer = answers[token]
            assert isinstance(answer, SyncGroupResult)
            if answer.error is None:
                client.assigned = answer.assignment
                expected = f"{client.name}@{client.generation_id}".encode()
                assert answer.assignment in (b"", expected)
            else:
                self.on_error(client, answer.error)

    def on_joined(self, client: Client, result: JoinGroupResult) -> None:
        if isinstance(result.error, MemberIdRequiredError):
            client.member_id = result.member_id
            self.join(client)
            return
        if result.error is not None:
            self.on_error(client, result.error)
            return
        assert result.generation_id >= client.generation_id
        client.member_id, client.generation_id = result.member_id, result.generation_id
        client.leads = result.leader_id == result.member_id
        if client.leads:
            instance = self.leaders.setdefault(result.generation_id, client.name)
            assert instance == client.name, "two leaders of one generation"
        assignments = []
        if client.leads and not result.skip_assignment:
            assignments = [
                (each.member_id, f"{each.member_id[0]}@{result.generation_id}".encode())
                for each in result.members
            ]
        client.syncing = self.bench.sync(
            client.member_id,
            assignments,
            generation_id=client.generation_id,
            instance_id=client.instance_id,
        )

    def on_error(self, client: Client, error: MinikafkaError) -> None:
        assert not isinstance(error, UnknownMemberIdError), f"{client.name} kept its session"
        assert not isinstance(error, FencedInstanceIdError), f"{client.name} is alone"
        if isinstance(error, IllegalGenerationError | RebalanceInProgressError):
            client.assigned = None
        self.join(client)

    def heartbeat(self, client: Client) -> None:
        if client.generation_id < 0 or client.joining is not None:
            return
        error = self.bench.heartbeat(client.member_id, client.generation_id, client.instance_id)
        if error is not None and client.syncing is None:
            self.on_error(client, error)

    # --- events ----------------------------------------------------------------------------------

    def step(self, event: str, name: str) -> None:
        client = self.clients[name]
        if event == "start" and not client.running:
            client.running = True
            client.member_id, client.generation_id = "", -1
            client.joining = client.syncing = client.assigned = None
            self.join(client)
        elif event == "leave" and client.running and client.member_id:
            self.bench.leave(client.member_id)
            client.running = False
        elif event == "crash":
            client.running = False
        elif event == "rejoin" and client.running and client.joining is None and client.member_id:
            self.join(client)
        elif event == "commit" and client.running and client.assigned is not None:
            token = self.bench.commit(
                member_id=client.member_id,
                generation_id=client.generation_id,
                instance_id=client.instance_id,
            )
            if token in self.bench.answers:
                assert self.bench.error(token) is not UnknownMemberIdError
        elif event == "write":
            self.bench.written()
        elif event == "fail":
            self.bench.fail_writes(NotCoordinatorError())
        elif event == "tick":
            self.bench.tick(STEP_MS)
            for each in self.clients.values():
                if each.running:
                    self.hear(each)
                    self.heartbeat(each)
        elif event == "hear" and client.running:
            self.hear(client)
        assert self.bench.group.generation.generation_id >= self.generation_id
        self.generation_id = self.bench.group.generation.generation_id

    def settle(self) -> None:
        """Nothing happens any more: whoever runs ends up assigned, in one generation."""
        for _ in range((2 * REBALANCE_MS + SESSION_MS) // STEP_MS + 5):
            for _ in range(4):
                self.bench.written()
                for client in self.clients.values():
                    if client.running:
                        self.hear(client)
            self.step("tick", "a")
        running = [client for client in self.clients.values() if client.running]
        group = self.bench.group
        assert group.state is (GroupState.STABLE if running else GroupState.EMPTY)
        assert {each.member_id for each in group.members} == {each.member_id for each in running}
        for client in running:
            assert client.assigned is not None
            assert client.generation_id == group.generation.generation_id
        # Whoever is answered, is answered in GroupBench once; and nobody waits in vain.
        waiting = {each.joining for each in running} | {each.syncing for each in running}
        assert waiting <= {None}


EVENTS = (
    ["start"] * 4 + ["hear"] * 6 + ["tick"] * 6 + ["write"] * 3 + ["rejoin", "commit"] * 2
) + ["leave", "crash", "fail"]


@settings(max_examples=amount(80), deadline=None)
@given(st.integers(0, 2**32))
def test_a_group_keeps_its_promises_whatever_the_order_of_events(seed: int) -> None:
    dice = Random(seed)
    walk = Walk()
    for _ in range(dice.randrange(20, 150)):
        walk.step(dice.choice(EVENTS), dice.choice("abcxy"))
    walk.settle()
