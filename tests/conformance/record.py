"""Records what Apache Kafka answers to the cases, as the reference of the tests.

    python -m tests.conformance.record

Each time one broker from nothing, with the settings of cases.py: 3.9 in ZooKeeper mode, as
minikafka is, and in KRaft mode, where that answers otherwise; and 4, for versions that are newer.
Then once more in ZooKeeper mode, with an authorizer.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.kafka.apache import ApacheKafka
from benchmarks.kafka.kraft import KraftKafka as Kafka4
from benchmarks.kafka.system import bootstrap
from tests.conformance import cases_acls, recorded
from tests.conformance.cases import CASES, SETTINGS
from tests.conformance.exchange import play
from tests.conformance.kraft import KraftKafka

_TRANSACTIONS = {
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
}
_SETTINGS_OF_KRAFT = {
    name: value for name, value in SETTINGS.items() if not name.startswith("zookeeper.")
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="conformance-") as path:
        with zookeeper_mode(Path(path) / "zookeeper") as address:
            exchanges = list(play(CASES, address))
        with kraft_mode(Path(path) / "kraft") as address:
            others = list(play(CASES, address))
        with kafka_4(Path(path) / "4") as address:
            newer = list(play(CASES, address))
        with zookeeper_mode(Path(path) / "authorizer", cases_acls.SETTINGS) as address:
            guarded = list(play(cases_acls.CASES, address))
    recorded.write(exchanges, others, newer)
    recorded.write_with_authorizer(guarded)
    print(f"{len(exchanges) + len(guarded)} answers recorded in {recorded.FOLDER}")
    return 0


@contextmanager
def zookeeper_mode(path: Path, more: Mapping[str, str] | None = None) -> Iterator[str]:
    kafka = ApacheKafka(path, {**SETTINGS, **_TRANSACTIONS, **(more or {})}, brokers=1)
    try:
        kafka.start()
        yield bootstrap(kafka)
    finally:
        kafka.stop()


@contextmanager
def kraft_mode(path: Path) -> Iterator[str]:
    kafka = KraftKafka(path, {**_SETTINGS_OF_KRAFT, **_TRANSACTIONS})
    try:
        kafka.start()
        yield kafka.address
    finally:
        kafka.stop()


@contextmanager
def kafka_4(path: Path) -> Iterator[str]:
    kafka = Kafka4(path, {**_SETTINGS_OF_KRAFT, **_TRANSACTIONS}, brokers=1)
    try:
        kafka.start()
        yield bootstrap(kafka)
    finally:
        kafka.stop()


if __name__ == "__main__":
    sys.exit(main())
