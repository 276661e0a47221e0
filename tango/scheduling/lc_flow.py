"""`dss-lc`: LC dispatch as a min-cost flow from the entry cluster over clusters to nodes.

Source: Tango (Feng et al., ICPP 2023), the LC dispatcher as a minimum-cost flow over edge clusters. Departures: the cost of an arc
is the expected completion of one more request (`completion.py`), which is convex in the number sent, instead of a fixed distance; the
capacity of a node is what still meets the target, so that it follows from the cost; what fits nowhere is spread by expected
completion and marked late.

From one entry the graph is a tree: node arcs inside cluster links inside the source. Unit costs on a node rise with each request, and
the links are nested capacities, so filling the cheapest free unit first is optimal (a greedy over a laminar matroid; Edmonds 1971).
That is the closed form here, compiled; `lc_flow_solver.py` states the same flow for OR-tools, and a test holds the one to the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.compiled import compiled
from tango.scheduling.completion import lc_view
from tango.settings import LcSettings

POLICY = "dss-lc"


def plan_dss_lc(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
    """A node for each arrival; -1 only where no ready instance exists in the whole fleet."""
    return _planned(arrivals, snapshot, settings, POLICY, np.ones((len(snapshot.clusters), len(snapshot.nodes)), bool))


def plan_entry_only(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings, policy: str) -> LcPlan:
    """The same filling, over the nodes of the entry cluster alone."""
    allowed = np.arange(len(snapshot.clusters))[:, None] == snapshot.node_cluster[None, :]
    return _planned(arrivals, snapshot, settings, policy, allowed)


def link_capacity(snapshot: FleetSnapshot, entry: int, payload_kib: float, budget_s: float) -> NDArray[np.float64]:
    """(c,) requests whose payload a link carries within the target; infinity at home."""
    capacity: NDArray[np.float64] = snapshot.bandwidth_mbit_per_s[entry] * 1e6 * budget_s / max(1.0, payload_kib * 8192)
    return capacity


def _planned(
    arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings, policy: str, allowed: NDArray[np.bool_]
) -> LcPlan:
    m = len(arrivals)
    node = np.full(m, -1, np.int32)
    expected_s = np.full(m, np.inf)
    late = np.zeros(m, bool)
    in_flight = snapshot.in_flight.copy()
    for entry in np.unique(arrivals.entry_cluster):
        rows = np.flatnonzero(arrivals.entry_cluster == entry)
        view = lc_view(arrivals, snapshot, int(entry))
        links = np.stack(
            [link_capacity(snapshot, int(entry), s.payload_kib, float((s.target_ms or 1e3) / 1e3)) for s in snapshot.services]
        )
        fill(
            rows,
            view.service,
            view.budget_s,
            view.work_s,
            view.network_s,
            np.where(allowed[entry][None, :], view.limit_cores, 0.0),
            view.places,
            in_flight,
            snapshot.node_cluster,
            links,
            node,
            expected_s,
            late,
        )
    shed = late & (not settings.keep_late)
    return LcPlan(
        node=np.where(shed, -1, node).astype(np.int32), late=late & ~shed, shed=shed, expected_s=expected_s, policy=policy
    )


@compiled("f8(f8, f8, f8, f8, f8)")
def marginal_s(work_s: float, network_s: float, limit_cores: float, places: float, in_flight: float) -> float:
    """Expected completion of one more request, in seconds; convex and rising in `in_flight`."""
    held = min(in_flight + 1.0, max(1.0, places))
    service_s = work_s * max(1.0, held / limit_cores)
    waiting_s = max(0.0, in_flight + 1.0 - max(1.0, places)) * work_s / limit_cores
    return network_s + service_s + waiting_s


@compiled(
    "void(i8[::1], i4[::1], f8[::1], f8[::1], f8[:, ::1], f8[:, ::1], f8[:, ::1], f8[:, ::1], i4[::1], f8[:, ::1],"
    " i4[::1], f8[::1], b1[::1])"
)
def fill(
    rows: NDArray[np.int64],
    service: NDArray[np.int32],
    budget_s: NDArray[np.float64],
    work_s: NDArray[np.float64],
    network_s: NDArray[np.float64],
    limit_cores: NDArray[np.float64],
    places: NDArray[np.float64],
    in_flight: NDArray[np.float64],
    node_cluster: NDArray[np.int32],
    links: NDArray[np.float64],
    node: NDArray[np.int32],
    expected_s: NDArray[np.float64],
    late: NDArray[np.bool_],
) -> None:
    """Give each arrival the cheapest unit left; writes `node`, `expected_s`, `late` and counts into `in_flight` and `links`."""
    for row in rows:
        s = service[row]
        best, best_s = -1, np.inf
        spill, spill_s = -1, np.inf
        for n in range(node_cluster.shape[0]):
            if limit_cores[s, n] <= 0.0:
                continue
            cost = marginal_s(work_s[s], network_s[s, n], limit_cores[s, n], places[s, n], in_flight[s, n])
            if cost < spill_s:
                spill, spill_s = n, cost
            if links[s, node_cluster[n]] >= 1.0 and cost <= budget_s[row] and cost < best_s:
                best, best_s = n, cost
        chosen, cost = (best, best_s) if best >= 0 else (spill, spill_s)
        if chosen < 0:
            continue
        node[row] = chosen
        expected_s[row] = cost
        late[row] = best < 0
        in_flight[s, chosen] += 1.0
        links[s, node_cluster[chosen]] -= 1.0
