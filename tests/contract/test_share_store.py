"""`ShareStore`, on the fake and on PostgreSQL: a share is handed over once, a shipment counts once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tango.domain.requests import RequestState
from tango.domain.runs import RunStatus
from tango.domain.shares import DecisionCopy, LcInFlight, LcWait, ShareState
from tango.settings import LeaseSettings, StoreSettings
from tango.store.database import Database
from tango.store.shares import SKIPPED_RUNS, PostgresShareStore
from tests.fakes.store_world import (
    BATCH,
    CHAT,
    LC_DECISION,
    WEB,
    ZERO_S,
    StoreWorld,
    attempt_of,
    copy_of,
    memory_world,
    postgres_world,
)


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> StoreWorld:
    """One implementation after the other."""
    if request.param == "memory":
        return memory_world()
    return postgres_world(request.getfixturevalue("database_url"))


def _share(world: StoreWorld, run_id: int, cluster: str = "c1") -> ShareState:
    (found,) = [share for share in world.shares.shares(run_id) if share.cluster == cluster]
    return found


def _decision(run_id: int) -> DecisionCopy:
    return DecisionCopy(run_id=run_id, at_s=ZERO_S + 1.0, record=LC_DECISION, apply_ms=0.5)


# ---- a centre that was restored ----------------------------------------------------------------------------------------


def test_a_journal_goes_on_from_its_first_event_and_what_is_lost_is_told(world: StoreWorld) -> None:
    """Also one of which nothing is known; a second time, or late, it changes nothing."""
    before = world.create(WEB)
    world.ship(copy_of(before, 0, RequestState.RUNNING))
    lost = [world.shares.go_on("c1", journal, first=first) for journal in ("first", "unknown") for first in (7, 7, 3)]

    assert lost == [5, 0, 0, 6, 0, 0]
    assert [world.shares.position("c1", journal) for journal in ("first", "unknown")] == [6, 6]
    assert [(gap.cluster, gap.missing) for gap in world.shares.gaps()] == [("c1", 11)]
    run_id = world.create(WEB)
    assert world.ship(copy_of(run_id, 0)) == 7
    assert [row.state for row in world.rows(run_id)] == ["succeeded"]
    if isinstance(world.shares, PostgresShareStore):  # journals may know runs that were submitted meanwhile
        assert run_id > before + SKIPPED_RUNS


# ---- hand-over ---------------------------------------------------------------------------------------------------------


def test_a_run_has_a_share_for_each_cluster_with_lc_requests(world: StoreWorld) -> None:
    """BE requests belong to no share; nothing is handed over at first."""
    run_id = world.create(WEB, BATCH, CHAT, BATCH, WEB)
    both = world.create(WEB, WEB)
    none = world.create(BATCH)

    assert world.shares.shares(run_id) == [
        ShareState(run_id=run_id, cluster="c1", accepted=3, handed_to=-1, complete=False, terminal=0)
    ]
    assert [(s.cluster, s.accepted) for s in world.shares.shares(both)] == [("c1", 1), ("c2", 1)]
    assert world.shares.shares(none) == world.shares.shares(4711) == []


def test_a_cluster_follows_the_runs_that_it_has_a_share_of_until_they_end(world: StoreWorld) -> None:
    """Accepted, running and cancelling ones, in order of their ids, with what is known of the share; for all clusters at once."""
    of_both, of_one, ended = world.create(WEB, WEB), world.create(WEB), world.create(WEB, WEB)
    world.create(BATCH, BATCH)
    world.cancel(ended)
    world.runs.cancel(of_both)

    followed = world.shares.followed(["c1", "c2", "c3"]).shares

    assert [(run.run_id, run.status) for run, _ in followed["c1"]] == [
        (of_both, RunStatus.CANCELLING),
        (of_one, RunStatus.ACCEPTED),
    ]
    assert [share.cluster for _, share in followed["c1"]] == ["c1", "c1"]
    assert [run.run_id for run, _ in followed["c2"]] == [of_both]
    assert followed["c1"][1][0] == world.runs.run(of_one)
    assert followed["c3"] == []
    assert world.shares.followed(["c2"]).shares == {"c2": followed["c2"]}


def test_a_run_is_open_whoever_has_a_share_of_it(world: StoreWorld) -> None:
    """Of best effort alone no cluster has one, and the run goes on all the same; when it has ended, nothing is open."""
    before = world.shares.followed(["c1"])
    run_id = world.create(BATCH)

    during = world.shares.followed(["c1"])
    world.cancel(run_id)

    assert (before.is_open, during.is_open, world.shares.followed(["c1"]).is_open) == (False, True, False)
    assert during.shares == {"c1": []}


def test_the_rows_of_a_share_come_in_order_and_in_parts(world: StoreWorld) -> None:
    """Only LC of this entry cluster, with all that a journal needs; the next part begins beyond the last."""
    run_id = world.create(WEB, CHAT, BATCH, CHAT, WEB, BATCH, CHAT)

    first = world.shares.share_rows(run_id, "c1", beyond=-1, limit=2)
    rest = world.shares.share_rows(run_id, "c1", beyond=4, limit=2)

    assert (first.request_id.tolist(), rest.request_id.tolist()) == ([0, 4], [6])
    assert (first.service, rest.service) == (("web", "web"), ("chat",))
    assert first.due_s.tolist() == [0.0, 4.0]
    assert first.target_s.tolist() == [0.5, 0.5]
    assert (first.cpu_work_s.tolist(), first.memory_mib.tolist()) == ([0.1, 0.1], [64.0, 64.0])
    assert (first.epoch.tolist(), first.attempt.tolist()) == ([0, 0], [0, 0])
    assert len(world.shares.share_rows(run_id, "c1", beyond=6, limit=2)) == 0
    assert len(world.shares.share_rows(4711, "c1", beyond=-1, limit=2)) == 0


def test_the_rows_of_a_share_are_those_that_are_live_as_far_as_they_have_come(world: StoreWorld) -> None:
    """A second journal, after the first was lost, takes what was not told to be over, under the epoch that was told last."""
    run_id = world.create(*[WEB] * 6)
    world.ship(copy_of(run_id, 0), copy_of(run_id, 2, RequestState.RUNNING, epoch=3))

    rows = world.shares.share_rows(run_id, "c1", beyond=-1, limit=9)

    assert rows.request_id.tolist() == [2, 4]
    assert (rows.epoch.tolist(), rows.attempt.tolist()) == ([3, 0], [3, 0])


def test_a_share_is_opened_while_its_run_is_open(world: StoreWorld) -> None:
    """Twice the same; not of a run that is cancelled or unknown, nor where the run has no share."""
    run_id, stopped = world.create(WEB), world.create(WEB)
    world.runs.cancel(stopped)

    assert [world.shares.open_share(run_id, "c1") for _ in range(2)] == [True, True]
    assert not world.shares.open_share(stopped, "c1")
    assert not world.shares.open_share(run_id, "c2")
    assert not world.shares.open_share(4711, "c1")


def test_a_hand_over_goes_forward_only(world: StoreWorld) -> None:
    """A note that comes late changes nothing, and what is complete stays so."""
    run_id = world.create(*[WEB] * 9)
    world.shares.open_share(run_id, "c1")
    seen = []
    for up_to, complete in ((4, False), (2, True), (4, True), (8, False)):
        world.shares.handed(run_id, "c1", up_to=up_to, complete=complete)
        share = _share(world, run_id)
        seen.append((share.handed_to, share.complete))

    assert seen == [(4, False), (4, False), (4, True), (8, True)]
    assert _share(world, run_id, "c2").handed_to == -1


# ---- cancellation ------------------------------------------------------------------------------------------------------


def test_a_share_that_was_not_opened_is_cancelled_with_its_run(world: StoreWorld) -> None:
    """It counts as terminal at once, and no journal gets it any more."""
    run_id = world.create(WEB, WEB, BATCH)

    assert world.cancel(run_id) == 3

    assert [(s.accepted, s.terminal) for s in world.shares.shares(run_id)] == [(1, 1), (1, 1)]
    assert not world.shares.open_share(run_id, "c1")
    assert world.runs.run(run_id).status is RunStatus.CANCELLED
    assert world.all_terminal(run_id)


def test_what_a_journal_has_of_a_cancelled_run_is_its_own(world: StoreWorld) -> None:
    """The sweep leaves an opened share alone until it is complete, and then takes what lies beyond; the run is closed when the journal has
    shipped the rest."""
    run_id = world.create(*[WEB] * 8)
    world.shares.open_share(run_id, "c1")
    world.shares.handed(run_id, "c1", up_to=2, complete=False)

    first = world.cancel(run_id)
    world.shares.handed(run_id, "c1", up_to=4, complete=True)
    second = world.cancel(run_id)
    states = [row.state for row in world.rows(run_id)]
    waiting = world.runs.run(run_id).status
    world.ship(*(copy_of(run_id, k, RequestState.CANCELLED, epoch=0) for k in (0, 2, 4)))
    closed = world.runs.close_cancelled(run_id)

    assert (first, second) == (4, 1)  # those of c2, which was not opened; then id 6
    assert states == ["accepted", "cancelled"] * 3 + ["cancelled"] * 2
    assert (waiting, closed) == (RunStatus.CANCELLING, True)
    assert [(s.cluster, s.terminal) for s in world.shares.shares(run_id)] == [("c1", 4), ("c2", 4)]


@pytest.mark.parametrize("kind", ["memory", "postgres"])
def test_a_sweep_in_chunks_counts_each_request_of_a_share_once(kind: str, request: pytest.FixtureRequest) -> None:
    """Over any number of chunks, and again after the last."""
    by_three = StoreSettings(chunk_rows=3)
    world = (
        memory_world(store=by_three)
        if kind == "memory"
        else postgres_world(request.getfixturevalue("database_url"), store=by_three)
    )
    run_id = world.create(*[WEB] * 10)

    assert (world.cancel(run_id), world.cancel(run_id)) == (10, 0)
    assert [(s.accepted, s.terminal) for s in world.shares.shares(run_id)] == [(5, 5), (5, 5)]


# ---- shipments ---------------------------------------------------------------------------------------------------------


def test_a_shipment_is_written_whole(world: StoreWorld) -> None:
    """Copies, attempts and decisions, and the position of the journal."""
    run_id = world.create(WEB, WEB, WEB)

    position = world.ship(
        copy_of(run_id, 0),
        copy_of(run_id, 2, RequestState.DISPATCHED, epoch=2),
        attempts=[attempt_of(run_id, 0), attempt_of(run_id, 2, outcome="requeued", reason="timed-out")],
        decisions=[_decision(run_id)],
    )

    assert position == world.shares.position("c1", "first") == 2
    assert [(r.state, r.epoch, r.attempt, r.node, r.started_s, r.finished_s) for r in world.rows(run_id)] == [
        ("succeeded", 1, 1, "c1-n1", 1.5, 2.0),
        ("accepted", 0, 0, "", None, None),
        ("dispatched", 2, 2, "c1-n1", None, None),
    ]
    assert world.attempts(run_id) == [(0, 1, "succeeded", ""), (2, 1, "requeued", "timed-out")]
    assert world.decisions() == 1
    assert [(s.cluster, s.terminal) for s in world.shares.shares(run_id)] == [("c1", 1), ("c2", 0)]


def test_candidates_that_decisions_bring_are_kept_of_the_newest(world: StoreWorld) -> None:
    """Whether a journal ships a decision or the centre makes it; of those beyond the bound the oldest lose theirs, and nothing else."""
    run_id = world.create(WEB, BATCH)
    shipped = [replace(_decision(run_id).record, weighed=text) for text in ("[1]", "[2]", "")]
    world.ship(decisions=[_decision(run_id)._replace(record=r, at_s=ZERO_S + k, sequence=k + 1) for k, r in enumerate(shipped)])
    world.release(run_id)
    world.admit(run_id, [1])
    world.place(world.requests.pending_be(limit=1), world.fence(), weighed="[3]")

    kept = world.weighed()
    forgotten = world.events.forget_candidates(keep=2), world.events.forget_candidates(keep=2)

    assert kept == ["[1]", "[2]", "[3]"]
    assert forgotten == (1, 0)
    assert world.weighed() == ["[2]", "[3]"]
    assert world.decisions() == 4


def test_a_shipped_attempt_names_its_decision_and_tells_its_way_on_the_clock_of_the_run(database_url: str) -> None:
    """Also where the decision was in an earlier shipment, or another journal of the cluster had the same number before."""
    world = postgres_world(database_url)
    run_id = world.create(WEB, WEB, WEB)
    lost = _decision(run_id)._replace(sequence=7)
    first, second = (_decision(run_id)._replace(sequence=k, at_s=ZERO_S + k) for k in (7, 9))
    way = {"released_at_s": ZERO_S + 1.0, "dispatched_at_s": ZERO_S + 1.25, "sent_s": 1.375}
    world.ship(decisions=[lost], journal="lost")
    world.ship(copy_of(run_id, 0, RequestState.RUNNING), decisions=[first])
    world.ship(
        copy_of(run_id, 0),
        copy_of(run_id, 2),
        attempts=[attempt_of(run_id, 0)._replace(decided=7, **way), attempt_of(run_id, 2)._replace(decided=9)],
        decisions=[second],
    )

    rows = Database(database_url).rows(
        "SELECT p.request_id, d.at - r.started_at, released_s, dispatched_s, sent_s, release_s, dispatch_s, send_s, start_s, serve_s, "
        "settle_s FROM request_phases p JOIN run r USING (run_id) LEFT JOIN decision d USING (decision_id) ORDER BY 1"
    )

    assert rows == [
        (0, timedelta(seconds=7), 1.0, 1.25, 1.375, 1.0, 0.25, 0.125, 0.125, 0.5, 8.0),
        (1, *[None] * 10),
        (2, timedelta(seconds=9), *[None] * 7, 0.5, 8.0),
    ]


def test_a_shipment_counts_once(world: StoreWorld) -> None:
    """The second time it changes nothing, be it the last one or an older one."""
    run_id = world.create(WEB, WEB, WEB)
    first = world.shipment(copy_of(run_id, 0), attempts=[attempt_of(run_id, 0)], decisions=[_decision(run_id)])

    positions = [world.shares.apply(first), world.shares.apply(first)]
    positions.append(world.ship(copy_of(run_id, 2, RequestState.RUNNING)))
    positions.append(world.shares.apply(first))

    assert positions == [1, 1, 2, 2]
    assert _share(world, run_id).terminal == 1
    assert len(world.attempts(run_id)) == world.decisions() == 1


def test_a_gap_is_refused_and_the_position_told(world: StoreWorld) -> None:
    """Also where nothing of the journal is known, and where a shipment overlaps what is written; nothing of it is left behind."""
    run_id = world.create(*[WEB] * 5)
    sent = world.shipment(copy_of(run_id, 0))

    unknown = world.shares.apply(replace(sent, first=3, last=5))
    nothing = world.shares.positions()
    world.shares.apply(sent)
    gap = world.shares.apply(replace(sent, first=3, last=5, requests=(copy_of(run_id, 2),)))
    overlap = world.shares.apply(replace(sent, first=1, last=5, requests=(copy_of(run_id, 2),)))

    assert (unknown, nothing) == (0, [])
    assert (gap, overlap) == (1, 1)
    assert [r.state for r in world.rows(run_id)] == ["succeeded"] + ["accepted"] * 4


def test_a_copy_goes_forward_only(world: StoreWorld) -> None:
    """A terminal request stays as it is, and one of a newer epoch is not put back; the same epoch moves on."""
    run_id = world.create(*[WEB] * 5)
    world.ship(copy_of(run_id, 0), copy_of(run_id, 2, RequestState.RUNNING, epoch=2), copy_of(run_id, 4, RequestState.DISPATCHED))

    world.ship(
        copy_of(run_id, 0, RequestState.FAILED, epoch=2, reason="late"),
        copy_of(run_id, 2, RequestState.FAILED, epoch=1, reason="old"),
        copy_of(run_id, 4, RequestState.RUNNING),
    )

    states = [(r.state, r.epoch, r.reason) for r in world.rows(run_id)]
    assert states[::2] == [("succeeded", 1, ""), ("running", 2, ""), ("running", 1, "")]
    assert _share(world, run_id).terminal == 1


def test_a_shipment_changes_only_lc_that_entered_its_cluster(world: StoreWorld) -> None:
    """Neither BE nor what belongs to another journal, nor requests that do not exist."""
    run_id = world.create(WEB, WEB, BATCH)
    wrong = (1, 2, 99)

    world.ship(*(copy_of(run_id, k) for k in wrong), attempts=[attempt_of(run_id, k) for k in wrong])

    assert [r.state for r in world.rows(run_id)] == ["accepted"] * 3
    assert world.attempts(run_id) == []
    assert [s.terminal for s in world.shares.shares(run_id)] == [0, 0]


def test_what_is_shipped_of_a_deleted_run_is_dropped(world: StoreWorld) -> None:
    """The rest of the shipment counts, and the journal's position moves on."""
    gone, stays = world.create(WEB), world.create(WEB)
    world.cancel(gone)
    world.runs.delete(gone)

    position = world.ship(
        copy_of(gone, 0),
        copy_of(stays, 0),
        attempts=[attempt_of(gone, 0), attempt_of(stays, 0)],
        decisions=[_decision(gone), _decision(stays)],
    )

    assert position == 2
    assert (world.rows(gone), world.attempts(gone)) == ([], [])
    assert [r.state for r in world.rows(stays)] == ["succeeded"]
    assert world.decisions() == 1
    assert world.shares.shares(gone) == []


