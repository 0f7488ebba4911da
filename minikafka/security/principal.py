"""Who calls: a name that was proved, or ANONYMOUS, and where the connection comes from."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

USER = "User"
MAX_NAME_CHARACTERS = 1024

Address = IPv4Address | IPv6Address


class Principal(NamedTuple):
    """As Kafka writes it: `User:alice`. The only type that anybody can prove to be is User."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type}:{self.name}"


ANONYMOUS = Principal(USER, "ANONYMOUS")
EVERYBODY = Principal(USER, "*")  # in an access control entry only


def parse_principal(text: str) -> Principal:
    """ValueError if it is not `Type:name`. A name may hold colons (`User:CN=a:b`)."""
    kind, colon, name = text.partition(":")
    if not colon or not kind or not name:
        raise ValueError(f"'{text}' is no principal: it is Type:name, such as User:alice")
    if len(text) > MAX_NAME_CHARACTERS:
        raise ValueError(f"a principal has at most {MAX_NAME_CHARACTERS} characters")
    return Principal(kind, name)


def plain_address(text: str) -> Address:
    """An address; one of IPv4 that came through an IPv6 socket is the IPv4 address that it is.
    ValueError if it is none."""
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose requests these are. `host` is the client's address, in its plain form (see
    `plain_address`); empty where there is none, as for a broker's own work. `by_token` tells that
    the name was proved by a delegation token, which may not make further ones."""

    principal: Principal
    host: str
    listener: str
    by_token: bool = False
