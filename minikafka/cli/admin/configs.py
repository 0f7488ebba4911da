"""`minikafka configs`: the settings of topics and brokers, and altering them while brokers run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from minikafka.cli.kit.config_table import config_document, print_configs
from minikafka.cli.kit.lazy import SuggestingGroup
from minikafka.cli.kit.options import (
    cluster_options,
    format_option,
    read_settings,
    read_topic_name,
)
from minikafka.cli.kit.output import print_json, say
from minikafka.config import (
    BrokerConfig,
    TopicConfig,
    require_declared,
    validate_broker_overrides,
    validate_topic_overrides,
    without_effect,
)
from minikafka.config.overrides import ConfigSource
from minikafka.errors import InvalidConfigError, UsageError
from minikafka.local.discovery import Bootstrap, find_cluster
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.client import AsyncAdmin
    from minikafka.config.overrides import ConfigDescription

Function = TypeVar("Function", bound=Callable[..., Any])


@click.group("configs", cls=SuggestingGroup)
def command() -> None:
    """Describe and alter the settings of topics and brokers.

    What is altered takes effect at once, without a restart. A topic's own setting comes before that
    of the broker, this before that for all brokers, this before what a broker was started with.
    """


class Resource(NamedTuple):
    """Whose settings: of a topic, of a broker by id or name, or (neither) of all brokers."""

    topic: str | None
    broker: str | None

    @property
    def own_source(self) -> ConfigSource:
        """The source of what is altered for this resource itself."""
        if self.topic is not None:
            return ConfigSource.TOPIC
        if self.broker is not None:
            return ConfigSource.DYNAMIC_BROKER
        return ConfigSource.DYNAMIC_DEFAULT_BROKER

    def __str__(self) -> str:
        if self.topic is not None:
            return f"topic {self.topic}"
        return "all brokers" if self.broker is None else f"broker {self.broker}"


def resource_options(function: Function) -> Function:
    """Whose settings; exactly one of them."""
    for_all = click.option(
        "--broker-default", is_flag=True, help="What all brokers have that do not differ."
    )(function)
    for_broker = click.option("--broker", metavar="ID", help="A broker, by number or name.")(
        for_all
    )
    return click.option("--topic", metavar="TOPIC", help="A topic.")(for_broker)


def read_resource(topic: str | None, broker: str | None, broker_default: bool) -> Resource:
    if [topic is not None, broker is not None, broker_default].count(True) != 1:
        raise UsageError("whose settings? Give one of --topic, --broker and --broker-default")
    if topic is not None:
        read_topic_name(topic)
    return Resource(topic, broker)


@command.command("describe")
@resource_options
@click.option("--all", "everything", is_flag=True, help="Every property, not only altered ones.")
@cluster_options
@format_option
def describe(
    topic: str | None,
    broker: str | None,
    broker_default: bool,
    everything: bool,
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Show what has been altered, or with --all every property and where its value comes from."""
    resource = read_resource(topic, broker, broker_default)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    run(_describe(cluster, resource, everything, output_format == "json"))


@command.command("alter")
@resource_options
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a property.")
@click.option(
    "--delete", "deleted", multiple=True, metavar="NAME", help="Back to what would hold otherwise."
)
@cluster_options
@format_option
def alter(
    topic: str | None,
    broker: str | None,
    broker_default: bool,
    settings: tuple[str, ...],
    deleted: tuple[str, ...],
    bootstrap: str | None,
    data_dir: Path,
    output_format: str,
) -> None:
    """Change settings of a topic, a broker, or all brokers, without a restart."""
    resource = read_resource(topic, broker, broker_default)
    changes = _read_changes(resource, settings, deleted)
    cluster = find_cluster(bootstrap, data_dir)
    from minikafka.cli.kit.aio import run

    async def work() -> None:
        from minikafka.cli.kit.connection import open_admin, require_topics

        async with open_admin(cluster) as admin:
            if resource.topic is not None:
                await require_topics(admin, [resource.topic])
                await admin.alter_topic_config(resource.topic, changes)
            else:
                await admin.alter_broker_config(await _broker_id(admin, resource), changes)

    run(work())
    if output_format == "json":
        run(_describe(cluster, resource, False, True))
    else:
        say(f"{resource} altered")


def _read_changes(
    resource: Resource, settings: Sequence[str], deleted: Sequence[str]
) -> Mapping[str, str | None]:
    """Checked here, so that a misspelt one is wrong usage."""
    wanted = read_settings(settings, "--set")
    if not wanted and not deleted:
        raise UsageError("nothing to alter: give --set NAME=VALUE or --delete NAME")
    both = sorted(wanted.keys() & set(deleted))
    if both:
        raise UsageError(f"{both[0]} is both set and deleted: give one of the two")
    of_topic = resource.topic is not None
    validate = validate_topic_overrides if of_topic else validate_broker_overrides
    try:
        validate(wanted)
    except InvalidConfigError as error:
        raise UsageError(f"--set: {error}") from error
    for sentence in without_effect(TopicConfig if of_topic else BrokerConfig, wanted):
        tell(sentence)
    try:
        require_declared(TopicConfig if of_topic else BrokerConfig, deleted)
    except InvalidConfigError as error:
        raise UsageError(f"--delete: {error}") from error
    return {**wanted, **dict.fromkeys(deleted)}


async def _broker_id(admin: AsyncAdmin, resource: Resource) -> int | None:
    """The number of the broker, which may be called by its name."""
    if resource.broker is None or resource.broker.isdecimal():
        return None if resource.broker is None else int(resource.broker)
    brokers = (await admin.metadata([])).brokers
    for each in brokers:
        if each.name.lower() == resource.broker.lower():
            return each.broker_id
    known = ", ".join(f"{each.name} ({each.broker_id})" for each in brokers)
    raise UsageError(f"there is no live broker {resource.broker!r}: there are {known}")


async def _describe(
    cluster: Bootstrap, resource: Resource, everything: bool, as_json: bool
) -> None:
    from minikafka.cli.kit.connection import open_admin, require_topics

    found: Sequence[ConfigDescription]
    async with open_admin(cluster) as admin:
        if resource.topic is not None:
            await require_topics(admin, [resource.topic])
            found = await admin.describe_configs(resource.topic)
        else:
            found = await admin.describe_broker_configs(await _broker_id(admin, resource))
    shown = [each for each in found if everything or each.source == resource.own_source]
    if as_json:
        print_json([config_document(each) for each in shown])
        return
    hint = "; --all shows every property" if resource.topic or resource.broker else ""
    if not shown:
        tell(f"{resource}: nothing is altered{hint}")
        return
    print_configs(shown)
