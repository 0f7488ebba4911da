"""core/groups/generation.py: what the members have agreed upon."""

from __future__ import annotations

import pytest

from minikafka.api.groups import GroupProtocol
from minikafka.core.groups.generation import MAX_GENERATION
from tests.helpers.group_bench import DELAY_MS, RANGE, GroupBench, subscription

OTHER = (GroupProtocol("roundrobin", subscription("orders")),)
BOTH = RANGE + OTHER


@pytest.fixture
def bench() -> GroupBench:
    return GroupBench()


def test_after_the_last_generation_comes_the_first(bench: GroupBench) -> None:
    bench.group.generation.generation_id = MAX_GENERATION
    bench.completing("a")
    assert bench.group.generation.generation_id == 1


def test_a_subscription_to_more_topics_than_anybody_looks_at_is_not_known(
    bench: GroupBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikafka.core.groups.members.MAX_SUBSCRIBED", 3)
    for name in ("a", "b"):
        bench.join(fresh=name, protocols=[GroupProtocol("range", subscription("s", "t"))])
    bench.tick(3 * DELAY_MS)
    assert bench.group.generation.subscribed_topics is None
