"""Tracks through gaps and cuts, steadiness, and the choice of the speaker, with a detector whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from latentsync.faces import tracking
from latentsync.faces.alignment import anchor_points
from latentsync.faces.cuts import CutDetector
from latentsync.faces.plausible import NO_FACE, OUTSIDE, TURNED_AWAY, geometry_score, unusable
from latentsync.faces.smoothing import PoseSmoother
from latentsync.types import Face, Frame

FPS = 25
HEIGHT, WIDTH = 240, 320


def mesh(x: float = 160.0, y: float = 120.0, size: float = 80.0, yaw: float = 0.0) -> np.ndarray:
    """A face of 478 points, the named ones in their places, `size` px wide around (x, y), turned by `yaw` radians."""
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-0.4, 0.4, (478, 2)), np.zeros(478)])  # across, down, towards the camera
    places = {10: (0, -0.6, 0), 152: (0, 0.6, 0), 234: (-0.5, 0, -0.3), 454: (0.5, 0, -0.3), 1: (0, 0.1, 0.25)}
    places |= {33: (-0.3, -0.2, 0), 263: (0.3, -0.2, 0), 468: (-0.2, -0.2, 0), 473: (0.2, -0.2, 0)}
    places |= {13: (0, 0.3, 0.05), 14: (0, 0.33, 0.05), 5: (0, 0.05, 0.2), 48: (-0.08, 0.1, 0), 278: (0.08, 0.1, 0)}
    places |= {index: (-0.2, -0.35, 0) for index in (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)}
    places |= {index: (0.2, -0.35, 0) for index in (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)}
    for index, place in places.items():
        points[index] = place
    across = points[:, 0] * np.cos(yaw) + points[:, 2] * np.sin(yaw)
    return (np.column_stack([across, points[:, 1]]) * size + (x, y)).astype(np.float32)


def face(number: int, x: float, y: float = 100.0, size: float = 40.0) -> Face:
    landmarks = np.full((478, 2), (x, y), np.float32)
    return Face((x - size / 2, y - size / 2, x + size / 2, y + size / 2), landmarks, number)


@dataclass
class Item:
    frame: Frame
    joint: bool = False
    dub: bool = True


class ScriptedDetector:
    """Says what it is told for every frame, and remembers where it was reset."""

    def __init__(self, script):
        self.script, self.place, self.resets = script, 0, []

    def detect(self, image):
        answer = self.script[self.place]
        self.place += 1
        return [(landmarks, 1.0) for landmarks in answer]

    def reset(self):
        self.resets.append(self.place)


def scene(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def items(count: int, scenes=None, **marks) -> list[Item]:
    images = [scene(0)] * count if scenes is None else [scene(number) for number in scenes]
    made = [Item(Frame(index, index / FPS, image)) for index, image in enumerate(images)]
    for name, indices in marks.items():
        for index in indices:
            setattr(made[index], name, name == "joint")
    return made


def run(script, frames, max_gap=10):
    return list(tracking.track(frames, ScriptedDetector(script), max_gap))


def tracks(answer) -> list[list[int]]:
    return [[found.track for found in faces] for _, faces, _ in answer]


def test_a_short_gap_is_bridged_on_a_straight_line():
    script = [[mesh(100 + 4 * frame)] if not 3 <= frame < 7 else [] for frame in range(12)]
    answer = run(script, items(12))
    assert tracks(answer) == [[0]] * 12
    assert [entry[0].frame.index for entry in answer] == list(range(12))
    for frame in range(3, 7):
        bridged = answer[frame][1][0]
        assert bridged.score == 0 and answer[frame][2] == ""
        expected = mesh(100 + 4 * frame)
        assert np.abs(bridged.landmarks - expected).mean() < 3
        assert bridged.box[0] == pytest.approx(bridged.landmarks[:, 0].min())


def test_a_long_gap_ends_the_track_and_says_why():
    script = [[mesh()] if not 3 <= frame < 14 else [] for frame in range(17)]
    answer = run(script, items(17), max_gap=10)
    assert tracks(answer) == [[0]] * 3 + [[]] * 11 + [[1]] * 3
    assert all(reason == NO_FACE for _, _, reason in answer[3:14])


def test_the_gap_is_not_bridged_across_a_cut():
    script = [[mesh()]] * 4 + [[]] * 2 + [[mesh()]] * 4
    answer = run(script, items(10, scenes=[1] * 5 + [2] * 5))
    assert tracks(answer) == [[0]] * 4 + [[]] * 2 + [[1]] * 4


def test_a_joint_starts_a_new_track_and_resets_the_detector():
    detector = ScriptedDetector([[mesh()]] * 6)
    answer = list(tracking.track(items(6, joint=[3]), detector))
    assert tracks(answer) == [[0]] * 3 + [[1]] * 3
    assert detector.resets == [0, 3]


def test_scene_cuts_are_told_and_joints_are_not():
    told: list[int] = []
    shown = items(20, scenes=[1] * 4 + [2] * 4 + [3] * 4 + [4] * 8, joint=[8], dub=[10, 11, 12])
    detector = ScriptedDetector([[mesh()]] * 17)
    answer = list(tracking.track(shown, detector, on_cut=lambda item: told.append(item.frame.index)))
    assert told == [4], "8 is a joint, and behind what is not dubbed nothing can be compared"
    numbers = [faces[0].track if faces else None for _, faces, _ in answer]
    assert numbers == [0] * 4 + [1] * 4 + [2] * 2 + [None] * 3 + [3] * 7


def test_frames_that_are_not_dubbed_are_not_searched():
    detector = ScriptedDetector([[mesh()]] * 4)
    answer = list(tracking.track(items(6, dub=[2, 3]), detector))
    assert tracks(answer) == [[0], [0], [], [], [1], [1]]
    assert answer[2][2] == tracking.NOT_DUBBED and detector.place == 4


def test_two_people_keep_their_numbers_while_one_blinks_out():
    script = [[mesh(80, size=70), mesh(240, size=60)] for _ in range(9)]
    script[4] = [mesh(240, size=60)]
    script[5] = [mesh(240, size=60), mesh(80, size=70)]  # the order of the detector does not matter
    answer = run(script, items(9))
    assert [sorted(numbers) for numbers in tracks(answer)] == [[0, 1]] * 9
    for _, faces, _ in answer:
        assert {round((found.box[0] + found.box[2]) / 2 / 80) for found in faces if found.track == 0} == {1}


def test_a_face_elsewhere_is_another_track():
    script = [[mesh(80)]] * 3 + [[mesh(240)]] * 3
    assert tracks(run(script, items(6), max_gap=1)) == [[0]] * 3 + [[1]] * 3


def test_a_profile_ends_the_track_and_is_not_bridged():
    script = [[mesh()]] * 3 + [[mesh(yaw=1.4)]] * 2 + [[mesh()]] * 3
    answer = run(script, items(8))
    assert tracks(answer) == [[0]] * 3 + [[]] * 2 + [[1]] * 3
    assert answer[3][2] == TURNED_AWAY


def test_few_frames_are_kept_back():
    given = 0

    def counted():
        nonlocal given
        for item in items(60):
            given += 1
            yield item

    script = [[mesh()] if frame % 20 < 12 else [] for frame in range(60)]
    for place, _ in enumerate(tracking.track(counted(), ScriptedDetector(script), 10)):
        assert given - place <= 11


def test_reasons():
    assert unusable(mesh(), 1.0, (WIDTH, HEIGHT)) == ""
    assert unusable(mesh(x=-10), 1.0, (WIDTH, HEIGHT)) == OUTSIDE
    assert unusable(mesh(y=230), 1.0, (WIDTH, HEIGHT)) == OUTSIDE
    assert unusable(mesh(yaw=-1.4), 1.0, (WIDTH, HEIGHT)) == TURNED_AWAY
    assert unusable(mesh(yaw=0.6), 1.0, (WIDTH, HEIGHT)) == ""
    assert "small" in unusable(mesh(size=10), 1.0, (WIDTH, HEIGHT))


def test_geometry_tells_faces_from_nonsense():
    assert geometry_score(mesh()) == 1
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]], np.float32)
    assert geometry_score(mesh() @ turn.T) == 1
    flipped = mesh()
    flipped[152] -= (0, 150)  # a chin above the brows
    assert geometry_score(flipped) == 0
    assert geometry_score(np.zeros((478, 2), np.float32)) == 0


def anchors_over_time(places: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    smoother = PoseSmoother()
    found, steady = [], []
    for index, place in enumerate(places):
        jitter = rng.normal(0, noise, (3, 2))
        landmarks = mesh(x=160 + place)
        for point in range(478):
            landmarks[point] += jitter[point % 3]
        found.append(anchor_points(landmarks))
        steady.append(anchor_points(smoother.smooth(landmarks, index / FPS)))
    return np.array(found), np.array(steady)


def test_a_head_at_rest_is_steadied():
    found, steady = anchors_over_time(np.zeros(80), noise=0.3)
    trembling, rest = (np.abs(np.diff(points[10:], axis=0)).mean() for points in (found, steady))
    assert rest < 0.6 * trembling


def test_a_fast_head_is_followed_without_lag():
    places = 30 * np.sin(2 * np.pi * 1.5 * np.arange(80) / FPS)  # 8 face widths a second at most
    found, steady = anchors_over_time(places, noise=0.1)
    velocity = np.gradient(places) * FPS
    behind = (found - steady).mean(axis=1)[:, 0]
    lag = float((behind * velocity).sum() / (velocity**2).sum())  # seconds
    assert abs(lag) < 0.006
    assert np.abs(behind).max() < 0.04 * 80


def test_steadying_works_on_a_video_played_backwards():
    rng = np.random.default_rng(0)
    noisy = [mesh() + rng.normal(0, 0.5, 2).astype(np.float32) for _ in range(40)]
    forwards, backwards = PoseSmoother(), PoseSmoother()
    one = [forwards.smooth(landmarks, index / FPS) for index, landmarks in enumerate(noisy)]
    other = [backwards.smooth(landmarks, -index / FPS) for index, landmarks in enumerate(noisy)]
    np.testing.assert_array_equal(one, other)
    assert np.isfinite(backwards.smooth(noisy[0], -39 / FPS)).all()  # a picture that is held


def test_smoothing_leaves_the_lips_alone():
    smoother, gaps = PoseSmoother(), []
    for index in range(40):
        landmarks = mesh()
        landmarks[14, 1] += 5 * (index % 2)  # a mouth that opens and closes every frame
        smoothed = smoother.smooth(landmarks, index / FPS)
        gaps.append(smoothed[14, 1] - smoothed[13, 1] - (landmarks[14, 1] - landmarks[13, 1]))
    assert np.abs(gaps).max() < 0.05


def count_cuts(images) -> list[int]:
    detector = CutDetector()
    return [index for index, image in enumerate(images) if detector.update(image)]


def test_hard_cuts_are_found_where_they_are():
    images = [scene(number // 8) for number in range(48)]
    assert count_cuts(images) == [8, 16, 24, 32, 40]


def test_motion_noise_and_flashes_are_no_cuts():
    rng = np.random.default_rng(0)
    wide = cv2.resize(rng.integers(0, 255, (6, 40, 3), dtype=np.uint8), (1600, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pan = [wide[:, 12 * step : 12 * step + WIDTH] for step in range(60)]
    assert count_cuts(pan) == []
    flash = [scene(3)] * 20
    flash[10] = np.clip(scene(3).astype(float) * 1.4 + 30, 0, 255).astype(np.uint8)
    flash[15] = (scene(3) // 2).astype(np.uint8)
    assert count_cuts(flash) == []
    noisy = [np.clip(scene(4) + rng.normal(0, 25, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8) for _ in range(15)]
    assert count_cuts(noisy) == []


def test_real_clips_joined_are_cut_at_the_joints_only(clips_dir):
    import av

    images, joints = [], []
    for name in ("grid_lbax4n.mpg", "syncnet_example.avi", "grid_lwbsza.mpg", "pcavs_vox2_pose_00067.mp4"):
        joints.append(len(images))
        with av.open(str(clips_dir / name)) as container:
            for _, frame in zip(range(12), container.decode(video=0), strict=False):
                images.append(frame.to_ndarray(format="rgb24"))
    assert count_cuts(images) == joints[1:]


SIZE = (WIDTH, HEIGHT)


def chosen(chooser, *shots) -> list[int | None]:
    answers = [chooser.choose(faces, SIZE) for faces in shots]
    return [None if answer is None else answer.track for answer in answers]


def test_the_largest_is_kept_while_its_track_lasts():
    before = [face(0, 60, size=60), face(1, 200, size=40)]
    after = [face(0, 60, size=40), face(1, 200, size=70)]
    assert chosen(tracking.SpeakerChooser(), before, after, [], after, [face(1, 200)]) == [0, 0, None, 0, 1]


def test_by_index_counts_sizes_at_the_start_of_a_shot():
    first = [face(0, 60, size=60), face(1, 200, size=40)]
    grown = [face(0, 60, size=30), face(1, 200, size=70)]
    second = [face(2, 100, size=20), face(3, 250, size=50)]
    chooser = tracking.SpeakerChooser(1)
    assert chosen(chooser, first, grown, second, [face(3, 250, size=50)]) == [1, 1, 2, None]
    assert chosen(tracking.SpeakerChooser(5), first) == [None]


def test_a_chosen_person_who_returns_is_taken_up_again_and_nobody_else():
    other = face(0, 60, size=60)
    chooser = tracking.SpeakerChooser(1)
    there, away, back = [other, face(1, 200)], [other], [other, face(7, 205)]
    assert chosen(chooser, there, away, back) == [1, None, 7]


def test_by_point():
    faces = [face(0, 60, size=60), face(1, 200, size=40)]
    assert chosen(tracking.SpeakerChooser((205.0, 95.0)), faces, faces) == [1, 1]
    assert chosen(tracking.SpeakerChooser((310.0, 230.0)), [face(0, 60)]) == [None]
