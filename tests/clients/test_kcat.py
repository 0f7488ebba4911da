from __future__ import annotations

from tests.clients.behaviours import Behaviours
from tests.clients.clients import KCAT


class TestKcat(Behaviours):
    client = KCAT
