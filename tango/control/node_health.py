"""Outlier detection: which nodes answer the calls of this process, and how much each may get.

A node on which calls fail one after another, or whose calls hang while none is answered, is out at once: dispatch gives it nothing, and
what hangs there is taken back. It is probed, and once it answers again it gets a small share that grows to all of it. The rules are
those of the outlier detection of service meshes (Envoy's consecutive gateway failures, slow start and greatest share of hosts that may be
out); what hangs is told from what is slow by progress: a node that answers anything is only slow.

When the host that all of this runs on is overloaded every node seems to hang, and calls that are taken back and given out again make it
worse. Three things tell that from a node that hangs: a node may be silent for some of the times that answers of all nodes take at present;
time in which this process itself stood still is not counted against anybody, as in Cassandra's failure detector; and never are more nodes
out at once than a share of the fleet, since the rest could not carry the load of the others.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from tango.domain.identity import NodeKey
from tango.domain.snapshot import FleetSnapshot
from tango.settings import OutlierSettings

log = structlog.get_logger(__name__)

Call = tuple[int, int, int]
"""(run, request, epoch)."""
LEAST_SHARE = 0.1
"""Share of the dispatches that may use a node which has just been let in again."""
ANSWER_WEIGHT = 0.02
"""Weight of one answer in the moving average of how long answers take: some fifty answers, a fraction of a second under load."""


@dataclass(slots=True)
class _Node:
    """What is known of one node; times are monotonic."""

    pending: dict[Call, tuple[float, float]] = field(default_factory=dict)
    """Calls under way, in the order of their beginning: (when it began, seconds after which it hangs)."""
    answered_at_s: float = -np.inf
    unanswered_s: float = 0.0
    """How long calls that nobody waits for any more had been under way since then, with nothing answered."""
    failed_in_row: int = 0
    is_out: bool = False
    probe_at_s: float = 0.0
    pause_s: float = 0.0
    probed_well: int = 0
    back_since_s: float = -np.inf
    """When it was let in again; minus infinity: it was never out."""

    def silent_s(self, now_s: float) -> float:
        """Seconds that calls have been under way with nothing answered."""
        began_s = next(iter(self.pending.values()))[0] if self.pending else now_s
        return self.unanswered_s + now_s - max(began_s, self.answered_at_s)

    def hangs(self, now_s: float, usual_s: float) -> bool:
        """Whether a call under way has waited for longer than it should, or than `usual_s`, with nothing answered meanwhile."""
        silent_s = self.silent_s(now_s)
        if not self.pending or silent_s <= usual_s:
            return False
        return any(
            (silent_s if k == 0 else now_s - max(began_s, self.answered_at_s)) > max(hangs_after_s, usual_s)
            for k, (began_s, hangs_after_s) in enumerate(self.pending.values())
        )


class NodeHealth:
    """The nodes as one process's calls find them. Thread-safe: dispatch asks in one thread, calls tell in another."""

    def __init__(self, settings: OutlierSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._nodes: dict[NodeKey, _Node] = {}
        self._fleet_nodes = 0
        """Nodes with an instance, in the last snapshot that was planned on."""
        self._answer_s = 0.0
        """What answers take at present, over all nodes; 0 before the first."""
        self._looked_at_s = -np.inf

    @property
    def look_every_s(self) -> float:
        """Seconds between two calls of `overdue`."""
        return self._settings.look_every_s

    # ---- what calls tell -----------------------------------------------------------------------------------------------

    def begun(self, node: NodeKey, call: Call, *, target_s: float, patience_s: float = math.inf) -> None:
        """A call to the node is under way, whose caller waits `patience_s`; infinity: nobody does, or nobody knows."""
        settings = self._settings
        hangs_after_s = max(settings.hang_min_s, settings.hang_targets * target_s)
        if patience_s < math.inf:
            hangs_after_s = max(hangs_after_s, settings.hang_patience * patience_s)
        with self._lock:
            self._nodes.setdefault(node, _Node()).pending[call] = self._monotonic(), hangs_after_s

    def answered(self, node: NodeKey, call: Call) -> None:
        """The node has begun to answer it, whatever the answer is; told again when the answer has ended."""
        with self._lock:
            known = self._nodes.setdefault(node, _Node())
            now_s = self._monotonic()
            if (begun := known.pending.pop(call, None)) is not None:
                took_s = now_s - begun[0]
                self._answer_s += (ANSWER_WEIGHT if self._answer_s else 1.0) * (took_s - self._answer_s)
            known.answered_at_s, known.failed_in_row, known.unanswered_s = now_s, 0, 0.0

    def failed(self, node: NodeKey, call: Call) -> None:
        """The node did not answer it: unreachable, reset, or timed out."""
        with self._lock:
            known = self._nodes.setdefault(node, _Node())
            known.pending.pop(call, None)
            known.failed_in_row += 1
            if known.failed_in_row >= self._settings.failures_in_row:
                self._put_out(node, known, "calls failed one after another")

    def over(self, node: NodeKey, call: Call) -> None:
        """It ended in a way that tells nothing of the node."""
        with self._lock:
            self._nodes.setdefault(node, _Node()).pending.pop(call, None)

    def given_up(self, node: NodeKey, call: Call) -> None:
        """Nobody waits for it any more. The node was silent as long as it was under way, and may answer the next one."""
        with self._lock:
            known = self._nodes.setdefault(node, _Node())
            if call in known.pending:
                before_s = known.silent_s(now_s := self._monotonic())
                del known.pending[call]
                known.unanswered_s += before_s - known.silent_s(now_s)

    def overdue(self) -> list[Call]:
        """The calls that hang on nodes which answer nothing; such a node is out from now on, and its calls are not told of again.

        To be asked every `OutlierSettings.look_every_s` while there are calls: where it is asked later, this process stood still, and
        answers may lie unread.
        """
        now_s, settings = self._monotonic(), self._settings
        taken_back: list[Call] = []
        with self._lock:
            if now_s - self._looked_at_s > settings.paused_after_looks * settings.look_every_s:
                self._forgive(now_s)
            self._looked_at_s = now_s
            usual_s = settings.hang_answers * self._answer_s
            silent = []
            for node, known in self._nodes.items():
                if known.hangs(now_s, usual_s):
                    silent.append((known.silent_s(now_s), node, known))
            for _, node, known in sorted(silent, key=lambda found: -found[0]):
                if self._put_out(node, known, "calls hang and none is answered"):
                    taken_back += known.pending
                    known.pending.clear()
        return taken_back

    def _forgive(self, now_s: float) -> None:
        """Let the silence of every node begin now."""
        for known in self._nodes.values():
            if known.pending:
                known.answered_at_s, known.unanswered_s = now_s, 0.0

    def is_quiet(self) -> bool:
        """Whether there is nothing to watch: no call under way, and no node out."""
        with self._lock:
            return not any(known.pending or known.is_out for known in self._nodes.values())

    # ---- probes --------------------------------------------------------------------------------------------------------

    def to_probe(self) -> list[NodeKey]:
        """The nodes that are out and whose next probe is due; each is given once until `probed` tells."""
        now_s = self._monotonic()
        with self._lock:
            due = [node for node, known in self._nodes.items() if known.is_out and known.probe_at_s <= now_s]
            for node in due:
                self._nodes[node].probe_at_s = np.inf
        return due

    def probed(self, node: NodeKey, *, well: bool) -> None:
        """The answer to a probe. Enough good ones in a row let the node in again, with a small share at first."""
        now_s, settings = self._monotonic(), self._settings
        with self._lock:
            known = self._nodes[node]
            known.probed_well = known.probed_well + 1 if well else 0
            known.pause_s = settings.probe_every_s if well else min(2.0 * known.pause_s, settings.longest_probe_pause_s)
            known.probe_at_s = now_s + known.pause_s * random.uniform(0.75, 1.0)
            if known.probed_well >= settings.probes_well:
                known.is_out, known.failed_in_row, known.back_since_s = False, 0, now_s
                log.info("node_let_in", node=str(node), full_share_in_s=settings.ramp_s)

    # ---- what dispatch asks --------------------------------------------------------------------------------------------

    def share(self, node: NodeKey) -> float:
        """Which share of the dispatches may use the node: 0 while it is out, 1 where nothing was wrong, between them as it comes back."""
        with self._lock:
            known = self._nodes.get(node)
            if known is None:
                return 1.0
            if known.is_out:
                return 0.0
            back_s = self._monotonic() - known.back_since_s
            return 1.0 if back_s >= self._settings.ramp_s else max(LEAST_SHARE, back_s / self._settings.ramp_s)

    def masked(self, snapshot: FleetSnapshot) -> FleetSnapshot:
        """The snapshot as this dispatch may use it: nodes that are out, and by chance those that come back, have no instance.

        A service that would have none at all keeps those it has: a call that may hang is better than none.
        """
        with self._lock:
            self._fleet_nodes = int(np.count_nonzero(snapshot.instance_count.any(axis=0)))
            told = any(known.is_out or known.back_since_s > -np.inf for known in self._nodes.values())
        if not told:
            return snapshot
        left_out = self._left_out(snapshot.node_keys)
        if not left_out.any():
            return snapshot
        count = np.where(left_out, 0.0, snapshot.instance_count)
        bereft = (count.sum(axis=1) == 0) & (snapshot.instance_count.sum(axis=1) > 0)
        keep = bereft[:, None] | ~left_out[None, :]
        limit = np.where(keep, snapshot.instance_limit, 0.0)
        return replace(snapshot, instance_count=np.where(keep, snapshot.instance_count, 0.0), instance_limit=limit)

    def _left_out(self, nodes: Iterable[NodeKey]) -> NDArray[np.bool_]:
        return np.array([(share := self.share(node)) < 1.0 and random.random() >= share for node in nodes], np.bool_)

    def _put_out(self, node: NodeKey, known: _Node, reason: str) -> bool:
        """Put a node out, unless too many are; gives whether it is out now."""
        if known.is_out:
            return True
        out = sum(other.is_out for other in self._nodes.values())
        if out + 1 > max(1, self._settings.most_out_share * max(len(self._nodes), self._fleet_nodes)):
            return False
        log.warning("node_put_out", node=str(node), reason=reason)
        known.is_out, known.probed_well, known.pause_s, known.unanswered_s = True, 0, self._settings.probe_every_s, 0.0
        known.probe_at_s = self._monotonic() + known.pause_s
        return True
