"""The liar lies as it says, and its judge can say no."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from crc32c import crc32c

from minikafka.errors import MinikafkaError
from minikafka.records.header import CRC_START, HEADER_BYTES, split
from minikafka.records.read import iter_records
from tests.helpers.amounts import amount
from tests.integration.torment.history import FAILED, OK, Send
from tests.integration.torment.liar import Reader, Tally, blob, text
from tests.integration.torment.lies import LIES, REFUSED, SQUEEZED_TRUTH, TRUTH, Lie
from tests.integration.torment.lying import silences
from tests.integration.torment.memory import BOUND_BYTES, MemoryWatch, resident_bytes
from tests.integration.torment.processes import Child

NAMES = [each.name for each in LIES]
SEEDS = range(amount(5))


@pytest.mark.parametrize("lie", [TRUTH, SQUEEZED_TRUTH], ids=lambda lie: lie.name)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_truth_is_true(lie: Lie, seed: int) -> None:
    data = lie.make(random.Random(seed))
    [header] = split(data)
    records = list(iter_records(data, header))
    assert len(records) == header.record_count > 0
    assert {each.value for each in records} == {b"of a liar"}


@pytest.mark.parametrize("lie", [*LIES, TRUTH], ids=lambda lie: lie.name)
def test_a_lie_comes_of_its_seed(lie: Lie) -> None:
    if "compressed" not in lie.name:  # gzip writes the time of day
        assert lie.make(random.Random(3)) == lie.make(random.Random(3))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in NAMES
        if name not in ("a wrong CRC", "half a header", "a batch that is cut short", "two batches")
    ],
)
def test_only_a_lie_about_the_crc_is_seen_by_the_crc(name: str) -> None:
    lie = LIES[NAMES.index(name)]
    data = lie.make(random.Random(1))
    assert len(data) >= HEADER_BYTES
    assert int.from_bytes(data[CRC_START - 4 : CRC_START], "big") == crc32c(data[CRC_START:])


def test_every_kind_of_lie_is_one_of_its_own() -> None:
    assert len(set(NAMES)) == len(LIES) > 30
    assert sum(each.verdict == REFUSED for each in LIES) > 25
    made = {each.make(random.Random(1)) for each in LIES}
    assert len(made) == len(LIES)
    assert TRUTH.make(random.Random(1)) not in made


def send(partition: str, end: float, outcome: str = OK, once: bool = True) -> Send:
    return Send("p", partition, "p:1", end - 0.1, end, outcome, 1, once)


def test_a_partition_that_takes_nothing_while_others_do_is_seen() -> None:
    operations = [
        *(send("a-0", 100 + number / 2) for number in range(20)),
        send("a-1", 99.0),  # before
        send("a-1", 101.0),
        send("a-1", 103.0, FAILED),
        send("a-1", 105.0, once=False),
        send("a-1", 109.0),
    ]
    found = silences(operations, ["a-0", "a-1", "a-2"], 100.0, 110.0)
    assert found == {"a-0": pytest.approx(0.5), "a-1": pytest.approx(8.0), "a-2": 10.0}


def test_a_broker_that_takes_too_much_memory_is_seen(tmp_path: Path) -> None:
    watch = MemoryWatch({each: Child(str(each), tmp_path / "log") for each in (1, 2)})
    watch.most_bytes |= {1: BOUND_BYTES, 2: BOUND_BYTES + 1}
    [anomaly] = watch.anomalies()
    assert (anomaly.kind, anomaly.partition) == ("memory", "broker 2")


def test_the_memory_of_a_process_is_read() -> None:
    import os

    assert resident_bytes(os.getpid()) > 5_000_000
    assert resident_bytes(2**22 + 1) == 0


def test_an_answer_is_taken_apart_as_it_was_put_together() -> None:
    answer = Reader(text("name") + text(None) + blob(b"xy") + b"\0\5")
    assert (answer.text(), answer.text(), answer.number("i")) == ("name", None, 2)
    tally = Tally()
    tally.add(tally.believed, "a lie")
    assert tally.document()["believed"] == {"a lie": 1}


def test_lies_that_must_be_refused_cannot_be_read_or_must_not_be_there() -> None:
    """By our own reader: what it can read is about marks, copies and sizes."""
    readable = []
    for lie in LIES:
        if lie.verdict != REFUSED:
            continue
        data = lie.make(random.Random(2))
        try:
            [header] = split(data)
            records = list(iter_records(data, header))
            whole = len(records) == header.record_count == header.last_offset_delta + 1
            if whole and header.crc == crc32c(data[CRC_START:]):
                readable.append(lie.name)
        except (MinikafkaError, ValueError):
            continue
    assert set(readable) <= {
        "a mark of a transaction's end",
        "records of no transaction",
        "a batch that is too large",
        "a length beyond the request",
    }
