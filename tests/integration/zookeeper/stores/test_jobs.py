"""zookeeper/stores/jobs.py on a real server of either kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from minikafka.api.jobs import JobSpec
from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.jobs.ports import JobRecord, JobResult
from minikafka.core.jobs.master import (
    NO_NODE,
    NO_STATUS,
    Assign,
    End,
    Entry,
    Forget,
    JobState,
    RemoveEntry,
)
from minikafka.errors import InvalidRequestError
from minikafka.zookeeper.stores.jobs import ZooKeeperJobs
from minikafka.zookeeper.stores.store import ZooKeeperStore
from tests.helpers.waiting import until
from tests.helpers.zookeeper import CREATE, CREATE2, DELETE, MULTI, ZooKeeperProxy
from tests.integration.zookeeper.conftest import NewProxy, NewStore

SPEC = JobSpec("scrub", "orders", (0, 2))
TOKEN = "abcdef123456"


async def jobs_of(store: ZooKeeperStore) -> ZooKeeperJobs:
    jobs = ZooKeeperJobs(store.znodes(), store.root)
    await jobs.start()
    return jobs


@pytest.fixture
async def proxied(
    hosts: str, chroot: str, new_store: NewStore, new_proxy: NewProxy
) -> tuple[ZooKeeperProxy, ZooKeeperStore, ZooKeeperJobs]:
    """A store behind a proxy, and its jobs."""
    proxy = await new_proxy(hosts)
    store = await new_store(proxy.hosts + chroot)
    return proxy, store, await jobs_of(store)


Proxied = tuple[ZooKeeperProxy, ZooKeeperStore, ZooKeeperJobs]


async def only(jobs: ZooKeeperJobs, notify: Callable[[], None] | None = None) -> JobRecord:
    [record] = await jobs.read_jobs(notify)
    return record


async def assigned(store: ZooKeeperStore, jobs: ZooKeeperJobs, attempt: int = 1) -> Entry:
    """A job that this store's controllership has given to node 1."""
    job_id = await jobs.submit(SPEC, TOKEN, 5)
    await store.elect_controller(1)
    entry = Entry(job_id, 1, 77, attempt)
    assert await jobs.carry_out(Assign(entry, NO_STATUS, NO_NODE)) is WriteOutcome.WRITTEN
    return entry


async def test_a_submission_that_is_repeated_is_one_job(new_store: NewStore, connect: str) -> None:
    jobs = await jobs_of(await new_store(connect))
    job_id = await jobs.submit(SPEC, TOKEN, 5)
    assert await jobs.submit(SPEC, TOKEN, 9) == job_id
    other = await jobs.submit(SPEC, "fedcba654321", 9)
    records = await jobs.read_jobs()
    assert [record.report.job_id for record in records] == [job_id, other]
    assert records[0].report.spec == SPEC
    assert records[0].report.submitted_at_ms == 5
    assert records[0].view.version == NO_STATUS


async def test_a_job_lives_through_assignment_work_and_its_end(
    new_store: NewStore, connect: str
) -> None:
    store = await new_store(connect)
    jobs = await jobs_of(store)
    folder_changes: list[int] = []
    assert await jobs.read_folder(1, lambda: folder_changes.append(1)) == []
    entry = await assigned(store, jobs)
    await until(lambda: folder_changes)
    assert await jobs.read_folder(1) == await jobs.read_entries() == [entry]
    changes: list[int] = []
    assert (await only(jobs, lambda: changes.append(1))).view.state is JobState.ASSIGNED
    hold = await jobs.take_up(entry)
    assert hold is not None
    await until(lambda: changes)
    assert await hold.progress("half of it")
    record = await only(jobs)
    assert (record.view.state, record.report.summary) == (JobState.RUNNING, "half of it")
    assert await hold.finish(JobState.DONE, JobResult(True, "no damage", ("one", "two")))
    record = await only(jobs)
    assert record.view.state is JobState.DONE
    assert record.view.ended_at_ms > 0
    assert record.report.ok
    assert record.report.details == ("one", "two")
    assert await jobs.read_entries() == []
    assert await jobs.carry_out(Forget(entry.job_id)) is WriteOutcome.WRITTEN
    assert await jobs.read_jobs() == []


