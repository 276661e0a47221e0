"""Records of calls that fail before they reach a cluster, and calls that hang."""

from __future__ import annotations

import gc
import os
import time
import warnings
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tango.domain.plans import Eviction
from tango.errors import ClusterUnavailable
from tango.kube import cluster_calls
from tango.kube.cluster_calls import KubernetesCalls
from tango.settings import KubeSettings
from tests.waiting import WITHIN_S

EVICTION = Eviction(cluster="c1", node="n1", pod="be-r1-1-e1", run_id=1, request_id=1, epoch=1, work_lost_s=0.0)


def test_an_eviction_that_fails_leaves_its_cause_in_the_log() -> None:
    """A record of an eviction has no field for an error, so whatever was raised is logged beside it."""

    def credentials(_cluster: str) -> tuple[str, str]:
        raise RuntimeError("no row of this cluster")

    clusters = KubernetesCalls(credentials, lambda: [], KubeSettings())

    try:
        with capture_logs() as logs:
            records = clusters.evict([EVICTION])
    finally:
        clusters.close()

    assert [record.outcome for record in records] == ["error"]
    told = [entry for entry in logs if entry["event"] == "eviction_failed"]
    assert told[0]["pod"] == "be-r1-1-e1"
    assert "no row of this cluster" in told[0]["error"]


def test_a_loop_that_hangs_is_a_cluster_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig that is a pipe nobody writes to blocks the loop itself, where no deadline of a call can help.

    Who calls gets an error that it handles, and who closes is not held up: it may be a worker that is being stopped.
    """
    monkeypatch.setattr(cluster_calls, "BATCH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(cluster_calls, "CLOSE_TIMEOUT_S", 0.05)
    pipe = tmp_path / "kubeconfig"
    os.mkfifo(pipe)
    # Not opened for writing alone: that would wait for a reader, and on a busy machine the loop may not have come so far.
    writer = os.open(pipe, os.O_RDWR)
    clusters = KubernetesCalls(lambda cluster: (str(pipe), "c1"), lambda: [], KubeSettings())
    begun_s = time.monotonic()

    with pytest.raises(ClusterUnavailable, match="hang"):
        clusters.evict([EVICTION])
    clusters.close()

    assert time.monotonic() - begun_s < 5.0
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        os.close(writer)  # lets the thread go, which ends
        clusters._loop._thread.join(WITHIN_S)
        gc.collect()
    assert [str(each.message) for each in complaints] == []
