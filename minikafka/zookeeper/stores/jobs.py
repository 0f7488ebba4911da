"""Jobs in ZooKeeper: the implementation of `JobStore` (broker/jobs/ports.py).

    /jobs/tasks/task-<token>-<n>            what is to be done; lasting, sequential, never changed
    /jobs/tasks/task-<token>-<n>/status     how it stands: written by master and worker in turn
    /jobs/tasks/task-<token>-<n>/cancel     somebody wants it to end
    /jobs/assigned/node-<id>/<task>         the folder of a worker: what it is to do
    /jobs/semaphore/<name>/slot-<n>         a permit of a worker; ephemeral

A change of a status and of a folder is one multi, over the version of the status that was read. The
client's token makes a create that is repeated findable: a lost answer makes no second job. A permit
is known by its czxid: nothing else tells those of one session from one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kazoo.exceptions import NodeExistsError

from minikafka.api.jobs import JobReport, JobSpec
from minikafka.api.outcomes import WriteOutcome
from minikafka.broker.jobs.ports import JobRecord, JobResult
from minikafka.core.jobs.master import (
    NO_NODE,
    Assign,
    End,
    Entry,
    Forget,
    JobState,
    JobView,
    RemoveEntry,
)
from minikafka.errors import InvalidRequestError
from minikafka.zookeeper.errors import CorruptNodeError
from minikafka.zookeeper.fence import (
    NOT_THERE,
    Deleted,
    Fate,
    Put,
    Witness,
    attempt_one,
    write_over_version,
)
from minikafka.zookeeper.json_data import Fields, WrongFieldError, decode, encode, shown
from minikafka.zookeeper.session import gather_all
from minikafka.zookeeper.stores.coordination import Znodes

_TASK = "task-"
_NODE = "node-"


class ZooKeeperJobs:
    """`root`: the chroot. `_ended` keeps what can change no more, `_permits` the czxids of the
    permits that were given out here."""

    def __init__(self, znodes: Znodes, root: str) -> None:
        self.znodes = znodes
        self._root = f"{root}/jobs"
        self._tasks = f"{self._root}/tasks"
        self._assigned = f"{self._root}/assigned"
        self._ended: dict[str, JobRecord] = {}
        self._permits: set[int] = set()

    async def start(self) -> None:
        """Make the folders."""
        for path in (self._root, self._tasks, self._assigned, f"{self._root}/semaphore"):
            await self.znodes.ensure(path)

    # --- reading ---

    async def read_jobs(self, notify: Callable[[], None] | None = None) -> Sequence[JobRecord]:
        names = await self.znodes.children(self._tasks, notify)
        self._ended = {name: self._ended[name] for name in names if name in self._ended}
        records = await gather_all([self._read(name, notify) for name in names])
        return sorted(
            (record for record in records if record is not None),
            key=lambda record: record.view.order,
        )

    async def _read(self, name: str, notify: Callable[[], None] | None = None) -> JobRecord | None:
        if name in self._ended:
            return self._ended[name]
        path = self.task(name)
        children = await self.znodes.children(path, notify)
        task = await self.znodes.get(path)
        status = await self.znodes.get(self.status(name), notify)
        number = name.rpartition("-")[2]
        if task is None or not (number.isascii() and number.isdecimal()):
            return None
        present = task
        record = self.znodes.unreadable.decode(
            self.status(name),
            lambda: _record(path, int(number), present, status, "cancel" in children),
        )
        if record is not None and record.view.state.ended:
            self._ended[name] = record
        return record

    def task(self, job_id: str) -> str:
        return f"{self._tasks}/{job_id}"

    def status(self, job_id: str) -> str:
        return f"{self._tasks}/{job_id}/status"

    def folder(self, node_id: int) -> str:
        return f"{self._assigned}/{_NODE}{node_id}"

    async def read_entries(self) -> Sequence[Entry]:
        names = await self.znodes.children(self._assigned)
        ids = [name.removeprefix(_NODE) for name in names if name.startswith(_NODE)]
        found = await gather_all([self.read_folder(int(id)) for id in ids if id.isdecimal()])
        return [entry for folder in found for entry in folder]

    async def read_folder(
        self, node_id: int, notify: Callable[[], None] | None = None
    ) -> Sequence[Entry]:
        folder = self.folder(node_id)
        if notify is not None:  # what is not there cannot be watched
            await self.znodes.ensure(folder)
        names = await self.znodes.children(folder, notify)
        found = await gather_all([self._read_entry(node_id, name) for name in names])
        return [entry for entry in found if entry is not None]

    async def _read_entry(self, node_id: int, job_id: str) -> Entry | None:
        path = f"{self.folder(node_id)}/{job_id}"
        found = await self.znodes.get(path)
        if found is None:
            return None
        data = found[0]

        def read(fields: Fields) -> Entry:
            return Entry(job_id, node_id, fields.long("incarnation"), fields.long("attempt"))

        return self.znodes.unreadable.decode(path, lambda: decode(path, data, read))

    # --- the master ---

    async def carry_out(self, effect: Assign | End | RemoveEntry | Forget) -> WriteOutcome:
        if isinstance(effect, Forget):
            return await self._forget(effect.job_id)
        if isinstance(effect, Assign):
            await self.znodes.ensure(self.folder(effect.entry.node_id))
        if isinstance(effect, RemoveEntry):
            path = self._entry_path(effect.entry.node_id, effect.entry.job_id)
            return await self._write(lambda multi: multi.delete(path), Deleted(path))
        data = self._status_of(effect)
        job_id = effect.entry.job_id if isinstance(effect, Assign) else effect.job_id
        # Another controller may decide the same, so that it is this one's only under the fence.
        witness = Put(self.status(job_id), data, effect.version)
        return await self._write(lambda multi: self._build(multi, effect, witness), witness)

    async def _write(self, build: Callable[[Any], None], witness: Witness) -> WriteOutcome:
        return (await self.znodes.fence.write(build, witness)).outcome

    @staticmethod
    def _status_of(effect: Assign | End) -> bytes:
        if isinstance(effect, Assign):
            fields = _status_fields(JobState.ASSIGNED, effect.entry, JobResult(False, ""))
        else:
            nobody = Entry(effect.job_id, effect.previous, 0, 0)
            fields = _status_fields(effect.state, nobody, JobResult(False, effect.reason))
        return encode(fields)

    def _build(self, multi: Any, effect: Assign | End, status: Put) -> None:
        if status.expected_version == NOT_THERE:
            multi.create(status.path, status.data)
        else:
            multi.set_data(status.path, status.data, status.expected_version)
        job_id = effect.entry.job_id if isinstance(effect, Assign) else effect.job_id
        if effect.previous != NO_NODE:
            multi.delete(self._entry_path(effect.previous, job_id))
        if isinstance(effect, Assign):
            entry = effect.entry
            placed = {"incarnation": entry.incarnation, "attempt": entry.attempt}
            multi.create(self._entry_path(entry.node_id, job_id), encode(placed))

    def _entry_path(self, node_id: int, job_id: str) -> str:
        return f"{self.folder(node_id)}/{job_id}"

    async def _forget(self, job_id: str) -> WriteOutcome:
        children = await self.znodes.children(self.task(job_id))

        def build(multi: Any) -> None:
            for child in children:
                multi.delete(f"{self.task(job_id)}/{child}")
            multi.delete(self.task(job_id))

        return await self._write(build, Deleted(self.task(job_id)))

    # --- a worker ---

    async def take_up(self, entry: Entry) -> Hold | None:
        record = await self._read(entry.job_id)
        if record is None:
            return None
        hold = Hold(self, entry, record.report.spec, record.view.version)
        if not _is_current(record.view, entry):
            return None
        return hold if await hold.write(JobState.RUNNING, JobResult(False, "")) else None

    async def acquire(self, name: str, slots: int) -> int | None:
        folder = f"{self._root}/semaphore/{name}"
        await self.znodes.ensure(folder)
        for slot in range(slots):
            if await self._take(f"{folder}/slot-{slot}"):
                return slot
        return None

    async def _take(self, path: str) -> bool:
        session = self.znodes.session
        while True:
            sent = await attempt_one(
                session,
                lambda client: client.create_async(path, b"", ephemeral=True, include_data=True),
            )
            if sent.fate is Fate.REFUSED:
                return False
            if sent.fate is Fate.APPLIED:
                stat = sent.answer[1]
                break
            found = await self.znodes.get(path)
            if found is not None:
                stat = found[1]
                break
            # It never arrived: again.
        # This session may hold it for another job: of one permit, one job is told.
        if stat.ephemeralOwner != session.session_id or stat.czxid in self._permits:
            return False
        self._permits.add(stat.czxid)
        return True

    async def release(self, name: str, slot: int) -> None:
        path = f"{self._root}/semaphore/{name}/slot-{slot}"
        session = self.znodes.session
        found = await self.znodes.get(path)
        if found is None or found[1].ephemeralOwner != session.session_id:
            return
        permit = found[1].czxid
        # A delete whose answer was lost is not simply sent again: the slot may be another's by now.
        while found is not None and found[1].czxid == permit:
            await attempt_one(session, lambda client: client.delete_async(path))
            found = await self.znodes.get(path)
        self._permits.discard(permit)

    # --- anybody ---

    async def submit(self, spec: JobSpec, token: str, now_timestamp_ms: int) -> str:
        prefix = f"{_TASK}{token}-"
        data = encode(
            {
                "kind": spec.kind,
                "topic": spec.topic,
                "partitions": list(spec.partitions),
                "replicas": list(spec.replicas),
                "submitted_at_ms": now_timestamp_ms,
            }
        )
        while True:
            await self.znodes.session.sync()
            for name in await self.znodes.children(self._tasks):
                if name.startswith(prefix):
                    return name
            sent = await attempt_one(
                self.znodes.session,
                lambda client: client.create_async(self.task(prefix), data, sequence=True),
            )
            if sent.failed is not None:
                raise sent.failed.error
            if sent.fate is Fate.APPLIED:
                return str(sent.answer).rpartition("/")[2]

    async def request_cancel(self, job_id: str) -> bool:
        path = f"{self.task(job_id)}/cancel"
        while True:
            sent = await attempt_one(
                self.znodes.session, lambda client: client.create_async(path, b"")
            )
            if sent.failed is not None and isinstance(sent.failed.error, NodeExistsError):
                return False
            if sent.failed is not None:
                raise InvalidRequestError(f"there is no job {job_id!r}")
            if sent.fate is Fate.APPLIED or await self.znodes.get(path) is not None:
                return True


class Hold:
    """The implementation of JobHold. `_version` is that of the status as this worker wrote it."""

    def __init__(self, jobs: ZooKeeperJobs, entry: Entry, spec: JobSpec, version: int) -> None:
        self._jobs = jobs
        self._entry = entry
        self._version = version
        self.spec = spec

    async def progress(self, summary: str) -> bool:
        return await self.write(JobState.RUNNING, JobResult(False, summary))

    async def finish(self, state: JobState, result: JobResult) -> bool:
        return await self.write(state, result)

    async def write(self, state: JobState, result: JobResult) -> bool:
        """Over the version that is known. The status names the attempt, which is this worker's."""
        path = self._jobs.status(self._entry.job_id)
        entry_path = self._jobs._entry_path(self._entry.node_id, self._entry.job_id)
        data = encode(_status_fields(state, self._entry, result))

        def build(multi: Any) -> None:
            multi.set_data(path, data, self._version)
            if state.ended:
                multi.delete(entry_path)
            else:
                multi.check(entry_path, 0)

        witness = Put(path, data, self._version, own=True)
        if not await write_over_version(self._jobs.znodes.session, build, witness):
            return False
        self._version += 1
        return True


