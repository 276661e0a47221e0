"""Policies of runs: loaded once, and refused without a flood of messages where they cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tango.control.run_facts import RunFacts
from tango.control.run_policies import LOAD_AGAIN_S, BePolicies, LcPolicies, PoliciesLoaded
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.errors import ConfigError, PolicyFailed
from tango.scheduling.be_policies import place_scoring
from tango.scheduling.lc.rule import LC_RULES
from tango.settings import BeSettings, Settings
from tests.fakes.checkpoints import MemoryCheckpointStore
from tests.fakes.control_world import control_world
from tests.fakes.store_world import WEB, new_requests, new_run


class Loader:
    """Loads a policy under each name, or raises what it is told to; keeps what was asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[str] = []

    def __call__(self, name: str) -> str:
        self.asked.append(name)
        if self.error is not None:
            raise self.error
        return f"policy of {name}"


def test_a_policy_is_loaded_once() -> None:
    """A learned one is a file of megabytes."""
    load = Loader()
    policies = PoliciesLoaded(load)

    found = {policies.of("a"), policies.of("a"), policies.of("b")}

    assert found == {"policy of a", "policy of b"}
    assert load.asked == ["a", "b"]


@pytest.mark.parametrize("error", [ConfigError("no such module"), ZeroDivisionError("no such module")], ids=repr)
def test_one_that_cannot_be_loaded_is_refused_told_once_and_tried_again(error: Exception) -> None:
    """Batches come by the hundred a second: neither an import nor a line of the log for each."""
    now_s, load = [1000.0], Loader(error)
    policies = PoliciesLoaded(load, monotonic=lambda: now_s[0])

    with capture_logs() as told:
        for wait_s in (0.0, LOAD_AGAIN_S / 2, LOAD_AGAIN_S / 2, 1.0):  # the third is a new try, with the old reason
            now_s[0] += wait_s
            with pytest.raises(PolicyFailed, match="no such module"):
                policies.of("a")
        load.error = ConfigError("another reason")
        now_s[0] += LOAD_AGAIN_S
        with pytest.raises(PolicyFailed, match="another reason"):
            policies.of("a")
        load.error = None
        now_s[0] += LOAD_AGAIN_S
        found = policies.of("a")

    assert found == "policy of a"
    assert len(load.asked) == 4
    assert [(entry["event"], entry.get("reason")) for entry in told] == [
        ("policy_not_loaded", "no such module"),
        ("policy_not_loaded", "another reason"),
        ("policy_loaded", None),
    ]


def promoted(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """Is not asked."""
    raise AssertionError("asked")


def test_each_run_has_the_policies_of_its_system_and_a_promoted_checkpoint_goes_before() -> None:
    """A system that this version does not know, as another may have written it, is refused as a policy that cannot be loaded."""
    world = control_world()
    runs = [world.runs.create_run(replace(new_run(), system=name), new_requests([WEB])) for name in ("tango", "scoring", "newer")]
    facts = RunFacts(world.runs, world.clock)
    lc = LcPolicies(facts, Settings())
    be = BePolicies(facts, MemoryCheckpointStore(world.state), Settings())
    be.roles.live = promoted

    assert [lc.of(run) for run in runs[:2]] == [LC_RULES["dss-lc"], LC_RULES["scoring"]]
    assert [be.of(run) for run in runs[:2]] == [promoted, place_scoring]
    for policies in (lc, be):
        with pytest.raises(PolicyFailed, match="there is no system 'newer'"):
            policies.of(runs[2])
