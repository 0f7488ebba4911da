from __future__ import annotations

from tests.clients.behaviours import Behaviours
from tests.clients.clients import CONFLUENT
from tests.clients.transactions import TransactionBehaviours


class TestConfluent(Behaviours):
    client = CONFLUENT


class TestConfluentTransactions(TransactionBehaviours):
    client = CONFLUENT