def test_an_attempt_is_written_once(world: StoreWorld) -> None:
    """Two journals that had a request, one after the other, may both tell how an epoch ended: the first counts."""
    run_id = world.create(WEB)

    world.ship(attempts=[attempt_of(run_id, 0, outcome="requeued", reason="timed-out")])
    world.ship(attempts=[attempt_of(run_id, 0)], journal="second")

    assert world.attempts(run_id) == [(0, 1, "requeued", "timed-out")]


def test_a_run_is_terminal_when_its_copies_are(world: StoreWorld) -> None:
    """BE and every share, in any order."""
    run_id = world.create(WEB, WEB, BATCH)
    seen = [world.all_terminal(run_id)]
    world.release(run_id)
    world.requests.admit_be(run_id, [2], most_memory_mib={"batch": -1.0})
    seen.append(world.all_terminal(run_id))
    world.ship(copy_of(run_id, 0))
    seen.append(world.all_terminal(run_id))
    world.ship(copy_of(run_id, 1, RequestState.RELEASED), cluster="c2")
    seen.append(world.all_terminal(run_id))

    world.ship(copy_of(run_id, 1), cluster="c2")

    assert seen == [False] * 4
    assert world.all_terminal(run_id)
    assert world.runs.counts(run_id).by_state == {"succeeded": 2, "failed": 1}


