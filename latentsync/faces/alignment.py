"""From a face's landmarks to the upright square crop that the networks see."""

from __future__ import annotations

import numpy as np

LANDMARKS = 478  # points of the MediaPipe face mesh with irises
LEFT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)  # the image's left
RIGHT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
NOSE = (1, 5, 48, 278)

PUBLISHED_RESOLUTION = 256  # px, the square crop that the published sizes belong to
PUBLISHED_CROP = (210, 280)  # px (w, h) of the warped face before it is stretched to the square
TEMPLATE = np.array([[17.0, 20.0], [58.0, 20.0], [37.5, 40.0]])  # brow, brow, nose on a face of 75 x 100
TEMPLATE_SCALE = PUBLISHED_CROP[0] / 75  # px of the warped face per template unit at PUBLISHED_RESOLUTION
BIAS_MEMORY = 0.2  # share of the last frame's bias in this frame's
FILL = 127  # grey level outside the frame


def anchor_points(landmarks: np.ndarray) -> np.ndarray:
    """Centres of both brows and the nose, the points that fix a face's place in the crop.

    landmarks: (478, 2) x, y in px. Returns (3, 2) float64 px: the image's left brow, its right brow, the nose.
    Not rounded to whole pixels as in the public implementation: rounding makes a still face tremble.
    """
    assert landmarks.shape == (LANDMARKS, 2), landmarks.shape
    groups = (LEFT_BROW, RIGHT_BROW, NOSE)
    return np.stack([landmarks[list(group)].astype(np.float64).mean(axis=0) for group in groups])


def crop_size(resolution: int) -> tuple[int, int]:
    """(w, h) in px of the warped face that is then stretched to a square of `resolution`."""
    width, height = PUBLISHED_CROP
    return resolution * width // PUBLISHED_RESOLUTION, resolution * height // PUBLISHED_RESOLUTION


class Aligner:
    """Similarity transforms of one track's frames, in order; the published formula with its one-frame memory.

    The scale is the ratio of standard deviations and the rotation Kabsch's, so this is not the least-squares
    similarity (which lies 1 to 3 px away). `reset` at every cut and for every new track.
    """

    def __init__(self, resolution: int) -> None:
        self._template = TEMPLATE * (TEMPLATE_SCALE * resolution / PUBLISHED_RESOLUTION)
        self._bias: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the frame before."""
        self._bias = None

    def matrix(self, anchors: np.ndarray) -> np.ndarray:
        """(2, 3) float32: whole-frame px to px of the warped face (`crop_size`), from anchors (3, 2) px."""
        points, centre, spread = _normalised(anchors)
        template, template_centre, template_spread = _normalised(self._template)
        rotation = _kabsch(points, template)
        linear = template_spread / spread * rotation
        bias = template[2] - points[2]
        if self._bias is not None:
            bias = BIAS_MEMORY * self._bias + (1 - BIAS_MEMORY) * bias
        self._bias = bias
        translation = template_centre - linear @ centre + bias
        return np.column_stack([linear, translation]).astype(np.float32)


def crop_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks of one clip's frames, in order, as shares of the aligned crop's sides: (f, 478, 2) float32.

    landmarks: (f, 478, 2) px of the whole frame, nan where there is no face; (0, 0) is the crop's top left corner
    """
    aligner, size = Aligner(PUBLISHED_RESOLUTION), np.array(crop_size(PUBLISHED_RESOLUTION))
    shares = np.full(landmarks.shape, np.nan, np.float32)
    for number, points in enumerate(landmarks):
        if np.isnan(points[0, 0]):
            aligner.reset()
            continue
        matrix = aligner.matrix(anchor_points(points))
        shares[number] = (points @ matrix[:, :2].T + matrix[:, 2] + 0.5) / size  # pixel centres at whole numbers
    return shares


def crop(image: np.ndarray, matrix: np.ndarray, resolution: int) -> np.ndarray:
    """The published crop: bilinear warp by `matrix`, then Lanczos to a square.

    image: (h, w, 3) uint8; matrix: (2, 3) of `Aligner.matrix` at the same resolution.
    Returns (resolution, resolution, 3) uint8, grey 127 where the face reaches outside the frame. Levels are rounded
    where the public implementation cuts them down (half a level on average); a face at least twice as large as the
    crop is sampled more densely and averaged, where the public implementation aliases.
    """
    import cv2

    return cv2.resize(
        warp(image, matrix, crop_size(resolution)), (resolution, resolution), interpolation=cv2.INTER_LANCZOS4
    )


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear warp of (h, w, 3) uint8 by `matrix` (2, 3) to `size` (w, h) px; grey 127 outside the frame.

    A region at least twice as large as `size` is sampled more densely and averaged.
    """
    import cv2

    width, height = size
    dense = max(1, int(1 / matrix_scale(matrix)))
    warped = cv2.warpAffine(
        image,
        _denser(matrix, dense),
        (width * dense, height * dense),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(FILL, FILL, FILL),
    )
    return cv2.resize(warped, size, interpolation=cv2.INTER_AREA) if dense > 1 else warped


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3) float64 least-squares similarity (turn, scale, shift) that takes `source` (n, 2) to `target` (n, 2)."""
    centre, goal = source.mean(axis=0), target.mean(axis=0)
    from_, to = (source - centre) @ (1, 1j), (target - goal) @ (1, 1j)
    factor = np.vdot(from_, to) / np.vdot(from_, from_)  # rotation and scale as one complex number
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, goal - linear @ centre])


def matrix_scale(matrix: np.ndarray) -> float:
    """Px of the warped face per px of the frame."""
    return float(np.sqrt(abs(np.linalg.det(np.asarray(matrix, np.float64)[:, :2]))))


def outside_share(matrix: np.ndarray, resolution: int, frame_size: tuple[int, int]) -> float:
    """Share of the crop's area, in [0, 1], that lies outside a frame of `frame_size` (w, h) px."""
    width, height = crop_size(resolution)
    grid = np.stack(np.meshgrid(np.linspace(0, width - 1, 16), np.linspace(0, height - 1, 16)), axis=-1).reshape(-1, 2)
    linear, translation = np.asarray(matrix, np.float64)[:, :2], np.asarray(matrix, np.float64)[:, 2]
    points = (grid - translation) @ np.linalg.inv(linear).T
    inside = ((points >= 0) & (points <= np.array(frame_size) - 1)).all(axis=1)
    return 1.0 - float(inside.mean())


def _normalised(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Points about their centroid in units of the standard deviation of all their coordinates; both returned too."""
    points = np.asarray(points, np.float64)
    centre = points.mean(axis=0)
    spread = float((points - centre).std(ddof=1))
    return (points - centre) / spread, centre, spread


def _kabsch(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 2) rotation that brings `points` (n, 2) closest to `target` (n, 2), both about the origin."""
    u, _, vt = np.linalg.svd(points.T @ target)
    mirror = np.sign(np.linalg.det(u @ vt))
    return (u @ np.diag([1.0, mirror]) @ vt).T


def _denser(matrix: np.ndarray, factor: int) -> np.ndarray:
    """The same warp onto a pixel grid `factor` times as dense (pixel centres at whole numbers)."""
    matrix = np.asarray(matrix, np.float64) * factor
    matrix[:, 2] += (factor - 1) / 2
    return matrix
