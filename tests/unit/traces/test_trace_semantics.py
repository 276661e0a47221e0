from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import RequestRejected, UsageError
from tango.traces import TraceInfo, info_of, read_trace, write_trace
from tango.traces.own_format import encoded
from tango.traces.transforms import BE_CLIP, TraceSelection, cut, forget, rescale_work, thin, with_mean
from tests.long import example_count

AFTER = 2**63 - 1


def _google(tmp_path: Path, rows: list[tuple], name: str = "task_events.csv.gz") -> Path:
    """Rows of (time us, job, task, event, class, cpu, memory)."""
    lines = [f"{t},,{job},{task},,{event},u=,{cls},0,{cpu},{mem},0.001,0" for t, job, task, event, cls, cpu, mem in rows]
    path = tmp_path / name
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


SECOND = 1_000_000
LIVES = [
    (0, 1, 0, 0, 2, 0.5, 0.5),  # state before the trace
    (600 * SECOND, 7, 0, 0, 0, 0.25, 0.5),  # first submission
    (601 * SECOND, 7, 0, 1, 0, 0.25, 0.5),
    (605 * SECOND, 7, 0, 2, 0, 0.25, 0.5),  # evicted after 4 s
    (606 * SECOND, 7, 0, 0, 0, 0.25, 0.5),  # resubmitted: an attempt, not a request
    (610 * SECOND, 7, 0, 1, 0, 0.25, 0.5),
    (611 * SECOND, 7, 1, 0, 3, 0.125, 0.25),  # LC
    (612 * SECOND, 8, 0, 0, 1, 0.5, ""),  # scheduled, still running at the end
    (620 * SECOND, 7, 0, 4, 0, 0.25, 0.5),  # finished after 10 s
    (622 * SECOND, 8, 0, 1, 1, 0.5, ""),
    (623 * SECOND, 9, 0, 0, 2, 0.5, 0.5),  # never scheduled
    (630 * SECOND, 7, 1, 1, 3, 0.125, 0.25),
    (AFTER, 10, 0, 0, 0, 0.5, 0.5),  # after the trace
]


def test_google_2011_tasks_become_requests_by_the_stated_rules(tmp_path: Path) -> None:
    """Time 0 and 2^63-1 are no arrivals, attempts count once, classes 2-3 are LC, lives end or are censored by the window."""
    reading = read_trace(_google(tmp_path, LIVES))
    trace = reading.trace

    assert reading.format == "google2011"
    assert info_of(reading) == TraceInfo(requests=4, lc=2, be=2, span_s=23.0, bad_rows=0, services=0, clusters=0)
    assert trace.arrival_s.tolist() == [600.0, 611.0, 612.0, 623.0]
    assert trace.service_class.tolist() == [1, 0, 1, 0]
    # 10 s x 0.25 x 16 cores; 8 s (censored at 630 s) x 0.5 x 16 cores; LC works are not lives.
    np.testing.assert_allclose(trace.cpu_work_s, [40.0, np.nan, 64.0, np.nan])
    np.testing.assert_allclose(trace.memory_mib, [16384.0, 8192.0, np.nan, 16384.0])
    assert [trace.clusters[c] for c in trace.cluster] == ["~7", "~7", "~8", "~9"]


def test_google_parts_are_one_trace_whatever_their_order(tmp_path: Path) -> None:
    """A task submitted in one part and resubmitted in the next is one request; globs and plain files work."""
    _google(tmp_path, LIVES[:5], "part-0.csv.gz")
    _google(tmp_path, LIVES[5:], "part-1.csv")
    whole = read_trace(_google(tmp_path, LIVES, "whole.csv")).trace

    parts = read_trace(str(tmp_path / "part-*")).trace
    turned = read_trace([tmp_path / "part-1.csv", tmp_path / "part-0.csv.gz"]).trace

    for trace in (parts, turned):
        np.testing.assert_array_equal(trace.arrival_s, whole.arrival_s)
        np.testing.assert_array_equal(trace.cpu_work_s, whole.cpu_work_s)


