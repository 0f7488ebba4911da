"""PLAIN (RFC 4616, KIP-43): a name and a password, as they are. For a connection that is encrypted.

[authzid] NUL user NUL password
"""

from __future__ import annotations

from collections.abc import Mapping

from minikafka.security.mechanism import Authenticated, Failed, Step
from minikafka.security.principal import USER, Principal
from minikafka.security.secret import Secret

NAME = "PLAIN"
MAX_TOKEN_BYTES = 1_024
_TOLD = "Authentication failed: Invalid username or password"
_NOBODYS = Secret("")


class PlainServer:
    """One exchange, of one message. `users`: passwords by name."""

    def __init__(self, users: Mapping[str, Secret]) -> None:
        self._users = users
        self._over = False

    def step(self, token: bytes) -> Step:
        over, self._over = self._over, True
        if over:
            return Failed(_TOLD, "the exchange is over")
        try:
            parts = token.decode().split("\0")
        except UnicodeDecodeError:
            return Failed(_TOLD, "the message is not UTF-8")
        if len(parts) != 3:
            return Failed(_TOLD, "the message is not authzid, user and password")
        authzid, user, password = parts
        if not user or not password:
            return Failed(_TOLD, "the user or the password is empty")
        # Compared whether or not there is such a user, so that it takes as long.
        right = Secret(password) == self._users.get(user, _NOBODYS)
        if not right:
            known = "wrong password of" if user in self._users else "there is no user"
            return Failed(_TOLD, f"{known} '{user}'")
        if authzid not in ("", user):
            return Failed(_TOLD, f"'{user}' asks to act for another")
        return Authenticated(Principal(USER, user))
