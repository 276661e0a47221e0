"""What a recorded run ran on and under: found by its hash, made of what was observed where no file has it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.outcomes import RunOutcomes
from tango.domain.runs import RunKind, RunStatus
from tango.domain.snapshot import FleetSnapshot
from tango.errors import UsageError
from tango.experiments.recorded_runs import fleet_of_run, require_replayable, with_sharing_of
from tango.fleets import load_fleet
from tango.systems import system
from tests.fakes.run_records import i4, outcomes_of, samples_of
from tests.fakes.store_world import FLEET, WEB, StoreWorld, memory_world

ONE_REQUEST = [{"due": 1.0, "start": 1.1, "end": 1.2}]
NO_SAMPLES = samples_of([])
EDGE = Cluster(name="edge", nodes=(Node(name="n1", cpu_millicores=8000, memory_mib=1024),))
"""A cluster that joined by kubeconfig: no declared fleet has it."""


@dataclass
class InForce:
    """Implements `FleetInForce`."""

    fleet: Fleet | None
    world: StoreWorld

    def declared(self) -> Fleet:
        """Given."""
        if self.fleet is None:
            raise UsageError("no fleet is declared yet")
        return self.fleet

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """Of the world."""
        return self.world.fleet.snapshot(at_s=at_s)


def in_force(fleet: Fleet | None = FLEET, *, joined: tuple[Cluster, ...] = ()) -> InForce:
    """A fleet, and clusters that are observed beside its own."""
    return InForce(fleet, memory_world(replace(FLEET, clusters=(*FLEET.clusters, *joined))))


def recorded(**facts: object) -> RunOutcomes:
    """A run of one request on `FLEET`."""
    return outcomes_of(ONE_REQUEST, **{"fleet": FLEET.name, "fleet_hash": FLEET.source_hash, **facts})


def test_the_fleet_in_force_is_taken_if_the_run_has_its_hash() -> None:
    """As it is, where no cluster had joined."""
    assert fleet_of_run(recorded(), NO_SAMPLES, in_force=in_force()) == FLEET


@pytest.mark.parametrize("declared", [None, FLEET], ids=["none was ever declared", "another is in force"])
def test_a_built_in_fleet_is_found_by_its_name(declared: Fleet | None) -> None:
    """A database that was brought along from elsewhere can be looked at."""
    demo = load_fleet("demo")
    run = recorded(fleet="demo", fleet_hash=demo.source_hash)

    assert fleet_of_run(run, NO_SAMPLES, in_force=in_force(declared)) == demo


@pytest.mark.parametrize("facts", [{"fleet_hash": "0" * 64}, {"fleet": "demo", "fleet_hash": "0" * 64}, {"fleet": "mine.yaml"}])
def test_a_fleet_of_the_name_alone_is_not_taken_for_the_runs(facts: dict[str, object]) -> None:
    """It has been changed since; the message names the fleet and the way out."""
    known = in_force(replace(FLEET, source_hash="1" * 64))

    with pytest.raises(UsageError, match=r"run 7 ran on fleet .+ neither in force nor built in; name its file with --fleet FILE"):
        fleet_of_run(recorded(**facts), NO_SAMPLES, in_force=known)


def test_a_named_fleet_is_taken_whatever_its_hash() -> None:
    """The user says so."""
    run = recorded(clusters=("c1",), nodes=("c1-n1",), node_cluster=i4([0]))

    assert fleet_of_run(run, NO_SAMPLES, in_force=in_force(), named="single") == load_fleet("single")


def test_a_cluster_that_had_joined_is_made_of_what_was_observed() -> None:
    """Its nodes have the mean of what was allocatable, and a node without a sample is left out; links are those of now."""
    run = recorded(clusters=("c1", "edge"), nodes=("c1-n1", "n1", "n2"), node_cluster=i4([0, 1, 1]))
    samples = samples_of([(1.0, 0, 4000.0, 8192.0), (1.0, 1, 7000.0, 1000.0), (2.0, 1, 9000.0, 1048.0)])
    samples = replace(
        samples,
        extended=("nvidia.com/gpu", "example.com/fpga"),
        extended_allocatable=np.array([[0.0, 2000.0, 2000.0], [0.0, 0.0, 0.0]]),
        extended_held=np.zeros((2, 3)),
    )
    known = in_force(joined=(EDGE,))

    found = fleet_of_run(run, samples, in_force=known)

    assert found.clusters[:-1] == FLEET.clusters
    (node,) = found.clusters[-1].nodes
    assert (found.clusters[-1].name, node.name, node.cpu_millicores, node.memory_mib) == ("edge", "n1", 8000, 1024)
    assert node.extended == (("nvidia.com/gpu", 2000),)
    now = known.snapshot(at_s=0.0)
    assert {(link.from_cluster, link.to_cluster) for link in found.links} == {("edge", "c1"), ("edge", "c2")}
    assert found.links[0].rtt_ms == now.rtt_ms[now.clusters.index("edge"), now.clusters.index("c1")]


def test_a_cluster_that_has_left_since_gets_the_links_of_the_network_model() -> None:
    """The snapshot of now does not have it any more."""
    run = recorded(clusters=("edge",), nodes=("n1",), node_cluster=i4([0]))

    found = fleet_of_run(run, samples_of([(1.0, 0, 8000.0, 1024.0)]), in_force=in_force())

    assert found.clusters[-1].name == "edge"
    assert found.links == FLEET.links


def test_a_run_without_reassurance_is_simulated_with_static_instances() -> None:
    """It was submitted with --no-reassure, and never resized an instance."""
    tango = system("tango")

    assert with_sharing_of(recorded(), tango) == tango
    assert with_sharing_of(recorded(reassure=False), tango).sharing == "static"
    assert with_sharing_of(recorded(reassure=False), tango).lc == tango.lc


@pytest.mark.parametrize(
    ("kind", "status", "told"),
    [
        (RunKind.SIMULATED, RunStatus.COMPLETED, "simulated and completed"),
        (RunKind.REPLAYED, RunStatus.RUNNING, "replayed and running"),
    ],
)
def test_only_a_completed_live_run_can_be_replayed(kind: RunKind, status: RunStatus, told: str) -> None:
    """The message says what was found and what is expected."""
    world = memory_world()
    run = world.runs.run(world.create(WEB))

    require_replayable(replace(run, status=RunStatus.COMPLETED))
    with pytest.raises(UsageError, match=rf"run {run.run_id} is {told}, expected a replayed or live run that is completed"):
        require_replayable(replace(run, kind=kind, status=status))
