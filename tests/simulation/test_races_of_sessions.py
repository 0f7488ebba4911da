"""Races of fetch sessions: what is asked out of turn, and what is not asked because it is known
(docs/replication.md, "Sessions"). See test_races_of_leaders.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from minikafka.api.requests import ReplicaFetchRequest
from minikafka.errors import MinikafkaError
from minikafka.model import FollowerPosition
from tests.simulation.directed import T0, DirectedCluster
from tests.simulation.network import Exchange


def _send(cluster: DirectedCluster, target: str, request: ReplicaFetchRequest) -> None:
    """To this broker, from nobody who waits for the answer."""
    world = cluster.world

    async def send() -> None:
        exchange = Exchange(
            world.network,
            None,
            cluster.player.host(target).number,
            "forged",
            request,
            lambda service: service.replica_fetch(request),
            3_000,
        )
        try:
            await exchange.result()
        except (MinikafkaError, asyncio.CancelledError):
            return

    world.loop.create_task(send(), context=world.context)


def _out_of_turn(**changes: int) -> None:
    """B is silent, and has not got a record; somebody says in its session that it has."""
    with DirectedCluster("AB", controller="C", minimum=2) as cluster:
        held = cluster.hold("replica_fetch", source="B")
        cluster.until(lambda: held)
        asked = held[0].request
        assert asked.session_id != 0
        cluster.produce("A", run_ms=20)
        at = FollowerPosition(T0, cluster.ledger.topic_id, 1, 0, cluster.state.leader_epoch, 0)
        more = {name: getattr(asked, name) + change for name, change in changes.items()}
        _send(cluster, "A", replace(asked, positions=[at], **more))
        cluster.run(100)
        assert cluster.acknowledged == 0
        cluster.pass_all()
        cluster.break_off(held)
        cluster.end()


def test_a_request_that_is_not_the_next_of_its_session_counts_for_nothing():
    _out_of_turn(session_epoch=1)


def test_a_request_of_another_incarnation_in_a_session_counts_for_nothing():
    _out_of_turn(replica_broker_epoch=1)


def test_a_partition_that_slept_with_its_followers_in_sync_wakes_with_them_in_sync():
    """B has named it long ago, and fetched ever since."""
    with DirectedCluster(
        "AB", controller="C", settings={"replica.lag.time.max.ms": "1200"}
    ) as cluster:
        cluster.run(4_000)
        held = cluster.hold("replica_fetch", source="B")
        cluster.until(lambda: held)
        cluster.produce("A", "1", run_ms=620)
        assert cluster.isr == "AB"
        cluster.pass_all()
        cluster.break_off(held)
        cluster.end()


def test_a_follower_of_a_quiet_partition_hears_what_is_committed():
    """It was told when the record came that nothing is; the last of the ISR commits it later."""
    with DirectedCluster(
        "ABC", minimum=2, settings={"replica.lag.time.max.ms": "20000"}
    ) as cluster:
        held = cluster.hold("replica_fetch", source="C")
        cluster.until(lambda: held)
        cluster.produce("A", run_ms=1_200)
        cluster.pass_all()
        cluster.release(held, run_ms=1_500)
        replica = cluster.player.host("B").replica(cluster.ledger.topic_partition)
        assert replica is not None
        assert replica.core.log_state.high_watermark == 1
        cluster.end()


def test_a_topic_that_is_deleted_while_its_followers_fetch_commits_nothing_more():
    """Found by a walk: the fetch counted for the log that its leader had just deleted."""
    with DirectedCluster("AB", controller="C", minimum=2) as cluster:
        held = cluster.hold("replica_fetch", source="B", where=lambda each: each.request.positions)
        cluster.produce("A", run_ms=50)
        assert held
        cluster.do("delete C t", run_ms=200)
        assert cluster.player.host("A").replica(T0) is None
        cluster.release(held[:1], run_ms=100)
        assert cluster.said("UNKNOWN_TOPIC_OR_PARTITION")