def test_each_journal_has_its_own_position_and_a_cluster_that_of_the_latest(world: StoreWorld) -> None:
    """A new journal begins again at 1."""
    run_id = world.create(*[WEB] * 6)
    world.ship(*(copy_of(run_id, k) for k in (0, 2)))
    world.ship(copy_of(run_id, 1), copy_of(run_id, 3), copy_of(run_id, 5), cluster="c2")
    world.ship(copy_of(run_id, 4), journal="second")

    assert [world.shares.position("c1", journal) for journal in ("first", "second", "third")] == [2, 1, 0]
    assert [(p.cluster, p.journal, p.sequence) for p in world.shares.positions()] == [("c1", "second", 1), ("c2", "first", 3)]
    assert world.shares.positions()[0].at_s > 0


# ---- the published fleet -----------------------------------------------------------------------------------------------


def test_lc_in_flight_is_what_the_agents_told_last(world: StoreWorld) -> None:
    """Of all entry clusters together, by the node that it was sent to; a cluster replaces what it told before."""
    world.shares.note_in_flight(
        "c1", [LcInFlight("web", "c1", "c1-n1", 5, 5.0), LcInFlight("web", "c2", "c2-n1", 7, 7.0)], LcWait()
    )
    world.shares.note_in_flight(
        "c1", [LcInFlight("web", "c2", "c2-n1", 2, 1.0), LcInFlight("chat", "c1", "c1-n2", 1, 0.5)], LcWait()
    )
    world.shares.note_in_flight("c2", [LcInFlight("web", "c2", "c2-n1", 3, 3.0)], LcWait())

    snapshot = world.fleet.snapshot(at_s=0.0)

    names = [s.name for s in snapshot.services]
    assert snapshot.in_flight[names.index("web")].tolist() == [0.0, 0.0, 5.0]
    assert snapshot.in_flight[names.index("chat")].tolist() == [0.0, 1.0, 0.0]
    assert snapshot.in_flight_work_s[names.index("web"), 2] == pytest.approx(4 * WEB.cpu_work_s)


