"""Contact sheets to look at: the source's frames over the dub's, and the mouths of both beneath."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import common
import numpy as np

from latentsync.evaluation.mouths import MouthTrack
from latentsync.evaluation.quality import cut, pixel_box

COLUMNS = 8
TILE = 224  # px, height of a whole frame and side of a mouth
MOUTH_VIEW = 1.6  # side of the square around a mouth, in widths of the mouth box


def contact_sheet(source: Path, dubbed: Path, mouths: MouthTrack, out: Path) -> None:
    """Write a picture of COLUMNS evenly spaced frames; `mouths` is that of the source."""
    import cv2

    pairs = _pairs(source, dubbed, len(mouths.times))
    columns = [np.vstack(_tiles(*images, mouths.boxes[index])) for index, images in pairs]
    out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), cv2.cvtColor(np.hstack(columns), cv2.COLOR_RGB2BGR))


def _pairs(source: Path, dubbed: Path, limit: int) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """The frames that are shown, of both files."""
    from latentsync.media.reader import VideoReader

    frames = min(limit, len(common.frame_times(dubbed)))
    wanted = {int(index) for index in np.linspace(0, frames - 1, COLUMNS)}
    both = zip(VideoReader(source).frames(), VideoReader(dubbed).frames(), range(frames), strict=False)
    return ((index, (original.image, made.image)) for original, made, index in both if index in wanted)


def _tiles(original: np.ndarray, made: np.ndarray, box: np.ndarray) -> list[np.ndarray]:
    """Four pictures of one width: both frames, then both mouths (grey where there is no face)."""
    import cv2

    height, width = original.shape[:2]
    size = (TILE, round(TILE * height / width))
    whole = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (original, made)]
    if not np.isfinite(box).all():
        return [*whole, *[np.full((TILE, TILE, 3), 127, np.uint8)] * 2]
    centre, half = (box[:2] + box[2:]) / 2, MOUTH_VIEW / 2 * (box[2] - box[0])
    square = pixel_box([*(centre - half), *(centre + half)], (width, height))
    return whole + [cv2.resize(cut(i, square), (TILE, TILE), interpolation=cv2.INTER_CUBIC) for i in (original, made)]
