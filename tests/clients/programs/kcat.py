"""kcat: see common.py for what is spoken here, which this turns into command lines of kcat.

kcat tells of no single acknowledgement: all of its input is acknowledged if it ends with status 0.
It ends with this process, however that ends (setpriv, of Debian's util-linux).
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.clients.programs import common

_KCAT = ("setpriv", "--pdeathsig", "KILL", "kcat")
_ASSIGNED = re.compile(r"% Group \S+ rebalanced \(.*\): (assigned|revoked): ?(.*)")
_DELIMITER = "\x1f"


def produce(ask: dict[str, Any]) -> None:
    options = ["-X", f"acks={ask['acks']}", "-X", "linger.ms=5", "-z", ask["codec"]]
    options += ["-X", f"enable.idempotence={str(ask['idempotent']).lower()}"]
    options += ["-X", "message.max.bytes=10000000"]
    records = (record for record in common.records() if record is not None)

    def alike(record: dict[str, Any]) -> Any:
        return [record.get("headers") or [], record.get("partition")]

    for (headers, partition), run in itertools.groupby(records, alike):
        own = [word for name, value in headers for word in ("-H", f"{name}={value}")]
        own += [] if partition is None else ["-p", str(partition)]
        command = [*_KCAT, "-b", ask["bootstrap"], "-P", "-t", ask["topic"], "-K", _DELIMITER]
        _feed([*command, "-Z", *options, *own], run)


def _feed(command: list[str], records: Iterator[dict[str, Any]]) -> None:
    values: list[str | None] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        for record in records:
            values.append(record.get("value"))
            key = record.get("key")
            process.stdin.write("" if key is None else f"{key}{_DELIMITER}")
            process.stdin.write(f"{values[-1] or ''}\n")
            process.stdin.flush()
    for value in values:
        if process.returncode == 0:
            common.acknowledged(value, -1, -1)
        else:
            common.failed(value, f"kcat ended with status {process.returncode}")


def consume(ask: dict[str, Any]) -> None:
    begin = ask["from"]
    if begin in ("earliest", "latest"):
        start = {"earliest": "beginning", "latest": "end"}[begin]
    elif "offset" in begin:
        start = str(begin["offset"])
    else:
        start = f"s@{begin['timestamp_ms']}"
    options = ["-p", str(ask["partition"]), "-o", start, "-c", str(ask["count"])]
    command = [*_KCAT, "-b", ask["bootstrap"], "-C", "-t", ask["topic"], *options, "-J", "-u", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        _pass_on(process)
    sys.exit(process.returncode)


def _pass_on(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        found = json.loads(line)
        headers = found.get("headers") or []
        record = {
            **{name: found[name] for name in ("topic", "partition", "offset", "key")},
            "timestamp_ms": found["ts"],
            "value": found["payload"],
            "headers": [list(pair) for pair in zip(headers[::2], headers[1::2], strict=True)],
        }
        common.emit(record=record)


def group(ask: dict[str, Any]) -> None:
    settings = {
        "session.timeout.ms": ask["session_timeout_ms"],
        "heartbeat.interval.ms": 500,
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 200,
        # kcat gives up for good once librdkafka takes every broker for dead, and librdkafka takes
        # one for dead from its death until it has cause to speak to it again: brokers that die in
        # turn would do. So a member keeps a connection to each of them, and tries again soon.
        "enable.sparse.connections": "false",
        "reconnect.backoff.max.ms": 250,
    }
    options = [word for each in settings.items() for word in ("-X", f"{each[0]}={each[1]}")]
    command = [*_KCAT, "-b", ask["bootstrap"], *options, "-J", "-u", "-G", ask["group"]]
    process = subprocess.Popen(
        [*command, ask["topic"]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())

    def follow() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            sys.stderr.flush()
            if found := _ASSIGNED.match(line):
                numbers = sorted(int(each) for each in re.findall(r"\[(\d+)\]", found[2]))
                common.emit(assigned=numbers if found[1] == "assigned" else [])

    following = threading.Thread(target=follow)
    following.start()
    _pass_on(process)
    process.wait()
    following.join()


def admin(ask: dict[str, Any]) -> None:
    common.answer(lambda wanted: _CALLS[wanted["call"]](ask | wanted))


def _topics(ask: dict[str, Any]) -> dict[str, int]:
    found = json.loads(_kcat(ask, "-L", "-J"))
    return {each["topic"]: len(each["partitions"]) for each in found["topics"]}


def _offsets(ask: dict[str, Any]) -> list[int]:
    place = f"{ask['topic']}:{ask['partition']}"
    texts = [_kcat(ask, "-Q", "-t", f"{place}:{timestamp}") for timestamp in (-2, -1)]
    return [int(text.split()[-1]) for text in texts]


_CALLS: dict[str, Callable[[dict[str, Any]], Any]] = {"topics": _topics, "offsets": _offsets}


def _kcat(ask: dict[str, Any], *options: str) -> str:
    command = [*_KCAT, "-b", ask["bootstrap"], *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    asked = common.command()
    {"produce": produce, "consume": consume, "group": group, "admin": admin}[asked["do"]](asked)
