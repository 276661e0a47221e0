"""The table of `tango.domain.lifecycle` as pieces of SQL, and the one order in which rows are locked.

No statement of this package writes the name of a state, or of a run's status, itself. Whoever changes several requests locks them first,
in order of (run, request), and only then updates what it has locked:

    WITH locked AS (SELECT … FROM request r WHERE … ORDER BY r.request_id FOR NO KEY UPDATE OF r)
    UPDATE request r SET … FROM locked WHERE r.run_id = … AND r.request_id = locked.request_id

An `UPDATE … FROM unnest(…)` alone takes its rows in whatever order its plan finds them, and two of them on the same rows wait for each
other in a circle. `FOR NO KEY UPDATE` is the lock that the update takes anyway. After a wait PostgreSQL reads the row again and drops it
where it no longer matches, so that what is in `locked` is true. A row of `run` is locked before rows of `simulation`, `lc_share` and
`request`; shares, in order of (run, cluster), all of them before the first request; jobs and their logs after it, in the same order.

One statement is an exception: `tango.store.releases` moves rows that are accepted, which nobody else touches while it holds the row of
their run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeVar

from tango.domain.lifecycle import Event, states_before, transitions_of
from tango.domain.requests import RequestState
from tango.domain.runs import ENDED, RunKind
from tango.domain.services import ServiceClass
from tango.domain.state_lists import OPEN_STATES, listed

T = TypeVar("T")


def before(*events: Event) -> str:
    """The SQL list of states in which at least one of the events can happen, for use after `state IN`."""
    return listed(states_before(*events))


def can(row: str, *events: Event, service_class: ServiceClass | None = None, is_named: bool = False) -> str:
    """SQL condition: one of the events can happen to the request in `row` (a table's name or alias), by its state and class.

    With `service_class` to requests of that class alone. `is_named` where the statement names its requests by their ids: they are found by
    the primary key then. PostgreSQL would rather look through all requests in that state, as few as there were when the run was analysed,
    so that each row cost more the more of them wait; no index is of the state as text.
    Raises: ValueError for events that apply to different classes of requests.
    """
    asked = frozenset(ServiceClass) if service_class is None else frozenset({service_class})
    classes = {frozenset(c for t in transitions_of(e) for c in asked if t.service_class in (None, c)) for e in events}
    if len(classes) != 1:
        raise ValueError(f"{', '.join(events)} happen to requests of different classes")
    (found,) = classes
    if not found:
        raise ValueError(f"{', '.join(events)} do not happen to requests of class {service_class and service_class.label}")
    of_class = _of_class(f"{row}.class", min(found)) if len(found) == 1 else ""
    return f"{row}.state{'::text' if is_named else ''} IN {before(*events)}{of_class}"


def after(event: Event, service_class: ServiceClass | None = None) -> str:
    """The state that follows the event, as an SQL value. Raises: ValueError where it depends on the class and none is given."""
    found = {t.after for t in transitions_of(event) if service_class is None or t.service_class in (None, service_class)}
    if len(found) != 1 or None in found:
        raise ValueError(f"{event} leads to {found}, not to one state")
    return state(next(s for s in found if s is not None))


def state(named: RequestState) -> str:
    """The state as an SQL value of the type `request_state`."""
    return f"'{named}'::request_state"


def state_after(event: str, service_class: str, *events: Event) -> str:
    """SQL CASE for the state that follows; `event` and `service_class` name the columns with the event's name and the class."""
    arms = []
    for e in events:
        found = {(t.service_class, t.after) for t in transitions_of(e) if t.after is not None}
        targets = {to for _, to in found}
        by_class = len(targets) > 1 or {of for of, _ in found} not in ({None}, set(ServiceClass))
        arms += [
            f"WHEN {event} = '{e}'{_of_class(service_class, of) if by_class else ''} THEN {state(to)}"
            for of, to in (sorted(found) if by_class else [(None, min(targets))])
        ]
    return f"CASE {' '.join(arms)} END"


def outcome_of(event: str, *events: Event) -> str:
    """SQL CASE for `attempt.outcome`; `event` names the column with the event's name."""
    arms = dict.fromkeys(f"WHEN '{t.event}' THEN '{t.outcome}'" for e in events for t in transitions_of(e))
    return f"CASE {event} {' '.join(arms)} END"


def _of_class(column: str, service_class: ServiceClass | None) -> str:
    return "" if service_class is None else f" AND {column} = '{service_class.label}'"


OPEN_RUNS = f"ARRAY(SELECT run_id FROM run WHERE kind <> 'simulated' AND status IN {OPEN_STATES})"
"""An array of the live runs whose requests may move on, evaluated once, so that PostgreSQL leaves out the partitions of all others."""

HOLDING_RUNS = f"ARRAY(SELECT run_id FROM run WHERE kind <> 'simulated' AND status NOT IN {listed(ENDED)})"
"""The same with runs that are being cancelled: what they have in flight holds its resources until it is swept."""

RUN_IS_OPEN = f"EXISTS (SELECT FROM run WHERE run_id = %(run)s AND status IN {OPEN_STATES})"
"""Whether the requests of the run named by the parameter `run` may move on."""

RUN_S = "(SELECT extract(epoch FROM clock_timestamp() - u.started_at)::float8 FROM run u WHERE u.run_id = %(run)s)"
"""Wall seconds since the zero of the run named by the parameter `run`, read once for a statement."""

OF_CALLERS = f"(SELECT u.kind FROM run u WHERE u.run_id = %(run)s) = '{RunKind.LIVE}'"
"""Whether callers sent the requests of the run named by the parameter `run`, so that nobody knows beforehand what they take; read once
for a statement."""


def chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """The items in order, at most `size` at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
