"""Options that several commands share, and the readers of what people type into them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from minikafka.errors import UsageError
from minikafka.local.discovery import DEFAULT_DATA_DIR

Function = TypeVar("Function", bound=Callable[..., Any])


def data_dir_option(function: Function) -> Function:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="MINIKAFKA_DATA_DIR",
        default=DEFAULT_DATA_DIR,
        show_default=True,
        show_envvar=True,
        help="The directory of a cluster on this machine.",
    )(function)


def cluster_options(function: Function) -> Function:
    """--bootstrap and --data-dir, in the order in which a cluster is looked for."""
    with_data_dir = data_dir_option(function)
    return click.option(
        "--bootstrap",
        metavar="HOST:PORT,...",
        envvar="MINIKAFKA_BOOTSTRAP",
        show_envvar=True,
        help="Brokers to begin with; without it, those of the data directory's cluster.json.",
    )(with_data_dir)


def format_option(function: Function) -> Function:
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people or for programs (docs/cli.md has the JSON documents).",
    )(function)


def read_settings(texts: Iterable[str], option: str) -> dict[str, str]:
    """The pairs of a repeated `NAME=VALUE` option; a name given twice keeps its last value."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{option} {text!r}: expected NAME=VALUE")
        pairs[name.strip()] = value
    return pairs


def read_topic_name(text: str) -> str:
    """A topic name that can exist at all (Kafka's rule), so that a typing error is told at once.

    Raises UsageError, which names the rule.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) or text in (".", ".."):
        raise UsageError(
            f"{text!r} cannot be the name of a topic: expected 1 to 249 letters, digits, '.', '_' "
            "or '-', and neither '.' nor '..'"
        )
    return text


_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def read_amount(text: str) -> int:
    """`500000`, `500k` or `64Ki`: a whole number above 0. Raises UsageError."""
    parts = re.fullmatch(r"([0-9]{1,15})\s*(|[kmg]i?)b?", text.strip(), re.IGNORECASE)
    if parts is None or int(parts[1]) == 0:
        raise UsageError(f"{text!r} is no amount: expected a number above 0, such as 1000 or 64Ki")
    return int(parts[1]) * _UNITS[parts[2].lower()]


class Amount(click.ParamType[int]):
    """A click type for `read_amount`."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return read_amount(value)
        except UsageError as error:
            self.fail(error.message, param, ctx)
