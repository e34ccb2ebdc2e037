"""Landmarks of every face in a picture, following the faces of the picture before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np

from .finder import BundledFinder, Finder, SearchSchedule, find_in_tiles, find_within
from .mesh import BundledMesh, MeshModel, TaskMesh
from .plausible import geometry_score
from .regions import Region, landmark_box, overlap, region_around

TASK_VARIABLE = "LATENTSYNC_FACE_TASK"  # environment variable that names a face_landmarker.task file
LOWEST_SCORE = 0.5  # of a mesh that counts as a face
SAME_FACE = 0.35  # overlap of two boxes that are one face found twice
FAR = 0.06  # of a region's side that a face may be off its middle and still be read as exactly as can be
MOST_FACES = 8  # followed at once, the largest ones
LOST_REACH = 2.5  # side of the neighbourhood searched for a lost face, over the side of its last region
NEIGHBOURHOOD = 256  # px, the size that a smaller neighbourhood is enlarged to before it is searched

Detection = tuple[np.ndarray, float]  # landmarks (478, 2) float32 px of the frame, score in [0, 1]


class LandmarkDetector(Protocol):
    """Finds faces in the pictures of a video, given in order."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Landmarks (478, 2) float32 px and score of every face in image (h, w, 3) uint8 RGB, largest first."""
        ...

    def reset(self) -> None:
        """The next picture has nothing to do with the one before (a cut, another video)."""
        ...


class FollowingDetector:
    """Follows each face with the mesh network alone, cut out by its last landmarks; searches only when it is due."""

    def __init__(self, mesh: MeshModel, finder: Finder) -> None:
        self._mesh, self._finder = mesh, finder
        self._schedules = {kind: SearchSchedule(kind) for kind in ("frame", "tiles")}
        self._regions: list[Region] = []

    def reset(self) -> None:
        """See LandmarkDetector."""
        self._regions = []
        for schedule in self._schedules.values():
            schedule.reset()

    def detect(self, image: np.ndarray) -> list[Detection]:
        """See LandmarkDetector."""
        followed = [(region, self._followed(image, region)) for region in self._regions]
        faces = _distinct([face for _, face in followed if face])
        lost = [region for region, face in followed if not face]
        faces = self._search(image, faces, lost)
        self._regions = [region_around(landmarks) for landmarks, _ in faces]
        return faces

    def _search(self, image: np.ndarray, faces: list[Detection], lost: list[Region]) -> list[Detection]:
        """`faces` and those found near the lost ones, in the whole frame and in tiles, as far as these are due."""
        for region in lost:
            faces = self._added(image, faces, _find_near(self._finder, image, region))
        due = {kind for kind, schedule in self._schedules.items() if schedule.due()}
        if lost and not faces:
            due.add("frame")
        if "frame" in due:
            faces = self._added(image, faces, self._finder.find(image))
        if "tiles" in due:
            faces = self._added(image, faces, find_in_tiles(self._finder, image))
        for kind in due:
            self._schedules[kind].searched(following=bool(faces))
        return faces

    def _added(self, image: np.ndarray, faces: list[Detection], regions: list[Region]) -> list[Detection]:
        """`faces` and those that the mesh network confirms in `regions`, without doubles."""
        for region in regions:
            rough = self._read(image, region)
            fine = rough and self._read(image, region_around(rough[0]))
            if fine:
                faces = _distinct([*faces, fine])
        return faces

    def _followed(self, image: np.ndarray, region: Region) -> Detection | None:
        """The face in `region`; read once more from around itself where it has moved far since `region` was."""
        face = self._read(image, region)
        if face is None:
            return None
        now = region_around(face[0])
        moved = max(abs(now.x - region.x), abs(now.y - region.y)) > FAR * region.side
        return self._read(image, now) if moved else face

    def _read(self, image: np.ndarray, region: Region) -> Detection | None:
        """The face in `region`, None where there is none that makes sense."""
        if region.side < 1:
            return None
        size = self._mesh.input_size
        answer = self._mesh.mesh(region.cut(image, size))
        if answer is None:
            return None
        landmarks, score = region.to_frame(answer[0], size), answer[1]
        score *= geometry_score(landmarks)
        return (landmarks, score) if score >= LOWEST_SCORE else None


class FaceMeshDetector(FollowingDetector):
    """The default: the networks bundled in mediapipe 0.10.

    Raises InputError where mediapipe is missing or has no bundled models.
    """

    def __init__(self) -> None:
        super().__init__(BundledMesh(), BundledFinder())


class LandmarkerTaskDetector(FollowingDetector):
    """mediapipe's FaceLandmarker from a `.task` file, also for mediapipe 1.x.

    Raises InputError where the file is missing or no landmarker.
    """

    def __init__(self, path: Path) -> None:
        landmarker = TaskMesh(path)
        super().__init__(landmarker, landmarker)


def default_detector() -> FollowingDetector:
    """The bundled networks, or the `.task` file that LATENTSYNC_FACE_TASK names. InputError where neither is there."""
    task = os.environ.get(TASK_VARIABLE)
    return LandmarkerTaskDetector(Path(task)) if task else FaceMeshDetector()


def _find_near(finder: Finder, image: np.ndarray, region: Region) -> list[Region]:
    """Regions of faces near the place where one was lost, enlarged for the search where they are small."""
    wide = region.grown(LOST_REACH)
    size = min(max(NEIGHBOURHOOD, round(wide.side)), 2 * NEIGHBOURHOOD)
    scale = wide.side / size
    found = find_within(finder, wide.cut(image, size), (0, 0, size, size))
    centres = [wide.to_frame(np.array([[near.x, near.y]]), size)[0] for near in found]
    return [
        Region(float(centre[0]), float(centre[1]), near.side * scale, near.angle)
        for centre, near in zip(centres, found, strict=True)
    ]


def _distinct(faces: list[Detection]) -> list[Detection]:
    """The largest faces, at most MOST_FACES, each once: of two on one place the one with the better score."""
    kept: list[tuple[tuple[float, float, float, float], Detection]] = []
    for face in sorted(faces, key=lambda face: -face[1]):
        box = landmark_box(face[0])
        if all(overlap(box, other) < SAME_FACE for other, _ in kept):
            kept.append((box, face))
    kept.sort(key=lambda entry: -(entry[0][2] - entry[0][0]) * (entry[0][3] - entry[0][1]))
    return [face for _, face in kept[:MOST_FACES]]
