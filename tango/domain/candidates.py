"""The candidates of a decision: what each node would have cost one request, and why the one that was chosen won.

    policy, snapshot, requests before it ─► Weighing (columns over all nodes) ─► told ─► Weighed (the best few) ─► why_won: a sentence

A policy's prices are worked out once more beside its decision, from the very snapshot that it decided on, for few requests: what is kept is
what the decider has seen, whatever its code or its network is when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tango.domain.identity import RequestKey
from tango.domain.snapshot import FleetSnapshot

MOST_TOLD = 5
"""Nodes that could have taken the request of which the price is told, the chosen one among them."""
MOST_REFUSED = 3
"""Nodes that are told beside these because they were better, and could not take it."""
SECONDS = "s"
TURNS = "turns"
REQUESTS = "requests"
SHARE = "of what LC leaves"
POINTS = ""
"""Units of prices."""
BE_LOSES = "cores that BE would lose to it"
"""Figure of a node, 0 to 1, by which `dss-lc` chooses among equally quick ones of the entry cluster."""
KEPT_DIGITS = 6
"""Significant digits that are kept of a price: differences beyond them tell nobody anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """What a policy weighed for one request over n nodes, those before it counted in."""

    policy: str
    rule: str
    """What the best price is, in words that follow "it had"."""
    price: NDArray[np.float64]
    """(n,) not a finite number where a node was no candidate at all."""
    takes: NDArray[np.bool_]
    """(n,) whether the node could have taken the request."""
    unit: str = POINTS
    highest_wins: bool = False
    """The prices are scores."""
    limit: float | None = None
    """Price beyond which a request is expected to be late; None: the policy knows none."""
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """What a price is the sum of, (n,) each."""
    figures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """What else a price was made of, (n,) each; names with their units."""
    free: NDArray[np.float64] | None = None
    """(r, n) what no pod requested when it was this request's turn; None: room did not decide."""

    @property
    def order(self) -> NDArray[np.intp]:
        """Nodes that were candidates, the best first; among equals in order of their rows."""
        worst_first = -self.price if self.highest_wins else self.price
        found = np.argsort(worst_first, kind="stable")
        return found[np.isfinite(self.price[found])]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeighedNode:
    """A node with its price."""

    node: str
    """`CLUSTER/NODE`."""
    price: float
    parts: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    refused: str = ""
    """Why it could not take the request; empty: it could."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """The best few candidates of one attempt, as they are kept."""

    run_id: int
    request_id: int
    epoch: int
    """Of the attempt that the decision began."""
    policy: str
    rule: str
    unit: str
    highest_wins: bool
    limit: float | None
    takers: int
    """Nodes that could have taken it."""
    chosen: str
    """`CLUSTER/NODE`."""
    candidates: tuple[WeighedNode, ...]
    """The best first."""
    moved: str = ""
    """Why it did not go where the policy would have had it, in words; empty: it did."""

    @property
    def key(self) -> RequestKey:
        """Whose candidates they are."""
        return RequestKey(self.run_id, self.request_id)


def told(
    weighing: Weighing,
    snapshot: FleetSnapshot,
    *,
    request: RequestKey,
    epoch: int,
    chosen: int,
    refused: Callable[[int], str],
    moved: str = "",
) -> Weighed:
    """The best few of a weighing, the chosen node always. `refused` says why the node of a row could not take the request."""
    order = weighing.order.tolist()
    takers = [n for n in order if weighing.takes[n]]
    # Among equals the policy has its own order, and the chosen one stands first.
    price = weighing.price
    takers.sort(key=lambda n: (-price[n] if weighing.highest_wins else price[n], n != chosen))
    kept = [n for n in takers if n != chosen][: MOST_TOLD - 1]
    better = order[: order.index(chosen)] if chosen in order else order
    full = [n for n in better if not weighing.takes[n]][:MOST_REFUSED]
    among = {chosen, *kept, *full}
    rows = [n for n in sorted(among, key=lambda n: (-price[n] if weighing.highest_wins else price[n], n != chosen))]
    return Weighed(
        run_id=request.run_id,
        request_id=request.request_id,
        epoch=epoch,
        policy=weighing.policy,
        rule=weighing.rule,
        unit=weighing.unit,
        highest_wins=weighing.highest_wins,
        limit=None if weighing.limit is None else _kept(weighing.limit),
        takers=len(takers),
        chosen=str(snapshot.node_key(chosen)),
        candidates=tuple(
            WeighedNode(
                node=str(snapshot.node_key(n)),
                price=_kept(price[n]),
                parts={name: _kept(of[n]) for name, of in weighing.parts.items()},
                figures={name: _kept(of[n]) for name, of in weighing.figures.items()},
                refused="" if weighing.takes[n] else refused(n),
            )
            for n in rows
        ),
        moved=moved,
    )


def written(weighed: Sequence[Weighed]) -> str:
    """As JSON, as decisions keep it; empty for none. Parts and figures are pairs, since the database keeps no order of members."""
    return orjson.dumps([_as_kept(one) for one in weighed]).decode() if weighed else ""


def read_back(kept: Sequence[Mapping[str, Any]]) -> tuple[Weighed, ...]:
    """What was `written`, parsed."""
    return tuple(Weighed(**{**one, "candidates": tuple(map(_candidate, one["candidates"]))}) for one in kept)


def _as_kept(weighed: Weighed) -> dict[str, Any]:
    found = asdict(weighed)
    for candidate in found["candidates"]:
        candidate |= {name: list(candidate[name].items()) for name in ("parts", "figures")}
    return found


def _candidate(kept: Mapping[str, Any]) -> WeighedNode:
    return WeighedNode(**{**kept, "parts": dict(kept["parts"]), "figures": dict(kept["figures"])})


def why_won(weighed: Weighed) -> str:
    """Why the chosen node won, in a sentence without a full stop; where a better one was not taken, why not."""
    by_name = {candidate.node: candidate for candidate in weighed.candidates}
    chosen = by_name[weighed.chosen]
    others = [c for c in weighed.candidates if not c.refused and c.node != weighed.chosen]
    better = [c for c in weighed.candidates if c.refused and _is_better(weighed, c.price, chosen.price)]
    if weighed.moved:
        said = f"{weighed.moved}, and so went to {chosen.node} at {in_unit(weighed, chosen.price)}"
    elif not others:
        said = f"{chosen.node} was the only node that could take it, at {in_unit(weighed, chosen.price)}"
    elif others[0].price == chosen.price:
        spares_be = chosen.figures.get(BE_LOSES, 0.0) < others[0].figures.get(BE_LOSES, 0.0)
        said = (
            f"{chosen.node} had {weighed.rule}, {in_unit(weighed, chosen.price)}, as had {others[0].node}; of equal ones the policy takes "
            + ("the one where BE loses least" if spares_be else "the first that it meets")
        )
    else:
        said = (
            f"{chosen.node} had {weighed.rule}, {in_unit(weighed, chosen.price)}; the next was {others[0].node} with "
            f"{in_unit(weighed, others[0].price)}{_difference(weighed, chosen, others[0])}"
        )
    if weighed.limit is not None and chosen.price > weighed.limit:
        said += f"; no node was expected to take it within its {in_unit(weighed, weighed.limit)}"
    if better:
        said += f"; {better[0].node} would have been better ({in_unit(weighed, better[0].price)}), but {better[0].refused}"
    return said


def in_unit(weighed: Weighed, amount: float) -> str:
    """A price or a part of one, for people."""
    return _TOLD[weighed.unit](amount)


_TOLD: Mapping[str, Callable[[float], str]] = {
    SECONDS: lambda amount: f"{amount * 1e3:,.1f} ms",
    TURNS: lambda amount: f"{amount:.0f} turns before its own",
    SHARE: lambda amount: f"{amount:.1%} {SHARE}",
    POINTS: lambda amount: f"{amount:.4g}",
}


def shown(weighed: Weighed) -> dict[str, Any]:
    """As JSON and pages have it, with what a table says of each node."""
    return {
        "request": f"{weighed.run_id}/{weighed.request_id}",
        "epoch": weighed.epoch,
        "policy": weighed.policy,
        "why": why_won(weighed),
        "rule": weighed.rule,
        "unit": weighed.unit,
        "highest_wins": weighed.highest_wins,
        "limit": weighed.limit,
        "takers": weighed.takers,
        "chosen": weighed.chosen,
        "nodes": [
            {
                "node": candidate.node,
                "price": candidate.price,
                "price_words": in_unit(weighed, candidate.price),
                "parts": dict(candidate.parts),
                "figures": dict(candidate.figures),
                "made_of": _made_of(weighed, candidate),
                "refused": candidate.refused,
            }
            for candidate in weighed.candidates
        ],
    }


def _made_of(weighed: Weighed, candidate: WeighedNode) -> str:
    parts = [f"{name} {in_unit(weighed, amount)}" for name, amount in candidate.parts.items()]
    figures = [f"{name}: {amount:,.4g}" for name, amount in candidate.figures.items()]
    return "; ".join(filter(None, (" + ".join(parts), *figures)))


def _is_better(weighed: Weighed, one: float, other: float) -> bool:
    return one > other if weighed.highest_wins else one < other


def _difference(weighed: Weighed, chosen: WeighedNode, other: WeighedNode) -> str:
    """The part that told most, in words; empty where prices have none, or no part speaks for the chosen node."""
    sign = -1.0 if weighed.highest_wins else 1.0
    gains = {name: sign * (other.parts[name] - amount) for name, amount in chosen.parts.items() if name in other.parts}
    most = max(gains, key=lambda name: gains[name], default="")
    if not most or gains[most] <= 0:
        return ""
    amounts = (f"{in_unit(weighed, of.parts[most])} on {of.node}" for of in (chosen, other))
    return f", by {most} most of all: {', '.join(amounts)}"


def _kept(amount: float) -> float:
    return float(f"{amount:.{KEPT_DIGITS}g}")
