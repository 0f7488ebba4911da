from __future__ import annotations

import pytest

from tests.clients.behaviours import Behaviours
from tests.clients.clients import SARAMA, SARAMA_OLD
from tests.clients.transactions import TransactionBehaviours

# Go compiles them first.
pytestmark = pytest.mark.timeout(600)


class TestSarama(Behaviours):
    client = SARAMA


class TestSaramaBefore1_45_1(Behaviours):
    client = SARAMA_OLD


class TestSaramaTransactions(TransactionBehaviours):
    client = SARAMA


class TestSaramaTransactionsBefore1_45_1(TransactionBehaviours):
    client = SARAMA_OLD
