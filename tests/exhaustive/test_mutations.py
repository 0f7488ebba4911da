"""With any one rule of the protocol switched off, the search finds what goes wrong."""

from __future__ import annotations

import pytest

from tests.exhaustive.mutations import MUTATIONS
from tests.exhaustive.run import search_mutated

FOUND = [mutation for mutation in MUTATIONS if not mutation.why_not]
REDUNDANT = [mutation for mutation in MUTATIONS if mutation.why_not]


@pytest.mark.parametrize("mutation", FOUND, ids=lambda mutation: mutation.name)
def test_without_one_rule_something_is_violated(mutation):
    found, story = search_mutated(mutation)
    assert found.violation is not None, f"not found: {mutation.rule}"
    assert found.violation.startswith(mutation.breaks)
    assert story[-1].strip() == f"VIOLATED {found.violation}"


@pytest.mark.parametrize("mutation", REDUNDANT, ids=lambda mutation: mutation.name)
def test_without_a_rule_that_another_covers_nothing_is_violated(mutation):
    found, story = search_mutated(mutation)
    assert found.violation is None, "\n".join(story)
    assert found.complete
