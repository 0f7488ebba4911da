"""The leaders' ISR proposals on their way to the controller.

State: per partition the newest proposal that is not answered. One request is in flight; what comes
up meanwhile waits and goes together. A proposal is sent again, unchanged, until the controller has
answered it or the replica has adopted something newer; only to a controller whose epoch is not
below the last one seen (replication.md section 3), and never while ZooKeeper is out of touch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from minikafka.api.requests import AlterPartitionRequest, AlterPartitionResponse
from minikafka.broker.replication.replica import Replica
from minikafka.errors import MinikafkaError, NotControllerError
from minikafka.model import IsrProposal, TopicPartition

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.02
MAX_BACKOFF_S = 1.0

Send = Callable[[AlterPartitionRequest], Awaitable[AlterPartitionResponse]]
Batch = dict[TopicPartition, tuple[Replica, IsrProposal]]


class IsrProposals:
    """`send` finds the controller and calls it; `incarnation` gives (broker id, broker epoch);
    `may_send` is false while ZooKeeper is out of touch."""

    def __init__(
        self,
        send: Send,
        incarnation: Callable[[], tuple[int, int]],
        may_send: Callable[[], bool],
    ) -> None:
        self._send = send
        self._incarnation = incarnation
        self._may_send = may_send
        self._waiting: Batch = {}
        self._something = asyncio.Event()
        self._last_controller_epoch = -1

    def submit(self, replica: Replica, proposal: IsrProposal) -> None:
        """Send this proposal; it takes the place of an older one of the partition."""
        self._waiting[replica.topic_partition] = (replica, proposal)
        self._something.set()

    async def run(self) -> None:
        """For as long as the broker lives."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            await self._something.wait()
            self._something.clear()
            batch, self._waiting = self._waiting, {}
            batch = {
                topic_partition: (replica, proposal)
                for topic_partition, (replica, proposal) in batch.items()
                if _still_wanted(replica, proposal)
            }
            if not batch:
                continue
            if self._may_send() and await self._send_batch(batch):
                backoff_s = FIRST_BACKOFF_S
                continue
            for topic_partition, item in batch.items():
                if _still_wanted(*item):
                    self._waiting.setdefault(topic_partition, item)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
            self._something.set()

    async def _send_batch(self, batch: Batch) -> bool:
        """False if anything was refused or not answered: then it is time to go slowly."""
        broker_id, broker_epoch = self._incarnation()
        request = AlterPartitionRequest(
            broker_id, broker_epoch, [proposal for _, proposal in batch.values()]
        )
        try:
            response = await self._send(request)
        except MinikafkaError as error:
            logger.info("ISR proposals wait: %s", error)
            return False
        if response.controller_epoch < self._last_controller_epoch:
            logger.info(
                "ISR proposals wait: controller epoch %d answered after %d",
                response.controller_epoch,
                self._last_controller_epoch,
            )
            return False
        self._last_controller_epoch = response.controller_epoch
        answered = {result.topic_partition: result for result in response.results}
        accepted = True
        for topic_partition, (replica, proposal) in batch.items():
            result = answered.get(topic_partition)
            if result is None or isinstance(result.error, NotControllerError):
                accepted = False
                continue
            if result.error is not None:
                accepted = False
                logger.info("%s: ISR proposal refused: %s", topic_partition, result.error)
            replica.on_proposal_answered(proposal, result.error, result.state)
        return accepted


def _still_wanted(replica: Replica, proposal: IsrProposal) -> bool:
    return not replica.stopped and replica.core.pending_proposal == proposal
