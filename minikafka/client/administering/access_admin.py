"""Administration of access: the part of AsyncAdmin about entries and SCRAM's users. No state of its
own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from minikafka.api.access import (
    AclDeletion,
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    ScramAlteration,
    ScramDescription,
)
from minikafka.api.requests import ControllerRequest, ControllerResponse
from minikafka.client.channel import Channel
from minikafka.client.metadata import Cluster
from minikafka.errors import MinikafkaError
from minikafka.security.acl import EntryFilter
from minikafka.security.authorizer import Rule


class AccessAdmin:
    """What it needs of the rest of the admin stands first."""

    _cluster: Cluster
    _timeout_ms: float

    @abstractmethod
    async def _administer(
        self, request: ControllerRequest, first: str | None = None
    ) -> ControllerResponse: ...

    async def describe_acls(self, asked: EntryFilter | None = None) -> Sequence[Rule]:
        """The entries that a filter finds, or all, in order. SecurityDisabledError without an
        authorizer."""

        async def ask(channel: Channel) -> Sequence[Rule]:
            return await channel.describe_acls(asked or EntryFilter())

        return await self._cluster.call_any(ask, self._timeout_ms / 1000)

    async def create_acls(self, rules: Sequence[Rule]) -> list[MinikafkaError | None]:
        """One result for each, in order. One that is there already is no error."""
        response = await self._administer(CreateAclsRequest(rules))
        return [result.error for result in response.results]

    async def delete_acls(self, filters: Sequence[EntryFilter]) -> Sequence[AclDeletion]:
        """What each filter came to, in order."""
        return (await self._administer(DeleteAclsRequest(filters))).acl_deletions

    async def describe_scram(self, users: Sequence[str] = ()) -> Sequence[ScramDescription]:
        """Who has which credentials: of these users, or of all who have any."""

        async def ask(channel: Channel) -> Sequence[ScramDescription]:
            return await channel.describe_scram(users)

        return await self._cluster.call_any(ask, self._timeout_ms / 1000)

    async def alter_scram(
        self, alterations: Sequence[ScramAlteration]
    ) -> dict[str, MinikafkaError | None]:
        """By user: all that is altered of one is carried out, or nothing."""
        response = await self._administer(AlterScramRequest(alterations))
        return {result.name: result.error for result in response.results}
