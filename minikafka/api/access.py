"""What is asked and told of access control entries and of SCRAM credentials.

A salted password is as good as the password: nothing that prints a request shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minikafka.errors import MinikafkaError
from minikafka.security.acl import EntryFilter
from minikafka.security.authorizer import Rule


@dataclass(frozen=True, slots=True)
class CreateAclsRequest:
    """Each rule has a result, in order. One that is there already is no error."""

    rules: Sequence[Rule]


@dataclass(frozen=True, slots=True)
class DeleteAclsRequest:
    """Each filter has a result, in order."""

    filters: Sequence[EntryFilter]


@dataclass(frozen=True, slots=True)
class DeletedRule:
    """It was found, and is gone unless there is an error."""

    rule: Rule
    error: MinikafkaError | None = None


@dataclass(frozen=True, slots=True)
class AclDeletion:
    """What one filter came to. A rule that several find is with the first of them."""

    error: MinikafkaError | None = None
    deleted: Sequence[DeletedRule] = ()


@dataclass(frozen=True, slots=True)
class ScramUpsertion:
    """As the client made it: the server never hears the password itself."""

    iterations: int
    salt: bytes = field(repr=False)
    salted_password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramAlteration:
    """`mechanism`: its name. `upsertion` None: delete it."""

    user: str
    mechanism: str
    upsertion: ScramUpsertion | None = None


@dataclass(frozen=True, slots=True)
class AlterScramRequest:
    """Each user has one result: all of a user's alterations are carried out, or none."""

    alterations: Sequence[ScramAlteration]


@dataclass(frozen=True, slots=True)
class ScramDescription:
    """What a user has: (mechanism, iterations)."""

    user: str
    error: MinikafkaError | None = None
    credentials: Sequence[tuple[str, int]] = ()


AccessRequest = CreateAclsRequest | DeleteAclsRequest | AlterScramRequest
