"""Arrays and tensors that stay on disk: a training may have more clips than memory holds, or files that can be open."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from latentsync.types import InputError

NPY = ".npy"
LOCAL_HEADER = 30  # bytes of a zip member's own header; the lengths of its name and of its extra field stand at 26


@dataclass(frozen=True)
class StoredArray:
    """An array in a file: read where it is indexed, nothing is held and no file stays open."""

    path: Path
    start: int  # byte of its first number
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Any = "C"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        mapped = np.memmap(self.path, self.dtype, "r", self.start, self.shape, self.order) if self.size else self._none
        return np.array(mapped[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def _none(self) -> np.ndarray:
        return np.zeros(self.shape, self.dtype)


Array = np.ndarray | StoredArray
"""In memory, or read where it is indexed."""


def stored_array(path: Path) -> StoredArray:
    """The array of an `.npy` file. ValueError where it is none, or cut off; OSError."""
    with path.open("rb") as file:
        return _at(path, file)


def stored_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` file by name; compressed ones are read. ValueError, OSError, BadZipFile as above."""
    found: dict[str, Array] = {}
    with ZipFile(path) as archive, path.open("rb") as file:
        for member in archive.infolist():
            name = member.filename.removesuffix(NPY)
            if member.compress_type == ZIP_STORED:
                file.seek(member.header_offset + 26)
                file.seek(member.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", file.read(4))))
                found[name] = _at(path, file)
            else:
                with np.load(path) as arrays:
                    found[name] = arrays[name]
    return found


def _at(path: Path, file: IO[bytes]) -> StoredArray:
    """The array in the `.npy` format from where `file` stands."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(file)
    found = StoredArray(path, file.tell(), shape, dtype, "F" if columns_first else "C")
    if dtype.hasobject:
        raise ValueError(f"{path.name} holds objects, not numbers")
    if path.stat().st_size < found.start + found.size * dtype.itemsize:
        raise ValueError(f"{path.name} is cut off")
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While a safetensors file that was made once is read. InputError where it is damaged or cut off."""
    try:
        yield
    except SafetensorError as error:
        raise InputError(f"'{path}' is damaged or cut off ({error}): remove it, and it is made again") from error


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a safetensors file, as `StoredArray`; to be indexed by numbers and slices. OSError where the file
    is gone, InputError where it is damaged."""

    path: Path
    name: str

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> torch.Tensor:
        with reading(self.path), safe_open(self.path, "pt") as file:
            return file.get_slice(self.name)[index]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its lengths."""
        with reading(self.path), safe_open(self.path, "pt") as file:
            return tuple(file.get_slice(self.name).get_shape())
