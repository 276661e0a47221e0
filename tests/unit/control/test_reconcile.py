"""Reconciliation: what was lost on the way is found again, and what is done is closed."""

from __future__ import annotations

import pytest

from tango.control import reconcile
from tango.control.lease_holder import LeaseHolder
from tango.control.reconcile import LEASE, Reconciliation
from tango.domain.requests import RequestState
from tango.domain.runs import RunStatus
from tango.domain.services import Service
from tango.errors import StoreError, UsageError
from tango.settings import LeaseSettings
from tests.fakes.control_world import ControlWorld
from tests.fakes.store_world import BATCH, LIVE_S, OVER_S, WEB, copy_of

SETTINGS = LeaseSettings(unclaimed_after_s=2.0)


class Figures:
    """Orders figures; fails for the runs of `broken`."""

    def __init__(self, world: ControlWorld, *broken: int) -> None:
        self.world = world
        self.broken = broken

    def __call__(self, run_id: int) -> bool:
        """By the store."""
        if run_id in self.broken:
            raise StoreError("no figures")
        return self.world.figures.order(run_id)


class LiveRuns:
    """Counts its turns; fails where it is `broken`."""

    def __init__(self, broken: Exception | None = None) -> None:
        self.broken, self.turns = broken, 0

    def turn(self) -> None:
        """One."""
        self.turns += 1
        if self.broken is not None:
            raise self.broken


def sweep(
    world: ControlWorld, *, owner: str = "reconciler", figures: Figures | None = None, live: LiveRuns | None = None
) -> dict[str, int]:
    """One."""
    use_case = Reconciliation(
        holder=LeaseHolder(leases=world.leases, owner=owner, settings=SETTINGS),
        runs=world.runs,
        requests=world.requests,
        publisher=world.publisher,
        turn_live=(live or LiveRuns()).turn,
        end_overlong_readers=lambda: 0,
        order_figures=figures or Figures(world),
    )
    return use_case.sweep()


def test_a_live_run_that_cannot_be_turned_leaves_others_as_they_are(world: ControlWorld) -> None:
    """No fleet is declared, or the statement is refused: what expired is requeued all the same."""
    placed(world, BATCH)
    live = LiveRuns(UsageError("no fleet"))

    assert sweep(world, live=live)["requeued"] == 1
    assert live.turns == 1


def draining(world: ControlWorld, run_id: int) -> int:
    """The run with its replay behind it."""
    world.runs.set_status(run_id, RunStatus.DRAINING)
    return run_id


# ---- requests ----------------------------------------------------------------------------------------------------------


def placed(world: ControlWorld, *services: Service, lease_s: float = OVER_S) -> int:
    """A draining run whose BE requests were all given to the first node, under leases that have run out."""
    run_id = draining(world, world.pending(*services))
    world.place(world.requests.pending_be(limit=100), world.fence(), lease_s=lease_s)
    return run_id


