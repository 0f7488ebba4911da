"""Starts the embedded server: `python -m minikafka.zookeeper.embedded --data-dir DIR --port N`.

Exit status: 0 after SIGTERM or SIGINT, 1 if the journal failed while serving, 2 if it cannot start.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from minikafka.model import join_address
from minikafka.privacy import keep_from_others
from minikafka.zookeeper.embedded.journal import JournalError
from minikafka.zookeeper.embedded.server import Settings, serve

CANNOT_START = 2


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError
    return value


def _parse(arguments: list[str] | None) -> Settings:
    parser = argparse.ArgumentParser(
        prog="python -m minikafka.zookeeper.embedded",
        description="A single-node server of the ZooKeeper protocol, durable, for one machine.",
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="made if it does not exist")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2181, help="0 takes any free one")
    parser.add_argument("--tick-time-ms", type=_positive, default=2_000)
    parser.add_argument(
        "--min-session-timeout-ms", type=_positive, default=0, help="default: 2 ticks"
    )
    parser.add_argument(
        "--max-session-timeout-ms", type=_positive, default=0, help="default: 20 ticks"
    )
    given = parser.parse_args(arguments)
    settings = Settings(
        data_dir=given.data_dir,
        host=given.host,
        port=given.port,
        tick_time_ms=given.tick_time_ms,
        min_session_timeout_ms=given.min_session_timeout_ms,
        max_session_timeout_ms=given.max_session_timeout_ms,
    )
    min_ms, max_ms = settings.timeout_bounds_ms()
    if min_ms > max_ms:
        parser.error(f"the shortest session timeout ({min_ms} ms) is above the longest ({max_ms})")
    return settings


def main(arguments: list[str] | None = None) -> int:
    settings = _parse(arguments)
    keep_from_others()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    try:
        return serve(settings)
    except JournalError as error:
        return _refuse(str(error))
    except OSError as error:
        reason = error.strerror or str(error)
        return _refuse(f"cannot listen on {join_address(settings.host, settings.port)}: {reason}")


def _refuse(why: str) -> int:
    print(f"minikafka embedded zookeeper: {why}", file=sys.stderr)
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
