"""What `tango run submit` makes of its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from tango.cli.run import order_of, submit
from tango.errors import RequestRejected
from tango.fleets import load_fleet
from tango.traces.reading import read_trace


def test_counted_requests_are_cut_before_they_are_written_out(tmp_path: Path) -> None:
    """A day of the World Cup has millions of requests; a minute of it can be submitted, as it can be converted."""
    path = tmp_path / "wc.csv"
    path.write_text("period,count\n1998-06-20 10:00:00,7\n1998-06-20 10:01:00,999000000\n")
    reading, fleet = read_trace(path), load_fleet("demo")

    first = order_of(reading, fleet, options(["--to", "60", "--seed", "3"]))

    assert len(first.trace) == 7
    assert first.trace.arrival_s[-1] < 60.0
    with pytest.raises(RequestRejected, match=r"999000007 requests in 2 minutes.*--from and --to"):
        order_of(reading, fleet, options([]))


def options(arguments: list[str]) -> dict[str, object]:
    """As click gives them to the command."""
    with submit.make_context("submit", ["a-trace", *arguments]) as context:
        return {name: value for name, value in context.params.items() if name != "trace"}
