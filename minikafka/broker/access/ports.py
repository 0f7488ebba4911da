"""What a broker needs of whoever keeps access control entries and SCRAM credentials.

A node is what was read at some moment; `mzxid` orders what was read of one node, and is 0 where
there was none. `notify` is called once when something may have changed, not if the connection
breaks before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from minikafka.api.outcomes import WriteOutcome
from minikafka.security.acl import Entry, Pattern
from minikafka.security.scram import Credential

Notify = Callable[[], None]
Entries = frozenset[Entry]


@dataclass(frozen=True, slots=True)
class AclNode:
    """What stands on a pattern. `entries` None: something that cannot be read, so that nobody knows
    whom it denies."""

    pattern: Pattern
    entries: Entries | None
    mzxid: int = 0


@dataclass(frozen=True, slots=True)
class UserNode:
    """A user's credentials by the names of mechanisms. `unreadable`: mechanisms for which there is
    something that is no credential; `readable` is false if that holds for all of the node."""

    user: str
    credentials: Mapping[str, Credential]
    mzxid: int = 0
    unreadable: Sequence[str] = ()
    readable: bool = True

    @property
    def wrong(self) -> bool:
        """Is anything there that cannot be read?"""
        return bool(self.unreadable) or not self.readable


class AclStore(Protocol):
    """Raises SessionLostError as the ClusterStore does."""

    async def read_all(self, notify: Notify) -> Sequence[AclNode]:
        """All that there are."""

    async def read_changed(self, notify: Notify) -> Sequence[AclNode] | None:
        """What was announced since the last read; None: nobody can tell, read all."""

    async def patterns(self) -> Sequence[Pattern]:
        """Those on which something stands."""

    async def alter(self, pattern: Pattern, change: Callable[[Entries], Entries]) -> WriteOutcome:
        """Fenced, over the version that was read, and announced. `change` is pure: it is called
        again where another has written meanwhile. WRITTEN (also if nothing had to be) or DEPOSED;
        UnreadableNodeError, InvalidRequestError if it cannot be kept."""


class UserStore(Protocol):
    """Raises SessionLostError as the ClusterStore does."""

    async def read_all(self, notify: Notify) -> Sequence[UserNode]:
        """All users for whom anything is kept."""

    async def read_changed(self, notify: Notify) -> Sequence[UserNode] | None:
        """As AclStore.read_changed."""

    async def read(self, users: Sequence[str] | None) -> Sequence[UserNode]:
        """Of these, in order, or of all; nothing is watched."""

    async def alter(
        self, user: str, change: Callable[[Collection[str]], Mapping[str, Credential | None]]
    ) -> WriteOutcome:
        """`change` is told for which mechanisms there is something, and says what each is to have
        (None: nothing); it may raise MinikafkaError. What else is kept of the user stays. Fenced
        and announced, as AclStore.alter."""

    async def decoy_key(self) -> bytes:
        """The cluster's, made by whoever asks first."""
