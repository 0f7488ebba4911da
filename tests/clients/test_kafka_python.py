from __future__ import annotations

from tests.clients.behaviours import Behaviours
from tests.clients.clients import KAFKA_PYTHON
from tests.clients.transactions import TransactionBehaviours


class TestKafkaPython(Behaviours):
    client = KAFKA_PYTHON


class TestKafkaPythonTransactions(TransactionBehaviours):
    client = KAFKA_PYTHON
