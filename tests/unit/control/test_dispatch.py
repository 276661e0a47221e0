"""Dispatch of LC: what the process has places for starts here, wherever it is served; the rest waits in the cluster's own queue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from tango.control.candidates import WeighingRate
from tango.control.dispatch_lc import LcDeciders, LcDispatch, LocalStart
from tango.control.fleet_view import FleetView, LcPolicy
from tango.domain.candidates import read_back
from tango.domain.identity import NodeKey
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals, LcWork
from tango.domain.snapshot import FleetSnapshot
from tango.errors import PolicyFailed, StoreUnavailable
from tango.ports.requests import LcRequests
from tango.scheduling.lc.rule import LC_RULES
from tango.settings import ExplainSettings, LcSettings, LeaseSettings
from tests.fakes.faulty import Faulty
from tests.fakes.journal_world import LC
from tests.fakes.store_world import WEB
from tests.fakes.worker_world import WorkerWorld, worker_world

SETTINGS = LcSettings(snapshot_max_age_s=1000.0)
LEASE = LeaseSettings(dispatch_s=10.0, execution_s=30.0)
AT_HOME, NEXT_DOOR, AWAY = 0, 1, 2
"""Rows of the snapshot's nodes: two in c1, which decides in these tests, one in c2."""
NOWHERE, SHED = -1, -2


