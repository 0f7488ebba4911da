"""Runs lives: `python -m tests.simulation.run --seeds 0-1999 --steps 500 --jobs 2`.

    --seeds A-B     seeds, both inclusive; also a list 3,17,40-49
    --fresh N       N more seeds that nobody has run: from --fresh-from (CI: the commit), else
                    from the clock; they are printed
    --seconds S     begin no more lives after so long (the digest then covers those that were lived)
    --seed N        one life; with --trace its whole story
    --shrink        shorten the first life that fails, and tell its story (on by default)

The last line is `N lives, M steps, V violations, digest D`. The digest is over the digests of all
lives in order of seed: the same seeds and steps give the same, whatever the number of jobs.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import multiprocessing
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulation import life, shrink


@dataclass
class Lived:
    """What is kept of a life."""

    seed: int
    steps: int
    digest: str
    violation: str | None
    acknowledged: int
    virtual_ms: int


def _live(job: tuple[int, int]) -> Lived:
    seed, steps = job
    outcome = life.live(seed, steps)
    return Lived(
        seed,
        outcome.steps,
        outcome.digest,
        outcome.violation,
        outcome.acknowledged,
        outcome.virtual_ms,
    )


def run_all(seeds: list[int], steps: int, jobs: int, seconds: float | None) -> Iterator[Lived]:
    """In order of seed."""
    deadline = None if seconds is None else time.monotonic() + seconds
    work = ((seed, steps) for seed in seeds)
    if jobs == 1:
        for job in work:
            if deadline is not None and time.monotonic() > deadline:
                return
            yield _live(job)
        return
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs, initializer=gc.freeze) as pool:
        waiting = []
        exhausted = False
        while waiting or not exhausted:
            while not exhausted and len(waiting) < 4 * jobs:
                late = deadline is not None and time.monotonic() > deadline
                job = None if late else next(work, None)
                if job is None:
                    exhausted = True
                else:
                    waiting.append(pool.apply_async(_live, (job,)))
            if waiting:
                yield waiting.pop(0).get()


def parse_seeds(text: str) -> list[int]:
    """`0-9,17` as a list."""
    seeds: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def fresh_seeds(count: int, base: str | None) -> list[int]:
    """Seeds that follow from `base` (the clock, if there is none); far from those one writes."""
    base = base or str(time.time_ns())
    start = int.from_bytes(hashlib.sha256(base.encode()).digest()[:6], "big")
    return list(range(start, start + count))


def tell_failure(seed: int, steps: int, *, shorten: bool) -> None:
    """The seed, and the shortest story that fails alike."""
    outcome = life.live(seed, steps)
    print(f"\nseed {seed} fails: {outcome.violation}")
    print(f"replay it: python -m tests.simulation.run --seed {seed} --steps {steps} --trace")
    if shorten:
        shorter = shrink.shrink(outcome)
        told = life.replay(seed, shorter, story=True)
        print(f"shrunk from {outcome.steps} actions to {len(shorter)}:\n")
        print("\n".join(told.lines))
        print("\nas a scenario:\n")
        print(shrink.as_code(seed, shorter))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.run", description="lives of simulated clusters"
    )
    parser.add_argument("--seeds", default="")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fresh", type=int, default=0)
    parser.add_argument("--fresh-from", default=None)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        outcome = life.live(options.seed, options.steps, story=options.trace)
        if options.trace:
            print("\n".join(outcome.lines))
        violations = int(outcome.violation is not None)
        print(outcome.violation or "nothing is wrong")
        print(f"1 lives, {outcome.steps} steps, {violations} violations, digest {outcome.digest}")
        return violations
    seeds = parse_seeds(options.seeds)
    if options.fresh:
        fresh = fresh_seeds(options.fresh, options.fresh_from)
        print(f"fresh seeds: {fresh[0]}-{fresh[-1]}", flush=True)
        seeds += fresh
    return _run_many(seeds, options)


def _run_many(seeds: list[int], options: argparse.Namespace) -> int:
    started = time.monotonic()
    digest = hashlib.sha256()
    lives = steps = acknowledged = virtual_ms = 0
    failed: list[Lived] = []
    for lived in run_all(seeds, options.steps, options.jobs, options.seconds):
        lives += 1
        steps += lived.steps
        acknowledged += lived.acknowledged
        virtual_ms += lived.virtual_ms
        digest.update(lived.digest.encode())
        if lived.violation is not None:
            failed.append(lived)
            print(f"seed {lived.seed}: {lived.violation}", flush=True)
    took_s = time.monotonic() - started
    if failed:
        tell_failure(failed[0].seed, options.steps, shorten=options.shrink)
    print(
        f"{took_s:.0f} s: {virtual_ms / 3_600_000:.1f} hours of virtual time, "
        f"{acknowledged} records acknowledged by all and kept"
    )
    print(
        f"{lives} lives, {steps} steps, {len(failed)} violations, digest {digest.hexdigest()[:32]}"
    )
    return min(1, len(failed))


if __name__ == "__main__":
    sys.exit(main())
