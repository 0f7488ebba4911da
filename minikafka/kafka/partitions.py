"""What is asked of partitions, listed by topic, and answered in the same shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from minikafka.errors import MinikafkaError
from minikafka.kafka.encoding import Values
from minikafka.kafka.errors import partition_code
from minikafka.model import TopicPartition, topic_partition
from minikafka.turns import in_slices


class Result(Protocol):
    topic_partition: TopicPartition
    error: MinikafkaError | None


class Item(Protocol):
    @property
    def partition_index(self) -> int: ...


ItemT = TypeVar("ItemT", bound=Item)
ItemT_co = TypeVar("ItemT_co", bound=Item, covariant=True)


class Topic(Protocol[ItemT_co]):
    @property
    def name(self) -> str: ...
    @property
    def partitions(self) -> Sequence[ItemT_co]: ...


Question = TypeVar("Question")
ResultT = TypeVar("ResultT", bound=Result)


async def ask_each(
    topics: Iterable[Topic[ItemT]],
    question: Callable[[TopicPartition, ItemT], Question],
    ask: Callable[[list[Question]], Awaitable[Iterable[ResultT]]],
    answer: Callable[[ResultT], Values],
    *,
    topic_field: str = "name",
    partition_field: str = "partition_index",
    refuse: Callable[[TopicPartition, ItemT, bool], MinikafkaError | None] | None = None,
    refused: Callable[[TopicPartition, MinikafkaError], ResultT] | None = None,
) -> list[Values]:
    """The topics of an answer, in the order of the request's.

    `question(partition, item)` is what an item of the request asks of its partition, `ask` asks
    all of them at once, each once (a partition that is named again counts as it is named last),
    `answer` gives the fields of a result besides the partition and the error.
    The fields are `topic_field` and `partition_field` in the answer. What `refuse` has an error for
    (it is told whether the partition was named before) is not asked; `refused` makes a result of
    it.
    """
    named: list[tuple[str, list[TopicPartition]]] = []
    questions: dict[TopicPartition, Question] = {}
    results: dict[TopicPartition, ResultT] = {}
    async for topic, item in in_slices(_flat(topics)):
        if item is None:
            name = topic.name
            items: list[TopicPartition] = []
            named.append((name, items))
            continue
        each = topic_partition(name, item.partition_index)
        items.append(each)
        again = each in questions or each in results
        error = None if refuse is None else refuse(each, item, again)
        if error is None:
            questions[each] = question(each, item)
        else:
            assert refused is not None, "whoever refuses says how"
            questions.pop(each, None)
            results[each] = refused(each, error)
    found = await ask(list(questions.values())) if questions else ()
    async for result in in_slices(found):
        results[result.topic_partition] = result

    def partition(each: TopicPartition) -> Values:
        error = results[each].error
        return {
            partition_field: each.partition,
            "error_code": 0 if error is None else partition_code(error),
            **answer(results[each]),
        }

    return [
        {topic_field: name, "partitions": [partition(each) async for each in in_slices(items)]}
        async for name, items in in_slices(named)
    ]


def _flat(topics: Iterable[Topic[ItemT]]) -> Iterator[tuple[Topic[ItemT], ItemT | None]]:
    """Each topic with None, and then with each of its items."""
    for topic in topics:
        yield topic, None
        for item in topic.partitions:
            yield topic, item
