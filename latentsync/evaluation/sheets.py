"""Contact sheets to look at: the same frames of several files, row by row, and the mouths of all beneath."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from latentsync.evaluation.mouths import MouthTrack
from latentsync.evaluation.quality import cut, pixel_box

COLUMNS = 8
TILE = 224  # px, width of a whole frame and side of a mouth
MOUTH_VIEW = 1.6  # side of the square around a mouth, in widths of the mouth box


def contact_sheet(videos: Sequence[Path], mouths: MouthTrack, out: Path) -> None:
    """Write a picture of COLUMNS evenly spaced frames of files that show the head in the same place.

    videos: the first is the source, whose `mouths` are given
    """
    import cv2

    columns = [np.vstack(_tiles(images, mouths.boxes[index])) for index, images in _shown(videos, len(mouths.times))]
    out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), cv2.cvtColor(np.hstack(columns), cv2.COLOR_RGB2BGR))


def _shown(videos: Sequence[Path], limit: int) -> Iterator[tuple[int, list[np.ndarray]]]:
    """The frames that are shown, of all files."""
    from latentsync.media.reader import VideoReader

    frames = min(limit, *(sum(1 for _ in VideoReader(video).frames()) for video in videos))
    wanted = {int(index) for index in np.linspace(0, frames - 1, COLUMNS)}
    rows = zip(*(VideoReader(video).frames() for video in videos), strict=False)
    return (
        (index, [frame.image for frame in row])
        for index, row in zip(range(frames), rows, strict=False)
        if index in wanted
    )


def side_by_side(shown: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(TILE, n * TILE, 3) the mouths of n pictures (h, w, 3), each with its own mouth box (4,) px; grey without one."""
    return np.hstack([_mouth(image, box) for image, box in shown])


def _mouth(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    import cv2

    if not np.isfinite(box).all():
        return np.full((TILE, TILE, 3), 127, np.uint8)
    centre, half = (box[:2] + box[2:]) / 2, MOUTH_VIEW / 2 * (box[2] - box[0])
    square = pixel_box([*(centre - half), *(centre + half)], (image.shape[1], image.shape[0]))
    return cv2.resize(cut(image, square), (TILE, TILE), interpolation=cv2.INTER_CUBIC)


def _tiles(images: Sequence[np.ndarray], box: np.ndarray) -> list[np.ndarray]:
    """Pictures of one width: all frames, then all mouths (grey where there is no face)."""
    import cv2

    height, width = images[0].shape[:2]
    size = (TILE, round(TILE * height / width))
    whole = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    return [*whole, *(_mouth(image, box) for image in images)]
