"""The life of a request: every state, every event that changes it, who may cause it and what it writes. One table for all worlds.

    LC   accepted → released → dispatched → running → ended
                     ▲    └─ start ┼─────────▲  │
                     └─────────────┴────────────┘  requeue, return
    BE   accepted → released → pending → placed → running → ended
                                ▲          │        │
                                └──────────┴────────┘  requeue, return

Ended is succeeded, failed, cancelled or, of LC, shed. `start` is a dispatch that the worker carries
out itself. `requeue`: the lease is over, the call has failed or the pod is lost, and the attempt
counts. `return`: the cluster refused it or its pod was taken away, and the attempt costs nothing.

`TRANSITIONS` is that table. `tango.store.lifecycle_sql` renders it into SQL, the journal of each cluster calls it row by row,
`tango.sim.lifecycle` renders it into the engine's codes, the in-memory store and the reference engine call it, and `docs/lifecycle.md` is
printed from it. It is written as events, so that a store that only appends can keep the events and derive the state by `state_after`.
Who may cause an event is held to the code that does: `tests/unit/control/test_who_may.py`.

Three rules hold for every row of it. An event that gives the request to a cluster raises the epoch, and whatever comes back from
there counts only under that epoch. An event that ends an epoch writes its one `attempt` row. What is terminal changes no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from tango.domain.requests import Reason, RequestState
from tango.domain.services import ServiceClass

_S = RequestState

TERMINAL = (_S.SUCCEEDED, _S.FAILED, _S.SHED, _S.CANCELLED)
"""Final states: no event changes a request in one of them."""
LOST = tuple(state for state in TERMINAL if state is not _S.SUCCEEDED)
"""Ended without a result; of LC that is a miss of the target in any case."""
LIVE = tuple(state for state in RequestState if state not in TERMINAL)
"""Everything that is not terminal: accepted requests = terminal + live, at every instant."""
WAITING = (_S.RELEASED, _S.PENDING)
"""Due, and given to no cluster: an LC request waits for its dispatch, a BE request for admission and then for a placement."""
IN_FLIGHT = (_S.DISPATCHED, _S.PLACED, _S.RUNNING)
"""Given to a cluster under an epoch and a lease: the request holds its resources on its node."""
UNDER_WAY = (*WAITING, *IN_FLIGHT)
"""Live and released: the rows that the loops of a running system look for, and so the rows of the index `request_live`."""


class Event(StrEnum):
    """What can happen to a request. `renew` and `announce` leave its state as it is."""

    SUBMIT = "submit"
    RELEASE = "release"
    ANNOUNCE = "announce"
    ADMIT = "admit"
    REFUSE = "refuse"
    DISPATCH = "dispatch"
    START = "start"
    SHED = "shed"
    PLACE = "place"
    CLAIM = "claim"
    RUN = "run"
    RENEW = "renew"
    SUCCEED = "succeed"
    FAIL = "fail"
    REQUEUE = "requeue"
    EXHAUST = "exhaust"
    GIVE_UP = "give-up"
    CANCEL = "cancel"
    WITHDRAW = "withdraw"
    LOSE = "lose"
    RETURN = "return"  # the engine writes events by their place here: new ones go to the end


class Actor(StrEnum):
    """Which part of Tango causes an event."""

    SUBMITTER = "run submit"
    REPLAYER = "replayer"
    CLUSTER_WORKER = "cluster worker"
    SCHEDULER = "scheduler"
    EXECUTOR = "LC executor"
    AGENT = "cluster agent"
    REASSURANCE = "re-assurance"
    RECONCILER = "reconciler"
    KEEPER = "journal keeper"
    SIMULATOR = "simulator"
    GATEWAY = "gateway"
    CALLER = "caller of a job"
    """By the command line, a gateway or a message of another Celery application: one use case for all three."""


class Guard(StrEnum):
    """What must hold besides the state, checked in the same statement or transaction as the change."""

    DUE = "due"
    RUN_OPEN = "run not cancelled"
    RUN_CANCELLED = "run cancelled"
    EPOCH = "epoch as read"
    FENCE = "scheduler's fence"
    FITS = "fits some node"
    FITS_NOWHERE = "fits no node"
    LEASE_OVER = "lease over (reconciler, keeper)"
    """Others requeue what they know to have ended, by its epoch."""
    ATTEMPTS_LEFT = "attempts left"
    ATTEMPTS_SPENT = "attempts used up"
    WAITED_TOO_LONG = "waited `LcSettings.timeout_targets` targets"
    LIVE_RUN = "run is live"
    JOURNAL_LOST_IT = "lost by its journal, or what became of it is"


class Write(StrEnum):
    """Which columns an event writes besides the state."""

    ROW = "the row"
    RELEASED_AT = "released_at"
    EPOCH = "epoch + 1"
    ATTEMPT = "attempt + 1"
    ATTEMPT_BACK = "attempt - 1"
    NODE = "node, target_cluster"
    LATE = "late"
    POD = "pod"
    OWNER = "owner"
    LEASE = "lease_until"
    NO_LEASE = "lease_until cleared"
    STARTED = "started_s"
    NOT_STARTED = "started_s cleared"
    FINISHED = "finished_s"
    REASON = "reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One row of the table: an event, for requests of one class in one of some states."""

    event: Event
    before: tuple[RequestState, ...]
    after: RequestState | None
    """The next state; None: the state does not change."""
    actors: tuple[Actor, ...]
    service_class: ServiceClass | None = None
    """The class of requests to which it applies; None: to both."""
    guards: tuple[Guard, ...] = ()
    writes: tuple[Write, ...] = ()
    outcome: str = ""
    """`outcome` of the `attempt` row that ends the epoch; empty: the event ends none."""
    reason: Reason | None = None
    """The reason that is always recorded with it; None: no reason, or one that the actor gives."""

    @property
    def gives_out(self) -> bool:
        """Whether the request goes to a cluster: a new epoch and a new attempt begin."""
        return Write.EPOCH in self.writes

    @property
    def attempts_added(self) -> int:
        """By how much the number of attempts changes: the one that was begun does not count where the request was returned."""
        return (Write.ATTEMPT in self.writes) - (Write.ATTEMPT_BACK in self.writes)

    def applies(self, state: RequestState, service_class: ServiceClass) -> bool:
        """Whether the event can happen to a request of this class in this state."""
        return state in self.before and self.service_class in (None, service_class)


