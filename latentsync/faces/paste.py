"""Putting a generated square crop back into the frame it was aligned from."""

from __future__ import annotations

import numpy as np

from .alignment import crop as aligned_crop
from .alignment import crop_size
from .masks import REGIONS, feathered

FEATHER = 1 / 16  # of the crop's size: width of the soft edge inside the mask and the face
MOUTH_FEATHER = 1 / 8  # of the crop's size: of the oval around the mouth, whose edge lies on skin
COLOUR_SIZE = 64  # px, the size that colours are compared at: only slow changes over the face are corrected
COLOUR_BAND = 1 / 12  # of the crop's size: strip inside the mask's edge where both pictures show the same skin
COLOUR_REACH = 1 / 6  # of the crop's size: standard deviation of the smoothing that carries the strip inwards
COLOUR_OUTLIER = 20.0  # grey levels; larger differences are other content (a jaw that moved), not another colour
COLOUR_MEMORY = 0.85  # share of the frames before in the correction: 6 frames to settle, too slow to flicker


class ColourMatch:
    """Slowly changing colour correction of one track, so that the mask's border cannot be seen.

    Only a smooth offset is added: contrast and detail of the mouth stay as generated. `reset` at cuts.
    """

    def __init__(self) -> None:
        self._offset: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the frames before."""
        self._offset = None

    def offset(self, source: np.ndarray, generated: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(r, r, 3) float32 grey levels to add to `generated`; source, generated (r, r, 3), mask (r, r)."""
        import cv2

        measured = border_offset(*(_coarse(picture) for picture in (source, generated, mask)))
        if self._offset is not None:
            measured = COLOUR_MEMORY * self._offset + (1 - COLOUR_MEMORY) * measured
        self._offset = measured
        return cv2.resize(measured, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)