def test_a_sweep_is_bounded_and_the_next_one_does_the_rest(world: ControlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead cluster leaves thousands of rows: one transaction must not hold them all, nor one sweep publish them all."""
    monkeypatch.setattr(reconcile, "MOST_EXPIRED", 2)
    monkeypatch.setattr(reconcile, "MOST_UNCLAIMED", 2)
    placed(world, BATCH, BATCH, BATCH)
    draining(world, world.created(BATCH, BATCH, BATCH))

    requeued = [sweep(world)["requeued"] for _ in range(3)]
    world.clock.turn(SETTINGS.unclaimed_after_s + 1.0)
    sweep(world)

    assert requeued == [2, 1, 0]
    assert len(world.publisher.request_ids) == 2


def test_copies_of_lc_are_left_to_their_journals(world: ControlWorld) -> None:
    """However long they stand in flight or waiting: nobody but the journal of their cluster changes them."""
    run_id = draining(world, world.created(WEB, WEB))
    world.open_shares(run_id)
    world.ship(copy_of(run_id, 0, RequestState.RUNNING))

    world.clock.turn(1000.0)
    report = sweep(world)

    assert report == {"requeued": 0, "published": 0, "finished": 0, "open": 1}
    assert world.states(run_id) == ["running", "accepted"]
    assert world.publisher.announced == []


def test_an_expired_request_waits_for_the_centre_without_a_message(world: ControlWorld) -> None:
    """Its cluster is gone: the row goes back with its attempt on record, and the next placement cycle reads what is pending by itself."""
    run_id = placed(world, BATCH)

    report = sweep(world)

    assert report == {"requeued": 1, "published": 0, "finished": 0, "open": 1}
    assert world.states(run_id) == ["pending"]
    assert world.attempts(run_id) == [(0, 1, "requeued", "lease-expired")]
    assert world.publisher.announced == []


def test_a_message_that_seems_lost_is_sent_again_once_a_while(world: ControlWorld) -> None:
    """Rows that stand released for longer than `unclaimed_after_s` are announced again, fresh ones are not, nor those just sent."""
    run_id = draining(world, world.created(BATCH, BATCH))

    fresh = sweep(world)
    world.clock.turn(SETTINGS.unclaimed_after_s + 0.5)
    lost = sweep(world)
    just_sent = sweep(world)

    assert [report["published"] for report in (fresh, lost, just_sent)] == [0, 2, 0]
    assert lost["requeued"] == 0
    assert sorted(world.publisher.request_ids) == [0, 1]
    assert world.states(run_id) == ["released", "released"]


def test_with_the_broker_away_the_sweep_ends_well_and_hints_come_later(world: ControlWorld) -> None:
    """The rows are the truth: what could not be announced now is found unclaimed by a later sweep."""
    run_id = world.created(BATCH)
    world.publisher.away = True
    world.clock.turn(SETTINGS.unclaimed_after_s + 0.5)

    away = sweep(world)
    world.publisher.away = False
    world.clock.turn(SETTINGS.unclaimed_after_s + 0.5)
    sweep(world)

    assert away == {"requeued": 0, "published": 1, "finished": 0, "open": 1}
    assert world.publisher.request_ids == [0]
    assert world.publisher.replays == [run_id]


# ---- runs --------------------------------------------------------------------------------------------------------------


def test_the_figures_of_a_run_whose_requests_have_all_ended_are_ordered_once(world: ControlWorld) -> None:
    """It is completed with them, and until then it is not: whoever waits for its end finds its figures."""
    run_id = draining(world, world.created(WEB))
    world.ship(copy_of(run_id, 0))

    reports = [sweep(world), sweep(world)]
    claim = world.figures.claim(lease_s=LIVE_S, most_claims=3)
    before = world.runs.run(run_id).status
    assert claim is not None
    world.figures.save(claim, {"figures": {}}, {})

    assert [(report["finished"], report["open"]) for report in (*reports, sweep(world))] == [(1, 1), (0, 1), (0, 0)]
    assert (claim.run_id, before) == (run_id, RunStatus.DRAINING)
    assert world.runs.run(run_id).status is RunStatus.COMPLETED


def test_a_run_with_a_live_request_stays_open(world: ControlWorld) -> None:
    """One of two has ended by what was shipped, the other has not: there are no figures yet."""
    run_id = draining(world, world.created(WEB, WEB))
    world.ship(copy_of(run_id, 0))

    report = sweep(world)

    assert (report["finished"], world.figures.claim(lease_s=LIVE_S, most_claims=3)) == (0, None)
    assert world.runs.run(run_id).status is RunStatus.DRAINING


def test_a_run_that_nobody_replays_gets_a_replayer(world: ControlWorld) -> None:
    """Its message was lost, or its replayer died and the lease ran out: both are asked for again, and may begin at once."""
    new = world.submit(WEB)
    orphan = world.create(WEB)
    world.runs.set_status(orphan, RunStatus.RUNNING)
    world.leases.acquire(f"replay:{orphan}", owner="dead", ttl_s=OVER_S)

    sweep(world)

    assert world.publisher.replays == [new, orphan]
    assert world.free(f"replay:{new}")
    assert world.free(f"replay:{orphan}")


def test_leases_of_replays_that_are_long_over_go_with_the_next_run_that_ends(world: ControlWorld) -> None:
    """Otherwise there would be one for each run that ever was."""
    world.leases.acquire("replay:77", owner="replayer", ttl_s=5.0)
    world.clock.turn(5.0 + reconcile.REPLAYS_IDLE_S + 1.0)
    run_id = world.create()
    world.runs.set_status(run_id, RunStatus.DRAINING)

    assert sweep(world)["finished"] == 1

    begun_anew = world.leases.acquire("replay:77", owner="another", ttl_s=5.0)
    assert begun_anew is not None
    assert begun_anew.epoch == 1


def test_a_run_that_is_replayed_is_left_to_its_replayer(world: ControlWorld) -> None:
    """The lease is looked at, not taken: it stays with its holder."""
    run_id = world.create(WEB)
    world.runs.set_status(run_id, RunStatus.RUNNING)
    fence = world.leases.acquire(f"replay:{run_id}", owner="replayer", ttl_s=5.0)

    sweep(world)

    assert world.publisher.replays == []
    assert world.leases.acquire(f"replay:{run_id}", owner="replayer", ttl_s=5.0) == fence


@pytest.mark.parametrize("status", [RunStatus.DRAINING, RunStatus.COMPLETED, RunStatus.CANCELLED])
def test_a_run_with_nothing_to_release_gets_no_replayer(world: ControlWorld, status: RunStatus) -> None:
    """All released, or over."""
    run_id = world.created(WEB)
    world.runs.set_status(run_id, status)

    sweep(world)

    assert world.publisher.replays == []


def test_a_broken_off_run_of_no_live_request_is_closed_without_a_replayer(world: ControlWorld) -> None:
    """All its requests ended before the last slice could say that it was draining: nothing is left to release."""
    run_id = world.created(WEB)
    world.runs.set_status(run_id, RunStatus.RUNNING)
    world.ship(copy_of(run_id, 0, RequestState.SHED))

    report = sweep(world)

    assert report["finished"] == 1
    assert world.publisher.replays == []


def test_a_sweep_tells_how_many_runs_want_periodic_tasks(world: ControlWorld) -> None:
    """Those that are open, until they have their figures, and those that are being cancelled, whose pods have yet to go; not those that
    have ended."""
    draining(world, world.created(WEB))
    world.runs.set_status(world.created(WEB), RunStatus.CANCELLING)
    world.runs.set_status(world.created(WEB), RunStatus.COMPLETED)
    world.ship(copy_of(draining(world, world.created(WEB)), 0))

    assert sweep(world)["open"] == 3


# ---- one at a time -----------------------------------------------------------------------------------------------------


def test_one_reconciler_sweeps_at_a_time(world: ControlWorld) -> None:
    """Beat may fire twice: who finds the lease taken does nothing, and gets his turn when the holder is silent for five seconds."""
    run_id = placed(world, BATCH)
    world.leases.acquire(LEASE, owner="another", ttl_s=5.0)

    early = sweep(world, owner="this")
    state_then = world.states(run_id)
    world.clock.turn(5.5)
    later = sweep(world, owner="this")

    assert early == {"requeued": 0, "published": 0, "finished": 0, "open": 0}
    assert state_then == ["placed"]
    assert later["requeued"] == 1


def test_a_reconciler_that_died_is_replaced_after_five_seconds(world: ControlWorld) -> None:
    """Its own lease is no longer than that, so that nothing lost waits long for being found."""
    sweep(world, owner="dead")
    placed(world, BATCH)

    world.clock.turn(4.5)
    early = sweep(world, owner="next")
    world.clock.turn(1.0)
    later = sweep(world, owner="next")

    assert (early["requeued"], later["requeued"]) == (0, 1)


def test_a_run_whose_figures_fail_keeps_nobody_else_waiting(world: ControlWorld) -> None:
    """It stays open for the next sweep; other runs' requests are announced and other runs are closed."""
    broken, done = (draining(world, world.created(WEB)) for _ in range(2))
    world.ship(copy_of(broken, 0), copy_of(done, 0))
    waiting = draining(world, world.created(BATCH))
    world.clock.turn(SETTINGS.unclaimed_after_s + 0.5)

    report = sweep(world, figures=Figures(world, broken))

    claim, other = (world.figures.claim(lease_s=LIVE_S, most_claims=3) for _ in range(2))

    assert report == {"requeued": 0, "published": 1, "finished": 1, "open": 3}
    assert [batch.run_id for batch in world.publisher.batches] == [waiting]
    assert world.runs.run(broken).status is RunStatus.DRAINING
    assert claim is not None
    assert (claim.run_id, other) == (done, None)
