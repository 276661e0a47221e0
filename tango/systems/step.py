"""The one step by which both worlds decide: ask the policy, check its plan, and refuse what cannot be carried out.

    snapshot, requests ─► ask ─► check ─► plan
                           │       │
                           └───────┴─ refused ─► no fallback (simulated): the run ends with the reason
                                                 fallback (live): it decides, and the plan says why

A policy may come from any package. One that does is given copies, since it may count down in what it is shown, and what any policy returns
or raises is looked at before anything is applied. A simulation
ends there, because its figures would be those of another policy; a live scheduler goes on with a policy of Tango's own, because requests
wait for it, and writes the refused policy's name and the rows into the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import structlog

from tango.domain.columns import own_copy
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.errors import PolicyFailed, TangoError
from tango.scheduling.lc.rule import LC_RULES
from tango.scheduling.plan_checks import check_be_plan, check_lc_plan
from tango.settings.decisions import BeSettings, LcSettings
from tango.systems.policy_files import where_it_failed
from tango.systems.registry import BePolicy, LcPolicy

log = structlog.get_logger(__name__)

LC_FALLBACK: LcPolicy = LC_RULES["load-greedy"]
"""Decides live where an LC policy does not: it needs no checkpoint and looks at nothing but queues and round trips."""

Plan = TypeVar("Plan", BePlan, LcPlan)


def decided_be(
    policy: BePolicy,
    pending: BePending,
    snapshot: FleetSnapshot,
    settings: BeSettings,
    *,
    cycle: str,
    name: str = "",
    fallback: BePolicy | None = None,
) -> BePlan:
    """A plan that can be carried out, its nodes as row numbers. `cycle` says in messages what was being decided, and when.

    Raises: PolicyFailed and ImpossiblePlan, without a fallback or where it fails as well.
    """

    def ask(asked: BePolicy) -> BePlan:
        called = name if asked is policy and name else name_of(asked)
        plan = asked_plan(BePlan, asked, called, cycle, lambda: asked(_shown(asked, pending), _shown(asked, snapshot), settings))
        return replace(plan, node=check_be_plan(plan, pending, snapshot, cycle=cycle))

    return decided_by(ask, policy, ask, fallback)


def decided_lc(
    policy: LcPolicy,
    arrivals: LcArrivals,
    snapshot: FleetSnapshot,
    settings: LcSettings,
    *,
    cycle: str,
    name: str = "",
    fallback: LcPolicy | None = None,
) -> LcPlan:
    """As `decided_be`, for LC arrivals."""

    def ask(asked: LcPolicy) -> LcPlan:
        called = name if asked is policy and name else name_of(asked)
        plan = asked_plan(LcPlan, asked, called, cycle, lambda: asked(_shown(asked, arrivals), _shown(asked, snapshot), settings))
        node = check_lc_plan(plan, arrivals, snapshot, cycle=cycle)
        return replace(plan, node=node, late=np.asarray(plan.late), shed=np.asarray(plan.shed))

    return decided_by(ask, policy, ask, fallback)


def name_of(policy: object) -> str:
    """What messages call a policy: its own name, or for a plain function where it stands."""
    own = getattr(policy, "name", "")
    if isinstance(own, str) and own:
        return own
    return f"{getattr(policy, '__module__', '')}:{getattr(policy, '__qualname__', type(policy).__qualname__)}"


Columns = TypeVar("Columns")


def _shown(policy: object, columns: Columns) -> Columns:
    """What a policy may write into. Tango's own do not, and copying would be a third of the price of asking them."""
    module = getattr(policy, "__module__", "") or ""
    return columns if module.partition(".")[0] == "tango" else own_copy(columns)


Policy = TypeVar("Policy")


def decided_by(
    ask: Callable[[Policy], Plan], policy: Policy, ask_fallback: Callable[[Policy], Plan], fallback: Policy | None
) -> Plan:
    """The plan that `ask` gives of the policy or, where it raises and there is a fallback, that `ask_fallback` gives of that one."""
    if fallback is None:
        return ask(policy)
    try:
        return ask(policy)
    except Exception as error:  # a TangoError of its own (a checkpoint that cannot be read) is a refusal too
        reason = in_one_line(error)
        log.warning("plan_refused", policy=name_of(policy), reason=reason)
        plan = ask_fallback(fallback)
        return replace(plan, fallback_reason="; ".join(filter(None, (reason, plan.fallback_reason))))


def in_one_line(error: Exception) -> str:
    """A message as a decision's note has it."""
    return " ".join(str(error).split()) or type(error).__name__


def asked_plan(kind: type[Plan], asked: object, policy: str, cycle: str, ask: Callable[[], object]) -> Plan:
    """What a policy plans. Raises: PolicyFailed where it raises, or gives no plan; Tango's own errors pass."""
    try:
        plan = ask()
    except TangoError:
        raise
    except Exception as error:  # a policy may come from anywhere
        where = where_it_failed(error, asked)
        raise PolicyFailed(f"policy {policy!r} failed in {cycle}, at {where}: {type(error).__name__}: {error}") from error
    if not isinstance(plan, kind):
        raise PolicyFailed(f"policy {policy!r} returned {type(plan).__name__} in {cycle}, expected {kind.__name__}")
    return plan
