"""Traces of LC requests: one tree of spans a request, made by whatever process does a part of the work."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from tango.control.answer_margin import AnswerMargin
from tango.control.dispatch_lc import LcDeciders, LcDispatch, LocalStart
from tango.control.execute_lc import InstanceDirectory, InstanceReach, LcExecutor
from tango.control.fleet_view import FleetView
from tango.control.lc_tracing import LcTracing
from tango.control.node_health import NodeHealth
from tango.control.serve_callers import ServeCallers
from tango.domain.requests import Reason
from tango.domain.tracing import CALL, Sampling
from tango.errors import InstanceFailed, StoreUnavailable
from tango.ports.instances import Served
from tango.settings import CallSettings, LcSettings, LeaseSettings, OutlierSettings, TracingSettings
from tests.fakes.faulty import Faulty
from tests.fakes.instance_calls import ScriptedCalls
from tests.fakes.span_trees import ALL, SpansInMemory, facts, named, tree_with, trees
from tests.fakes.store_world import OVER_S, WEB, ZERO_S
from tests.fakes.worker_world import WorkerWorld, worker_world
from tests.unit.control.test_dispatch import AT_HOME, SHED, to_nodes
from tests.unit.control.test_execute import LEASE, NO_CALLERS, SETTINGS
from tests.waiting import until

BATCH_TREE = ["send lc.c1", "  process lc.c1"]


class Traced:
    """One worker of c1, whose spans go into memory."""

    def __init__(self, world: WorkerWorld, settings: TracingSettings = ALL, *, is_on: bool = True) -> None:
        self.world, self.spans = world, SpansInMemory(settings)
        world.clock.now_s = time.time()
        self.calls = ScriptedCalls(Served(started_at_s=time.time(), finished_at_s=time.time()))
        self.tracing = LcTracing(self.spans, world.journal, world.journal.run, cluster="c1", max_attempts=6) if is_on else None
        self.executor = LcExecutor(
            requests=world.journal,
            reach=InstanceReach(
                directory=InstanceDirectory(world.journal),
                calls=lambda: self.calls,
                health=NodeHealth(OutlierSettings()),
                margin=AnswerMargin(),
            ),
            publisher=world.publisher,
            run_zero_s=lambda run_id: ZERO_S,
            callers=ServeCallers(NO_CALLERS, NO_CALLERS, CallSettings()),
            owner="worker-1",
            settings=SETTINGS,
            lease=LEASE,
            tracing=self.tracing,
        )

    def dispatch(self, run_id: int, *nodes: int, here: bool = True) -> None:
        """One message with as many requests."""
        LcDispatch(
            deciders=LcDeciders(
                policy_of=lambda run_id: to_nodes(*nodes),
                view=FleetView(lambda: self.world.journal.snapshot(at_s=0.0), max_age_s=1000.0),
                settings=LcSettings(),
                run_now_s=lambda run_id: 0.0,
            ),
            requests=self.world.journal,
            publisher=self.world.publisher,
            local=LocalStart(starter=self.executor, owner="worker-1", lease_s=30.0) if here else None,
            lease_s=LeaseSettings().dispatch_s,
            tracing=self.tracing,
        ).dispatch(run_id, "c1", range(len(nodes)))

    def finished(self, run_id: int, *states: str) -> list[ReadableSpan]:
        """All spans, once the requests have come to these states, and what has ended is settled."""
        until(lambda: self.world.states(run_id) == list(states))
        self.executor.close(timeout_s=2.0)
        return self.spans.finished()


@pytest.fixture
def world() -> WorkerWorld:
    """In memory."""
    return worker_world()


@pytest.fixture
def worker(world: WorkerWorld) -> Iterator[Traced]:
    """All requests are sampled."""
    made = Traced(world)
    yield made
    made.executor.close(timeout_s=1.0)
    made.spans.close()


def test_a_request_of_a_trace_is_one_tree(world: WorkerWorld, worker: Traced) -> None:
    """From its due time on: what it waited for, who sent it where, the call, and the settlement."""
    run_id = world.released(WEB)

    worker.dispatch(run_id, AT_HOME)

    spans = worker.finished(run_id, "succeeded")
    assert tree_with(spans, "request") == [
        "request",
        "  attempt",
        "    wait",
        "    dispatch",
        "    POST /v1/work",
        "    settle",
    ]
    (request,), (attempt,), (call,) = named(spans, "request"), named(spans, "attempt"), named(spans, "POST /v1/work")
    assert facts(request)["tango.request"] == f"{run_id}-0"
    assert facts(request)["tango.state"] == "succeeded"
    assert request.start_time == round(ZERO_S * 1e6) * 1000
    assert (facts(attempt)["tango.attempt"], facts(attempt)["k8s.node.name"]) == (1, "c1-n1")
    assert (call.kind, facts(call)["http.response.status_code"]) == (SpanKind.CLIENT, 200)
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}


def test_the_message_is_linked_with_the_requests_that_it_carried(world: WorkerWorld, worker: Traced) -> None:
    """A message carries many requests, so it is part of no trace of theirs: its own has links to them, and each has one back."""
    run_id = world.released(WEB, WEB)
    assert worker.tracing is not None
    batches = world.journal.unclaimed(older_than_s=-1.0, limit=10)

    worker.tracing.published(batches, began_s=time.time())
    worker.dispatch(run_id, AT_HOME, AT_HOME)

    spans = worker.finished(run_id, "succeeded", "succeeded")
    (taken,), (sent,) = named(spans, "process lc.c1"), named(spans, "send lc.c1")
    assert tree_with(spans, "send lc.c1") == BATCH_TREE
    assert {link.context.span_id for link in sent.links} == {s.context.span_id for s in named(spans, "request") if s.context}
    assert {link.context.span_id for link in taken.links} == {s.context.span_id for s in named(spans, "attempt") if s.context}
    assert taken.context is not None
    assert [link.context.span_id for s in named(spans, "dispatch") for link in s.links] == [taken.context.span_id] * 2
    assert facts(taken)["tango.requests"] == 2


def test_a_request_that_is_tried_again_has_two_attempts(world: WorkerWorld, worker: Traced) -> None:
    """The first says why it failed; the request as a whole has not."""
    run_id = world.released(WEB)
    worker.calls.failures[0] = InstanceFailed("it refuses", status=503, reason=Reason.INSTANCE_REFUSED)
    worker.dispatch(run_id, AT_HOME)
    until(lambda: world.states(run_id) == ["released"])
    del worker.calls.failures[0]

    worker.dispatch(run_id, AT_HOME)

    spans = worker.finished(run_id, "succeeded")
    attempt = ["  attempt", "    wait", "    dispatch", "    POST /v1/work", "    settle"]
    assert tree_with(spans, "request") == ["request", *attempt, *attempt]
    failed, second = named(spans, "attempt")
    assert (facts(failed)["error.type"], facts(failed)["tango.epoch"]) == ("instance-refused", 1)
    assert (facts(second).get("error.type"), facts(second)["tango.epoch"]) == (None, 2)
    assert facts(named(spans, "POST /v1/work")[0])["http.response.status_code"] == 503
    assert named(spans, "request")[0].status.status_code is StatusCode.UNSET
    assert len(named(spans, "process lc.c1")) == 2


def test_the_instance_is_told_the_span_of_the_call(world: WorkerWorld, worker: Traced) -> None:
    """So that what it does itself hangs below it."""
    run_id = world.released(WEB)

    worker.dispatch(run_id, AT_HOME)

    spans = worker.finished(run_id, "succeeded")
    (call,) = named(spans, "POST /v1/work")
    assert call.context is not None
    assert worker.calls.calls[0].traceparent == f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-01"
    trace = Sampling(1.0).of_request(run_id, ZERO_S, 0)
    assert trace is not None
    assert trace.context(CALL, 1)[:2] == (call.context.trace_id, call.context.span_id)


def test_what_another_worker_of_the_cluster_runs_is_in_the_same_tree(world: WorkerWorld, worker: Traced) -> None:
    """Nobody tells it of the trace: it makes the same ids of the same request."""
    run_id = world.released(WEB)
    other = Traced(world)

    worker.dispatch(run_id, AT_HOME, here=False)
    other.executor.execute(run_id, [0], [1])

    spans = [*other.finished(run_id, "succeeded"), *worker.spans.finished()]
    assert sorted(tree_with(spans, "request")) == sorted(
        ["request", "  attempt", "    wait", "    dispatch", "    POST /v1/work", "    settle"]
    )
    assert tree_with(spans, "send exec.c1") == ["send exec.c1", "  process exec.c1"]


def test_a_request_that_is_shed_ends_with_its_dispatch(world: WorkerWorld, worker: Traced) -> None:
    """No attempt was made."""
    run_id = world.released(WEB)

    worker.dispatch(run_id, SHED)

    spans = worker.finished(run_id, "shed")
    assert tree_with(spans, "request") == ["request", "  dispatch"]
    assert named(spans, "request")[0].status.description == "shed"


def test_an_attempt_that_a_dead_process_left_is_made_by_whoever_takes_it_back(world: WorkerWorld, worker: Traced) -> None:
    """So that no attempt is missing in the tree."""
    run_id = world.released(WEB)
    world.dispatch(run_id, [0], lease_s=OVER_S)
    batches = world.journal.requeue_expired(limit=10)
    assert worker.tracing is not None

    worker.tracing.expired(batches)
    worker.dispatch(run_id, AT_HOME)

    spans = worker.finished(run_id, "succeeded")
    assert [facts(span).get("error.type") for span in named(spans, "attempt")] == ["lease-expired", None]
    assert len(trees(named(spans, "request"))) == 1


def test_a_request_that_is_not_sampled_has_no_spans(world: WorkerWorld) -> None:
    """By a ratio so small that it takes none of them; nor has the message that carries it."""
    run_id = world.released(WEB)
    worker = Traced(world, TracingSettings(ratio=1e-12))

    worker.dispatch(run_id, AT_HOME)

    assert worker.finished(run_id, "succeeded") == []
    assert worker.calls.calls[0].traceparent == ""


def test_without_tracing_nothing_is_asked_of_the_journal(world: WorkerWorld) -> None:
    """Which would raise here."""
    run_id = world.released(WEB)
    worker = Traced(world, is_on=False)
    world.journal.tracks = None  # type: ignore[assignment, method-assign]

    worker.dispatch(run_id, AT_HOME)

    assert worker.finished(run_id, "succeeded") == []
    assert worker.calls.calls[0].traceparent == ""


def test_a_journal_that_is_away_costs_the_spans_and_nothing_else(world: WorkerWorld, worker: Traced) -> None:
    """The request is served and settled."""
    run_id = world.released(WEB)
    assert worker.tracing is not None
    away = Faulty(world.journal, tracks=[StoreUnavailable("away")] * 10)
    worker.tracing._tracks = away

    worker.dispatch(run_id, AT_HOME)

    spans = worker.finished(run_id, "succeeded")
    assert named(spans, "wait") == []
    assert "request" in tree_with(spans, "request")
