"""Records what Apache Kafka 3.9 answers to the cases, as the reference of the tests.

    python -m tests.conformance.record

Each time one broker from nothing, with the settings of cases.py: in ZooKeeper mode, as minikafka
is, and in KRaft mode, where that answers otherwise.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.kafka.apache import ApacheKafka
from benchmarks.kafka.system import bootstrap
from tests.conformance import recorded
from tests.conformance.cases import CASES, SETTINGS
from tests.conformance.exchange import play
from tests.conformance.kraft import KraftKafka

_TRANSACTIONS = {
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="conformance-") as path:
        with zookeeper_mode(Path(path) / "zookeeper") as address:
            exchanges = list(play(CASES, address))
        with kraft_mode(Path(path) / "kraft") as address:
            others = list(play(CASES, address))
    recorded.write(exchanges, others)
    print(f"{len(exchanges)} answers recorded in {recorded.FOLDER}")
    return 0


@contextmanager
def zookeeper_mode(path: Path) -> Iterator[str]:
    kafka = ApacheKafka(path, {**SETTINGS, **_TRANSACTIONS}, brokers=1)
    try:
        kafka.start()
        yield bootstrap(kafka)
    finally:
        kafka.stop()


@contextmanager
def kraft_mode(path: Path) -> Iterator[str]:
    without = {"zookeeper.session.timeout.ms"}
    settings = {name: value for name, value in SETTINGS.items() if name not in without}
    kafka = KraftKafka(path, {**settings, **_TRANSACTIONS})
    try:
        kafka.start()
        yield kafka.address
    finally:
        kafka.stop()


if __name__ == "__main__":
    sys.exit(main())
