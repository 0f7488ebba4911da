"""What a handler is: a function, and the form in which it gets the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

from minikafka.api.service import BrokerService
from minikafka.kafka.apis import ApiKey
from minikafka.kafka.connection import Call
from minikafka.kafka.decoding import Structure
from minikafka.kafka.encoding import Values

RequestT = TypeVar("RequestT", bound=Structure)


class Handler(NamedTuple, Generic[RequestT]):
    """`request` is the form (requests.py) that `answer` takes."""

    request: type[RequestT]
    answer: Callable[[BrokerService, Call, RequestT], Awaitable[Values]]


Handlers = dict[ApiKey, Handler[Any]]  # each of a form of its own
