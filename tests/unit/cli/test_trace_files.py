"""What commands take of a trace, by their options."""

from __future__ import annotations

import click
import pytest

from tango.cli.run import submit
from tango.cli.trace import convert
from tango.cli.trace_files import selection_of
from tango.traces.transforms import TraceSelection


@pytest.mark.parametrize(("command", "line"), [(submit, ["t.csv"]), (convert, ["t.csv", "o.csv"])])
def test_options_that_are_left_out_take_the_whole_trace_as_it_is(command: click.Command, line: list[str]) -> None:
    """Both commands that cut, thin and rescale mean the same by the same options."""
    given = ["--from", "5", "--thin", "0.5", "--be-work-s", "3"]

    nothing = selection_of(command.make_context("x", list(line)).params)
    something = selection_of(command.make_context("x", [*line, *given]).params)

    assert nothing == TraceSelection()
    assert something == TraceSelection(from_s=5.0, share=0.5, be_work_s=3.0)
