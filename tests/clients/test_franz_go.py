from __future__ import annotations

import pytest

from tests.clients.behaviours import Behaviours
from tests.clients.clients import FRANZ_GO
from tests.clients.transactions import TransactionBehaviours

# Go compiles them first.
pytestmark = pytest.mark.timeout(600)


class TestFranzGo(Behaviours):
    client = FRANZ_GO


class TestFranzGoTransactions(TransactionBehaviours):
    client = FRANZ_GO
