"""What leaders ask the coordinators of transactions, and their words (transactions.md, T3).

State: the questions under way. One that the coordinator could not answer is asked again after a
while, by the core's wish: for as long as anything waits for its word.
"""

from __future__ import annotations

import asyncio

from minikafka.broker.ports import TransactionCoordinators
from minikafka.broker.replication.replica import Replica
from minikafka.core.replication.effects import AskCoordinator, TransactionQuestion
from minikafka.errors import InvalidTxnStateError, MinikafkaError

AGAIN_S = 0.02


class CoordinatorWords:
    """`coordinators` None: there are none, and nothing is in any transaction."""

    def __init__(self) -> None:
        self.coordinators: TransactionCoordinators | None = None
        self._asking: set[asyncio.Task[None]] = set()

    def ask(self, replica: Replica, effect: AskCoordinator) -> None:
        """The word is brought back to the replica."""
        delay_s = AGAIN_S if effect.again else 0.0
        task = asyncio.get_running_loop().create_task(self._ask(replica, effect.question, delay_s))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, replica: Replica, question: TransactionQuestion, delay_s: float) -> None:
        error: MinikafkaError | None = None
        try:
            await asyncio.sleep(delay_s)
            if self.coordinators is None:
                raise InvalidTxnStateError("minikafka has no transactions yet")
            await self.coordinators.is_in_transaction(question)
        except MinikafkaError as raised:
            error = raised.with_traceback(None)
        except Exception as bug:
            replica.fail(bug, "the coordinator of a transaction could not be asked")
            return
        replica.on_coordinator_answered(question, error)

    def close(self) -> None:
        for task in self._asking:
            task.cancel()
