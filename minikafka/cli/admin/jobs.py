"""`minikafka jobs submit|list|describe|watch|cancel`: work that the brokers share out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minikafka.cli.admin.reassign_throttle import lift_throttle, read_rate, set_throttle
from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import cluster_options, format_option, read_topic_name
from minikafka.cli.kit.output import clock_time, print_json, print_json_line, print_table, say
from minikafka.errors import MinikafkaError, UsageError
from minikafka.local.discovery import Bootstrap, find_cluster
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.api.jobs import JobReport, JobSpec

COLUMNS = ("job", "kind", "of", "state", "node", "attempt", "submitted", "what")
_POLL_S = 0.3
_ENDED = ("done", "failed", "cancelled")
_SHOWN_WIDTH = 70


@click.group("jobs", cls=SuggestingGroup)
def command() -> None:
    """Have brokers check, compare and move replicas; watch how it goes.

    scrub: verify the CRC of every batch of every replica. compare: are the replicas of a partition
    equal below the high watermark? reassign: move partitions to other brokers.
    preferred-election: give leadership back to the preferred replicas.
    """


@command.command("submit")
@click.argument("kind", metavar="KIND")
@click.argument("topic", metavar="TOPIC")
@click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only these."
)
@click.option("--replicas", metavar="1,2,3", help="Of a reassign: the brokers, preferred first.")
@click.option(
    "--throttle",
    metavar="BYTES",
    help="Of a reassign: copy at most so many a second at each broker, as 5MB; with --wait until "
    "the end.",
)
@click.option("--wait", is_flag=True, help="Show how it goes, and end when it ends.")
@cluster_options
@format_option
@click.pass_context
def submit(
    ctx: click.Context,
    kind: str,
    topic: str,
    partitions: tuple[int, ...],
    replicas: str | None,
    throttle: str | None,
    wait: bool,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Have a job of KIND done on TOPIC: scrub, compare, reassign or preferred-election."""
    spec = read_spec(kind, topic, partitions, replicas)
    if throttle is not None and kind != "reassign":
        raise UsageError(f"--throttle is for replicas that move: a {kind} job moves none")
    rate = None if throttle is None else read_rate(throttle)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    as_json = output_format == "json"
    job_id = run(_submit(cluster, spec, rate, wait))
    if not wait:
        if as_json:
            print_json({"job": job_id})
        else:
            say(f"job {job_id} submitted; `minikafka jobs watch {job_id}` shows how it goes")
        return
    tell(f"job {job_id} submitted")
    reports = run(_watch(cluster, [job_id], as_json))
    if rate is not None:
        run(_unthrottle(cluster, topic))
    _end(ctx, reports)


@command.command("list")
@cluster_options
@format_option
def list_jobs(bootstrap: str | None, data_dir: Path, output_format: str) -> None:
    """List the jobs that wait, run, or have ended in the last day (job.retention.ms)."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    reports = run(_list(cluster, []))
    if output_format == "json":
        print_json([document(report) for report in reports])
    else:
        print_table(COLUMNS, [row(report) for report in reports])


@command.command("describe")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@cluster_options
@format_option
def describe(
    job_ids: tuple[str, ...], bootstrap: str | None, data_dir: Path, output_format: str
) -> None:
    """Show all that is known of jobs, and each line of what they found."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    reports = run(_list(cluster, job_ids))
    if output_format == "json":
        print_json([document(report) for report in reports])
        return
    for report in reports:
        say(describe_state(report))
        for line in report.details:
            say(f"  {line}")