def test_google_2019_reads_csv_json_lines_and_parquet_alike(tmp_path: Path) -> None:
    """The three forms of one table give one trace; alloc sets are no requests; 64-bit integers may be strings."""
    rows = [
        {
            "time": 0,
            "type": 0,
            "collection_id": 5,
            "scheduling_class": 2,
            "instance_index": 0,
            "collection_type": 0,
            "cpu": 0.5,
            "memory": 0.1,
        },
        {
            "time": 5_000_000,
            "type": 0,
            "collection_id": 5,
            "scheduling_class": 2,
            "instance_index": 1,
            "collection_type": 0,
            "cpu": 0.5,
            "memory": 0.25,
        },
        {
            "time": 6_000_000,
            "type": 0,
            "collection_id": 6,
            "scheduling_class": 0,
            "instance_index": 0,
            "collection_type": 1,
            "cpu": 0.5,
            "memory": 0.1,
        },
        {
            "time": 7_000_000,
            "type": 0,
            "collection_id": 8,
            "scheduling_class": 1,
            "instance_index": 0,
            "collection_type": 0,
            "cpu": 0.25,
            "memory": 0.5,
        },
        {
            "time": 8_000_000,
            "type": 3,
            "collection_id": 8,
            "scheduling_class": 1,
            "instance_index": 0,
            "collection_type": 0,
            "cpu": 0.25,
            "memory": 0.5,
        },
        {
            "time": 9_000_000,
            "type": 6,
            "collection_id": 8,
            "scheduling_class": 1,
            "instance_index": 0,
            "collection_type": 0,
            "cpu": 0.25,
            "memory": 0.5,
        },
        {
            "time": AFTER,
            "type": 0,
            "collection_id": 9,
            "scheduling_class": 1,
            "instance_index": 0,
            "collection_type": 0,
            "cpu": 0.25,
            "memory": 0.5,
        },
    ]
    flat = [
        {**{k: v for k, v in r.items() if k not in ("cpu", "memory")}, "cpu_request": r["cpu"], "memory_request": r["memory"]}
        for r in rows
    ]
    nested = [
        {
            **{k: v for k, v in r.items() if k not in ("cpu", "memory")},
            "resource_request": {"cpus": r["cpu"], "memory": r["memory"]},
        }
        for r in rows
    ]
    csv_path, json_path, parquet_path = (tmp_path / name for name in ("e.csv", "e.json", "e.parquet"))
    csv_path.write_text("\n".join([",".join(flat[0]), *(",".join(map(str, r.values())) for r in flat)]))
    json_path.write_text("\n".join(json.dumps({**r, "time": str(r["time"]), "user": "u"}) for r in nested))
    pa.parquet.write_table(pa.Table.from_pylist(nested), parquet_path)

    traces = [read_trace(path).trace for path in (csv_path, json_path, parquet_path)]

    for trace in traces:
        assert trace.arrival_s.tolist() == [5.0, 7.0]
        assert trace.service_class.tolist() == [0, 1]
        np.testing.assert_allclose(trace.cpu_work_s, [np.nan, 4.0])
        assert [trace.clusters[c] for c in trace.cluster] == ["~5", "~8"]


def test_alibaba_2018_tasks_are_best_effort_with_work_from_plan_and_duration(tmp_path: Path) -> None:
    """Work is duration x planned cores; a task that did not end has none; one that did not start is no arrival."""
    path = tmp_path / "batch_task.csv"
    path.write_text(
        "M2,1,j_2,1,Running,120,0,100,0.5\nM1,1,j_1,1,Terminated,100,110,50,0.25\nM1,1,j_1,1,Terminated,130,140,50,0.25\n"
        "M3,1,j_1,1,Waiting,0,0,,\n"
    )
    trace = read_trace(path).trace

    assert trace.arrival_s.tolist() == [100.0, 120.0]
    assert trace.service_class.tolist() == [1, 1]
    np.testing.assert_allclose(trace.cpu_work_s, [5.0, np.nan])


def test_azure_llm_2023_counts_from_its_first_row(tmp_path: Path) -> None:
    """CR LF line ends, seven decimals and a last row without a line end."""
    path = tmp_path / "conv.csv"
    path.write_bytes(
        b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109"
    )
    trace = read_trace(path).trace

    np.testing.assert_allclose(trace.arrival_s, [0.0, 4.314579], atol=1e-9)
    assert trace.service_class.tolist() == [0, 0]


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters=',"\r\n\0', exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12
)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Any small trace with any names that CSV can hold."""
    n = draw(st.integers(1, 30))
    services = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    clusters = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    floats = st.floats(1e-6, 1e6)

    def column(elements: st.SearchStrategy) -> list:
        return draw(st.lists(elements, min_size=n, max_size=n))

    return Trace(
        arrival_s=np.sort(np.array(column(st.floats(0, 1e7)))),
        service_class=np.array(column(st.integers(0, 1)), np.int8),
        service=np.array(column(st.integers(0, len(services) - 1)), np.int32),
        cluster=np.array(column(st.integers(0, len(clusters) - 1)), np.int32),
        cpu_work_s=np.array(column(st.one_of(floats, st.just(np.nan)))),
        memory_mib=np.array(column(st.one_of(floats, st.just(np.nan)))),
        services=services,
        clusters=clusters,
    )


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
@given(trace=traces())
@settings(deadline=None, max_examples=example_count(60))
def test_what_is_written_reads_back_equal(ending: str, trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Round trip over all three endings, to the last bit, names included."""
    path = tmp_path_factory.mktemp("trip") / f"t{ending}"
    write_trace(trace, path)

    back = read_trace(path).trace

    for name in ("arrival_s", "service_class", "cpu_work_s", "memory_mib"):
        np.testing.assert_array_equal(getattr(back, name), getattr(trace, name))
    assert [back.services[i] for i in back.service] == [trace.services[i] for i in trace.service]
    assert [back.clusters[i] for i in back.cluster] == [trace.clusters[i] for i in trace.cluster]
    assert encoded(trace, path.name) == encoded(trace, path.name)


