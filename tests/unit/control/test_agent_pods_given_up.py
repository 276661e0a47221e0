"""BE pods that nobody wants any more, cannot start, do not go or run for too long: their requests go elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tango.settings import JobSettings
from tests.fakes.agent_world import LEASE, agent_of, be_pod, placed
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld
from tests.fakes.kube_objects import TEN_S, running


async def test_a_pod_that_never_starts_does_not_hold_its_request_for_ever(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Its node's kubelet hangs, or there is no such image: after `start_s` its lease is left to end."""
    run_id = placed(world, lease_s=10.0)
    agent = agent_of(world, cluster)
    cluster.put_pod(be_pod(run_id, phase="Pending"))

    seen = []
    while world.states(run_id) == ["placed"] and len(seen) < 400:
        await agent.renew()
        for _ in range(4):
            seen.append(world.clock.turn(LEASE.placement_s / 12))
            await agent.observe()
        world.requests.requeue_expired(limit=10)

    waited_s = len(seen) * LEASE.placement_s / 12
    assert world.states(run_id) == ["pending"]
    assert LEASE.start_s < waited_s < LEASE.start_s + 2 * LEASE.placement_s


async def test_a_pod_that_nobody_wants_any_more_is_deleted(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Of an older epoch, or of a run that was cancelled while the cluster was away: it was made by whoever is dead by now. A pod that is
    wanted stays, and so does one that is seen for the first time."""
    run_id = placed(world)
    cluster.put_pod(be_pod(run_id, name="wanted", **running()))
    old = be_pod(run_id, name="old", phase="Pending")
    old["metadata"]["labels"]["tango/epoch"] = "0"
    cluster.put_pod(old)
    agent = agent_of(world, cluster)

    await agent.look_for_orphans()
    first = list(cluster.deleted)
    await agent.look_for_orphans()
    second = list(cluster.deleted)
    world.cancel(run_id)
    cluster.old_s = 99.0
    await agent.look_for_orphans()
    by_an_old_picture = list(cluster.deleted)
    cluster.old_s = 0.0
    await agent.look_for_orphans()

    assert (first, second, by_an_old_picture) == ([], [("old", False)], [("old", False)])
    assert cluster.deleted == [("old", False), ("wanted", False)]


async def test_a_pod_without_its_image_gives_its_request_back_and_bars_the_node(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """After a while, with the kubelet's words; at once where no waiting helps."""
    run_id = placed(world)
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    stuck = be_pod(run_id, phase="Pending", containerStatuses=[{"name": "work", "state": {"waiting": waiting}}])
    stuck["metadata"]["labels"]["tango/service"] = "batch"
    cluster.put_pod(stuck)
    agent = agent_of(world, cluster)

    await agent.look_for_orphans()
    before = world.states(run_id)
    world.clock.turn(JobSettings().image_within_s + 1.0)
    world.state.heard_of("c1")
    await agent.look_for_orphans()

    row, (state,) = world.row(run_id, 0), world.refusals.pauses().states
    assert before == ["placed"]
    assert (row.state, row.attempt, row.reason) == ("pending", 1, "image-not-pulled: work: ImagePullBackOff: not found")
    assert (state.service, state.node, state.words) == ("batch", "c1-n1", "work: ImagePullBackOff: not found")
    assert cluster.deleted == [("be", False)]


@pytest.mark.parametrize("late_s", [-30.0, 30.0])
async def test_a_pod_that_does_not_go_is_given_up_some_time_after_its_grace(
    world: ControlWorld, cluster: MemoryCluster, late_s: float
) -> None:
    """Its node is dead: the lease of its request runs out, and the request goes elsewhere."""
    run_id = placed(world)
    going = be_pod(run_id, **running())
    asked_at_s = world.clock.now_s() - LEASE.gone_s - late_s
    going["metadata"]["deletionTimestamp"] = datetime.fromtimestamp(asked_at_s, UTC).isoformat()
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", cluster.put_pod(going))
    await agent.settle()
    before_s = world.row(run_id, 0).lease_until_s

    await agent.renew()

    assert (world.row(run_id, 0).lease_until_s > before_s) is (late_s < 0)


async def test_a_pod_that_runs_for_too_long_is_given_up(world: ControlWorld, cluster: MemoryCluster) -> None:
    """A container that hangs holds its node no longer than that."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(run_id, **running())))  # it began years ago by the world's clock
    await agent.settle()
    before_s = world.row(run_id, 0).lease_until_s
    began_s = TEN_S
    world.clock.turn(began_s + LEASE.run_s + 1.0 - world.clock.now_s())

    await agent.renew()

    assert world.row(run_id, 0).lease_until_s == before_s
