"""The rule of retention: what goes, what stays, in which order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.retention import RetentionRule, StoredRun, doomed, size, span
from tango.domain.runs import ENDED, RunKind, RunStatus

NOW_S = 1_000_000.0


def run(
    run_id: int, *, ended_ago_s: float | None = 0.0, size_bytes: int = 10, status: RunStatus = RunStatus.COMPLETED
) -> StoredRun:
    """A replayed run."""
    return StoredRun(
        run_id=run_id,
        kind=RunKind.REPLAYED,
        name=f"r{run_id}",
        status=status,
        accepted=1,
        ended_at_s=None if ended_ago_s is None else NOW_S - ended_ago_s,
        size_bytes=size_bytes,
    )


def ids(runs: list[StoredRun], rule: RetentionRule) -> list[int]:
    """Of the runs that go."""
    return [one.run.run_id for one in doomed(runs, rule, now_s=NOW_S)]


def test_by_size_the_oldest_go_until_the_rest_fits() -> None:
    """What goes on takes its room too, and stays."""
    runs = [run(1), run(2, status=RunStatus.RUNNING, ended_ago_s=None), run(3), run(4), run(5)]

    assert ids(runs, RetentionRule(keep=0, most_bytes=30)) == [1, 3]
    assert ids(runs, RetentionRule(keep=0, most_bytes=50)) == []
    assert ids(runs, RetentionRule(keep=0, most_bytes=0)) == [1, 3, 4, 5]
    assert ids(runs, RetentionRule(keep=3, most_bytes=0)) == [1]


def test_by_age_and_size_a_run_goes_that_is_beyond_either() -> None:
    """What went for its age makes room."""
    runs = [run(1, ended_ago_s=50.0), run(2, ended_ago_s=5.0), run(3, ended_ago_s=4.0), run(4, ended_ago_s=3.0)]

    found = doomed(runs, RetentionRule(keep=0, older_than_s=20.0, most_bytes=20), now_s=NOW_S)

    assert [(one.run.run_id, one.why) for one in found] == [(1, "ended more than 20 s ago"), (2, "beyond 20 B of runs")]


def test_an_ended_run_without_an_end_counts_as_old() -> None:
    """It was stored by an older Tango."""
    assert ids([run(1, ended_ago_s=None)], RetentionRule(keep=0, older_than_s=20.0)) == [1]


@given(
    runs=st.lists(
        st.builds(
            StoredRun,
            run_id=st.integers(1, 10_000),
            kind=st.sampled_from(RunKind),
            name=st.just("r"),
            status=st.sampled_from(RunStatus),
            accepted=st.just(1),
            ended_at_s=st.floats(0.0, NOW_S),
            size_bytes=st.integers(0, 100),
        ),
        unique_by=lambda one: one.run_id,
        max_size=30,
    ),
    rule=st.builds(
        RetentionRule,
        keep=st.integers(0, 4),
        older_than_s=st.none() | st.floats(0.0, NOW_S),
        most_bytes=st.none() | st.integers(0, 1500),
        kinds=st.lists(st.sampled_from(RunKind), unique=True).map(tuple),
    ),
)
def test_whatever_the_rule_runs_that_go_on_and_the_newest_stay(runs: list[StoredRun], rule: RetentionRule) -> None:
    """And beyond a bound of size nothing is left that might go; below it nothing went for it."""
    going = doomed(runs, rule, now_s=NOW_S)
    gone = {one.run.run_id for one in going}
    staying = [one for one in runs if one.run_id not in gone]

    assert all(one.run.status in ENDED and one.run.kind in rule.kinds for one in going)
    assert [one.run.run_id for one in going] == sorted(gone)
    for kind in rule.kinds:
        newest = sorted((one.run_id for one in runs if one.kind is kind and one.status in ENDED), reverse=True)[: rule.keep]
        assert not gone & set(newest)
    left_to_go = Counter(one.kind for one in staying if one.status in ENDED and one.kind in rule.kinds)
    may_go = any(count > rule.keep for count in left_to_go.values())
    if rule.most_bytes is not None and sum(one.size_bytes for one in staying) > rule.most_bytes:
        assert not may_go
    if rule.older_than_s is None and rule.most_bytes is None:
        assert not may_go


@pytest.mark.parametrize(
    ("seconds", "words"), [(2_592_000, "30 d"), (129_600, "36 h"), (5400, "90 min"), (90, "90 s"), (0.5, "0.5 s")]
)
def test_spans_are_said_in_the_largest_unit_that_fits(seconds: float, words: str) -> None:
    """Without a fraction where there is a way."""
    assert span(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (999, "999 B"), (20 * 10**9, "20 GB"), (1_234_567, "1.23 MB")])
def test_sizes_are_said_in_powers_of_ten(count: int, words: str) -> None:
    """As disks are sold."""
    assert size(count) == words
