"""The bugs that are planted in chaos worlds keep up with the code that they change."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_text_of_a_planted_bug_stands_once_in_its_module(mutation: Mutation) -> None:
    """Else it is planted nowhere, and that nobody finds it says nothing."""
    spec = importlib.util.find_spec(mutation.module)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).read_text().count(mutation.before) == 1


def test_each_kind_has_three_bugs_at_least() -> None:
    """Lifecycle guards, leases, epochs, binding, shipping, order of locks."""
    assert len(counts := Counter(mutation.kind for mutation in MUTATIONS)) >= 6
    assert min(counts.values()) >= 3
