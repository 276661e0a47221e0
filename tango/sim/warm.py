"""Simulates one second on the smallest fleet, so that the engine is compiled and cached before several processes need it at once."""

from __future__ import annotations

from tango.fleets import load_fleet
from tango.settings.simulated import SimulationSettings
from tango.sim.simulate import simulate
from tango.systems import system
from tango.traces.workloads import Workload, draw_requests


def warm_up() -> None:
    """A fraction of a second where the machine code is kept, a minute where it is not."""
    fleet = load_fleet("single")
    requests = draw_requests(Workload(lc=("p3",), be=("p3",), duration_s=1.0, load=0.3), fleet, 1)
    simulate(fleet, requests, system("load-greedy"), SimulationSettings(), span_s=1.0)
