"""All scenarios, in the order of the lecture."""

from __future__ import annotations

import difflib

from minikafka.errors import UsageError
from minikafka.lab.scenario import Scenario
from minikafka.lab.scenarios import (
    barrier,
    basics,
    cluster,
    configuration,
    election,
    guarantees,
    isr,
    jobs,
    loss,
    recipes,
    service,
    sessions,
    transactions,
    work,
)

SCENARIOS: tuple[type[Scenario], ...] = (
    basics.Api,
    guarantees.Guarantees,
    election.ControllerElection,
    sessions.Sessions,
    sessions.SessionExpiry,
    service.EnsembleMajority,
    service.StaleRead,
    service.ConnectionLoss,
    isr.FiveReplicas,
    configuration.TopicConfig,
    configuration.BrokerConfig,
    cluster.Membership,
    jobs.Jobs,
    jobs.Semaphore,
    work.Reassignment,
    work.RollingRestart,
    barrier.Barrier,
    recipes.LostUpdate,
    recipes.Herd,
    cluster.Consensus,
    loss.ZombieLeader,
    loss.ConsistentOrAvailable,
    loss.MinInsync,
    loss.FlipFlop,
    transactions.Transfers,
    transactions.ZombieProducer,
)


def find(name: str) -> type[Scenario]:
    """UsageError, with the near names, if there is none of that name."""
    known = {each.name: each for each in SCENARIOS}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`minikafka lab list` has them"
    raise UsageError(f"there is no scenario {name!r}; {hint}")
