"""The moving average of the trained weights, which is what a run validates and exports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.training_utils import EMAModel


class Averages:
    """diffusers' `EMAModel` over the trained parameters; with decay 0 the weights stand for themselves."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.parameters = parameters
        self.ema = EMAModel(parameters, decay=decay, foreach=True) if decay else None

    def step(self) -> None:
        """Take in the weights after an update."""
        if self.ema is not None:
            self.ema.step(self.parameters)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The networks hold the averaged weights within, and their own again afterwards."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Everything with state; empty without an average."""
        return self.ema.state_dict() if self.ema is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`. ValueError where it is of other networks."""
        if self.ema is None:
            return
        found = [tuple(tensor.shape) for tensor in state.get("shadow_params", ())]
        if found != [tuple(parameter.shape) for parameter in self.parameters]:
            raise ValueError("the averaged weights have other shapes")
        decay = self.ema.decay
        self.ema.load_state_dict(state)
        self.ema.decay = decay  # a changed option counts from here on
        self.ema.to(self.parameters[0].device)
