"""Writes that hold only under a check, and what became of one whose answer was lost.

A write is one multi: the checks and what is to be written, all or nothing. It is fenced if its
first operation checks `/controller_epoch`: nothing is written once another controller has been
elected (rule R1 of replication.md, KAFKA-6082). It can also rest on versions alone.

**A lost answer.** The write took effect, or it did not and never will (OutcomeUnknownError). It is
never sent again blindly. After `sync` one node that it writes, the witness, tells:

- as before the write: it had no effect. It is sent again, under the same fence, unless the
  controllership that it was decided under has ended here
- as the write leaves it: it had effect, if nobody else can have written the same. Data that name
  the writer's epoch or attempt are its own. Of other data that is so only while the fence holds,
  since any controller may have decided the same: where it has moved, who wrote is not known, and
  this is no longer the controller in any case
- anything else: another has written there since. CONFLICT, or DEPOSED if the fence has moved

The witness is read before the fence. A fence that holds then has held when the witness was read.

Where the same writer may have sent the same bytes twice at once, they tell nothing: such a write
has no witness, and a lost answer is a CONFLICT. Whoever wrote reads all again, and takes nothing
for its own that it was not told is.

**Writes that share a multi** (`Fence.write_together`) share one check of the fence and one fate:
all of them or none. They are independent of one another, so that must not be seen from outside:

- the fence refuses: all are DEPOSED
- any other operation is refused: nothing was written, and whose fault it was does not matter. Each
  is to be written alone (TO_BE_WRITTEN_ALONE), and only what is wrong itself is a CONFLICT then
- the answer was lost: each is judged by its own witness and by the rules above, none by that of
  another, since what comes after the write may touch one and not the other. What is as before is to
  be written alone, over the version that it was decided for

Several multis may be on their way at once. A session carries them out in the order in which they
were sent, but for what is written alone, which comes later.

kazoo's `commit` does not raise what an operation failed with: it returns one result or error an
operation. When one fails none takes effect; those before it are RolledBackError, those after it
RuntimeInconsistency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from kazoo.exceptions import RolledBackError
from kazoo.protocol.states import ZnodeStat

from minikafka.api.outcomes import WriteOutcome
from minikafka.zookeeper.client import EXPECTED, translated
from minikafka.zookeeper.errors import OutcomeUnknownError
from minikafka.zookeeper.session import Operation, ZooKeeperSession, gather_all

NOT_THERE = -1  # the version of a node that the write is to make
Build = Callable[[Any], None]  # adds operations to kazoo's transaction


# --- one attempt ---------------------------------------------------------------------------------


class Failure(NamedTuple):
    """The operation that made a multi fail: its position, and what was wrong."""

    position: int
    error: Exception


class Fate(Enum):
    APPLIED = "applied"
    REFUSED = "refused"  # a node is not as expected, and nothing was written
    UNKNOWN = "unknown"  # the answer was lost; what is read from now on tells


class Attempt(NamedTuple):
    """`failed` of a write that was refused; `answer` to a single request that was applied."""

    fate: Fate
    failed: Failure | None = None
    answer: Any = None


def failure(results: Sequence[Any]) -> Failure | None:
    """None if every operation took effect."""
    for position, result in enumerate(results):
        if isinstance(result, Exception) and not isinstance(result, RolledBackError):
            return Failure(position, result)
    assert not any(isinstance(result, Exception) for result in results), results
    return None


async def attempt(session: ZooKeeperSession, build: Build) -> Attempt:
    """Send one multi, once. Raises SessionLostError, and ZooKeeperError for a refusal that has no
    place in the protocol."""
    try:
        failed = failure(await session.transact(build))
        if failed is None:
            return Attempt(Fate.APPLIED)
        if isinstance(failed.error, EXPECTED):
            return Attempt(Fate.REFUSED, failed)
        raise translated(failed.error)
    except OutcomeUnknownError:
        await session.sync()
        return Attempt(Fate.UNKNOWN)


async def attempt_one(session: ZooKeeperSession, operation: Operation) -> Attempt:
    """The same of a single request, for who reads afterwards in any case: after `sync`, unless it
    was applied."""
    try:
        return Attempt(Fate.APPLIED, answer=await session.call(operation))
    except OutcomeUnknownError:
        fate = Attempt(Fate.UNKNOWN)
    except EXPECTED as error:
        fate = Attempt(Fate.REFUSED, Failure(0, error))
    await session.sync()
    return fate


# --- the witness of a write ----------------------------------------------------------------------


class Seen(Enum):
    BEFORE = "as before the write"
    AFTER = "as the write leaves it"
    OTHER = "neither"


class Witness(Protocol):
    """A node of a write by which its effect is known. `own`: nobody else writes these bytes, and
    this writer not twice over the same version."""

    @property
    def path(self) -> str: ...
    @property
    def own(self) -> bool: ...
    def judge(self, found: tuple[bytes, ZnodeStat] | None) -> Seen: ...


@dataclass(frozen=True, slots=True)
class Put:
    """Made, if `expected_version` is NOT_THERE, or set over that version."""

    path: str
    data: bytes
    expected_version: int
    own: bool = False

    def judge(self, found: tuple[bytes, ZnodeStat] | None) -> Seen:
        version = NOT_THERE if found is None else found[1].version
        if version == self.expected_version:
            return Seen.BEFORE
        written = found is not None and found[0] == self.data
        return Seen.AFTER if written and version == self.expected_version + 1 else Seen.OTHER


@dataclass(frozen=True, slots=True)
class PutOver:
    """Set over whatever a node holds: it may be set once more while the fence holds, as nobody else
    writes it then."""

    path: str
    data: bytes
    own: bool = False

    def judge(self, found: tuple[bytes, ZnodeStat] | None) -> Seen:
        if found is None:
            return Seen.OTHER
        return Seen.AFTER if found[0] == self.data else Seen.BEFORE


@dataclass(frozen=True, slots=True)
class Deleted:
    path: str
    own: bool = False

    def judge(self, found: tuple[bytes, ZnodeStat] | None) -> Seen:
        return Seen.AFTER if found is None else Seen.BEFORE


async def write_over_version(session: ZooKeeperSession, build: Build, witness: Witness) -> bool:
    """A write that rests on versions alone. False: a node is not as expected, and nothing was
    written, or it has been written over since."""
    assert witness.own, witness
    while True:
        sent = await attempt(session, build)
        if sent.fate is not Fate.UNKNOWN:
            return sent.fate is Fate.APPLIED
        seen = witness.judge(await session.get(witness.path))
        if seen is not Seen.BEFORE:
            return seen is Seen.AFTER


# --- the controller's fence ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """A controllership of this process: what fences its writes."""

    controller_epoch: int
    epoch_version: int  # of the node /controller_epoch


class Written(NamedTuple):
    """`failed` of a CONFLICT that was answered; its position counts what `build` added."""

    outcome: WriteOutcome
    failed: Failure | None = None


class Part(NamedTuple):
    """One of several writes that share a multi. Its bytes are nobody else's."""

    build: Build
    witness: Witness


