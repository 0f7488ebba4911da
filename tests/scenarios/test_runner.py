"""The runner and the invariants themselves: they must be able to fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.core_builders import leader_of
from tests.scenarios.invariants import check_cluster
from tests.scenarios.runner import Runner, check, duration_ms, parse, play

STORY = """\
# A story.

cluster A,B
----
Leader=A Epoch=0 ISR={A,B}

# It dies.
kill B
produce x
----
Leader=A Epoch=1 ISR={A}
x is acknowledged at 0
"""


def running(*commands: str) -> Runner:
    runner = Runner()
    for number, command in enumerate(commands, start=1):
        runner.run(number, command)
    return runner


def test_a_file_is_a_story_and_blocks_of_commands_with_their_output():
    story, first, second = parse(STORY)
    assert (story.head, story.commands, story.expected) == (["# A story."], [], [])
    assert first.commands == [(3, "cluster A,B")]
    assert second.head == ["# It dies.", "kill B", "produce x"]
    assert second.commands == [(8, "kill B"), (9, "produce x")]
    assert second.expected == ["Leader=A Epoch=1 ISR={A}", "x is acknowledged at 0"]


def test_what_is_played_is_what_is_written():
    assert play(STORY) == STORY


def test_another_expectation_fails_and_can_be_written_anew(tmp_path: Path):
    path = tmp_path / "story.txt"
    path.write_text(STORY.replace("Epoch=1", "Epoch=2"))
    with pytest.raises(AssertionError, match="plays otherwise"):
        check(path, rewrite=False)
    check(path, rewrite=True)
    assert path.read_text() == STORY


def test_silence_is_written_as_ok():
    assert play("cluster A\n\ntick 1s\n").endswith("tick 1s\n----\nok\n")


@pytest.mark.parametrize(
    "command", ["frobnicate A", "kill Z", "restart A", "release A->B", "tick", "cluster A x=1"]
)
def test_a_command_that_makes_no_sense_fails_with_its_line(command):
    with pytest.raises(AssertionError, match="line 2: "):
        running("cluster A,B", command)


def test_durations_are_seconds_or_milliseconds():
    assert (duration_ms("15s"), duration_ms("500")) == (15_000, 500)


def test_a_committed_record_that_changes_is_noticed():
    cluster = running("cluster A,B", "produce x", "produce y").cluster
    disk = cluster.nodes["B"].disk
    disk.batches[0] = disk.batches[1]
    with pytest.raises(AssertionError):
        check_cluster(cluster)


def test_a_committed_record_that_a_member_lacks_is_noticed():
    cluster = running("cluster A,B", "produce x").cluster
    cluster.nodes["B"].disk.batches.clear()
    with pytest.raises(AssertionError):
        check_cluster(cluster)


def test_a_leader_that_lacks_a_committed_record_is_noticed():
    runner = running("cluster A,B", "produce x", "kill B")
    runner.cluster.by_id[1].disk.batches.clear()
    with pytest.raises(AssertionError, match="A leads with None at 0"):
        check_cluster(runner.cluster)


def test_a_leader_that_does_not_count_a_member_is_noticed():
    cluster = running("cluster A,B", "produce x").cluster
    partition = cluster.nodes["A"].partition
    assert partition is not None
    leader = leader_of(partition)
    leader.state = replace(leader.state, isr=(1,))
    leader.isr.committed = (1,)
    with pytest.raises(AssertionError, match="A counts"):
        check_cluster(cluster)


def test_an_acknowledgement_without_all_members_is_noticed():
    cluster = running("cluster A,B", "hold B->A fetch", "produce x").cluster
    with pytest.raises(AssertionError, match="x is not on 2"):
        cluster.on_produced(cluster.nodes["A"], "x", None)
