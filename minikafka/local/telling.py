"""Remarks for the person at the terminal."""

from __future__ import annotations

import click

from minikafka.escaping import escaped_lines


def tell(message: str) -> None:
    """A remark for the person, on standard error, so that it never mixes with data."""
    click.echo(escaped_lines(message), err=True)