def _is_current(view: JobView, entry: Entry) -> bool:
    """Also of a job that this incarnation had taken up when the answer was lost."""
    return view.state in (JobState.ASSIGNED, JobState.RUNNING) and (
        view.node_id,
        view.incarnation,
        view.attempt,
    ) == (entry.node_id, entry.incarnation, entry.attempt)


def _status_fields(state: JobState, entry: Entry, result: JobResult) -> dict[str, Any]:
    return {
        "state": state.value,
        "attempt": entry.attempt,
        "node_id": entry.node_id,
        "incarnation": entry.incarnation,
        "ok": result.ok,
        "summary": result.summary,
        "details": list(result.details),
    }


def _record(
    path: str,
    order: int,
    task: tuple[bytes, Any],
    status: tuple[bytes, Any] | None,
    cancel_requested: bool,
) -> JobRecord:
    """What the nodes of a job say. One that cannot be read is a job that has failed: it must not
    keep the others from being done."""
    job_id = path.rpartition("/")[2]
    unread = JobView(job_id, order, cancel_requested=cancel_requested)
    try:
        spec, submitted_at_ms = decode(path, task[0], _spec)
    except CorruptNodeError as error:
        spec, submitted_at_ms = JobSpec("unreadable", ""), task[1].ctime
        if status is None:
            view = replace(unread, cancel_requested=True)
            said = JobResult(False, str(error))
            return _reported(view, spec, submitted_at_ms, task[1].mtime, said)
    if status is None:
        said = JobResult(False, "")
        return _reported(unread, spec, submitted_at_ms, submitted_at_ms, said)
    data, stat = status

    def read(fields: Fields) -> JobRecord:
        state = _state(fields)
        view = JobView(
            job_id,
            order,
            state,
            fields.long("attempt"),
            fields.long("node_id"),
            fields.long("incarnation"),
            stat.version,
            cancel_requested,
            stat.mtime if state.ended else 0,
        )
        said = JobResult(fields.boolean("ok"), fields.text("summary"), fields.as_texts("details"))
        return _reported(view, spec, submitted_at_ms, stat.mtime, said)

    return decode(f"{path}/status", data, read)


def _reported(
    view: JobView, spec: JobSpec, submitted_at_ms: int, updated_at_ms: int, said: JobResult
) -> JobRecord:
    return JobRecord(
        view,
        JobReport(
            view.job_id,
            spec,
            view.state.value,
            view.attempt,
            view.node_id,
            submitted_at_ms,
            updated_at_ms,
            view.cancel_requested,
            said.ok,
            said.summary,
            tuple(said.details),
        ),
    )


def _state(fields: Fields) -> JobState:
    text = fields.text("state")
    try:
        return JobState(text)
    except ValueError:
        known = ", ".join(state.value for state in JobState)
        raise WrongFieldError(f"state is {shown(text)}, expected one of {known}") from None


def _spec(fields: Fields) -> tuple[JobSpec, int]:
    spec = JobSpec(
        fields.text("kind"),
        fields.text("topic"),
        fields.longs("partitions"),
        fields.longs("replicas"),
    )
    return spec, fields.long("submitted_at_ms")
