"""A click group that imports a command's module only when that command runs.

The table of a `LazyGroup` (name -> module and one line of help) is all that `--help` needs, so
that nothing heavy is loaded to print it. A module named in a table has one `click.Command` named
`command`. A name that is not in the table gets the near ones suggested.

`RootGroup` is where errors become exit statuses: UsageError 2, of these PortTakenError 3 (by which
`up` knows that a broker lost a race for a port), any other MinikafkaError 1, an interrupt 130, a
reader of standard output that went away 0 (as `head` makes of `yes`).
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from minikafka.errors import PORT_TAKEN, MinikafkaError, PortTakenError, UsageError
from minikafka.escaping import escaped_lines

INTERRUPTED = 130


class LazyCommand(NamedTuple):
    """Where a command is, and what `--help` of its group says of it."""

    module: str
    help: str


class Failed(click.ClickException):
    """An error on its way to standard error, with the exit status that goes with it."""

    exit_code = 1


class WrongUsage(Failed):
    """The same for what a person has to say differently."""

    exit_code = 2


class PortIsTaken(WrongUsage):
    """The same where somebody else listens already."""

    exit_code = PORT_TAKEN


class SuggestingGroup(click.Group):
    """A group that answers a mistyped command with the ones that are spelt like it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise click.UsageError(f"no such command: {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """See the module's docstring. Commands are listed in the order of the table."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._lazy.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(entry.module).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self._lazy.items()])


def drop_standard_output() -> None:
    """Nobody reads it any more: give what Python flushes at exit somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class RootGroup(LazyGroup):
    """The `minikafka` command itself."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            drop_standard_output()
            ctx.exit(0)
        except PortTakenError as error:
            raise PortIsTaken(escaped_lines(error.message)) from error
        except UsageError as error:
            raise WrongUsage(escaped_lines(error.message)) from error
        except MinikafkaError as error:
            raise Failed(escaped_lines(error.message)) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except OSError as error:
            if error.filename is None:
                raise
            raise Failed(escaped_lines(f"{error.filename}: {error.strerror}")) from error
        return value
