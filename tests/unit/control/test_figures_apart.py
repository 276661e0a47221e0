"""Figures of ended runs are computed one after the other, each by something that may hang, die or take too long."""

from __future__ import annotations

from dataclasses import dataclass, field

from tango.control import figures_apart
from tango.control.figures_apart import DEADLINE_S, LEASE_S, FiguresApart
from tango.domain.runs import RunStatus
from tango.ports.figures import FiguresClaim
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.store_world import WEB, copy_of


@dataclass(slots=True)
class Process:
    """Computes for so many waits, and then ends; `saves` says whether with a result."""

    world: ControlWorld
    claim: FiguresClaim
    waits: int
    saves: bool
    killed: int = 0

    def wait(self, timeout_s: float) -> int | None:
        """The clock goes on meanwhile."""
        if self.waits:
            self.waits -= 1
            self.world.clock.turn(timeout_s)
            return None
        if self.saves:
            self.world.figures.save(self.claim, {"figures": {}}, {})
        return 0 if self.saves else -9

    def kill(self) -> None:
        """Noted."""
        self.killed += 1


@dataclass(slots=True)
class Started:
    """Starts them."""

    world: ControlWorld
    waits: int = 0
    saves: bool = True
    processes: list[Process] = field(default_factory=list)

    def __call__(self, claim: FiguresClaim) -> Process:
        """One."""
        self.processes.append(Process(self.world, claim, self.waits, self.saves))
        return self.processes[-1]


def ended(world: ControlWorld) -> int:
    """A draining run that is done."""
    run_id = world.created(WEB)
    world.runs.set_status(run_id, RunStatus.DRAINING)
    world.ship(copy_of(run_id, 0))
    return run_id


def use_case(world: ControlWorld, start: Started) -> FiguresApart:
    """Over the world."""
    return FiguresApart(store=world.figures, begin=start, clock=world.clock)


def test_an_order_is_computed_by_a_process_that_is_gone_afterwards() -> None:
    """However long it takes below the deadline: its lease is renewed."""
    world = control_world()
    start = Started(world, waits=round(DEADLINE_S / LEASE_S))
    figures, run_id = use_case(world, start), ended(world)

    ordered = figures.order(run_id), figures.order(run_id)
    wait_s = figures.next()

    assert (ordered, wait_s) == ((True, False), 0.0)
    assert [(p.claim.run_id, p.killed) for p in start.processes] == [(run_id, 1)]
    assert world.runs.run(run_id).status is RunStatus.COMPLETED


def test_one_that_takes_too_long_is_ended_and_tried_again_until_it_is_given_up() -> None:
    """The run is completed then, without figures."""
    world = control_world()
    start = Started(world, waits=10_000)
    figures, run_id = use_case(world, start), ended(world)
    figures.order(run_id)

    for _ in range(figures_apart.MOST_CLAIMS):
        figures.next()
        world.clock.turn(LEASE_S + 1.0)
    assert world.figures.claim(lease_s=LEASE_S, most_claims=figures_apart.MOST_CLAIMS) is None

    assert [p.killed for p in start.processes] == [1] * figures_apart.MOST_CLAIMS
    assert world.runs.run(run_id).status is RunStatus.COMPLETED
    assert "given up" in world.figures.failure(run_id)


def test_one_that_dies_is_computed_again_once_its_lease_is_over() -> None:
    """By whoever looks next."""
    world = control_world()
    start = Started(world, saves=False)
    figures, run_id = use_case(world, start), ended(world)
    figures.order(run_id)
    figures.next()
    start.saves = True
    world.clock.turn(LEASE_S + 1.0)

    figures.next()

    assert [p.claim.epoch for p in start.processes] == [1, 2]
    assert world.runs.run(run_id).status is RunStatus.COMPLETED


def test_what_somebody_newer_has_claimed_is_left() -> None:
    """This process was away for longer than its lease."""
    world = control_world()
    start = Started(world, waits=3)
    figures, run_id = use_case(world, start), ended(world)
    figures.order(run_id)
    began = start.__call__

    def begin_late(claim: FiguresClaim) -> Process:
        process = began(claim)
        world.clock.turn(LEASE_S + 1.0)
        world.figures.claim(lease_s=LEASE_S, most_claims=3)
        return process

    FiguresApart(store=world.figures, begin=begin_late, clock=world.clock).next()

    assert [(p.waits, p.killed) for p in start.processes] == [(2, 1)]
    assert world.runs.run(run_id).status is RunStatus.DRAINING
