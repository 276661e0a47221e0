"""What programs do to each other on one machine beside taking turns on its CPU, as a fleet declares it of its services.

It belongs to the fleet and not to the service: it is a fact of programs on machines, which nobody who schedules can know. So it goes
where `Fleet.beta` goes, to the engine's and the virtual kubelet's node model (`tango.node_model.interference`), and no snapshot has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tango.errors import ConfigError

PRESSURES = ("memory_bandwidth", "cache", "core")
"""The kinds: bandwidth to memory, the last-level cache, and the execution units that hardware threads of one core share."""
MOST_PRESSURE = 100.0
"""Of a service, by one kind; beyond it a hundredth of a node's CPU would take the whole of a resource."""
MOST_SENSITIVITY = 100.0
"""Likewise: work that takes a hundred times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInterference:
    """One service as a neighbour, by the kinds of `PRESSURES`.

    Raises: ConfigError for another number of kinds, or a figure that is not from 0 to `MOST_PRESSURE` or `MOST_SENSITIVITY`.
    """

    service: str
    pressure: tuple[float, ...] = (0.0,) * len(PRESSURES)
    """What it exerts while it uses the whole CPU of its node, as a share of what the node has of the resource; in proportion where it uses
    less. Above 1 where a part of the CPU is enough to take the whole resource."""
    sensitivity: tuple[float, ...] | None = None
    """What its work takes longer where its neighbours take the whole of the resource: 0.5 is half as long again. None: as before there
    were kinds, an LC service by the fleet's beta and a BE service not at all."""

    def __post_init__(self) -> None:
        for name, figures, most in (
            ("pressure", self.pressure, MOST_PRESSURE),
            ("sensitivity", self.sensitivity or (0.0,) * len(PRESSURES), MOST_SENSITIVITY),
        ):
            if len(figures) != len(PRESSURES) or not all(0.0 <= figure <= most for figure in figures):
                raise ConfigError(
                    f"{name} of service {self.service!r} is {figures}, expected a number from 0 to {most:g} for each of "
                    f"{', '.join(PRESSURES)}"
                )
