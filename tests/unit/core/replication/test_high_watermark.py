"""What a leader may call committed, by example and against a minimum over everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minikafka.core.replication.high_watermark import committed_offset
from minikafka.core.replication.isr import FollowerProgress, IsrTracker

LEADER = 1


def committed(
    own_end: int,
    ends: dict[int, int],
    isr: tuple[int, ...],
    additions: set[int] | None = None,
    min_insync: int = 1,
    awaited: set[int] | None = None,
) -> int | None:
    return committed_offset(
        own_end,
        LEADER,
        IsrTracker(isr, set() if additions is None else additions),
        {broker_id: FollowerProgress(log_end_offset=end) for broker_id, end in ends.items()},
        min_insync,
        lambda broker_id, _: broker_id in (awaited or set()),
    )


def test_alone_the_leader_commits_what_it_has():
    assert committed(10, {}, (1,)) == 10


def test_the_slowest_member_decides():
    assert committed(10, {2: 7, 3: 4}, (1, 2, 3)) == 4


def test_a_leader_may_be_the_slowest_itself():
    assert committed(3, {2: 7}, (1, 2)) == 3


def test_a_replica_outside_does_not_count():
    assert committed(10, {2: 7, 3: 4}, (1, 2)) == 7


def test_a_proposed_addition_counts():
    assert committed(10, {2: 7, 3: 4}, (1, 2), additions={3}) == 4


def test_a_caught_up_eligible_replica_outside_is_waited_for():
    assert committed(10, {2: 7, 3: 4}, (1, 2), awaited={3}) == 4


def test_a_replica_outside_of_which_nothing_is_known_is_not_waited_for():
    assert committed(10, {2: 7, 3: -1}, (1, 2), awaited={3}) == 7


def test_a_member_of_which_nothing_is_known_holds_everything():
    assert committed(10, {2: -1}, (1, 2)) is None
    assert committed(10, {}, (1, 2)) is None
    assert committed(10, {2: 7, 3: -1}, (1, 2), additions={3}) is None


def test_nothing_is_committed_below_the_minimum_in_sync():
    assert committed(10, {2: 7}, (1, 2), min_insync=3) is None
    assert committed(10, {2: 7}, (1, 2), min_insync=2) == 7


def test_a_proposed_addition_does_not_count_towards_the_minimum():
    assert committed(10, {2: 7}, (1,), additions={2}, min_insync=2) is None


@given(
    own_end=st.integers(0, 9),
    ends=st.dictionaries(st.integers(2, 5), st.integers(-1, 9)),
    members=st.sets(st.integers(2, 5)),
    additions=st.sets(st.integers(2, 5)),
    awaited=st.sets(st.integers(2, 5)),
    min_insync=st.integers(1, 5),
)
def test_it_is_the_smallest_of_all_that_count(
    own_end, ends, members, additions, awaited, min_insync
):
    ends = ends | {member: ends.get(member, -1) for member in members | additions}
    counts = members | additions | {b for b in awaited if ends.get(b, -1) >= 0}
    counted = [own_end, *(ends[broker_id] for broker_id in counts)]
    naive: int | None = min(counted)
    if naive == -1 or 1 + len(members) < min_insync:
        naive = None
    isr = (LEADER, *sorted(members))
    assert committed(own_end, ends, isr, additions - members, min_insync, awaited) == naive
