"""With any one rule of the protocol switched off, the search finds what goes wrong."""

from __future__ import annotations

import pytest

from tests.exhaustive.explore import Limits
from tests.exhaustive.mutations import MUTATIONS, applied
from tests.exhaustive.run import search


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_one_rule_something_is_violated(mutation):
    with applied(mutation.patches):
        found, story = search(mutation.bounds, Limits(seconds=60), mutation.start)
    assert found.violation is not None, f"not found: {mutation.rule}"
    assert found.violation.startswith(mutation.breaks)
    assert story[-1].strip() == f"VIOLATED {found.violation}"