TO_BE_WRITTEN_ALONE = None  # as the outcome of a part: it was not written with the others


class Fence:
    """`lease` says what this process is controller by, at the moment; None: it is not."""

    def __init__(
        self, session: ZooKeeperSession, epoch_path: str, lease: Callable[[], Lease | None]
    ) -> None:
        self._session = session
        self._epoch_path = epoch_path
        self._lease = lease

    @property
    def is_ours(self) -> bool:
        """Whether this process is controller, as far as it knows."""
        return self._lease() is not None

    async def write(
        self, build: Build, witness: Witness | None, controller_epoch: int | None = None
    ) -> Written:
        """Commit the check of the fence and what `build` adds. `controller_epoch`: that under which
        it was decided; another than the present one's has no right to it. Raises SessionLostError
        and ZooKeeperError."""
        lease = self._lease()
        if lease is None or controller_epoch not in (None, lease.controller_epoch):
            return Written(WriteOutcome.DEPOSED)
        while True:
            sent = await attempt(self._session, self._fenced(lease, build))
            if sent.fate is Fate.APPLIED:
                return Written(WriteOutcome.WRITTEN)
            if sent.failed is not None:
                position, error = sent.failed
                if position == 0:
                    return Written(WriteOutcome.DEPOSED)
                return Written(WriteOutcome.CONFLICT, Failure(position - 1, error))
            outcome = await self._resolve(lease, witness)
            if outcome is not None:
                return Written(outcome)

    async def write_together(
        self, parts: Sequence[Part], controller_epoch: int | None = None
    ) -> list[WriteOutcome | None]:
        """Commit the check of the fence and all parts as one multi, once. An outcome each, or
        TO_BE_WRITTEN_ALONE. Raises as `write`."""
        assert all(part.witness.own for part in parts), parts
        lease = self._lease()
        if lease is None or controller_epoch not in (None, lease.controller_epoch):
            return [WriteOutcome.DEPOSED] * len(parts)

        def build(multi: Any) -> None:
            for part in parts:
                part.build(multi)

        sent = await attempt(self._session, self._fenced(lease, build))
        if sent.fate is Fate.APPLIED:
            return [WriteOutcome.WRITTEN] * len(parts)
        if sent.failed is not None:
            deposed = sent.failed.position == 0
            return [WriteOutcome.DEPOSED if deposed else TO_BE_WRITTEN_ALONE] * len(parts)
        return await gather_all([self._resolve(lease, part.witness) for part in parts])

    def _fenced(self, lease: Lease, build: Build) -> Build:
        """What `build` adds, behind the check of the fence."""

        def fenced(multi: Any) -> None:
            multi.check(self._epoch_path, lease.epoch_version)
            build(multi)

        return fenced

    async def _resolve(self, lease: Lease, witness: Witness | None) -> WriteOutcome | None:
        """What became of a write whose answer was lost; None: nothing, and it may be sent again."""
        if witness is None:
            seen = Seen.OTHER
        else:
            seen = witness.judge(await self._session.get(witness.path))
            if seen is Seen.AFTER and witness.own:
                return WriteOutcome.WRITTEN
        if seen is Seen.BEFORE and self._lease() == lease:
            return None
        if not await self._holds(lease):
            return WriteOutcome.DEPOSED
        return WriteOutcome.WRITTEN if seen is Seen.AFTER else WriteOutcome.CONFLICT

    async def _holds(self, lease: Lease) -> bool:
        """Whether no other controller has been elected, nor this one again."""
        found = await self._session.get(self._epoch_path)
        return (
            found is not None and found[1].version == lease.epoch_version and self._lease() == lease
        )
