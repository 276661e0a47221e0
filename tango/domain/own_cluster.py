"""The fleet as one cluster sees it: the centre's snapshot, with the cluster's own nodes as its agent saw them and its own LC in flight.

The centre's figures of a cluster are late by a link, and older still while the link is cut. Of itself a cluster knows better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tango.domain.observations import InstanceState, NodeState
from tango.domain.shares import LcInFlight
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import (
    BeColumns,
    FleetRows,
    InFlightColumns,
    LcColumns,
    NodeColumns,
    PublishedSlack,
    assemble,
    parts_of,
    with_in_flight,
)

Columns = TypeVar("Columns", NodeColumns, BeColumns)


@dataclass(frozen=True, slots=True)
class OwnView:
    """A snapshot with what its rows stand for, to which requests in flight can be added time and again."""

    snapshot: FleetSnapshot
    rows: FleetRows

    @classmethod
    def of(cls, snapshot: FleetSnapshot) -> OwnView:
        """The view of a snapshot in which nothing has been given out yet."""
        return cls(snapshot, FleetRows.of(snapshot))

    def with_in_flight(self, found: Iterable[LcInFlight], *, at_s: float) -> FleetSnapshot:
        """The snapshot, at `at_s`, with these requests counted in beside those it has; what has no row counts nowhere."""
        return with_in_flight(self.snapshot, InFlightColumns.told(self.rows, found), at_s=at_s)


def as_observed(
    published: FleetSnapshot, cluster: str, nodes: Sequence[NodeState], instances: Sequence[InstanceState]
) -> FleetSnapshot:
    """The snapshot assembled anew, with the cluster's nodes and instances as they were observed.

    A node that was not published gets a row, with slack 1 and nothing in flight; a published one that was not observed is not ready.
    A cluster that the centre does not know has no rows. Rows are in order of (cluster, node) where one was added, else as published.
    """
    if cluster not in published.clusters:
        return published
    before, were = FleetRows.of(published), published.node_keys
    observed = {(cluster, node.name): k for k, node in enumerate(nodes)}
    added = [key for key in observed if key not in before.node_row]
    keys = sorted([*were, *added]) if added else list(were)
    rows = replace(
        before,
        nodes=tuple(name for _, name in keys),
        node_cluster=np.array([before.cluster_row[of] for of, _ in keys], np.int32),
    )
    # One after the other, what was published and what was observed; then for each row the newest that is known of its node.
    newest = np.array([len(were) + observed[key] if key in observed else before.node_row[key] for key in keys], np.intp)
    known = np.array([before.node_row.get(key, len(were)) for key in keys], np.intp)
    parts = parts_of(published)
    gone = np.array([of == cluster and (of, name) not in observed for of, name in were], np.bool_)
    then = replace(parts.nodes, ready=parts.nodes.ready & ~gone)
    is_own = rows.node_cluster == rows.cluster_row[cluster]
    in_flight = InFlightColumns(
        requests=_with_one_more(parts.lc.in_flight.requests, 0.0, known),
        work_s=_with_one_more(parts.lc.in_flight.work_s, 0.0, known),
    )
    ready = ((i.service, cluster, i.node, float(i.cpu_limit_millicores), 1.0) for i in instances if i.ready)
    own = LcColumns.of_instances(rows, ready, in_flight)
    return assemble(
        rows,
        at_s=published.at_s,
        nodes=_newest(then, NodeColumns.of_states(rows, nodes), newest),
        lc=replace(
            own,
            instance_limit=np.where(is_own, own.instance_limit, _with_one_more(parts.lc.instance_limit, 0.0, known)),
            instance_count=np.where(is_own, own.instance_count, _with_one_more(parts.lc.instance_count, 0.0, known)),
        ),
        be=_newest(parts.be, BeColumns.of_states(rows.resources, nodes), newest),
        tails=PublishedSlack(_with_one_more(parts.tails.of_nodes, 1.0, known)),
        pending_be=published.pending_be,
    )


def _newest(published: Columns, observed: Columns, rows: NDArray[np.intp]) -> Columns:
    """Of the columns of both, one after the other, these rows; a column that only one of them has is nothing in the other."""

    def column(name: str) -> Any:
        then, now = getattr(published, name), getattr(observed, name)
        if then is None and now is None:
            return None
        then_or_nothing = _nothing_beside(now, published) if then is None else then
        now_or_nothing = _nothing_beside(then, observed) if now is None else now
        # `take` keeps rows contiguous, as compiled policies expect them.
        return np.concatenate([then_or_nothing, now_or_nothing], axis=-1).take(rows, axis=-1)

    return replace(published, **{of.name: column(of.name) for of in fields(published)})


def _nothing_beside(column: NDArray[Any], of: NodeColumns | BeColumns) -> NDArray[Any]:
    nodes = len(of.ready) if isinstance(of, NodeColumns) else len(of.cpu_limit)
    return np.zeros((*column.shape[:-1], nodes), column.dtype)


def _with_one_more(column: NDArray[np.float64], further: float, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """These rows of a column of nodes, to which one more has been added that has this figure."""
    return np.concatenate([column, np.full((*column.shape[:-1], 1), further)], axis=-1).take(rows, axis=-1)
