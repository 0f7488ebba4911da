"""`minikafka users`: add, passwd, list, delete. Of SCRAM: who may log in, and by which mechanism.

A password is asked for, or comes from a file or from standard input: on the command line everybody
could see it. What goes to the brokers is made of it here; they never hear it.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import cluster_options, format_option
from minikafka.cli.kit.output import print_json, print_table, say
from minikafka.errors import DuplicateResourceError, ResourceNotFoundError, UsageError
from minikafka.local.discovery import find_cluster

if TYPE_CHECKING:
    from minikafka.api.access import ScramAlteration, ScramDescription

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_MAX_PASSWORD_BYTES = 4_096
_GENERATED_BYTES = 24

Function = TypeVar("Function", bound=Callable[..., Any])


@click.group("users", cls=SuggestingGroup)
def command() -> None:
    """Who may log in by SCRAM: add, list and delete users, give them passwords."""


def password_options(function: Function) -> Function:
    for option in (
        click.option("--generate", is_flag=True, help="Make a password, and print it."),
        click.option("--password-stdin", is_flag=True, help="Read it from standard input."),
        click.option(
            "--password-file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Read it from the first line of this file.",
        ),
        click.option(
            "--iterations",
            type=click.IntRange(4_096, 16_384),
            default=4_096,
            show_default=True,
            help="How much work it is to try a password.",
        ),
        mechanism_option,
    ):
        function = option(function)
    return function


def mechanism_option(function: Function) -> Function:
    return click.option(
        "--mechanism",
        "mechanisms",
        multiple=True,
        type=click.Choice(MECHANISMS, case_sensitive=False),
        help="Of this mechanism; may be repeated. Of both without it.",
    )(function)


@command.command("add")
@click.argument("user", metavar="NAME")
@password_options
@cluster_options
def add(
    user: str,
    mechanisms: tuple[str, ...],
    bootstrap: str | None,
    data_dir: Path,
    **of_password: Any,
) -> None:
    """Add the user NAME, who is not there yet."""
    _set(user, mechanisms, bootstrap, data_dir, of_password, there=False)
    say(f"user {user} is there")


@command.command("passwd")
@click.argument("user", metavar="NAME")
@password_options
@cluster_options
def passwd(
    user: str,
    mechanisms: tuple[str, ...],
    bootstrap: str | None,
    data_dir: Path,
    **of_password: Any,
) -> None:
    """Give the user NAME another password. Who is logged in stays so."""
    _set(user, mechanisms, bootstrap, data_dir, of_password, there=True)
    say(f"user {user} has another password")


@command.command("list")
@cluster_options
@format_option
def list_users(bootstrap: str | None, data_dir: Path, output_format: str) -> None:
    """List the users with their mechanisms."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> Sequence[ScramDescription]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            return await admin.describe_scram()

    found = run(work())
    if output_format == "json":
        print_json(
            [
                {
                    "user": each.user,
                    "mechanisms": [
                        {"mechanism": name, "iterations": count} for name, count in each.credentials
                    ],
                    "error": None if each.error is None else str(each.error),
                }
                for each in found
            ]
        )
        return
    rows = [[each.user, _mechanisms_shown(each)] for each in found]
    print_table(("user", "mechanisms"), rows)


@command.command("delete")
@click.argument("user", metavar="NAME")
@mechanism_option
@cluster_options
def delete(user: str, mechanisms: tuple[str, ...], bootstrap: str | None, data_dir: Path) -> None:
    """Delete the user NAME, or one mechanism of theirs."""
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> None:
        from minikafka.api.access import ScramAlteration
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            [described] = await admin.describe_scram([user])
            if described.error is not None:
                raise described.error
            wanted = mechanisms or [name for name, _ in described.credentials]
            alterations = [ScramAlteration(user, name) for name in wanted]
            await _alter(admin, alterations)

    run(work())
    say(f"user {user} is deleted" if not mechanisms else f"user {user}: deleted")


def _mechanisms_shown(user: ScramDescription) -> str:
    if user.error is not None:
        return str(user.error)
    return ", ".join(f"{name} ({count} iterations)" for name, count in user.credentials)


def _set(
    user: str,
    mechanisms: Sequence[str],
    bootstrap: str | None,
    data_dir: Path,
    of_password: dict[str, Any],
    *,
    there: bool,
) -> None:
    """`there`: whether the user is to be there before."""
    cluster = find_cluster(bootstrap, data_dir)
    iterations = of_password.pop("iterations")
    password = _password(**of_password)
    alterations = [
        _alteration(user, each, password, iterations) for each in mechanisms or MECHANISMS
    ]
    from minikafka.cli.kit.aio import run

    async def work() -> None:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            [described] = await admin.describe_scram([user])
            absent = isinstance(described.error, ResourceNotFoundError)
            if described.error is not None and not absent:
                raise described.error
            if there and absent:
                raise ResourceNotFoundError(f"there is no user {user}: `users add` adds one")
            if not there and not absent:
                raise DuplicateResourceError(
                    f"user {user} is there already: `users passwd` gives another password"
                )
            await _alter(admin, alterations)

    run(work())


async def _alter(admin: Any, alterations: Sequence[ScramAlteration]) -> None:
    for error in (await admin.alter_scram(alterations)).values():
        if error is not None:
            raise error


def _alteration(user: str, mechanism: str, password: str, iterations: int) -> ScramAlteration:
    from minikafka.api.access import ScramAlteration, ScramUpsertion
    from minikafka.security.scram import HASHES, SALT_BYTES

    salt = secrets.token_bytes(SALT_BYTES)
    salted = HASHES[mechanism].salted(password, salt, iterations)
    return ScramAlteration(user, mechanism, ScramUpsertion(iterations, salt, salted))


def _password(*, password_file: Path | None, password_stdin: bool, generate: bool) -> str:
    if (password_file is not None) + password_stdin + generate > 1:
        raise UsageError("--password-file, --password-stdin and --generate: give one of them")
    if generate:
        made = secrets.token_urlsafe(_GENERATED_BYTES)
        click.echo(made)
        return made
    if password_file is not None:
        try:
            text = password_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as failure:
            raise UsageError(f"--password-file {password_file}: {failure}") from None
    elif password_stdin:
        text = sys.stdin.read(_MAX_PASSWORD_BYTES + 2)
    elif sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        raise UsageError(
            "no password: give --password-file, --password-stdin or --generate, or use a terminal"
        )
    password = text.split("\n", 1)[0].rstrip("\r")
    if not password or len(password.encode()) > _MAX_PASSWORD_BYTES:
        raise UsageError(f"a password has 1 to {_MAX_PASSWORD_BYTES} bytes")
    return password
