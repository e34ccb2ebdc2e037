"""What every audio encoder answers to, and the stream that computes its rows piece by piece in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

KEPT_PIECES = 2  # rows inside a cross-fade need two pieces at once, no row needs more
LOCAL_PIECE_ROWS = 500  # 10 s at 50 rows a second

PUBLISHED_WINDOW = (4, 5)  # rows before and after the one at a frame's time: ten tokens a level

RowComputer = Callable[[int, int], torch.Tensor]
"""`(start, stop) -> (stop - start, levels, d)` float32: these rows, as a network sees them that sees no others."""


class WaveformSource(Protocol):
    """A 16 kHz mono waveform that can be read anywhere, from memory or from disk."""

    def __len__(self) -> int:
        """Samples it holds."""
        ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`: (stop - start,) float32, zero outside `[0, len)`; `start` may be negative."""
        ...


class ArrayWaveform:
    """A `WaveformSource` over an array in memory."""

    def __init__(self, samples: np.ndarray):
        """samples: (samples,) float in [-1, 1] at 16 kHz. ValueError for any other shape."""
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1:
            raise ValueError(f"a waveform is mono and one-dimensional, got an array of shape {samples.shape}")
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        """(stop - start,) float32, zero outside the array."""
        out = np.zeros(stop - start, dtype=np.float32)
        first, last = max(start, 0), min(stop, len(self.samples))
        if first < last:
            out[first - start : last - start] = self.samples[first:last]
        return out


