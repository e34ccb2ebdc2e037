"""How the pictures of a dub compare with those of its source, at the source's own resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentsync.evaluation.mouths import MouthTrack

WHITE = 255  # the level that PSNR is relative to
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of RGB

Size = tuple[int, int]  # width, height px
Box = tuple[int, int, int, int]  # left, top, right, bottom px, the last two exclusive


class RegionError:
    """Squared error of a region, pooled over frames and channels."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, image: np.ndarray, reference: np.ndarray, region: np.ndarray | None = None) -> None:
        """image, reference: (h, w, 3) uint8; region: (h, w) bool, None for all of it."""
        error = np.square(image.astype(np.int32) - reference.astype(np.int32))
        error = error if region is None else error[region]
        self.total += float(error.sum(dtype=np.float64))
        self.count += error.size

    @property
    def psnr(self) -> float:
        """dB of all frames together; inf where they are equal, nan where nothing was added."""
        if self.count == 0:
            return float("nan")
        return float("inf") if self.total == 0 else 10 * float(np.log10(WHITE**2 * self.count / self.total))


def psnr(image: np.ndarray, reference: np.ndarray, region: np.ndarray | None = None) -> float:
    """dB between uint8 images (h, w, 3), over `region` (h, w) bool or all of it. Outside one: `psnr(a, b, ~region)`."""
    error = RegionError()
    error.add(image, reference, region)
    return error.psnr


def pixel_box(box: Sequence[float], size: tuple[int, int]) -> Box:
    """`box` (left, top, right, bottom) px grown to whole pixels and cut to a frame of `size` (w, h)."""
    low, high = np.floor(box[:2]), np.ceil(box[2:])
    left, top, right, bottom = (int(edge) for corner in (low, high) for edge in np.clip(corner, 0, size))
    return left, top, right, bottom


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """The part of `image` (h, w, ...) inside `box`."""
    left, top, right, bottom = box
    return image[top:bottom, left:right]


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian of the luma of (h, w, 3) uint8: the energy of its finest detail, squared levels.

    It grows with the square of detail: of detail that is drawn half as strong a quarter is left. Grain and codec noise
    count as detail, so compare only files that were encoded alike. nan where the image is under 3 px wide or high.
    """
    if min(image.shape[:2]) < 3:
        return float("nan")
    luma = image.astype(np.float64) @ LUMA
    neighbours = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((neighbours - 4 * luma[1:-1, 1:-1]).var())


def change(image: np.ndarray, before: np.ndarray) -> float:
    """Mean absolute difference of two images of one shape, in grey levels."""
    return float(np.abs(image.astype(np.float32) - before.astype(np.float32)).mean())


def joint_ratio(changes: np.ndarray, joints: np.ndarray) -> float:
    """Mean change across joints over that elsewhere; 1 where joints cannot be told.

    changes: (f,) change from the frame before, nan where there is none; joints: (f,) bool, True at a frame that differs
    from the one before in the windows it was made from. nan without one of both kinds.
    """
    changes, joints = np.asarray(changes, np.float64), np.asarray(joints, bool)
    known = np.isfinite(changes)
    across, elsewhere = changes[known & joints], changes[known & ~joints]
    return float(across.mean() / elsewhere.mean()) if across.size and elsewhere.size else float("nan")


@dataclass(frozen=True)
class Comparison:
    """A dub beside its source, frame by frame, over the frames both have."""

    frames: int
    psnr_outside: float  # dB where the dub may not touch
    psnr_mouth: float  # dB inside the source's mouth box; how good a reconstruction is, where the audio is the source's
    sharpness_share: float  # of the source's mouth sharpness, both averaged over frames
    changes: np.ndarray  # (f,) grey levels from frame to frame inside the dub's mouth box; nan where unknown
    edit_changes: np.ndarray  # (f,) the same of dub less source: movement that the source does not have


def compare(
    source: Path | str, dubbed: Path | str, mouths: MouthTrack, touched: Callable[[int, Size], np.ndarray] | None = None
) -> Comparison:
    """Stream both videos side by side; `mouths` is that of the source. Frame i of both belong together.

    touched: (frame, (w, h) px) -> (h, w) bool, the pixels that the dub may change; None: `mouths.touched`.
    """
    from latentsync.media.reader import VideoReader

    ledger = _Ledger(mouths, touched)
    pairs = zip(VideoReader(source).frames(), VideoReader(dubbed).frames(), range(len(mouths.times)), strict=False)
    for original, made, index in pairs:
        ledger.add(index, original.image, made.image)
    return ledger.close()


class _Ledger:
    """What `compare` sums up while the frames pass."""

    def __init__(self, mouths: MouthTrack, touched: Callable[[int, Size], np.ndarray] | None = None) -> None:
        self.mouths, self.touched = mouths, touched or mouths.touched
        self.outside, self.inside = RegionError(), RegionError()
        self.sharp: list[tuple[float, float]] = []
        self.changes: list[float] = []
        self.edit_changes: list[float] = []
        self.before: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, index: int, original: np.ndarray, made: np.ndarray) -> None:
        size = original.shape[1], original.shape[0]
        self.outside.add(made, original, ~self.touched(index, size))
        self.changes.append(float("nan"))
        self.edit_changes.append(float("nan"))
        if np.isfinite(self.mouths.boxes[index]).all():
            self._add_mouth(original, made, pixel_box(self.mouths.boxes[index], size))
        self.before = (original, made)

    def _add_mouth(self, original: np.ndarray, made: np.ndarray, box: Box) -> None:
        mouth, made_mouth = cut(original, box), cut(made, box)
        self.inside.add(made_mouth, mouth)
        self.sharp.append((sharpness(made_mouth), sharpness(mouth)))
        if self.before is not None:
            mouth_before, made_before = (cut(image, box) for image in self.before)
            self.changes[-1] = change(made_mouth, made_before)
            edit, edit_before = (a.astype(np.int16) - b for a, b in ((made_mouth, mouth), (made_before, mouth_before)))
            self.edit_changes[-1] = change(edit, edit_before)

    def close(self) -> Comparison:
        made, original = np.nanmean(np.array(self.sharp), axis=0) if self.sharp else (float("nan"),) * 2
        return Comparison(
            frames=len(self.changes),
            psnr_outside=self.outside.psnr,
            psnr_mouth=self.inside.psnr,
            sharpness_share=float(made / original),
            changes=np.array(self.changes),
            edit_changes=np.array(self.edit_changes),
        )
