"""What a sync network may look at besides colours, made once for a clip's exact content and kept on disk.

Each representation says what it was made by, because results hang on it: a parsing map that was drawn from landmarks
says nothing that they do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from latentsync.data.cached import cached
from latentsync.data.crops import ClipCrops
from latentsync.data.sampling import pixels
from latentsync.faces.alignment import LANDMARKS, anchor_points, crop_landmarks
from latentsync.faces.expression import BLENDSHAPES, POSE, FaceExpressions
from latentsync.faces.lips import face_height
from latentsync.faces.parsing import REGIONS, draw_regions
from latentsync.hub.parsing import FaceParser, load_face_parser
from latentsync.hub.tensors import module_digest, sha256_file
from latentsync.types import InputError

REVISION = b"1"  # to be counted up where the code below changes what it makes
PARSED_AT_ONCE = 4  # frames
COMPONENTS = 52  # of the fitted basis, as many as there are blendshapes
SIMILARITY = 4  # numbers of a face's place in the plane: turn, logarithm of its size, x, y
FITTED_FRAMES = 4000  # at most, evenly spread over all clips
FEWEST_FRAMES = 2 * COMPONENTS  # that a basis is fitted on


class Representation(Protocol):
    """Makes of each frame of a clip what a network looks at."""

    @property
    def kind(self) -> str:
        """landmarks, parsing or 3dmm."""
        ...

    @property
    def width(self) -> int:
        """Numbers, or regions, of a frame."""
        ...

    @property
    def source(self) -> str:
        """What it is made by, for people and for the record."""
        ...

    @property
    def digest(self) -> bytes:
        """Of all that the answer hangs on besides the clip."""
        ...

    def contents(self, clip: ClipCrops) -> bytes:
        """Of the clip, what the answer hangs on."""
        ...

    def make(self, clip: ClipCrops) -> np.ndarray:
        """(f, numbers) float32 or (f, size, size) uint8; what stands at frames without a face means nothing.

        InputError where the clip gives none.
        """
        ...


class RepresentationCache:
    """A representation, made once for exact contents; any number of processes may fill one folder."""

    def __init__(self, representation: Representation, folder: Path) -> None:
        self.representation, self.folder = representation, folder
        self._made_by = [REVISION, representation.kind.encode(), representation.digest]

    def __call__(self, clip: ClipCrops) -> np.ndarray:
        """As `Representation.make`."""
        made_by = self.representation
        contents = [*self._made_by, made_by.contents(clip)]
        return cached(self.folder / made_by.kind, contents, lambda: {"frames": _tensor(made_by.make(clip))})[
            "frames"
        ].numpy()


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


@dataclass(frozen=True)
class TrackedLandmarks:
    """The face tracker's 478 points as places in the aligned crop, centred."""

    kind: str = "landmarks"
    width: int = 2 * LANDMARKS
    source: str = "face tracker, 478 points"
    digest: bytes = b"tracked"

    def contents(self, clip: ClipCrops) -> bytes:
        """See Representation."""
        return np.ascontiguousarray(clip.landmarks).tobytes()

    def make(self, clip: ClipCrops) -> np.ndarray:
        """(f, 956) float32, x and y of each point, 0 = the crop's middle, 1 = its side."""
        return np.nan_to_num(crop_landmarks(np.asarray(clip.landmarks)) - 0.5).reshape(len(clip), -1)


@dataclass(frozen=True)
class DrawnRegions:
    """Regions drawn from the tracker's landmarks."""

    size: int  # px
    kind: str = "parsing"
    width: int = len(REGIONS)
    source: str = "drawn from the landmarks, not independent of them"

    @property
    def digest(self) -> bytes:
        """See Representation."""
        return f"drawn {self.size}".encode()

    def contents(self, clip: ClipCrops) -> bytes:
        """See Representation."""
        return np.ascontiguousarray(clip.landmarks).tobytes()

    def make(self, clip: ClipCrops) -> np.ndarray:
        """(f, size, size) uint8."""
        return np.stack([draw_regions(shares, self.size) for shares in crop_landmarks(np.asarray(clip.landmarks))])


@dataclass(frozen=True)
class ParsedRegions:
    """Regions that a segmentation network finds in the crops."""

    parser: FaceParser
    size: int  # px
    kind: str = "parsing"

    @property
    def width(self) -> int:
        """See Representation."""
        return self.parser.regions

    @property
    def source(self) -> str:
        """See Representation."""
        return self.parser.source

    @property
    def digest(self) -> bytes:
        """See Representation."""
        return module_digest(self.parser) + str(self.size).encode()

    def contents(self, clip: ClipCrops) -> bytes:
        """See Representation."""
        return clip.picture_contents

    def make(self, clip: ClipCrops) -> np.ndarray:
        """(f, size, size) uint8."""
        device = next(self.parser.parameters()).device
        parts = []
        for first in range(0, len(clip), PARSED_AT_ONCE):
            some = pixels(clip.crops[first : first + PARSED_AT_ONCE]).to(device)
            parts.append(self.parser(some, self.size).cpu().numpy())
        return np.concatenate(parts)


