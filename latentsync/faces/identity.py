"""Whose face it is: a 128-number embedding, and the face most like a reference photo's."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from latentsync.types import CheckpointError, Face, InputError

from .alignment import similarity, warp
from .detection import LandmarkDetector, default_detector
from .tracking import TrackedItem

FACE_SIZE = (96, 112)  # px (w, h) the network sees
EMBEDDING = 128
# Pupils, nose tip and mouth corners on a face of FACE_SIZE: the template the network was trained with.
TEMPLATE = ((30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041))
FIVE_POINTS = (468, 473, 1, 61, 291)  # the same five of the mesh
# Bottlenecks of the network: expansion, width, repeats, stride of the first (MobileFaceNet, arXiv 1804.07573, table 1).
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
SAME_PERSON = 0.35  # cosine from which two faces count as one person's; others lie around 0
Seen = tuple[TrackedItem, list[Face], str]
SAMPLES = 3  # frames of a track that are compared with the photo; their mean decides


class MobileFaceNet(nn.Module):
    """Faces (b, 3, 112, 96) in [-1, 1] -> embeddings (b, 128), not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _ConvUnit(3, 64, 3, stride=2)
        self.dw_conv1 = _ConvUnit(64, 64, 3, groups=64)
        blocks, width = [], 64
        for expansion, out_width, repeats, first_stride in BOTTLENECKS:
            for repeat in range(repeats):
                blocks.append(_Bottleneck(width, out_width, expansion, first_stride if repeat == 0 else 1))
                width = out_width
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = _ConvUnit(width, 512, 1)
        self.linear7 = _ConvUnit(512, 512, (7, 6), groups=512, linear=True)
        self.linear1 = _ConvUnit(512, EMBEDDING, 1, linear=True)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        hidden = self.blocks(self.dw_conv1(self.conv1(faces)))
        return self.linear1(self.linear7(self.conv2(hidden))).flatten(1)


class _ConvUnit(nn.Module):
    def __init__(self, width: int, out_width: int, kernel, stride: int = 1, groups: int = 1, linear: bool = False):
        super().__init__()
        padding = 1 if kernel == 3 else 0
        self.conv = nn.Conv2d(width, out_width, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_width)
        if not linear:
            self.prelu = nn.PReLU(out_width)
        self.linear = linear

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.bn(self.conv(hidden))
        return hidden if self.linear else self.prelu(hidden)


class _Bottleneck(nn.Module):
    def __init__(self, width: int, out_width: int, expansion: int, stride: int):
        super().__init__()
        inner = width * expansion
        self.residual = stride == 1 and width == out_width
        self.conv = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, out_width, 1, bias=False),
            nn.BatchNorm2d(out_width),
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.conv(hidden) if self.residual else self.conv(hidden)


def load_identity_network(path: Path) -> MobileFaceNet:
    """The network with the user's weights, a `.ckpt` of MobileFaceNet (112x96 -> 128). CheckpointError otherwise."""
    if not Path(path).is_file():
        raise CheckpointError(f"The identity weights {path} do not exist; give the path of a MobileFaceNet .ckpt file.")
    network = MobileFaceNet()
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(stored.get("net_state_dict", stored))
    except (RuntimeError, pickle.UnpicklingError, EOFError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} does not hold MobileFaceNet weights (112x96 -> 128): {reason}.") from error
    return network.eval().requires_grad_(False)


class IdentityEmbedder:
    """Unit-length embeddings of faces; the product of two is their likeness, 1 = the same face."""

    def __init__(self, weights: Path) -> None:
        self._network = load_identity_network(weights)

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """(128,) float32 from image (h, w, 3) uint8 RGB and landmarks (478, 2) px; mirrored and plain averaged."""
        points = landmarks[list(FIVE_POINTS)].astype(np.float64)
        face = warp(image, similarity(points, np.array(TEMPLATE)), FACE_SIZE)
        pixels = torch.from_numpy((face.astype(np.float32) - 127.5) / 128).permute(2, 0, 1)
        with torch.inference_mode():
            embedding = self._network(torch.stack([pixels, pixels.flip(-1)])).sum(dim=0)
        return nn.functional.normalize(embedding, dim=0).numpy()


class IdentityMatcher:
    """Chooses, among the faces of a video, the person on a reference photo.

    Each track is compared in its first few frames, on its way through `watch`; then its mean likeness stands.
    """

    def __init__(self, weights: Path, photo: Path, detector: LandmarkDetector | None = None) -> None:
        """InputError where `photo` is no picture or shows no face, CheckpointError for unusable `weights`."""
        self._embedder = IdentityEmbedder(weights)
        self._wanted = self._of_photo(Path(photo), detector or default_detector())
        self._likeness: dict[int, list[float]] = {}

    def watch(self, tracked: Iterable[Seen]) -> Iterator[Seen]:
        """What `tracking.track` yields, unchanged; the faces are compared with the photo on the way through."""
        for item, faces, reason in tracked:
            self.look(item.frame.image, faces)
            yield item, faces, reason

    def look(self, image: np.ndarray, faces: list[Face]) -> None:
        """Compare the faces in image (h, w, 3) uint8 RGB whose tracks are not known well enough yet."""
        for face in faces:
            known = self._likeness.setdefault(face.track, [])
            if len(known) < SAMPLES and face.score > 0:
                known.append(float(self._embedder.embed(image, face.landmarks) @ self._wanted))

    def choose(self, faces: list[Face], frame_size: tuple[int, int]) -> Face | None:
        """The person among `faces` that were looked at, None where nobody is; see `tracking.SpeakerChooser`."""
        best = max(faces, key=self.likeness, default=None)
        return best if best is not None and self.likeness(best) >= SAME_PERSON else None

    def likeness(self, face: Face) -> float:
        """Mean cosine of the face's track so far with the photo, in [-1, 1]; -1 where it was not compared yet."""
        known = self._likeness.get(face.track)
        return float(np.mean(known)) if known else -1.0

    def _of_photo(self, photo: Path, detector: LandmarkDetector) -> np.ndarray:
        import cv2

        if not photo.is_file():
            raise InputError(f"The reference photo {photo} does not exist; give the path of a picture.")
        picture = cv2.imdecode(np.frombuffer(photo.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise InputError(f"The reference photo {photo} is not a picture that can be read; give a JPEG or PNG.")
        image = np.ascontiguousarray(picture[..., ::-1])
        detector.reset()
        faces = detector.detect(image)
        detector.reset()
        if not faces:
            raise InputError(
                f"No face was found on the reference photo {photo}; give one that shows the speaker's face."
            )
        return self._embedder.embed(image, faces[0][0])