def test_how_much_lc_waits_is_what_the_agents_told_last(world: StoreWorld) -> None:
    """Of clusters where any is late; what one told that is away now says nothing."""
    for cluster, wait in (("c1", LcWait(9, 3)), ("c2", LcWait(5, 0))):
        world.shares.note_in_flight(cluster, [], wait)
    told = world.shares.lc_waits()

    world.shares.note_in_flight("c2", [], LcWait(5, 1))
    world.pass_over("c1", LeaseSettings().silent_s + 1.0)

    assert told == {"c1": LcWait(9, 3)}
    assert world.shares.lc_waits() == {"c2": LcWait(5, 1)}


def test_a_cluster_gets_the_fleet_without_what_its_own_journal_has(world: StoreWorld) -> None:
    """It counts that itself; what others sent, also to its own nodes, it is told. Instances are those of all clusters."""
    world.shares.note_in_flight("c1", [LcInFlight("web", "c2", "c2-n1", 2, 2.0)], LcWait())
    world.shares.note_in_flight("c2", [LcInFlight("web", "c1", "c1-n1", 3, 3.0)], LcWait())

    published = world.shares.published_fleet("c1", at_s=7.0)

    assert published.snapshot.at_s == 7.0
    assert published.snapshot.in_flight.sum(axis=0).tolist() == [3.0, 0.0, 0.0]
    assert world.shares.published_fleet("c3", at_s=7.0).snapshot.in_flight.sum() == 5
    assert published.instances == tuple(world.fleet.instances())
    assert {cluster for cluster, _ in published.instances} == {"c1", "c2"}
    assert np.isfinite(published.snapshot.rtt_ms).all()
