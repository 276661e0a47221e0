"""Experiments on the simulator from Python: the same requests, systems and figures as `tango simulate` and `tango compare`.

    from tango import api

    def most_free_cpu(pending, snapshot, settings):
        free, node = snapshot.free, api.nowhere(pending)
        for k in range(len(pending)):
            fits = snapshot.node_ready & (free >= pending.requests[:, k : k + 1]).all(axis=0)
            if fits.any():
                node[k] = (free[api.CPU] * fits).argmax()
                free[:, node[k]] -= pending.requests[:, k]
        return api.BePlan(node=node, policy="most-free-cpu")

    systems = ["load-greedy", api.system("load-greedy", be=most_free_cpu)]
    print(api.compare("p3", systems, fleet="testbed", seeds=3))

What a call gives is a value; nothing is kept in this module, written to disk (but by `keep_in`) or sent anywhere, and no stack has to run.
Tables are Apache Arrow, as those of `tango.history`: `to_pandas()`, or `polars.from_arrow`. The first simulation after an installation
compiles the engine, which takes about a minute. Errors are those of `tango.errors`. Docs: docs/api.md.
"""

from tango.api.comparisons import SystemComparison, compare
from tango.api.fleets import generate_fleet
from tango.api.plans import Capacity, highest_load, plan
from tango.api.policies import SystemChoice, nowhere, system
from tango.api.simulations import Simulation, simulate
from tango.api.workloads import workload
from tango.domain.fleet import Fleet
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.resource_axis import CPU, MEMORY, PODS
from tango.domain.runs import NewRequests
from tango.domain.snapshot import FleetSnapshot
from tango.domain.trace import Trace
from tango.fleets import fleet_names, load_fleet, load_tenants
from tango.systems import be_names, lc_names
from tango.traces import read_trace, write_trace
from tango.traces.hotspots import Hotspots
from tango.traces.mapping import map_trace
from tango.traces.workloads import Workload, draw_requests

__all__ = [
    "CPU",
    "MEMORY",
    "PODS",
    "BePending",
    "BePlan",
    "Capacity",
    "Fleet",
    "FleetSnapshot",
    "Hotspots",
    "LcArrivals",
    "LcPlan",
    "NewRequests",
    "Simulation",
    "SystemChoice",
    "SystemComparison",
    "Trace",
    "Workload",
    "be_names",
    "compare",
    "draw_requests",
    "fleet_names",
    "generate_fleet",
    "highest_load",
    "lc_names",
    "load_fleet",
    "load_tenants",
    "map_trace",
    "nowhere",
    "plan",
    "read_trace",
    "simulate",
    "system",
    "workload",
    "write_trace",
]
