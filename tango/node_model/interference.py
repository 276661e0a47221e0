"""How much longer the work of a service takes on a node because of what its neighbours do there.

    factor = 1 + sum over kinds k of  sensitivity[k] x min(1, what the neighbours exert of k)
    what the neighbours exert of k = sum over them of  pressure[k] x cores in use / cores of the node

The form is that of SMiTe (Zhang, Laurenzano, Mars, Tang, MICRO 2014: kinds of shared resources are told apart, and what one program's
sensitivity and the other's contentiousness make of each kind is added up), with pressure in proportion to the CPU that a neighbour gets,
and bounded: of a resource that is taken whole no more can be taken, as the sensitivity curves of Bubble-Up level off (Mars et al., MICRO
2011). Kinds add up since each adds cycles of its own to an instruction. Departures: no kind makes another worse, a curve is a straight
line up to its bound, and nobody is slowed by itself.

With pressure 1 of one kind by BE and a sensitivity of beta by LC it is the single beta, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import inlined
from tango.domain.interference import PRESSURES, ServiceInterference
from tango.domain.services import Service


class NeighbourTraits(NamedTuple):
    """s services as neighbours, by k kinds of pressure; s is 0 where a fleet declares none, and then only beta counts."""

    pressure: NDArray[np.float64]
    """(s, k) exerted by the whole CPU of a node, as a share of what the node has."""
    sensitivity: NDArray[np.float64]
    """(s, k) of its work, where the neighbours take all of it."""
    is_sensitive: NDArray[np.bool_]
    """(s,) whether its sensitivity is declared; where it is not, beta counts for LC and nothing for BE."""


def no_traits() -> NeighbourTraits:
    """Those of a fleet that declares none."""
    kinds = len(PRESSURES)
    return NeighbourTraits(pressure=np.zeros((0, kinds)), sensitivity=np.zeros((0, kinds)), is_sensitive=np.zeros(0, np.bool_))


def traits_of(services: Sequence[Service], declared: Sequence[ServiceInterference]) -> NeighbourTraits:
    """Those of services, row by row; one that declares nothing exerts nothing."""
    if not declared:
        return no_traits()
    found = {one.service: one for one in declared}
    unsaid = ServiceInterference(service="")
    of = [found.get(service.name, unsaid) for service in services]
    kinds = len(PRESSURES)
    return NeighbourTraits(
        pressure=np.array([one.pressure for one in of], np.float64).reshape(-1, kinds),
        sensitivity=np.array([one.sensitivity or unsaid.pressure for one in of], np.float64).reshape(-1, kinds),
        is_sensitive=np.array([one.sensitivity is not None for one in of], np.bool_),
    )


@inlined
def slow_down(
    traits: NeighbourTraits, service: int, exerted_cores: NDArray[np.float64], own_cores: float, cpu_cores: float, unsaid: float
) -> float:
    """The factor by which the work of one instance or pod of a service takes longer, at least 1.

    `exerted_cores` (k,): what all on the node exert, itself included: pressure x cores in use; `own_cores`: what it uses itself. `unsaid`
    is the factor where the service's sensitivity is not declared, or where it has no row (-1).
    """
    if service < 0 or not traits.is_sensitive[service]:
        return unsaid
    factor = 1.0
    for k in range(traits.sensitivity.shape[1]):
        by_others = exerted_cores[k] - traits.pressure[service, k] * own_cores
        factor += traits.sensitivity[service, k] * min(max(by_others, 0.0), cpu_cores) / cpu_cores
    return factor
