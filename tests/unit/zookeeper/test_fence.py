"""zookeeper/fence.py on a few nodes in memory: above all, writes whose answer was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kazoo.exceptions import (
    BadVersionError,
    NoAuthError,
    NodeExistsError,
    SessionMovedError,
)

from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.ports import SessionLostError
from minikafka.zookeeper.errors import OutcomeUnknownError, ZooKeeperError
from minikafka.zookeeper.fence import (
    NOT_THERE,
    TO_BE_WRITTEN_ALONE,
    Deleted,
    Failure,
    Fate,
    Fence,
    Lease,
    Part,
    Put,
    PutOver,
    Witness,
    attempt_one,
    write_over_version,
)
from tests.helpers.fenced_nodes import Cut, Nodes

WRITTEN, CONFLICT, DEPOSED = WriteOutcome.WRITTEN, WriteOutcome.CONFLICT, WriteOutcome.DEPOSED
EPOCH, NODE = "/controller_epoch", "/node"
OLD, NEW, OTHER = b"old", b"new", b"other"


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


# --- writes that share a multi ---

SECOND, MADE = "/second", "/made"


class Together(Bench):
    """Three writes as one: over NODE, over SECOND (at version 7), and a new MADE."""

    def __init__(self, *cuts: Cut) -> None:
        super().__init__(*cuts)
        self.nodes.held[SECOND] = (OLD, 7)

    async def write_all(self) -> list[WriteOutcome | None]:
        return await self.fence.write_together(
            [
                Part(
                    lambda multi: multi.set_data(NODE, NEW, 3),
                    Put(NODE, NEW, 3, own=True),
                ),
                Part(
                    lambda multi: multi.set_data(SECOND, NEW, 7),
                    Put(SECOND, NEW, 7, own=True),
                ),
                Part(
                    lambda multi: multi.create(MADE, NEW),
                    Put(MADE, NEW, NOT_THERE, own=True),
                ),
            ],
            1,
        )

    @property
    def all(self) -> list[tuple[bytes, int] | None]:
        return [self.nodes.held.get(path) for path in (NODE, SECOND, MADE)]


BEFORE: list[tuple[bytes, int] | None] = [(OLD, 3), (OLD, 7), None]
AFTER: list[tuple[bytes, int] | None] = [(NEW, 4), (NEW, 8), (NEW, 0)]
ALONE = TO_BE_WRITTEN_ALONE


async def test_writes_that_share_a_multi_are_sent_as_one_under_one_check():
    bench = Together()
    assert await bench.write_all() == [WRITTEN] * 3
    assert (bench.all, bench.nodes.sizes) == (AFTER, [4])


@pytest.mark.parametrize("path", [NODE, SECOND, MADE])
async def test_one_that_is_refused_leaves_each_to_be_written_alone(path):
    bench = Together()
    bench.nodes.set(path, OTHER)
    before = bench.all
    assert await bench.write_all() == [ALONE] * 3
    assert (bench.all, bench.nodes.sent) == (before, 1)


async def test_whoever_is_deposed_writes_none_of_them():
    bench = Together()
    election(bench.nodes)
    bench.nodes.set(SECOND, OTHER)  # by whoever is controller now
    assert await bench.write_all() == [DEPOSED] * 3
    bench.lease = Lease(2, 6)  # elected again: these were decided before
    assert await bench.write_all() == [DEPOSED] * 3
    bench.lease = None
    assert await bench.write_all() == [DEPOSED] * 3
    assert (bench.node, bench.nodes.sent) == ((OLD, 3), 1)


async def test_writes_that_arrived_together_are_all_known_to_be_written():
    bench = Together(Cut(arrives=True))
    assert await bench.write_all() == [WRITTEN] * 3
    assert (bench.all, bench.nodes.sent) == (AFTER, 1)


async def test_writes_that_never_arrived_are_not_sent_again_as_one():
    bench = Together(Cut(arrives=False))
    assert await bench.write_all() == [ALONE] * 3
    assert (bench.all, bench.nodes.sent) == (BEFORE, 1)


async def test_writes_that_arrived_before_another_was_elected_are_known_to_be_written():
    bench = Together(Cut(True, election))
    assert await bench.write_all() == [WRITTEN] * 3


async def test_writes_that_never_arrived_before_another_was_elected_stay_unwritten():
    # Each is sent alone, and refused by the fence.
    bench = Together(Cut(False, election))
    assert await bench.write_all() == [ALONE] * 3
    assert await bench.set(own=True) is DEPOSED
    assert bench.all == BEFORE


def on(path: str, data: bytes) -> Callable[[Nodes], None]:
    return lambda nodes: nodes.set(path, data)


@pytest.mark.parametrize(
    ("arrives", "meanwhile", "outcomes"),
    [
        # Whoever writes over one of them, by hand, says nothing of the others.
        (True, on(SECOND, OTHER), [WRITTEN, CONFLICT, WRITTEN]),
        (False, on(SECOND, OTHER), [ALONE, CONFLICT, ALONE]),
        (True, on(MADE, OTHER), [WRITTEN, WRITTEN, CONFLICT]),
        (False, on(MADE, OTHER), [ALONE, ALONE, CONFLICT]),
        # The next controller has written over one; what it did not touch is ours, or is as before.
        (True, both(election, on(NODE, OTHER)), [DEPOSED, WRITTEN, WRITTEN]),
        (False, both(election, on(NODE, OTHER)), [DEPOSED, ALONE, ALONE]),
    ],
)
async def test_each_of_them_is_judged_by_its_own_node(arrives, meanwhile, outcomes):
    bench = Together(Cut(arrives, meanwhile))
    assert await bench.write_all() == outcomes
    assert bench.nodes.sent == 1


async def test_none_of_them_is_sent_again_when_the_controllership_ended_with_its_session():
    bench = Together()

    def lose_lease(_: Nodes) -> None:
        bench.lease = None

    bench.nodes.cuts = [Cut(False, lose_lease)]
    assert await bench.write_all() == [DEPOSED] * 3
    bench.lease = Lease(1, 5)
    bench.nodes.cuts = [Cut(True, lose_lease)]
    assert await bench.write_all() == [WRITTEN] * 3  # its bytes are there


async def test_a_session_that_is_lost_before_they_are_known_is_told():
    bench = Together(Cut(arrives=True))
    bench.nodes.expires_at_sync = True
    with pytest.raises(SessionLostError):
        await bench.write_all()


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