_GIVES_OUT = (Write.EPOCH, Write.ATTEMPT, Write.NODE, Write.LEASE)
_LC, _BE = ServiceClass.LC, ServiceClass.BE
_ATTEMPT_ENDS = {
    _LC: (Actor.EXECUTOR, Actor.KEEPER),
    _BE: (Actor.AGENT, Actor.SCHEDULER, Actor.REASSURANCE, Actor.RECONCILER),
}
"""Who requeues or, when its attempts are used up, fails a request of the class."""
_BOTH = (_LC, _BE)

TRANSITIONS: tuple[Transition, ...] = (
    # What a caller sends is submitted by the gateway, or by the worker that has his message, and released in the same transaction.
    *(
        Transition(
            event=Event.SUBMIT,
            service_class=service_class,
            before=(),
            after=_S.ACCEPTED,
            actors=(Actor.SUBMITTER, *actors),
            writes=(Write.ROW,),
        )
        for service_class, actors in ((_LC, (Actor.GATEWAY, Actor.CLUSTER_WORKER)), (_BE, (Actor.CALLER,)))
    ),
    *(
        Transition(
            event=Event.RELEASE,
            service_class=service_class,
            before=(_S.ACCEPTED,),
            after=_S.RELEASED,
            actors=actors,
            guards=(Guard.DUE, Guard.RUN_OPEN),
            writes=(Write.RELEASED_AT,),
        )
        for service_class, actors in (
            (_LC, (Actor.KEEPER, Actor.GATEWAY, Actor.CLUSTER_WORKER)),
            (_BE, (Actor.REPLAYER, Actor.CALLER)),
        )
    ),
    *(
        Transition(
            event=Event.ANNOUNCE,
            service_class=service_class,
            before=(_S.RELEASED,),
            after=None,
            actors=(actor,),
            guards=(Guard.RUN_OPEN,),
            writes=(Write.RELEASED_AT,),
        )
        for service_class, actor in ((_LC, Actor.KEEPER), (_BE, Actor.RECONCILER))
    ),
    Transition(
        event=Event.ADMIT,
        service_class=_BE,
        before=(_S.RELEASED,),
        after=_S.PENDING,
        actors=(Actor.SCHEDULER,),
        guards=(Guard.FITS, Guard.RUN_OPEN),
    ),
    Transition(
        event=Event.REFUSE,
        service_class=_BE,
        before=(_S.RELEASED,),
        after=_S.FAILED,
        actors=(Actor.SCHEDULER,),
        guards=(Guard.FITS_NOWHERE, Guard.RUN_OPEN),
        writes=(Write.REASON,),
        reason=Reason.DOES_NOT_FIT,
    ),
    Transition(
        event=Event.DISPATCH,
        service_class=_LC,
        before=(_S.RELEASED,),
        after=_S.DISPATCHED,
        actors=(Actor.CLUSTER_WORKER,),
        guards=(Guard.EPOCH, Guard.RUN_OPEN),
        writes=(*_GIVES_OUT, Write.LATE),
    ),
    Transition(
        event=Event.START,
        service_class=_LC,
        before=(_S.RELEASED,),
        after=_S.RUNNING,
        actors=(Actor.CLUSTER_WORKER,),
        guards=(Guard.EPOCH, Guard.RUN_OPEN),
        writes=(*_GIVES_OUT, Write.LATE, Write.OWNER),
    ),
    Transition(
        event=Event.SHED,
        service_class=_LC,
        before=(_S.RELEASED,),
        after=_S.SHED,
        actors=(Actor.CLUSTER_WORKER, Actor.KEEPER),
        guards=(Guard.EPOCH, Guard.RUN_OPEN),
        writes=(Write.REASON,),
        reason=Reason.TARGET_UNREACHABLE,
    ),
    Transition(
        event=Event.PLACE,
        service_class=_BE,
        before=(_S.PENDING,),
        after=_S.PLACED,
        actors=(Actor.SCHEDULER,),
        guards=(Guard.EPOCH, Guard.FENCE, Guard.RUN_OPEN),
        writes=(*_GIVES_OUT, Write.POD, Write.NOT_STARTED),
    ),
    Transition(
        event=Event.CLAIM,
        service_class=_LC,
        before=(_S.DISPATCHED,),
        after=_S.RUNNING,
        actors=(Actor.EXECUTOR,),
        guards=(Guard.EPOCH, Guard.RUN_OPEN),
        writes=(Write.OWNER, Write.LEASE),
    ),
    Transition(
        event=Event.RUN,
        service_class=_BE,
        before=(_S.PLACED, _S.RUNNING),
        after=_S.RUNNING,
        actors=(Actor.AGENT,),
        guards=(Guard.EPOCH,),
        writes=(Write.STARTED, Write.LEASE),
    ),
    # What an LC executor runs stands by the lease of its process, not by one of its own.
    Transition(
        event=Event.RENEW,
        service_class=_BE,
        before=IN_FLIGHT,
        after=None,
        actors=(Actor.AGENT,),
        guards=(Guard.EPOCH,),
        writes=(Write.LEASE,),
    ),
    *(
        Transition(
            event=Event.SUCCEED,
            service_class=service_class,
            before=IN_FLIGHT,
            after=_S.SUCCEEDED,
            actors=(actor,),
            guards=(Guard.EPOCH,),
            writes=(Write.STARTED, Write.FINISHED, Write.REASON, Write.NO_LEASE),
            outcome="succeeded",
        )
        for service_class, actor in ((_LC, Actor.EXECUTOR), (_BE, Actor.AGENT))
    ),
    # The keeper fails what may not be sent twice and whose process is gone; the scheduler a job whose pod no cluster will take.
    *(
        Transition(
            event=Event.FAIL,
            service_class=service_class,
            before=IN_FLIGHT,
            after=_S.FAILED,
            actors=actors,
            guards=(Guard.EPOCH,),
            writes=(Write.REASON, Write.NO_LEASE),
            outcome="failed",
        )
        for service_class, actors in ((_LC, (Actor.EXECUTOR, Actor.KEEPER)), (_BE, (Actor.AGENT, Actor.SCHEDULER)))
    ),
    *(
        Transition(
            event=Event.REQUEUE,
            service_class=service_class,
            before=IN_FLIGHT,
            after=back,
            actors=_ATTEMPT_ENDS[service_class],
            guards=(Guard.EPOCH, Guard.LEASE_OVER, Guard.ATTEMPTS_LEFT),
            writes=(*written, Write.REASON, Write.NO_LEASE),
            outcome="requeued",
        )
        for service_class, back, written in ((_LC, _S.RELEASED, (Write.RELEASED_AT,)), (_BE, _S.PENDING, ()))
    ),
    # The cluster or the node's kubelet did not take it, or its pod was taken away: that says nothing of the request.
    *(
        Transition(
            event=Event.RETURN,
            service_class=service_class,
            before=IN_FLIGHT,
            after=back,
            actors=actors,
            guards=(Guard.EPOCH,),
            writes=(Write.ATTEMPT_BACK, *written, Write.REASON, Write.NO_LEASE),
            outcome="returned",
        )
        for service_class, back, actors, written in (
            (_LC, _S.RELEASED, (Actor.EXECUTOR,), (Write.RELEASED_AT,)),
            (_BE, _S.PENDING, (Actor.SCHEDULER, Actor.AGENT, Actor.REASSURANCE), ()),
        )
    ),
    *(
        Transition(
            event=Event.EXHAUST,
            service_class=service_class,
            before=IN_FLIGHT,
            after=_S.FAILED,
            actors=_ATTEMPT_ENDS[service_class],
            guards=(Guard.EPOCH, Guard.LEASE_OVER, Guard.ATTEMPTS_SPENT),
            writes=(Write.REASON, Write.NO_LEASE),
            outcome="failed",
            reason=Reason.ATTEMPTS_EXHAUSTED,
        )
        for service_class in _BOTH
    ),
    # Live, an LC request that finds no instance is announced again until its run ends; a simulated user has no more patience.
    Transition(
        event=Event.GIVE_UP,
        service_class=_LC,
        before=(_S.RELEASED,),
        after=_S.FAILED,
        actors=(Actor.SIMULATOR,),
        guards=(Guard.WAITED_TOO_LONG,),
        writes=(Write.REASON,),
        reason=Reason.TIMED_OUT,
    ),
    # Of LC the reconciler cancels what no journal has taken; what one has, its keeper does.
    *(
        Transition(
            event=Event.CANCEL,
            service_class=service_class,
            before=states,
            after=_S.CANCELLED,
            actors=actors,
            guards=(Guard.RUN_CANCELLED,),
            writes=(Write.REASON, Write.NO_LEASE),
            outcome=outcome,
            reason=Reason.CANCELLED,
        )
        for service_class, states, outcome, actors in (
            (_LC, (_S.ACCEPTED, *WAITING), "", (Actor.KEEPER, Actor.RECONCILER)),
            (_LC, IN_FLIGHT, "cancelled", (Actor.KEEPER,)),
            (_BE, (_S.ACCEPTED, *WAITING), "", (Actor.RECONCILER,)),
            (_BE, IN_FLIGHT, "cancelled", (Actor.RECONCILER,)),
        )
    ),
    # The journal that had a caller's request is gone, and with it what the caller sent; or it has lost its end with the power, so that
    # whoever opens it first cannot tell whether a call was sent that must not run twice.
    *(
        Transition(
            event=Event.LOSE,
            service_class=_LC,
            before=states,
            after=_S.FAILED,
            actors=(Actor.AGENT, Actor.GATEWAY, Actor.CLUSTER_WORKER),
            guards=(Guard.LIVE_RUN, Guard.JOURNAL_LOST_IT),
            writes=(Write.REASON, Write.NO_LEASE),
            outcome=outcome,
            reason=Reason.JOURNAL_LOST,
        )
        for states, outcome in (((_S.ACCEPTED, _S.RELEASED), ""), (IN_FLIGHT, "failed"))
    ),
    # One request, by its caller: of LC it has hung up, waits no longer or has cancelled it, of BE it has cancelled its job.
    *(
        Transition(
            event=Event.WITHDRAW,
            service_class=service_class,
            before=states,
            after=_S.CANCELLED,
            actors=(actor,),
            guards=(Guard.LIVE_RUN,),
            writes=(Write.REASON, Write.NO_LEASE),
            outcome=outcome,
            reason=reason,
        )
        for service_class, actor, reason in ((_LC, Actor.GATEWAY, None), (_BE, Actor.CALLER, Reason.CANCELLED))
        for states, outcome in (((_S.ACCEPTED, *WAITING), ""), (IN_FLIGHT, "cancelled"))
    ),
)
"""Every transition of a request. The order matters only to readers: at most one row applies to an event, state and class."""