@dataclass(frozen=True)
class PieceLayout:
    """How a long sequence of rows is cut into pieces that a network can take, and how neighbours hand over.

    Piece k holds rows `k*hop .. k*hop + rows`; over its last `fade` rows it hands over linearly to piece k + 1.
    """

    rows: int
    hop: int
    fade: int

    def __post_init__(self) -> None:
        assert 0 <= self.fade <= self.hop <= self.rows - self.fade

    def count(self, steps: int) -> int:
        """Pieces needed for `steps` rows; a piece is only begun for rows that the one before does not hold."""
        return 1 + max(0, -(-(steps - self.rows) // self.hop))

    def piece(self, index: int, steps: int) -> tuple[int, int]:
        """First row and one past the last row that piece `index` computes."""
        return index * self.hop, min(index * self.hop + self.rows, steps)

    def holding(self, first: int, last: int, steps: int) -> range:
        """Indices of the pieces that hold any of the rows `first` to `last`."""
        return range(max(0, (first - self.rows) // self.hop + 1), min((last - 1) // self.hop + 1, self.count(steps)))

    def used(self, index: int, steps: int) -> tuple[int, int]:
        """The part of `piece(index, steps)` whose rows count: from where the piece before begins to fade."""
        start, stop = self.piece(index, steps)
        return (start + self.rows - self.hop - self.fade if index else start), stop

    def weights(self, index: int, steps: int, rows: torch.Tensor) -> torch.Tensor:
        """Share of piece `index` in each of `rows` (r,) int64, all inside `used`; over all pieces they add up to 1."""
        weights = torch.ones(len(rows))
        if self.fade and index:
            weights *= ((rows - self.used(index, steps)[0]) / self.fade).clamp(max=1.0)
        if self.fade and index + 1 < self.count(steps):
            weights *= 1.0 - ((rows - self.used(index + 1, steps)[0]) / self.fade).clamp(min=0.0)
        return weights


class FeatureStream:
    """Feature rows of one waveform, computed on demand; memory does not grow with the waveform's length."""

    def __init__(
        self, steps: int, layout: PieceLayout, compute: RowComputer, window: tuple[int, int] = PUBLISHED_WINDOW
    ):
        """steps: rows in all, at least 1. compute: one piece's rows, see `RowComputer`. window: see `AudioEncoder`."""
        assert steps >= 1
        self.window = window
        self._steps, self._layout, self._compute = steps, layout, compute
        self._pieces: OrderedDict[int, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return self._steps

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop`: (stop - start, levels, d) float32; before and past the ends the end rows repeat.

        Ask in rising order: a step back of more than a piece computes pieces again.
        """
        if stop <= start:
            raise ValueError(f"rows {start} to {stop} are none: ask for at least one")
        first = min(max(start, 0), self._steps - 1)
        last = min(max(stop, first + 1), self._steps)
        rows = self._inner_rows(first, last)
        wanted = torch.arange(start, stop, device=rows.device).clamp(first, last - 1) - first
        return rows if len(rows) == stop - start else rows[wanted]

    def _inner_rows(self, first: int, last: int) -> torch.Tensor:
        out = None
        for index in self._layout.holding(first, last, self._steps):
            start, stop = self._layout.used(index, self._steps)
            start, stop = max(start, first), min(stop, last)
            if start >= stop:
                continue
            offset = self._layout.piece(index, self._steps)[0]
            rows = self._piece(index)[start - offset : stop - offset]
            if out is None:
                out = rows.new_zeros(last - first, *rows.shape[1:])
            weights = self._layout.weights(index, self._steps, torch.arange(start, stop)).to(rows)
            out[start - first : stop - first] += weights[:, None, None] * rows
        assert out is not None
        return out

    def _piece(self, index: int) -> torch.Tensor:
        if index not in self._pieces:
            while len(self._pieces) >= KEPT_PIECES:
                self._pieces.popitem(last=False)
            start, stop = self._layout.piece(index, self._steps)
            rows = self._compute(start, stop)
            assert rows.ndim == 3 and len(rows) == stop - start
            self._pieces[index] = rows.float()
        self._pieces.move_to_end(index)
        return self._pieces[index]


def local_stream(
    steps: int,
    compute: RowComputer,
    *,
    margin: int,
    piece_rows: int = LOCAL_PIECE_ROWS,
    window: tuple[int, int] = PUBLISHED_WINDOW,
) -> FeatureStream:
    """Stream of a network whose rows depend on at most `margin` rows to either side, and not on their position.

    Every piece is computed with that margin, clipped at the waveform's ends, and the margin is thrown away, so that
    the rows equal those of one call `compute(0, steps)` whatever the order they are asked in.
    """

    def piece(start: int, stop: int) -> torch.Tensor:
        first, last = max(start - margin, 0), min(stop + margin, steps)
        return compute(first, last)[start - first : stop - first]

    return FeatureStream(steps, PieceLayout(rows=piece_rows, hop=piece_rows, fade=0), piece, window)


@runtime_checkable
class AudioEncoder(Protocol):
    """Waveform -> rows of features. Rows lie `1 / rate` seconds apart and have `levels` vectors of `width` each.

    Its streams carry `window`, the rows before and after a frame's own row that the frame's tokens are taken from.
    """

    width: int
    levels: int
    rate: float

    def encode(self, waveform: np.ndarray) -> torch.Tensor:
        """waveform: (samples,) float32 at 16 kHz -> (steps, levels, width) float32 on the encoder's device."""
        ...

    def stream(self, source: WaveformSource) -> FeatureStream:
        """The same rows on demand, in bounded memory."""
        ...


class StreamedEncoder(nn.Module):
    """Base of the encoders: a module whose whole-file answer comes through its own stream.

    A subclass sets `width`, `levels` and `rate` and defines `stream`; what it computes follows the module's device
    and precision, and the rows are handed out in float32.
    """

    width: int
    levels: int
    rate: float

    def stream(self, source: WaveformSource) -> FeatureStream:
        """Rows of `source` on demand, in bounded memory."""
        raise NotImplementedError

    def encode(self, waveform: np.ndarray) -> torch.Tensor:
        """waveform: (samples,) float32 at 16 kHz -> (steps, levels, width) float32 on the module's device."""
        stream = self.stream(ArrayWaveform(waveform))
        return stream.rows(0, len(stream))