def border_offset(source: np.ndarray, generated: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Smooth field of source - generated, measured just inside the mask's edge and carried inwards.

    source, generated: (r, r, 3) grey levels; mask: (r, r), 1 = generated. Returns (r, r, 3) float32 grey levels.
    """
    import cv2

    size = len(mask)
    difference = source - generated
    band = (mask >= 0.5) & (feathered(mask, COLOUR_BAND * size) < 1)
    weight = band * np.exp(-np.square(difference / COLOUR_OUTLIER).sum(axis=-1))
    weighted = np.dstack([difference * weight[..., None], weight, band.astype(np.float32)])
    spread = cv2.GaussianBlur(weighted, (0, 0), COLOUR_REACH * size, borderType=cv2.BORDER_CONSTANT)
    # Where nearly all of the strip shows other content there is nothing to match: the offset fades to none.
    return spread[..., :3] / (spread[..., 3:4] + 0.05 * spread[..., 4:].max() + 1e-6)


def paste_back(
    image: np.ndarray,
    crop: np.ndarray,
    matrix: np.ndarray,
    mask: np.ndarray,
    colour: ColourMatch | None = None,
    landmarks: np.ndarray | None = None,
    region: str = "face",
) -> np.ndarray:
    """`image` with the masked part of `crop` in its place, feathered inside the mask, colours matched at its border.

    image: (h, w, 3) uint8; crop: (r, r, 3) generated picture, uint8 or float grey levels; matrix: (2, 3) that the
    crop was aligned with; mask: (r, r), 1 = take the crop; colour: the track's correction so far (None: this frame
    alone); landmarks: (478, 2) px of the image: what lies beside this face, hair and background, stays the source's
    though the mask covers it (None: the whole mask); region: of the face that is shown, a name in `masks.REGIONS`.
    Returns a new (h, w, 3) uint8; every pixel outside the mask is bit-equal to `image`.
    """
    size = len(mask)
    to_square = _square_matrix(matrix, size)
    left, top, right, bottom = _mask_region(to_square, mask, image.shape)
    result = image.copy()
    if left >= right or top >= bottom:
        return result
    shown, alpha = mask, feathered(mask, FEATHER * size)
    if landmarks is not None:
        wanted = REGIONS[region](landmarks @ to_square[:, :2].T + to_square[:, 2], size)
        width = MOUTH_FEATHER if region == "mouth" else FEATHER
        shown, alpha = np.minimum(mask, wanted), np.minimum(alpha, feathered(wanted, width * size))
    offset = (colour or ColourMatch()).offset(aligned_crop(image, matrix, size), crop, shown)
    matched = crop.astype(np.float32) + offset
    around = image[top:bottom, left:right]
    place = to_square.copy()
    place[:, 2] += to_square[:, :2] @ (left, top)
    alpha = _warp_alpha(alpha, place, around.shape)
    blended = around + alpha * (_warp_back(matched, place, around.shape) - around)
    result[top:bottom, left:right] = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    return result


def restore_published(image: np.ndarray, face: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The published paste-back, kept for comparison: the whole crop inside an eroded, blurred rectangle.

    image: (h, w, 3) uint8; face: (r, r, 3) or already `crop_size`, uint8; matrix: (2, 3). Returns (h, w, 3) uint8.
    """
    import cv2

    size = (face.shape[1], face.shape[0])
    if size[0] == size[1]:
        size = crop_size(size[0])
        face = cv2.resize(face, size, interpolation=cv2.INTER_CUBIC)
    frame_size = (image.shape[1], image.shape[0])
    inverse = cv2.invertAffineTransform(np.asarray(matrix, np.float64))
    warped = cv2.warpAffine(face.astype(np.float32), inverse, frame_size, flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(np.ones(size[::-1], np.float32), inverse, frame_size, flags=cv2.INTER_LINEAR)
    mask = cv2.erode(mask, np.ones((2, 2), np.uint8))
    width = int(np.sqrt(mask.sum())) // 20
    mask = cv2.erode(mask, np.ones((2 * width, 2 * width), np.uint8))
    mask = cv2.GaussianBlur(mask, (2 * width + 1,) * 2, 0.3 * (width - 1) + 0.8)[..., None]
    return np.clip(mask * warped + (1 - mask) * image, 0, 255).astype(np.uint8)


def _square_matrix(matrix: np.ndarray, size: int) -> np.ndarray:
    """(2, 3) float64: frame px to px of the square crop, which is the warped face stretched (pixel centres whole)."""
    stretch = size / np.array(crop_size(size), np.float64)
    square = np.asarray(matrix, np.float64) * stretch[:, None]
    square[:, 2] += (stretch - 1) / 2
    return square


def _mask_region(to_square: np.ndarray, mask: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the frame's pixels that the mask can reach."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    corners = [(x, y) for x in (columns[0] - 1, columns[-1] + 1) for y in (rows[0] - 1, rows[-1] + 1)]
    points = (np.array(corners, np.float64) - to_square[:, 2]) @ np.linalg.inv(to_square[:, :2]).T
    low = np.maximum(np.floor(points.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0)) + 1, (shape[1], shape[0])).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _warp_back(picture: np.ndarray, place: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`picture` (r, r, 3) float32 read at `place` (frame region px -> picture px) for every pixel of the region.

    Lanczos where the crop is coarser than the face on screen; averaged down first where it is finer.
    """
    import cv2

    shrink = max(1, int(np.sqrt(abs(np.linalg.det(place[:, :2])))))
    if shrink > 1:
        size = (picture.shape[1] // shrink, picture.shape[0] // shrink)
        ratio = np.array(size) / (picture.shape[1], picture.shape[0])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        place = place * ratio[:, None]
        place[:, 2] += (ratio - 1) / 2
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, place, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _warp_alpha(alpha: np.ndarray, place: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`alpha` (r, r) read at `place`; never averaged, so that it is 0 wherever the mask is. Returns (h, w, 1)."""
    import cv2

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(alpha, place, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_CONSTANT)[..., None]


def _coarse(picture: np.ndarray) -> np.ndarray:
    """`picture` (r, r[, c]) at COLOUR_SIZE, float32."""
    import cv2

    return cv2.resize(picture.astype(np.float32), (COLOUR_SIZE,) * 2, interpolation=cv2.INTER_AREA)
