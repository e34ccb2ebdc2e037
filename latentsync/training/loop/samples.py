"""Which samples a process loads for an update, by itself or by workers, and what happens to broken ones.

The samples of update s are s * batch .. (s + 1) * batch - 1, whatever the number of processes, of accumulated parts and
of workers. A broken sample is replaced by one that depends on its index alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from latentsync.training.loop.devices import each_tensor
from latentsync.training.loop.options import RunConfig
from latentsync.types import InputError

REPLACEMENT = 1 << 40  # added to a broken sample's index: beyond every index that a run reaches
BAD_SHARE = 0.01  # of the samples seen; more means that something is wrong with the data
BAD_GRACE = 1000  # samples: until so many are seen, as many may be bad as if they were
PREFETCHED = 2  # parts of a batch that each worker holds ready


class BadSample(Exception):
    """A sample cannot be read: `name` says of which clip, `reason` why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return BadSample, (self.name, self.reason)


@dataclass(frozen=True)
class Part:
    """What one process gets for one part of an update."""

    indices: list[int]
    batch: Any
    bad: list[str]  # "name: reason" of every sample that was replaced
    fault: str = ""  # what ends the run; an error that is raised in a worker comes out with all its traceback

    def pin_memory(self) -> Part:
        """The same in page-locked memory, which a card copies from while it computes; torch's loader calls it."""
        return replace(self, batch=each_tensor(self.batch, torch.Tensor.pin_memory))


Load = Callable[[Sequence[int]], Any]


class Parts(Dataset):
    """Part number p of a process: part `p % gradient_accumulation` of update `p // gradient_accumulation`."""

    def __init__(self, load: Load, config: RunConfig, process: int, processes: int) -> None:
        """load: indices -> batch on the CPU; raises BadSample. InputError when the batch cannot be shared evenly."""
        self.load, self.config, self.process, self.processes = load, config, process, processes
        self.share = config.share(processes)

    def __len__(self) -> int:
        return self.config.steps * self.config.gradient_accumulation

    def indices(self, number: int) -> list[int]:
        """Samples of part `number`; over all processes they are consecutive."""
        first = (number * self.processes + self.process) * self.share
        return list(range(first, first + self.share))

    def __getitem__(self, number: int) -> Part:
        indices, bad = self.indices(number), []
        while True:
            try:
                return Part(indices, self.load(indices), bad)
            except BadSample as error:
                before = len(bad)
                self._replace(indices, bad)
                if len(bad) == before:
                    raise InputError(f"{error}: this sample is bad only beside others; check the data") from error

    def _replace(self, indices: list[int], bad: list[str]) -> None:
        """Put others where broken ones are; `indices` and `bad` are changed."""
        for place, index in enumerate(indices):
            try:
                self.load([index])
            except BadSample as error:
                bad.append(str(error))
                indices[place] = index + REPLACEMENT
        if len(bad) > BAD_SHARE * BAD_GRACE:
            raise InputError(f"{len(bad)} samples of one batch are bad, the last: {bad[-1]}; check the data")


class _From(Sampler):
    """The numbers of the parts that are still to be done."""

    def __init__(self, first: int, end: int) -> None:
        self.numbers = range(first, end)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class _Told(Dataset):
    """The parts, with a fault in the place of an InputError."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Part:
        try:
            return self.parts[number]
        except InputError as error:
            return Part([], None, [], str(error))


def _as_it_is(part: Part) -> Part:
    return part


def part_stream(parts: Parts, first_step: int, pin_memory: bool) -> Iterator[Part]:
    """The parts from update `first_step` on, in order, loaded ahead by the configured number of workers.

    InputError of `parts`.
    """
    workers = parts.config.workers
    loader = DataLoader(
        _Told(parts),
        batch_size=None,
        sampler=_From(first_step * parts.config.gradient_accumulation, len(parts)),
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        pin_memory=pin_memory and workers > 0,
        prefetch_factor=PREFETCHED if workers else None,
        generator=torch.Generator(),  # its own, for else it would draw from the one that training resumes with
    )
    for part in loader:
        if part.fault:
            raise InputError(part.fault)
        yield part


def check_share(bad: int, seen: int, last: str) -> None:
    """InputError when more than 1 % of the samples `seen` are `bad`."""
    if bad > BAD_SHARE * max(seen, BAD_GRACE):
        raise InputError(
            f"{bad} of {seen} samples are bad, more than {BAD_SHARE:.0%}; bad_samples.txt in the run folder names them "
            f"(the last: {last}): mend these clips or leave them out, and start again in another run_folder; this one "
            "only goes on with the data that it began with, so with the same files put back"
        )
