"""A cluster's line to the centre: what the journal is to have comes over it, and what has happened in the journal goes back.

    centre ── runs, shares, published fleet ─► follow, publish ─► journal
    centre ◄─ copies, counts in flight ─────── ship ◄──────────── journal

Only the cluster's agent has this line; its workers have the journal alone. Everything here may be cut at any instant and be repeated:
the hand-over goes by the last id that the journal has, shipments by their sequence numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import structlog

from tango.control.following import Following
from tango.domain.runs import OPEN, RunInfo, RunKind, RunStatus
from tango.domain.shares import LcInFlight, LcWait, ShareState, Shipment
from tango.ports.clock import Clock
from tango.ports.journal import Journal
from tango.ports.live_runs import LiveRunStore
from tango.ports.shares import ShareStore
from tango.ports.tokens import TokenStore
from tango.settings import JournalSettings

log = structlog.get_logger(__name__)

BUSY_FOR_S = 5.0
"""Seconds after a shipment for which the line counts as busy. Chosen: callers whose requests are this far apart do without the news."""
NOTED_AGAIN_S = 60.0
"""Seconds after which counts that have not changed are told again: the centre writes them without waiting for its disk, and a loss of
power may have taken them. Chosen: so long some node there seems busier or emptier than it is."""
NOTHING: tuple[Sequence[LcInFlight], LcWait] = ([], LcWait())
"""What the centre is told of a cluster in which nothing is in flight or waits."""
_UNCHANGING = ("kind", "name", "system", "fleet", "seed", "speed")
"""What a run is submitted with."""


class CentreLine:
    """The line of one cluster. `follow`, `publish` and `ship` are called again and again, each by one thread at a time; a call is
    complete in itself and gives the seconds until the next one.

    Each raises StoreUnavailable where centre or journal does not answer.
    """

    def __init__(
        self,
        cluster: str,
        *,
        shares: ShareStore,
        tokens: TokenStore,
        live: LiveRunStore,
        following: Following,
        journal: Journal,
        clock: Clock,
        settings: JournalSettings,
    ) -> None:
        self._cluster = cluster
        self._shares = shares
        self._tokens = tokens
        self._live = live
        self._following = following
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._busy = False
        self._looked_for_lost: set[int] = set()
        self._told: list[RunInfo] | None = None
        """The runs that the journal was told last."""
        self._is_known = False
        """Whether the journal is known to serve this centre. The other steps wait for that."""
        self._shipped_at_s = -math.inf
        self._noted: tuple[Sequence[LcInFlight], LcWait] | None = None
        self._noted_at_s = -math.inf
        self._reached_s: dict[int, float] = {}
        """By run, the due time of the last request that was taken."""

    def follow(self) -> float:
        """Keep the journal's runs as the centre has them, and take what is to be taken of their shares."""
        if not self._is_known:
            if self._journal.belong_to(self._shares.centre()):
                log.warning("journal_begins_anew", cluster=self._cluster, reason="it served another centre")
            self._is_known = True
        kept = self._journal.runs()
        known = {run.run_id: run for run in kept}
        found = [of for of in self._following.of(self._cluster) if self._is_the_same(known.get(of[0].run_id), of[0])]
        runs = [run for run, _ in found]
        if self._told is not None and not {run.run_id for run in self._told} <= known.keys():
            # It has lost what it was told, so its file is another one.
            log.error("journal_was_lost", cluster=self._cluster)
            self._looked_for_lost.clear()
            self._is_known = False
            self._told = None
            return 0.0
        if not runs == kept == self._told:  # mostly nothing has changed; else the journal has runs to learn of, or to forget
            self._journal.follow(runs)
            self._told = runs
        # Callers may send nothing for hours; what they do send has the line looked at by itself (`ship`).
        self._busy = any(run.kind is not RunKind.LIVE for run, _ in found)
        self._reached_s = {run.run_id: self._reached_s[run.run_id] for run, _ in found if run.run_id in self._reached_s}
        is_live = any(run.kind is RunKind.LIVE and run.status is RunStatus.RUNNING for run, _ in found)
        if not is_live and self._journal.live_is_wanted():
            self._live.want()
            self._following.read_anew()
            return 0.0  # the caller who was turned away tries again
        for run, share in found:
            if run.kind is RunKind.LIVE:
                self._feed(run, share)
                continue
            taken_to = self._journal.taken_to(run.run_id)
            if run.status in OPEN or taken_to < share.handed_to:
                self._take(run, share, taken_to)
            elif not share.complete:  # it was stopped: the centre may cancel what was never taken
                self._shares.handed(run.run_id, self._cluster, up_to=taken_to, complete=True)
        return self._settings.follow_every_s if self._busy else self._settings.idle_every_s

    def _feed(self, run: RunInfo, share: ShareState) -> None:
        """Keep numbers ahead for what callers send in an open run; tell the centre once nothing of a closed one is left here."""
        self._give_up_lost(run)
        if run.status is RunStatus.RUNNING:
            while self._journal.numbers_left(run.run_id) < self._settings.numbers_ahead:
                block = self._live.numbers(run.run_id, self._cluster)
                if block is None:
                    return
                self._journal.add_numbers(run.run_id, *block)
        elif not share.complete and self._journal.has_let_go(run.run_id):
            self._shares.handed(run.run_id, self._cluster, up_to=share.handed_to, complete=True)

    def _give_up_lost(self, run: RunInfo) -> None:
        """Fail, once a run, requests that the centre has as live and this journal does not know: a journal that was lost had them."""
        if run.run_id in self._looked_for_lost:
            return
        beyond, lost, limit = -1, 0, self._settings.share_rows
        while True:
            rows = self._shares.share_rows(run.run_id, self._cluster, beyond=beyond, limit=limit)
            lost += self._journal.give_up_lost(run.run_id, rows) if len(rows) else 0
            if len(rows) < limit:
                break
            beyond = int(rows.request_id[-1])
        if lost:
            log.error("requests_lost_with_a_journal", cluster=self._cluster, run_id=run.run_id, requests=lost)
        self._looked_for_lost.add(run.run_id)

    def _is_the_same(self, known: RunInfo | None, run: RunInfo) -> bool:
        """Whether the journal knows the run by this number, if any: a centre that was restored may have given it to another one."""
        same = known is None or all(getattr(known, name) == getattr(run, name) for name in _UNCHANGING)
        same = same and (known is None or run.kind is RunKind.LIVE or known.accepted == run.accepted)
        if not same:
            log.error("journal_has_another_run", cluster=self._cluster, run_id=run.run_id, remedy="cancel it and submit it again")
        return same

    def publish(self) -> float:
        """Keep in the journal what the centre knows of the fleet, and whom the cluster's gateway is to let in."""
        self._journal.admit(self._tokens.valid())
        self._journal.publish(self._shares.published_fleet(self._cluster, at_s=self._clock.now_s()))
        return self._settings.publish_every_s if self.is_busy() else self._settings.publish_idle_s

    def is_busy(self) -> bool:
        """Whether the cluster has a share of a trace that is replayed, or callers have sent something of late."""
        return self._busy or self._clock.now_s() - self._shipped_at_s < BUSY_FOR_S

    def ship(self) -> float:
        """Ship everything that the centre does not have, and say what is in flight."""
        self._journal.copy_back()  # first, since nothing that follows comes to its end while the line is cut
        if not self._is_known:
            return self._settings.ship_every_s
        limit, has_news = self._settings.shipment_events, False
        beyond: int | None = None  # what is known to be shipped
        while (shipment := self._journal.unshipped(limit=limit, beyond=beyond)) is not None:
            position = self._shares.apply(shipment)
            if position < shipment.first - 1:
                beyond = self._go_back(shipment, position)
                continue
            self._journal.shipped(position)
            self._shipped_at_s, has_news = self._clock.now_s(), True
            beyond = None if beyond is None else position
            if shipment.last - shipment.first + 1 < limit:
                break
        is_stale = self._clock.now_s() - self._noted_at_s > NOTED_AGAIN_S
        if not (has_news or self._busy or is_stale) and self._noted == NOTHING:
            return self._settings.idle_every_s  # what callers send is an event first
        in_flight = self._journal.in_flight()
        told = in_flight, self._journal.lc_wait()
        if told != self._noted or is_stale:
            self._shares.note_in_flight(self._cluster, *told)
            self._noted, self._noted_at_s = told, self._clock.now_s()
        return self._settings.ship_every_s if self._busy or in_flight else self._settings.idle_every_s

    def _go_back(self, shipment: Shipment, position: int) -> int:
        """After which event to go on with a centre that was restored and knows no more than `position`: it is the one that the journal
        serves, by its identity, so nothing but its past is missing.

        What the journal still has of it is shipped once more. Of what it has not, requests that had ended are live at the centre, and are
        taken once more before anything is shipped: until then all that has ended since is here, and cannot be mistaken for it.
        """
        first, again = max(position + 1, self._journal.first_kept()), 0
        if first > position + 1:
            again = self._take_again()
        lost = self._shares.go_on(self._cluster, shipment.journal, first=first)
        log.error(
            "centre_was_restored",
            cluster=self._cluster,
            centre=position,
            shipped_again=shipment.first - first,
            lost=lost,
            again=again,
        )
        return first - 1

    def _take_again(self) -> int:
        again, limit = 0, self._settings.share_rows
        for run, _ in self._shares.followed([self._cluster]).shares[self._cluster]:
            beyond = -1
            while beyond < self._journal.taken_to(run.run_id):
                rows = self._shares.share_rows(run.run_id, self._cluster, beyond=beyond, limit=limit)
                again += self._journal.take_again(run.run_id, rows)
                if len(rows) < limit:
                    break
                beyond = int(rows.request_id[-1])
        return again

    def _take(self, run: RunInfo, share: ShareState, taken_to: int) -> None:
        """Take what is due within `ahead_s` of a run's share; before the run begins, as if it began now.

        A journal that was lost is made again empty: it takes what the one before had, as far as that is live.
        """
        if share.complete and taken_to >= share.handed_to:
            return
        # A centre that was restored may not know that it has given the share away.
        if share.handed_to < 0 and not self._shares.open_share(run.run_id, self._cluster) and taken_to < 0:
            return
        zero_s = run.started_at_s if run.started_at_s is not None else self._clock.now_s()
        until_s = self._clock.now_s() - zero_s + self._settings.ahead_s
        limit, is_whole = self._settings.share_rows, False
        while not is_whole and (taken_to < share.handed_to or self._reached_s.get(run.run_id, -1.0) <= until_s):
            rows = self._shares.share_rows(run.run_id, self._cluster, beyond=taken_to, limit=limit)
            is_whole = len(rows) < limit
            last = int(rows.request_id[-1]) if len(rows) else taken_to
            taken_to = max(last, share.handed_to) if is_whole else last
            self._journal.take(run.run_id, rows, up_to=taken_to)
            self._shares.handed(run.run_id, self._cluster, up_to=taken_to, complete=is_whole)
            if len(rows):
                self._reached_s[run.run_id] = float(rows.due_s[-1])