class Starter:
    """This process's executor: it has free places for so many calls, and keeps what it is told to start."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.started: list[LcWork] = []

    def reserve(self, wanted: int) -> int:
        """What there is."""
        taken = min(wanted, self.places)
        self.places -= taken
        return taken

    def start(self, works: Sequence[LcWork], *, reserved: int) -> None:
        """Keep the works; the rest of the reservation is free again."""
        self.places += reserved - len(works)
        self.started.extend(works)


def to_nodes(*nodes: int, late: Sequence[int] = ()) -> LcPolicy:
    """A policy that sends the arrivals to these nodes in order, some of them late."""

    def policy(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        chosen = np.array(nodes[: len(arrivals)])
        return LcPlan(
            node=np.where(chosen == SHED, -1, chosen).astype(np.int32),
            late=np.isin(np.arange(len(arrivals)), late),
            shed=chosen == SHED,
            expected_s=np.zeros(len(arrivals)),
            policy="by-hand",
        )

    return policy


@pytest.fixture
def world() -> WorkerWorld:
    """In memory."""
    return worker_world()


def view_of(world: WorkerWorld) -> FleetView:
    """A view that reads the fleet once."""
    return FleetView(lambda: world.journal.snapshot(at_s=0.0), max_age_s=SETTINGS.snapshot_max_age_s)


def dispatch(
    world: WorkerWorld,
    run_id: int,
    policy: LcPolicy | Exception,
    *,
    starter: Starter | None = None,
    requests: LcRequests | None = None,
    view: FleetView | None = None,
    request_ids: Sequence[int] = range(100),
    cluster: str = "c1",
    now_s: float = 0.0,
    sampling: WeighingRate | None = None,
) -> dict[str, int]:
    """One batch, decided by c1; an exception is what asking for the policy raises."""

    def policy_of(run_id: int) -> LcPolicy:
        if isinstance(policy, Exception):
            raise policy
        return policy

    use_case = LcDispatch(
        deciders=LcDeciders(policy_of=policy_of, view=view or view_of(world), settings=SETTINGS, run_now_s=lambda run_id: now_s),
        requests=requests or world.journal,
        publisher=world.publisher,
        local=LocalStart(starter=starter, owner="worker-1", lease_s=LEASE.execution_s) if starter else None,
        lease_s=LEASE.dispatch_s,
        sampling=sampling,
    )
    return use_case.dispatch(run_id, cluster, request_ids)


def test_a_dispatch_keeps_the_candidates_of_some_of_its_requests_as_they_were_before_it_was_counted_in(world: WorkerWorld) -> None:
    """Two of three, as the rate allows: the first is told of idle instances, whatever has been sent since."""
    run_id = world.released(WEB, WEB, WEB)
    sampling = WeighingRate(ExplainSettings(weighed_per_s=0.4), monotonic=lambda: 0.0)

    dispatch(world, run_id, LC_RULES["dss-lc"], sampling=sampling)

    (decision,) = world.decisions()
    first, last = read_back(orjson.loads(decision.weighed))
    assert [(one.run_id, one.request_id, one.epoch) for one in (first, last)] == [(run_id, 0, 1), (run_id, 2, 1)]
    row = world.row(run_id, 0)
    assert first.chosen == f"{row.target_cluster}/{row.node}"
    assert [c.figures["requests in flight there"] for c in first.candidates] == [0.0] * len(first.candidates)


def test_a_policy_of_others_is_dispatched_by_as_ever_and_keeps_no_candidates(world: WorkerWorld) -> None:
    """It tells no prices, and its requests use none of the rate."""
    run_id = world.released(WEB)
    sampling = WeighingRate(ExplainSettings(weighed_per_s=0.2), monotonic=lambda: 0.0)

    dispatch(world, run_id, to_nodes(AT_HOME), sampling=sampling)

    (decision,) = world.decisions()
    assert (decision.placed, decision.weighed) == (1, "")
    assert sampling.take() == 1


# ---- here or there -----------------------------------------------------------------------------------------------------


def test_what_there_is_a_place_for_starts_here_wherever_it_is_served(world: WorkerWorld) -> None:
    """Rows are running, and owned, without a message; one that another cluster serves stays in the journal of this one."""
    run_id = world.released(WEB, WEB, WEB)
    starter = Starter(places=10)

    report = dispatch(world, run_id, to_nodes(AT_HOME, AWAY, NEXT_DOOR), starter=starter)

    assert report == {"considered": 3, "dispatched": 3}
    assert [(work.request_id, work.epoch, work.node) for work in starter.started] == [
        (0, 1, NodeKey("c1", "c1-n1")),
        (1, 1, NodeKey("c2", "c2-n1")),
        (2, 1, NodeKey("c1", "c1-n2")),
    ]
    assert world.states(run_id) == ["running"] * 3
    assert {world.row(run_id, k).owner for k in range(3)} == {"worker-1"}
    assert world.publisher.sent_on == []


def test_what_starts_here_stands_by_its_process_and_what_is_sent_by_its_own_lease(world: WorkerWorld) -> None:
    """A started row is safe while its process lives, for the longest time of a call; a dispatched one for the time of a message."""
    run_id = world.released(WEB, WEB)

    dispatch(world, run_id, to_nodes(AT_HOME, AWAY), starter=Starter(places=1))

    started, sent = (world.row(run_id, k).lease_until_s - world.clock.now_s for k in (0, 1))
    longest_call_s = max(LC.timeout_min_s, LC.timeout_targets * world.row(run_id, 0).target_s)
    assert started == pytest.approx(LEASE.execution_s + longest_call_s, abs=0.01)
    assert sent == pytest.approx(LEASE.dispatch_s, abs=0.01)


def test_rows_beyond_the_reserved_places_go_through_the_own_queue(world: WorkerWorld) -> None:
    """With a place for one, the first due starts here; the other waits in `exec.c1` for whoever has a free place."""
    run_id = world.released(WEB, WEB)
    starter = Starter(places=1)

    dispatch(world, run_id, to_nodes(AT_HOME, AT_HOME), starter=starter)

    assert [work.request_id for work in starter.started] == [0]
    assert starter.places == 0
    assert world.publisher.sent_on == [(run_id, "c1", (1,), (1,))]


def test_without_a_starter_everything_is_published(world: WorkerWorld) -> None:
    """Workers that share a cluster's queues out among them start nothing where they dispatch."""
    run_id = world.released(WEB, WEB)

    report = dispatch(world, run_id, to_nodes(AT_HOME, AWAY), starter=None)

    assert report == {"considered": 2, "dispatched": 2}
    assert world.states(run_id) == ["dispatched", "dispatched"]
    assert world.publisher.sent_on == [(run_id, "c1", (0, 1), (1, 1))]


