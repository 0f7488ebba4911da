from __future__ import annotations

from tests.clients.behaviours import Behaviours
from tests.clients.clients import KAFKA_PYTHON


class TestKafkaPython(Behaviours):
    client = KAFKA_PYTHON