async def test_a_worker_that_was_given_up_on_writes_nothing(
    new_store: NewStore, connect: str
) -> None:
    store, other = await new_store(connect), await new_store(connect)
    jobs, theirs = await jobs_of(store), await jobs_of(other)
    entry = await assigned(store, jobs)
    hold = await theirs.take_up(entry)
    assert hold is not None
    version = (await only(jobs)).view.version
    second = Entry(entry.job_id, 2, 88, 2)
    assert await jobs.carry_out(Assign(second, version, 1)) is WriteOutcome.WRITTEN
    assert await jobs.carry_out(Assign(second, version, 1)) is WriteOutcome.CONFLICT
    assert not await hold.progress("on and on")
    assert not await hold.finish(JobState.DONE, JobResult(True, "stale"))
    assert await theirs.take_up(entry) is None
    assert await jobs.read_entries() == [second]
    assert (await only(jobs)).view.attempt == 2


async def test_a_cancelled_job_ends_once_and_its_worker_notices(
    new_store: NewStore, connect: str
) -> None:
    store = await new_store(connect)
    jobs = await jobs_of(store)
    entry = await assigned(store, jobs)
    hold = await jobs.take_up(entry)
    assert hold is not None
    assert await jobs.request_cancel(entry.job_id)
    assert not await jobs.request_cancel(entry.job_id)
    with pytest.raises(InvalidRequestError, match="there is no job 'task-x'"):
        await jobs.request_cancel("task-x")
    record = await only(jobs)
    assert record.view.cancel_requested
    end = End(entry.job_id, record.view.version, JobState.CANCELLED, "by request", 1)
    assert await jobs.carry_out(end) is WriteOutcome.WRITTEN
    assert not await hold.finish(JobState.DONE, JobResult(True, "late"))
    record = await only(jobs)
    assert (record.view.state, record.report.summary) == (JobState.CANCELLED, "by request")


async def test_only_the_controller_assigns_and_strays_can_be_removed(
    new_store: NewStore, connect: str
) -> None:
    store, other = await new_store(connect), await new_store(connect)
    jobs, theirs = await jobs_of(store), await jobs_of(other)
    entry = await assigned(store, jobs)
    stray = Entry("task-gone-0000000009", 1, 77, 1)
    assert await theirs.carry_out(Forget(entry.job_id)) is WriteOutcome.DEPOSED
    path = f"{store.root}/jobs/assigned/node-1/{stray.job_id}"
    data = b'{"version":1,"incarnation":77,"attempt":1}'
    await store.session.call(lambda client: client.create_async(path, data))
    assert stray in await jobs.read_entries()
    assert await jobs.carry_out(RemoveEntry(stray)) is WriteOutcome.WRITTEN
    assert await jobs.read_entries() == [entry]


async def test_permits_are_as_many_as_there_are_and_go_with_the_session(
    new_store: NewStore, connect: str
) -> None:
    store, other = await new_store(connect), await new_store(connect)
    jobs, theirs = await jobs_of(store), await jobs_of(other)
    assert [await theirs.acquire("reassign", 2) for _ in range(3)] == [0, 1, None]
    assert await jobs.acquire("reassign", 2) is None
    await jobs.release("reassign", 0)
    assert await jobs.acquire("reassign", 2) is None, "it was another's"
    await theirs.release("reassign", 1)
    assert await jobs.acquire("reassign", 2) == 1
    await other.close()

    async def free() -> bool:
        return await jobs.acquire("reassign", 2) == 0

    await until(free)


async def test_a_task_that_nobody_can_read_keeps_no_other_from_being_seen(
    new_store: NewStore, connect: str
) -> None:
    store = await new_store(connect)
    jobs = await jobs_of(store)
    path = f"{store.root}/jobs/tasks/task-x-0000000000"
    await store.session.call(lambda client: client.create_async(path, b"rubbish"))
    await jobs.submit(SPEC, TOKEN, 5)
    broken, good = await jobs.read_jobs()
    assert broken.view.cancel_requested
    assert "not JSON" in broken.report.summary
    assert good.report.spec == SPEC
    status = b'{"version":1,"state":"asleep"}'
    await store.session.call(lambda client: client.create_async(f"{path}/status", status))
    [good] = await jobs.read_jobs()
    assert good.report.spec == SPEC
    assert "asleep" in store.unreadable.nodes[f"{path}/status"]


# --- lost answers ---


