"""Placement in a cluster that refuses for reasons of its own: requests keep their attempts, and go on when it takes them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tango.control.be_deciders import BeDeciders
from tango.control.lease_holder import LeaseHolder
from tango.control.place_be import BePlacement
from tango.errors import UsageError
from tango.kube.cluster_calls import KubernetesCalls
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings, KubeSettings, LeaseSettings
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.store_world import BATCH, MAX_ATTEMPTS, SERVICES
from tests.integration.kube_cluster import EmbeddedCluster

FAST = KubeSettings(attempts=1, backoff_base_s=0.01, backoff_cap_s=0.02, credentials_again_s=0.0)
QUOTAS = "/api/v1/namespaces/tango/resourcequotas"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """An API server alone: pods are made and bound, and nobody runs them."""
    found = EmbeddedCluster(tmp_path_factory.mktemp("c1"))
    try:
        found.start()
        found.new_namespace()
        for name in ("c1-n1", "c1-n2"):
            found.call("POST", "/api/v1/nodes", {"metadata": {"name": name}})
        yield found
    finally:
        found.stop()


@contextmanager
def by_quota(cluster: EmbeddedCluster, kubeconfig: Path) -> Iterator[None]:
    """No pod may be made."""
    cluster.call("POST", QUOTAS, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    yield
    cluster.call("DELETE", f"{QUOTAS}/none")


@contextmanager
def by_expired_token(cluster: EmbeddedCluster, kubeconfig: Path) -> Iterator[None]:
    """The token of the kubeconfig is known no more; somebody writes a new one into the same file."""
    good = kubeconfig.read_text()
    kubeconfig.write_text(good.replace("tango-token", "expired"))
    yield
    kubeconfig.write_text(good)


@pytest.mark.parametrize(
    ("refusing", "kind"), [(by_quota, "quota"), (by_expired_token, "credentials")], ids=["quota", "expired-token"]
)
def test_requests_outlive_a_refusal_and_are_placed_when_it_is_over(
    cluster: EmbeddedCluster, tmp_path: Path, refusing: Callable[..., Iterator[None]], kind: str
) -> None:
    """More rounds of refusals than a request has attempts cost none; the server's words are kept, and gone with the refusal."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig.read_text())

    def credentials(name: str) -> tuple[str, str]:
        if name != "c1":
            raise UsageError(f"no cluster {name!r}")
        return str(kubeconfig), "tango"

    world = control_world()
    calls = KubernetesCalls(credentials, lambda: SERVICES, FAST)
    placement = BePlacement(
        deciders=BeDeciders(policy_of=lambda run_id: place_load_greedy, fallback=place_load_greedy),
        requests=world.requests,
        jobs=world.jobs,
        refusals=world.refusals,
        snapshot=lambda: world.fleet.snapshot(at_s=world.clock.now_s()),
        clusters=calls,
        holder=LeaseHolder(leases=world.leases, owner="scheduler", settings=LeaseSettings()),
        settings=BeSettings(),
    )
    run_id = world.pending(BATCH, BATCH)

    def rounds(count: int) -> None:
        for _ in range(count):
            placement.tick()
            world.clock.turn(70.0)  # longer than any pause; only c1 is heard of, so that nothing goes to c2
            world.state.heard_of("c1")

    world.clock.turn(70.0)
    world.state.heard_of("c1")
    with refusing(cluster, kubeconfig):
        rounds(MAX_ATTEMPTS + 2)
        told = [str(state.kind) for state in world.refusals.pauses().states]
        during = [(world.row(run_id, k).state, world.row(run_id, k).attempt) for k in range(2)]
    rounds(3)
    calls.close()

    assert (told, during) == ([kind], [("pending", 0)] * 2)
    assert [(world.row(run_id, k).state, world.row(run_id, k).attempt) for k in range(2)] == [("placed", 1)] * 2
    assert world.refusals.pauses().states == ()
    assert _bound(cluster, world, run_id) == 2
    cluster.clear()


def _bound(cluster: EmbeddedCluster, world: ControlWorld, run_id: int) -> int:
    pods = cluster.pods()
    return sum(bool(pods[world.row(run_id, k).pod]["spec"].get("nodeName")) for k in range(2))