@command.command("watch")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@cluster_options
@format_option
@click.pass_context
def watch(
    ctx: click.Context,
    job_ids: tuple[str, ...],
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """A line whenever something changes, until all of these jobs have ended.

    Exit status 0 if all are done and found nothing wrong, else 1.
    """
    cluster = find_cluster(bootstrap, data_dir)
    _watch_until_ended(ctx, cluster, job_ids, output_format == "json")


@command.command("cancel")
@click.argument("job_id", metavar="JOB")
@cluster_options
@format_option
def cancel(job_id: str, bootstrap: str | None, data_dir: Path, output_format: str) -> None:
    """End a job that waits or runs. What a reassign has begun goes on."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> JobReport:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            return await admin.cancel_job(job_id)

    report = run(work())
    if output_format == "json":
        print_json({"job": report.job_id, "was": report.state})
    else:
        say(f"job {report.job_id} is being cancelled; it was {report.state}")


def read_spec(kind: str, topic: str, partitions: Sequence[int], replicas: str | None) -> JobSpec:
    """What the command line asks for. Raises UsageError for what can be no job in any cluster."""
    from minikafka.api.jobs import JobSpec
    from minikafka.broker.jobs.service import check_spec

    try:
        target = tuple(int(each) for each in replicas.split(",")) if replicas else ()
    except ValueError:
        raise UsageError(f"--replicas {replicas!r}: expected broker ids, such as 1,2,3") from None
    spec = JobSpec(kind, topic, tuple(sorted(set(partitions))), target)
    try:
        check_spec(spec)
    except MinikafkaError as error:
        hint = ": give --replicas" if "needs the replicas" in error.message else ""
        raise UsageError(error.message + hint) from None
    read_topic_name(topic)
    return spec


def document(report: JobReport) -> dict[str, Any]:
    """The JSON document of a job (docs/cli.md)."""
    return {
        "job": report.job_id,
        "kind": report.spec.kind,
        "topic": report.spec.topic,
        "partitions": list(report.spec.partitions),
        "replicas": list(report.spec.replicas),
        "state": report.state,
        "node": None if report.node_id < 0 else report.node_id,
        "attempt": report.attempt,
        "submitted_at_ms": report.submitted_at_ms,
        "updated_at_ms": report.updated_at_ms,
        "cancel_requested": report.cancel_requested,
        "ok": report.ok,
        "summary": report.summary,
        "details": list(report.details),
    }


def row(report: JobReport) -> list[str]:
    """For COLUMNS."""
    what = report.summary
    return [
        report.job_id,
        report.spec.kind,
        _subject(report.spec),
        report.state,
        "-" if report.node_id < 0 else str(report.node_id),
        str(report.attempt),
        time.strftime("%m-%d %H:%M:%S", time.localtime(report.submitted_at_ms / 1000)),
        what if len(what) <= _SHOWN_WIDTH else f"{what[: _SHOWN_WIDTH - 3]}...",
    ]


def describe_state(report: JobReport) -> str:
    """One line: `task-…-0000000001 scrub orders: running on node 2 (attempt 1): …`"""
    where = ""
    if report.node_id >= 0:
        where = f" on node {report.node_id}"
        if report.attempt > 1:
            where += f" (attempt {report.attempt})"
    summary = f": {report.summary}" if report.summary else ""
    waits = ", to be cancelled" if report.cancel_requested and report.state not in _ENDED else ""
    subject = f"{report.spec.kind} {_subject(report.spec)}"
    return f"{report.job_id} {subject}: {report.state}{where}{waits}{summary}"


def _subject(spec: JobSpec) -> str:
    if not spec.partitions:
        return spec.topic
    return f"{spec.topic}:{','.join(map(str, spec.partitions))}"


def went_well(report: JobReport) -> bool:
    return report.state == "done" and report.ok


async def _submit(cluster: Bootstrap, spec: JobSpec, rate: int | None, wait: bool) -> str:
    from minikafka.cli.kit.connection import open_admin, require_topic
    from minikafka.model import TopicPartition

    async with open_admin(cluster) as admin:
        known = await require_topic(admin, spec.topic)
        if rate is not None:
            numbers = spec.partitions or [
                each.topic_partition.partition for each in known.partitions
            ]
            targets = {TopicPartition(spec.topic, number): spec.replicas for number in numbers}
            await set_throttle(admin, targets, rate, wait)
        try:
            return await admin.submit_job(spec)
        except MinikafkaError:
            if rate is not None:
                await lift_throttle(admin, [spec.topic])
            raise


async def _unthrottle(cluster: Bootstrap, topic: str) -> None:
    from minikafka.cli.kit.connection import open_admin

    async with open_admin(cluster) as admin:
        await lift_throttle(admin, [topic])


async def _list(cluster: Bootstrap, job_ids: Sequence[str]) -> Sequence[JobReport]:
    from minikafka.cli.kit.connection import open_admin

    async with open_admin(cluster) as admin:
        return await admin.list_jobs(job_ids)


def _watch_until_ended(
    ctx: click.Context, cluster: Bootstrap, job_ids: Sequence[str], as_json: bool
) -> None:
    from minikafka.cli.kit.aio import run

    _end(ctx, run(_watch(cluster, job_ids, as_json)))


def _end(ctx: click.Context, reports: Sequence[JobReport]) -> None:
    ctx.exit(0 if all(map(went_well, reports)) else 1)


async def _watch(cluster: Bootstrap, job_ids: Sequence[str], as_json: bool) -> Sequence[JobReport]:
    from minikafka.cli.kit.connection import open_admin

    async with open_admin(cluster) as admin:
        told: dict[str, JobReport] = {}
        while True:
            reports = await admin.list_jobs(job_ids)
            for report in reports:
                if told.get(report.job_id) != report:
                    told[report.job_id] = report
                    _tell(report, as_json)
            if all(report.state in _ENDED for report in reports):
                return reports
            await asyncio.sleep(_POLL_S)


def _tell(report: JobReport, as_json: bool) -> None:
    if as_json:
        print_json_line(document(report))
        return
    say(f"{clock_time(report.updated_at_ms / 1000)} {describe_state(report)}")
    for line in report.details:
        say(f"  {line}")
