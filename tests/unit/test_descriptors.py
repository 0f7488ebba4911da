"""How the file descriptors of a broker's process are shared out."""

from __future__ import annotations

import resource

import pytest

from minikafka.descriptors import DescriptorBudget, descriptor_budget, raise_descriptor_limit


@pytest.mark.parametrize("total", [1, 2, 64, 192, 256, 1_024, 4_096, 1 << 20])
def test_the_shares_are_the_whole_and_none_is_negative(total: int) -> None:
    budget = descriptor_budget(total)
    shares = (budget.reserve, budget.connections, budget.files)
    assert sum(shares) == budget.total == total
    assert min(shares) >= 0


def test_connections_leave_the_logs_as_much_as_they_take() -> None:
    assert descriptor_budget(192) == DescriptorBudget(192, 64, 64, 64)
    assert descriptor_budget(1_024) == DescriptorBudget(1_024, 256, 384, 384)


def test_without_a_number_it_is_the_limit_of_this_process() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert descriptor_budget().total == (soft if soft != resource.RLIM_INFINITY else 1 << 20)


def test_a_broker_may_open_as_many_files_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = min(soft, 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, hard))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
