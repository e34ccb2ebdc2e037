"""A small trainable audio encoder: log-mel in, one row at 50 Hz out, each row knowing 300 ms to either side."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from latentsync.audio.features import FeatureStream, StreamedEncoder, WaveformSource, local_stream
from latentsync.audio.mel import N_MELS, LogMel
from latentsync.types import FEATURE_RATE

DILATIONS = (1, 2, 4, 8)  # rows; with kernels of 3 the blocks reach 15 rows to either side
STEM_KERNEL = 5  # mel columns at 100 Hz, stride 2
MARGIN = sum(DILATIONS) + 2  # rows that an output row depends on, to either side: the blocks' and the stem's
OWN_ROW = (0, 0)  # a frame takes the row at its own time: the context is inside it


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (b, width, rows) -> same shape."""
        hidden = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.out(F.glu(self.conv(hidden), dim=1))


class MelEncoder(StreamedEncoder):
    """Dilated convolutions over log-mel (`mel.LogMel`); no recurrence and no position, so streaming is exact."""

    def __init__(self, width: int = 128, levels: int = 4, hidden: int = 160) -> None:
        """width: of a token; levels: tokens a row; hidden: channels of the convolutions."""
        super().__init__()
        self.config = {"width": width, "levels": levels, "hidden": hidden}
        self.width, self.levels, self.rate = width, levels, FEATURE_RATE
        self.stem = nn.Conv1d(N_MELS, hidden, STEM_KERNEL, stride=2, padding=STEM_KERNEL // 2)
        self.blocks = nn.Sequential(*(_Block(hidden, dilation) for dilation in DILATIONS))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, levels * width)

    def hidden_rows(self, mel: torch.Tensor) -> torch.Tensor:
        """mel: (b, 80, 2 * rows) -> (b, rows, hidden)."""
        return self.norm(self.blocks(F.gelu(self.stem(mel))).transpose(1, 2))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """mel: (b, 80, 2 * rows) log-mel at 100 Hz -> (b, rows, levels, width) at 50 Hz."""
        return self.head(self.hidden_rows(mel)).unflatten(-1, (self.levels, self.width))

    def rows_with_context(self, mel: torch.Tensor) -> torch.Tensor:
        """mel: (b, 80, 2 * (rows + 2 * MARGIN)), the columns of the rows wanted and of MARGIN more on either side.

        returns: (b, rows, levels, width); none of these rows has seen the zeros that convolutions pad with
        """
        return self(mel)[:, MARGIN:-MARGIN]

    def rows_at(self, mel: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What the frames of a batch of windows hear, with gradients: (b, f, levels, width).

        mel: (b, 80, columns) around the windows, as `rows_with_context`; rows: (b, f) each frame's own row within
        """
        heard = self.rows_with_context(mel)
        return heard.gather(1, rows[:, :, None, None].expand(-1, -1, *heard.shape[2:]))

    def stream(self, source: WaveformSource) -> FeatureStream:
        """Rows of `source` on demand, equal to those of one pass over the whole of it; outside it lies silence."""
        mel = LogMel(source)

        @torch.no_grad()
        def rows(start: int, stop: int) -> torch.Tensor:
            columns = mel.read(2 * (start - MARGIN), 2 * (stop + MARGIN)).to(self.stem.weight)
            return self.rows_with_context(columns[None])[0]

        return local_stream(mel.columns // 2, rows, margin=0, window=OWN_ROW)
