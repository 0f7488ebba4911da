"""What must hold of a cluster that was lied to: its logs, its memory, and what is stored in it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kafka import KafkaConsumer
from kafka import TopicPartition as Place
from kafka.errors import KafkaError

from benchmarks.kafka.procfs import rss_mb

# What a broker says when something happened that it has no answer for.
_UNEXPECTED = re.compile(r"Traceback \(most recent call last\)|failed unexpectedly")
_AFTER = 60  # lines of a finding that are kept
_BEFORE = 1
_READ_S = 60.0


@dataclass
class Log:
    """What a broker writes; `news` gives what is wrong in what it wrote since the last time."""

    path: Path
    _read: int = 0

    def news(self) -> list[str]:
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        found, last = [], -1
        for number, line in enumerate(lines):
            if number <= last or not _UNEXPECTED.search(line):
                continue
            follows = last >= 0 and number == last + 1
            begin, last = max(last + 1, number - _BEFORE), _end(lines, number)
            if not follows:  # else it ends what the traceback began
                found.append("\n".join(lines[begin : last + 1]))
        return found


def _end(lines: Sequence[str], begin: int) -> int:
    """The last line of a traceback."""
    if "Traceback" not in lines[begin]:
        return begin
    limit = min(len(lines), begin + _AFTER)
    for number in range(begin + 1, limit):
        if not lines[number].startswith(" "):
            return number
    return limit - 1


@dataclass
class Memory:
    """The most that each broker was seen to need, in megabytes."""

    pids: dict[str, int]
    most_mb: dict[str, float] = field(default_factory=dict)

    def look(self) -> list[str]:
        """The brokers that are dead."""
        dead = []
        for name, pid in self.pids.items():
            try:
                self.most_mb[name] = max(self.most_mb.get(name, 0.0), rss_mb(pid))
            except (OSError, ValueError):  # a zombie has no memory
                dead.append(name)
        return dead


def unreadable(bootstrap: str, topics: Iterable[str]) -> list[str]:
    """The partitions that kafka-python, which shares no code with a broker, does not read from
    their first record to their last."""
    problems = []
    for topic in topics:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), auto_offset_reset="none")
        try:
            numbers = consumer.partitions_for_topic(topic) or set()
            for place in sorted(Place(topic, number) for number in numbers):
                problem = _read_through(consumer, place)
                if problem is not None:
                    problems.append(f"{topic}-{place.partition}: {problem}")
        except KafkaError as error:
            problems.append(f"{topic}: {error!r}")
        finally:
            consumer.close()
    return problems


def _read_through(consumer: KafkaConsumer, place: Place) -> str | None:
    begin, end = 0, 0
    try:
        begin = consumer.beginning_offsets([place])[place]
        end = consumer.end_offsets([place])[place]
        consumer.assign([place])
        consumer.seek(place, begin)
        deadline = time.monotonic() + _READ_S
        while consumer.position(place) < end:
            consumer.poll(timeout_ms=500)
            if time.monotonic() > deadline:
                raise TimeoutError(f"no more records for {_READ_S:g} s")
    except Exception as error:  # whatever a reader raises: it cannot read
        return f"stopped at {_position(consumer, place)} of {begin} to {end}: {error!r}"
    return None


def _position(consumer: KafkaConsumer, place: Place) -> object:
    try:
        return consumer.position(place, timeout_ms=1_000)
    except Exception as error:  # the reader is what is in doubt
        return repr(error)
