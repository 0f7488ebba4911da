"""Transactions as one caller may use them. What a call needs stands with it: on the transactional
id, where nothing else is said.

Who may not write under an id speaks for nobody: its connection is not remembered as the id's
youngest, which would close that of who may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from minikafka.api.groups import FindCoordinatorRequest, FindCoordinatorResult
from minikafka.api.service import TransactionService
from minikafka.api.transactions import (
    AbortPartition,
    AddOffsetsRequest,
    AddPartitionsRequest,
    DescribedProducers,
    EndTransactionRequest,
    InitProducerIdRequest,
    ListTransactionsRequest,
    ListTransactionsResult,
    NewestOf,
    ProducerIdentity,
    TransactionDescription,
)
from minikafka.broker.guard.asking import Asking
from minikafka.broker.guard.groups import find_coordinators
from minikafka.errors import MinikafkaError, OperationNotAttemptedError
from minikafka.model import TopicPartition
from minikafka.security.acl import CLUSTER_NAME, Operation, ResourceType
from minikafka.turns import in_slices

_ID, _TOPIC, _GROUP = ResourceType.TRANSACTIONAL_ID, ResourceType.TOPIC, ResourceType.GROUP
_WRITE, _DESCRIBE = Operation.WRITE, Operation.DESCRIBE


class GuardedTransactions:
    """Implements TransactionService over another one."""

    def __init__(self, transactions: TransactionService, asking: Asking) -> None:
        self._transactions = transactions
        self._asking = asking

    # --- whose word counts ------------------------------------------------------------------------

    def fences(self, transactional_id: str, producer_id: int, producer_epoch: int) -> bool:
        """Who may not Write is refused whatever it asks."""
        if not self._speaks(transactional_id):
            return True
        return self._transactions.fences(transactional_id, producer_id, producer_epoch)

    def hears(self, transactional_id: str, kind: NewestOf, connection: int) -> bool:
        """Who may not Write is answered, and not remembered."""
        if not self._speaks(transactional_id):
            return True
        return self._transactions.hears(transactional_id, kind, connection)

    def _speaks(self, transactional_id: str) -> bool:
        """Not a deed: that is asked for next, and then told of."""
        return self._asking.allows("Transaction", _WRITE, _ID, transactional_id, named=False)

    # --- producers: Write -------------------------------------------------------------------------

    async def find_coordinator(self, request: FindCoordinatorRequest) -> FindCoordinatorResult:
        """Describe."""
        return await find_coordinators(
            self._asking, _ID, request, self._transactions.find_coordinator
        )

    async def init_producer_id(self, request: InitProducerIdRequest) -> ProducerIdentity:
        error = self._asking.refusal("InitProducerId", _WRITE, _ID, request.transactional_id)
        if error is not None:
            return ProducerIdentity(error)
        return await self._transactions.init_producer_id(request)

    async def add_partitions(
        self, request: AddPartitionsRequest
    ) -> Mapping[TopicPartition, MinikafkaError | None]:
        """And Write on the topics: if one is refused, the others are not added either."""
        name = "AddPartitionsToTxn"
        error = self._asking.refusal(name, _WRITE, _ID, request.transactional_id)
        if error is not None:
            return dict.fromkeys(request.partitions, error)
        topics = (each.topic for each in request.partitions)
        refused = await self._asking.refusals(name, _WRITE, _TOPIC, topics)
        if not refused:
            return await self._transactions.add_partitions(request)
        others = OperationNotAttemptedError("another partition of the request was refused")
        return {
            each: refused.get(each.topic, others) async for each in in_slices(request.partitions)
        }

    async def prepare_offsets(self) -> None:
        """Write on any id: what is made here is for all groups. Offsets are added next, or
        refused."""
        if self._asking.allows_any("AddOffsetsToTxn", _WRITE, _ID):
            await self._transactions.prepare_offsets()

    async def add_offsets(self, request: AddOffsetsRequest) -> MinikafkaError | None:
        """And Read on the group."""
        name = "AddOffsetsToTxn"
        error = self._asking.refusal(
            name, _WRITE, _ID, request.transactional_id
        ) or self._asking.refusal(name, Operation.READ, _GROUP, request.group_id)
        if error is not None:
            return error
        return await self._transactions.add_offsets(request)

    async def end(self, request: EndTransactionRequest) -> ProducerIdentity:
        error = self._asking.refusal("EndTxn", _WRITE, _ID, request.transactional_id)
        if error is not None:
            return ProducerIdentity(error)
        return await self._transactions.end(request)

    # --- administration: Describe -----------------------------------------------------------------

    async def list_transactions(self, request: ListTransactionsRequest) -> ListTransactionsResult:
        """Those that may be described."""
        found = await self._transactions.list_transactions(request)
        ids = (each.transactional_id for each in found.transactions)
        hidden = await self._asking.hidden("ListTransactions", _DESCRIBE, _ID, ids)
        if not hidden:
            return found
        seen = [each for each in found.transactions if each.transactional_id not in hidden]
        return replace(found, transactions=seen)

    async def describe_transactions(
        self, transactional_ids: Sequence[str]
    ) -> Sequence[TransactionDescription]:
        """And Describe on the topics, or they are left out."""
        name = "DescribeTransactions"
        described = await self._asking.of_names(
            name,
            _DESCRIBE,
            _ID,
            transactional_ids,
            self._transactions.describe_transactions,
            TransactionDescription,
        )
        topics = (partition.topic for each in described for partition in each.partitions)
        hidden = await self._asking.hidden(name, _DESCRIBE, _TOPIC, topics)
        if not hidden:
            return described
        return [
            replace(each, partitions=[one for one in each.partitions if one.topic not in hidden])
            async for each in in_slices(described)
        ]

    async def describe_producers(
        self, partitions: Sequence[TopicPartition]
    ) -> Sequence[DescribedProducers]:
        """Read on the topics."""
        return await self._asking.of_partitions(
            "DescribeProducers",
            Operation.READ,
            partitions,
            self._transactions.describe_producers,
            DescribedProducers,
        )

    async def abort_partitions(
        self, partitions: Sequence[AbortPartition]
    ) -> Sequence[MinikafkaError | None]:
        """Alter on the cluster, or ClusterAction."""
        name, action = "WriteTxnMarkers", Operation.CLUSTER_ACTION
        if self._asking.may(name, Operation.ALTER, named=False) or self._asking.may(name, action):
            return await self._transactions.abort_partitions(partitions)
        error = self._asking.error(action, ResourceType.CLUSTER, CLUSTER_NAME)
        return [error] * len(partitions)
