"""`minikafka perf produce --processes N`: the same load from several processes at once.

Each is a `minikafka perf produce` of its own. They begin together, by a double barrier in ZooKeeper
(zookeeper/recipes/barrier.py), and all measure while the others load as well. This process starts
them, and adds up what they say.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from minikafka.children import ends_with_us, module_command
from minikafka.cli.perf.perfline import Latencies
from minikafka.errors import MinikafkaError, UsageError

ENTER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Of one process at a barrier: `NAME:COUNT:WHO` on its command line."""

    name: str
    count: int
    who: str

    @classmethod
    def read(cls, text: str) -> Place:
        """Raises UsageError."""
        name, _, rest = text.partition(":")
        count, _, who = rest.partition(":")
        if not (name.isalnum() and count.isdecimal() and int(count) > 0 and who.isalnum()):
            raise UsageError(f"--barrier {text!r}: expected NAME:COUNT:WHO, such as run1:3:1")
        return cls(name, int(count), who)

    def __str__(self) -> str:
        return f"{self.name}:{self.count}:{self.who}"


@asynccontextmanager
async def together(place: Place | None, connect: str) -> AsyncIterator[None]:
    """What is inside begins when every process has come, and ends when all have done it. Without a
    place, at once."""
    if place is None:
        yield
        return
    from minikafka.zookeeper.recipes.barrier import open_barrier

    with open_barrier(connect, place.name, place.count, place.who) as barrier:
        await asyncio.to_thread(barrier.enter, ENTER_TIMEOUT_S)
        yield
        await asyncio.to_thread(barrier.leave)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one process says: its document, and the latencies of a sample of its records in ms."""

    who: str
    document: dict[str, Any]
    samples: list[float]


def run_processes(count: int, arguments: Sequence[str], connect: str) -> list[Measured]:
    """Run `minikafka` so many times at once; `arguments` are those of each. Returns what each said,
    in order. As soon as one fails the others are ended: MinikafkaError, which says why. `connect`:
    the ZooKeeper where their barrier is, of which nothing is left in any case."""
    name = secrets.token_hex(6)
    try:
        return _run(name, count, arguments)
    except MinikafkaError:
        from minikafka.zookeeper.recipes.barrier import remove_barrier

        with suppress(MinikafkaError):  # what failed is to be told, not what comes of it
            remove_barrier(connect, name)
        raise


def _run(name: str, count: int, arguments: Sequence[str]) -> list[Measured]:
    places = [Place(name, count, str(number)) for number in range(1, count + 1)]
    children = [
        subprocess.Popen(
            module_command("minikafka", *arguments, "--barrier", str(place)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ends_with_us(),
        )
        for place in places
    ]
    done: dict[str, Measured] = {}
    with ThreadPoolExecutor(count) as pool:
        outputs = {
            pool.submit(child.communicate): (place, child)
            for place, child in zip(places, children, strict=True)
        }
        try:
            for output in as_completed(outputs):
                place, child = outputs[output]
                said, errors = output.result()
                if child.returncode != 0:
                    raise MinikafkaError(f"process {place.who} {_why(child.returncode, errors)}")
                document = json.loads(said)
                samples = document.pop("latency_samples_ms")
                done[place.who] = Measured(place.who, document, samples)
        finally:
            for child in children:
                if child.poll() is None:
                    child.terminate()
    return [done[place.who] for place in places]


def _why(status: int, errors: str) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    said = errors.strip().splitlines()
    return f"failed: {said[-1].removeprefix('Error: ')}" if said else f"ended with status {status}"


def added_up(measured: Sequence[Measured]) -> tuple[int, int, float, Latencies]:
    """(records, bytes, seconds of the slowest, latencies of all): they began together."""
    latencies = Latencies()
    for each in measured:
        weight = max(1, each.document["records"] // max(1, len(each.samples)))
        for sample in each.samples:
            latencies.add(sample, weight)
    return (
        sum(each.document["records"] for each in measured),
        sum(each.document["bytes"] for each in measured),
        max(each.document["elapsed_ms"] for each in measured) / 1000,
        latencies,
    )
