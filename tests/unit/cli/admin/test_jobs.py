"""cli/admin/jobs.py: what can be asked for, and how jobs are told of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minikafka.api.jobs import JobReport, JobSpec
from minikafka.cli.admin import jobs
from minikafka.errors import UsageError

REPORT = JobReport(
    "task-abc-0000000001",
    JobSpec("scrub", "orders", (0, 2)),
    "running",
    2,
    3,
    1_700_000_000_000,
    1_700_000_001_000,
    False,
    False,
    "half of it",
    (),
)


def test_a_job_is_told_in_one_line():
    assert jobs.describe_state(REPORT) == (
        "task-abc-0000000001 scrub orders:0,2: running on node 3 (attempt 2): half of it"
    )
    waits = replace(REPORT, state="submitted", node_id=-1, summary="", cancel_requested=True)
    assert jobs.describe_state(waits) == (
        "task-abc-0000000001 scrub orders:0,2: submitted, to be cancelled"
    )


def test_a_row_fits_and_a_document_has_everything():
    row = dict(zip(jobs.COLUMNS, jobs.row(replace(REPORT, summary="x" * 99)), strict=True))
    assert (row["node"], row["attempt"], len(row["what"])) == ("3", "2", 70)
    assert jobs.row(replace(REPORT, node_id=-1))[4] == "-"
    document = jobs.document(replace(REPORT, node_id=-1))
    assert document["node"] is None
    assert document["partitions"] == [0, 2]


def test_only_a_job_that_is_done_and_found_nothing_went_well():
    assert jobs.went_well(replace(REPORT, state="done", ok=True))
    assert not jobs.went_well(replace(REPORT, state="done"))
    assert not jobs.went_well(replace(REPORT, state="failed", ok=True))


def test_a_spec_is_read_from_the_command_line():
    assert jobs.read_spec("scrub", "t", (2, 0, 2), None) == JobSpec("scrub", "t", (0, 2))
    assert jobs.read_spec("reassign", "t", (), "3,1") == JobSpec("reassign", "t", (), (3, 1))


@pytest.mark.parametrize(
    ("kind", "topic", "replicas", "why"),
    [
        ("scrib", "t", None, "did you mean scrub"),
        ("dance", "t", None, "there are scrub, compare, reassign, preferred-election"),
        ("reassign", "t", None, "give --replicas"),
        ("reassign", "t", "1,x", "expected broker ids"),
        ("reassign", "t", "1,1", "name a broker twice"),
        ("scrub", "t", "1", "takes no replicas"),
        ("scrub", "a/b", None, "cannot be the name of a topic"),
    ],
)
def test_what_can_be_no_job_is_wrong_usage(
    kind: str, topic: str, replicas: str | None, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        jobs.read_spec(kind, topic, (), replicas)
