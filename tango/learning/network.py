"""The graph network of `dcg-be`: a GraphSAGE encoder with residuals, an actor head per node and a critic.

Source: Hamilton, Ying, Leskovec, "Inductive representation learning on large graphs", NIPS 2017, algorithm 1 with the mean
aggregator. Departures: two kinds of vertices (node, cluster) with weights of their own, edges with a feature (round-trip time), a
residual around each aggregation instead of the normalisation of line 7, and one round over clusters, which is enough because nodes
meet only through their cluster. Several fleets are computed at once by putting their graphs side by side with shifted indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tango.learning.features import (
    CLUSTER_FEATURES,
    EDGE_FEATURES,
    KIND_FEATURES,
    NODE_FEATURES,
    PAIR_FEATURES,
    FleetGraph,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBatch:
    """g fleets side by side: the tensors of `FleetGraph`, indices shifted.

    `graph` (n,) is the graph of every node; `node_count` and `edge_count` (c, 1) are how many nodes and edges each cluster has, at least 1,
    by which means are taken.
    """

    node: Tensor
    node_cluster: Tensor
    cluster: Tensor
    edge_from: Tensor
    edge_to: Tensor
    edge: Tensor
    graph: Tensor
    graphs: int
    node_count: Tensor
    edge_count: Tensor


def batch_graphs(graphs: Sequence[FleetGraph]) -> GraphBatch:
    """Put fleets side by side."""
    if len(graphs) == 1:  # a decision's; nothing is copied
        (only,) = graphs
        return _batch(only, np.zeros(len(only.node), np.int64), 1)
    clusters = np.cumsum([0, *(len(g.cluster) for g in graphs)])
    whole = FleetGraph(
        node=np.concatenate([g.node for g in graphs]),
        node_cluster=np.concatenate([g.node_cluster + k for g, k in zip(graphs, clusters, strict=False)]),
        cluster=np.concatenate([g.cluster for g in graphs]),
        edge_from=np.concatenate([g.edge_from + k for g, k in zip(graphs, clusters, strict=False)]),
        edge_to=np.concatenate([g.edge_to + k for g, k in zip(graphs, clusters, strict=False)]),
        edge=np.concatenate([g.edge for g in graphs]),
    )
    return _batch(whole, np.repeat(np.arange(len(graphs)), [len(g.node) for g in graphs]), len(graphs))


def _batch(whole: FleetGraph, graph: NDArray[np.int64], graphs: int) -> GraphBatch:
    of_clusters = (
        np.maximum(np.bincount(group, minlength=len(whole.cluster)), 1).astype(np.float32)[:, None]
        for group in (whole.node_cluster, whole.edge_to)
    )
    node_count, edge_count = map(torch.from_numpy, of_clusters)
    tensors = {field.name: torch.from_numpy(getattr(whole, field.name)) for field in fields(FleetGraph)}
    return GraphBatch(**tensors, graph=torch.from_numpy(graph), graphs=graphs, node_count=node_count, edge_count=edge_count)


class PlacementNetwork(nn.Module):
    """Encoder, actor and critic; `hidden` is the width of all of them."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.hidden = hidden
        self.node_in = nn.Linear(len(NODE_FEATURES), hidden)
        self.cluster_in = nn.Linear(len(CLUSTER_FEATURES) + hidden, hidden)
        self.message = nn.Linear(hidden + len(EDGE_FEATURES), hidden)
        self.cluster_self = nn.Linear(hidden, hidden)
        self.cluster_near = nn.Linear(hidden, hidden, bias=False)
        self.node_self = nn.Linear(hidden, hidden)
        self.node_up = nn.Linear(hidden, hidden, bias=False)
        self.actor_node = nn.Linear(hidden, hidden)
        self.actor_kind = nn.Linear(len(KIND_FEATURES), hidden, bias=False)
        self.actor_pair = nn.Linear(len(PAIR_FEATURES), hidden, bias=False)
        self.actor_out = nn.Linear(hidden, 1, bias=False)
        self.critic = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def encode(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Embeddings of the nodes (n, hidden) and of the clusters (c, hidden).

        Nodes to their cluster, clusters to near clusters, clusters back to their nodes: three aggregations of lines 4 and 5 of algorithm 1.
        """
        node = torch.relu(self.node_in(batch.node))
        members = _sum_by(node, batch.node_cluster, len(batch.cluster)) / batch.node_count
        cluster = torch.relu(self.cluster_in(torch.cat((batch.cluster, members), dim=1)))
        message = torch.relu(self.message(torch.cat((cluster.index_select(0, batch.edge_from), batch.edge), dim=1)))
        near = _sum_by(message, batch.edge_to, len(batch.cluster)) / batch.edge_count
        cluster = cluster + torch.relu(self.cluster_self(cluster) + self.cluster_near(near))
        node = node + torch.relu(self.node_self(node) + self.node_up(cluster).index_select(0, batch.node_cluster))
        return node, cluster

    def value(self, node: Tensor, cluster: Tensor, batch: GraphBatch) -> Tensor:
        """The critic: (g,) value of each fleet's state."""
        cluster_graph = torch.zeros(len(cluster), dtype=torch.long, device=cluster.device)
        cluster_graph[batch.node_cluster] = batch.graph
        pooled = torch.cat((_mean_by(node, batch.graph, batch.graphs), _mean_by(cluster, cluster_graph, batch.graphs)), dim=1)
        return self.critic(pooled).squeeze(1)  # type: ignore[no-any-return]

    def scores(self, node: Tensor, kind: Tensor, pair: Tensor) -> Tensor:
        """The actor's logits of node encodings (..., hidden), `KIND_FEATURES` and `PAIR_FEATURES`, broadcast; the mask is the caller's."""
        return self.scores_of_projected(self.actor_node(node), kind, pair)

    def scores_of_projected(self, projected: Tensor, kind: Tensor, pair: Tensor) -> Tensor:
        """As `scores`, of node encodings that have already been through `actor_node`."""
        held = projected + self.actor_kind(kind) + self.actor_pair(pair)
        return self.actor_out(torch.relu(held)).squeeze(-1)  # type: ignore[no-any-return]


def _sum_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    return values.new_zeros((groups, values.shape[1])).index_add_(0, group, values)


def _mean_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean of the rows of each group, 0 for a group without rows."""
    total = _sum_by(values, group, groups)
    count = values.new_zeros(groups).index_add_(0, group, values.new_ones(len(group)))
    return total / count.clamp(min=1.0).unsqueeze(1)
