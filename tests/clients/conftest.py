"""One cluster for all tests of behaviours; those of deaths have one of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.kafka.system import FailedError
from minikafka.errors import UsageError
from tests.clients.cluster import Cluster, make

pytest.register_assert_rewrite("tests.clients.behaviours", "tests.clients.transactions")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _running(tmp_path_factory, "clients")


@pytest.fixture(scope="module")
def mortal_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _running(tmp_path_factory, "deaths")


def _running(paths: pytest.TempPathFactory, name: str) -> Iterator[Cluster]:
    made = make(paths.mktemp(name))
    try:
        made.start()
    except UsageError as missing:
        pytest.skip(str(missing))
    except FailedError as error:
        pytest.fail(str(error))
    else:
        yield made
    finally:
        made.stop()
