"""The recorded answers of Apache Kafka: one file an API, one line a request and its answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minikafka.kafka.apis import ApiKey
from tests.conformance.exchange import CLOSED, Exchange

FOLDER = Path(__file__).parent / "recorded"
WITH_AUTHORIZER = FOLDER / "authorizer"
_ANSWERS = ("answer", "kraft", "kafka4")


@dataclass(frozen=True)
class Recording:
    """`answers`: in ZooKeeper mode, and in KRaft mode if that is another, and of Kafka 4 to what
    3.9 does not serve."""

    request: str
    answers: list[Any]


Recordings = dict[tuple[str, int], Recording]  # by a case's name and the version


def file_of(api: ApiKey, folder: Path = FOLDER) -> Path:
    return folder / f"{api.name.lower()}.jsonl"


def write(
    exchanges: Iterable[Exchange], others: Iterable[Exchange], newer: Iterable[Exchange]
) -> None:
    """Of the same cases, in ZooKeeper mode, in KRaft mode, and of Kafka 4."""
    lines: dict[ApiKey, list[str]] = {}
    for each, other, new in zip(exchanges, others, newer, strict=True):
        line = _line(each)
        if other.answer != each.answer:
            line["kraft"] = other.answer
        if CLOSED == each.answer == other.answer != new.answer and not each.case.refused:
            line["kafka4"] = new.answer
        lines.setdefault(each.case.api, []).append(_written(line))
    _write(lines, FOLDER)


def write_with_authorizer(exchanges: Iterable[Exchange]) -> None:
    """In ZooKeeper mode alone: KRaft's authorizer is another."""
    lines: dict[ApiKey, list[str]] = {}
    for each in exchanges:
        lines.setdefault(each.case.api, []).append(_written(_line(each)))
    WITH_AUTHORIZER.mkdir(exist_ok=True)
    _write(lines, WITH_AUTHORIZER)


def _line(each: Exchange) -> dict[str, Any]:
    line = {"case": each.case.name, "version": each.version}
    return line | {"request": each.request, "answer": each.answer}


def _written(line: dict[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=True)


def _write(lines: Mapping[ApiKey, list[str]], folder: Path) -> None:
    for old in folder.glob("*.jsonl"):
        old.unlink()
    for api, texts in lines.items():
        file_of(api, folder).write_text("".join(f"{text}\n" for text in texts))


def read(api: ApiKey, folder: Path = FOLDER) -> Recordings:
    file = file_of(api, folder)
    if not file.exists():
        return {}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {
        (line["case"], line["version"]): Recording(
            line["request"], [line[name] for name in _ANSWERS if name in line]
        )
        for line in lines
    }
