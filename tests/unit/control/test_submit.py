"""Submission: a run is stored whole, with what it needs, or refused before anything is written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.control.submit import RunOrder, Submission
from tango.domain.trace import Trace
from tango.errors import UsageError
from tests.fakes.control_world import ControlWorld
from tests.fakes.pod_templates import api_service
from tests.fakes.store_world import FLEET

TRACE = Trace(
    arrival_s=np.array([0.0, 4.0, 10.0]),
    service_class=np.array([0, 1, 0], np.int8),
    service=np.array([0, 1, 0], np.int32),
    cluster=np.array([0, 1, 0], np.int32),
    cpu_work_s=np.array([0.02, 4.0, 0.02]),
    memory_mib=np.array([32.0, 128.0, 32.0]),
    services=("web", "batch"),
    clusters=("c1", "c2"),
    source="by hand",
)
ORDER = RunOrder(trace=TRACE, fleet=FLEET, system="load-greedy", seed=3, speed=2.0)


def submission(world: ControlWorld, *, clusters: tuple[str, ...] = ("c1", "c2")) -> Submission:
    """To a stack that these clusters joined."""
    return Submission(runs=world.runs, fleet=world.fleet, cluster_names=lambda: clusters, publisher=world.publisher)


def test_a_run_is_stored_and_announced(world: ControlWorld) -> None:
    """In wall time on the inside, in trace time to the user: at speed 2 the last of 10 seconds is due after 5."""
    here = submission(world)

    prepared = here.prepare(ORDER)
    submitted = here.submit(prepared)

    info = world.runs.run(submitted.run_id)
    assert (info.system, info.fleet, info.seed, info.speed, info.accepted) == ("load-greedy", "pair", 3, 2.0, 3)
    assert (prepared.run.name, prepared.run.trace_source, prepared.run.span_s) == ("by hand", "by hand", 10.0)
    assert prepared.requests.due_s[-1] == 5.0
    assert submitted.announced
    assert world.publisher.replays == [submitted.run_id]


def test_a_trace_is_not_replayed_to_a_service_with_pods_of_its_own(world: ControlWorld) -> None:
    """It has nothing that the service would understand: its requests are empty bodies for the synthetic workload."""
    fleet = replace(FLEET, services=tuple(api_service(name="web") if s.name == "web" else s for s in FLEET.services))
    world.fleet.declare(fleet, kubeconfig="/k", contexts={c.name: c.name for c in fleet.clusters})

    with pytest.raises(UsageError, match=r"service web answers requests of its own kind"):
        submission(world).prepare(replace(ORDER, fleet=fleet))


def test_requests_of_a_trace_are_of_the_tenants_that_it_names(world: ControlWorld) -> None:
    """Each of its own; what names none is the tenant's of the command line. Where one has all of them the run alone says whose it is."""
    teams = replace(TRACE, tenant=np.array([0, 1, 2], np.int32), tenants=("blue", "red", ""))
    own = replace(TRACE, tenant=np.array([0, 0, 0], np.int32), tenants=("blue", "red"))

    of_teams, of_one, of_none = (
        submission(world).prepare(replace(ORDER, trace=trace, tenant="green")) for trace in (teams, own, TRACE)
    )

    assert of_teams.requests.tenant is not None
    assert [of_teams.requests.tenants[t] for t in of_teams.requests.tenant] == ["blue", "red", "green"]
    assert (of_one.run.tenant, of_one.requests.tenant) == ("blue", None)
    assert (of_none.run.tenant, of_none.requests.tenant) == ("green", None)


def test_a_broker_that_is_away_costs_only_time(world: ControlWorld) -> None:
    """The run is stored; the reconciler announces it when the broker is back."""
    world.publisher.away = True
    here = submission(world)

    submitted = here.submit(here.prepare(ORDER))

    assert not submitted.announced
    assert world.runs.run(submitted.run_id).accepted == 3


@pytest.mark.parametrize(
    ("order", "clusters", "words"),
    [
        (replace(ORDER, system="nope"), ("c1", "c2"), "nope"),
        (ORDER, ("c1",), "this stack has no cluster c2; it has: c1"),
    ],
)
def test_what_this_stack_does_not_have_is_refused(
    world: ControlWorld, order: RunOrder, clusters: tuple[str, ...], words: str
) -> None:
    """Before anything is stored: its requests would wait for ever."""
    with pytest.raises(UsageError, match=words):
        submission(world, clusters=clusters).prepare(order)

    assert world.runs.runs() == []


def test_a_service_that_is_not_declared_here_is_refused(world: ControlWorld) -> None:
    """The fleet of the file may have services that the stack's has not."""
    world.state.services.pop("batch")

    with pytest.raises(UsageError, match="this stack has no service batch"):
        submission(world).prepare(ORDER)
