"""Delivers what the controller has to tell: one sender for each live incarnation of a broker.

A sender takes one message at a time out of the outbox, sends it until it is acknowledged or its
incarnation is gone, and only then takes the next: so a broker hears things in order. A message that
failed goes back into the outbox, where newer States replace those in it, so what is tried again is
always the newest. While ZooKeeper is out of touch nothing is sent.

Errors: `StaleControllerEpochError` from a broker means that this controller is deposed;
`StaleBrokerEpochError` that the incarnation is over; all others are tried again, for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from minikafka.api.requests import UpdateStateRequest, UpdateStateResponse
from minikafka.core.control.outbox import Outbox, UpdateStateBatch
from minikafka.errors import MinikafkaError, StaleBrokerEpochError, StaleControllerEpochError
from minikafka.model import BrokerInfo

log = logging.getLogger("minikafka.controller")

Send: TypeAlias = Callable[[BrokerInfo, UpdateStateRequest], Awaitable[UpdateStateResponse]]


@dataclass(frozen=True, slots=True)
class _Sender:
    """The task for one incarnation, and what wakes it."""

    broker: BrokerInfo
    wake: asyncio.Event
    task: asyncio.Task[None]


class ControllerChannelManager:
    """All senders of one term.

    `address(message)` makes the request of a message; `on_answer` hears each acknowledgement,
    `on_failure` (at most a few times) that the term cannot go on.
    """

    def __init__(
        self,
        outbox: Outbox,
        address: Callable[[UpdateStateBatch], UpdateStateRequest],
        send: Send,
        *,
        in_touch: asyncio.Event,
        on_answer: Callable[[BrokerInfo, UpdateStateResponse], None],
        on_failure: Callable[[Exception], None],
        backoff_ms: int,
        max_backoff_ms: int = 1000,
    ) -> None:
        self._outbox = outbox
        self._address = address
        self._send = send
        self._in_touch = in_touch
        self._on_answer = on_answer
        self._on_failure = on_failure
        self._backoff_ms = backoff_ms
        self._max_backoff_ms = max(max_backoff_ms, backoff_ms)
        self._senders: dict[int, _Sender] = {}
        self._closed = False

    def wake(self) -> None:
        """Look at the outbox again: end the senders of incarnations that are gone, begin those of
        new ones, wake the others."""
        if self._closed:
            return
        current = self._outbox.brokers()
        for broker_id, sender in list(self._senders.items()):
            if current.get(broker_id) is not sender.broker:
                self._end(broker_id)
        for broker_id, broker in current.items():
            sender = self._senders.get(broker_id) or self._begin(broker)
            sender.wake.set()

    def close(self) -> None:
        """End all senders. What is on its way may still arrive."""
        self._closed = True
        for broker_id in list(self._senders):
            self._end(broker_id)

    def _begin(self, broker: BrokerInfo) -> _Sender:
        wake = asyncio.Event()
        task = asyncio.create_task(
            self._run(broker, wake), name=f"controller-to-{broker.broker_id}"
        )
        self._senders[broker.broker_id] = sender = _Sender(broker, wake, task)
        return sender

    def _end(self, broker_id: int) -> None:
        self._senders.pop(broker_id).task.cancel()

    async def _run(self, broker: BrokerInfo, wake: asyncio.Event) -> None:
        failures = 0
        try:
            while True:
                await wake.wait()
                await self._in_touch.wait()
                message = self._outbox.take(broker.broker_id, broker.broker_epoch)
                if message is None:
                    wake.clear()
                    continue
                failures = 0 if await self._deliver(message, failures) else failures + 1
                if failures:
                    await asyncio.sleep(self._backoff_s(failures))
        except StaleBrokerEpochError as over:
            log.info("broker %s: nothing more is sent to this incarnation: %s", broker.name, over)
        except Exception as failure:
            self._on_failure(failure)

    def _backoff_s(self, failures: int) -> float:
        doubled = self._backoff_ms << min(failures - 1, 16)
        return min(doubled, self._max_backoff_ms) / 1000

    async def _deliver(self, message: UpdateStateBatch, failures: int) -> bool:
        """Send once; True if all of it was done."""
        broker = message.broker
        try:
            response = await self._send(broker, self._address(message))
        except (StaleControllerEpochError, StaleBrokerEpochError):
            raise
        except MinikafkaError as error:
            level = logging.DEBUG if failures else logging.WARNING
            log.log(level, "broker %s cannot be told: %s (it is tried again)", broker.name, error)
            self._outbox.put_back(message)
            return False
        self._outbox.acknowledge(message)
        self._on_answer(broker, response)
        missing = tuple(replica for replica in message.deletions if replica not in response.deleted)
        drops = tuple(drop for drop in message.drops if drop[:2] not in response.deleted)
        if missing or drops:
            self._outbox.put_back(UpdateStateBatch(broker, deletions=missing, drops=drops))
        return not missing and not drops
