"""Detection on real clips: every frame, small faces, several faces, both mediapipe interfaces, and who it is."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch

from latentsync.faces import alignment, detection, finder, lips, masks, mesh, quiet, regions, tracking
from latentsync.types import CheckpointError, Face, Frame, InputError

CLIPS = ("grid_lbax4n.mpg", "videoretalking_face5_hq.mp4", "real3dportrait_May_5s.mp4", "pcavs_vox2_pose_00473.mp4")


@pytest.fixture(scope="module")
def bundled():
    return detection.FaceMeshDetector()


@pytest.fixture(scope="module")
def frames(clips_dir):
    """A few frames of some clips, by name: every 12th of the first 37."""
    found = {}
    for name in CLIPS:
        with av.open(str(clips_dir / name)) as container:
            pictures = [frame for _, frame in zip(range(37), container.decode(video=0), strict=False)]
        found[name] = [frame.to_ndarray(format="rgb24") for frame in pictures[::12]]
    return found


def landmarks_of(detector, image) -> np.ndarray:
    detector.reset()
    return detector.detect(image)[0][0]


def on_canvas(image: np.ndarray, landmarks: np.ndarray, width: float, size: tuple[int, int], at: tuple[int, int]):
    """`image` shrunken until its face is `width` px wide, on a large canvas; and where its landmarks then lie."""
    scale = width / np.ptp(landmarks[:, 0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    canvas = rng.normal(110, 6, (size[1], size[0], 3)).astype(np.uint8)
    canvas[at[1] : at[1] + len(small), at[0] : at[0] + small.shape[1]] = small
    return canvas, (landmarks + 0.5) * scale - 0.5 + at


def test_every_frame_has_its_face_and_the_lips_lie_in_the_mask(bundled, frames):
    mask = masks.inpaint_mask(256)
    heights = []
    for images in frames.values():
        bundled.reset()
        for image in images:
            ((landmarks, score),) = bundled.detect(image)
            assert landmarks.shape == (478, 2) and landmarks.dtype == np.float32 and score > 0.9
            matrix = alignment.Aligner(256).matrix(alignment.anchor_points(landmarks))
            square = (landmarks @ matrix[:, :2].T + matrix[:, 2]) * 256 / np.array(alignment.crop_size(256))
            lip_points = np.rint(square[list(lips.OUTER_LIP)]).astype(int)
            assert (mask[lip_points[:, 1], lip_points[:, 0]] == 1).all()
            heights.append(square[lips.NOSE_BASE, 1])
    # The mask's notch ends at 127: the base of the nose lies there, above what is made anew.
    assert np.mean(heights) == pytest.approx(126.9, abs=3) and np.std(heights) < 5


@pytest.mark.parametrize(("size", "width"), [((1280, 720), 90), ((1280, 720), 40), ((1920, 1080), 45)])
def test_small_faces_in_large_frames(bundled, frames, size, width):
    image = frames["videoretalking_face5_hq.mp4"][0]
    canvas, expected = on_canvas(image, landmarks_of(bundled, image), width, size, at=(size[0] - 300, size[1] // 3))
    bundled.reset()
    for _ in range(2):  # searched, then followed
        ((landmarks, score),) = bundled.detect(canvas)
        assert np.abs(landmarks - expected).mean() < 0.03 * width and score > 0.9


def test_several_faces_largest_first(bundled, frames):
    small, large = frames["grid_lbax4n.mpg"][0], frames["real3dportrait_May_5s.mp4"][0]
    canvas = np.full((512, 900, 3), 90, np.uint8)
    canvas[:, :512] = large
    canvas[100 : 100 + small.shape[0], 530 : 530 + small.shape[1]] = small[:, :370]
    bundled.reset()
    boxes = [regions.landmark_box(landmarks) for landmarks, _ in bundled.detect(canvas)]
    assert len(boxes) == 2 and boxes[0][2] < 512 < boxes[1][0]


def test_a_real_clip_is_tracked_through_a_gap_and_split_at_a_cut(bundled, clips_dir):
    images = []
    for name in ("grid_lbax4n.mpg", "grid_sbwe5n.mpg"):
        with av.open(str(clips_dir / name)) as container:
            images += [
                frame.to_ndarray(format="rgb24") for _, frame in zip(range(12), container.decode(video=0), strict=False)
            ]
    left, top, right, bottom = (int(edge) for edge in regions.landmark_box(landmarks_of(bundled, images[5])))
    for image in images[5:8]:
        image[top - 20 : bottom + 10, left:right] = 110  # something passes before the face
    shown = [SimpleNamespace(frame=Frame(i, i / 25, image), joint=False, dub=True) for i, image in enumerate(images)]
    answer = [[(face.track, face.score == 0) for face in faces] for _, faces, _ in tracking.track(shown, bundled)]
    assert answer == [[(0, False)]] * 5 + [[(0, True)]] * 3 + [[(0, False)]] * 4 + [[(1, False)]] * 12


def test_a_face_that_jumps_is_found_again_at_once(bundled, frames):
    image = frames["grid_lbax4n.mpg"][0]
    bundled.reset()
    first = bundled.detect(image)[0][0]
    ((second, _),) = bundled.detect(np.ascontiguousarray(np.roll(image, -60, axis=1)))
    assert (first - second)[:, 0].mean() == pytest.approx(60, abs=2)


def test_pictures_without_a_face_have_none(bundled):
    rng = np.random.default_rng(0)
    bundled.reset()
    for image in (np.zeros((288, 360, 3), np.uint8), rng.integers(0, 255, (288, 360, 3), dtype=np.uint8)):
        assert bundled.detect(image) == []


def test_the_task_file_gives_the_same_points(bundled, frames, weights_dir):
    task = detection.LandmarkerTaskDetector(weights_dir / "mediapipe_face_landmarker_v2_with_blendshapes.task")
    for name in CLIPS[:2]:
        image = frames[name][0]
        expected = landmarks_of(bundled, image)
        found = landmarks_of(task, image)
        assert found.shape == (478, 2)
        assert np.abs(found - expected).mean() < 0.03 * np.ptp(expected[:, 0])


def test_unusable_task_files_are_named(tmp_path, monkeypatch):
    missing, wrong = tmp_path / "none.task", tmp_path / "wrong one.task"
    wrong.write_bytes(b"no zip archive")
    for path in (missing, wrong):
        with pytest.raises(InputError, match=path.name):
            detection.LandmarkerTaskDetector(path)
    monkeypatch.setenv(detection.TASK_VARIABLE, str(missing))
    with pytest.raises(InputError, match=r"none\.task"):
        detection.default_detector()


def test_mediapipe_without_models_says_what_to_do(monkeypatch):
    import mediapipe

    monkeypatch.delattr(mediapipe, "solutions")
    with pytest.raises(InputError, match=r"0\.10\.21.*LATENTSYNC_FACE_TASK"):
        mesh.bundled_mediapipe()


class CountingFinder:
    """Finds nothing and counts how often it was asked for whole frames and for tiles."""

    def __init__(self):
        self.whole = self.tile = 0

    def find(self, image):
        whole = image.shape[1] == 1280
        self.whole, self.tile = self.whole + whole, self.tile + (not whole)
        return []


class BlindMesh:
    input_size = 192

    def mesh(self, picture):
        return None


def test_searching_backs_off_where_there_is_nobody():
    counting = CountingFinder()
    detector = detection.FollowingDetector(BlindMesh(), counting)
    image = np.zeros((720, 1280, 3), np.uint8)
    for _ in range(250):
        detector.detect(image)
    tiles = len(regions.tiles(1280, 720, finder.TILE, finder.TILE * finder.TILE_OVERLAP))
    assert 25 <= counting.whole <= 60
    assert 4 <= counting.tile / tiles <= 12
    counting.tile = 0
    detector.reset()
    detector.detect(image)
    assert counting.tile == tiles


def test_tiles_cover_the_frame_and_overlap():
    for width, height in ((1280, 720), (1080, 1920), (3840, 2160), (500, 490)):
        covered = np.zeros((height, width), int)
        for left, top, right, bottom in regions.tiles(width, height, 480, 80):
            covered[top:bottom, left:right] += 1
        assert covered.min() >= 1
    columns = sorted({tile[0] for tile in regions.tiles(1280, 720, 480, 80)})
    assert max(np.diff(columns)) <= 400


def test_regions_carry_points_to_the_frame_and_back():
    region = regions.Region(310.0, 205.0, 90.0, angle=0.4)
    points = np.random.default_rng(0).uniform(0, 192, (20, 2))
    matrix = region.matrix(192)
    there = region.to_frame(points, 192)
    np.testing.assert_allclose(there @ matrix[:, :2].T + matrix[:, 2], points, atol=1e-3)
    right = region.to_frame(np.array([[191.0, 95.5]]), 192)[0] - region.to_frame(np.array([[0.0, 95.5]]), 192)[0]
    assert np.arctan2(right[1], right[0]) == pytest.approx(0.4, abs=1e-3)


def test_start_up_is_silent_but_others_errors_are_kept():
    code = (
        "import numpy, os\n"
        "from latentsync.faces.detection import FaceMeshDetector\n"
        "from latentsync.faces.quiet import without_chatter\n"
        "FaceMeshDetector().detect(numpy.zeros((64, 64, 3), 'uint8'))\n"
        "with without_chatter():\n"
        "    os.write(2, b'W0000 00:00 1 inference_feedback_manager.cc:114] chatter\\nsomebody failed\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "somebody failed\n" and done.stdout == ""


def test_chatter_filter_restores_standard_error_after_a_failure():
    before = os.fstat(2)
    with pytest.raises(RuntimeError), quiet.without_chatter():
        raise RuntimeError
    assert os.fstat(2).st_ino == before.st_ino


@pytest.fixture(scope="module")
def identity_weights(weights_dir):
    return weights_dir / "mobilefacenet_pytorch_068.ckpt"


def test_the_same_person_is_nearer_than_any_other(bundled, frames, identity_weights):
    from latentsync.faces.identity import SAME_PERSON, IdentityEmbedder

    embedder = IdentityEmbedder(identity_weights)
    people = [
        [embedder.embed(image, landmarks_of(bundled, image)) for image in (images[0], images[-1])]
        for images in frames.values()
    ]
    first, last = (np.stack([person[moment] for person in people]) for moment in (0, 1))
    likeness = first @ last.T
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    others = likeness[~np.eye(len(people), dtype=bool)]
    assert np.diag(likeness).min() > 0.6 > SAME_PERSON > others.max()


def test_the_person_on_the_photo_is_chosen(bundled, frames, identity_weights, tmp_path):
    from latentsync.faces.identity import IdentityMatcher

    wanted, other = frames["real3dportrait_May_5s.mp4"], frames["videoretalking_face5_hq.mp4"]
    photo = tmp_path / "the speaker's photo.png"
    assert cv2.imwrite(str(photo), wanted[0][..., ::-1])
    matcher = IdentityMatcher(identity_weights, photo, bundled)
    canvas = np.concatenate([other[1], np.pad(wanted[3], ((0, 12), (0, 0), (0, 0)))], axis=1)
    bundled.reset()
    faces = [
        Face(regions.landmark_box(landmarks), landmarks, track)
        for track, (landmarks, _) in enumerate(bundled.detect(canvas))
    ]
    assert len(faces) == 2
    item = SimpleNamespace(frame=Frame(0, 0.0, canvas))
    assert list(matcher.watch([(item, faces, "")])) == [(item, faces, "")]
    answer = matcher.choose(faces, canvas.shape[1::-1])
    assert answer is not None and answer.box[0] > other[1].shape[1]
    assert matcher.choose([found for found in faces if found is not answer], canvas.shape[1::-1]) is None


def test_unusable_identity_input_is_named(bundled, identity_weights, tmp_path):
    from latentsync.faces.identity import IdentityMatcher, load_identity_network

    wrong, broken = tmp_path / "wrong.ckpt", tmp_path / "broken.ckpt"
    torch.save({"net_state_dict": {"layer": torch.zeros(3)}}, wrong)
    broken.write_bytes(b"nothing")
    for path in (wrong, broken, tmp_path / "missing.ckpt"):
        with pytest.raises(CheckpointError, match=path.name):
            load_identity_network(path)
    text, blank = tmp_path / "text.png", tmp_path / "blank.png"
    text.write_text("not a picture")
    cv2.imwrite(str(blank), np.zeros((200, 200, 3), np.uint8))
    for photo, reason in ((text, "not a picture"), (blank, "No face"), (tmp_path / "gone.png", "does not exist")):
        with pytest.raises(InputError, match=reason):
            IdentityMatcher(identity_weights, photo, bundled)
