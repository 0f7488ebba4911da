"""Who does which job, and when it is given to somebody else. Pure.

A job is submitted, assigned to a worker, run by it, and ends as done, failed or cancelled. All that
is known of it is in its status, which has a version: whoever changes it says which version it has
seen, so of two that change it at once one has no effect. An attempt is one assignment; its number
only grows, and it belongs to one incarnation of one worker. So a worker that was given up on can
still work, but nothing comes of it: the status is of a later attempt.

`Master.decide` looks at everything that there is and says what is to be done. It may be asked any
time, by any controller: nothing that matters is remembered, except since when a worker has been
silent about an assignment, which begins anew with a new controller.

Invariants: a job that has ended never changes again; a job that has not is, sooner or later, with a
worker that lives, as long as there is one; a job whose workers die again and again fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

NO_NODE = -1
NO_STATUS = -1  # the version of a status that is not there yet
MAX_ATTEMPTS = 5
SLOTS = 4  # jobs that one worker is given at once


class JobState(Enum):
    SUBMITTED = "submitted"
    ASSIGNED = "assigned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in _ENDED


_ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobView:
    """What is known of a job. `order` is that of submission; `ended_at_ms` is wall clock."""

    job_id: str
    order: int
    state: JobState = JobState.SUBMITTED
    attempt: int = 0
    node_id: int = NO_NODE
    incarnation: int = 0
    version: int = NO_STATUS
    cancel_requested: bool = False
    ended_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """A live worker. `load` is its share of a core in percent."""

    incarnation: int
    load: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A job in the folder of a worker."""

    job_id: str
    node_id: int
    incarnation: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Status to assigned, over `version`; out of the folder of `previous`, into that of the
    entry's worker; all or nothing."""

    entry: Entry
    version: int
    previous: int  # NO_NODE: nobody's


@dataclass(frozen=True, slots=True)
class End:
    """Status to `state`, over `version`; out of the folder of `previous`; all or nothing."""

    job_id: str
    version: int
    state: JobState
    reason: str
    previous: int


@dataclass(frozen=True, slots=True)
class RemoveEntry:
    """An entry that stands for nothing."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Forget:
    """A job that has ended long ago."""

    job_id: str


JobEffect: TypeAlias = Assign | End | RemoveEntry | Forget


@dataclass(frozen=True, slots=True)
class JobDecision:
    """What to do, and after how many milliseconds to look again even if nothing happens."""

    effects: tuple[JobEffect, ...]
    look_again_ms: int | None


class Master:
    """The assigner, for one term of a controller."""

    def __init__(self, acknowledge_timeout_ms: int, retention_ms: int) -> None:
        self._acknowledge_timeout_ms = acknowledge_timeout_ms
        self._retention_ms = retention_ms
        # When an assignment was first seen without word from its worker, by job and attempt.
        self._silent_since_ms: dict[tuple[str, int], int] = {}

    def decide(
        self,
        jobs: Collection[JobView],
        entries: Collection[Entry],
        workers: Mapping[int, Worker],
        now_ms: int,
        now_timestamp_ms: int,
    ) -> JobDecision:
        """`entries`: all folders; `workers`: by node id; `now_ms` is a monotonic clock."""
        ordered = sorted(jobs, key=lambda job: job.order)
        effects: list[JobEffect] = []
        effects += _stray_entries(ordered, entries)
        waits_ms: list[int] = []
        busy = _busy(ordered, workers)
        silent: dict[tuple[str, int], int] = {}
        for job in ordered:
            if job.state.ended:
                left_ms = job.ended_at_ms + self._retention_ms - now_timestamp_ms
                if left_ms <= 0:
                    effects.append(Forget(job.job_id))
                else:
                    waits_ms.append(left_ms)
                continue
            if job.cancel_requested:
                reason = "cancelled by request"
                effects.append(_end(job, JobState.CANCELLED, reason))
                continue
            avoided = NO_NODE
            if job.state is not JobState.SUBMITTED:
                worker = workers.get(job.node_id)
                lives = worker is not None and worker.incarnation == job.incarnation
                if lives and job.state is JobState.RUNNING:
                    continue
                if lives:
                    key = (job.job_id, job.attempt)
                    since_ms = silent[key] = self._silent_since_ms.get(key, now_ms)
                    left_ms = since_ms + self._acknowledge_timeout_ms - now_ms
                    if left_ms > 0:
                        waits_ms.append(left_ms)
                        continue
                    avoided = job.node_id
                if job.attempt >= MAX_ATTEMPTS:
                    effects.append(_end(job, JobState.FAILED, _gave_up(job.attempt)))
                    continue
            chosen = _choose(workers, busy, avoided)
            if chosen is None:
                continue
            busy[chosen] += 1
            entry = Entry(job.job_id, chosen, workers[chosen].incarnation, job.attempt + 1)
            effects.append(Assign(entry, job.version, job.node_id))
        self._silent_since_ms = silent
        return JobDecision(tuple(effects), min(waits_ms, default=None))


def _gave_up(attempts: int) -> str:
    return f"given up: {attempts} workers in turn went away or did not take it up"


def _end(job: JobView, state: JobState, reason: str) -> End:
    return End(job.job_id, job.version, state, reason, job.node_id)


def _stray_entries(jobs: Sequence[JobView], entries: Collection[Entry]) -> list[JobEffect]:
    """Entries of no attempt that is under way: those that a job left behind when it ended or moved
    come with the job's own writes, so these were made by hand, or their job was deleted."""
    current = {(job.job_id, job.node_id, job.attempt) for job in jobs if not job.state.ended}
    return [
        RemoveEntry(entry)
        for entry in sorted(entries, key=lambda each: (each.node_id, each.job_id))
        if (entry.job_id, entry.node_id, entry.attempt) not in current
    ]


def _busy(jobs: Sequence[JobView], workers: Mapping[int, Worker]) -> dict[int, int]:
    """How many jobs each live worker has."""
    busy = dict.fromkeys(workers, 0)
    for job in jobs:
        worker = workers.get(job.node_id)
        if worker is not None and worker.incarnation == job.incarnation and not job.state.ended:
            busy[job.node_id] += 1
    return busy


def _choose(workers: Mapping[int, Worker], busy: Mapping[int, int], avoided: int) -> int | None:
    """The worker with the fewest jobs, then the least load, then the smallest id; `avoided` only if
    there is no other. None: all that live have their hands full."""
    free = [node_id for node_id in workers if busy[node_id] < SLOTS]
    others = [node_id for node_id in free if node_id != avoided]
    return min(
        others or free,
        key=lambda node_id: (busy[node_id], workers[node_id].load, node_id),
        default=None,
    )
