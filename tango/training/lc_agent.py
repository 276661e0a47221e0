"""The networks of `dsaco`: an actor as small as the compiled dispatch takes it, and twin critics that see more."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tango.scheduling.lc.dsaco import LEARNED_FEATURES, ScoredLayer

Offers = tuple[Tensor, Tensor]
"""(b, a, LEARNED_FEATURES) features of the offers, 0 where there is none, and (b, a) whether there is one."""


class OfferActor(nn.Module):
    """One hidden layer over an offer's features; the same for all offers and all clusters."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.layer = nn.Linear(LEARNED_FEATURES, hidden)
        self.head = nn.Linear(hidden, 1, bias=False)

    def forward(self, offers: Offers) -> Tensor:
        """(b, a) logits."""
        return self.head(torch.relu(self.layer(offers[0]))).squeeze(-1)  # type: ignore[no-any-return]

    def scored_layer(self) -> ScoredLayer:
        """The weights as the compiled dispatch takes them."""
        with torch.no_grad():
            layer = torch.cat((self.layer.weight, self.layer.bias[:, None]), dim=1).double().cpu().numpy()
            return ScoredLayer(np.ascontiguousarray(layer), self.head.weight[0].double().cpu().numpy().copy())


class OfferCritics(nn.Module):
    """Two values of each offer, which depend on the offer and on the mean and the least of all offers of the decision."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.twins = nn.ModuleList(
            nn.Sequential(
                nn.Linear(3 * LEARNED_FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
            )
            for _ in range(2)
        )

    def forward(self, offers: Offers) -> Tensor:
        """(2, b, a)"""
        features, there = offers
        count = there.sum(1).clamp(min=1)[:, None, None]
        mean = features.sum(1, keepdim=True) / count
        least = features.masked_fill(~there[:, :, None], torch.inf).amin(1, keepdim=True)
        seen = torch.cat((features, mean.expand_as(features), least.expand_as(features)), dim=2)
        return torch.stack([twin(seen).squeeze(-1) for twin in self.twins])
