from __future__ import annotations

import pytest

from tests.clients.behaviours import Behaviours
from tests.clients.clients import FRANZ_GO

# Go compiles them first.
pytestmark = pytest.mark.timeout(600)


class TestFranzGo(Behaviours):
    client = FRANZ_GO
