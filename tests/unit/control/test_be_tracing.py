"""Traces of BE requests and jobs: the whole tree when a request ends, with every attempt, and the pod told where it belongs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tango.control.be_tracing import BeTracing
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.jobs import JobEnd, NewJob
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import Placement
from tango.domain.tracing import RUN, AttemptTrack, BeTrack, Sampling, TraceContext
from tango.errors import StoreUnavailable
from tango.settings import TracingSettings
from tests.fakes.control_world import ControlWorld
from tests.fakes.faulty import Faulty
from tests.fakes.journal_world import run_info
from tests.fakes.span_trees import SpansInMemory, facts, named, trace_id_of, tree_with
from tests.fakes.store_world import BATCH, ZERO_S, requeue, success

CALLERS = TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)


@pytest.fixture
def spans() -> Iterator[SpansInMemory]:
    """All requests are sampled."""
    made = SpansInMemory()
    yield made
    made.close()


def tracing_of(world: ControlWorld, spans: SpansInMemory) -> BeTracing:
    """That of one process."""
    return BeTracing(spans, world.requests, world.runs.run)


def job_of(world: ControlWorld, env: tuple[tuple[str, str], ...] = ()) -> RequestKey:
    """A job that waits for a node."""
    key = world.jobs.submit(NewJob(service=BATCH.name, key="k", env=env)).key
    world.admit(key.run_id, [key.request_id])
    return key


def placed(world: ControlWorld) -> list[Placement]:
    """What waits, on c1-n1."""
    return list(world.place(world.requests.pending_be(limit=1), world.fence()))


def told(placement: Placement) -> dict[str, str]:
    """The environment of its job."""
    assert placement.job is not None
    return dict(placement.job.env)


def test_a_request_is_one_tree_with_all_its_attempts(world: ControlWorld, spans: SpansInMemory) -> None:
    """Made when it has ended, also of the attempt that others have ended."""
    run_id, tracing = world.pending(BATCH), tracing_of(world, spans)
    placed(world)
    world.requests.settle([requeue(run_id, 0, 1, reason=Reason.EVICTED)])
    tracing.settled([(run_id, 0)])
    placed(world)
    world.requests.settle([success(run_id, 0, 2)])

    tracing.settled([(run_id, 0)])

    found = spans.finished()
    assert tree_with(found, "request") == ["request", "  attempt", "  attempt"]
    assert [facts(span).get("error.type") for span in named(found, "attempt")] == ["evicted", None]
    assert facts(named(found, "request")[0])["tango.state"] == "succeeded"


def test_the_parts_of_an_attempt_are_as_the_centre_has_its_times(spans: SpansInMemory) -> None:
    """Waiting, starting, running, being written down; of one that never started the parts that it had."""
    ran = AttemptTrack(
        epoch=2, node=NodeKey("c1", "n1"), pod="be-r1-0-e2", released_s=1.5, dispatched_s=2.0, started_s=3.0, finished_s=5.0,
        ended_s=5.5, reason="",
    )  # fmt: skip
    never = AttemptTrack(
        epoch=1, node=NodeKey("c2", "n1"), pod="be-r1-0-e1", released_s=0.5, dispatched_s=1.0, started_s=None, finished_s=None,
        ended_s=1.5, reason="pod-lost",
    )  # fmt: skip
    track = BeTrack(
        state=RequestState.SUCCEEDED, service="batch", entry_cluster="c1", due_s=0.0, reason="", traceparent="", attempts=[never, ran]
    )  # fmt: skip

    class Store:
        def tracks(self, run_id: int, request_ids: object) -> dict[int, BeTrack]:
            return {0: track}

    BeTracing(spans, Store(), lambda run_id: run_info(run_id)).settled([(1, 0)])

    found = spans.finished()
    assert tree_with(found, "request") == [
        "request",
        "  attempt",
        "    wait",
        "  attempt",
        "    wait",
        "    start",
        "    run",
        "    settle",
    ]
    (run,) = named(found, "run")
    assert (run.start_time, run.end_time) == (round((ZERO_S + 3.0) * 1e9), round((ZERO_S + 5.0) * 1e9))
    assert [facts(span)["k8s.pod.name"] for span in named(found, "attempt")] == ["be-r1-0-e1", "be-r1-0-e2"]


def test_a_job_is_told_its_trace_and_a_placement_is_linked_with_it(world: ControlWorld, spans: SpansInMemory) -> None:
    """By the span of what its pod does, under the attempt; the same that its end makes."""
    key, tracing = job_of(world), tracing_of(world, spans)

    (placement,) = tracing.placed(placed(world), began_s=ZERO_S, policy="by-hand")

    zero_s = world.runs.run(key.run_id).started_at_s
    assert zero_s is not None
    trace = Sampling(1.0).of_request(key.run_id, zero_s, key.request_id)
    assert trace is not None
    assert told(placement)["TRACEPARENT"] == str(trace.context(RUN, 1))
    (cycle,) = named(spans.finished(), "place")
    assert [link.context.trace_id for link in cycle.links] == [trace.trace_id]


def test_a_job_that_was_sent_in_a_trace_stays_in_it(world: ControlWorld, spans: SpansInMemory) -> None:
    """Its sender's span is above that of the request; sending it again in another trace is the same job."""
    key, tracing = job_of(world, (("TRACEPARENT", str(CALLERS)), ("MODE", "fast"))), tracing_of(world, spans)
    again = (("TRACEPARENT", str(CALLERS._replace(span_id=7))), ("MODE", "fast"))

    (placement,) = tracing.placed(placed(world), began_s=ZERO_S, policy="by-hand")
    world.jobs.end([JobEnd(outcome=success(*key, 1))])
    tracing.settled([key])

    said = TraceContext.parsed(told(placement)["TRACEPARENT"])
    assert said is not None
    assert (said.trace_id, told(placement)["MODE"]) == (CALLERS.trace_id, "fast")
    (request,) = named(spans.finished(), "request")
    assert request.parent is not None
    assert (trace_id_of(request), request.parent.span_id) == CALLERS[:2]
    assert not world.jobs.submit(NewJob(service=BATCH.name, key="k", env=again)).is_new


def test_a_sender_who_does_not_sample_a_job_keeps_his_word(world: ControlWorld, spans: SpansInMemory) -> None:
    """Nothing is made, and the pod is told what he said."""
    says = str(CALLERS._replace(is_sampled=False))
    key, tracing = job_of(world, (("TRACEPARENT", says),)), tracing_of(world, spans)

    (placement,) = tracing.placed(placed(world), began_s=ZERO_S, policy="by-hand")
    world.jobs.end([JobEnd(outcome=success(*key, 1))])
    tracing.settled([key])

    assert told(placement)["TRACEPARENT"] == says
    assert spans.finished() == []


def test_what_is_not_sampled_is_not_read(world: ControlWorld) -> None:
    """Of a trace's requests: the store is asked for none of them."""
    run_id = world.pending(BATCH)
    few = SpansInMemory(TracingSettings(ratio=1e-12))
    store = Faulty(world.requests)

    BeTracing(few, store, world.runs.run).settled([(run_id, 0)])

    assert store.calls == []
    assert few.finished() == []


def test_a_store_that_is_away_costs_the_spans_and_nothing_else(world: ControlWorld, spans: SpansInMemory) -> None:
    """Nobody hears of it but the log."""
    run_id = world.pending(BATCH)

    BeTracing(spans, Faulty(world.requests, tracks=[StoreUnavailable("away")]), world.runs.run).settled([(run_id, 0)])

    assert spans.finished() == []
