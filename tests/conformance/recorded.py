"""The recorded answers of Apache Kafka: one file an API, one line a request and its answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minikafka.kafka.apis import ApiKey
from tests.conformance.exchange import CLOSED, Exchange

FOLDER = Path(__file__).parent / "recorded"
_ANSWERS = ("answer", "kraft", "kafka4")


@dataclass(frozen=True)
class Recording:
    """`answers`: in ZooKeeper mode, and in KRaft mode if that is another, and of Kafka 4 to what
    3.9 does not serve."""

    request: str
    answers: list[Any]


Recordings = dict[tuple[str, int], Recording]  # by a case's name and the version


def file_of(api: ApiKey) -> Path:
    return FOLDER / f"{api.name.lower()}.jsonl"


def write(
    exchanges: Iterable[Exchange], others: Iterable[Exchange], newer: Iterable[Exchange]
) -> None:
    """Of the same cases, in ZooKeeper mode, in KRaft mode, and of Kafka 4."""
    lines: dict[ApiKey, list[str]] = {}
    for each, other, new in zip(exchanges, others, newer, strict=True):
        line = {"case": each.case.name, "version": each.version}
        line |= {"request": each.request, "answer": each.answer}
        if other.answer != each.answer:
            line["kraft"] = other.answer
        if CLOSED == each.answer == other.answer != new.answer and not each.case.refused:
            line["kafka4"] = new.answer
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=True)
        lines.setdefault(each.case.api, []).append(text)
    for old in FOLDER.glob("*.jsonl"):
        old.unlink()
    for api, texts in lines.items():
        file_of(api).write_text("".join(f"{text}\n" for text in texts))


def read(api: ApiKey) -> Recordings:
    file = file_of(api)
    if not file.exists():
        return {}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {
        (line["case"], line["version"]): Recording(
            line["request"], [line[name] for name in _ANSWERS if name in line]
        )
        for line in lines
    }