def test_with_everything_started_here_no_message_is_sent(world: WorkerWorld) -> None:
    """An empty message would cost the broker as much as a full one."""
    run_id = world.released(WEB)

    dispatch(world, run_id, to_nodes(AT_HOME), starter=Starter(places=1))

    assert world.publisher.sent_on == []


# ---- places ------------------------------------------------------------------------------------------------------------


def test_places_are_given_back_when_the_store_fails(world: WorkerWorld) -> None:
    """A plan that could not be recorded starts and sends nothing, and its reservation holds nobody up."""
    run_id = world.released(WEB, WEB)
    starter = Starter(places=5)
    away = Faulty(world.journal, record_dispatch=[StoreUnavailable("away")])

    with pytest.raises(StoreUnavailable):
        dispatch(world, run_id, to_nodes(AT_HOME, AT_HOME), starter=starter, requests=away)

    assert (starter.places, starter.started) == (5, [])
    assert world.publisher.sent_on == []
    assert world.states(run_id) == ["released"] * 2


def test_places_of_rows_that_somebody_else_won_are_given_back(world: WorkerWorld) -> None:
    """Between reading and recording another worker dispatched one of two rows: one starts, one place is free again."""
    run_id = world.released(WEB, WEB)
    starter = Starter(places=5)
    plan = to_nodes(AT_HOME, AT_HOME)

    def overtaken(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        world.dispatch(run_id, [0])
        return plan(arrivals, snapshot, settings)

    report = dispatch(world, run_id, overtaken, starter=starter)

    assert report == {"considered": 2, "dispatched": 1}
    assert [work.request_id for work in starter.started] == [1]
    assert starter.places == 4


def test_shed_and_unplaced_rows_take_no_place(world: WorkerWorld) -> None:
    """Only what will be called is reserved for: with one place the last of three rows still starts."""
    run_id = world.released(WEB, WEB, WEB)
    starter = Starter(places=1)

    report = dispatch(world, run_id, to_nodes(SHED, NOWHERE, AWAY), starter=starter)

    assert report == {"considered": 3, "dispatched": 1}
    assert [work.request_id for work in starter.started] == [2]
    assert world.states(run_id) == ["shed", "released", "running"]


# ---- twice, never, and on the record -----------------------------------------------------------------------------------


def test_a_repeated_message_finds_nothing_to_do(world: WorkerWorld) -> None:
    """The rows are no longer released: nothing is decided, started or sent a second time."""
    run_id = world.released(WEB, WEB)
    starter = Starter(places=10)
    dispatch(world, run_id, to_nodes(AT_HOME, AWAY), starter=starter)

    again = dispatch(world, run_id, to_nodes(AWAY, AT_HOME), starter=starter)

    assert again == {"considered": 0, "dispatched": 0}
    assert [work.request_id for work in starter.started] == [0, 1]
    assert world.publisher.sent_on == []
    assert len(world.decisions()) == 1


def test_a_message_dispatches_only_the_requests_it_names(world: WorkerWorld) -> None:
    """Other released rows have a message of their own."""
    run_id = world.released(WEB, WEB, WEB)

    report = dispatch(world, run_id, to_nodes(AWAY, AWAY, AWAY), request_ids=[0, 2])

    assert report == {"considered": 2, "dispatched": 2}
    assert world.states(run_id) == ["dispatched", "released", "dispatched"]


def test_with_the_broker_away_rows_stay_dispatched_until_their_lease_ends(world: WorkerWorld) -> None:
    """The plan stands without its message; once the lease has run out, the keeper takes the row back."""
    run_id = world.released(WEB)
    world.publisher.away = True

    report = dispatch(world, run_id, to_nodes(AWAY))

    assert report == {"considered": 1, "dispatched": 1}
    assert world.states(run_id) == ["dispatched"]
    assert world.journal.requeue_expired(limit=10) == []
    world.clock.now_s += LEASE.dispatch_s + 1
    assert [batch.request_ids for batch in world.journal.requeue_expired(limit=10)] == [(0,)]


def test_the_decision_is_recorded_with_its_counts(world: WorkerWorld) -> None:
    """One row a batch: who decided by which policy, what was considered, placed, left, late and shed."""
    run_id = world.released(*[WEB] * 6)

    dispatch(world, run_id, to_nodes(AT_HOME, AWAY, NEXT_DOOR, NOWHERE, SHED, SHED, late=[1]))

    [decision] = world.decisions()
    assert (decision.kind, decision.cluster, decision.policy) == ("lc", "c1", "by-hand")
    assert (decision.considered, decision.placed, decision.unplaced) == (6, 3, 1)
    assert (decision.late, decision.shed) == (1, 2)
    assert decision.note == "no ready instance of web"
    assert decision.snapshot_ms > 0.0
    assert decision.decide_ms > 0.0


def test_a_plan_counts_in_the_view_before_the_next_batch_plans(world: WorkerWorld) -> None:
    """Two batches on one reading of the fleet: the second sees what the first has given out."""
    run_id = world.released(WEB, WEB)
    view = view_of(world)
    seen: list[float] = []

    def noting(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        seen.append(float(snapshot.in_flight[:, AWAY].sum()))
        return to_nodes(AWAY)(arrivals, snapshot, settings)

    dispatch(world, run_id, noting, view=view, request_ids=[0])
    dispatch(world, run_id, noting, view=view, request_ids=[1])

    assert seen == [0.0, 1.0]


# ---- plans that cannot be carried out -----------------------------------------------------------------------------------


def test_an_impossible_lc_plan_is_refused_on_record_and_the_greedy_dispatch_stands_in(world: WorkerWorld) -> None:
    """A node that does not exist is no reason for a request to be late: the decision says whose plan it was, and which row."""
    run_id = world.released(WEB, WEB)

    report = dispatch(world, run_id, to_nodes(AT_HOME, 7))

    assert report == {"considered": 2, "dispatched": 2}
    [decision] = world.decisions()
    assert decision.policy == "load-greedy"
    assert "policy 'by-hand' returned an impossible plan in the dispatch of cluster c1" in decision.note
    assert "row 1 (request 1): node 7" in decision.note


def test_an_lc_policy_that_raises_is_replaced_for_this_batch(world: WorkerWorld) -> None:
    """Its batch is dispatched all the same; a plan that is sound leaves no note."""
    run_id = world.released(WEB, WEB)

    def mine(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        raise KeyError("no such service")

    dispatch(world, run_id, mine, request_ids=[0])
    dispatch(world, run_id, to_nodes(AT_HOME), request_ids=[1])

    refused, sound = world.decisions()
    assert (refused.policy, sound.policy, sound.note) == ("load-greedy", "by-hand", "")
    assert "KeyError: 'no such service'" in refused.note
    assert world.states(run_id) == ["dispatched"] * 2


def test_a_batch_whose_policy_cannot_be_loaded_is_dispatched_by_the_fallback(world: WorkerWorld) -> None:
    """The message would otherwise fail again at every delivery; the decision says why the policy is another one."""
    run_id = world.released(WEB, WEB)

    report = dispatch(world, run_id, PolicyFailed("the LC policy 'gone' cannot be loaded:\nno such module"))

    assert report == {"considered": 2, "dispatched": 2}
    [decision] = world.decisions()
    assert (decision.policy, decision.note) == ("load-greedy", "the LC policy 'gone' cannot be loaded: no such module")


def test_what_is_given_out_counts_as_its_services_mean_work(world: WorkerWorld) -> None:
    """At the run's scale, as the next snapshot that is read will count it: nobody knows yet what one request takes."""
    run_id = world.released(WEB)
    view = view_of(world)

    dispatch(world, run_id, to_nodes(AT_HOME), view=view)

    seen = view.current()
    web = [s.name for s in seen.services].index("web")
    scale = 0.5 / (WEB.target_ms or 0.0) * 1e3  # the test's requests have 0.5 s where the service declares 0.1 s
    assert seen.in_flight[web, AT_HOME] == 1
    assert seen.in_flight_work_s[web, AT_HOME] == pytest.approx(scale * WEB.cpu_work_s)
