"""Kafka's own tool over the files of a log: batches, offset index, time index, leader epochs."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from minikafka.errors import UsageError
from minikafka.model import EpochEntry
from minikafka.records.compression import Codec
from tests.helpers import kafka_java
from tests.helpers.fetched import without
from tests.unit.log.helpers import CONFIG, TOPIC_ID, TP, append, batch, close, newest, open_store

DUMP = "kafka.tools.DumpLogSegments"


@pytest.fixture(scope="module", autouse=True)
def _jars() -> None:
    try:
        kafka_java.home()
    except UsageError as error:
        without(error)


def dump(*arguments: str) -> str:
    done = subprocess.run(
        kafka_java.java(DUMP, *arguments, flags=kafka_java.tool_flags()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def write(directory: Path) -> Path:
    """Several closed segments with batches of one to five records, truncated once."""
    config = replace(CONFIG, index_interval_bytes=200, segment_bytes=4000)
    store = open_store(directory)
    log = store.open(TP, TOPIC_ID, config)
    log.store_epochs([EpochEntry(0, 0)])
    for number in range(120):
        codec = Codec.ZSTD if number % 3 else Codec.NONE
        timestamp_ms = 1_000_000 + number * 10 - (number % 4) * 15
        data = batch(log.log_end_offset, 1 + number % 5, timestamp_ms=timestamp_ms, codec=codec)
        append(log, data)
        if number == 60:
            log.truncate_to(log.log_end_offset - 20)
    close(store)
    return directory / str(TP)


@pytest.mark.parametrize("how", ["as they were written", "rebuilt"])
def test_kafkas_dump_tool_finds_nothing_wrong_with_the_indexes(tmp_path: Path, how: str) -> None:
    folder = write(tmp_path / "data")
    if how == "rebuilt":
        for path in [*folder.glob("*.index"), *folder.glob("*.timeindex")]:
            path.unlink()
        store = open_store(tmp_path / "data")
        newest(store.logs()[TP])  # looks at every segment
        close(store)
    indexes = sorted([*folder.glob("*.index"), *folder.glob("*.timeindex")])
    entries = sum(path.stat().st_size for path in indexes if path.suffix == ".index") // 8
    assert len(indexes) >= 6
    assert entries >= 10
    said = dump("--files", ",".join(map(str, indexes)))
    assert len(re.findall(r"^offset: \d+ position: \d+", said, re.MULTILINE)) == entries
    for problem in ("ismatch", "not found", "Out of order", "ut of order", "rror"):
        assert problem not in said, said
    for option in ("--index-sanity-check", "--verify-index-only"):
        said = dump("--files", ",".join(map(str, indexes)), option)
        assert "ismatch" not in said, said
    logs = ",".join(map(str, sorted(folder.glob("*.log"))))
    said = dump("--files", logs, "--deep-iteration")
    assert "isvalid: false" not in said
    assert len(re.findall(r"^baseOffset: ", said, re.MULTILINE)) >= 90
