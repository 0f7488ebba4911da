"""The `minikafka` command: the table of its commands, and nothing that takes time to load."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING

import click

from minikafka import __version__
from minikafka.children import end_with_parent
from minikafka.cli.kit.lazy import LazyCommand, RootGroup

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_HELP = """A Kafka-style replicated log with ZooKeeper-managed in-sync replicas.

`minikafka up` starts a cluster on this machine; the other commands find it by --bootstrap, else
MINIKAFKA_BOOTSTRAP, else the cluster.json that `up` wrote into the data directory (--data-dir, else
MINIKAFKA_DATA_DIR, else .minikafka).

Exit status: 0 done, 1 the operation failed, 2 wrong usage, 3 (of `broker`) a port is taken.
"""

COMMANDS = {
    name: LazyCommand(f"minikafka.cli.{module}", text)
    for name, module, text in (
        ("up", "processes.up", "Start a cluster on this machine and show what happens."),
        ("down", "processes.down", "End the cluster of the data directory."),
        ("restart", "processes.restart", "Start a dead broker again, or restart a live one."),
        (
            "rolling-restart",
            "processes.rolling",
            "Restart every broker, one at a time, while all goes on.",
        ),
        ("kill", "processes.kill", "Send a signal to a broker: kill, end, stop or continue it."),
        ("broker", "processes.broker", "Run one broker in the foreground."),
        ("topics", "admin.topics", "Create, list, describe, alter and delete topics."),
        ("reassign", "admin.reassign", "Move partitions to other brokers, and see how far it is."),
        ("configs", "admin.configs", "Describe and alter the settings of topics and brokers."),
        (
            "produce",
            "records.produce",
            "Write the lines of a file or of standard input as records.",
        ),
        ("consume", "records.consume", "Read records."),
        (
            "groups",
            "admin.groups",
            "List, describe and delete consumer groups, reset their offsets.",
        ),
        (
            "transactions",
            "admin.transactions",
            "List and describe transactions, find those that hang, and abort them.",
        ),
        ("users", "admin.users", "Who may log in by SCRAM: add, list, delete, new passwords."),
        ("acls", "admin.acls", "Who may do what: add, list, remove entries, and explain them."),
        ("status", "admin.status", "The health of the cluster in one line, then its partitions."),
        ("nodes", "admin.nodes", "The brokers with their load, and those that went away."),
        ("dashboard", "looking.dashboard", "Show the cluster on a web page, live."),
        ("top", "top.command", "Who does how much: brokers, topics, groups, live."),
        ("jobs", "admin.jobs", "Have brokers check, compare and move replicas; watch how it goes."),
        ("log", "looking.log", "Look into the files of a log."),
        ("zk", "looking.zk", "Look at what ZooKeeper holds."),
        ("perf", "perf.command", "Make load and measure."),
        ("lab", "looking.lab", "The lecture on ZooKeeper as scenarios to watch."),
        ("demo", "demo.command", "Five brokers, three accidents, and a count of what was lost."),
    )
}


@click.group(
    cls=RootGroup,
    lazy=COMMANDS,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "--version", message="minikafka %(version)s")
@click.option(
    "--command-config",
    metavar="FILE",
    help="Properties that say how to reach a secured cluster: security.protocol=SSL and ssl.*, "
    "under Java's names (else MINIKAFKA_COMMAND_CONFIG).",
)
def cli(command_config: str | None) -> None:
    """See _HELP."""
    if command_config is not None:
        os.environ["MINIKAFKA_COMMAND_CONFIG"] = command_config


class _Patient(io.RawIOBase):
    """Writes until all is taken. A pipe or a terminal may take a part; and one that does not block
    may take nothing for now: somebody else has set it so, or we have, who share it with the
    terminal's input, which `top` watches."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Buffer) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            taken = self._raw.write(view[done:])
            if taken is None:
                select.select([], [self._raw], [])
            else:
                done += taken
        return done


def write_whole() -> None:
    """Let standard output take everything, or wait for it to. Python without a buffer there
    (PYTHONUNBUFFERED, which containers like to set) drops what one write(2) does not take; with
    one it gives up where the descriptor does not block. Text goes line by line if there was none.
    """
    if sys.stdout is None:
        return
    buffer = sys.stdout.buffer
    raw = buffer.raw if isinstance(buffer, io.BufferedWriter) else buffer
    if isinstance(raw, io.RawIOBase):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Patient(raw)),
            encoding=sys.stdout.encoding,
            errors=sys.stdout.errors,
            line_buffering=buffer is raw or bool(sys.stdout.line_buffering),
        )


def main() -> None:
    """The entry point. Does not return: it ends the process with the exit status."""
    end_with_parent()
    write_whole()
    cli(prog_name="minikafka")


if __name__ == "__main__":
    main()
