"""Clients of consumer groups in the simulated cluster: they commit offsets, in transactions (of
coordinated.py) and without, ask for them, join groups and delete them.

A request goes to the coordinator that any broker names, and again a few times if it fails for the
moment. One that is on its way to a process that ends meanwhile does not reach the next one on that
host: its connection went with it.

State: how many are at work; the members, by group; what was told last. What they send and hear is
noted in grouped.py, and judged there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from minikafka.api.groups import (
    COORDINATES_GROUPS,
    NO_GENERATION,
    UNKNOWN_MEMBER,
    DeleteGroupsRequest,
    GroupProtocol,
    JoinGroupRequest,
    LeaveGroupRequest,
    LeavingMember,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitResult,
    OffsetDeleteRequest,
    OffsetFetchGroup,
    OffsetFetchRequest,
    SyncGroupRequest,
)
from minikafka.api.transactions import AddOffsetsRequest, NewestOf, TxnOffsetCommitRequest
from minikafka.broker.service import Service
from minikafka.errors import MinikafkaError, NetworkError
from minikafka.model import TopicPartition
from tests.simulation.group_log import Key, describe
from tests.simulation.grouped import service_of
from tests.simulation.network import Exchange
from tests.simulation.states import Violation

if TYPE_CHECKING:
    from tests.simulation.coordinated import Attempt, Client
    from tests.simulation.world import Host, World

REQUEST_MS = 1_500
ATTEMPTS = 6
AGAIN_S = 0.1
SESSION_MS = 30_000
REBALANCE_MS = 300
NOBODY = (UNKNOWN_MEMBER, NO_GENERATION)
Serve = Callable[[Service], Awaitable[Any]]


class Members:
    def __init__(self, world: World) -> None:
        self.world = world
        self.at_work = 0
        self.known: dict[str, tuple[str, int]] = {}  # by group: member id and generation to name
        self.told: dict[Key, int] = {}  # what was answered last

    def _spawn(self, work: Awaitable[None]) -> None:
        self.at_work += 1
        self.world.loop.create_task(self._work(work), context=self.world.context)

    async def _work(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Violation:
            return
        except MinikafkaError as error:
            self.world.tell(f"a member gives up: {type(error).__name__}")
        finally:
            self.at_work -= 1

    # --- in transactions -------------------------------------------------------------------------

    async def send(self, client: Client, attempt: Attempt, key: Key) -> None:
        """Offsets become part of a transaction: in version 1 the group is added to it before."""
        group_id, topic_partition = key
        if client.version == 1:
            await self._add(client, group_id)
        offset = self.world.grouped.next_offset(key, attempt)
        member_id, generation_id = self.known.get(group_id, NOBODY)
        request = TxnOffsetCommitRequest(
            client.transactional_id,
            client.producer_id,
            client.producer_epoch,
            group_id,
            [OffsetCommitPartition(topic_partition, offset)],
            generation_id,
            member_id,
            adds=client.version == 2,
        )

        async def serve(service: Service, connection: int) -> None:
            hears = service.transactions.hears
            if not hears(client.transactional_id, NewestOf.OFFSETS, connection):
                raise NetworkError("the connection is closed")
            _check(await service.groups.commit_offsets_in_transaction(request))

        coordinated = self.world.coordinated
        is_newest = coordinated._is_newest(client)
        await self._ask("txn_offset_commit", group_id, serve, client)
        coordinated._judge_fenced(client, f"commits {describe(key)}", is_newest)
        attempt.offsets[key] = offset

    async def _add(self, client: Client, group_id: str) -> None:
        request = AddOffsetsRequest(
            client.transactional_id, client.producer_id, client.producer_epoch, group_id
        )

        async def serve(service: Service) -> None:
            await service.transactions.prepare_offsets()
            error = await service.transactions.add_offsets(request)
            if error is not None:
                raise error

        await self.world.coordinated._coordinate(client, "add", request, serve)

    # --- without ---------------------------------------------------------------------------------

    def commit(self, key: Key) -> None:
        self._spawn(self._commit(key))

    async def _commit(self, key: Key) -> None:
        group_id, topic_partition = key
        offset = self.world.grouped.next_offset(key, None)
        wanted = [OffsetCommitPartition(topic_partition, offset)]
        member_id, generation_id = self.known.get(group_id, NOBODY)
        request = OffsetCommitRequest(group_id, wanted, generation_id, member_id)

        async def serve(service: Service, _: int) -> None:
            _check(await service.groups.commit_offsets(request))

        await self._ask("offset_commit", group_id, serve)
        self.world.grouped.on_acknowledged(key, offset)

    def fetch(self, key: Key, *, stable: bool) -> None:
        """`stable`: none that a transaction may yet replace."""
        self._spawn(self._fetch(key, stable))

    async def _fetch(self, key: Key, stable: bool) -> None:
        group_id, topic_partition = key
        wanted = [OffsetFetchGroup(group_id, [topic_partition])]
        request = OffsetFetchRequest(wanted, require_stable=stable)
        grouped, hosts = self.world.grouped, self.world.hosts
        least = grouped.least(key, stable=stable)

        async def serve(service: Service, _: int) -> int:
            [result] = (await service.groups.fetch_offsets(request)).groups
            if result.error is not None:
                raise result.error
            [found] = result.partitions
            return grouped.judge(key, found, hosts[service.broker_id], stable=stable, least=least)

        self.told[key] = await self._ask("offset_fetch", group_id, serve)
        self.world.tell(f"{describe(key)} is {self.told[key]}{', stable' if stable else ''}")

    def delete_offset(self, key: Key) -> None:
        self.world.grouped.forgettable.add(key[0])
        self._spawn(self._delete_offset(*key))

    async def _delete_offset(self, group_id: str, topic_partition: TopicPartition) -> None:
        request = OffsetDeleteRequest(group_id, [topic_partition])

        async def serve(service: Service, _: int) -> None:
            result = await service.groups.delete_offsets(request)
            for error in (result.error, *(each.error for each in result.partitions)):
                if error is not None:
                    raise error

        await self._ask("offset_delete", group_id, serve)

    def delete_group(self, group_id: str) -> None:
        self.world.grouped.forgettable.add(group_id)
        self._spawn(self._delete_group(group_id))

    async def _delete_group(self, group_id: str) -> None:
        async def serve(service: Service, _: int) -> None:
            [result] = (await service.groups.delete_groups(DeleteGroupsRequest([group_id]))).groups
            if result.error is not None:
                raise result.error

        await self._ask("group_delete", group_id, serve)

    # --- membership ------------------------------------------------------------------------------

    def join(self, group_id: str) -> None:
        """Somebody new; from now on whoever commits for this group names that member."""
        self._spawn(self._join(group_id))

    async def _join(self, group_id: str) -> None:
        protocols = [GroupProtocol("range", b"")]
        request = JoinGroupRequest(
            group_id, "", "consumer", protocols, SESSION_MS, REBALANCE_MS,
            requires_known_member_id=False,
        )  # fmt: skip

        async def join(service: Service, _: int) -> tuple[str, int]:
            result = await service.groups.join_group(request)
            if result.error is not None:
                raise result.error
            return result.member_id, result.generation_id

        member_id, generation_id = await self._ask("group_join", group_id, join)
        assigned = [(member_id, b"")]

        async def sync(service: Service, _: int) -> None:
            wanted = SyncGroupRequest(group_id, generation_id, member_id, assigned)
            error = (await service.groups.sync_group(wanted)).error
            if error is not None:
                raise error

        await self._ask("group_sync", group_id, sync)
        self.known[group_id] = (member_id, generation_id)

    def leave(self, group_id: str) -> None:
        member_id, _ = self.known.pop(group_id)
        self._spawn(self._leave(group_id, member_id))

    async def _leave(self, group_id: str, member_id: str) -> None:
        request = LeaveGroupRequest(group_id, [LeavingMember(member_id)])

        async def serve(service: Service, _: int) -> None:
            result = await service.groups.leave_group(request)
            if result.error is not None:
                raise result.error

        await self._ask("group_leave", group_id, serve)

    # --- asking ----------------------------------------------------------------------------------

    async def _ask(
        self,
        kind: str,
        group_id: str,
        serve: Callable[[Service, int], Awaitable[Any]],
        client: Client | None = None,
    ) -> Any:
        """The coordinator of the group, and again if it may be different later. A client that does
        not know what became of its request goes on with a new connection."""
        coordinated = self.world.coordinated
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(AGAIN_S * attempt)
            try:
                asked = await coordinated.find(group_id, COORDINATES_GROUPS)
                served = _on_connection(asked, serve, -1 if client is None else client.connection)
                exchange = Exchange(
                    self.world.network, None, asked.number, kind, None, served, REQUEST_MS
                )
                return await exchange.result()
            except MinikafkaError as error:
                if not error.retriable:
                    raise
                last = error
                if client is not None and isinstance(error, NetworkError):
                    client.connection = coordinated._connect()
        raise last


def _check(result: OffsetCommitResult) -> None:
    for each in result.partitions:
        if each.error is not None:
            raise each.error


def _on_connection(
    host: Host, serve: Callable[[Service, int], Awaitable[Any]], connection: int
) -> Serve:
    """With the process that runs there now."""
    asked = service_of(host)

    async def served(service: Service) -> Any:
        if service is not asked:
            raise NetworkError("the connection was reset")
        return await serve(service, connection)

    return served
