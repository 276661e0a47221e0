"""Admission of BE: only what some node could hold waits for the centre."""

from __future__ import annotations

from tango.control.admission import Admission
from tango.domain.observations import NodeState
from tests.fakes.control_world import ControlWorld
from tests.fakes.store_world import BATCH, HUGE


def admit(world: ControlWorld, run_id: int, count: int) -> dict[str, int]:
    """As the task of `be.<cluster>` does."""
    return Admission(requests=world.requests, fleet=lambda: world.fleet.snapshot(at_s=0.0)).admit(run_id, range(count))


def nodes(world: ControlWorld, **sizes: tuple[int, int]) -> None:
    """Let c1 have nodes of (millicores, MiB), and c2 none."""
    states = [
        NodeState(name=name, ready=True, cpu_allocatable_millicores=cpu, memory_allocatable_mib=memory)
        for name, (cpu, memory) in sizes.items()
    ]
    world.fleet.observe("c1", states, [], sample=False)
    world.fleet.observe("c2", [], [], sample=False)


def test_what_fits_a_node_waits_and_the_rest_fails_with_its_reason(world: ControlWorld) -> None:
    """By the nodes as the agents see them."""
    run_id = world.created(BATCH, HUGE)

    report = admit(world, run_id, 2)

    assert report == {"considered": 2, "admitted": 1}
    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("pending", ""), ("failed", "does-not-fit")]


def test_one_node_must_have_space_for_both_cpu_and_memory(world: ControlWorld) -> None:
    """The cores of one node and the memory of another make no node: such a request would wait for ever."""
    nodes(world, fast=(16_000, 32), large=(400, 8192))
    run_id = world.created(BATCH)

    admit(world, run_id, 1)

    assert [(r.state, r.reason) for r in world.rows(run_id)] == [("failed", "does-not-fit")]


def test_a_node_that_is_neither_fastest_nor_largest_counts(world: ControlWorld) -> None:
    """It may be the only one that has enough of both."""
    nodes(world, fast=(16_000, 32), middle=(2000, 2048), large=(400, 8192), small=(300, 16))
    run_id = world.created(BATCH)

    admit(world, run_id, 1)

    assert world.states(run_id) == ["pending"]


def test_without_any_node_known_requests_stay_released(world: ControlWorld) -> None:
    """The agents have just begun: nothing is refused for that, the reconciler announces it again."""
    nodes(world)
    run_id = world.created(BATCH)

    report = admit(world, run_id, 1)

    assert report == {"considered": 1, "admitted": 0}
    assert world.states(run_id) == ["released"]
