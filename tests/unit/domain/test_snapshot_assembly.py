"""Snapshots are put together in one place, by one rule a column."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from tango.domain.runs import PendingRequests
from tango.domain.services import Service, ServiceClass
from tango.domain.smallest import smallest_pending, smallest_snapshot
from tango.domain.snapshot_assembly import BeColumns, FleetRows, Tails, as_seen, assemble, parts_of

ROOT = Path(__file__).parents[3]
LC = Service(name="lc", service_class=ServiceClass.LC, cpu_work_s=0.1, memory_mib=8, target_ms=100.0, instance_memory_mib=8)
SLOW = replace(LC, name="slow", target_ms=1000.0)
BE = Service(
    name="be", service_class=ServiceClass.BE, cpu_work_s=9.0, memory_mib=64, cpu_request_millicores=200, cpu_limit_millicores=900
)


def rows_of(*services: Service) -> FleetRows:
    """Two clusters that both have a node of one name."""
    return FleetRows(
        clusters=("a", "b"),
        nodes=("n", "n"),
        services=services,
        node_cluster=np.array([0, 1], np.int32),
        rtt_ms=np.zeros((2, 2)),
        bandwidth_mbit_per_s=np.full((2, 2), np.inf),
    )


def test_no_other_module_makes_a_snapshot_by_hand() -> None:
    """A column that is derived in two places means two things before long: `slack` was 1 live and measured when simulated."""
    places = [path for folder in ("tango", "tests", "tasks", "workers") for path in (ROOT / folder).rglob("*.py")]
    by_hand = {str(path.relative_to(ROOT)) for path in places if re.search(r"\bFleetSnapshot\(", path.read_text())}

    assert len(places) > 200
    assert by_hand - {"tests/unit/domain/test_snapshot_assembly.py"} == {"tango/domain/snapshot_assembly.py"}


def test_a_snapshot_is_made_again_of_its_own_parts() -> None:
    """So a cluster may replace parts of what was published to it, and the rest stays figure by figure."""
    random = np.random.default_rng(5)
    snapshot = smallest_snapshot()
    given = {f.name: getattr(snapshot, f.name) for f in fields(snapshot)}
    drawn = {name: random.random(column.shape) for name, column in given.items() if getattr(column, "dtype", None) == np.float64}
    of_reals = {"others": random.random((3, 1)), "barred": np.ones((1, 1), np.bool_), "lc_throttled": random.random(1)}
    snapshot = replace(snapshot, **drawn, **of_reals)
    parts = parts_of(snapshot)

    again = assemble(
        FleetRows.of(snapshot),
        at_s=snapshot.at_s,
        nodes=parts.nodes,
        lc=parts.lc,
        be=parts.be,
        tails=parts.tails,
        pending_be=snapshot.pending_be,
    )

    for name in given:
        mine, its = getattr(snapshot, name), getattr(again, name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_allclose(its, mine, err_msg=name)
        else:
            assert its == mine, name


def test_what_is_known_of_a_node_goes_to_the_node_of_its_own_cluster() -> None:
    """Names of nodes are unique within a cluster only; what has no row counts nowhere."""
    found = rows_of(LC, BE).by_service_and_node(
        [("lc", "a", "n", 1.0), ("lc", "b", "n", 2.0), ("lc", "b", "n", 3.0), ("gone", "a", "n", 9.0), ("lc", "c", "n", 9.0)]
    )

    assert found.tolist() == [[1.0, 5.0], [0.0, 0.0]]


def test_a_nodes_slack_is_the_least_of_its_services_that_were_measured() -> None:
    """1 - tail / target; too few answers say nothing, and a node without any has a slack of 1."""
    tails = Tails(
        latency_ms=np.array([[80.0, 500.0], [1500.0, 100.0], [0.0, 0.0]]),
        samples=np.array([[5, 4], [5, 4], [0, 0]]),
        min_samples=5,
    )

    np.testing.assert_allclose(tails.least_slack((LC, SLOW, BE)), [-0.5, 1.0])


def test_be_pods_hold_what_their_service_declares_and_their_own_memory() -> None:
    """CPU is the service's, memory is each request's."""
    held = BeColumns.of_pods(rows_of(LC, BE), np.array([[0.0, 0.0], [3.0, 1.0]]), np.array([100.0, 64.0]))

    assert held.requests.tolist() == [[600.0, 200.0], [100.0, 64.0], [3.0, 1.0]]
    assert held.cpu_limit.tolist() == [2700.0, 900.0]


def test_a_resource_that_a_service_declares_gets_a_row_of_its_own() -> None:
    """Whatever it is called; what no service asks for has none."""
    gpus = replace(BE, name="gpus", extended=(("nvidia.com/gpu", 1500),))
    rows = rows_of(LC, BE, gpus)

    held = BeColumns.of_pods(rows, np.array([[0.0, 0.0], [3.0, 1.0], [2.0, 0.0]]), np.array([100.0, 64.0]))

    assert rows.resources.names == ("cpu", "memory", "pods", "nvidia.com/gpu")
    assert held.requests[3].tolist() == [3000.0, 0.0]
    assert rows.resources.amounts(cpu=1, memory=2, pods=3, extended={"other.com/x": 9}) == [1.0, 2.0, 3.0, 0.0]


def test_pending_requests_name_services_and_clusters_by_rows_of_the_snapshot() -> None:
    """As every policy reads them; what the snapshot does not know of waits for one that does."""
    snapshot = replace(smallest_snapshot(), services=(LC, BE), clusters=("a", "b"))
    three = smallest_pending().rows(np.zeros(3, np.intp))
    pending = replace(
        three,
        request_id=np.arange(3),
        service=np.array([0, 1, 0], np.int32),
        entry_cluster=np.array([1, 0, 0], np.int32),
    )

    seen = as_seen(PendingRequests(pending=pending, services=("be", "unheard-of"), clusters=("gone", "b")), snapshot)

    assert seen.pending.request_id.tolist() == [0]
    assert (seen.pending.service.tolist(), seen.pending.entry_cluster.tolist()) == ([1], [1])
    assert (seen.services, seen.clusters) == (("lc", "be"), ("a", "b"))
    assert seen.pending.cpu_limit_millicores.tolist() == [900.0]