@pytest.mark.parametrize("arrives", [True, False])
async def test_an_assignment_whose_answer_was_lost_is_made_once(
    proxied: Proxied, arrives: bool
) -> None:
    proxy, store, jobs = proxied
    job_id = await jobs.submit(SPEC, TOKEN, 5)
    await store.elect_controller(1)
    entry = Entry(job_id, 1, 77, 1)
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(MULTI)
    assert await jobs.carry_out(Assign(entry, NO_STATUS, NO_NODE)) is WriteOutcome.WRITTEN
    assert proxy.cuts_done == 1
    assert await jobs.read_entries() == [entry]
    assert (await only(jobs)).view.version == 0


async def test_the_same_assignment_by_the_next_controller_is_not_this_ones(
    proxied: Proxied, connect: str, new_store: NewStore
) -> None:
    proxy, store, jobs = proxied
    job_id = await jobs.submit(SPEC, TOKEN, 5)
    await store.elect_controller(1)
    other = await new_store(connect)
    theirs = await jobs_of(other)
    assignment = Assign(Entry(job_id, 1, 77, 1), NO_STATUS, NO_NODE)
    await jobs.znodes.ensure(jobs.folder(1))

    async def meanwhile() -> None:
        await other.session.repeat(lambda client: client.delete_async(f"{store.root}/controller"))
        assert (await other.elect_controller(2, out_of_turn=True)).won
        assert await theirs.carry_out(assignment) is WriteOutcome.WRITTEN

    proxy.cut_before_request(MULTI, meanwhile)
    assert await jobs.carry_out(assignment) is WriteOutcome.DEPOSED


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_result_whose_answer_was_lost_counts_once(proxied: Proxied, arrives: bool) -> None:
    proxy, store, jobs = proxied
    hold = await jobs.take_up(await assigned(store, jobs))
    assert hold is not None
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(MULTI)
    assert await hold.finish(JobState.DONE, JobResult(True, "all of it"))
    assert proxy.cuts_done == 1
    record = await only(jobs)
    assert (record.view.state, record.report.summary) == (JobState.DONE, "all of it")
    assert await jobs.read_entries() == []


async def test_a_worker_whose_entry_was_written_over_gives_up(
    new_store: NewStore, connect: str
) -> None:
    store = await new_store(connect)
    jobs = await jobs_of(store)
    entry = await assigned(store, jobs)
    hold = await jobs.take_up(entry)
    assert hold is not None
    path = f"{jobs.folder(1)}/{entry.job_id}"
    await store.session.call(lambda client: client.set_async(path, b"by hand"))
    assert not await hold.progress("on and on")


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_permit_whose_answer_was_lost_is_given_to_one(
    proxied: Proxied, arrives: bool
) -> None:
    proxy, _, jobs = proxied
    await jobs.znodes.ensure(f"{jobs._root}/semaphore/reassign")
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(CREATE2)
    assert await jobs.acquire("reassign", 1) == 0
    assert proxy.cuts_done == 1
    proxy.cut_before_reply(CREATE2)
    assert await jobs.acquire("reassign", 1) is None, "the session holds it for another job"
    assert proxy.cuts_done == 2
    await jobs.release("reassign", 0)
    assert await jobs.acquire("reassign", 1) == 0


async def test_a_permit_that_another_took_meanwhile_is_not_released(
    proxied: Proxied, connect: str, new_store: NewStore
) -> None:
    proxy, _, jobs = proxied
    theirs = await jobs_of(await new_store(connect))
    assert await jobs.acquire("reassign", 1) == 0

    async def meanwhile() -> None:
        assert await theirs.acquire("reassign", 1) == 0

    proxy.cut_before_reply(DELETE, meanwhile)
    await jobs.release("reassign", 0)
    assert proxy.cuts_done == 1
    assert await jobs.acquire("reassign", 1) is None, "it is theirs"


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_request_to_cancel_whose_answer_was_lost_was_made(
    proxied: Proxied, arrives: bool
) -> None:
    proxy, _, jobs = proxied
    job_id = await jobs.submit(SPEC, TOKEN, 5)
    (proxy.cut_before_reply if arrives else proxy.cut_before_request)(CREATE)
    assert await jobs.request_cancel(job_id)
    assert proxy.cuts_done == 1
    assert (await only(jobs)).view.cancel_requested
