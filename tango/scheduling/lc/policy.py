"""What the file of a built-in LC policy exports: two compiled steps, its traits, and its own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tango.scheduling.lc.columns import NO_WEIGHTS, Ask, Belief, Exploration, Terrain
from tango.scheduling.lc.expected_time import time_alone_s
from tango.settings.decisions import LcSettings

Price = Callable[[Terrain, Belief, int, int], float]
"""(terrain, belief, service, node): what one more request of the service costs on the node, network excluded."""
Choose = Callable[[Terrain, Belief, Ask, NDArray[np.float64], Exploration], int]
"""(terrain, belief, request, sent, exploration): a node for the request, -1 where none is ready.

`sent` (s, c) is what this batch has given to each link. `belief.best_node` and `best_price` hold each cluster's offer by `Price`.
"""


def no_weights(_settings: LcSettings) -> NDArray[np.float64]:
    """The weights of a policy that has no numbers of its own."""
    return NO_WEIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledPolicy:
    """One built-in LC policy.

    Its price may read every column of the belief. What counting in one request changes is the request's own (service, node), and with
    `counts_crowding` the node's other services: a price that follows anything else is as of the last pricing of all nodes.
    """

    name: str
    choose: Choose
    """The compiled step that chooses a node for one request."""
    price: Price = time_alone_s
    """The compiled step that prices a node for one more request, the lower the better; the default is a time in seconds."""
    counts_crowding: bool = False
    """Its prices count that the LC services of a node share its CPU, so that more prices change with each request."""
    minds_links: bool = False
    """A request beyond what a link carries within the target counts as late, whatever its expected time."""
    observes: bool = False
    """It goes by how requests were answered (`Belief.answers`), which is noted for it."""
    weights: Callable[[LcSettings], NDArray[np.float64]] = no_weights
    """Its own numbers by the settings, as `Terrain.weights`."""
    tunable: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """(low, high) of fields of `LcSettings` that `tango tune` searches; `NAME.k` is the k-th value of a field that has several. Two whole
    numbers: only whole ones are tried."""
    learned: bool = False
    """Its own numbers are those of a checkpoint instead, which `tango.learning` reads."""
