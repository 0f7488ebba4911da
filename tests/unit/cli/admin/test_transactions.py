"""cli/admin/transactions.py: what is refused, what is chosen, and how transactions are shown."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from minikafka.api.transactions import ActiveProducer, TransactionDescription
from minikafka.cli.admin.transactions import (
    _transaction_row,
    choose,
    producer_document,
    transaction_document,
)
from minikafka.cli.main import cli
from minikafka.client.administering.transaction_admin import OpenTransaction
from minikafka.errors import InvalidProducerIdMappingError, InvalidTxnStateError
from minikafka.model import TopicPartition

TP = TopicPartition("t", 0)
FIRST = OpenTransaction(TP, ActiveProducer(7, 3, 11, 1_000, 0, 5))
SECOND = OpenTransaction(TP, ActiveProducer(8, 0, 0, 1_000, -1, 9), owner="orders")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["t", "--producer-id", "7"], "TOPIC:PARTITION with one partition"),
        (["t:0,1", "--producer-id", "7"], "TOPIC:PARTITION with one partition"),
        (["t:0"], "either --producer-id or --start-offset"),
        (["t:0", "--producer-id", "7", "--start-offset", "5"], "either --producer-id"),
    ],
)
def test_an_abort_that_is_not_clear_is_wrong_usage(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(cli, ["transactions", "abort", *arguments], prog_name="minikafka")
    assert done.exit_code == 2, done.output
    assert words in done.output


def test_a_state_that_there_is_not_is_wrong_usage() -> None:
    done = CliRunner().invoke(cli, ["transactions", "list", "--state", "Odd"])
    assert done.exit_code == 2
    assert "completeabort" in done.output.lower()


def test_the_one_to_be_aborted_is_chosen_by_producer_or_by_offset() -> None:
    assert choose([FIRST, SECOND], 7, None, force=False) is FIRST
    assert choose([FIRST, SECOND], None, 5, force=False) is FIRST
    with pytest.raises(InvalidProducerIdMappingError, match="producer 9 has no transaction open"):
        choose([FIRST, SECOND], 9, None, force=True)
    with pytest.raises(InvalidProducerIdMappingError, match="since offset 6"):
        choose([FIRST, SECOND], None, 6, force=True)


def test_what_its_coordinator_will_end_is_aborted_by_force_only() -> None:
    with pytest.raises(InvalidTxnStateError, match=r"'orders'.*--force"):
        choose([FIRST, SECOND], 8, None, force=False)
    assert choose([FIRST, SECOND], None, 9, force=True) is SECOND


def test_producers_are_documents() -> None:
    assert producer_document(TP, SECOND.producer) == {
        "topic": "t",
        "partition": 0,
        "producer_id": 8,
        "producer_epoch": 0,
        "last_sequence": 0,
        "coordinator_epoch": None,
        "last_written_ms": 1_000,
        "open_since_offset": 9,
    }


def test_transactions_are_documents_and_rows() -> None:
    found = TransactionDescription("orders", None, "Empty", 60_000, -1, 7, 3, ())
    document = transaction_document(found)
    assert document == {
        "transactional_id": "orders",
        "producer_id": 7,
        "producer_epoch": 3,
        "state": "Empty",
        "timeout_ms": 60_000,
        "started_ms": None,
        "partitions": [],
    }
    assert _transaction_row(document) == ["orders", 7, 3, "Empty", 60_000, "-", "-"]
    open_one = TransactionDescription(
        "orders", None, "Ongoing", 60_000, 0, 7, 3, (TP, TopicPartition("t", 1))
    )
    row = _transaction_row(transaction_document(open_one))
    assert row[-1] == "t-0,t-1"
    assert "s ago" in str(row[-2])
