"""Access control: who a connection is, what an ACL grants, which ACLs may be stored.

Schemes: `world` (everybody), `ip` (the peer's address, optionally with prefix length), `digest`
(`user:base64(sha1(user:password))`, proved by sending `user:password`), and `auth`, which is never
stored: it stands for whatever identities the creator has proved.

Invariant: a stored ACL is not empty, has no duplicates and names no `auth` entry.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from minikafka.zookeeper.embedded.model import PERM_ADMIN, Acl, AuthId


def authenticate(scheme: str, credential: bytes) -> AuthId | None:
    """The identity that a credential proves, or None if the scheme is unknown or it proves none."""
    if scheme != "digest":
        return None
    try:
        user = credential.decode("utf-8").split(":", 1)[0]
    except UnicodeDecodeError:
        return None
    digest = hashlib.sha1(credential, usedforsecurity=False).digest()
    return AuthId("digest", f"{user}:{base64.b64encode(digest).decode('ascii')}")


def grants(acl: tuple[Acl, ...], wanted: int, identities: Iterable[AuthId]) -> bool:
    """Whether any entry of `acl` gives one of the `wanted` permission bits to any identity."""
    for entry in acl:
        if not entry.perms & wanted:
            continue
        if entry.scheme == "world":
            return True
        for identity in identities:
            if identity.scheme == entry.scheme and _matches(identity, entry.id):
                return True
    return False


def normalize(requested: tuple[Acl, ...], identities: Iterable[AuthId]) -> tuple[Acl, ...] | None:
    """The ACL to store for a requested one, or None if it is not valid.

    Removes duplicates and replaces `auth` by every proved identity of the requester (an address is
    not a proof).
    """
    stored: dict[Acl, None] = {}
    for entry in requested:
        if entry.scheme == "auth":
            proved = [identity for identity in identities if identity.scheme == "digest"]
            if not proved:
                return None
            for identity in proved:
                stored[Acl(entry.perms, identity.scheme, identity.id)] = None
        elif _is_valid(entry):
            stored[entry] = None
        else:
            return None
    return tuple(stored) or None


def visible(acl: tuple[Acl, ...], identities: tuple[AuthId, ...]) -> tuple[Acl, ...]:
    """What getACL shows: password digests only to those who may administer the znode."""
    if grants(acl, PERM_ADMIN, identities):
        return acl
    return tuple(
        Acl(entry.perms, entry.scheme, entry.id.split(":", 1)[0] + ":x")
        if entry.scheme == "digest"
        else entry
        for entry in acl
    )


def _is_valid(entry: Acl) -> bool:
    if entry.scheme == "world":
        return entry.id == "anyone"
    if entry.scheme == "digest":
        return entry.id.count(":") == 1
    return entry.scheme == "ip" and _network(entry.id) is not None


def _matches(identity: AuthId, entry_id: str) -> bool:
    if identity.scheme != "ip":
        return identity.id == entry_id
    parsed, wanted = _network(identity.id), _network(entry_id)
    if parsed is None or wanted is None:
        return False
    (address, width, _), (base, base_width, prefix) = parsed, wanted
    return width == base_width and (address ^ base) >> (width - prefix) == 0


def _network(text: str) -> tuple[int, int, int] | None:
    """An `address[/prefix]` as (address, width in bits, prefix length), or None if malformed."""
    from ipaddress import ip_address  # only ACLs by address need it: keep it out of the start

    host, slash, bits = text.partition("/")
    try:
        address = ip_address(host)
        prefix = int(bits) if slash else address.max_prefixlen
    except ValueError:
        return None
    if not 0 <= prefix <= address.max_prefixlen:
        return None
    return int(address), address.max_prefixlen, prefix
