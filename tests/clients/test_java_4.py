"""The Java client of Apache Kafka 4, for what is new in it: the second version of the protocol of
transactions, where a cluster tells that it has it."""

from __future__ import annotations

import pytest

from tests.clients.clients import JAVA_4
from tests.clients.transactions import TransactionBehaviours

# Its jars are fetched first.
pytestmark = pytest.mark.timeout(600)


class TestJava4Transactions(TransactionBehaviours):
    client = JAVA_4
