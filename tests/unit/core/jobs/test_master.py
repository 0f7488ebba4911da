"""core/jobs/master.py: who does which job; and a walk through crashes at any step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from minikafka.core.jobs.master import (
    MAX_ATTEMPTS,
    NO_NODE,
    NO_STATUS,
    SLOTS,
    Assign,
    End,
    Entry,
    Forget,
    JobState,
    JobView,
    Master,
    RemoveEntry,
    Worker,
)
from tests.helpers.amounts import amount

TIMEOUT_MS, RETENTION_MS = 100, 1_000


def master() -> Master:
    return Master(TIMEOUT_MS, RETENTION_MS)


def with_worker(
    job_id: str, state: JobState, node_id: int, attempt: int = 1, **more: int
) -> JobView:
    more = {"order": 0, "incarnation": 10 + node_id, "version": 3} | more
    return JobView(job_id, state=state, node_id=node_id, attempt=attempt, **more)


def test_a_job_goes_to_the_worker_with_the_fewest_jobs_then_to_the_least_loaded():
    jobs = [
        JobView("late", 2),
        JobView("early", 1),
        with_worker("other", JobState.RUNNING, 1),
    ]
    workers = {1: Worker(11, 0.0), 2: Worker(12, 50.0), 3: Worker(13, 20.0)}
    entries = [Entry("other", 1, 11, 1)]
    decision = master().decide(jobs, entries, workers, 0, 0)
    assert decision.effects == (
        Assign(Entry("early", 3, 13, 1), NO_STATUS, NO_NODE),
        Assign(Entry("late", 2, 12, 1), NO_STATUS, NO_NODE),
    )
    assert decision.look_again_ms is None


def test_who_has_its_hands_full_gets_no_more():
    jobs = [JobView(str(number), number) for number in range(SLOTS + 2)]
    effects = master().decide(jobs, [], {1: Worker(11)}, 0, 0).effects
    assert [effect.entry.job_id for effect in effects] == ["0", "1", "2", "3"]
    assert master().decide(jobs, [], {}, 0, 0).effects == ()


def test_a_job_whose_worker_went_or_is_another_incarnation_is_assigned_again():
    for workers in ({2: Worker(12)}, {1: Worker(99, 90.0), 2: Worker(12)}):
        job = with_worker("j", JobState.RUNNING, 1)
        decision = master().decide([job], [Entry("j", 1, 11, 1)], workers, 0, 0)
        assert decision.effects == (Assign(Entry("j", 2, 12, 2), 3, 1),)


def test_a_worker_that_does_not_take_a_job_up_loses_it_and_gets_it_back_only_if_it_is_alone():
    one = master()
    job, entry = with_worker("j", JobState.ASSIGNED, 1), Entry("j", 1, 11, 1)
    workers = {1: Worker(11), 2: Worker(12, 99.0)}
    assert one.decide([job], [entry], workers, 1_000, 0).look_again_ms == TIMEOUT_MS
    assert one.decide([job], [entry], workers, 1_060, 0).look_again_ms == TIMEOUT_MS - 60
    assert one.decide([job], [entry], workers, 1_100, 0).effects == (
        Assign(Entry("j", 2, 12, 2), 3, 1),
    )
    alone = master()
    assert alone.decide([job], [entry], {1: Worker(11)}, 0, 0).effects == ()
    assert alone.decide([job], [entry], {1: Worker(11)}, TIMEOUT_MS, 0).effects == (
        Assign(Entry("j", 1, 11, 2), 3, 1),
    )


def test_a_job_is_given_up_after_so_many_attempts():
    job = with_worker("j", JobState.RUNNING, 1, attempt=MAX_ATTEMPTS)
    [effect] = master().decide([job], [], {2: Worker(12)}, 0, 0).effects
    assert isinstance(effect, End)
    assert (effect.state, effect.version, effect.previous) == (JobState.FAILED, 3, 1)
    assert "5 workers" in effect.reason


def test_a_cancelled_job_ends_whether_it_runs_or_waits():
    jobs = [
        JobView("waits", 1, cancel_requested=True),
        replace(with_worker("runs", JobState.RUNNING, 1, order=2), cancel_requested=True),
    ]
    reason = "cancelled by request"
    effects = master().decide(jobs, [Entry("runs", 1, 11, 1)], {1: Worker(11)}, 0, 0).effects
    assert effects == (
        End("waits", NO_STATUS, JobState.CANCELLED, reason, NO_NODE),
        End("runs", 3, JobState.CANCELLED, reason, 1),
    )


def test_a_job_that_has_ended_is_forgotten_in_time_and_never_assigned():
    job = with_worker("j", JobState.DONE, 1, ended_at_ms=5_000)
    cancelled = replace(job, cancel_requested=True)
    assert JobState.DONE.ended
    assert master().decide([cancelled], [], {2: Worker(12)}, 0, 5_400).effects == ()
    assert master().decide([job], [], {2: Worker(12)}, 0, 5_400).look_again_ms == 600
    assert master().decide([job], [], {2: Worker(12)}, 0, 6_000).effects == (Forget("j"),)


def test_entries_that_stand_for_nothing_are_removed():
    job = with_worker("j", JobState.RUNNING, 1, attempt=2)
    ended = with_worker("ended", JobState.FAILED, 1, ended_at_ms=1)
    strays = [Entry("ended", 1, 11, 1), Entry("gone", 1, 11, 1), Entry("j", 2, 12, 1)]
    entries = [Entry("j", 1, 11, 2), *reversed(strays)]
    effects = master().decide([job, ended], entries, {1: Worker(11)}, 0, 0).effects
    assert effects == tuple(RemoveEntry(stray) for stray in strays)


# --- the walk ------------------------------------------------------------------------------------


@dataclass
class World:
    """ZooKeeper with jobs, workers with sessions, and a controller that may look at an old picture.

    `results` are the writes that ended a job; `done` counts, by job, those of workers.
    """

    jobs: dict[str, JobView] = field(default_factory=dict)
    entries: dict[tuple[int, str], Entry] = field(default_factory=dict)
    live: dict[int, Worker] = field(default_factory=dict)
    # What each incarnation believes to be doing: job -> (attempt, version of the status it wrote).
    running: dict[tuple[int, int], dict[str, tuple[int, int]]] = field(default_factory=dict)
    ended: dict[str, list[JobState]] = field(default_factory=dict)
    controller: Master = field(default_factory=master)
    incarnations: int = 100
    now_ms: int = 0
    waiting: list[Assign | End | RemoveEntry | Forget] = field(default_factory=list)

    def submit(self) -> None:
        name = f"job-{len(self.jobs)}"
        self.jobs[name] = JobView(name, len(self.jobs))

    def cancel(self, index: int) -> None:
        if self.jobs:
            name = sorted(self.jobs)[index % len(self.jobs)]
            self.jobs[name] = replace(self.jobs[name], cancel_requested=True)

    def start(self, node_id: int) -> None:
        self.incarnations += 1
        self.live[node_id] = Worker(self.incarnations)

    def kill(self, node_id: int, lingers: bool) -> None:
        """The node goes; if the process `lingers`, it does not know, and works on."""
        worker = self.live.pop(node_id, None)
        if worker is not None and not lingers:
            self.running.pop((node_id, worker.incarnation), None)

    def decide(self) -> None:
        """The effects of a picture of now; they are written later, one after the other."""
        jobs, entries = list(self.jobs.values()), list(self.entries.values())
        self.waiting = list(
            self.controller.decide(jobs, entries, dict(self.live), self.now_ms, 0).effects
        )

    def depose(self) -> None:
        """The controller dies in the middle of its writes; the next one knows nothing."""
        self.controller, self.waiting = master(), []

    def write(self) -> None:
        if not self.waiting:
            return
        effect = self.waiting.pop(0)
        match effect:
            case Assign(entry, version, previous):
                job = self.jobs[entry.job_id]
                if job.version != version:
                    return
                self.entries.pop((previous, job.job_id), None)
                self.entries[entry.node_id, job.job_id] = entry
                self.put(
                    replace(
                        job,
                        state=JobState.ASSIGNED,
                        attempt=entry.attempt,
                        node_id=entry.node_id,
                        incarnation=entry.incarnation,
                    )
                )
            case End(job_id, version, state, _, previous):
                job = self.jobs[job_id]
                if job.version == version:
                    self.entries.pop((previous, job_id), None)
                    self.end(job, state)
            case RemoveEntry(entry):
                if self.entries.get((entry.node_id, entry.job_id)) == entry:
                    del self.entries[entry.node_id, entry.job_id]

    def put(self, job: JobView) -> JobView:
        assert not self.jobs[job.job_id].state.ended, "a job that has ended never changes again"
        self.jobs[job.job_id] = job = replace(job, version=job.version + 1)
        return job

    def end(self, job: JobView, state: JobState) -> None:
        self.put(replace(job, state=state))
        self.ended.setdefault(job.job_id, []).append(state)

    def take_up(self, node_id: int) -> None:
        """A live worker looks into its folder."""
        worker = self.live.get(node_id)
        if worker is None:
            return
        mine = self.running.setdefault((node_id, worker.incarnation), {})
        for (owner, job_id), entry in sorted(self.entries.items()):
            job = self.jobs[job_id]
            if (
                owner == node_id
                and entry.incarnation == worker.incarnation
                and job.attempt == entry.attempt
                and job.state is JobState.ASSIGNED
            ):
                mine[job_id] = (
                    entry.attempt,
                    self.put(replace(job, state=JobState.RUNNING)).version,
                )
        for job_id in [each for each in mine if (node_id, each) not in self.entries]:
            del mine[job_id]

    def finish(self, index: int) -> None:
        """Some process, which may have lost its session long ago, writes a result."""
        works = [(key, job_id) for key, mine in self.running.items() for job_id in mine]
        if not works:
            return
        key, job_id = sorted(works)[index % len(works)]
        attempt, version = self.running[key].pop(job_id)
        job = self.jobs[job_id]
        if job.version == version:
            assert (job.attempt, job.node_id, job.incarnation) == (attempt, *key)
            self.entries.pop((key[0], job_id), None)
            self.end(job, JobState.DONE)

    def settle(self) -> None:
        """Everything goes well from now on."""
        for node_id in (1, 2, 3):
            if node_id not in self.live:
                self.start(node_id)
        for _ in range(8 * (len(self.jobs) + 1)):
            self.now_ms += TIMEOUT_MS
            self.decide()
            while self.waiting:
                self.write()
            for node_id in (1, 2, 3):
                self.take_up(node_id)
            self.finish(0)


NODES = st.integers(1, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit")),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("start"), NODES),
        st.tuples(st.just("kill"), NODES, st.booleans()),
        st.tuples(st.just("decide")),
        st.tuples(st.just("write")),
        st.tuples(st.just("depose")),
        st.tuples(st.just("take_up"), NODES),
        st.tuples(st.just("finish"), st.integers(0, 5)),
        st.tuples(st.just("wait")),
    ),
    max_size=60,
)


@settings(max_examples=amount(300), deadline=None)
@given(STEPS)
def test_whatever_crashes_when_every_job_ends_and_ends_once(
    steps: list[tuple[object, ...]],
) -> None:
    world = World()
    world.submit()
    for name, *arguments in steps:
        if name == "wait":
            world.now_ms += TIMEOUT_MS // 2
        else:
            getattr(world, str(name))(*arguments)
    world.settle()
    assert world.ended.keys() == world.jobs.keys()
    assert all(len(states) == 1 for states in world.ended.values()), world.ended
    assert not world.entries
