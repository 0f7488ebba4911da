from __future__ import annotations

from tests.clients.behaviours import Behaviours
from tests.clients.clients import JAVA
from tests.clients.transactions import TransactionBehaviours


class TestJava(Behaviours):
    client = JAVA


class TestJavaTransactions(TransactionBehaviours):
    client = JAVA
