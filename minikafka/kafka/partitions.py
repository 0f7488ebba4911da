"""What is asked of partitions, listed by topic, and answered in the same shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

from minikafka.errors import MinikafkaError
from minikafka.kafka.encoding import Values
from minikafka.kafka.errors import partition_code
from minikafka.model import TopicPartition, topic_partition


class Result(Protocol):
    topic_partition: TopicPartition
    error: MinikafkaError | None


Question = TypeVar("Question")
ResultT = TypeVar("ResultT", bound=Result)


async def ask_each(
    topics: Iterable[Any],
    question: Callable[[TopicPartition, Any], Question],
    ask: Callable[[list[Question]], Awaitable[Iterable[ResultT]]],
    answer: Callable[[ResultT], Values],
    *,
    topic_field: str = "name",
    partition_field: str = "partition_index",
) -> list[Values]:
    """The topics of an answer, in the order of the request's.

    `question(partition, item)` is what an item of the request asks of its partition, `ask` asks
    all of them at once, `answer` gives the fields of a result besides the partition and the error.
    The fields' names are the same in request and answer.
    """
    named = [
        (
            name := getattr(topic, topic_field),
            [
                (topic_partition(name, getattr(item, partition_field)), item)
                for item in topic.partitions
            ],
        )
        for topic in topics
    ]
    found = await ask([question(each, item) for _, items in named for each, item in items])
    results = {result.topic_partition: result for result in found}

    def partition(each: TopicPartition) -> Values:
        error = results[each].error
        return {
            partition_field: each.partition,
            "error_code": 0 if error is None else partition_code(error),
            **answer(results[each]),
        }

    return [
        {topic_field: name, "partitions": [partition(each) for each, _ in items]}
        for name, items in named
    ]
