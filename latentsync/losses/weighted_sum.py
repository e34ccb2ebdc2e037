"""Named losses and their weights: total = sum of weight * loss, each term kept by name (the ledger)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from latentsync.types import InputError


class WeightedSum:
    """Weights by the names of the losses; a loss of weight 0 is not computed at all."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """InputError for a negative weight, or when all are 0."""
        negative = [name for name, weight in weights.items() if weight < 0]
        if negative or not any(weights.values()):
            told = f"{negative[0]} is {weights[negative[0]]}" if negative else "all are 0"
            raise InputError(f"weights of the losses: {told}; give numbers of at least 0, one of them above it")
        self.weights = dict(weights)

    def wants(self, *names: str) -> bool:
        """Whether any of these losses counts."""
        return any(self.weights[name] > 0 for name in names)

    def ledger(self, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """losses: by name, one value for every sample of the batch or their mean -> weighted means by name."""
        return {name: self.weights[name] * loss.mean() for name, loss in losses.items()}
