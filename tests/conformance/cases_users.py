"""SCRAM credentials, and what is wrong with them. (Without an authorizer everybody may alter them;
access control entries are among the cases of configurations.)"""

from __future__ import annotations

from typing import Any

from minikafka.kafka.apis import ApiKey
from tests.conformance.exchange import Case

SALT = b"0123456789abcdef"
SALTED = {1: bytes(range(32)), 2: bytes(range(64))}  # of a password that nobody has


def _described(name: str, *users: str, everybody: bool = False) -> Case:
    asked = None if everybody else [{"name": user} for user in users]
    return Case(name, ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, {"users": asked})


def _altered(
    name: str, *upsertions: dict[str, Any], deletions: tuple[tuple[str, int], ...] = ()
) -> Case:
    return Case(
        name,
        ApiKey.ALTER_USER_SCRAM_CREDENTIALS,
        {
            "deletions": [{"name": user, "mechanism": kind} for user, kind in deletions],
            "upsertions": list(upsertions),
        },
    )


def _set(user: str, kind: int = 1, iterations: int = 4096) -> dict[str, Any]:
    return {
        "name": user,
        "mechanism": kind,
        "iterations": iterations,
        "salt": SALT,
        "salted_password": SALTED.get(kind, SALTED[1]),
    }


def _until_known(user: str, count: int, when: str = "then") -> Case:
    """The broker that is asked may hear a moment later of what it was told."""
    return Case(
        f"{user} has so many credentials {when}: {count}",
        ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS,
        {"users": [{"name": user}]},
        until=lambda answer: len(answer["results"][0]["credential_infos"]) == count,
    )


CASES = [
    _described("nobody has any", everybody=True),
    _described("of none who is named nobody has any"),
    _described("a user that is not there", "nobody"),
    _described("a user without a name", ""),
    _described("a user who is named twice", "nobody", "nobody"),
    _altered("nothing"),
    _altered("one", _set("plain")),
    _until_known("plain", 1),
    _altered("another mechanism", _set("plain", 2, 16384)),
    _until_known("plain", 2),
    _altered("a name with everything", _set("CN=a b,O=*+/%~ä")),
    _until_known("CN=a b,O=*+/%~ä", 1),
    _described("everybody", everybody=True),
    _described("some, and some who are not there", "plain", "nobody"),
    _altered("too few iterations", _set("few", 1, 4095)),
    _altered("too few iterations of the other", _set("few", 2, 4095)),
    _altered("too many iterations", _set("many", 1, 16385)),
    _altered("as many as there are numbers", _set("many", 1, 2**31 - 1)),
    _altered("fewer than none", _set("few", 1, -1)),
    _altered("no mechanism", _set("strange", 0)),
    _altered("an unknown mechanism", _set("strange", 3)),
    _altered("without a name", _set("")),
    _altered("the same twice", _set("twice"), _set("twice")),
    _altered("set and taken away", _set("twice"), deletions=(("twice", 1),)),
    _altered("taken away from nobody", deletions=(("nobody", 1),)),
    _altered("taken away without a name", deletions=(("", 1),)),
    _altered("an unknown mechanism taken away", deletions=(("plain", 9),)),
    _altered("one right and one wrong thing of a user", _set("half"), deletions=(("half", 2),)),
    _described("who had one wrong thing has nothing", "half"),
    _altered("the other is left", deletions=(("plain", 1),)),
    _until_known("plain", 1, "in the end"),
    _altered("the last", deletions=(("plain", 2), ("CN=a b,O=*+/%~ä", 1))),
    _described("everybody is gone", everybody=True),
]
