"""What every run is told, whatever it trains: the group `run:` of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from omegaconf import DictConfig, OmegaConf

from latentsync.config import unknown_key
from latentsync.training.loop.runtime import cosine_rate
from latentsync.types import InputError

CHOICES = {
    "schedule": ("constant", "cosine"),
    "precision": ("no", "bf16", "fp16"),
    "optimizer": ("adamw", "adamw8bit"),
    "log": ("off", "tensorboard", "wandb", "wandb-offline"),
}
POSITIVE = ("steps", "batch", "gradient_accumulation", "save_every", "validate_every", "log_every")


@dataclass(frozen=True)
class RunConfig:
    """How long, how fast, how often. InputError for a value that no run can have."""

    steps: int  # updates of the weights in all
    batch: int  # samples that an update takes, over all processes and all accumulated parts
    learning_rate: float
    seed: int = 0
    gradient_accumulation: int = 1  # parts that a process's share of the batch is cut into
    warmup: int = 0  # updates over which the learning rate rises
    schedule: str = "constant"  # of the learning rate after that: constant | cosine
    weight_decay: float = 0.01
    betas: Sequence[float] = (0.9, 0.999)  # of Adam's two moving averages
    clip: float = 1.0  # largest norm of the gradient
    ema_decay: float = 0.0  # of the moving average of the weights; 0: none
    precision: str = "no"  # of the forward pass: no (float32) | bf16 | fp16
    optimizer: str = "adamw"  # adamw | adamw8bit
    gradient_checkpointing: bool = False  # compute again in the backward pass instead of storing
    workers: int = 0  # processes that load samples beside the training; 0: it loads them itself
    save_every: int = 1000  # updates
    validate_every: int = 1000  # updates
    validate_first: bool = False  # also before the first update
    log: str = "off"  # off | tensorboard | wandb | wandb-offline; `metrics.jsonl` is always written
    log_every: int = 1  # updates that a line of the log is the mean of

    @classmethod
    def from_config(cls, group: DictConfig) -> RunConfig:
        """The group `run:`. InputError for an unknown or missing key, or an impossible value."""
        values = {str(key): value for key, value in OmegaConf.to_container(group, resolve=True).items()}  # type: ignore[union-attr]
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_key(key, known, "run")
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"run: {error}; give steps, batch and learning_rate") from error

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"run.{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        for name in POSITIVE:
            if getattr(self, name) < 1:
                raise InputError(f"run.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"run.ema_decay is {self.ema_decay}; it must lie in [0, 1)")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"run.betas is {list(self.betas)}; give two numbers in [0, 1)")

    def share(self, processes: int) -> int:
        """Samples of one process in one part of the batch. InputError when the batch cannot be shared out evenly."""
        parts = processes * self.gradient_accumulation
        if self.batch % parts:
            raise InputError(
                f"run.batch is {self.batch}, which {processes} processes with run.gradient_accumulation="
                f"{self.gradient_accumulation} cannot share evenly: give a multiple of {parts}"
            )
        return self.batch // parts

    def rate(self) -> Callable[[int], float]:
        """Factor on the learning rate: a function of the updates done, so that it has no state to save."""
        if self.schedule == "cosine":
            return cosine_rate(self.steps, self.warmup)
        return lambda step: min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
