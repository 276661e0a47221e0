"""What must hold in a chaos world: checked at each change of a row, at each event of a journal, and at each begin and end of a pod.

None of it is written down anywhere in the production code; it is what `docs/guarantees.md` and the architecture promise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from tango.domain.lifecycle import IN_FLIGHT, LIVE, TERMINAL, Event, Outcome
from tango.domain.requests import RequestState
from tango.domain.runs import ENDED
from tango.domain.services import ServiceClass
from tests.fakes.be_requests import MOST_JOB_ATTEMPTS

if TYPE_CHECKING:
    from tests.chaos.world import World

# Written down once more and not taken from `tango.domain.lifecycle`: what is held to itself always holds.
_LC_MAY = {
    "accepted": "released shed cancelled failed",
    "released": "dispatched running shed failed cancelled",
    "dispatched": "running released failed cancelled",
    "running": "succeeded released failed cancelled",
}
_BE_MAY = {
    "accepted": "released cancelled",
    "released": "pending failed cancelled",
    "pending": "placed cancelled",
    "placed": "running succeeded failed pending cancelled",
    "running": "succeeded failed pending cancelled",
}
GIVES_OUT = (("released", "dispatched"), ("released", "running"), ("pending", "placed"))
"""Changes of state with which a new epoch begins; with no other does one."""
TAKEN_BACK = ("out-of-cpu", "out-of-memory", "evicted", "cluster-refused", "exit-code", "service-error")
"""Reasons for which requests go back that are well placed by what was known: the fleet is busy, or a job or service failed by itself."""
ENDING_S = 0.1
"""Seconds that a pod which was deleted at once may end after its server has forgotten it: its kubelet has to hear of it."""
QUIET_AFTER_S = 70.0
"""Seconds after all is well from which on nothing may be requeued, given up or late: the longest lease, deadline and pause are over."""
OF_JOURNALS = ("shares.apply",)
"""Methods of the centre's store by which rows of LC that a journal has may change there."""


class Violated(Exception):
    """Something that must hold does not."""


