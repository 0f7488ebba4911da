"""The broker's services as callers may use them, for both doors; the raw ones if nobody judges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, cast

from minikafka.api.service import BrokerService
from minikafka.broker import guard
from minikafka.broker.access.access import Access
from minikafka.broker.broker import Broker
from minikafka.rpc.credentials import current_caller
from minikafka.security.authorizer import Authorizer
from minikafka.security.principal import Caller

T = TypeVar("T")

_REMEMBERED = 1_000


def authorizer_of(access: Access | None) -> Authorizer | None:
    return None if access is None or access.acls is None else access.acls.authorizer


def kafkas(broker: Broker) -> Callable[[Caller], BrokerService] | None:
    """What a connection of the Kafka door is served from; None: from the service itself."""
    authorizer = authorizer_of(broker.access)
    if authorizer is None:
        return None
    return partial(guard.service_for, broker.service, authorizer)


class OfCaller(Generic[T]):
    """Stands for a service: what is asked of it is asked of `make(caller)`, for whoever makes the
    call that is being served (rpc/credentials.py). `_made`: by caller, bounded."""

    def __init__(self, make: Callable[[Caller], T]) -> None:
        self._make = make
        self._made: dict[Caller, T] = {}

    def __getattr__(self, name: str) -> Any:
        caller = current_caller()
        made = self._made.get(caller)
        if made is None:
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            made = self._made[caller] = self._make(caller)
        return getattr(made, name)


def of_caller(make: Callable[..., T], service: T, authorizer: Authorizer | None) -> T:
    """`make(service, authorizer, caller)` for each caller; the service itself without one who
    judges."""
    if authorizer is None:
        return service
    return cast(T, OfCaller(partial(make, service, authorizer)))


def grpcs(broker: Broker, *, named: bool) -> BrokerService:
    """What gRPC serves from. Where its callers have no names, they may do everything: that is
    checked when a broker is configured."""
    if not named:
        return broker.service
    return of_caller(
        guard.service_for, cast(BrokerService, broker.service), authorizer_of(broker.access)
    )
