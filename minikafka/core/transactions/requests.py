"""What is asked of a coordinator about one transactional id, and what it answers. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minikafka.core.transactions.values import NO_PRODUCER_EPOCH, NO_PRODUCER_ID
from minikafka.errors import MinikafkaError
from minikafka.model import TopicPartition

FIRST_END_OF_TV2 = 5  # the version of EndTxn


@dataclass(frozen=True, slots=True)
class InitRequest:
    """InitProducerId. With a producer id and epoch, somebody who has them wants to go on with the
    next one (KIP-360)."""

    timeout_ms: int
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH


@dataclass(frozen=True, slots=True)
class AddRequest:
    """These partitions belong to the transaction from now on. `knows_abortable`: the client has
    heard of TRANSACTION_ABORTABLE (who writes in TV2; not who sends AddPartitionsToTxn)."""

    producer_id: int
    producer_epoch: int
    partitions: frozenset[TopicPartition]
    knows_abortable: bool = True


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """Do they belong to it? `knows_abortable`: the client has heard of TRANSACTION_ABORTABLE
    (Produce from 11, TxnOffsetCommit from 4)."""

    producer_id: int
    producer_epoch: int
    partitions: frozenset[TopicPartition]
    knows_abortable: bool = True


@dataclass(frozen=True, slots=True)
class EndRequest:
    """EndTxn, of this version."""

    producer_id: int
    producer_epoch: int
    commits: bool
    version: int

    @property
    def is_tv2(self) -> bool:
        return self.version >= FIRST_END_OF_TV2


Request = InitRequest | AddRequest | VerifyRequest | EndRequest


@dataclass(frozen=True, slots=True)
class Answer:
    """`error` None: it is so. The producer id and epoch to go on with, after an Init, and after an
    end in TV2."""

    error: MinikafkaError | None = None
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH


@dataclass(frozen=True, slots=True)
class VerifyAnswer:
    """Of a Verify: what is wrong with which partitions."""

    refused: Mapping[TopicPartition, MinikafkaError] = field(hash=False)


Result = Answer | VerifyAnswer


def refusal(request: Request, error: MinikafkaError) -> Result:
    """The answer that all of it is refused."""
    if isinstance(request, VerifyRequest):
        return VerifyAnswer(dict.fromkeys(request.partitions, error))
    return Answer(error)
