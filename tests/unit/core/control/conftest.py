"""Clusters for the controller's core."""

from __future__ import annotations

import pytest

from tests.helpers.controller_bench import ALL, Bench


@pytest.fixture
def five() -> Bench:
    """Five brokers, a partition that all of them replicate."""
    bench = Bench()
    bench.register(*ALL)
    bench.elect()
    bench.create("t", ALL)
    bench.messages()
    return bench


@pytest.fixture
def three() -> Bench:
    """Three brokers, no topic."""
    bench = Bench()
    bench.register(1, 2, 3)
    bench.elect()
    bench.messages()
    return bench
