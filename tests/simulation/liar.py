"""A client that lies.

The liar sends a broker the batches of tests/integration/torment/lies.py, to the product's own
handling of produce requests: counts, lengths, times, CRCs, codecs, sizes, marks that are not so. It
floods, does not wait for answers, and comes back with the truth. Everything else goes on as ever.

What must hold: what has to be refused is not taken; what is taken can be read by strangers, who
find in it what its header tells (strangers.py); no log fails unless its disk was full; no broker
ends; and who is honest is served.

No state of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING

from minikafka.api.requests import ProducePartition, ProduceRequest
from minikafka.broker.service import Service
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition
from tests.integration.torment.lies import LIES, REFUSED, SQUEEZED_TRUTH, TRUTH, Lie
from tests.simulation.network import Exchange
from tests.simulation.states import Violation

if TYPE_CHECKING:
    from tests.simulation.world import Host, World

REQUEST_MS = 500

# Not here: one takes real time, in a thread; and who has somebody else's number can spoil that one
# (without authorization, in Kafka too), which the ledger would take for a loss.
_NOT_HERE = ("a bomb", "a number of somebody else")


def word(lie: Lie) -> str:
    """As actions name it."""
    return lie.name.replace(" ", "-").replace("'", "")


KNOWN: Mapping[str, Lie] = {
    word(lie): lie for lie in (*LIES, TRUTH, SQUEEZED_TRUTH) if lie.name not in _NOT_HERE
}


# The door of Kafka's clients refuses these; whoever calls the broker itself may send them.
_OF_THE_DOOR = ("two batches",)


def must_be_refused(lie: Lie) -> bool:
    return lie.verdict == REFUSED and lie.name not in _OF_THE_DOOR


class Liar:
    def __init__(self, world: World) -> None:
        self.world = world

    def lie(self, host: Host, topic_partition: TopicPartition, lie: Lie, seed: int) -> None:
        """Send one, and do not wait."""
        batch = lie.make(Random(seed))
        self.world.loop.create_task(
            self._lie(host, topic_partition, lie, batch), context=self.world.context
        )

    async def _lie(
        self, host: Host, topic_partition: TopicPartition, lie: Lie, batch: bytes
    ) -> None:
        request = ProduceRequest(1, REQUEST_MS, [ProducePartition(topic_partition, batch)])

        async def serve(service: Service) -> None:
            answer = service.produce(request)
            [result] = await answer
            said = f"at {result.base_offset}" if result.error is None else result.error.name
            self.world.tell(f"{host.name} {topic_partition} is told {lie.name}: {said}")
            if result.error is None and must_be_refused(lie):
                raise self.world.violation("liar", f"{host.name} takes {lie.name}")

        exchange = Exchange(
            self.world.network, None, host.number, "produce", request, serve, REQUEST_MS
        )
        try:
            await exchange.result()
        except (MinikafkaError, Violation, asyncio.CancelledError):
            return
