"""`tango bench simulator`: simulated requests per second and core, memory, and how time grows with requests and nodes.

The yardstick is the bare engine on the same requests in the same process: round robin, no sharing rule, no decision charged. Each
figure is the best of several runs, in which the two sides take turns. Memory is measured in a process of its own.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from tango.bench.children import answer_of, give
from tango.bench.figures import Figure, Told
from tango.bench.trace_reading import peak_mib
from tango.bench.worlds import fleet_of_size
from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.fleets import load_fleet
from tango.settings import Settings, SimSettings
from tango.sim.simulate import simulate
from tango.systems import System, mixed, system
from tango.traces.workloads import Workload, draw_requests

LOAD = 0.8
"""Offered CPU work over the fleet's CPU."""
BARE = System(name="bare engine", lc="round-robin", be="load-greedy", sharing="static")
YARDSTICK = "bare engine: round robin, no sharing rule"
REQUESTS_PER_CORE_S = 1884960 / (4620 * 600)
"""Requests per core and second that make a load of 0.8 with the services of `paper`: counted over 600 s on 4,620 cores."""


def requests_for(fleet: Fleet, wanted: int, *, seed: int = 1) -> tuple[NewRequests, float]:
    """(about `wanted` requests of pattern p3 at load 0.8, seconds of their arrivals)."""
    cores = sum(node.cpu_millicores for cluster in fleet.clusters for node in cluster.nodes) / 1e3
    duration_s = float(-(-wanted // (cores * REQUESTS_PER_CORE_S * 0.99)))
    return draw_requests(Workload(lc=("p3",), be=("p3",), duration_s=duration_s, load=LOAD), fleet, seed), duration_s


def measure(*, nodes: int = 1000, requests: int = 2_000_000, repeats: int = 3, told: Told = lambda _: None) -> list[Figure]:
    """Throughput of the system `tango` beside the bare engine, and the memory of a run of 5,000,000 requests."""
    fleet = fleet_of_size(nodes)
    drawn, span_s = requests_for(fleet, requests)
    told(f"{len(drawn):,} requests over {span_s:g} s on {nodes} nodes, load {LOAD}")
    plain = replace(Settings(), sim=SimSettings(charge_decisions=False))
    tango_s, bare_s, events = [], [], 0
    for k in range(repeats + 1):
        ours = simulate(fleet, drawn, system("tango"), Settings(), seed=1, span_s=span_s)
        bare = simulate(fleet, drawn, BARE, plain, seed=1, span_s=span_s)
        events = ours.events
        if k:  # the first run may compile
            tango_s.append(ours.took_s)
            bare_s.append(bare.took_s)
            told(f"tango {ours.took_s:.2f} s, bare engine {bare.took_s:.2f} s")
    best, yard = min(tango_s), min(bare_s)
    of = f"{nodes} nodes, {len(drawn)} requests"
    return [
        Figure(
            name=f"simulated requests per second and core, tango ({of})",
            value=len(drawn) / best,
            unit="1/s",
            yardstick=YARDSTICK,
            yardstick_value=len(drawn) / yard,
        ),
        Figure(name=f"node events per second, tango ({of})", value=events / best, unit="1/s"),
        peak_memory(told=told),
    ]


def peak_memory(*, requests: int = 5_000_000, told: Told = lambda _: None) -> Figure:
    """Peak memory of a process that draws and simulates so many requests under `tango`, beside the size of their input columns."""
    told(f"memory of {requests:,} requests")
    found = answer_of([sys.executable, "-m", "tango.bench.simulator", str(requests)], within_s=900.0)
    return Figure(
        name=f"peak memory, {found['requests']} requests",
        value=found["peak_mib"],
        unit="MiB",
        yardstick="their input columns",
        yardstick_value=found["input_mib"],
    )


def scaling(*, told: Told = lambda _: None) -> list[Figure]:
    """Engine seconds of `tango` over the number of requests (on 1,000 nodes) and of nodes (with 1,000,000 requests)."""
    figures = []
    thousand = fleet_of_size(1000)
    for wanted in (250_000, 500_000, 1_000_000, 2_000_000, 4_000_000):
        figures.append(_timed(thousand, wanted, f"{wanted} requests, 1000 nodes", told))
    for nodes in (100, 300, 1000, 3000, 10_000):
        figures.append(_timed(fleet_of_size(nodes), 1_000_000, f"{nodes} nodes, 1000000 requests", told))
    return figures


def long_run(*, seconds: float = 100_000.0, told: Told = lambda _: None) -> Figure:
    """Wall seconds of 100,000 simulated seconds on `continent` at a load that gives 1,000,000 requests.

    The system is `tango` with `load-greedy` in place of its network: a pass of the network over 10,000 nodes in each of 100,000 ticks
    would take most of the time, and this figure is about the engine.
    """
    fleet = load_fleet("continent")
    cores = sum(node.cpu_millicores for cluster in fleet.clusters for node in cluster.nodes) / 1e3
    load = LOAD * 1_000_000 / (cores * REQUESTS_PER_CORE_S * seconds)
    drawn = draw_requests(Workload(lc=("p3",), be=("p3",), duration_s=seconds, load=load), fleet, 1)
    began_s = time.perf_counter()
    mix = mixed(system("tango"), be="load-greedy")
    simulate(fleet, drawn, mix, Settings(), seed=1, span_s=seconds)
    took_s = time.perf_counter() - began_s
    told(f"continent, {seconds:g} s, {len(drawn):,} requests: {took_s:.1f} s")
    return Figure(
        name=f"{mix.name} on continent for {seconds:g} simulated seconds, {len(drawn)} requests",
        value=took_s,
        unit="s",
        yardstick="simulated seconds",
        yardstick_value=seconds,
    )


def _timed(fleet: Fleet, wanted: int, name: str, told: Told) -> Figure:
    drawn, span_s = requests_for(fleet, wanted)
    plain = replace(Settings(), sim=SimSettings(charge_decisions=False))
    ours = min(simulate(fleet, drawn, system("tango"), Settings(), seed=1, span_s=span_s).took_s for _ in range(2))
    bare = simulate(fleet, drawn, BARE, plain, seed=1, span_s=span_s).took_s
    told(f"{name}: {ours:.2f} s, bare engine {bare:.2f} s")
    return Figure(name=f"engine seconds, {name}", value=ours, unit="s", yardstick=YARDSTICK, yardstick_value=bare)


def _main(requests: int) -> None:
    fleet = load_fleet("paper")
    drawn, span_s = requests_for(fleet, requests)
    columns = (drawn.due_s, drawn.target_s, drawn.service_class, drawn.service, drawn.cluster, drawn.cpu_work_s, drawn.memory_mib)
    simulate(fleet, drawn, system("tango"), Settings(), seed=1, span_s=span_s)
    input_mib = sum(column.nbytes for column in columns) / 2**20
    give({"requests": len(drawn), "peak_mib": peak_mib(), "input_mib": input_mib})


if __name__ == "__main__":
    _main(int(sys.argv[1]))
