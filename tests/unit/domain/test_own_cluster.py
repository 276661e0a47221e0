"""The fleet as one cluster sees it, against a plain reference: figure by figure, looked up by the names of node and service."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tango.domain.fleet import Cluster, Node
from tango.domain.observations import NODE_PRESSURES, ExtendedState, InstanceState, NodeState
from tango.domain.own_cluster import OwnView, as_observed
from tango.domain.services import Service, ServiceClass
from tango.domain.shares import LcInFlight
from tango.domain.snapshot import FleetSnapshot
from tests.fakes.own_fleet import published
from tests.fakes.store_world import BATCH, CHAT, FLEET, WEB, instance_of
from tests.long import example_count

GPU = "nvidia.com/gpu"
GIVEN = ("at_s", "clusters", "nodes", "services", "node_cluster", "node_ready", "resources", "allocatable", "rtt_ms")
"""Columns that the fleet gives; all others are drawn."""
TRAINER = Service(
    name="trainer",
    service_class=ServiceClass.BE,
    cpu_work_s=1.0,
    memory_mib=64,
    extended=((GPU, 500),),
)
SERVICES = (WEB, CHAT, BATCH, TRAINER)
NAMES = ["n0", "n1", "n2", "n3"]
names = st.lists(st.sampled_from(NAMES), unique=True, max_size=4)
figures = st.integers(0, 9000)


@st.composite
def _published(draw: st.DrawFn) -> FleetSnapshot:
    """Two clusters of up to four nodes each, with figures of all kinds."""
    clusters = tuple(
        Cluster(name=name, nodes=tuple(Node(name=n, cpu_millicores=4000, memory_mib=8192) for n in sorted({*draw(names), *also})))
        for name, also in (("c1", ()), ("c2", ("n0",)))
    )
    snapshot = published(replace(FLEET, clusters=clusters, services=SERVICES)).snapshot
    random = np.random.default_rng(draw(st.integers(0, 99)))
    drawn = (f.name for f in fields(snapshot) if f.name not in GIVEN)
    columns = [name for name in drawn if getattr(snapshot, name) is not None]
    of_reals = {name: random.integers(1, 100, snapshot.slack.shape).astype(float) for name in NODE_PRESSURES}
    of_reals |= {"others": random.integers(0, 100, snapshot.allocatable.shape).astype(float)}
    of_reals |= {"barred": random.integers(0, 2, snapshot.in_flight.shape).astype(bool)}
    return replace(
        snapshot,
        **{name: random.integers(0, 100, getattr(snapshot, name).shape).astype(float) for name in columns},
        **{name: column for name, column in of_reals.items() if draw(st.booleans()) and column.any()},
    )


@st.composite
def _node(draw: st.DrawFn, name: str) -> NodeState:
    held = {f.name: draw(figures) for f in fields(NodeState) if f.type == "int"}
    gpus = draw(st.none() | st.builds(ExtendedState, allocatable=figures, lc_held=figures, be_held=figures, other_held=figures))
    share = st.none() | st.floats(0, 1)
    return NodeState(
        name=name,
        ready=draw(st.booleans()),
        schedulable=draw(st.booleans()),
        lc_awaited=draw(st.dictionaries(st.sampled_from(["web", "chat", "unknown"]), st.integers(1, 2))),
        lc_cpu_pressure=draw(share),
        lc_throttled=draw(share),
        memory_pressure=draw(share),
        cpu_used_millicores=draw(st.none() | st.floats(0, 100)),
        memory_used_mib=draw(st.none() | st.floats(0, 100)),
        extended={} if gpus is None else {GPU: gpus, "unasked": gpus},
        **held,
    )


@st.composite
def _instances(draw: st.DrawFn) -> list[InstanceState]:
    of = st.tuples(st.sampled_from([WEB, CHAT]), st.sampled_from([*NAMES, "gone"]), st.booleans(), st.integers(0, 1))
    return [instance_of(service, node, ready=ready, k=k) for service, node, ready, k in draw(st.lists(of, max_size=6, unique=True))]


@given(published=_published(), seen=st.data(), at=names, instances=_instances())
@settings(max_examples=example_count(80), deadline=None)
def test_own_nodes_are_as_observed_and_others_as_published(
    published: FleetSnapshot, seen: st.DataObject, at: list[str], instances: list[InstanceState]
) -> None:
    """Every figure of every node, by its name, is the one that it should be, those included that only a real cluster has (pods of others,
    cordons, instances to be made, pressure); rows are in order of (cluster, node)."""
    nodes = {name: seen.draw(_node(name)) for name in at}

    found = as_observed(published, "c1", list(nodes.values()), instances)

    assert list(found.node_keys) == sorted({*published.node_keys, *(("c1", name) for name in nodes)})
    was = {key: k for k, key in enumerate(published.node_keys)}
    for n, key in enumerate(found.node_keys):
        k, node = was.get(key), nodes.get(key.name) if key.cluster == "c1" else None
        for s, service in enumerate(found.services):
            ready = [i for i in instances if i.ready and i.node == key.name and i.service == service.name]
            is_own = key.cluster == "c1"
            before = (0.0, 0.0, 0.0, 0.0) if k is None else _by_service(published, s, k)
            own = (sum(i.cpu_limit_millicores for i in ready), len(ready))
            assert _by_service(found, s, n) == ((*own, *before[2:]) if is_own else before)
        assert found.slack[n] == (1.0 if k is None else published.slack[k])
        if node is not None:
            gpu = node.extended.get(GPU, ExtendedState(allocatable=0))
            assert bool(found.node_ready[n]) == node.ready
            assert found.allocatable[:, n].tolist() == [
                node.cpu_allocatable_millicores - node.other_cpu_request_millicores,
                node.memory_allocatable_mib - node.other_memory_held_mib,
                node.pods_allocatable - node.other_pods,
                gpu.allocatable - gpu.other_held,
            ]
            of_others = [node.other_cpu_request_millicores, node.other_memory_held_mib, node.other_pods, gpu.other_held]
            assert _told(found.others, n, 4) == of_others
            assert _told(found.barred, n, len(SERVICES)) == [not node.schedulable] * len(SERVICES)
            assert [_told(getattr(found, name), n, 1) for name in NODE_PRESSURES] == [
                [getattr(node, name) or 0.0] for name in NODE_PRESSURES
            ]
            lc = [node.lc_cpu_request_millicores, node.lc_memory_held_mib, node.lc_pods, gpu.lc_held]
            coming = [(s, node.lc_awaited.get(s.name, 0)) for s in SERVICES]
            awaited = [
                sum(count * s.pod_requests[0] for s, count in coming),
                sum(count * s.pod_requests[1] for s, count in coming),
                sum(count for _, count in coming),
                0,
            ]
            claims = [held + to_be_made for held, to_be_made in zip(lc, awaited, strict=True)]
            be = [node.be_cpu_request_millicores, node.be_memory_held_mib, node.be_pods, gpu.be_held]
            assert (found.lc_requests[:, n].tolist(), found.be_requests[:, n].tolist()) == (claims, be)
            assert (found.lc_cpu_limit[n], found.be_cpu_limit[n]) == (node.lc_cpu_limit_millicores, node.be_cpu_limit_millicores)
            requested = lc[0] + be[0], lc[1] + be[1]
            measured = node.cpu_used_millicores, node.memory_used_mib
            told = tuple(r if m is None else m for m, r in zip(measured, requested, strict=True))
            assert (found.cpu_used[n], found.memory_used[n]) == told
        else:
            assert k is not None
            assert bool(found.node_ready[n]) == (bool(published.node_ready[k]) and key.cluster != "c1")
            for name in ("allocatable", "lc_requests", "be_requests", "lc_cpu_limit", "be_cpu_limit", "cpu_used", "memory_used"):
                np.testing.assert_array_equal(getattr(found, name)[..., n], getattr(published, name)[..., k])
            for name, size in (("others", 4), ("barred", len(SERVICES)), *((name, 1) for name in NODE_PRESSURES)):
                assert _told(getattr(found, name), n, size) == _told(getattr(published, name), k, size)


@given(published=_published(), found=st.data())
@settings(max_examples=example_count(80), deadline=None)
def test_own_requests_are_counted_beside_what_was_published(published: FleetSnapshot, found: st.DataObject) -> None:
    """Where they run, at their service's mean work and their run's scale; what names nothing known counts nowhere."""
    of = st.tuples(
        st.sampled_from(["web", "chat", "batch", "unknown"]), st.sampled_from(["c1", "c2", "c3"]), st.sampled_from(NAMES)
    )
    told = [LcInFlight(*where, count, 0.5 * count) for where, count in found.draw(st.dictionaries(of, st.integers(1, 9))).items()]

    seen = OwnView.of(published).with_in_flight(told, at_s=9.0)

    assert seen.at_s == 9.0
    for s, service in enumerate(published.services):
        for n, key in enumerate(published.node_keys):
            own = [f for f in told if (f[0], f[1], f[2]) == (service.name, *key) and service.service_class is ServiceClass.LC]
            assert seen.in_flight[s, n] == published.in_flight[s, n] + sum(f[3] for f in own)
            work_s = sum(f[4] * service.cpu_work_s for f in own)
            np.testing.assert_allclose(seen.in_flight_work_s[s, n], published.in_flight_work_s[s, n] + work_s)


def test_a_cluster_that_the_centre_does_not_know_changes_nothing() -> None:
    """It has no row until the centre has published one."""
    snapshot = published().snapshot

    node = NodeState(name="n", ready=True, cpu_allocatable_millicores=1, memory_allocatable_mib=1)

    assert as_observed(snapshot, "c9", [node], []) is snapshot


def test_rows_stay_contiguous_for_compiled_policies() -> None:
    """Also where a node has been added."""
    node = NodeState(name="c1-n0", ready=True, cpu_allocatable_millicores=1, memory_allocatable_mib=1)

    seen = OwnView.of(as_observed(published().snapshot, "c1", [node], [])).with_in_flight([], at_s=0.0)

    columns = ("allocatable", "lc_requests", "be_requests", "instance_limit", "instance_count", "in_flight", "in_flight_work_s")
    assert all(getattr(seen, name).flags.c_contiguous for name in columns)


def _told(column: NDArray[Any] | None, node: int, size: int) -> list[Any]:
    """The figures of one node, 0 where no node has any."""
    return [0] * size if column is None else np.atleast_1d(column[..., node]).tolist()


def _by_service(snapshot: FleetSnapshot, s: int, n: int) -> tuple[float, float, float, float]:
    columns = (snapshot.instance_limit, snapshot.instance_count, snapshot.in_flight, snapshot.in_flight_work_s)
    first, second, third, fourth = (float(column[s, n]) for column in columns)
    return first, second, third, fourth
