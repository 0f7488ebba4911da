"""Who may write what.

Write on each topic, by topic; and, if any *batch* is of a transaction, Write on the transactional
id of the request, or all of it is refused: what a request says of itself is no proof
(CVE-2018-17196).

State: `_ahead`. Requests for many partitions are judged in slices of the loop, and what comes after
such a one waits for it, so that all is appended in the order in which it came. Others are handed on
before `produce` returns.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from struct import Struct

from minikafka.api.requests import ProduceRequest, ProduceResult
from minikafka.api.service import BrokerService
from minikafka.broker.guard.asking import FEW, Asking, Refusals, merged
from minikafka.errors import MinikafkaError, TransactionalIdAuthorizationFailedError
from minikafka.model import TRANSACTIONAL, TopicPartition
from minikafka.records.header import HEADER_BYTES, LENGTH_PREFIX_BYTES, Buffer
from minikafka.security.acl import Operation, ResourceType
from minikafka.turns import in_slices

Produced = Awaitable[Sequence[ProduceResult]]

_REQUEST = "Produce"
_LENGTH_POSITION, _ATTRIBUTES_POSITION = 8, 22  # of the attributes, the lower byte
_LENGTH = Struct(">i")
_LEAST_LENGTH = HEADER_BYTES - LENGTH_PREFIX_BYTES


class GuardedProducing:
    """The part of a GuardedService that its caller writes through."""

    def __init__(self, service: BrokerService, asking: Asking) -> None:
        self._service = service
        self._asking = asking
        self._ahead: asyncio.Future[None] | None = None

    def produce(self, request: ProduceRequest) -> Produced:
        """See BrokerService.produce. Where nothing is refused it is the raw service's own."""
        partitions = request.partitions
        if self._ahead is None and self._asking.is_open(Operation.WRITE, partitions):
            for each in partitions:
                if is_of_transaction(each.records):
                    break
            else:
                return self._service.produce(request)
        return self._judged(request)

    def _judged(self, request: ProduceRequest) -> Produced:
        if self._ahead is not None or len(request.partitions) > FEW:
            judged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ahead, self._ahead = self._ahead, judged
            work = asyncio.ensure_future(self._later(request, ahead, judged))
            work.add_done_callback(lambda _: self._on_over(ahead, judged))
            return work
        if any(is_of_transaction(each.records) for each in request.partitions):
            refused = self._not_of_its_transaction(request)
            if refused is not None:
                return _answered(_all_refused(request, refused))
        topics = Counter(each.topic_partition.topic for each in request.partitions)
        refusals = {topic: self._refusal(topic, count) for topic, count in topics.items()}
        return self._start(request, {t: e for t, e in refusals.items() if e is not None})

    async def _later(
        self,
        request: ProduceRequest,
        ahead: asyncio.Future[None] | None,
        judged: asyncio.Future[None],
    ) -> Sequence[ProduceResult]:
        if ahead is not None:
            await asyncio.shield(ahead)
        started = await self._judged_in_slices(request)
        self._on_judged(judged)
        return await started

    def _on_over(self, ahead: asyncio.Future[None] | None, judged: asyncio.Future[None]) -> None:
        """Who gives up before its turn has come neither holds those up that come after, nor lets
        them go before what came first."""
        if ahead is None or ahead.done():
            self._on_judged(judged)
        else:
            ahead.add_done_callback(lambda _: self._on_judged(judged))

    def _on_judged(self, judged: asyncio.Future[None]) -> None:
        if not judged.done():
            judged.set_result(None)
        if self._ahead is judged:
            self._ahead = None

    async def _judged_in_slices(self, request: ProduceRequest) -> Produced:
        async for each in in_slices(request.partitions):
            if is_of_transaction(each.records):
                refused = self._not_of_its_transaction(request)
                if refused is not None:
                    return _answered(_all_refused(request, refused))
                break
        topics = (each.topic_partition.topic for each in request.partitions)
        write, topic = Operation.WRITE, ResourceType.TOPIC
        return self._start(request, await self._asking.refusals(_REQUEST, write, topic, topics))

    def _not_of_its_transaction(self, request: ProduceRequest) -> MinikafkaError | None:
        if request.transactional_id is None:
            return TransactionalIdAuthorizationFailedError(
                "a record batch is of a transaction, and its request names no transactional id"
            )
        return self._asking.refusal(
            _REQUEST,
            Operation.WRITE,
            ResourceType.TRANSACTIONAL_ID,
            request.transactional_id,
        )

    def _refusal(self, topic: str, count: int) -> MinikafkaError | None:
        return self._asking.refusal(
            _REQUEST, Operation.WRITE, ResourceType.TOPIC, topic, count=count
        )

    def _start(self, request: ProduceRequest, refused: Refusals) -> Produced:
        """Hand on what is not refused."""
        if not refused:
            return self._service.produce(request)
        asked = [each.topic_partition for each in request.partitions]
        allowed = [each for each in request.partitions if each.topic_partition.topic not in refused]
        if not allowed:
            return _answered(merged(asked, refused, (), ProduceResult))
        started = self._service.produce(replace(request, partitions=allowed))
        return _merged(asked, refused, started)


async def _merged(
    asked: Sequence[TopicPartition], refused: Refusals, started: Produced
) -> Sequence[ProduceResult]:
    return merged(asked, refused, await started, ProduceResult)


def _all_refused(request: ProduceRequest, error: MinikafkaError) -> Sequence[ProduceResult]:
    return [ProduceResult(each.topic_partition, error) for each in request.partitions]


def _answered(results: Sequence[ProduceResult]) -> asyncio.Future[Sequence[ProduceResult]]:
    answer: asyncio.Future[Sequence[ProduceResult]] = asyncio.get_running_loop().create_future()
    answer.set_result(results)
    return answer


def is_of_transaction(records: Buffer) -> bool:
    """Is one of the batches of a transaction? They are walked over as by who takes them
    (records/check.py): from where that refuses a batch for its length, it takes none."""
    position, end = 0, len(records)
    while position + HEADER_BYTES <= end:
        if records[position + _ATTRIBUTES_POSITION] & TRANSACTIONAL:
            return True
        (length,) = _LENGTH.unpack_from(records, position + _LENGTH_POSITION)
        if length < _LEAST_LENGTH:
            return False
        position += length + LENGTH_PREFIX_BYTES
    return False
