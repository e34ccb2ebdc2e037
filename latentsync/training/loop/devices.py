"""Where and how a run computes: the accelerator, the optimiser, and moving batches to the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latentsync.models.precision import computes_in_bf16
from latentsync.training.loop.options import RunConfig
from latentsync.training.loop.runtime import warn_user
from latentsync.types import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from latentsync.training.loop.task import Task


def make_accelerator(config: RunConfig, folder: Path) -> Accelerator:
    """Accelerate's object for one run; a process may have one run after another.

    InputError when accelerate or the wanted logger is not installed, or the device cannot compute in the wanted
    precision.
    """
    try:
        from accelerate.utils import set_seed
    except ImportError as error:
        raise InputError('training needs accelerate: pip install "latentsync[train]"') from error
    _check_logger(config.log)
    accelerator = _accelerator(config, folder, config.precision)
    if config.precision == "bf16" and accelerator.device.type == "cpu" and not computes_in_bf16(accelerator.device):
        warn_user("this processor does not compute in bf16, and would be many times slower in it: it trains in float32")
        accelerator = _accelerator(config, folder, "no")
    if config.precision == "fp16" and accelerator.device.type == "cpu":  # which accelerate would pass over in silence
        raise InputError("run.precision=fp16 needs a graphics card: use bf16 or no on a CPU")
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:  # which else would read it off a data loader
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = config.share(accelerator.num_processes)
    set_seed(config.seed, device_specific=True)
    return accelerator


def _check_logger(log: str) -> None:
    """InputError when the package that `run.log` asks for is missing: Accelerate would pass over it in silence."""
    from accelerate.utils import is_tensorboard_available, is_wandb_available

    package, there = log.partition("-")[0], {"wandb": is_wandb_available, "tensorboard": is_tensorboard_available}
    if package in there and not there[package]():
        raise InputError(f'run.log={log} needs {package}: pip install "latentsync[train]", or set run.log=off')


def _accelerator(config: RunConfig, folder: Path, precision: str) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # of an earlier run in this process; the process group stays
    tracker = config.log.partition("-")[0]
    try:
        return Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=config.gradient_accumulation,
            log_with=None if tracker == "off" else tracker,
            project_dir=str(folder),
        )
    except (ValueError, ImportError) as error:
        raise InputError(f"run.precision={config.precision} and run.log={config.log} cannot be had: {error}") from error


def make_optimizer(task: Task, config: RunConfig) -> torch.optim.Optimizer:
    """AdamW over what is trained, in groups by the task's `rates`.

    InputError when nothing is to be trained, or the 8-bit optimiser is wanted and not installed.
    """
    rates = dict(getattr(task, "rates", {}))
    groups: dict[str, list[torch.nn.Parameter]] = {prefix: [] for prefix in (*rates, "")}
    for name, parameter in task.module.named_parameters():
        if parameter.requires_grad:
            prefix = next((prefix for prefix in rates if name.startswith(prefix)), "")
            groups[prefix].append(parameter)
    given = [
        {"params": members, "factor": rates.get(prefix, 1.0), "lr": config.learning_rate * rates.get(prefix, 1.0)}
        for prefix, members in groups.items()
        if members
    ]
    if not given:
        raise InputError("nothing is to be trained: every parameter is frozen; choose other parts of the network")
    make = _adamw_8bit() if config.optimizer == "adamw8bit" else torch.optim.AdamW
    first, second = config.betas
    return make(given, betas=(first, second), weight_decay=config.weight_decay)


def _adamw_8bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError as error:
        raise InputError(
            "run.optimizer=adamw8bit needs bitsandbytes: pip install bitsandbytes, or use adamw"
        ) from error
    return AdamW8bit


def enable_gradient_checkpointing(module: torch.nn.Module) -> None:
    """Turn it on in the outermost networks of `module` that can do it. InputError when none can."""
    if not _checkpointing_within(module):
        raise InputError("run.gradient_checkpointing=true, but this network cannot do it: set it to false")


def _checkpointing_within(module: torch.nn.Module) -> bool:
    if getattr(module, "_supports_gradient_checkpointing", False):  # diffusers
        module.enable_gradient_checkpointing()  # type: ignore[operator]
    elif getattr(module, "supports_gradient_checkpointing", False):  # transformers
        module.gradient_checkpointing_enable()  # type: ignore[operator]
    else:
        return any([_checkpointing_within(child) for child in module.children()])
    return True


def to_device(batch: Any, device: torch.device) -> Any:
    """The same batch with its tensors on `device`."""
    return each_tensor(batch, lambda tensor: tensor.to(device, non_blocking=True))


def each_tensor(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same batch with its tensors changed: tensors, dicts, lists, tuples, dataclasses of these."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, dict):
        return {key: each_tensor(value, change) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(each_tensor(value, change) for value in batch)
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(
            batch, **{entry.name: each_tensor(getattr(batch, entry.name), change) for entry in fields(batch)}
        )
    return batch
