"""Who may cause which event: the table of `tango.domain.lifecycle` names exactly those whose code does.

A use case causes an event by a method of a port, so the calls in the source tell who does what; the methods of ends (`settle`, `end`) take
the event from an `Outcome`, so there the events count that the use case, or the module that reads pods and answers for it, names.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from tango.domain.lifecycle import ENDS, TRANSITIONS, Actor, Event
from tango.domain.services import ServiceClass

REPOSITORY = Path(__file__).parents[3]
LC, BE = frozenset({ServiceClass.LC}), frozenset({ServiceClass.BE})

CALLS = {
    "create_run": {Event.SUBMIT},
    "accept": {Event.SUBMIT, Event.RELEASE},
    "submit": {Event.SUBMIT, Event.RELEASE},
    "release_due": {Event.RELEASE},
    "shed_overdue": {Event.RELEASE, Event.SHED},
    "unclaimed": {Event.ANNOUNCE},
    "admit_be": {Event.ADMIT, Event.REFUSE},
    "record_dispatch": {Event.DISPATCH, Event.START, Event.SHED},
    "claim_execution": {Event.CLAIM},
    "record_placement": {Event.PLACE},
    "mark_running": {Event.RUN},
    "renew": {Event.RENEW},
    "requeue_expired": {Event.REQUEUE, Event.EXHAUST},
    "cancel_stopped": {Event.CANCEL},
    "sweep_cancelled": {Event.CANCEL},
    "withdraw": {Event.WITHDRAW},
    "give_up_lost": {Event.LOSE},
}
"""By method of a port, the events that it causes."""
ENDINGS = {"settle", "end"}
"""These cause the events of the outcomes that they are given, as the function `settle_apart` does."""
RECEIVERS = {"requests", "journal", "jobs", "runs", "store"}
"""What the ports are called where use cases hold them, a leading underscore aside; other objects have a `renew` or an `end` too."""

USE_CASES: dict[str, tuple[Actor, frozenset[ServiceClass], tuple[str, ...]]] = {
    "tango/control/submit.py": (Actor.SUBMITTER, LC | BE, ()),
    "tango/control/jobs.py": (Actor.CALLER, BE, ()),
    "tango/bootstrap/console_reads.py": (Actor.CALLER, BE, ()),
    "tango/gateway/intake.py": (Actor.GATEWAY, LC, ()),
    "tango/gateway/requests.py": (Actor.GATEWAY, LC, ()),
    "tango/bootstrap/cluster_worker.py": (Actor.CLUSTER_WORKER, LC, ()),
    "tango/control/dispatch_lc.py": (Actor.CLUSTER_WORKER, LC, ()),
    "tango/control/execute_lc.py": (Actor.EXECUTOR, LC, ("tango/control/serve_callers.py",)),
    "tango/control/keep_journal.py": (Actor.KEEPER, LC, ()),
    "tango/control/replay.py": (Actor.REPLAYER, BE, ()),
    "tango/control/admission.py": (Actor.SCHEDULER, BE, ()),
    "tango/control/place_be.py": (Actor.SCHEDULER, BE, ()),
    "tango/control/be_evictions.py": (Actor.REASSURANCE, BE, ()),
    "tango/control/reconcile.py": (Actor.RECONCILER, BE, ()),
    "tango/control/cancel_run.py": (Actor.RECONCILER, LC | BE, ()),
    "tango/control/cluster_agent.py": (Actor.AGENT, BE, ("tango/control/observe_cluster.py",)),
    "tango/control/be_pods.py": (Actor.AGENT, BE, ()),
    "tango/control/job_pods.py": (Actor.AGENT, BE, ("tango/control/observe_jobs.py",)),
    "tango/control/centre_line.py": (Actor.AGENT, LC, ()),
}
"""Who runs each use case, the class of its requests, and the modules that make its outcomes beside itself."""
OTHERS = {
    "tango/cli/job.py": "calls the use case of jobs",
    "tango/gateway/jobs.py": "calls the use case of jobs",
    "tango/control/figures_apart.py": "renews its claim of a run's figures",
    "tango/control/simulation_worker.py": "renews its claim of a simulated run",
}
"""Why a module that reads as if it caused an event does not."""
NOT_REPEATED = {
    (Event.FAIL, ServiceClass.LC, Actor.KEEPER),
    (Event.LOSE, ServiceClass.LC, Actor.GATEWAY),
    (Event.LOSE, ServiceClass.LC, Actor.CLUSTER_WORKER),
}
"""The journal fails what may not be sent twice: where its keeper would requeue it, and for whoever opens it first after a loss of power."""


def _caused(module: str) -> set[Event]:
    """Events that the module causes by calls of ports."""
    _, _, sources = USE_CASES.get(module, (None, None, ()))
    trees = [ast.parse((REPOSITORY / path).read_text(encoding="utf-8")) for path in (module, *sources)]
    found: set[Event] = set()
    for node in ast.walk(trees[0]):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1].removesuffix("()").strip("_") in RECEIVERS:
            found |= CALLS.get(node.attr, set())
        is_end = (
            isinstance(node, ast.Attribute)
            and node.attr in ENDINGS
            and ast.unparse(node.value).split(".")[-1].strip("_") in RECEIVERS
        )
        if is_end or (isinstance(node, ast.Name) and node.id == "settle_apart"):
            found |= {event for tree in trees for event in _named(tree)}
    return found


def _named(tree: ast.Module) -> set[Event]:
    """Ends of attempts that a module names, and what follows from them."""
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Event"}
    named |= {"RETURN", "REQUEUE"} if any(isinstance(n, ast.Name) and n.id == "after_disruption" for n in ast.walk(tree)) else set()
    ends = {event for event in ENDS if event.name in named}
    return ends | ({Event.EXHAUST} if Event.REQUEUE in ends else set())


def test_the_table_names_those_whose_code_causes_the_event() -> None:
    """No more and no less, for each class."""
    found: dict[tuple[Event, ServiceClass], set[Actor]] = defaultdict(set)
    for module, (actor, classes, _) in USE_CASES.items():
        for event in _caused(module):
            for of in classes:
                found[event, of].add(actor)
    for event, of, actor in NOT_REPEATED:
        found[event, of].add(actor)
    found[Event.GIVE_UP, ServiceClass.LC].add(Actor.SIMULATOR)

    told: dict[tuple[Event, ServiceClass], set[Actor]] = defaultdict(set)
    for row in TRANSITIONS:
        for of in ServiceClass if row.service_class is None else (row.service_class,):
            told[row.event, of] |= set(row.actors)

    assert told == found


def test_no_other_module_causes_an_event() -> None:
    """A new use case is written down here, and its actor in the table; benches measure the ports themselves."""
    rooms = ("tango/control", "tango/gateway", "tango/bootstrap", "tango/cli", "tango/console", "tango/stack", "tasks", "workers")
    modules = [path.relative_to(REPOSITORY).as_posix() for room in rooms for path in (REPOSITORY / room).rglob("*.py")]

    assert {module for module in modules if module not in USE_CASES and _caused(module)} == set(OTHERS)
    assert [module for module in USE_CASES if not _caused(module)] == []


@pytest.mark.parametrize("actor", Actor)
def test_every_actor_does_something(actor: Actor) -> None:
    """One that causes nothing has no place in the table."""
    assert any(actor in row.actors for row in TRANSITIONS)
