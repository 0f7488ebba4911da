"""`minikafka acls`: add, list, remove, explain. Who may do what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import cluster_options, format_option
from minikafka.cli.kit.output import print_json, print_table, say
from minikafka.errors import ResourceNotFoundError, UsageError
from minikafka.local.discovery import find_cluster

if TYPE_CHECKING:
    from minikafka.security.acl import EntryFilter, Operation, Pattern
    from minikafka.security.authorizer import Rule

Function = TypeVar("Function", bound=Callable[..., Any])


@click.group("acls", cls=SuggestingGroup)
def command() -> None:
    """Who may do what: add, list and remove access control entries, explain what they come to."""


def resource_options(function: Function) -> Function:
    for option in (
        click.option("--transactional-id", "transactional_ids", multiple=True, metavar="ID"),
        click.option("--cluster", is_flag=True, help="On the cluster as a whole."),
        click.option("--group", "groups", multiple=True, metavar="NAME"),
        click.option(
            "--topic",
            "topics",
            multiple=True,
            metavar="NAME",
            help="On this topic; * is all. It may be repeated, as --group and --transactional-id.",
        ),
    ):
        function = option(function)
    return function


def entry_options(function: Function) -> Function:
    for option in (
        click.option("--deny", is_flag=True, help="Deny, whatever else allows it."),
        click.option(
            "--host",
            default="*",
            show_default=True,
            help="From this address, or network (10.0.0.0/8).",
        ),
        click.option("--prefix", is_flag=True, help="On all whose names begin so."),
        resource_options,
        click.argument("operations", metavar="OPERATION,..."),
        click.argument("principal", metavar="PRINCIPAL"),
    ):
        function = option(function)
    return function


@command.command("add")
@entry_options
@cluster_options
def add(bootstrap: str | None, data_dir: Path, **given: Any) -> None:
    """Let PRINCIPAL (User:alice, or User:* for everybody) do this: read,write, all, describe, ...

    minikafka acls add User:alice read,write --topic orders
    """
    rules = _rules(**given)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> None:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            for error in await admin.create_acls(rules):
                if error is not None:
                    raise error

    run(work())
    for rule in rules:
        say(str(rule))


@command.command("remove")
@entry_options
@cluster_options
def remove(bootstrap: str | None, data_dir: Path, **given: Any) -> None:
    """Take back what `add` with the same words has made."""
    rules = _rules(**given)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[Rule]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            results = await admin.delete_acls([_filter_of(rule) for rule in rules])
        deleted = []
        for result in results:
            for each in result.deleted:
                if each.error is not None:
                    raise each.error
                deleted.append(each.rule)
            if result.error is not None:
                raise result.error
        if not deleted:
            raise ResourceNotFoundError(
                "no such entry: `minikafka acls list` shows those there are"
            )
        return deleted

    for rule in run(work()):
        say(f"removed: {rule}")


@command.command("list")
@click.option("--principal", help="Only those about this principal.")
@resource_options
@cluster_options
@format_option
def list_acls(
    principal: str | None,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
    **resources: Any,
) -> None:
    """List the entries, of some resources or of all: those that count for a name, too."""
    filters = _filters(principal, **resources)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> list[Rule]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            found = [rule for each in filters for rule in await admin.describe_acls(each)]
        return sorted(dict.fromkeys(found))

    rules = run(work())
    if output_format == "json":
        print_json([_document(rule) for rule in rules])
        return
    columns = ("resource", "name", "pattern", "principal", "permission", "operation", "host")
    print_table(columns, [list(_document(rule).values()) for rule in rules])


@command.command("explain")
@click.argument("principal", metavar="PRINCIPAL")
@click.argument("operation", metavar="OPERATION")
@resource_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the client is.")
@cluster_options
def explain(
    principal: str,
    operation: str,
    host: str,
    bootstrap: str | None,
    data_dir: Path,
    **resources: Any,
) -> None:
    """Say whether PRINCIPAL may do this, which entry decides, and which ones nearly would.

    Super users may do everything, and are in the brokers' configuration: nothing is known of them
    here. Exit status 0 if it is allowed, 1 if not.
    """
    from minikafka.cli.kit.aio import run
    from minikafka.security.authorizer import Authorizer
    from minikafka.security.principal import Caller

    caller = Caller(_principal(principal), _host(host), "")
    [wanted] = _operations(operation)
    patterns = _patterns(prefix=False, **resources)
    cluster = find_cluster(bootstrap, data_dir)

    async def work() -> Sequence[Rule]:
        from minikafka.cli.kit.connection import open_admin

        async with open_admin(cluster) as admin:
            return await admin.describe_acls()

    entries: dict[Pattern, list[Any]] = {}
    for rule in run(work()):
        entries.setdefault(rule.pattern, []).append(rule.entry)
    authorizer = Authorizer()
    authorizer.replace(entries)
    allowed = True
    for pattern in patterns:
        verdict = authorizer.decide(caller, wanted, pattern.type, pattern.name)
        allowed = allowed and verdict.allowed
        word = "yes" if verdict.allowed else "no"
        say(f"{word}: {verdict.reason}")
        if not verdict.allowed:
            for miss in authorizer.near_misses(caller, wanted, pattern.type, pattern.name):
                say(f"    nearly: {miss}")
    if not allowed:
        raise SystemExit(1)


# --- what people type ----------------------------------------------------------------------------


def _rules(
    principal: str, operations: str, host: str, *, deny: bool, prefix: bool, **resources: Any
) -> list[Rule]:
    from minikafka.security.acl import Entry, Permission, check_entry
    from minikafka.security.authorizer import Rule

    permission = Permission.DENY if deny else Permission.ALLOW
    who = _principal(principal)
    rules = [
        Rule(pattern, Entry(who, host, operation, permission))
        for pattern in _patterns(prefix=prefix, **resources)
        for operation in _operations(operations)
    ]
    for rule in rules:
        try:
            check_entry(*rule)
        except ValueError as problem:
            raise UsageError(str(problem)) from None
    return rules


def _principal(text: str) -> Any:
    from minikafka.security.principal import parse_principal

    try:
        return parse_principal(text)
    except ValueError as problem:
        raise UsageError(str(problem)) from None


def _host(text: str) -> str:
    from minikafka.security.principal import plain_address

    try:
        return str(plain_address(text))
    except ValueError:
        raise UsageError(f"--host {text}: expected an address, such as 10.1.2.3") from None


def _operations(text: str) -> list[Operation]:
    from minikafka.security.acl import Operation

    by_word = {each.word.lower(): each for each in Operation}
    found = []
    for part in text.split(","):
        word = part.strip().lower().replace("_", "").replace("-", "")
        if word not in by_word:
            words = ", ".join(sorted(by_word))
            raise UsageError(f"'{part.strip()[:64]}' is no operation: expected some of {words}")
        found.append(by_word[word])
    return found


def _patterns(
    topics: Sequence[str],
    groups: Sequence[str],
    transactional_ids: Sequence[str],
    *,
    cluster: bool,
    prefix: bool,
) -> list[Pattern]:
    from minikafka.security.acl import CLUSTER_NAME, Pattern, PatternType, ResourceType

    kind = PatternType.PREFIXED if prefix else PatternType.LITERAL
    found = [
        Pattern(type, name, kind)
        for type, names in (
            (ResourceType.TOPIC, topics),
            (ResourceType.GROUP, groups),
            (ResourceType.TRANSACTIONAL_ID, transactional_ids),
        )
        for name in names
    ]
    if cluster:
        if prefix:
            raise UsageError("--cluster and --prefix: there is one cluster, and it has one name")
        found.append(Pattern(ResourceType.CLUSTER, CLUSTER_NAME))
    if not found:
        raise UsageError("on what? Give --topic, --group, --transactional-id or --cluster")
    return found


def _filters(principal: str | None, **resources: Any) -> list[EntryFilter]:
    from minikafka.security.acl import EntryFilter, PatternFilter

    who = None if principal is None else _principal(principal)
    if not any(resources.values()):
        return [EntryFilter(principal=who)]
    return [
        EntryFilter(each.type, each.name, PatternFilter.MATCH, principal=who)
        for each in _patterns(prefix=False, **resources)
    ]


def _filter_of(rule: Rule) -> EntryFilter:
    from minikafka.security.acl import EntryFilter, PatternFilter

    pattern, entry = rule
    return EntryFilter(
        pattern.type,
        pattern.name,
        PatternFilter(pattern.kind.value),
        entry.principal,
        entry.host,
        entry.operation,
        entry.permission,
    )


def _document(rule: Rule) -> dict[str, str]:
    pattern, entry = rule
    return {
        "resource": pattern.type.word,
        "name": pattern.name,
        "pattern": pattern.kind.word,
        "principal": str(entry.principal),
        "permission": entry.permission.word,
        "operation": entry.operation.word,
        "host": entry.host,
    }
