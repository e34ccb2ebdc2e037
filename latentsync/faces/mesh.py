"""The two face-mesh networks: the one bundled in mediapipe 0.10 and a `.task` file for mediapipe 1.x."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from latentsync.types import InputError

from .alignment import LANDMARKS
from .quiet import without_chatter
from .regions import Region, region_around

MESH_INPUT = 192  # px, the square the bundled network sees
TASK_INPUT = 256  # px, the square given to the landmarker, which finds the face in it once more
TASK_FACES = 4  # faces looked for in one picture
TASK_CONFIDENCE = 0.4  # below it the landmarker reports nothing
TASK_ANSWER_SCORE = 0.9  # of every face it reports: it tells no score of its own

# The bundled landmark network alone, without mediapipe's own face detector and its hidden tracking state.
MESH_GRAPH = f"""
input_stream: "image"
output_stream: "landmarks"
output_stream: "score"
node {{
  calculator: "ConstantSidePacketCalculator"
  output_side_packet: "PACKET:with_attention"
  options {{ [mediapipe.ConstantSidePacketCalculatorOptions.ext] {{ packet {{ bool_value: true }} }} }}
}}
node {{
  calculator: "FaceLandmarksModelLoader"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_side_packet: "MODEL:model"
}}
node {{ calculator: "TfLiteCustomOpResolverCalculator" output_side_packet: "OP_RESOLVER:operators" }}
node {{
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image"
  output_stream: "TENSORS:picture"
  options {{ [mediapipe.ImageToTensorCalculatorOptions.ext] {{
    output_tensor_width: {MESH_INPUT} output_tensor_height: {MESH_INPUT} output_tensor_float_range {{ min: 0 max: 1 }}
  }} }}
}}
node {{
  calculator: "InferenceCalculator"
  input_stream: "TENSORS:picture"
  output_stream: "TENSORS:answers"
  input_side_packet: "MODEL:model"
  input_side_packet: "OP_RESOLVER:operators"
  options {{ [mediapipe.InferenceCalculatorOptions.ext] {{ delegate {{ xnnpack {{}} }} }} }}
}}
node {{
  calculator: "SplitTensorVectorCalculator"
  input_stream: "answers"
  output_stream: "points"
  output_stream: "presence"
  options {{ [mediapipe.SplitVectorCalculatorOptions.ext] {{
    ranges {{ begin: 0 end: 6 }} ranges {{ begin: 6 end: 7 }}
  }} }}
}}
node {{
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:presence"
  output_stream: "FLOAT:score"
  options {{ [mediapipe.TensorsToFloatsCalculatorOptions.ext] {{ activation: SIGMOID }} }}
}}
node {{
  calculator: "TensorsToFaceLandmarksWithAttention"
  input_stream: "TENSORS:points"
  output_stream: "LANDMARKS:landmarks"
}}
"""


class MeshModel(Protocol):
    """A network that finds the 478 points of one face in a square picture."""

    input_size: int  # px of that square

    def mesh(self, picture: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Landmarks (478, 2) float64 px and a score in [0, 1], from (input_size, input_size, 3) uint8."""
        ...


