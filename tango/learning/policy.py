"""`dcg-be` and `gnn-sac` as BE policies: the network decides if it can, otherwise the fallback does, and the plan says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from tango.domain.candidates import Weighing
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.smallest import smallest_pending, smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.errors import CheckpointError
from tango.learning.assignment import Demand, Scorer, assign
from tango.learning.checkpoint import Checkpoint, checkpoint_of, read_bytes
from tango.learning.features import Kinds, fleet_graph, kinds_of, node_headroom
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.recent import RecentLc
from tango.learning.shipped import shipped_path
from tango.learning.weighing import weigh_by_scores
from tango.settings.decisions import BeSettings

log = structlog.get_logger(__name__)

Fallback = Callable[[BePending, FleetSnapshot, BeSettings], BePlan]

SLOW_TICKS = 3
"""Ticks running over budget after which the fallback takes over: one slow tick may be a pause of the machine."""
REST_S = 60.0
"""Seconds that the fallback then decides, before the network is tried again."""


def place_by_network(network: PlacementNetwork, pending: BePending, snapshot: FleetSnapshot) -> NDArray[np.int32]:
    """(k,) node rows, -1 where a request fits nowhere; the mask keeps every choice feasible.

    Raises: FloatingPointError when the network gives a score that is not finite.
    """
    kinds = kinds_of(pending, snapshot)
    scorer = _scorer(network, snapshot, kinds)
    if not (np.isfinite(scorer.nodes).all() and np.isfinite(scorer.kinds).all()):
        raise FloatingPointError("the network gave scores that are not finite")
    return assign(scorer, demand_of(pending, kinds), node_headroom(snapshot))


def _scorer(network: PlacementNetwork, snapshot: FleetSnapshot, kinds: Kinds) -> Scorer:
    with torch.inference_mode():
        node, _ = network.encode(batch_graphs([fleet_graph(snapshot)]))
        return scorer_of(network, network.actor_node(node), kinds)


def scorer_of(network: PlacementNetwork, projected: Tensor, kinds: Kinds) -> Scorer:
    """The actor as the compiled step takes it; `projected` (n, h) are the nodes' embeddings after `actor_node`. Without gradient."""
    return Scorer(
        nodes=projected.detach().numpy(),
        kinds=np.ascontiguousarray(network.actor_kind(torch.from_numpy(kinds.features)).detach().numpy().T),
        weights=network.actor_pair.weight.detach().numpy(),
        head=network.actor_out.weight.detach().numpy()[0],
    )


def demand_of(pending: BePending, kinds: Kinds) -> Demand:
    """The requests as the compiled step takes them."""
    return Demand(
        of_request=kinds.of_request,
        requests=pending.requests,
        limit=pending.cpu_limit_millicores,
        scored=kinds.sizes,
        least=kinds.least,
    )


def tried_checkpoint(content: bytes, path: Path, policy: str) -> Checkpoint:
    """A checkpoint that has decided once: torch and the compiled loop take a second for their first call, and the first tick must not.

    Raises: CheckpointError as `load_checkpoint`, and where the network's scores are not finite.
    """
    found = checkpoint_of(content, path, policy)
    # One thread: a decision over a fleet is too small to be split, and the scheduler shares its machine with the rest of the stack.
    torch.set_num_threads(1)
    try:
        place_by_network(found.network, smallest_pending(), smallest_snapshot())
    except (FloatingPointError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {path} cannot decide: {str(error)[:120]}; train it again") from error
    return found


class NetworkBePolicy:
    """Places BE requests by the network of a checkpoint (`dcg-be`, `gnn-sac`); `fallback` decides, and the plan says why, when

    - there is no usable checkpoint, or the network's scores are not finite,
    - it took longer than `decide_budget_ms` in three ticks running: then for a minute.

    Thread-safe as long as one tick runs at a time, which the scheduler's lease sees to.
    """

    def __init__(
        self,
        name: str,
        path: str,
        *,
        fallback: Fallback,
        clock: Callable[[], float] = time.monotonic,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Ask the network of `checkpoint`, or of the file at `path`; where both are empty, the shipped one."""
        self.name = name
        self._fallback = fallback
        self._clock = clock
        self._slow = 0
        self._rests_until_s = -np.inf
        self._recent = RecentLc()
        self.checkpoint = checkpoint
        self.refused = ""
        torch.set_num_threads(1)
        if checkpoint is not None:
            return
        try:
            file = Path(path) if path else shipped_path(name)
            self.checkpoint = tried_checkpoint(read_bytes(file), file, name)
        except CheckpointError as error:
            self.refused = str(error)
            log.warning("checkpoint_refused", reason=self.refused)

    def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        """Give a plan; `policy` in it names who decided."""
        if self.checkpoint is None:
            return self._fall_back(pending, snapshot, settings, self.refused)
        if self._clock() < self._rests_until_s:
            return self._fall_back(pending, snapshot, settings, f"slower than {settings.decide_budget_ms:g} ms, rests")
        begin_s = self._clock()
        snapshot = self._recent.added(snapshot)
        try:
            node = place_by_network(self.checkpoint.network, pending, snapshot)
        except (FloatingPointError, RuntimeError) as error:
            log.warning("network_failed", error=str(error))
            return self._fall_back(pending, snapshot, settings, str(error)[:200])
        took_ms = (self._clock() - begin_s) * 1e3
        self._slow = self._slow + 1 if took_ms > settings.decide_budget_ms else 0
        if self._slow >= SLOW_TICKS:
            self._slow, self._rests_until_s = 0, self._clock() + REST_S
            log.warning("network_too_slow", took_ms=round(took_ms, 1), budget_ms=settings.decide_budget_ms)
        return BePlan(node=node, policy=self.name, checkpoint=self.checkpoint.digest[:12], decide_ms=took_ms)

    def weighing(
        self, pending: BePending, snapshot: FleetSnapshot, node: NDArray[np.int32], requests: Sequence[int]
    ) -> list[Weighing]:
        """What the network weighed for the requests of these rows, when it decided `node` (k,) on this snapshot a moment ago and was asked
        nothing since; none where there is no network. It costs a forward pass."""
        if self.checkpoint is None:
            return []
        snapshot = self._recent.added(snapshot)  # of the same instant, which changes no mean
        kinds = kinds_of(pending, snapshot)
        scorer = _scorer(self.checkpoint.network, snapshot, kinds)
        return [weigh_by_scores(self.name, scorer, kinds, pending, snapshot, node, request) for request in requests]

    def _fall_back(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings, reason: str) -> BePlan:
        return replace(self._fallback(pending, snapshot, settings), fallback_reason=reason)
