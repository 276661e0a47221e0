"""What a page gets of the picture: sums and a map first, the nodes of one cluster when somebody looks into it."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.domain.live_view import LiveLately, LiveNodes, LiveNow

READY, CLOSED, NOT_READY = 0, 1, 2
"""States of a node on the map."""


def fleet_document(now: LiveNow) -> dict[str, Any]:
    """Everything but single nodes: of these each cluster has a map, whole per cents of their CPU by who holds it."""
    document = {field.name: getattr(now, field.name) for field in fields(now) if field.name != "nodes"}
    return document | {"maps": _maps(now)}


def cluster_document(now: LiveNow, cluster: str) -> dict[str, Any] | None:
    """The nodes of one cluster as columns, with the cluster's own row; None for a cluster that there is not."""
    found = next((c for c in now.clusters if c.name == cluster), None)
    if found is None:
        return None
    nodes = now.nodes.of(cluster)
    return {"at_s": now.at_s, "cluster": found, "nodes": {field.name: getattr(nodes, field.name) for field in fields(nodes)}}


def lately_document(lately: LiveLately) -> dict[str, Any]:
    """With the shares beside the counts."""
    services = [asdict(s) | {"rate": s.rate, "missed": s.missed} for s in lately.services]
    return asdict(lately) | {"services": services, "lc_rate": lately.lc_rate}


def _maps(now: LiveNow) -> dict[str, Any]:
    nodes = now.nodes
    whole = np.maximum(nodes.cpu_millicores, 1)

    def cents(held: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.rint(100 * held / whole).astype(np.int64)

    columns = {"lc": nodes.cpu_lc_millicores, "be": nodes.cpu_be_millicores, "other": nodes.cpu_other_millicores}
    shares = {name: cents(column) for name, column in columns.items()}
    states = np.where(nodes.ready, np.where(nodes.schedulable, READY, CLOSED), NOT_READY)
    of = np.array(nodes.cluster, object)
    return {
        cluster.name: {
            "name": _names(nodes, mine),
            "state": states[mine],
            **{name: share[mine] for name, share in shares.items()},
        }
        for cluster in now.clusters
        for mine in (of == cluster.name if len(nodes) else np.zeros(0, bool),)
    }


def _names(nodes: LiveNodes, mine: NDArray[np.bool_]) -> list[str]:
    return [nodes.name[row] for row in np.flatnonzero(mine)]
