"""Schedulers by name, all made from the one DDIM configuration that a checkpoint carries."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from latentsync.types import CheckpointError, InputError

Scheduler = DDIMScheduler | DPMSolverMultistepScheduler | EulerDiscreteScheduler

SCHEDULERS: dict[str, type[Scheduler]] = {
    "ddim": DDIMScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
}

# What the published networks were trained with. A checkpoint's own entries replace these one by one.
PUBLISHED_CONFIG: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
}


def scheduler_config(config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The published DDIM configuration with a checkpoint's own entries over it.

    raises: CheckpointError for an entry that DDIM does not know
    """
    config = {key: value for key, value in (config or {}).items() if not key.startswith("_")}
    unknown = sorted(set(config) - set(inspect.signature(DDIMScheduler.__init__).parameters))
    if unknown:
        raise CheckpointError(f"The checkpoint's scheduler configuration has unknown entries: {', '.join(unknown)}.")
    return {**PUBLISHED_CONFIG, **config}


def make_scheduler(name: str, config: Mapping[str, Any] | None = None) -> Scheduler:
    """A fresh scheduler.

    name: ddim | dpm++ (DPM-Solver++, second order multistep) | euler
    config: entries of a diffusers DDIM configuration (betas, prediction_type, timestep_spacing); what is missing is
        as published
    raises: InputError for an unknown name, CheckpointError for an unknown entry
    """
    if name not in SCHEDULERS:
        raise InputError(f"There is no scheduler '{name}'; choose one of {', '.join(SCHEDULERS)}.")
    ddim = DDIMScheduler(**scheduler_config(config))
    return SCHEDULERS[name].from_config(ddim.config)  # type: ignore[return-value]