FREE_EPOCHS = 50
"""Epochs of a request up to which a disruption costs it no attempt. A pod that somebody deletes as soon as it stands would else be made
again for ever: an LC request comes here after seconds of that, a BE request after minutes, and then has its attempts. Chosen."""


def after_disruption(epoch: int) -> Event:
    """How an attempt ends whose pod was evicted, preempted or deleted, or whose node went: by nothing that the request has done."""
    return Event.RETURN if epoch <= FREE_EPOCHS else Event.REQUEUE


ENDS = (Event.SUCCEED, Event.FAIL, Event.REQUEUE, Event.RETURN)
"""The events by which an executor, agent or scheduler can end an attempt. Whether a requeue exhausts the request, the store decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended: one of `ENDS`. Times are wall seconds since the run began.

    Raises: ValueError for an event that does not end an attempt.
    """

    run_id: int
    request_id: int
    epoch: int
    event: Event
    reason: Reason = Reason.NONE
    started_s: float | None = None
    finished_s: float | None = None
    work_lost_s: float = 0.0
    """CPU-seconds of this attempt that were thrown away."""
    words: str = ""
    """What the cluster said, where it refused the pod; kept beside the reason in the request's row."""
    sent_s: float | None = None
    """LC: when its instance was called; None: not known."""

    def __post_init__(self) -> None:
        if self.event not in ENDS:
            raise ValueError(f"an attempt ends by {', '.join(ENDS)}, not by {self.event}")