def _trace(n: int = 100) -> Trace:
    rng = np.random.default_rng(1)
    return Trace(
        arrival_s=np.arange(n, dtype=float),
        service_class=(np.arange(n) % 2).astype(np.int8),
        service=np.zeros(n, np.int32),
        cluster=np.zeros(n, np.int32),
        cpu_work_s=np.where(np.arange(n) % 10 == 0, np.nan, rng.lognormal(0, 2, n)),
        memory_mib=np.full(n, 64.0),
        services=("web",),
        clusters=("c1",),
    )


def test_cut_keeps_from_and_drops_to() -> None:
    """[from, to) in trace seconds; from becomes zero."""
    assert cut(_trace(), 10, 13).arrival_s.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(RequestRejected, match="the trace runs from 0 to 99 s"):
        cut(_trace(), 200, 300)
    with pytest.raises(UsageError, match="expected 0 <= from < to"):
        cut(_trace(), 5, 5)


def test_thin_keeps_the_stated_share_by_seed() -> None:
    """Same seed, same rows; a smaller share keeps a subset."""
    trace = _trace(20_000)
    half, again, other, tenth = (thin(trace, p, seed=s).arrival_s for p, s in ((0.5, 1), (0.5, 1), (0.5, 2), (0.1, 1)))

    assert half.tolist() == again.tolist() != other.tolist()
    # Binomial: five standard deviations are 354.
    assert abs(len(half) - 10_000) < 354
    assert set(tenth) <= set(half)
    with pytest.raises(UsageError, match="a share above 0 and at most 1"):
        thin(trace, 1.5, seed=0)


def test_rescaling_brings_a_class_to_its_mean_and_keeps_the_order() -> None:
    """The mean is exact, nothing exceeds the clip, unknown works stay unknown and the other class is untouched."""
    trace = _trace(1000)
    scaled = rescale_work(trace, be_work_s=3.0)
    be = (trace.service_class == 1) & ~np.isnan(trace.cpu_work_s)
    lc = trace.service_class == 0

    assert scaled.cpu_work_s[be].mean() == pytest.approx(3.0, rel=1e-9)
    assert scaled.cpu_work_s[be].max() <= 3.0 * BE_CLIP * (1 + 1e-12)
    assert np.all(np.diff(scaled.cpu_work_s[be][np.argsort(trace.cpu_work_s[be])]) >= 0)
    np.testing.assert_array_equal(scaled.cpu_work_s[lc], trace.cpu_work_s[lc])
    np.testing.assert_allclose(rescale_work(trace, scale=2.0).cpu_work_s, trace.cpu_work_s * 2)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), st.floats(0.01, 100))
def test_with_mean_always_meets_mean_and_clip(values: list[float], mean: float) -> None:
    """Whatever the values, the mean is met and no value exceeds the clip."""
    out = with_mean(np.array(values), mean, clip=4.0)

    assert out.mean() == pytest.approx(mean, rel=1e-6)
    assert out.max() <= 4.0 * mean * (1 + 1e-9)


def test_forgotten_names_are_empty() -> None:
    """Names can be dropped one kind at a time."""
    assert forget(_trace(), services=True).services == ("",)
    assert forget(_trace(), clusters=True).clusters == ("",)
    assert forget(_trace(), clusters=True).services == ("web",)


def test_a_selection_cuts_thins_and_rescales_in_this_order() -> None:
    """By default it changes nothing; the mean of the works is that of what is left, and not of the whole trace."""
    trace = _trace()
    chosen = TraceSelection(from_s=10.0, to_s=90.0, share=0.5, be_work_s=3.0)

    part = chosen.of(trace, seed=3)

    expected = rescale_work(thin(cut(trace, 10.0, 90.0), 0.5, seed=3), be_work_s=3.0)
    np.testing.assert_array_equal(part.arrival_s, expected.arrival_s)
    np.testing.assert_array_equal(part.cpu_work_s, expected.cpu_work_s)
    assert np.nanmean(part.cpu_work_s[part.service_class == int(ServiceClass.BE)]) == pytest.approx(3.0)
    np.testing.assert_array_equal(TraceSelection().of(trace, seed=3).cpu_work_s, trace.cpu_work_s)