@dataclass(slots=True)
class Checks:
    """All checks of one world, and what they have seen."""

    world: World
    transitions: Counter[str] = field(default_factory=Counter)
    """How often each change of state was seen: `lc released→running`."""
    running_be: dict[tuple[int, int], list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    """By run and request: (cluster, epoch) of each pod of it that runs now."""
    overlaps: list[str] = field(default_factory=list)
    """Two pods of one request at once, in the order in which they began."""
    served: Counter[tuple[int, int]] = field(default_factory=Counter)
    successes: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    states: dict[tuple[str, int, int], tuple[str, int]] = field(default_factory=dict)
    """By journal, run and request: state and epoch as of the last event there."""
    before: dict[str, list[tuple[int, tuple[str, int, int], tuple[str, int] | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By journal, of each event its number, the request, and what `states` had of it before."""
    seen_seq: dict[tuple[str, str], int] = field(default_factory=dict)
    lease_epochs: dict[str, tuple[int, str]] = field(default_factory=dict)
    journal_leases: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    lost_at_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By cluster, when its journal was lost."""
    cut_at_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By cluster, when the end of its journal was."""
    settling: dict[object, dict[tuple[int, int], set[int]]] = field(default_factory=dict)
    """By greenlet, the epochs whose ends it is telling a journal just now."""
    attempts_seen: int = 0
    ended_epochs: set[tuple[int, int, int]] = field(default_factory=set)
    checked: int = 0

    def fail(self, words: str) -> None:
        """Stop the world."""
        if self.world.timeline.failure is None:
            self.world.timeline.failure = Violated(f"at {self.world.timeline.now_s - self.world.began_s:.3f} s: {words}")

    # ---- the centre ----------------------------------------------------------------------------------------------------

    def row_changed(self, row: Any, name: str, before: Any, value: Any) -> None:
        """A row at the centre."""
        self.checked += 1
        what = f"request {row.run_id}/{row.request_id} at the centre"
        calling = self.world.centre.calling
        if name == "epoch":
            if value != before + 1 and calling not in OF_JOURNALS:
                self.fail(f"{what}: its epoch went from {before} to {value} by {calling}")
            return
        if before in TERMINAL or self.world.centre.state.runs[row.run_id].info.status in ENDED:
            self.fail(f"{what}: {before} became {value} by {calling}")
        is_lc = row.service_class is ServiceClass.LC
        if is_lc and self.world.centre.state.shares[row.run_id, row.cluster].opened and calling not in OF_JOURNALS:
            share = self.world.centre.state.shares[row.run_id, row.cluster]
            if not (share.complete and row.request_id > share.handed_to):
                self.fail(f"{what}: {calling} changed it, which the journal of {row.cluster} has")
        if not is_lc and str(value) not in _BE_MAY.get(str(before), ""):
            self.fail(f"{what}: {before} became {value} by {calling}, which the lifecycle does not know")
        self.transitions[f"{'lc at the centre' if is_lc else 'be'} {before}→{value}"] += 1
        if not is_lc and before in IN_FLIGHT and value is RequestState.PENDING:
            self.world.be_requeued(row)
        if value is RequestState.SUCCEEDED:
            self.success(row.run_id, row.request_id, "the centre")
        self.world.timeline.note(f"{row.run_id}/{row.request_id} {value}")

    def success(self, run_id: int, request_id: int, where: str) -> None:
        """Counted by a store; LC twice, in its journal and in the copy."""
        self.successes[run_id, request_id, where] += 1
        if self.successes[run_id, request_id, where] > 1:
            self.fail(f"request {run_id}/{request_id} succeeded twice in {where}")

    def requeued(self, run_id: int, request_id: int, what: str, reason: str | None) -> None:
        """An attempt ended without an end of the request."""
        quiet_s = self.world.timeline.now_s - self.world.healed_at_s - QUIET_AFTER_S
        if quiet_s > 0.0 and reason not in TAKEN_BACK:
            self.fail(f"{what} was requeued ({reason}), {quiet_s + QUIET_AFTER_S:.0f} s after all was well")

    # ---- journals ------------------------------------------------------------------------------------------------------

    def journal_written(self, cluster: str, connection: Any) -> None:
        """A transaction of a journal was committed: look at the events that it made."""
        made = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('identity', 'sequence')"))
        identity = str(made["identity"])
        last = self.seen_seq.get((cluster, identity), 0)
        if made["sequence"] == last:
            return
        rows = connection.execute(
            "SELECT seq, run_id, request_id, state, epoch, attempt, attempt_reason FROM event WHERE seq > ? ORDER BY seq", (last,)
        ).fetchall()
        for seq, run_id, request_id, state, epoch, attempt, reason in rows:
            if seq != last + 1:
                self.fail(f"journal of {cluster}: event {seq} follows event {last}")
            last = seq
            if request_id is not None:
                key = cluster, run_id, request_id
                self.before[cluster].append((seq, key, self.states.get(key)))
                self._journal_event(cluster, run_id, request_id, state, epoch, reason)
                if attempt > self.world.settings.lease.max_attempts:
                    self.fail(f"request {run_id}/{request_id} in the journal of {cluster} has begun attempt {attempt}")
        self.seen_seq[cluster, identity] = last

    def settled_in(self, cluster: str, settle: Callable[[Sequence[Outcome]], int], outcomes: Sequence[Outcome]) -> int:
        """Let a journal be told how attempts ended: none ends but by its own end, and what has succeeded in time counts."""
        epochs = defaultdict[tuple[int, int], set[int]](set)
        for o in outcomes:
            epochs[o.run_id, o.request_id].add(o.epoch)
        in_flight = [o for o in outcomes if o.event is Event.SUCCEED and self._is_in_flight(cluster, o)]
        self.settling[getcurrent()] = epochs
        try:
            ended = settle(outcomes)
        finally:
            del self.settling[getcurrent()]
        for o in in_flight:
            if self._is_in_flight(cluster, o):
                self.fail(f"request {o.run_id}/{o.request_id} in the journal of {cluster} has succeeded, which changed nothing")
        return ended

    def _is_in_flight(self, cluster: str, o: Outcome) -> bool:
        state, epoch = self.states.get((cluster, o.run_id, o.request_id), ("", 0))
        return state in ("dispatched", "running") and epoch == o.epoch

    def settled_at_centre(self, settle: Callable[..., int]) -> Callable[..., int]:
        """The same of BE at the centre."""

        def settled(outcomes: Sequence[Outcome], **of: Any) -> int:
            rows = [
                (row, o.epoch)
                for o in outcomes
                if o.event is Event.SUCCEED
                for row in self.world.centre.state.requests(o.run_id, [o.request_id])
                if row.epoch == o.epoch and row.state in IN_FLIGHT
            ]
            ended = settle(outcomes, **of)
            for row, epoch in rows:
                if row.state in IN_FLIGHT and row.epoch == epoch:
                    self.fail(f"request {row.run_id}/{row.request_id} at the centre has succeeded, which changed nothing")
            return ended

        return settled

    def row_added(self, row: Any) -> None:
        """A request came into a run at the centre."""
        if self.world.centre.state.runs[row.run_id].info.status in ENDED:
            self.fail(f"request {row.run_id}/{row.request_id} came into a run that has ended")

    def journal_cut(self, cluster: str, connection: Any) -> int:
        """A journal has lost its end: what was seen there has not happened. Gives how many events that were.

        The centre must know of none of them.
        """
        made = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('identity', 'sequence')"))
        identity, last = str(made["identity"]), made["sequence"]
        self.cut_at_s[cluster].append(self.world.timeline.now_s)
        shipped = self.world.centre.state.positions.get((cluster, identity), (0, 0.0))[0]
        if shipped > last:
            self.fail(f"journal of {cluster}: the centre has {shipped} events of it, and it has {last} after a loss of power")
        lost, events = 0, self.before[cluster]
        while events and events[-1][0] > last:
            _, key, before = events.pop()
            if self.states[key][0] == "succeeded":
                self.successes[key[1], key[2], f"the journal of {cluster}"] -= 1
            if before is None:
                del self.states[key]
            else:
                self.states[key] = before
            lost += 1
        self.seen_seq[cluster, identity] = last
        self._no_leases(cluster)
        return lost

    def journal_lost(self, cluster: str) -> None:
        """A journal is gone, and the next one begins with what the centre has."""
        self.lost_at_s[cluster].append(self.world.timeline.now_s)
        self.before[cluster].clear()
        for key in [key for key in self.states if key[0] == cluster]:
            del self.states[key]
        for of in [of for of in self.successes if of[2] == f"the journal of {cluster}"]:
            del self.successes[of]
        self._no_leases(cluster)

    def _no_leases(self, cluster: str) -> None:
        for of in [of for of in self.journal_leases if of[0] == cluster]:
            del self.journal_leases[of]

    def has_lost(self, cluster: str, *, told_at_s: float) -> bool:
        """Whether the journal was lost after somebody was told something of it."""
        return any(at_s >= told_at_s for at_s in self.lost_at_s[cluster])

    def was_cut(self, cluster: str, *, told_at_s: float) -> bool:
        """Whether its end was."""
        return any(at_s >= told_at_s for at_s in self.cut_at_s[cluster])

    def journal_held(self, cluster: str, connection: Any) -> None:
        """A lease of a journal was taken or renewed."""
        for name, owner, until_s in connection.execute("SELECT name, owner, until_s FROM lease"):
            known, known_until_s = self.journal_leases.get((cluster, name), (owner, 0.0))
            # By the clock of that cluster's machine, which its processes share.
            now_s = self.world.timeline.now_s + self.world.machines[cluster].skew_s
            if owner != known and known_until_s > now_s + 1e-6:
                self.fail(f"lease {name} of the journal of {cluster}: {owner} took it while {known} held it")
            self.journal_leases[cluster, name] = owner, until_s

    def _journal_event(self, cluster: str, run_id: int, request_id: int, state: str, epoch: int, reason: str | None) -> None:
        self.checked += 1
        what = f"request {run_id}/{request_id} in the journal of {cluster}"
        is_new = (cluster, run_id, request_id) not in self.states and run_id != self.world.run_id
        if is_new and (state, epoch) == ("released", 0):  # a caller's request was accepted
            self.states[cluster, run_id, request_id] = state, epoch
            self.transitions["lc of a caller accepted→released"] += 1
            return
        before, before_epoch = self.states.get((cluster, run_id, request_id), ("released", 0))
        told = self.settling.get(getcurrent())
        if told is not None and epoch not in told.get((run_id, request_id), ()):
            self.fail(f"{what}: an end of epoch {told.get((run_id, request_id))} has ended epoch {epoch}")
        if self.lost_at_s[cluster] and (cluster, run_id, request_id) not in self.states:
            before_epoch = epoch - ((before, state) in GIVES_OUT)  # it was taken as the centre had it
        if before in ("succeeded", "failed", "shed", "cancelled"):
            self.fail(f"{what}: {before} became {state}")
        # A release makes no event; what is waiting may be either.
        if state not in _LC_MAY.get(before, "") and not (before == "released" and state in _LC_MAY["accepted"]):
            self.fail(f"{what}: {before} became {state}, which the lifecycle does not know")
        if epoch != before_epoch + ((before, state) in GIVES_OUT):
            self.fail(f"{what}: {before} became {state}, and epoch {before_epoch} became {epoch}")
        if state == "released":
            self.requeued(run_id, request_id, what, reason)
        self.states[cluster, run_id, request_id] = state, epoch
        self.transitions[f"lc {before}→{state}"] += 1
        if state == "succeeded":
            self.success(run_id, request_id, f"the journal of {cluster}")
        self.world.timeline.note(f"{cluster} {run_id}/{request_id} {state} {epoch}")

    # ---- leases --------------------------------------------------------------------------------------------------------

    def leases(self) -> None:
        """Epochs of named leases at the centre never fall."""
        for name, (fence, _) in self.world.centre.state.leases.items():
            epoch, owner = self.lease_epochs.get(name, (0, ""))
            if fence.epoch < epoch or (fence.epoch == epoch and owner not in ("", fence.owner)):
                self.fail(f"lease {name}: epoch {epoch} of {owner} was followed by epoch {fence.epoch} of {fence.owner}")
            self.lease_epochs[name] = fence.epoch, fence.owner

    # ---- pods ----------------------------------------------------------------------------------------------------------

    def pod(self, cluster: str, pod: Any, begins: bool) -> None:
        """A BE pod begins or ends to run."""
        labels = pod["metadata"]["labels"]
        key = int(labels["tango/run"]), int(labels["tango/request"])
        entry = cluster, int(labels["tango/epoch"])
        here = self.running_be[key]
        if not begins:
            here.remove(entry)
            return
        self._is_where_it_is_placed(cluster, pod, key, entry[1])
        if here:
            words = f"request {key[0]}/{key[1]} runs as epoch {entry[1]} on {cluster} beside {here}"
            self.overlaps.append(f"at {self.world.timeline.now_s - self.world.began_s:.3f} s: {words}")
            self.world.timeline.at(
                self.world.timeline.now_s + ENDING_S, lambda: self.fail(words) if len(here) > 1 and entry in here else None
            )
        here.append(entry)

    def _is_where_it_is_placed(self, cluster: str, pod: Any, key: tuple[int, int], epoch: int) -> None:
        (row,) = self.world.centre.state.requests(key[0], [key[1]])
        where = row.target_cluster, row.node
        if row.epoch == epoch and where != (cluster, pod["spec"]["nodeName"]):
            self.fail(f"request {key[0]}/{key[1]} was placed on {where} and runs on {cluster}/{pod['spec']['nodeName']}")

    # ---- all of it -----------------------------------------------------------------------------------------------------

    def conserved(self) -> None:
        """Accepted = terminal + live, over journals and centre together, each request with one writer."""
        journals = self.world.journal_rows()
        for run_id, run in self.world.centre.state.runs.items():
            for row in run.rows:
                if row.service_class is not ServiceClass.LC or row.state in TERMINAL:
                    continue
                held = [c for c, rows in journals.items() if (run_id, row.request_id) in rows]
                share = self.world.centre.state.shares[run_id, row.cluster]
                if held and held != [row.cluster]:
                    self.fail(f"request {run_id}/{row.request_id} of {row.cluster} is in the journals of {held}")
                # What was taken and is in no journal any more would never end.
                taken = share.opened and row.request_id <= share.handed_to
                if taken and not held and not self.world.may_be_between(row):
                    self.fail(f"request {run_id}/{row.request_id} is {row.state} at the centre, and no journal has it")
        self.leases()
        self.attempts()

    def attempts(self) -> None:
        """No request has two attempts at the centre that succeeded, nor more than it may have, nor two ends of one epoch."""
        found = self.world.centre.state.attempts
        for attempt in found[self.attempts_seen :]:
            key = attempt.run_id, attempt.request_id
            if (*key, attempt.epoch) in self.ended_epochs:
                self.fail(f"epoch {attempt.epoch} of request {key[0]}/{key[1]} ended twice at the centre")
            self.ended_epochs.add((*key, attempt.epoch))
        self.attempts_seen = len(found)
        for run in self.world.centre.state.runs.values():
            for row in run.rows:
                most = self.world.settings.lease.max_attempts
                if row.job is not None:
                    most = MOST_JOB_ATTEMPTS + row.job.asked.retries
                if row.attempt > most:
                    self.fail(f"request {row.run_id}/{row.request_id} has begun attempt {row.attempt}")

    def allocation(self) -> None:
        """What the centre has placed fits the nodes as they are declared, LC instances at their present size included."""
        held: Counter[tuple[str, str]] = Counter()
        for run in self.world.centre.state.runs.values():
            for row in run.rows:
                if row.service_class is ServiceClass.BE and row.state in IN_FLIGHT:
                    held[row.target_cluster, row.node] += self.world.services[row.service].cpu_request_millicores
        for cluster in self.world.fleet.clusters:
            for node in cluster.nodes:
                if held[cluster.name, node.name] > node.cpu_millicores:
                    self.fail(f"{held[cluster.name, node.name]} millicores are placed on {cluster.name}/{node.name}")

    def healed(self) -> None:
        """At the end, when all has been well for long: nothing is live, lost or left over."""
        for run_id, run in self.world.centre.state.runs.items():
            live = [row for row in run.rows if row.state in LIVE]
            if live:
                shown = ", ".join(f"{r.request_id} {r.service_class.label} {r.state} e{r.epoch} a{r.attempt}" for r in live[:5])
                self.fail(f"run {run_id} ({run.info.status}): {len(live)} requests are live long after all was well: {shown}")
        for cluster, server in self.world.servers.items():
            for key, stored in server.pods.objects.items():
                labels = stored.item["metadata"].get("labels") or {}
                if labels.get("tango/class") == "be":
                    self.fail(f"pod {key[1]} is left over in {cluster} ({stored.item['status'].get('phase')})")
        for cluster, found in self.world.centre.state.in_flight.items():
            if found:
                self.fail(f"the centre takes {found} for in flight of {cluster} long after all is over")
        for cluster, rows in self.world.journal_rows().items():
            if rows:
                self.fail(f"the journal of {cluster} still has {len(rows)} requests: {sorted(rows)[:5]}")