class Blendshapes:
    """52 blendshapes and pose, by mediapipe's face landmarker on the crops."""

    kind, width = "3dmm", BLENDSHAPES + POSE

    def __init__(self, path: Path) -> None:
        """path: a `face_landmarker.task` with blendshapes. InputError where it is none."""
        self.path = path
        self.source = "52 blendshapes and pose of a face landmarker"
        self._faces = FaceExpressions(path)

    @property
    def digest(self) -> bytes:
        """See Representation."""
        return sha256_file(self.path).encode()

    def contents(self, clip: ClipCrops) -> bytes:
        """See Representation."""
        return clip.picture_contents

    def make(self, clip: ClipCrops) -> np.ndarray:
        """(f, 58) float32; between frames in which it finds a face the others are interpolated."""
        found = [self._faces(crop) for crop in np.asarray(clip.crops)]
        seen = [number for number, row in enumerate(found) if row is not None]
        if not seen:
            raise InputError(f"{clip.name}: the face landmarker finds no face in the crops: leave the clip out")
        rows = np.stack([row for row in found if row is not None])
        columns = [np.interp(np.arange(len(clip)), seen, column) for column in rows.T]
        return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class LandmarkBasis:
    """Expression as coefficients of principal components of the landmarks about each clip's mean face, and the face's
    place in the plane: what stands for a 3DMM where neither a fitter nor blendshapes are."""

    components: np.ndarray  # (52, 956) float32, each divided by its standard deviation
    kind: str = "3dmm"
    width: int = COMPONENTS + SIMILARITY
    source: str = "PCA basis fitted on landmarks"

    @classmethod
    def fit(cls, clips: Sequence[ClipCrops]) -> LandmarkBasis:
        """InputError where the clips have too few frames with a face."""
        every = max(1, sum(map(len, clips)) // FITTED_FRAMES)
        moved = np.concatenate([_about_mean(clip)[clip.usable][::every] for clip in clips]) if clips else np.empty(0)
        if len(moved) < FEWEST_FRAMES:
            raise InputError(f"a basis of expressions needs {FEWEST_FRAMES} frames with a face, not {len(moved)}")
        variances, axes = np.linalg.eigh(moved.T @ moved / len(moved))  # rising
        largest = slice(-1, -COMPONENTS - 1, -1)
        return cls((axes[:, largest] / np.sqrt(np.maximum(variances[largest], 1e-12))).T.astype(np.float32))

    @property
    def digest(self) -> bytes:
        """See Representation."""
        return hashlib.blake2b(self.components.tobytes()).digest()

    def contents(self, clip: ClipCrops) -> bytes:
        """See Representation."""
        return np.ascontiguousarray(clip.landmarks).tobytes()

    def make(self, clip: ClipCrops) -> np.ndarray:
        """(f, 56) float32: coefficients about unit size, then turn (radians), log of the size, x and y over it."""
        rows = np.concatenate([_about_mean(clip) @ self.components.T, _places(np.asarray(clip.landmarks))], axis=1)
        return np.nan_to_num(rows).astype(np.float32)


def _about_mean(clip: ClipCrops) -> np.ndarray:
    """(f, 956) landmarks in the crop less the clip's mean; nan without a face."""
    shares = crop_landmarks(np.asarray(clip.landmarks)).reshape(len(clip), -1).astype(np.float64)
    return shares - shares[clip.usable].mean(axis=0)


def _places(landmarks: np.ndarray) -> np.ndarray:
    """(f, 4): turn, log of the face's height, place of the nose over it, less their means; nan without a face."""
    rows = np.full((len(landmarks), SIMILARITY), np.nan)
    for number, points in enumerate(landmarks):
        if not np.isnan(points[0, 0]):
            left, right, nose = anchor_points(points)
            height = face_height(points)
            rows[number] = (np.arctan2(*(right - left)[::-1]), np.log(height), *nose / height)
    return rows - np.nanmean(rows, axis=0)


def representation(
    kind: str, size: int, parser: str | None, landmarker: str | None, clips: Sequence[ClipCrops]
) -> Representation | None:
    """The representation of a name; None for rgb, which the crops are themselves.

    size: px of a parsing map; parser, landmarker: what makes parsing and 3dmm, else the landmarks do; clips: those to
    train on, on which a basis is fitted. InputError where something is missing.
    """
    if kind == "landmarks":
        return TrackedLandmarks()
    if kind == "parsing":
        return ParsedRegions(load_face_parser(parser), size) if parser else DrawnRegions(size)
    if kind == "3dmm":
        return Blendshapes(Path(landmarker)) if landmarker else LandmarkBasis.fit(clips)
    return None
