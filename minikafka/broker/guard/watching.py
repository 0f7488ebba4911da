"""What a watcher of the cluster hears: of the topics that its caller may Describe.

When the access control entries change, it hears everything anew: topics that are to be seen now are
news, and those that are not any more are told as deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace

from minikafka.api.requests import ClusterUpdate
from minikafka.api.service import BrokerService
from minikafka.broker.guard.asking import Asking
from minikafka.security.acl import Operation, ResourceType
from minikafka.turns import in_slices

RECHECK_S = 1.0  # how long a change of the entries may go unseen while nothing else happens


@dataclass(slots=True)
class _Seen:
    """`ids`: of the topics that the watcher has been told of, and not that they are gone.
    `controller`: id and epoch as it was told last."""

    asking: Asking
    ids: dict[str, str] = field(default_factory=dict)
    controller: tuple[int, int] | None = None

    async def of(self, update: ClusterUpdate, *, anew: bool) -> ClusterUpdate | None:
        """What is to be heard of an update; `anew`: it tells of everything. None: it is of nothing
        but what is hidden."""
        names = (each.topic_partition.topic for each in update.partitions)
        hidden = await self.asking.hidden("Watch", Operation.DESCRIBE, ResourceType.TOPIC, names)
        partitions = update.partitions
        if hidden:
            partitions = [
                each
                async for each in in_slices(partitions)
                if each.topic_partition.topic not in hidden
            ]
        deleted = [each for each in update.deleted_topics if self.ids.get(each[0]) == each[1]]
        for name, _ in deleted:
            del self.ids[name]
        told = {each.topic_partition.topic: each.topic_id for each in partitions}
        if anew:
            gone = [each for each in self.ids.items() if told.get(each[0]) != each[1]]
            deleted += gone
            self.ids.clear()
        self.ids |= told
        controller = (update.controller_id, update.controller_epoch)
        known, self.controller = self.controller == controller, controller
        if not hidden and deleted == list(update.deleted_topics):
            return update
        if known and not (partitions or deleted) and update.brokers is None:
            return None
        return replace(update, partitions=partitions, deleted_topics=deleted)


async def watch(service: BrokerService, asking: Asking) -> AsyncGenerator[ClusterUpdate, None]:
    """Everything, then every change."""
    seen = _Seen(asking)
    while True:
        version = asking.authorizer.version
        updates = service.watch()
        anew = True
        try:
            while (update := await _next(updates, asking, version)) is not None:
                heard = await seen.of(update, anew=anew)
                anew = False
                if heard is not None:
                    yield heard
        finally:
            if isinstance(updates, AsyncGenerator):
                await updates.aclose()
        if version == asking.authorizer.version:
            return  # the raw one has ended


async def _next(
    updates: AsyncIterator[ClusterUpdate], asking: Asking, version: int
) -> ClusterUpdate | None:
    """None: the entries have changed, or there is nothing to come."""
    coming = asyncio.ensure_future(_one(updates))
    try:
        while asking.authorizer.version == version:
            await asyncio.wait({coming}, timeout=RECHECK_S)
            if coming.done() and asking.authorizer.version == version:
                return coming.result()
        return None
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait({coming})


async def _one(updates: AsyncIterator[ClusterUpdate]) -> ClusterUpdate | None:
    return await anext(updates, None)
