from __future__ import annotations

from tests.clients.behaviours import Behaviours
from tests.clients.clients import KAFKAJS
from tests.clients.transactions import TransactionBehaviours


class TestKafkaJS(Behaviours):
    client = KAFKAJS


class TestKafkaJSTransactions(TransactionBehaviours):
    client = KAFKAJS