class BundledMesh:
    """mediapipe 0.10's FaceMesh network with irises. Stateless: the same picture gives the same points."""

    input_size = MESH_INPUT

    def __init__(self) -> None:
        with without_chatter():
            mediapipe = bundled_mediapipe()
            from mediapipe.python import CalculatorGraph, packet_creator, packet_getter
            from mediapipe.python._framework_bindings import resource_util

            resource_util.set_resource_dir(str(Path(str(mediapipe.__file__)).parents[1]))
            self._packets, self._getter = packet_creator, packet_getter
            self._image_frame, self._srgb = mediapipe.ImageFrame, mediapipe.ImageFormat.SRGB
            self._graph = CalculatorGraph(graph_config=MESH_GRAPH)
            self._answers: dict[str, object] = {}
            for stream in ("landmarks", "score"):
                self._graph.observe_output_stream(stream, self._answers.__setitem__)
            self._graph.start_run()
            self._time = 0
            self.mesh(np.zeros((MESH_INPUT, MESH_INPUT, 3), np.uint8))  # the first run prints too

    def mesh(self, picture: np.ndarray) -> tuple[np.ndarray, float] | None:
        """See MeshModel."""
        frame = self._image_frame(image_format=self._srgb, data=np.ascontiguousarray(picture))
        self._answers.clear()
        self._graph.add_packet_to_input_stream("image", self._packets.create_image_frame(frame).at(self._time))
        self._graph.wait_until_idle()
        self._time += 1
        if "landmarks" not in self._answers:
            return None
        points = self._getter.get_proto(self._answers["landmarks"]).landmark
        return _pixels(points, MESH_INPUT, MESH_INPUT), float(self._getter.get_float(self._answers["score"]))


class TaskMesh:
    """The FaceLandmarker of mediapipe's tasks, from a `face_landmarker.task` file; finds faces and meshes alike."""

    input_size = TASK_INPUT

    def __init__(self, path: Path) -> None:
        with without_chatter():
            import mediapipe

            self._image, self._srgb = mediapipe.Image, mediapipe.ImageFormat.SRGB
            self._landmarker = face_landmarker(path, num_faces=TASK_FACES)
            self.meshes(np.zeros((TASK_INPUT, TASK_INPUT, 3), np.uint8))

    def meshes(self, image: np.ndarray) -> list[np.ndarray]:
        """Landmarks (478, 2) float64 px of every face that fills enough of image (h, w, 3) uint8."""
        picture = self._image(image_format=self._srgb, data=np.ascontiguousarray(image))
        found = self._landmarker.detect(picture).face_landmarks
        return [_pixels(points, image.shape[1], image.shape[0]) for points in found]

    def mesh(self, picture: np.ndarray) -> tuple[np.ndarray, float] | None:
        """See MeshModel; of several faces the one nearest to the middle."""
        found = self.meshes(picture)
        if not found:
            return None
        middle = (self.input_size - 1) / 2
        return min(found, key=lambda points: np.abs(points.mean(axis=0) - middle).sum()), TASK_ANSWER_SCORE

    def find(self, image: np.ndarray) -> list[Region]:
        """See finder.Finder."""
        return [region_around(points) for points in self.meshes(image)]


def face_landmarker(path: Path, **options: Any) -> Any:
    """mediapipe's FaceLandmarker of a `.task` file. options: of its FaceLandmarkerOptions

    InputError where the file is missing or none of its kind. To be called within `without_chatter`.
    """
    if not Path(path).is_file():
        raise InputError(f"The face landmarker file {path} does not exist; give the path of a face_landmarker.task.")
    from mediapipe.tasks.python import BaseOptions, vision

    try:
        return vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=Path(path).read_bytes()),
                min_face_detection_confidence=TASK_CONFIDENCE,
                min_face_presence_confidence=TASK_CONFIDENCE,
                **options,
            )
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a face landmarker file ({reason}); download it again.") from error


def bundled_mediapipe() -> ModuleType:
    """The mediapipe module. InputError where it is missing or has no bundled face models."""
    try:
        import mediapipe
    except ImportError as error:
        raise InputError("mediapipe is not installed; run: pip install 'mediapipe==0.10.21'.") from error
    if not hasattr(mediapipe, "solutions"):
        raise InputError(
            f"mediapipe {mediapipe.__version__} has no bundled face models; install mediapipe==0.10.21, or name a "
            "face_landmarker.task file in the environment variable LATENTSYNC_FACE_TASK."
        )
    return mediapipe


def _pixels(points, width: int, height: int) -> np.ndarray:
    """(478, 2) px with pixel centres at whole numbers, from mediapipe's points in shares of the picture."""
    assert len(points) == LANDMARKS, len(points)
    shares = np.array([(point.x, point.y) for point in points], np.float64)
    return shares * (width, height) - 0.5