@cache
def transition(event: Event, state: RequestState, service_class: ServiceClass) -> Transition | None:
    """The row of the table for this event on a request of this class and state; None where the event cannot happen."""
    return next((t for t in TRANSITIONS if t.event is event and t.applies(state, service_class)), None)


@cache
def transitions_of(event: Event) -> tuple[Transition, ...]:
    """All rows of an event, in the order of the table."""
    return tuple(t for t in TRANSITIONS if t.event is event)


@cache
def states_before(*events: Event) -> tuple[RequestState, ...]:
    """The states, in order of life, in which at least one of the events can happen."""
    found = {state for event in events for t in transitions_of(event) for state in t.before}
    return tuple(state for state in RequestState if state in found)


def state_after(events: Iterable[Event], service_class: ServiceClass, *, state: RequestState | None = None) -> RequestState | None:
    """The state of a request after these events in order, starting in `state` (None: not submitted yet).

    Raises: ValueError for an event that cannot happen in the state reached by then.
    """
    for event in events:
        of_class = [t for t in transitions_of(event) if t.service_class in (None, service_class)]
        here = [t for t in of_class if (not t.before if state is None else state in t.before)]
        if not here:
            raise ValueError(f"a request of class {service_class.label} that is {state or 'not submitted'} cannot {event}")
        state = here[0].after or state
    return state
