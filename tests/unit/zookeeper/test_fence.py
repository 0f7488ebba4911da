"""zookeeper/fence.py on a few nodes in memory: above all, writes whose answer was lost.

`Nodes` stands in for the session. It loses answers as a test says, before or after the write takes
effect, and lets somebody else act meanwhile. Nobody may read after a lost answer without a sync.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.exceptions import (
    BadVersionError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
    SessionMovedError,
)

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import SessionLostError
from minikafka.zookeeper.errors import OutcomeUnknownError, ZooKeeperError
from minikafka.zookeeper.fence import (
    NOT_THERE,
    Deleted,
    Failure,
    Fate,
    Fence,
    Lease,
    Put,
    PutOver,
    Witness,
    attempt_one,
    write_over_version,
)

WRITTEN, CONFLICT, DEPOSED = WriteOutcome.WRITTEN, WriteOutcome.CONFLICT, WriteOutcome.DEPOSED
EPOCH, NODE = "/controller_epoch", "/node"
OLD, NEW, OTHER = b"old", b"new", b"other"


@dataclass
class Cut:
    """An answer that is lost: of a write that took effect, or not. `meanwhile` comes after it."""

    arrives: bool
    meanwhile: Callable[[Nodes], None] = lambda nodes: None


@dataclass
class Nodes:
    """Nodes by path, as (data, version)."""

    held: dict[str, tuple[bytes, int]]
    cuts: list[Cut] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)  # of the first operation
    sent: int = 0
    synced: bool = True
    expires_at_sync: bool = False

    # --- as the session ---

    async def transact(self, build: Callable[[Any], None]) -> list[Any]:
        self.sent += 1
        operations: list[tuple[Any, ...]] = []
        build(
            SimpleNamespace(
                check=lambda path, version: operations.append(("check", path, b"", version)),
                create=lambda path, data=b"": operations.append(("create", path, data, -1)),
                set_data=lambda path, data, version=-1: operations.append(
                    ("set", path, data, version)
                ),
                delete=lambda path, version=-1: operations.append(("delete", path, b"", version)),
            )
        )
        if self.refusals:
            return [self.refusals.pop(0)] + [RuntimeInconsistency()] * (len(operations) - 1)
        cut = self.cuts.pop(0) if self.cuts else None
        results = self._commit(operations) if cut is None or cut.arrives else []
        if cut is None:
            return results
        cut.meanwhile(self)
        self.synced = False
        raise OutcomeUnknownError("lost")

    async def call(self, operation: Callable[[Any], Any]) -> Any:
        answer = operation(None)
        if isinstance(answer, OutcomeUnknownError):
            self.synced = False
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sync(self) -> None:
        if self.expires_at_sync:
            raise SessionLostError("expired")
        self.synced = True

    async def get(self, path: str) -> tuple[bytes, Any] | None:
        assert self.synced, "what is read without a sync may be old"
        found = self.held.get(path)
        return None if found is None else (found[0], SimpleNamespace(version=found[1]))

    # --- as the server ---

    def _commit(self, operations: list[tuple[Any, ...]]) -> list[Any]:
        after = dict(self.held)
        for position, (kind, path, data, version) in enumerate(operations):
            error = _refusal(after.get(path), kind, version)
            if error is not None:
                later = len(operations) - position - 1
                return [RolledBackError()] * position + [error] + [RuntimeInconsistency()] * later
            if kind == "create":
                after[path] = (data, 0)
            elif kind == "set":
                after[path] = (data, after[path][1] + 1)
            elif kind == "delete":
                del after[path]
        self.held = after
        return [True] * len(operations)

    def set(self, path: str, data: bytes) -> None:
        self.held[path] = (data, self.held[path][1] + 1 if path in self.held else 0)


def _refusal(found: tuple[bytes, int] | None, kind: str, version: int) -> Exception | None:
    if kind == "create":
        return None if found is None else NodeExistsError()
    if found is None:
        return NoNodeError()
    return None if version in (-1, found[1]) else BadVersionError()


def election(nodes: Nodes) -> None:
    nodes.set(EPOCH, b"2")


def both(*acts: Callable[[Nodes], None]) -> Callable[[Nodes], None]:
    return lambda nodes: [act(nodes) for act in acts] and None


def setting(data: bytes) -> Callable[[Nodes], None]:
    return lambda nodes: nodes.set(NODE, data)


def removal(nodes: Nodes) -> None:
    del nodes.held[NODE]


def nothing(_: Nodes) -> None: ...


class Bench:
    """A controller that wrote /controller_epoch at version 5, and a node at version 3."""

    def __init__(self, *cuts: Cut, there: bool = True) -> None:
        self.nodes = Nodes({EPOCH: (b"1", 5)}, list(cuts))
        if there:
            self.nodes.held[NODE] = (OLD, 3)
        self.lease: Lease | None = Lease(1, 5)
        self.fence = Fence(self.nodes, EPOCH, lambda: self.lease)  # type: ignore[arg-type]

    async def set(self, *, own: bool = False) -> WriteOutcome:
        return await self.write(
            lambda multi: multi.set_data(NODE, NEW, 3), Put(NODE, NEW, 3, own=own)
        )

    async def create(self) -> WriteOutcome:
        return await self.write(lambda multi: multi.create(NODE, NEW), Put(NODE, NEW, NOT_THERE))

    async def delete(self) -> WriteOutcome:
        return await self.write(lambda multi: multi.delete(NODE), Deleted(NODE))

    async def write(self, build: Callable[[Any], None], witness: Witness | None) -> WriteOutcome:
        return (await self.fence.write(build, witness)).outcome

    @property
    def node(self) -> tuple[bytes, int] | None:
        return self.nodes.held.get(NODE)


# --- answers that come ---


async def test_a_write_that_is_answered_is_sent_once():
    bench = Bench()
    assert await bench.set() is WRITTEN
    assert (bench.node, bench.nodes.sent) == ((NEW, 4), 1)


async def test_which_operation_failed_tells_the_fence_from_the_rest():
    bench = Bench()
    setting(OTHER)(bench.nodes)
    written = await bench.fence.write(
        lambda multi: (multi.check(EPOCH, 5), multi.set_data(NODE, NEW, 3)), None
    )
    assert written.outcome is CONFLICT
    assert isinstance(written.failed, Failure)
    assert (written.failed.position, type(written.failed.error)) == (1, BadVersionError)
    election(bench.nodes)
    assert await bench.set() is DEPOSED
    assert bench.node == (OTHER, 4)


@pytest.mark.parametrize("epoch", [0, 2])
async def test_what_was_decided_under_another_controllership_is_not_sent(epoch):
    bench = Bench()
    witness = Put(NODE, NEW, 3, own=True)
    written = await bench.fence.write(lambda multi: multi.set_data(NODE, NEW, 3), witness, epoch)
    assert written.outcome is DEPOSED
    bench.lease = None
    assert not bench.fence.is_ours
    assert await bench.set() is DEPOSED
    assert bench.nodes.sent == 0


async def test_a_refusal_that_has_no_place_in_the_protocol_is_an_error():
    bench = Bench()
    bench.nodes.refusals = [NoAuthError()]
    with pytest.raises(ZooKeeperError, match="NoAuth"):
        await bench.set()


# --- answers that are lost ---


@pytest.mark.parametrize("own", [True, False])
async def test_a_write_that_took_effect_is_known_to_be_written_and_not_sent_again(own):
    bench = Bench(Cut(arrives=True))
    assert await bench.set(own=own) is WRITTEN
    assert (bench.node, bench.nodes.sent) == ((NEW, 4), 1)


@pytest.mark.parametrize("own", [True, False])
async def test_a_write_that_took_no_effect_is_sent_again(own):
    bench = Bench(Cut(arrives=False), Cut(arrives=False))
    assert await bench.set(own=own) is WRITTEN
    assert (bench.node, bench.nodes.sent) == ((NEW, 4), 3)


async def test_a_write_that_took_effect_when_it_was_sent_again_is_made_once():
    bench = Bench(Cut(arrives=False), Cut(arrives=True))
    assert await bench.set() is WRITTEN
    assert (bench.node, bench.nodes.sent) == ((NEW, 4), 2)


@pytest.mark.parametrize("arrives", [True, False])
async def test_the_same_bytes_by_the_next_controller_are_not_this_ones_write(arrives):
    # The next controller decided the same. Had the write arrived, it would have found it written.
    meanwhile = election if arrives else both(election, setting(NEW))
    bench = Bench(Cut(arrives, meanwhile))
    assert await bench.set() is DEPOSED
    assert (bench.node, bench.nodes.sent) == ((NEW, 4), 1)


async def test_bytes_of_its_own_are_its_write_also_after_the_next_election():
    bench = Bench(Cut(True, election))
    assert await bench.set(own=True) is WRITTEN
    assert bench.nodes.sent == 1


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("arrives", "meanwhile", "outcome"),
    [
        (False, setting(OTHER), CONFLICT),  # by hand, or by who needs no fence
        (True, setting(OTHER), CONFLICT),
        (True, both(setting(OTHER), setting(NEW)), CONFLICT),  # the same bytes, two versions later
        (False, removal, CONFLICT),
        (False, both(election, setting(OTHER)), DEPOSED),
        (True, both(election, setting(OTHER)), DEPOSED),
        (False, both(election, removal), DEPOSED),
    ],
)
async def test_a_write_that_another_has_overtaken_is_not_sent_again(
    own, arrives, meanwhile, outcome
):
    bench = Bench(Cut(arrives, meanwhile))
    assert await bench.set(own=own) is outcome
    assert bench.nodes.sent == 1


@pytest.mark.parametrize("own", [True, False])
async def test_a_write_that_took_no_effect_has_none_when_it_is_sent_again_by_who_is_deposed(own):
    bench = Bench(Cut(False, election))
    assert await bench.set(own=own) is DEPOSED
    assert (bench.node, bench.nodes.sent) == ((OLD, 3), 2)


async def test_a_controllership_that_ended_with_its_session_sends_nothing_again():
    bench = Bench()

    def lose_lease(_: Nodes) -> None:
        bench.lease = None

    bench.nodes.cuts = [Cut(False, lose_lease)]
    assert await bench.set() is DEPOSED  # although nobody else has been elected yet
    assert (bench.node, bench.nodes.sent) == ((OLD, 3), 1)


@pytest.mark.parametrize(
    ("arrives", "meanwhile", "outcome", "sent"),
    [
        (True, nothing, WRITTEN, 1),
        (False, nothing, WRITTEN, 2),
        (False, setting(OTHER), CONFLICT, 1),
        (False, both(election, setting(NEW)), DEPOSED, 1),
        (True, both(election, removal), DEPOSED, 2),
    ],
)
async def test_a_node_that_was_to_be_made(arrives, meanwhile, outcome, sent):
    bench = Bench(Cut(arrives, meanwhile), there=False)
    assert await bench.create() is outcome
    assert bench.nodes.sent == sent


@pytest.mark.parametrize(
    ("arrives", "meanwhile", "outcome", "sent"),
    [
        (True, nothing, WRITTEN, 1),
        (False, nothing, WRITTEN, 2),
        (False, both(election, removal), DEPOSED, 1),
        (True, both(election, setting(OTHER)), DEPOSED, 2),  # made anew by the next controller
    ],
)
async def test_a_node_that_was_to_go(arrives, meanwhile, outcome, sent):
    bench = Bench(Cut(arrives, meanwhile))
    assert await bench.delete() is outcome
    assert bench.nodes.sent == sent
    assert bench.node in (None, (OTHER, 0))


@pytest.mark.parametrize(
    ("arrives", "meanwhile", "outcome", "sent"),
    [
        (True, nothing, WRITTEN, 1),
        (False, nothing, WRITTEN, 2),
        (False, setting(OTHER), WRITTEN, 2),  # only the controller's counts there
        (False, both(election, setting(NEW)), DEPOSED, 1),
        (False, removal, CONFLICT, 1),
    ],
)
async def test_a_node_that_was_to_be_set_whatever_it_held(arrives, meanwhile, outcome, sent):
    bench = Bench(Cut(arrives, meanwhile))
    witness = PutOver(NODE, NEW)
    assert await bench.write(lambda multi: multi.set_data(NODE, NEW), witness) is outcome
    assert bench.nodes.sent == sent


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_write_without_a_witness_is_claimed_by_nobody(arrives):
    bench = Bench(Cut(arrives))
    assert await bench.write(lambda multi: multi.set_data(NODE, NEW, 3), None) is CONFLICT
    assert bench.nodes.sent == 1
    bench = Bench(Cut(arrives, election))
    assert await bench.write(lambda multi: multi.set_data(NODE, NEW, 3), None) is DEPOSED


async def test_an_answer_of_a_server_that_the_session_has_left_tells_nothing():
    bench = Bench()
    bench.nodes.refusals = [SessionMovedError()]
    assert await bench.set() is WRITTEN
    assert (bench.node, bench.nodes.sent) == ((NEW, 4), 2)


async def test_a_session_that_is_lost_before_it_is_known_is_told():
    bench = Bench(Cut(arrives=True))
    bench.nodes.expires_at_sync = True
    with pytest.raises(SessionLostError):
        await bench.set()


# --- writes that rest on versions alone ---


async def over_version(bench: Bench) -> bool:
    return await write_over_version(
        bench.nodes,  # type: ignore[arg-type]
        lambda multi: multi.set_data(NODE, NEW, 3),
        Put(NODE, NEW, 3, own=True),
    )


@pytest.mark.parametrize(
    ("cuts", "counts", "sent"),
    [
        ([], True, 1),
        ([Cut(True)], True, 1),
        ([Cut(False)], True, 2),
        ([Cut(False, setting(OTHER))], False, 1),
        ([Cut(True, setting(OTHER))], False, 1),
        ([Cut(False), Cut(False, removal)], False, 2),
    ],
)
async def test_a_write_over_a_version_counts_unless_another_was_faster(cuts, counts, sent):
    bench = Bench(*cuts)
    assert await over_version(bench) is counts
    assert bench.nodes.sent == sent


async def test_a_write_over_a_version_that_is_refused_is_not_sent_again():
    # By something else than the witness, which is as before.
    bench = Bench()
    witness = Put(NODE, NEW, 3, own=True)

    def build(multi: Any) -> None:
        multi.set_data(NODE, NEW, 3)
        multi.check("/gone", 0)

    assert not await write_over_version(bench.nodes, build, witness)  # type: ignore[arg-type]
    assert (bench.node, bench.nodes.sent) == ((OLD, 3), 1)


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        ("/made", Fate.APPLIED),
        (NodeExistsError(), Fate.REFUSED),
        (OutcomeUnknownError("lost"), Fate.UNKNOWN),
    ],
)
async def test_a_single_request_can_be_read_about_afterwards(answer, fate):
    nodes = Nodes({})
    sent = await attempt_one(nodes, lambda _: answer)  # type: ignore[arg-type]
    assert (sent.fate, sent.answer) == (fate, answer if fate is Fate.APPLIED else None)
    assert (sent.failed is not None) is (fate is Fate.REFUSED)
    assert await nodes.get(NODE) is None
