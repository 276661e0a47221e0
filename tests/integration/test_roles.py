"""Each role of a stack, composed on a real database: its use cases are built once and do their part of one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tango.bootstrap.cluster_worker import ClusterWorker
from tango.bootstrap.journals import journal_of
from tango.bootstrap.replayer import replay_of
from tango.bootstrap.scheduler import Scheduler
from tango.bootstrap.stores import Stores
from tango.control.centre_line import CentreLine
from tango.control.following import Following
from tango.settings import BeSettings, LcSettings, LeaseSettings, ReplaySettings, Settings
from tests.fakes.publisher import RecordingPublisher
from tests.fakes.store_world import BATCH, TWINS, WEB, instance_of, new_requests, new_run, node_states
from tests.integration.live_stack import ROOT
from workers.run_figures import ComputingProcess

# Whoever comes first compiles the dispatch of LC.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def here(database_url: str, tmp_path: Path) -> Iterator[Stores]:
    """The stores of one process, over two clusters as their agents saw them; what is dispatched goes through the broker."""
    settings = Settings(
        database_url=database_url,
        broker_url="memory://",
        journal_dir=str(tmp_path),
        lc=LcSettings(start_here=False),
        replay=ReplaySettings(lead_s=0.0, hand_over_s=0.0),
        # Compiling may take a minute on a busy machine: no lease runs out meanwhile, nor is a cluster taken for one that is away.
        be=BeSettings(lease_ttl_s=600.0),
        lease=LeaseSettings(dispatch_s=600.0, placement_s=600.0, silent_s=600.0),
    )
    stores = Stores(settings)
    stores.fleet.declare(TWINS, kubeconfig="/nowhere", contexts={c.name: c.name for c in TWINS.clusters})
    for cluster in TWINS.clusters:
        seen = [instance_of(WEB, node.name) for node in cluster.nodes]
        stores.fleet.observe(cluster.name, node_states(cluster), seen, sample=True)
    yield stores
    stores.database.close()


@pytest.fixture
def run_id(here: Stores) -> int:
    """Two LC requests and two BE ones, due at once, under a system that needs no network."""
    run = replace(new_run(), system="load-greedy")
    return here.runs.create_run(run, new_requests((WEB, WEB, BATCH, BATCH), gap_s=0.0))


def _states(here: Stores, run_id: int) -> dict[str, int]:
    return dict(
        here.database.rows(
            "SELECT class::text || ' ' || state::text, count(*) FROM request WHERE run_id = %s GROUP BY 1", (run_id,)
        )
    )


def test_a_run_passes_through_the_roles(here: Stores, run_id: int) -> None:
    """The agent hands over, the replayer begins and releases, a cluster worker dispatches, the agent ships, the scheduler places."""
    publisher = RecordingPublisher(here.clock.now_s)
    journal = journal_of("c1", here.settings)
    line = CentreLine(
        "c1",
        shares=here.shares,
        tokens=here.tokens,
        live=here.live_runs,
        following=Following(here.shares, ["c1"]),
        journal=journal,
        clock=here.clock,
        settings=here.settings.journal,
    )
    worker, scheduler = ClusterWorker("c1", journal, publisher, here.settings), Scheduler(here, publisher, ComputingProcess.begin)
    try:
        line.follow()
        line.publish()
        replayed = replay_of(here, publisher).slice(run_id, owner="replayer")
        line.follow()
        released = journal.release_due(run_id, until_s=1.0, limit=10)
        dispatched = worker.dispatch.dispatch(run_id, "c1", [0])
        line.ship()
        admitted = scheduler.admission.admit(run_id, [2, 3])
        placed = scheduler.placement.tick()
        swept = scheduler.reconciliation.sweep()

        assert (replayed["released"], replayed["again"]) == (2, False)
        assert [batch.request_ids for batch in released.batches] == [(0,)]
        assert dispatched == {"considered": 1, "dispatched": 1}
        assert admitted == {"considered": 2, "admitted": 2}
        assert placed["considered"] == 2
        assert swept["finished"] == 0
        assert [(cluster, ids) for _, cluster, ids, _ in publisher.sent_on] == [("c1", (0,))]
        states = _states(here, run_id)
        assert (states["lc dispatched"], states["lc accepted"]) == (1, 1)  # the other entered c2, which has no agent here
        assert here.fleet.snapshot(at_s=0.0).in_flight.sum() == 1
    finally:
        worker.close()


def test_a_cancelled_run_is_swept_and_idle_instances_are_left_alone(here: Stores, run_id: int) -> None:
    """The scheduler's other two rounds: nothing of the run is left, and instances of declared size are not touched."""
    scheduler = Scheduler(here, RecordingPublisher(here.clock.now_s), ComputingProcess.begin)
    here.runs.cancel(run_id)

    swept = scheduler.cancel_sweep.sweep(owner="scheduler")
    round_ = scheduler.reassurance.next()

    assert (swept["cancelled"], swept["closed"]) == (4, 1)
    assert here.figures.claim(lease_s=-1.0, most_claims=9) is not None  # its figures are ordered
    assert _states(here, run_id) == {"lc cancelled": 2, "be cancelled": 2}
    assert round_ == {"resizes": 0, "evictions": 0}


def test_figures_are_computed_by_a_process_of_their_own(here: Stores, run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the stores by its environment, saves what it has computed, and ends."""
    for name, value in (
        ("TANGO_DATABASE_URL", here.settings.database_url),
        ("TANGO_BROKER_URL", here.settings.broker_url),
        ("PYTHONPATH", str(ROOT)),
    ):
        monkeypatch.setenv(name, value)
    scheduler = Scheduler(here, RecordingPublisher(here.clock.now_s), ComputingProcess.begin)
    here.runs.cancel(run_id)
    scheduler.cancel_sweep.sweep(owner="scheduler")

    scheduler.figures.next()

    kept = here.figures.kept(run_id)
    assert kept is not None
    assert (kept["figures"]["accepted"], kept["figures"]["cancelled"]) == (4, 4)
    assert here.database.rows("SELECT value FROM run_metric WHERE run_id = %s AND name = 'accepted'", (run_id,)) == [(4.0,)]
