"""What a process keeps of a run."""

from __future__ import annotations

import pytest

from tango.control.run_facts import RunFacts
from tango.errors import UsageError
from tests.fakes.control_world import ControlWorld
from tests.fakes.faulty import Faulty
from tests.fakes.store_world import WEB, ZERO_S


def test_a_run_is_read_again_until_its_zero_is_known_and_then_kept(world: ControlWorld) -> None:
    """Its zero is set once; asked for a thousand times a second, it must not cost a query each time."""
    runs = Faulty(world.runs)
    facts = RunFacts(runs, world.clock)
    run_id = world.submit(WEB)

    before = facts.zero_s(run_id)
    world.runs.begin(run_id, at_s=ZERO_S + 5.0)
    after = [facts.zero_s(run_id) for _ in range(3)]

    assert before == pytest.approx(world.clock.now_s(), abs=0.1)
    assert after == [ZERO_S + 5.0] * 3
    assert len(runs.calls_of("run")) == 2


def test_a_run_that_was_deleted_is_told_as_such(world: ControlWorld) -> None:
    """The agent lets its pods go, and settles nothing."""
    with pytest.raises(UsageError, match="there is no run 99"):
        RunFacts(world.runs, world.clock).zero_s(99)
