"""What explanations say would change a state does: in short what `tango bench explain` proves at length."""

from __future__ import annotations

from tango.bench.explain import OF_DISPATCH, prove
from tango.bench.explain_worlds import OF_PLACEMENT
from tango.domain.reasons import StateReason
from tests.long import example_count

ALSO = {StateReason.NOT_DUE_YET, StateReason.SERVICE_WITHDRAWN, StateReason.RESIZE_DEFERRED}


def test_what_is_said_to_change_a_state_changes_it_and_half_of_it_does_not() -> None:
    """Of every reason that says what would change it, under policies that look at the fleet and at home; all of them."""
    proof = prove(each=example_count(3), seed=7, systems=("load-greedy", "k8s-native", "scoring"), simulated=False)

    assert set(proof.tried) == {*OF_PLACEMENT, *OF_DISPATCH, *ALSO}
    assert proof.failures == []
