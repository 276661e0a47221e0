"""Reasons of states: which can hold where, and that their order is one."""

from __future__ import annotations

import re
from pathlib import Path

from tango.domain.reasons import OF_REFUSAL, OF_STATE, StateReason
from tango.domain.refusal_kind import RefusalKind
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass


def test_the_reasons_of_a_state_stand_in_order_of_precedence() -> None:
    """One order for all states: that of the enum."""
    for of_class in OF_STATE.values():
        for reasons in of_class.values():
            assert sorted(reasons, key=lambda reason: reason.rank) == list(reasons)


def test_every_state_that_a_class_can_be_in_has_reasons_and_every_reason_a_state() -> None:
    """LC is never pending or placed, BE never dispatched."""
    without = {kind: set(RequestState) - set(states) for kind, states in OF_STATE.items()}
    used = {reason for states in OF_STATE.values() for reasons in states.values() for reason in reasons}

    assert without[ServiceClass.LC] == {RequestState.PENDING, RequestState.PLACED}
    assert without[ServiceClass.BE] == {RequestState.DISPATCHED}
    assert used == set(StateReason)


def test_every_kind_of_refusal_is_a_quota_a_pause_or_something_to_mend() -> None:
    """Throttling, silence and a node's refusal pass by themselves."""
    pauses = {kind for kind, reason in OF_REFUSAL.items() if reason is StateReason.BACKING_OFF}

    assert set(OF_REFUSAL) == set(RefusalKind)
    assert pauses == {RefusalKind.THROTTLED, RefusalKind.UNREACHABLE, RefusalKind.NODE}
    assert OF_REFUSAL[RefusalKind.QUOTA] is StateReason.OVER_QUOTA


def test_the_page_lists_every_reason_in_order_of_precedence() -> None:
    """docs/explain.md, as a table."""
    page = (Path(__file__).parents[3] / "docs" / "explain.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [str(reason) for reason in StateReason]
