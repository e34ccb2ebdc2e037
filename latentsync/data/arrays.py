"""Arrays that stay on disk until they are indexed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch


def mapped(path: Path) -> np.ndarray:
    """The array of an `.npy` file, left on disk. Unlike with numpy's own memory map no file stays open: a process may
    have only so many, and a training has thousands of clips."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(file)
        start = file.tell()
    end = start + math.prod(shape) * dtype.itemsize
    if path.stat().st_size < end:
        raise ValueError(f"{path.name} is cut off")
    array = torch.from_file(str(path), shared=False, size=end, dtype=torch.uint8).numpy()[start:].view(dtype)
    array.flags.writeable = False
    return array.reshape(shape, order="F" if columns_first else "C")
