"""Short runs of the engine as experience of BE placement, and the policy by chance."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.learning.network import PlacementNetwork
from tango.scheduling.be_headroom import BeHeadroom
from tango.settings import BeSettings
from tango.systems import BePolicy
from tango.training.be_rollouts import Rollout, Unit, play
from tango.training.curriculum import Curriculum
from tango.training.devices import weights_of


def rollouts(seed: int, *, hidden: int = 8, episode_s: float = 12.0) -> list[Rollout]:
    """Both runs of an episode by a fresh network."""
    torch.manual_seed(0)
    weights = weights_of(PlacementNetwork(hidden))
    curriculum = Curriculum(episode_s=episode_s)
    return play(Unit(curriculum=curriculum, seed=seed, hidden=hidden, weights=weights, discount_per_s=0.9))


def at_random(seed: int = 0) -> BePolicy:
    """Any node that fits, evenly."""
    rng = np.random.default_rng(seed)

    def place(pending: BePending, snapshot: FleetSnapshot, _settings: BeSettings) -> BePlan:
        headroom = BeHeadroom(snapshot)
        node: NDArray[np.int32] = np.full(len(pending), -1, np.int32)
        for k in range(len(pending)):
            fitting = np.flatnonzero(headroom.fits(pending, k))
            if len(fitting):
                node[k] = rng.choice(fitting)
                headroom.count_in(pending, k, int(node[k]))
        return BePlan(node=node, policy="random")

    return place
