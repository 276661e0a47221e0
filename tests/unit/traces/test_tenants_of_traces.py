"""The column `tenant` of Tango's own traces: read, kept through changes and mapping, written where it says something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tango.domain.runs import NewRequests
from tango.domain.trace import Trace
from tango.errors import BadRows
from tango.fleets import load_fleet
from tango.traces import read_trace, write_trace
from tango.traces.mapping import map_trace
from tango.traces.transforms import cut, forget
from tango.traces.workloads import Workload, draw_requests, trace_of

DEMO = load_fleet("demo")
ROWS = "arrival_s,class,tenant\n0,be,blue\n1,lc,\n2,be,red\n3,be,\n4,be,blue\n"


def written(folder: Path, text: str = ROWS, name: str = "t.csv") -> Path:
    """A file of this text."""
    path = folder / name
    path.write_text(text)
    return path


def whose(requests: NewRequests | Trace) -> list[str]:
    """The tenant of each request, in order."""
    column = np.zeros(len(requests), np.int32) if requests.tenant is None else requests.tenant
    return [requests.tenants[k] for k in column.tolist()]


def test_each_request_has_the_tenant_that_its_row_names(tmp_path: Path) -> None:
    """Or the default one; parts of a trace may name different ones, and need not have the column."""
    parts = [
        written(tmp_path),
        written(tmp_path, "arrival_s,class,tenant\n0.5,be,green\n2.5,be,red\n", "u.csv"),
        written(tmp_path, "arrival_s,class\n3.5,be\n", "v.csv"),
    ]

    trace = read_trace(parts).trace

    assert trace.named_tenants == ("blue", "green", "red")
    assert whose(map_trace(trace, DEMO, seed=1)) == ["blue", "green", "default", "red", "red", "default", "default", "blue"]


def test_a_workload_keeps_whose_requests_are(tmp_path: Path) -> None:
    """As recorded; redrawn, each copy of a request is its tenant's, of two sources too."""
    path = written(tmp_path)
    other = written(tmp_path, "arrival_s,class,tenant\n0,lc,green\n4,lc,green\n", "lc.csv")
    files = (str(path),)

    recorded = draw_requests(Workload(lc=files, be=files, duration_s=4.1, resample=False), DEMO, 1)
    drawn = draw_requests(Workload(lc=(str(other),), be=files, duration_s=100.0), DEMO, 1)

    assert whose(recorded) == ["blue", "default", "red", "default", "blue"]
    is_be = drawn.service_class == 1
    assert {name for name, be in zip(whose(drawn), is_be, strict=True) if be} == {"blue", "red", "default"}
    assert {name for name, be in zip(whose(drawn), is_be, strict=True) if not be} == {"green"}


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_a_trace_with_tenants_is_written_and_read_again(tmp_path: Path, ending: str) -> None:
    """Cut on the way; what `trace_of` makes of requests too."""
    trace = cut(read_trace(written(tmp_path)).trace, 1.0)
    write_trace(trace, tmp_path / f"again{ending}")
    drawn = trace_of(map_trace(trace, DEMO, seed=1), "drawn")
    write_trace(drawn, tmp_path / f"drawn{ending}")

    assert whose(read_trace(tmp_path / f"again{ending}").trace) == ["", "red", "", "blue"]
    assert whose(read_trace(tmp_path / f"drawn{ending}").trace) == ["default", "red", "default", "blue"]


def test_a_trace_that_names_no_tenant_is_written_without_the_column(tmp_path: Path) -> None:
    """So that its bytes are those of before there was one; names can be dropped."""
    forgotten = forget(read_trace(written(tmp_path)).trace, tenants=True)
    write_trace(forgotten, tmp_path / "forgotten.csv")
    none = read_trace(written(tmp_path, "arrival_s,class,tenant\n0,be,\n1,be,\n", "none.csv")).trace
    write_trace(none, tmp_path / "none-again.csv")

    for name in ("forgotten.csv", "none-again.csv"):
        assert (tmp_path / name).read_text().splitlines()[0] == "arrival_s,class,service,cluster,cpu_work_s,memory_mib"
    assert map_trace(none, DEMO, seed=1).tenant is None


def test_what_is_no_name_of_a_tenant_is_refused_by_line(tmp_path: Path) -> None:
    """As every bad value is."""
    with pytest.raises(BadRows) as caught:
        read_trace(written(tmp_path, "arrival_s,class,tenant\n0,be,blue\n1,be,Team Blue\n"))

    (bad,) = caught.value.rows
    assert (bad.line, bad.column, bad.found) == (3, "tenant", "Team Blue")
    assert bad.expected == "a name of at most 63 of a-z, 0-9 and `-`, with a letter or digit first and last, or nothing"
