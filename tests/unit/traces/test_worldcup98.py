from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.errors import BadRows, RequestRejected, UsageError
from tango.traces import info_of, read_trace
from tango.traces.rate_curve import MAX_EXPANDED, RateCurve
from tango.traces.transforms import select
from tests.long import example_count

ROWS = [("21:30", 2), ("21:31", 0), ("21:32", 5), ("21:35", 3)]


def _file(tmp_path: Path, rows: list[tuple[str, object]] = ROWS, name: str = "wc.csv.gz") -> Path:
    content = "period,count\n" + "".join(f"1998-04-30 {time}:00,{count}\n" for time, count in rows)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path


def _curve(*counts: int) -> RateCurve:
    return RateCurve(begin_s=np.arange(len(counts)) * 60.0, count=np.array(counts, np.int64), source="wc.csv")


def test_counts_become_lc_requests_in_their_minutes(tmp_path: Path) -> None:
    """Known by its header; seconds count from the first minute, a missing minute is empty, works and names stay open."""
    reading = read_trace(_file(tmp_path))
    trace = reading.trace

    assert (reading.format, reading.rows) == ("worldcup98", 4)
    assert np.bincount((trace.arrival_s // 60).astype(int)).tolist() == [2, 0, 5, 0, 0, 3]
    assert not trace.service_class.any()
    assert np.isnan(trace.cpu_work_s).all()
    assert (trace.services, trace.clusters) == (("",), ("",))


def test_info_counts_without_expanding(tmp_path: Path) -> None:
    """575 million requests are a sum; to write them out is refused with what can be done."""
    reading = read_trace(_file(tmp_path, [("21:30", 300_000_000), ("21:40", 274_934_701)]))
    info = info_of(reading)

    assert (info.requests, info.lc, info.be, info.span_s) == (574_934_701, 574_934_701, 0, 660.0)
    with pytest.raises(RequestRejected, match=r"574934701 requests in 2 minutes, expected at most 20000000 .*--from .*--thin"):
        _ = reading.trace


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any), st.integers(0, 2**32))
def test_each_minute_gets_its_count_and_a_seed_its_times(counts: list[int], seed: int) -> None:
    """Given the counts nothing but the times within a minute is drawn; equal seeds give equal times."""
    curve = _curve(*counts)
    one, again, other = (curve.expanded(seed=s).arrival_s for s in (seed, seed, seed + 1))

    assert np.bincount((one // 60).astype(int), minlength=len(counts)).tolist() == counts
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_times_within_a_minute_are_uniform() -> None:
    """The gaps of a Poisson process given its count: exponential, coefficient of variation 1; the mean is half a minute."""
    times = _curve(200_000).expanded(seed=1).arrival_s
    gaps = np.diff(times)

    # Standard errors over 200,000: 0.04 s of the mean, about 0.4 % of the coefficient.
    assert times.mean() == pytest.approx(30.0, abs=0.2)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.02)


def test_a_cut_comes_before_the_expansion() -> None:
    """A trace of a billion requests gives the seconds that are asked for, to the second."""
    curve = _curve(500, 400, 1_000_000_000)
    part = select(curve, from_s=30.0, to_s=90.0, seed=3)

    # 500 of a minute's half and 400 of another's: 450 expected, standard deviation 15.
    assert abs(len(part) - 450) < 75
    assert part.arrival_s[0] >= 0
    assert part.arrival_s[-1] < 60
    with pytest.raises(RequestRejected, match=r"no request arrives from 500 to 600 s; the trace runs from 0 to 180 s"):
        select(curve, from_s=500.0, to_s=600.0)
    with pytest.raises(UsageError, match="expected 0 <= from < to"):
        select(curve, from_s=50.0, to_s=40.0)


def test_thinning_comes_before_the_expansion() -> None:
    """A hundredth of 100 million requests is a million, by binomial counts; nothing left and shares above 1 are refused."""
    curve = _curve(60_000_000, 40_000_000)
    assert len(curve) > MAX_EXPANDED
    part = select(curve, share=0.01, seed=3)

    # Five standard deviations of the two counts.
    counts = np.bincount((part.arrival_s // 60).astype(int))
    assert counts == pytest.approx([600_000, 400_000], abs=3900)
    with pytest.raises(RequestRejected, match="thinning 3 requests to 1e-06 left none"):
        select(_curve(3), share=1e-6)
    with pytest.raises(UsageError, match="a share above 0 and at most 1"):
        select(_curve(3), share=1.5)


@pytest.mark.parametrize(
    ("row", "column", "found", "expected"),
    [
        (("21:31:30", 4), "period", "1998-04-30 21:31:30:00", "on the minute"),
        (("21:30", 4), "period", "1998-04-30 21:30:00", "a time after that of an earlier row"),
        (("21:31", -4), "count", "-4", "a whole number from 0"),
        (("21:31", 1.5), "count", "1.5", "a whole number from 0"),
        (("21:31", ""), "count", "nothing", "a whole number from 0"),
    ],
)
def test_bad_counts_are_refused_by_line(tmp_path: Path, row: tuple, column: str, found: str, expected: str) -> None:
    """A minute twice would count its requests twice; a period that is no minute belongs to another trace."""
    with pytest.raises(BadRows) as caught:
        read_trace(_file(tmp_path, [ROWS[0], row, *ROWS[2:]]))

    refused = caught.value.rows[0]
    assert (refused.line, refused.column, refused.found) == (3, column, found)
    assert expected in refused.expected


def test_a_period_between_minutes_is_refused(tmp_path: Path) -> None:
    """Also where it is a good time."""
    path = tmp_path / "wc.csv"
    path.write_text("period,count\n1998-04-30 21:30:00,2\n1998-04-30 21:31:30,4\n")

    with pytest.raises(BadRows, match=r"wc\.csv:3: column period found 1998-04-30 21:31:30, expected a time .* on the minute"):
        read_trace(path)


def test_parts_are_one_curve_and_their_counts_add_up(tmp_path: Path) -> None:
    """Logs of two servers may hold the same minutes; the order of parts does not matter."""
    one = _file(tmp_path, [("21:30", 2), ("21:31", 1)], "a.csv")
    two = _file(tmp_path, [("21:31", 4), ("21:32", 1)], "b.csv")
    curves = [read_trace(parts).content for parts in ([one, two], [two, one])]

    for curve in curves:
        assert isinstance(curve, RateCurve)
        assert curve.count.tolist() == [2, 5, 1]
        assert curve.begin_s.tolist() == [0.0, 60.0, 120.0]


def test_a_file_without_any_request_is_refused(tmp_path: Path) -> None:
    """Counts of zero alone are no trace."""
    with pytest.raises(BadRows, match="found no arrival in 1 good rows"):
        read_trace(_file(tmp_path, [("21:30", 0)]))


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.floats(0, 1300))
@settings(max_examples=example_count(50))
def test_the_cumulative_function_counts_what_came_before(counts: list[int], at_s: float) -> None:
    """Whole minutes in full and the current one in proportion."""
    curve = _curve(*counts)
    whole = min(int(at_s // 60), len(counts))
    part = (at_s / 60 - whole) * counts[whole] if whole < len(counts) else 0.0

    assert np.interp(at_s, *curve.cumulative()) == pytest.approx(sum(counts[:whole]) + part, abs=1e-6)
