"""The exhaustive search from the command line.

    .venv/bin/python -m tests.exhaustive.run --replicas 2 --records 2 --crashes 1 --lags 1
    .venv/bin/python -m tests.exhaustive.run --replicas 3 --depth 14 --crashes 2 --expiries 1
    .venv/bin/python -m tests.exhaustive.run --mutations

Prints replicas, depth, budgets, distinct states, transitions, seconds, violations; and the story of
a violation. The exit status is 1 if there was one (with --mutations: if one that should be found
was not).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.exhaustive.explore import Explorer, Found, Limits
from tests.exhaustive.heal import Healing
from tests.exhaustive.machine import Bounds, Event
from tests.exhaustive.mutations import MUTATIONS, Mutation, applied
from tests.exhaustive.story import tell
from tests.exhaustive.values import Budget
from tests.exhaustive.world import Model


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.mutations:
        return try_mutations(stories=options.verbose)
    budget = Budget(**{kind: getattr(options, kind) for kind in Budget._fields})
    acks = tuple(-1 if word == "all" else int(word) for word in options.acks.split(","))
    bounds = Bounds(
        options.replicas, options.min_insync, budget, acks, options.stale, options.unclean
    )
    limits = Limits(options.depth, options.states, options.seconds)
    if options.heal:
        found, lines = search_and_heal(bounds, limits, options.start)
    else:
        found, lines = search(bounds, limits, options.start, verbose=options.verbose)
    print(summary(bounds, found, options.start))
    print(*lines, sep="\n")
    return 0 if found.violation is None else 1


def search(
    bounds: Bounds,
    limits: Limits,
    start: str = "fresh",
    opening: Sequence[Event] = (),
    *,
    verbose: bool = False,
) -> tuple[Found, list[str]]:
    """One search, and the story of what it found. With an opening, these events come first: what is
    exhaustive is what may follow on them."""
    model = Model(bounds)
    begin = world = model.begin(start)
    events = []
    for wanted in opening:
        event, world = model.take(world, *wanted)
        events.append(event)
    explorer = Explorer(model, world, limits, _show_progress if verbose else lambda _: None)
    found = explorer.run()
    return found, tell(model, begin, [*events, *found.story]) if found.story else []


def search_and_heal(
    bounds: Bounds, limits: Limits, start: str = "fresh"
) -> tuple[Found, list[str]]:
    """A search after which every state that it visited must heal (no. 19)."""
    model = Model(bounds)
    begin = model.begin(start)
    explorer = Explorer(model, begin, limits)
    found = explorer.run()
    healing, started = Healing(model), time.monotonic()
    for index, world in enumerate(explorer.worlds()):
        verdict = None if found.violation else healing.verdict(world)
        if verdict is not None:
            found.violation, found.story = verdict, explorer.story(index)
            found.depth = len(found.story)
    found.seconds += time.monotonic() - started
    if found.violation is None:
        return found, []
    return found, [*tell(model, begin, found.story), f"    VIOLATED {found.violation}"]


def search_mutated(mutation: Mutation) -> tuple[Found, list[str]]:
    with applied(mutation.patches):
        limits = Limits(states=200_000)
        if mutation.heals:
            return search(mutation.bounds, limits, mutation.start, mutation.opening)
        return search_and_heal(mutation.bounds, limits, mutation.start)


def try_mutations(*, stories: bool) -> int:
    """Each rule switched off: a line of what is found, and the story."""
    missed = 0
    for mutation in MUTATIONS:
        found, lines = search_mutated(mutation)
        missed += (found.violation is None) != bool(mutation.why_not)
        print(f"{mutation.name}: without the rule {mutation.rule!r}")
        if mutation.why_not:
            print(f"  nothing is to be found: {mutation.why_not}")
        if mutation.opening:
            print(f"  after an opening of {len(mutation.opening)} events:")
        print(f"  {summary(mutation.bounds, found, mutation.start)}", flush=True)
        if stories:
            print(*lines, sep="\n", end="\n\n")
    return 1 if missed else 0


def _show_progress(found: Found) -> None:
    print(
        f"  depth {found.depth:>3}: {found.levels[-1]:>9,} new states, {found.states:>10,} in all, "
        f"{found.seconds:7.1f} s",
        flush=True,
    )


def summary(bounds: Bounds, found: Found, start: str = "fresh") -> str:
    """One line: what was searched, and what came of it."""
    budget = " ".join(f"{kind}={n}" for kind, n in bounds.budget._asdict().items() if n)
    depth = f"{found.depth} (complete)" if found.complete else f"{found.depth}"
    acks = "/".join("all" if acks == -1 else str(acks) for acks in bounds.acks)
    more = " stale" if bounds.stale else ""
    more += " unclean" if bounds.unclean else ""
    more += "" if start == "fresh" else f" start={start}"
    return (
        f"replicas={bounds.replicas} min.insync={bounds.min_insync} acks={acks} {budget}{more}: "
        f"depth {depth}, {found.states:,} states, "
        f"{found.transitions:,} transitions, {found.seconds:.1f} s, "
        f"{found.violation or 'no violation'}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.exhaustive.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--min-insync", type=int, default=1)
    parser.add_argument("--acks", default="all", help="all, 1, or all,1")
    parser.add_argument("--stale", action="store_true", help="restarts may find an older HW")
    parser.add_argument("--unclean", action="store_true", help="unclean elections are allowed")
    parser.add_argument("--start", choices=("fresh", "preferred-waiting", "alone"), default="fresh")
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--states", type=int, default=20_000_000)
    parser.add_argument("--seconds", type=float, default=220.0)
    parser.add_argument("--verbose", action="store_true", help="a line a depth, or the stories")
    parser.add_argument("--heal", action="store_true", help="then every state must heal (no. 19)")
    parser.add_argument("--mutations", action="store_true", help="switch off one rule at a time")
    for kind, default in Budget()._asdict().items():
        parser.add_argument(f"--{kind}", type=int, default=default)
    return parser


if __name__ == "__main__":
    sys.exit(main())
