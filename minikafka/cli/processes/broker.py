"""`minikafka broker`: one broker in the foreground, under Kafka's property names."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from minikafka.cli.kit.options import read_settings
from minikafka.config import BrokerConfig, parse_broker_config, parse_properties, without_effect
from minikafka.errors import UsageError
from minikafka.local.telling import tell


@click.command(
    "broker",
    epilog="Example: minikafka broker --set broker.id=1 --set zookeeper.connect=127.0.0.1:2181 "
    "--set log.dirs=data/broker-1",
)
@click.option(
    "--config",
    "files",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A .properties file, as Kafka's server.properties; a later one overrides an earlier one.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="One property; overrides the files.",
)
def command(files: tuple[Path, ...], settings: tuple[str, ...]) -> None:
    """Run one broker until SIGTERM or Ctrl-C, which end it by a controlled shutdown.

    It prints one line on standard output when it serves, and logs on standard error.
    """
    pairs: dict[str, str] = {}
    for file in files:
        pairs |= read_config_file(file)
    pairs |= read_settings(settings, "--set")
    if not pairs:
        raise UsageError("nothing to run: give --config FILE or --set NAME=VALUE")
    config = parse_broker_config(pairs)
    for sentence in without_effect(BrokerConfig, pairs):
        tell(sentence)
    from minikafka.app.run import run_broker

    sys.exit(run_broker(config))


def read_config_file(file: Path) -> dict[str, str]:
    """The properties of a file. Raises UsageError, with the file's name, if it cannot be read."""
    try:
        return parse_properties(file.read_text(encoding="utf-8"))
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not a text file in UTF-8 ({error.reason})") from error
    except OSError as error:
        raise UsageError(f"--config {file}: {error.strerror}") from error
