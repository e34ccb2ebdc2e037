"""Hard cuts between scenes."""

from __future__ import annotations

import numpy as np

GRID = (32, 18)  # px (w, h) that frames are compared at: too coarse for noise, compression and small motion
SAMPLES = 8  # of the frame's px per grid px and axis: enough for a mean, and no need to read a large frame whole
SHIFT = 2  # px of the grid that the picture may have moved: pans and shakes of 6 % of the frame a frame
SAME_STRUCTURE = 0.6  # correlation of the pictures, at the best shift, above which it is mostly one scene
CHANGE = 10.0  # mean absolute difference in grey levels below which nothing has happened
SUDDEN = 2.5  # times the median of the last differences that a cut must exceed: restless scenes are not cut up
# A cut between two takes of the same set keeps most of the structure, but comes out of stillness.
SAME_TAKE = 0.93  # correlation above which it is the same take
VERY_SUDDEN = 6.0  # times the median of the last differences
ONE_WAY = 0.9  # share of the difference that is one change of brightness everywhere: a flash, a fade, an exposure
EVERYWHERE = 0.25  # median over mean of the differences, below which only part of the frame changed: something passes
MEMORY = 7  # frames whose differences are remembered


class CutDetector:
    """Tells hard cuts from motion and flashes, from each frame and the two before it.

    A cut changes the picture's structure suddenly: the correlation at the best small shift falls. Brightness alone
    (flash, fade, exposure) does not change it. A frame that looks like the one before the last is the end of a flash
    or of a damaged frame, not a cut. A flash that burns the whole picture out is taken for a cut at its first frame,
    since nothing of the scene is left in it; soft fades and wipes are not found.
    """

    def __init__(self) -> None:
        self._recent: list[np.ndarray] = []  # the last two pictures on the grid
        self._changes: list[float] = []  # differences between neighbours, without cuts

    def update(self, image: np.ndarray) -> bool:
        """Whether image (h, w, 3) uint8 RGB begins a new scene; frames in order, the first is no cut."""
        import cv2

        step = max(1, min(image.shape[1] // GRID[0], image.shape[0] // GRID[1]) // SAMPLES)
        sampled = np.ascontiguousarray(image[::step, ::step])
        picture = cv2.resize(sampled, GRID, interpolation=cv2.INTER_AREA).astype(np.float32)
        cut = bool(self._recent) and self._is_cut(picture)
        if self._recent and not cut:
            self._changes = [*self._changes, change(self._recent[-1], picture)][-MEMORY:]
        self._recent = [picture] if cut else [*self._recent, picture][-2:]
        return cut

    def _is_cut(self, picture: np.ndarray) -> bool:
        before = self._recent[-1]
        difference, usual = change(before, picture), float(np.median(self._changes or [0.0]))
        if difference < max(CHANGE, SUDDEN * usual):
            return False
        likeness = max(structure(earlier, picture) for earlier in self._recent)
        brightness = abs(float(picture.mean() - before.mean()))
        everywhere = float(np.median(np.abs(picture - before))) > EVERYWHERE * difference
        came_from_stillness = bool(self._changes) and difference > VERY_SUDDEN * usual
        one_way = brightness > ONE_WAY * difference
        another_take = came_from_stillness and everywhere and not one_way and likeness < SAME_TAKE
        return likeness < SAME_STRUCTURE or another_take


def change(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two pictures, in grey levels."""
    return float(np.abs(first - second).mean())


def structure(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation, in [-1, 1], of the middle of `first` with `second` at the best shift of up to SHIFT px."""
    import cv2

    middle = first[SHIFT:-SHIFT, SHIFT:-SHIFT]
    if middle.std() < 1.0 or second.std() < 1.0:  # a plain picture correlates with nothing
        return 1.0 if middle.std() < 1.0 and second.std() < 1.0 else 0.0
    return float(cv2.matchTemplate(second, middle, cv2.TM_CCOEFF_NORMED).max())
