"""How a broker's gRPC waits for its sockets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_START_A_SERVER = """
import os, sys
import minikafka.app
print(os.environ["GRPC_EXPERIMENTS"], "grpc" in sys.modules)
import minikafka.app.run, asyncio
from grpc import aio

async def main():
    server = aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.stop(0)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "-event_engine_client,-event_engine_listener"), ("event_engine_client",) * 2],
)
def test_grpc_waits_in_the_older_way_unless_the_environment_says_otherwise(
    given: str | None, expected: str
) -> None:
    """It is read when grpc is imported. If grpc says on stderr that it does not know such names any
    more, they are to go from minikafka/app/__init__.py."""
    environment = {key: text for key, text in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    if given is not None:
        environment["GRPC_EXPERIMENTS"] = given
    done = subprocess.run(
        [sys.executable, "-c", _START_A_SERVER],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert (done.stdout, done.stderr) == (f"{expected} False\n", "")
