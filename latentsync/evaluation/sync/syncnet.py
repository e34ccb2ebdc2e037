"""SyncNet v2 as the field reports it: LSE-D, LSE-C and the offset of the public evaluation, streaming."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from latentsync.audio.mfcc import mfcc
from latentsync.data.sync_scores import minus_distance
from latentsync.data.sync_vectors import batches, runs
from latentsync.evaluation.sync.critic import Talk
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.models.syncnet import COLUMNS, FRAMES, SIDE, SyncNet

COLUMNS_A_FRAME = 4  # MFCC columns to a picture
CROP_SCALE = 0.40  # of half the face's size, by which the crop reaches further to the sides; twice as far below
MEDIAN = 13  # pictures over which the face's place and size are smoothed
GREY = 110  # level outside the picture
RUN = 8  # new pictures at once
HEARD_AT_ONCE = 64  # windows of sound at once


class SyncNetCritic(VectorCritic):
    """Minus the distance of SyncNet's vectors, so higher is more in sync; there is no threshold.

    As the public evaluation has it, windows begin at the pictures 0 .. n - 6: the last possible one is left out.
    """

    name, frames, threshold, fewest = "SyncNet v2", FRAMES, None, MEDIAN

    def __init__(self, network: SyncNet) -> None:
        """network: see `hub.load_syncnet`."""
        super().__init__()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.eval().to(self._device)

    likeness = staticmethod(minus_distance)

    def seen(self, talk: Talk) -> np.ndarray:
        """(f - 5, 1024); decodes the talk's pictures once and keeps a few."""
        return see(self._network, face_crops(talk))[: len(talk) - FRAMES]

    def heard(self, talk: Talk) -> np.ndarray:
        """(f - 5, 1024)."""
        return hear(self._network, mfcc(talk.waveform), len(talk) - FRAMES)


@torch.no_grad()
def see(network: SyncNet, crops: Iterator[np.ndarray]) -> np.ndarray:
    """crops: each (224, 224, 3) uint8 RGB -> (f - 4, 1024), one for every five in a row."""
    device, vectors = next(network.parameters()).device, []
    for run in runs(crops, RUN, FRAMES):
        bgr = torch.from_numpy(np.stack(run)[..., ::-1].copy()).movedim(-1, 0).float()
        vectors.append(network.see(bgr[None].to(device))[0].cpu().numpy())
    return np.concatenate(vectors)


@torch.no_grad()
def hear(network: SyncNet, columns: np.ndarray, windows: int) -> np.ndarray:
    """columns: (13, at least 4 * windows + 16) of `mfcc` -> (windows, 1024), a window every 1/25 s."""
    device, vectors = next(network.parameters()).device, []
    for some in batches(range(windows), HEARD_AT_ONCE):
        cut = np.stack([columns[None, :, COLUMNS_A_FRAME * at : COLUMNS_A_FRAME * at + COLUMNS] for at in some])
        vectors.append(network.hear(torch.from_numpy(cut).float().to(device)).cpu().numpy())
    return np.concatenate(vectors)


def face_crops(talk: Talk) -> Iterator[np.ndarray]:
    """The public pipeline's face track: a square around the detection, its centre and size smoothed by a median over 13
    pictures (with zeros beyond the ends, as there), reaching 0.4 of half its size further to either side and 0.8
    further down, bilinear to 224 px. Each (224, 224, 3) uint8 RGB.

    What may differ from published figures: the public pipeline's boxes are S3FD's and ours hold the 478 landmarks, both
    from the forehead to the chin but not equal; it judges tracks of 100 pictures or more, tied together by overlap, and
    ours end where our tracker loses a face; it encodes pictures as JPEG and crops as XVID before the network sees them,
    and nothing is encoded here. So compare our figures with each other before comparing them with a paper's.
    """
    from scipy.signal import medfilt

    left, top, right, bottom = talk.boxes.T.astype(np.float64)
    tracks = np.maximum(bottom - top, right - left) / 2, (left + right) / 2, (top + bottom) / 2
    halves, xs, ys = (medfilt(values, MEDIAN) for values in tracks)
    for image, half, x, y in zip(talk.pictures(), halves, xs, ys, strict=True):
        yield _square(image, half, x, y)


def _square(image: np.ndarray, half: float, x: float, y: float) -> np.ndarray:
    """The crop around (x, y) px of a face whose box is 2 * `half` px long, its edges rounded as the public ones are."""
    import cv2

    border = int(half * (1 + 2 * CROP_SCALE))
    top, bottom = (int(y + border + reach * half) - border for reach in (-1, 1 + 2 * CROP_SCALE))
    left, right = (int(x + border + reach * half) - border for reach in (-1 - CROP_SCALE, 1 + CROP_SCALE))
    square = np.full((bottom - top, right - left, 3), GREY, np.uint8)
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    row, column = max(-top, 0), max(-left, 0)
    square[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return cv2.resize(square, (SIDE, SIDE))
