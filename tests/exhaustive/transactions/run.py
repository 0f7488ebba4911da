"""The exhaustive search of transactions from the command line.

    python -m tests.exhaustive.transactions.run --tv 1 --transactions 2 --retries 1
    python -m tests.exhaustive.transactions.run --tv 1,2 --crashes 1 --timeouts 1
    python -m tests.exhaustive.transactions.run --mutations

Prints the bounds, distinct states, transitions, seconds, violations; and the events up to a
violation. The exit status is 1 if there was one (with --mutations: if one was missed).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.exhaustive.explore import Explorer, Found, Limits
from tests.exhaustive.machine import Event
from tests.exhaustive.mutations import applied
from tests.exhaustive.transactions.draft import Bounds
from tests.exhaustive.transactions.heal import Healing
from tests.exhaustive.transactions.mutations import MUTATIONS, Mutation
from tests.exhaustive.transactions.values import Budget
from tests.exhaustive.transactions.world import Model


def search(bounds: Bounds, limits: Limits) -> tuple[Found, Model]:
    model = Model(bounds)
    return Explorer(model, model.start(), limits).run(), model  # type: ignore[arg-type]


def search_and_heal(bounds: Bounds, limits: Limits) -> tuple[Found, Model]:
    """A search after which every state that it visited must heal (no. 35)."""
    model = Model(bounds)
    explorer = Explorer(model, model.start(), limits)  # type: ignore[arg-type]
    found = explorer.run()
    healing, started = Healing(model), time.monotonic()
    for index, world in enumerate(explorer.worlds()):
        verdict = None if found.violation else healing.verdict(world)
        if verdict is not None:
            found.violation, found.story = verdict, explorer.story(index)
            found.depth = len(found.story)
    found.seconds += time.monotonic() - started
    return found, model


def search_mutated(mutation: Mutation) -> tuple[Found, Model]:
    with applied(mutation.patches):
        limits = Limits(states=200_000)
        if not mutation.heals:
            return search(mutation.bounds, limits)
        return search_and_heal(mutation.bounds, limits)


def try_mutations(*, stories: bool) -> int:
    """Each rule switched off: a line of what is found, and the story."""
    missed = 0
    for mutation in MUTATIONS:
        found, _ = search_mutated(mutation)
        missed += (found.violation is None) != bool(mutation.why_not)
        print(f"{mutation.name}: without the rule {mutation.rule!r}")
        if mutation.why_not:
            print(f"  nothing is to be found: {mutation.why_not}")
        print(f"  {summary(mutation.bounds, found)}", flush=True)
        if stories:
            print(*tell(found.story, found.violation), sep="\n", end="\n\n")
    return 1 if missed else 0


def tell(story: Sequence[Event], violation: str | None) -> list[str]:
    """The events, a line each."""
    lines = [f"{number:>5} {sentence(event)}" for number, event in enumerate(story, 1)]
    return [*lines, f"    VIOLATED {violation}"]


def sentence(event: Event) -> str:
    match event:
        case ("send", who, what, request):
            return f"producer {who}: {what}: {request}"
        case ("late", late):
            return f"what was given up arrives: {late}"
        case (kind, *rest):
            return f"{kind} {' '.join(map(str, rest))}".rstrip()
    raise AssertionError(event)


def summary(bounds: Bounds, found: Found) -> str:
    """One line: what was searched, and what came of it."""
    budget = " ".join(f"{kind}={n}" for kind, n in bounds.budget._asdict().items() if n)
    versions = "/".join(f"TV{each}" for each in bounds.tv)
    group = " (a group's first)" if bounds.group else ""
    depth = f"{found.depth} (complete)" if found.complete else f"{found.depth}"
    return (
        f"{versions} partitions={bounds.partitions}{group} max={bounds.max_epoch} {budget}: "
        f"depth {depth}, {found.states:,} states, {found.transitions:,} transitions, "
        f"{found.seconds:.1f} s, {found.violation or 'no violation'}"
    )


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.mutations:
        return try_mutations(stories=options.verbose)
    budget = Budget(**{kind: getattr(options, kind) for kind in Budget._fields})
    versions = tuple(int(word) for word in options.tv.split(","))
    bounds = Bounds(versions, options.partitions, options.max_epoch, budget, options.group)
    limits = Limits(options.depth, options.states, options.seconds)
    found, model = (search_and_heal if options.heal else search)(bounds, limits)
    if options.rows:
        print(*sorted(map(", ".join, model.rows)), sep="\n")
    print(summary(bounds, found))
    if found.violation is not None:
        print(*tell(found.story, found.violation), sep="\n")
    return 0 if found.violation is None else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests.exhaustive.transactions.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tv", default="2", help="of each producer: 1, 2, or as 1,2")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--group", action="store_true", help="the first takes a group's offsets")
    parser.add_argument("--max-epoch", type=int, default=2)
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--states", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=220.0)
    parser.add_argument("--mutations", action="store_true", help="switch off one rule at a time")
    parser.add_argument("--verbose", action="store_true", help="the stories of the mutations")
    parser.add_argument("--heal", action="store_true", help="then every state must heal (no. 35)")
    parser.add_argument(
        "--rows", action="store_true", help="the rows of the table that were reached"
    )
    for kind, default in Budget()._asdict().items():
        parser.add_argument(f"--{kind}", type=int, default=default)
    return parser


if __name__ == "__main__":
    sys.exit(main())
