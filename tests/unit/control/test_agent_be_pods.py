"""BE pods of a cluster: what ends is settled before it is deleted, and what lives is renewed."""

from __future__ import annotations

from typing import Any

import pytest

from tango.control.cluster_agent import ClusterAgent
from tango.domain.refusal_kind import RefusalKind
from tango.errors import StoreUnavailable, UsageError
from tests.fakes.agent_world import LEASE, agent_of, be_pod, placed
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld
from tests.fakes.faulty import Faulty
from tests.fakes.kube_objects import ended, running
from tests.fakes.store_world import OVER_S

Json = dict[str, Any]


async def test_an_end_is_in_the_store_before_the_pod_is_deleted(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Whoever dies between the two finds the pod again: nothing is lost, and the epoch keeps it from counting twice."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(run_id, **ended("Succeeded"))))

    await agent.delete_settled()
    before = list(cluster.deleted)
    await agent.settle()
    await agent.delete_settled()

    assert before == []
    assert world.states(run_id) == ["succeeded"]
    assert cluster.deleted == [("be", True)]


async def test_a_start_and_an_end_in_one_round_are_written_in_that_order(world: ControlWorld, cluster: MemoryCluster) -> None:
    """A short pod ends before its start was written: it has both in the end, and no start of a dead pod is written after it."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", be_pod(run_id, **running()))
    agent.on_pod("MODIFIED", be_pod(run_id, **ended("Succeeded")))

    await agent.settle()
    await agent.settle()

    assert world.states(run_id) == ["succeeded"]
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]


async def test_a_running_pod_is_marked_and_its_lease_renewed(world: ControlWorld, cluster: MemoryCluster) -> None:
    """From the first sight of it: the reconciler takes nothing back that runs."""
    run_id = placed(world, lease_s=OVER_S)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", be_pod(run_id, **running()))

    await agent.settle()
    marked = world.states(run_id)
    world.clock.turn(LEASE.placement_s - 1.0)
    await agent.renew()
    world.clock.turn(2.0)
    world.requests.requeue_expired(limit=10)

    assert marked == ["running"]
    assert world.states(run_id) == ["running"]


async def test_a_pod_that_waits_to_start_holds_its_request(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Bound and not yet started it holds its node's resources: without a renewal it would be placed a second time."""
    run_id = placed(world, lease_s=10.0)
    agent = agent_of(world, cluster)
    cluster.put_pod(be_pod(run_id, phase="Pending"))
    world.clock.turn(9.0)

    await agent.renew()
    world.clock.turn(2.0)
    world.requests.requeue_expired(limit=10)

    assert world.states(run_id) == ["placed"]


async def test_a_pod_that_nobody_binds_does_not_hold_its_request(world: ControlWorld, cluster: MemoryCluster) -> None:
    """The scheduler lost the cluster between creating and binding it: the lease ends, and the request is placed anew."""
    run_id = placed(world, lease_s=10.0)
    agent = agent_of(world, cluster)
    unbound = be_pod(run_id, phase="Pending")
    del unbound["spec"]["nodeName"]
    cluster.put_pod(unbound)
    world.clock.turn(9.0)

    await agent.renew()
    await agent.observe()
    world.clock.turn(2.0)
    world.requests.requeue_expired(limit=10)

    assert world.states(run_id) == ["pending"]


async def test_a_pod_that_vanished_sends_its_request_back(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Deleted before it ended: pod-lost, and there is nothing to delete."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", be_pod(run_id, **running()))
    agent.on_pod("DELETED", be_pod(run_id, **running()))

    await agent.settle()
    await agent.delete_settled()

    assert world.states(run_id) == ["pending"]
    assert world.attempts(run_id) == [(0, 1, "returned", "pod-lost")]
    assert cluster.deleted == []


async def test_ends_wait_for_a_store_that_is_away(world: ControlWorld, cluster: MemoryCluster) -> None:
    """They are written by the first round that reaches it, once, and the pod stays until then."""
    run_id = placed(world)
    requests = Faulty(world.requests, settle=[StoreUnavailable("away")])
    agent = agent_of(world, cluster, requests=requests)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(run_id, **ended("Succeeded"))))

    with pytest.raises(StoreUnavailable):
        await agent.settle()
    await agent.delete_settled()
    kept = cluster.deleted == []
    await agent.settle()
    await agent.delete_settled()

    assert kept
    assert world.attempts(run_id) == [(0, 1, "succeeded", "")]
    assert cluster.deleted == [("be", True)]


