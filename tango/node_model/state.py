"""The arrays of the node model: records, because one event touches many fields of one node, and one call passes few arrays.

CPU is in cores, work in CPU-seconds, memory in MiB, time in seconds on the caller's clock (small numbers: a Unix time in a float64
would cost the last microsecond).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.node_model.interference import NeighbourTraits, no_traits

NODE = np.dtype(
    [
        ("cpu_cores", np.float64),  # allocatable
        ("beta", np.float64),  # LC work is inflated by 1 + beta x BE utilisation, where no sensitivity is declared
        ("clock_s", np.float64),  # rates hold from here on
        ("next_s", np.float64),  # when the next request or pod ends at these rates; infinity if none does
        ("next_instance", np.int64),  # whose request ends then, or -1
        ("next_pod", np.int64),  # row of the pod that ends then, or -1
        ("lc_cores", np.float64),  # in use by LC now
        ("lc_work_per_s", np.float64),  # nominal LC work done per second now
        ("be_cores", np.float64),  # in use by BE now
        ("be_work_per_s", np.float64),  # nominal BE work done per second now
        ("lc_busy_s", np.float64),  # CPU-seconds LC has used up to clock_s
        ("lc_work_s", np.float64),  # nominal CPU-seconds of LC work done up to clock_s
        ("be_busy_s", np.float64),  # CPU-seconds BE has used up to clock_s
        ("be_work_s", np.float64),  # nominal CPU-seconds of BE work done up to clock_s
        ("pods", np.int64),  # rows of `pods` in use
    ],
    align=True,
)
INSTANCE = np.dtype(
    [
        ("used", np.int64),  # 1: the row is an instance, 0: it is free
        ("service", np.int64),  # row of `NeighbourTraits`, -1: none
        ("limit_cores", np.float64),  # CPU limit in effect
        ("memory_mib", np.float64),  # memory limit in effect
        ("memory_held_mib", np.float64),  # by the requests in service
        ("concurrency", np.int64),  # requests in service at most
        ("attained_s", np.float64),  # virtual time: nominal work that each request in service has had since the instance was idle
        ("rate", np.float64),  # growth of attained_s per second now
        ("cores", np.float64),  # in use now, inflation included
        ("busy_s", np.float64),  # CPU-seconds used up to the node's clock_s
        ("in_service", np.int64),  # requests that are being served
        ("heap", np.int64),  # root of the requests in service, by the virtual time at which they end
        ("queue_first", np.int64),  # row of the request that waits longest, -1: none
        ("queue_last", np.int64),  # row of the one that came last, -1: none
        ("queued", np.int64),  # requests that wait
    ],
    align=True,
)
BE_POD = np.dtype(
    [
        ("key", np.int64),  # the caller's name for it
        ("service", np.int64),  # row of `NeighbourTraits`, -1: none
        ("weight", np.float64),  # share of the CPU that LC leaves, against other pods'
        ("limit_cores", np.float64),
        ("work_s", np.float64),  # nominal CPU-seconds from start to end
        ("remaining_s", np.float64),  # nominal CPU-seconds still to be done at the node's clock_s
        ("started_s", np.float64),
        ("memory_mib", np.float64),  # held from start to end
        ("cores", np.float64),  # given to it now
        ("rate", np.float64),  # nominal work that it does per second now
    ],
    align=True,
)
REQUEST = np.dtype(
    [
        ("key", np.int64),  # the caller's name for it
        ("node", np.int64),
        ("instance", np.int64),  # row on its node
        ("stage", np.int64),  # FREE, QUEUED or IN_SERVICE
        ("work_s", np.float64),  # nominal CPU-seconds
        ("memory_mib", np.float64),  # held while in service
        ("started_s", np.float64),  # start of service, NaN while it waits
        ("ends_at_attained_s", np.float64),  # its instance's virtual time at which it is done
        ("sequence", np.int64),  # settles ties by order of arrival
        ("child", np.int64),  # first child in the heap
        ("next", np.int64),  # sibling in the heap, follower in the queue or in the free list
        ("previous", np.int64),  # parent or left sibling in the heap, predecessor in the queue
    ],
    align=True,
)
FINISHED = np.dtype(
    [
        ("kind", np.int64),  # LC or POD
        ("node", np.int64),
        ("key", np.int64),  # of the request or pod
        ("started_s", np.float64),
        ("finished_s", np.float64),
        ("work_s", np.float64),  # nominal CPU-seconds
    ],
    align=True,
)

FREE, QUEUED, IN_SERVICE = 0, 1, 2
NONE = -1
"""In place of a row, where there is none."""
FREE_LIST, SEQUENCE = 0, 1  # places in `pool`


class NodeStates(NamedTuple):
    """The state of n nodes."""

    nodes: NDArray[np.void]
    """(n,) of NODE."""
    instances: NDArray[np.void]
    """(n, most instances a node) of INSTANCE; a row keeps its place as long as the instance lives."""
    pods: NDArray[np.void]
    """(n, most pods a node) of BE_POD; rows in use come first, by limit / weight, the order in which they reach their caps."""
    requests: NDArray[np.void]
    """(most requests,) of REQUEST, of all nodes."""
    pool: NDArray[np.int64]
    """(2,) head of the free list of `requests`, next sequence number."""
    traits: NeighbourTraits
    """What is declared of services as neighbours; no row where nothing is."""
    exerted: NDArray[np.float64]
    """(n, k) pressure that all on a node exert now, by its kinds: pressure x cores in use; not kept where nothing is declared."""


def new_states(
    cpu_cores: NDArray[np.float64],
    beta: float,
    *,
    traits: NeighbourTraits | None = None,
    instances: int = 8,
    pods: int = 32,
    requests: int = 256,
) -> NodeStates:
    """Idle nodes at time 0 with space for this many rows, which `grown` extends. `traits`: None where nothing is declared."""
    traits = no_traits() if traits is None else traits
    node_count = len(cpu_cores)
    nodes = np.zeros(node_count, NODE)
    nodes["cpu_cores"] = cpu_cores
    nodes["beta"] = beta
    nodes["next_s"] = np.inf
    nodes["next_instance"] = nodes["next_pod"] = NONE
    pool = np.array([NONE, 0], np.int64)
    states = NodeStates(
        nodes=nodes,
        instances=np.zeros((node_count, instances), INSTANCE),
        pods=np.zeros((node_count, pods), BE_POD),
        requests=np.zeros(0, REQUEST),
        pool=pool,
        traits=traits,
        exerted=np.zeros((node_count, traits.pressure.shape[1])),
    )
    return grown(states, requests=requests)


def grown(states: NodeStates, *, instances: int = 0, pods: int = 0, requests: int = 0) -> NodeStates:
    """The same state with space for at least this many rows; arrays that are large enough are shared, not copied."""
    wider_instances = _widened(states.instances, instances)
    wider_pods = _widened(states.pods, pods)
    old = len(states.requests)
    pool_of_requests = states.requests
    if requests > old:
        pool_of_requests = np.zeros(requests, REQUEST)
        pool_of_requests[:old] = states.requests
        pool_of_requests["next"][old:] = np.arange(old + 1, requests + 1)
        pool_of_requests["next"][-1] = states.pool[FREE_LIST]
        states.pool[FREE_LIST] = old
    return states._replace(instances=wider_instances, pods=wider_pods, requests=pool_of_requests)


def _widened(rows: NDArray[np.void], width: int) -> NDArray[np.void]:
    if width <= rows.shape[1]:
        return rows
    wider = np.zeros((rows.shape[0], width), rows.dtype)
    wider[:, : rows.shape[1]] = rows
    return wider
