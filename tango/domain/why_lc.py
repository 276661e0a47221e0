"""Why an LC request that is released has no instance yet, and what holds up one that is dispatched.

The centre sees LC as its cluster has told, a second or so late. A dispatch needs one thing: a ready instance of the service on a ready node
that the policy may send it to; whatever is late is sent there all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tango.domain.changes import Change, ChangeKind
from tango.domain.explanation import Explanation, Known, LcFacts, RequestStanding
from tango.domain.identity import NodeKey
from tango.domain.patience import FEW_LATE
from tango.domain.reasons import StateReason
from tango.domain.resource_axis import quantity


def why_released(known: Known, lc: LcFacts) -> Explanation:
    """The explanation of an LC request in state `released` whose service is declared and whose entry cluster is heard of."""
    standing, snapshot = known.standing, lc.snapshot
    service = next(k for k, s in enumerate(snapshot.services) if s.name == standing.service)
    may = np.ones(len(snapshot.nodes), np.bool_)
    if lc.home_only:
        may = np.array([snapshot.clusters[c] == standing.entry_cluster for c in snapshot.node_cluster.tolist()], np.bool_)
    has_instance = may & (snapshot.instance_limit[service] > 0)
    reachable = has_instance & snapshot.node_ready
    if reachable.any():
        return _about_to_be_dispatched(lc, int(np.count_nonzero(reachable)))
    refused = "".join(
        f"; {_where(r.cluster, r.node)} refuses them, {r}" for r in known.refusals if r.service in ("", standing.service)
    )
    if has_instance.any():
        return _on_lost_nodes(known, lc, np.flatnonzero(has_instance).tolist())
    here = [(cluster, i) for cluster, i in lc.instances if not lc.home_only or cluster == standing.entry_cluster]
    starting = [(cluster, i) for cluster, i in here if not i.ready and not i.leaving]
    figures: dict[str, float | str] = {"instances": len(here), "ready instances": 0}
    if starting:
        cluster, instance = min(starting, key=lambda found: found[0] != standing.entry_cluster)
        key = NodeKey(cluster, instance.node)
        return Explanation(
            reason=StateReason.INSTANCE_NOT_READY,
            words=f"none of {len(here)} instances of {standing.service} is ready{refused}",
            figures={**figures, "instance": f"{cluster}/{instance.pod}", "restarts": instance.restarts},
            changes=(_instance_on(key, standing, snapshot_ready(lc, key))),
        )
    where = f" in {standing.entry_cluster}, where alone its policy looks" if lc.home_only else ""
    order = sorted(
        np.flatnonzero(may).tolist(),
        key=lambda n: (not snapshot.node_ready[n], snapshot.node_key(n).cluster != standing.entry_cluster, n),
    )
    changes = _instance_on(snapshot.node_key(order[0]), standing, bool(snapshot.node_ready[order[0]])) if order else ()
    return Explanation(
        reason=StateReason.NO_INSTANCE_READY,
        words=f"there is no instance of {standing.service}{where}{refused}",
        figures=figures,
        changes=changes,
    )


def why_resize_is_deferred(lc: LcFacts) -> Explanation | None:
    """The explanation of an LC request at an instance that waits for CPU of its node; None where it does not."""
    if lc.resize is None:
        return None
    resize = lc.resize
    lacking = resize.wanted_request_millicores - resize.actual_request_millicores - resize.free_millicores
    changes = (Change.at(ChangeKind.HEADROOM, resize.node, resource="cpu", amount=lacking),) if lacking > 0 else ()
    told = f" ({resize.words})" if resize.words else ""
    return Explanation(
        reason=StateReason.RESIZE_DEFERRED,
        words=(
            f"instance {resize.pod} is to request {quantity('cpu', resize.wanted_request_millicores)} of CPU and has "
            f"{quantity('cpu', resize.actual_request_millicores)}; {quantity('cpu', max(0.0, resize.free_millicores))} is free on "
            f"{resize.node}{told}"
        ),
        figures={
            "wanted CPU request": quantity("cpu", resize.wanted_request_millicores),
            "actual CPU request": quantity("cpu", resize.actual_request_millicores),
            "actual CPU limit": quantity("cpu", resize.actual_limit_millicores),
            "free CPU on the node": quantity("cpu", max(0.0, resize.free_millicores)),
        },
        changes=changes,
    )


def snapshot_ready(lc: LcFacts, key: NodeKey) -> bool:
    """Whether a node is ready in the snapshot; one that it does not have is not."""
    return key in lc.snapshot.node_keys and bool(lc.snapshot.node_ready[lc.snapshot.node_keys.index(key)])


def _about_to_be_dispatched(lc: LcFacts, nodes: int) -> Explanation:
    figures: dict[str, float | str] = {"nodes with a ready instance": nodes, "under way": lc.wait.under_way, "late": lc.wait.late}
    if lc.wait.late > FEW_LATE:
        return Explanation(
            reason=StateReason.BEHIND_IN_QUEUE,
            words=f"{lc.wait.under_way} LC requests are under way in its cluster, {lc.wait.late} of them late: workers take them in order",
            figures=figures,
        )
    return Explanation(
        reason=StateReason.ABOUT_TO_BE_DISPATCHED,
        words=f"instances are ready on {nodes} nodes, and the next dispatch sends it to one",
        figures=figures,
    )


def _on_lost_nodes(known: Known, lc: LcFacts, nodes: list[int]) -> Explanation:
    """Its instances stand on nodes that are not Ready, or whose cluster is away."""
    snapshot, away = lc.snapshot, known.away_s
    by_precedence = sorted(nodes, key=lambda n: (snapshot.node_key(n).cluster not in away, n))
    key = snapshot.node_key(by_precedence[0])
    figures: dict[str, float | str] = {"nodes with an instance": len(nodes)}
    if key.cluster in away:
        told = lc.told_ready is None or bool(lc.told_ready[by_precedence[0]])
        back = Change(kind=ChangeKind.CLUSTER_BACK, cluster=key.cluster)
        return Explanation(
            reason=StateReason.CLUSTER_AWAY,
            words=f"its instances are in cluster {key.cluster}, {away_words(key.cluster, away)}",
            figures=figures,
            changes=(back,) if told else (back, Change.at(ChangeKind.NODE_READY, key)),
        )
    return Explanation(
        reason=StateReason.NODE_NOT_READY,
        words=f"its instances stand on nodes that are not ready, such as {key}",
        figures=figures,
        changes=(Change.at(ChangeKind.NODE_READY, key),),
    )


def away_words(cluster: str, away_s: Mapping[str, float]) -> str:
    """For how long a cluster has not been heard of."""
    return f"which has not been heard of for {away_s.get(cluster, 0.0):.0f} s"


def _instance_on(key: NodeKey, standing: RequestStanding, is_ready: bool) -> tuple[Change, ...]:
    ready = Change.at(ChangeKind.INSTANCE_READY, key, service=standing.service)
    return (ready,) if is_ready else (Change.at(ChangeKind.NODE_READY, key), ready)


def _where(cluster: str, node: str) -> str:
    return f"{cluster}/{node}" if node else cluster
