"""The controller's writes of who may do what, and of who proves to be whom.

Whoever asked was judged at the door; here it is judged whether what was asked makes sense, and then
written under the controller's fence, over what is there. Nothing that a term knows depends on it,
so none of it waits in the term's queue.

State: none but a turn. One request is carried out at a time, a bounded number waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from minikafka.api.access import (
    AccessRequest,
    AclDeletion,
    AlterScramRequest,
    CreateAclsRequest,
    DeleteAclsRequest,
    DeletedRule,
    ScramAlteration,
    ScramUpsertion,
)
from minikafka.api.outcomes import WriteOutcome
from minikafka.api.requests import ControllerResponse, NamedResult
from minikafka.broker.access.ports import AclStore, Entries, UserStore
from minikafka.broker.ports import SessionLostError
from minikafka.errors import (
    DuplicateResourceError,
    InvalidRequestError,
    MinikafkaError,
    NotControllerError,
    RequestTimedOutError,
    ResourceNotFoundError,
    UnacceptableCredentialError,
    UnsupportedSaslMechanismError,
)
from minikafka.escaping import escaped
from minikafka.security.acl import Entry, EntryFilter, Pattern, check_entry
from minikafka.security.authorizer import Rule
from minikafka.security.principal import MAX_NAME_CHARACTERS
from minikafka.security.scram import (
    HASHES,
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    Credential,
    Hash,
    credential_of,
)
from minikafka.turns import in_slices

log = logging.getLogger("minikafka.authorizer")

MAX_WAITING = 100
MAX_SALT_BYTES = 1_024
_SHOWN = 256


class AccessWriter:
    """See the module."""

    def __init__(self, acls: AclStore, users: UserStore) -> None:
        self._acls = acls
        self._users = users
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def carry_out(self, request: AccessRequest) -> ControllerResponse:
        """The answer. NotControllerError if this is no longer the controller and nothing has been
        written; RequestTimedOutError if too many wait."""
        if self._waiting >= MAX_WAITING:
            raise RequestTimedOutError(
                f"{self._waiting} changes of users and entries wait already: try later"
            )
        self._waiting += 1
        try:
            async with self._turn:
                return await self._carry_out(request)
        finally:
            self._waiting -= 1

    async def _carry_out(self, request: AccessRequest) -> ControllerResponse:
        match request:
            case CreateAclsRequest(rules):
                return ControllerResponse(await self._create(rules))
            case DeleteAclsRequest(filters):
                return ControllerResponse(acl_deletions=await self._delete(filters))
            case AlterScramRequest(alterations):
                return ControllerResponse(await self._alter_users(alterations))

    # --- entries ---------------------------------------------------------------------------------

    async def _create(self, rules: Sequence[Rule]) -> list[NamedResult]:
        errors: dict[int, MinikafkaError] = {}
        places: dict[Pattern, list[int]] = {}
        for place, rule in enumerate(rules):
            try:
                check_entry(*rule)
            except ValueError as error:
                errors[place] = InvalidRequestError(str(error))
            else:
                places.setdefault(rule.pattern, []).append(place)
        done = False
        for pattern, those in places.items():
            entries = frozenset(rules[place].entry for place in those)
            failure = await self._add(pattern, entries)
            if isinstance(failure, NotControllerError) and not done:
                raise failure
            done = True
            if failure is not None:
                errors |= dict.fromkeys(those, failure)
        return [NamedResult(str(rule), errors.get(place)) for place, rule in enumerate(rules)]

    async def _add(self, pattern: Pattern, entries: Entries) -> MinikafkaError | None:
        try:
            _require_written(await self._acls.alter(pattern, lambda before: before | entries))
        except (SessionLostError, MinikafkaError) as error:
            return _told(error)
        _note("created", pattern, entries)
        return None

    async def _delete(self, filters: Sequence[EntryFilter]) -> list[AclDeletion]:
        try:
            patterns = await self._acls.patterns()
        except SessionLostError as error:
            raise _told(error) from error
        found: list[list[DeletedRule]] = [[] for _ in filters]
        failures: dict[int, MinikafkaError] = {}
        done = False
        async for pattern in in_slices(patterns):
            matching = [
                (place, each) for place, each in enumerate(filters) if each.matches_pattern(pattern)
            ]
            if not matching:
                continue
            taken, failure = await self._take(pattern, matching)
            if isinstance(failure, NotControllerError) and not done:
                raise failure
            done = done or bool(taken)
            for entry, place in sorted(taken.items()):
                found[place].append(DeletedRule(Rule(pattern, entry), failure))
            if failure is not None and not taken:  # nobody knows what would have been found
                failures |= dict.fromkeys((place for place, _ in matching), failure)
        return [AclDeletion(failures.get(place), deleted) for place, deleted in enumerate(found)]

    async def _take(
        self, pattern: Pattern, filters: Sequence[tuple[int, EntryFilter]]
    ) -> tuple[dict[Entry, int], MinikafkaError | None]:
        """What was found on the pattern, with the place of the first filter that found it."""
        taken: dict[Entry, int] = {}

        def change(before: Entries) -> Entries:
            taken.clear()
            for entry in before:
                for place, each in filters:
                    if each.matches(pattern, entry):
                        taken[entry] = place
                        break
            return before.difference(taken)

        try:
            _require_written(await self._acls.alter(pattern, change))
        except (SessionLostError, MinikafkaError) as error:
            return taken, _told(error)
        if taken:
            _note("deleted", pattern, taken)
        return taken, None

    # --- users -----------------------------------------------------------------------------------

    async def _alter_users(self, alterations: Sequence[ScramAlteration]) -> list[NamedResult]:
        of_user: dict[str, list[ScramAlteration]] = {}
        for alteration in alterations:
            of_user.setdefault(alteration.user, []).append(alteration)
        results: list[NamedResult] = []
        done = False
        for user, some in of_user.items():
            failure = await self._alter_user(user, some)
            if isinstance(failure, NotControllerError) and not done:
                raise failure
            done = done or failure is None
            results.append(NamedResult(user, failure))
        return results

    async def _alter_user(
        self, user: str, alterations: Sequence[ScramAlteration]
    ) -> MinikafkaError | None:
        try:
            wanted = judge(user, alterations)

            def change(there: Collection[str]) -> Mapping[str, Credential | None]:
                for mechanism, credential in wanted.items():
                    if credential is None and mechanism not in there:
                        raise ResourceNotFoundError(
                            f"the user has no credential for {mechanism} to be deleted"
                        )
                return wanted

            _require_written(await self._users.alter(user, change))
        except (SessionLostError, MinikafkaError) as error:
            return _told(error)
        for mechanism, credential in wanted.items():
            verb = "deleted" if credential is None else "set"
            log.info("%s the %s credential of %s", verb, mechanism, escaped(user)[:_SHOWN])
        return None


def judge(user: str, alterations: Sequence[ScramAlteration]) -> dict[str, Credential | None]:
    """What a user is to have, by mechanism. Raises what is wrong with the alterations."""
    if not user:
        raise UnacceptableCredentialError("the name of a user is empty")
    if user in (".", "..") or len(user) > MAX_NAME_CHARACTERS:
        raise UnacceptableCredentialError(
            f"no user can be called so: a name has at most {MAX_NAME_CHARACTERS} characters, and "
            "is neither . nor .."
        )
    for alteration in alterations:
        if alteration.mechanism not in HASHES:
            raise UnsupportedSaslMechanismError(
                f"there are credentials for {' and '.join(HASHES)} only"
            )
    wanted: dict[str, Credential | None] = {}
    for alteration in alterations:
        mechanism, upsertion = alteration.mechanism, alteration.upsertion
        if mechanism in wanted:
            raise DuplicateResourceError(f"{mechanism} of one user is in the request twice")
        wanted[mechanism] = None if upsertion is None else _credential(HASHES[mechanism], upsertion)
    return wanted


def _credential(kind: Hash, made: ScramUpsertion) -> Credential:
    if not MIN_ITERATIONS <= made.iterations <= MAX_ITERATIONS:
        raise UnacceptableCredentialError(
            f"{made.iterations} iterations: {MIN_ITERATIONS} to {MAX_ITERATIONS} are accepted"
        )
    if not 0 < len(made.salt) <= MAX_SALT_BYTES:
        raise UnacceptableCredentialError(
            f"a salt of {len(made.salt)} bytes: 1 to {MAX_SALT_BYTES} are accepted"
        )
    if len(made.salted_password) != kind.size_bytes:
        raise UnacceptableCredentialError(
            f"a salted password of {len(made.salted_password)} bytes: with {kind.name} it has "
            f"{kind.size_bytes}"
        )
    return credential_of(kind, made.salted_password, made.salt, made.iterations)


def _require_written(outcome: WriteOutcome) -> None:
    if outcome is not WriteOutcome.WRITTEN:
        raise NotControllerError("this broker is no longer the controller")


def _told(error: SessionLostError | MinikafkaError) -> MinikafkaError:
    """Out of touch, this broker will not be the controller for long."""
    if isinstance(error, SessionLostError):
        return NotControllerError(f"the controller has lost ZooKeeper: {error}")
    return error.with_traceback(None)


def _note(verb: str, pattern: Pattern, entries: Collection[Entry]) -> None:
    for entry in sorted(entries):
        log.info("%s: %s", verb, escaped(str(Rule(pattern, entry)))[:_SHOWN])
