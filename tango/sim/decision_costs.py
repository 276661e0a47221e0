"""How long decisions take, from a recorded table: the time of a decision measured during a run would make the run unrepeatable.

`tango bench scheduler --record` writes the table: milliseconds by (class, policy, nodes, requests). In between, time is interpolated on
logarithmic scales; beyond it, the nearest entry holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tango.errors import ConfigError

LONGEST_BATCH = 512
"""LC requests of one cluster in one window from which on the time no longer grows in the table."""

COSTS_FILE = Path(str(resources.files("tango.sim") / "data" / "decision_costs.json"))
"""The table that comes with Tango."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionCost:
    """One measured decision."""

    kind: str
    """`lc` or `be`"""
    policy: str
    nodes: int
    requests: int
    ms: float


class DecisionCosts:
    """How long a policy takes to decide, in milliseconds by nodes and requests, as measured; between measurements interpolated."""

    def __init__(self, rows: Sequence[DecisionCost]) -> None:
        self.rows = tuple(rows)
        self._grids: dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = {}
        for kind, policy in sorted({(r.kind, r.policy) for r in rows}):
            mine = {(r.nodes, r.requests): r.ms for r in rows if (r.kind, r.policy) == (kind, policy)}
            nodes, requests = sorted({n for n, _ in mine}), sorted({m for _, m in mine})
            if len(mine) != len(nodes) * len(requests):
                raise ConfigError(f"decision costs of {kind} policy {policy!r} do not fill their grid; record them again")
            grid = np.array([[mine[n, m] for m in requests] for n in nodes])
            self._grids[kind, policy] = np.log(np.array(nodes, float)), np.log(np.array(requests, float)), np.log(grid)

    def knows(self, kind: str, policy: str) -> bool:
        """Whether the policy has been measured."""
        return (kind, policy) in self._grids

    def seconds(self, kind: str, policy: str, *, nodes: int, requests: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Time to decide on so many requests over so many nodes; 0 for a policy that was not measured."""
        wanted = np.atleast_1d(np.asarray(requests, float))
        if (kind, policy) not in self._grids:
            return np.zeros(len(wanted))
        log_nodes, log_requests, log_ms = self._grids[kind, policy]
        at = np.interp(np.log(max(1, nodes)), log_nodes, np.arange(len(log_nodes)))
        low, high = int(np.floor(at)), int(np.ceil(at))
        row = log_ms[low] + (at - low) * (log_ms[high] - log_ms[low])
        return np.asarray(np.where(wanted > 0, np.exp(np.interp(np.log(np.maximum(wanted, 1.0)), log_requests, row)) / 1e3, 0.0))

    def lc_table(self, policy: str, *, nodes: int) -> NDArray[np.float64]:
        """(LONGEST_BATCH + 1,) seconds for a batch of 0, 1, ... LC requests."""
        return self.seconds("lc", policy, nodes=nodes, requests=np.arange(LONGEST_BATCH + 1))


def recorded_costs(path: Path | None = None) -> DecisionCosts:
    """The table that comes with Tango, or one of a file. Raises: ConfigError for a file that is none."""
    try:
        source = path or COSTS_FILE
        return DecisionCosts([DecisionCost(**row) for row in json.loads(source.read_text(encoding="utf-8"))["costs"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path or 'decision_costs.json'}: no table of decision costs ({error}); write one: tango bench scheduler --record"
        ) from error


def dump_costs(rows: Sequence[DecisionCost], *, machine: str) -> str:
    """The table as text, with where it was measured."""
    lines = ",\n".join("  " + json.dumps(asdict(row)) for row in rows)
    return f'{{"machine": {json.dumps(machine)}, "costs": [\n{lines}\n]}}\n'
