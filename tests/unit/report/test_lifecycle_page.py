"""The page on the life of a request is what the table prints."""

from __future__ import annotations

from pathlib import Path

from tango.domain.lifecycle import TRANSITIONS
from tango.report.lifecycle_page import lifecycle_page

PAGE = Path(__file__).parents[3] / "docs" / "lifecycle.md"


def test_the_page_is_printed_from_the_table() -> None:
    """After a change of the table: `python -m tango.report.lifecycle_page > docs/lifecycle.md`."""
    assert PAGE.read_text(encoding="utf-8") == lifecycle_page()


def test_every_row_of_the_table_has_its_line() -> None:
    """With the event's name in the first cell."""
    lines = [line for line in lifecycle_page().splitlines() if line.startswith("| `")]

    assert [line.split("`")[1] for line in lines] == [str(t.event) for t in TRANSITIONS]
