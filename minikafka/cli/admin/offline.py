"""Replicas whose log failed or could not be opened: why, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from minikafka.errors import MinikafkaError
from minikafka.escaping import escaped
from minikafka.local.telling import tell

if TYPE_CHECKING:
    from minikafka.api.nodes import NodeStatus
    from minikafka.client import AsyncAdmin
    from minikafka.watching.board import Board


async def read_offline(admin: AsyncAdmin) -> dict[int, tuple[str, ...]]:
    """By live broker, a reason for each, as far as it tells."""
    try:
        reports = await admin.list_nodes()
    except MinikafkaError as error:
        tell(f"which replicas are offline could not be read: {error}")
        return {}
    return {
        report.status.broker_id: _reasons(report.status)
        for report in reports
        if report.live and report.status.partitions_offline
    }


def _reasons(status: NodeStatus) -> tuple[str, ...]:
    more = status.partitions_offline - len(status.offline)
    others = (f"and {more} more: its log says why",) if more > 0 else ()
    return tuple(status.offline) + others


def of_board(offline: Mapping[int, Sequence[str]], board: Board) -> dict[int, list[str]]:
    """What of it names one of the partitions that the board shows."""
    names = [re.compile(rf"(?<![\w.-]){re.escape(str(each))}(?!\d)") for each in board.partitions]
    found = {
        broker_id: [reason for reason in reasons if any(name.search(reason) for name in names)]
        for broker_id, reasons in offline.items()
    }
    return {broker_id: reasons for broker_id, reasons in found.items() if reasons}


def show_offline(board: Board, offline: Mapping[int, Sequence[str]]) -> None:
    for broker_id, reasons in sorted(offline.items()):
        click.echo()
        click.echo(f"offline on {board.name(broker_id)}:")
        for reason in reasons:
            click.echo(f"  {escaped(reason)}")
