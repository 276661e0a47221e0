"""`dsaco`: its file is checked in full, and the layer that comes with Tango prefers what is plainly better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tango.domain.requests import LcArrivals
from tango.domain.smallest import smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import BeColumns, FleetRows, InFlightColumns, LcColumns, NodeColumns, Tails, assemble
from tango.errors import CheckpointError
from tango.learning.checkpoint import save_checkpoint
from tango.learning.lc_layer import load_layer, load_lc_policy, save_layer, shipped_lc_policy
from tango.learning.network import PlacementNetwork
from tango.learning.shipped import shipped_path
from tango.scheduling.lc import dsaco
from tango.scheduling.lc.dsaco import LEARNED_FEATURES, ScoredLayer
from tango.settings import LcSettings


def _layer(hidden: int = 4) -> ScoredLayer:
    rng = np.random.default_rng(3)
    return ScoredLayer(rng.normal(size=(hidden, LEARNED_FEATURES + 1)), rng.normal(size=hidden))


def _saved(path: Path, **changes: object) -> Path:
    save_layer(_layer(), path, trained={"seed": 1})
    if changes:
        torch.save({**torch.load(path, weights_only=True), **changes}, path)
    return path


def test_a_layer_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """The policy of the file has its name, the compiled steps of `dsaco` and the same weights."""
    policy = load_lc_policy(_saved(tmp_path / "a.pt"))

    assert policy.policy is dsaco.POLICY
    np.testing.assert_array_equal(policy.weights(LcSettings()), _layer().weights())


GOOD = {"layer": torch.zeros(4, LEARNED_FEATURES + 1, dtype=torch.float64), "head": torch.zeros(4, dtype=torch.float64)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 99}, "format 99, expected 1"),
        ({"policy": "other"}, "of policy 'other', expected one of 'dsaco'"),
        ({"feature_schema": "other"}, "other features"),
        ({"hidden": 0}, "width 0"),
        ({"hidden": 5}, "do not fit"),
        ({"weights": {"layer": GOOD["layer"]}}, "do not fit"),
        ({"weights": {**GOOD, "more": GOOD["head"]}}, "do not fit"),
        ({"weights": {**GOOD, "head": "text"}}, "do not fit"),
        ({"weights": None}, "do not fit: none"),
        ({"weights": {**GOOD, "head": GOOD["head"] + torch.nan}}, "not finite"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_reason(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    """Another format, policy, feature list, width or shape, and weights that are not finite are told apart."""
    with pytest.raises(CheckpointError, match=said):
        load_layer(_saved(tmp_path / "a.pt", **changes))


def test_a_damaged_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    """No file, half a file and a file over the limit are refused."""
    half = _saved(tmp_path / "half.pt")
    half.write_bytes(half.read_bytes()[:600])
    with pytest.raises(CheckpointError, match="damaged"):
        load_layer(half)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_layer(tmp_path / "none.pt")
    huge = tmp_path / "huge.pt"
    with huge.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(CheckpointError, match="at most"):
        load_layer(huge)


def test_checkpoints_of_other_policies_are_refused(tmp_path: Path) -> None:
    """A placement network is no dispatch layer."""
    save_checkpoint(PlacementNetwork(8), tmp_path / "gnn.pt", name="n", policy="gnn-sac", trained={})

    with pytest.raises(CheckpointError, match="of policy 'gnn-sac', expected one of 'dsaco'"):
        load_layer(tmp_path / "gnn.pt")


def test_the_shipped_layer_was_trained() -> None:
    """What comes with Tango names the algorithm, the seed and the score it was kept for."""
    found = torch.load(shipped_path("dsaco"), weights_only=True)["trained"]

    assert found["algorithm"] == "sac"
    assert found["seed"] < 1_000_000
    assert found["lc_qos_rate"] > 0.9


# ---- decisions -----------------------------------------------------------------------------------------------------------


def _two_clusters(*, in_flight: tuple[float, float], away_ms: float = 4.0, used: tuple[float, float] = (0.2, 0.2)) -> FleetSnapshot:
    """Home `a` and a neighbour `b` of one node of four cores each; one service of 10 ms with a target of 100 ms."""
    both = np.ones(2)
    service = replace(smallest_snapshot().services[0], instance_memory_mib=16)  # holds 16 requests
    rows = FleetRows(
        clusters=("a", "b"),
        nodes=("a1", "b1"),
        services=(service,),
        node_cluster=np.array([0, 1], np.int32),
        rtt_ms=np.array([[0.2, away_ms], [away_ms, 0.2]]),
        bandwidth_mbit_per_s=np.array([[np.inf, 1000.0], [1000.0, np.inf]]),
    )
    counts = np.array([in_flight])
    return assemble(
        rows,
        at_s=0.0,
        nodes=NodeColumns(
            ready=np.ones(2, np.bool_),
            allocatable=rows.resources.columns([[4000, 8192, 110]] * 2),
            lc_requests=rows.resources.columns([[400, 64, 1]] * 2),
            cpu_used=4000 * np.array(used),
            memory_used=64 * both,
            lc_cpu_limit=2000 * both,
        ),
        lc=LcColumns(
            instance_limit=np.full((1, 2), 2000.0),
            instance_count=np.ones((1, 2)),
            in_flight=InFlightColumns.of(rows.services, counts, counts),
        ),
        be=BeColumns.of_pods(rows, np.zeros((1, 2)), 0 * both),
        tails=Tails(latency_ms=np.full((1, 2), 20.0), samples=np.full((1, 2), 9), min_samples=5),
        pending_be=0 * both,
    )


def _chosen(snapshot: FleetSnapshot) -> str:
    arrivals = LcArrivals(
        request_id=np.zeros(1, np.int64),
        service=np.zeros(1, np.int32),
        entry_cluster=np.zeros(1, np.int32),
        due_s=np.zeros(1),
        target_s=np.full(1, 0.1),
        cpu_work_s=np.full(1, 0.01),
        memory_mib=np.ones(1),
        epoch=np.zeros(1, np.int32),
    )
    (node,) = shipped_lc_policy("dsaco")(arrivals, snapshot, LcSettings()).node
    return snapshot.nodes[node]


def test_an_idle_home_is_taken_before_a_far_neighbour_as_idle() -> None:
    """A tenth of the budget on the way, more than any fleet of its training has, is no price for nothing."""
    assert _chosen(_two_clusters(in_flight=(0, 0), away_ms=10.0)) == "a1"


def test_a_jammed_home_is_left_for_an_idle_neighbour() -> None:
    """With 120 requests in flight the home node is late by far; the neighbour is 4 ms away."""
    assert _chosen(_two_clusters(in_flight=(120, 0))) == "b1"


def test_a_jammed_neighbour_is_left_alone() -> None:
    """The same the other way round."""
    assert _chosen(_two_clusters(in_flight=(0, 120))) == "a1"


def test_a_cluster_without_a_ready_instance_makes_no_offer() -> None:
    """However idle it looks, a node that is not ready is not chosen, and without any nothing is."""
    snapshot = _two_clusters(in_flight=(120, 0))
    snapshot.node_ready[1] = False
    assert _chosen(snapshot) == "a1"
