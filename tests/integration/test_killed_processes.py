"""Every process of a stack may be killed in the middle of a run, two in each here: nothing is lost and nothing is counted twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tango.domain.tracing import Sampling
from tests.fakes.collector import Collector
from tests.fakes.span_trees import named, trace_id_of, trees
from tests.integration.conftest import RATIO
from tests.integration.live_stack import LiveStack
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

ACCEPTED = 200
_DONE = "SELECT count(*) FROM request WHERE run_id = %s AND state = 'succeeded'"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory, single_stack: LiveStack) -> Path:
    """Four seconds of both classes, `ACCEPTED` requests."""
    path = tmp_path_factory.mktemp("trace") / "mixed.csv"
    recipe = ("--rate", "50", "--duration", "4", "--lc-share", "0.8", "--be-work-s", "0.3", "--seed", "4")
    done = single_stack.tango("trace", "generate", "p3", "--fleet", "single", *recipe, "--out", str(path))
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize(
    ("first", "second"), [("worker-1", "beat"), ("scheduler", "kubelet"), ("apiserver", "replayer"), ("broker", "agent")]
)
def test_killed_processes_lose_no_request(single_stack: LiveStack, trace: Path, first: str, second: str) -> None:
    """Accepted = succeeded + failed + shed + cancelled, each request settled by exactly one attempt, and both processes are back."""
    before = {row["name"]: row["restarts"] for row in single_stack.status()}
    run_id = single_stack.submit(trace)
    for process, done in ((first, 40), (second, 100)):
        until(lambda done=done: single_stack.rows(_DONE, (run_id,))[0][0] >= done)  # type: ignore[misc]
        single_stack.kill(process)
        if process == "broker":
            # A broker that forgets its queues is the worst of its deaths: its files go before it can read them again.
            for file in (single_stack.home / "data" / "broker").rglob("*"):
                if file.is_file() and file.suffix in (".aof", ".rdb", ".manifest"):
                    file.unlink(missing_ok=True)
    shown = single_stack.ended(run_id, within_s=120.0)
    assert shown["live"] == 0
    assert shown["accepted"] == ACCEPTED
    assert shown["accepted"] == shown["succeeded"] + shown["failed"] + shown["shed"] + shown["cancelled"]
    assert shown["succeeded"] == shown["accepted"], single_stack.rows(
        "SELECT class, state, reason, attempt, count(*) FROM request WHERE run_id = %s AND state <> 'succeeded' GROUP BY 1, 2, 3, 4",
        (run_id,),
    )
    settled = single_stack.rows(
        "SELECT count(*), count(DISTINCT request_id) FROM attempt WHERE run_id = %s AND outcome = 'succeeded'", (run_id,)
    )
    assert settled == [(ACCEPTED, ACCEPTED)]
    # The run may be over before everybody is back: clients of a dead broker are restarted with a pause of their own.
    until(single_stack.all_run)
    restarts = {row["name"]: row["restarts"] for row in single_stack.status()}
    assert [restarts[process] for process in (first, second)] == [before[process] + 1 for process in (first, second)]


@pytest.fixture(scope="module")
def undisturbed(single_stack: LiveStack, trace: Path) -> int:
    """A run in which nobody was killed."""
    run_id = single_stack.submit(trace)
    single_stack.ended(run_id, within_s=60.0)
    return run_id


TREES = {
    "lc": ["request", "  attempt", "    wait", "    dispatch", "    POST /v1/work", "    settle"],
    "be": ["request", "  attempt", "    wait", "    start", "    run", "    settle"],
}


def test_each_sampled_request_is_one_trace_at_the_collector(
    single_stack: LiveStack, undisturbed: int, collector: Collector
) -> None:
    """From the keeper or the replayer to the settlement, made by several processes; who knows run and request knows which they are."""
    ((zero_s,),) = single_stack.rows("SELECT extract(epoch FROM started_at)::float8 FROM run WHERE run_id = %s", (undisturbed,))
    rows = single_stack.rows(
        "SELECT request_id, class::text FROM request WHERE run_id = %s AND state = 'succeeded' AND epoch = 1", (undisturbed,)
    )
    traces = {
        trace.trace_id: of_class
        for request_id, of_class in rows
        if (trace := Sampling(RATIO).of_request(undisturbed, zero_s, request_id)) is not None
    }

    until(lambda: traces.keys() <= {trace_id_of(span) for span in named(collector.spans, "request")})

    spans = collector.spans
    for trace_id, of_class in traces.items():
        (tree,) = trees([span for span in spans if trace_id_of(span) == trace_id])
        assert sorted(tree) == sorted(TREES[of_class])
    assert set(traces.values()) == {"lc", "be"}
    linked = {link.context.trace_id for name in ("process lc.c1", "place") for span in named(spans, name) for link in span.links}
    assert traces.keys() <= linked
    assert {span.resource.attributes["service.name"] for span in spans if trace_id_of(span) in traces} == {
        "tango-worker",
        "tango-agent",
    }


def test_no_pod_of_a_finished_run_is_left(single_stack: LiveStack, undisturbed: int) -> None:
    """When a run has ended, the clusters hold LC instances and no BE pod."""
    assert undisturbed
    until(lambda: not single_stack.rows("SELECT sum(be_pods) FROM node")[0][0])


def test_a_cancelled_run_gives_its_pods_resources_back_at_once(single_stack: LiveStack, tmp_path: Path) -> None:
    """BE pods with minutes of work are gone within seconds of `run cancel`, and every request is cancelled or was done before."""
    path = tmp_path / "long.csv"
    path.write_text("arrival_s,class,service,cpu_work_s\n" + "".join(f"{k / 10},be,batch,300\n" for k in range(60)))
    run_id = single_stack.submit(path)
    until(lambda: single_stack.rows("SELECT sum(be_pods) FROM node")[0][0])

    done = single_stack.tango("run", "cancel", str(run_id))

    assert done.returncode == 0, done.stderr
    assert " 0 pods deleted" not in done.stderr
    until(lambda: not single_stack.rows("SELECT sum(be_pods) FROM node")[0][0])
    assert single_stack.rows("SELECT DISTINCT state::text FROM request WHERE run_id = %s", (run_id,)) == [("cancelled",)]
