"""The graph network of `dcg-be`: a GraphSAGE encoder with residuals, an actor head per node and a critic.

Source: Hamilton, Ying, Leskovec, "Inductive representation learning on large graphs", NIPS 2017, algorithm 1 with the mean
aggregator. Departures: two kinds of vertices (node, cluster) with weights of their own, edges with a feature (round-trip time), a
residual around each aggregation instead of the normalisation of line 7, and one round over clusters, which is enough because nodes
meet only through their cluster. Several fleets are computed at once by putting their graphs side by side with shifted indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
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
    """g fleets side by side: the tensors of `FleetGraph`, indices shifted, and (n,) the graph of every node."""

    node: Tensor
    node_cluster: Tensor
    cluster: Tensor
    edge_from: Tensor
    edge_to: Tensor
    edge: Tensor
    graph: Tensor
    graphs: int


def batch_graphs(graphs: Sequence[FleetGraph]) -> GraphBatch:
    """Put fleets side by side."""
    clusters = np.cumsum([0, *(len(g.cluster) for g in graphs)])
    return GraphBatch(
        node=torch.from_numpy(np.concatenate([g.node for g in graphs])),
        node_cluster=torch.from_numpy(np.concatenate([g.node_cluster + k for g, k in zip(graphs, clusters, strict=False)])),
        cluster=torch.from_numpy(np.concatenate([g.cluster for g in graphs])),
        edge_from=torch.from_numpy(np.concatenate([g.edge_from + k for g, k in zip(graphs, clusters, strict=False)])),
        edge_to=torch.from_numpy(np.concatenate([g.edge_to + k for g, k in zip(graphs, clusters, strict=False)])),
        edge=torch.from_numpy(np.concatenate([g.edge for g in graphs])),
        graph=torch.from_numpy(np.repeat(np.arange(len(graphs)), [len(g.node) for g in graphs])),
        graphs=len(graphs),
    )


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
        members = _mean_by(node, batch.node_cluster, len(batch.cluster))
        cluster = torch.relu(self.cluster_in(torch.cat((batch.cluster, members), dim=1)))
        message = torch.relu(self.message(torch.cat((cluster[batch.edge_from], batch.edge), dim=1)))
        near = _mean_by(message, batch.edge_to, len(batch.cluster))
        cluster = cluster + torch.relu(self.cluster_self(cluster) + self.cluster_near(near))
        node = node + torch.relu(self.node_self(node) + self.node_up(cluster)[batch.node_cluster])
        return node, cluster

    def value(self, node: Tensor, cluster: Tensor, batch: GraphBatch) -> Tensor:
        """The critic: (g,) value of each fleet's state."""
        cluster_graph = torch.zeros(len(cluster), dtype=torch.long, device=cluster.device)
        cluster_graph[batch.node_cluster] = batch.graph
        pooled = torch.cat((_mean_by(node, batch.graph, batch.graphs), _mean_by(cluster, cluster_graph, batch.graphs)), dim=1)
        return self.critic(pooled).squeeze(1)  # type: ignore[no-any-return]

    def scores(self, node: Tensor, kind: Tensor, pair: Tensor) -> Tensor:
        """The actor's logits of node encodings (..., hidden), `KIND_FEATURES` and `PAIR_FEATURES`, broadcast; the mask is the caller's."""
        held = self.actor_node(node) + self.actor_kind(kind) + self.actor_pair(pair)
        return self.actor_out(torch.relu(held)).squeeze(-1)  # type: ignore[no-any-return]


def _mean_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean of the rows of each group, 0 for a group without rows."""
    total = values.new_zeros((groups, values.shape[1])).index_add_(0, group, values)
    count = values.new_zeros(groups).index_add_(0, group, values.new_ones(len(group)))
    return total / count.clamp(min=1.0).unsqueeze(1)
