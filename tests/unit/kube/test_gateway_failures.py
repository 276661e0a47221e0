"""The gateway's records of calls that fail before they reach a cluster."""

from __future__ import annotations

from structlog.testing import capture_logs

from tango.domain.plans import Eviction
from tango.kube.gateway import KubernetesGateway
from tango.settings import KubeSettings


def test_an_eviction_that_fails_leaves_its_cause_in_the_log() -> None:
    """A record of an eviction has no room for an error, so whatever was raised is logged beside it."""

    def credentials(_cluster: str) -> tuple[str, str]:
        raise RuntimeError("no row of this cluster")

    gateway = KubernetesGateway(credentials, lambda: [], KubeSettings())
    eviction = Eviction(cluster="c1", node="n1", pod="be-r1-1-e1", run_id=1, request_id=1, epoch=1, work_lost_s=0.0)

    try:
        with capture_logs() as logs:
            records = gateway.evict([eviction])
    finally:
        gateway.close()

    assert [record.outcome for record in records] == ["error"]
    told = [entry for entry in logs if entry["event"] == "eviction_failed"]
    assert told[0]["pod"] == "be-r1-1-e1"
    assert "no row of this cluster" in told[0]["error"]
