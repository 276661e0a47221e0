"""Measurements in a process of their own say why they failed."""

from __future__ import annotations

import sys

import pytest

from tango.bench.children import answer_of
from tango.errors import DependencyError


def test_a_child_answers_with_one_object() -> None:
    """By the short way out, which writes what was printed."""
    code = "from tango.bench.children import give; give({'seconds': 1.5})"

    assert answer_of([sys.executable, "-c", code], within_s=60.0) == {"seconds": 1.5}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; print('no such file', file=sys.stderr); sys.exit(3)", "exit status 3; it said: no such file"),
        ("import os; os.abort()", "SIGABRT; it said: nothing"),
        ("import time; time.sleep(60)", "did not end within 2 s"),
    ],
)
def test_a_child_that_fails_is_shown_with_what_it_said(code: str, says: str) -> None:
    """Its exit status or signal, and the end of stderr, which would be lost otherwise."""
    with pytest.raises(DependencyError) as failed:
        answer_of([sys.executable, "-S", "-c", code], within_s=2.0)

    assert says in str(failed.value)
