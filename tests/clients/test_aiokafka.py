from __future__ import annotations

from tests.clients.behaviours import Behaviours
from tests.clients.clients import AIOKAFKA
from tests.clients.transactions import TransactionBehaviours


class TestAiokafka(Behaviours):
    client = AIOKAFKA


class TestAiokafkaTransactions(TransactionBehaviours):
    client = AIOKAFKA
