"""A workload of which only the sources are named: the commands and the Python API fill in the rest alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tango.domain.pattern_defaults import DEFAULT_DURATION_S, DEFAULT_LOAD
from tango.errors import UsageError
from tango.traces.workload_defaults import workload_of

ROWS = "arrival_s,class,service,cluster,cpu_work_s,memory_mib\n0.0,lc,,,,\n2.5,lc,,,,\n"


def test_a_pattern_has_the_usual_load_and_length_and_gives_both_classes() -> None:
    """Since it has none of its own."""
    found = workload_of(("p3",))

    assert (found.lc, found.be, found.load, found.duration_s) == (("p3",), ("p3",), DEFAULT_LOAD, DEFAULT_DURATION_S)


def test_a_file_lasts_as_it_is_recorded_and_gives_the_classes_that_it_has(tmp_path: Path) -> None:
    """Its last arrival included, at its own load, from where it is begun."""
    file = tmp_path / "t.csv"
    file.write_text(ROWS)

    found = workload_of((str(file),), from_s=0.5, resample=False)

    assert (found.lc, found.be, found.load, found.resample) == ((str(file),), (), None, False)
    assert 2.0 < found.duration_s < 2.001
    with pytest.raises(UsageError, match=r"the trace spans 2\.5 s, expected more than from_s \(--from\) 3"):
        workload_of((str(file),), from_s=3.0)
