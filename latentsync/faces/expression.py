"""Expression and pose of a face: 52 blendshapes and the head's turn and place, from mediapipe's face landmarker."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentsync.faces.alignment import FILL, crop_size
from latentsync.faces.mesh import face_landmarker
from latentsync.faces.quiet import without_chatter

BLENDSHAPES = 52
POSE = 6  # turn (rotation vector, radians), place (decimetres)
CENTIMETRES = 10.0  # the landmarker's unit of length, in a decimetre
INPUT_HEIGHT = 256  # px that a crop is brought to
BORDER = 0.5  # of that height, grey around the crop: the landmarker looks for a face within a picture


class FaceExpressions:
    """The coefficients of the face in an aligned crop. Stateless: the same picture gives the same numbers."""

    def __init__(self, path: Path) -> None:
        """path: a `face_landmarker.task` with blendshapes. InputError where it is none."""
        with without_chatter():
            import mediapipe

            self._image, self._srgb = mediapipe.Image, mediapipe.ImageFormat.SRGB
            self._landmarker = face_landmarker(
                path, output_face_blendshapes=True, output_facial_transformation_matrixes=True
            )
            self(np.zeros((INPUT_HEIGHT, INPUT_HEIGHT, 3), np.uint8))  # the first run prints too

    def __call__(self, crop: np.ndarray) -> np.ndarray | None:
        """crop: (r, r, 3) uint8 RGB, aligned -> (58,) float32: blendshapes in [0, 1], pose; None without a face."""
        import cv2

        width, height = crop_size(INPUT_HEIGHT)
        face = cv2.resize(np.ascontiguousarray(crop), (width * INPUT_HEIGHT // height, INPUT_HEIGHT))
        edge = round(BORDER * INPUT_HEIGHT)
        framed = cv2.copyMakeBorder(face, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(FILL, FILL, FILL))
        found = self._landmarker.detect(self._image(image_format=self._srgb, data=framed))
        if not found.face_blendshapes:
            return None
        shapes = [shape.score for shape in found.face_blendshapes[0]]
        matrix = np.asarray(found.facial_transformation_matrixes[0], np.float64)
        turn = cv2.Rodrigues(np.ascontiguousarray(matrix[:3, :3]))[0][:, 0]
        return np.array([*shapes, *turn, *matrix[:3, 3] / CENTIMETRES], np.float32)
