"""With any one rule of the protocol switched off, the search finds what goes wrong."""

from __future__ import annotations

import pytest

from tests.exhaustive.mutations import MUTATIONS
from tests.exhaustive.run import search_mutated


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_one_rule_something_is_violated(mutation):
    found, story = search_mutated(mutation)
    assert found.violation is not None, f"not found: {mutation.rule}"
    assert found.violation.startswith(mutation.breaks)
    assert story[-1].strip() == f"VIOLATED {found.violation}"