async def test_the_pod_of_a_deleted_run_goes_with_nothing_settled(world: ControlWorld, cluster: MemoryCluster) -> None:
    """Nobody waits for it, and it holds resources."""

    def gone(run_id: int) -> float:
        raise UsageError(f"there is no run {run_id}")

    agent = agent_of(world, cluster, zero_s=gone)
    agent.on_pod("MODIFIED", cluster.put_pod(be_pod(99, **ended("Succeeded"))))

    await agent.settle()
    await agent.delete_settled()

    assert cluster.deleted == [("be", True)]


async def test_a_later_pod_of_the_name_is_not_deleted_for_an_earlier_one(world: ControlWorld, cluster: MemoryCluster) -> None:
    """The uid says which: between settling and deleting another pod may have taken the name."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    agent.on_pod("MODIFIED", be_pod(run_id, **ended("Succeeded")))
    cluster.put_pod(replace_uid(be_pod(run_id, **running()), "later"))

    await agent.settle()
    await agent.delete_settled()

    assert [found["metadata"]["uid"] for found in cluster.pods()] == ["later"]


def replace_uid(found: Json, uid: str) -> Json:
    """The same pod made anew."""
    return {**found, "metadata": {**found["metadata"], "uid": uid}}


KUBELET_REFUSALS = (
    "OutOfcpu",
    "OutOfmemory",
    "OutOfpods",
    "OutOfnvidia.com/gpu",
    "TaintToleration",
    "NodeAffinity",
    "UnexpectedAdmissionError",
)


@pytest.mark.parametrize("reason", KUBELET_REFUSALS)
async def test_a_kubelet_that_does_not_admit_a_pod_costs_no_attempt(
    world: ControlWorld, cluster: MemoryCluster, reason: str
) -> None:
    """It is an answer about its room: the service is not put there for a while, until a pod of it starts there."""
    run_id = placed(world)
    agent = agent_of(world, cluster)
    refused = {"status": {"phase": "Failed", "reason": reason, "message": f"Pod was rejected: {reason}"}}
    of_pod = be_pod(run_id)
    of_pod["metadata"]["labels"]["tango/service"] = "batch"
    agent.on_pod("MODIFIED", cluster.put_pod({**of_pod, **refused}))

    await agent.settle()
    row, (state,) = world.row(run_id, 0), world.refusals.pauses().states
    later = be_pod(run_id, **running())
    later["metadata"]["labels"] |= {"tango/service": "batch", "tango/epoch": "2"}
    agent.on_pod("MODIFIED", {**later, "metadata": {**later["metadata"], "uid": "later"}})
    await agent.settle()

    assert (row.state, row.attempt) == ("pending", 0)
    assert row.reason.endswith(f": {reason}: Pod was rejected: {reason}")
    assert (state.cluster, state.service, state.node, state.kind) == ("c1", "batch", "c1-n1", RefusalKind.NODE)
    assert world.refusals.pauses().states == ()


async def test_a_pod_that_goes_after_its_end_was_settled_is_neither_settled_nor_deleted_again(
    world: ControlWorld, cluster: MemoryCluster
) -> None:
    """Its deletion is reported with its last state, which looks like an end."""
    run_id = placed(world)
    calls = list[str]()

    class Counting(MemoryCluster):
        async def delete_pod(self, name: str, *, uid: str | None = None, at_once: bool = False) -> None:
            calls.append(name)
            await super().delete_pod(name, uid=uid, at_once=at_once)

    counting = Counting()
    agent = agent_of(world, counting)
    listens(agent, counting)
    counting.put_pod(be_pod(run_id, **ended("Succeeded")))

    for _ in range(3):
        await agent.settle()
        await agent.delete_settled()

    assert calls == ["be"]


def listens(agent: ClusterAgent, cluster: MemoryCluster) -> None:
    """Let the agent hear what the watch tells."""
    cluster._on_pod = agent.on_pod
