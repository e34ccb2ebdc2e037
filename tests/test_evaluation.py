"""Picture and timing measures against closed forms and known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from latentsync.evaluation import quality, timing
from latentsync.evaluation.mouths import MouthTrack
from latentsync.types import AUDIO_SAMPLE_RATE


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """(256, 256, 3) float: white grey noise, whose spectrum is flat."""
    grey = np.random.default_rng(0).normal(128, 20, (256, 256, 1))
    return np.repeat(grey, 3, axis=2)


def test_psnr_of_known_errors_inside_and_outside_a_region() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    made = image.copy()
    made[:4] += 10
    region = np.zeros((8, 8), bool)
    region[:4] = True
    assert quality.psnr(made, image, region) == pytest.approx(10 * np.log10(255**2 / 100))
    assert quality.psnr(made, image) == pytest.approx(10 * np.log10(255**2 / 50))
    assert quality.psnr(made, image, ~region) == float("inf")
    assert np.isnan(quality.psnr(made, image, np.zeros((8, 8), bool)))


def test_psnr_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    first, second = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    assert quality.psnr(first, second) == pytest.approx(cv2.PSNR(first, second))


def test_psnr_of_several_frames_pools_errors_not_decibels() -> None:
    error = quality.RegionError()
    for level in (0, 10):
        error.add(np.full((4, 4, 3), level, np.uint8), np.zeros((4, 4, 3), np.uint8))
    assert error.psnr == pytest.approx(10 * np.log10(255**2 / 50))


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_sharpness_of_blurred_white_noise_is_what_the_spectrum_says(noise: np.ndarray, sigma: float) -> None:
    frequency = 2 * np.pi * np.fft.fftfreq(256)
    laplacian = 2 * np.cos(frequency)[:, None] + 2 * np.cos(frequency)[None] - 4
    kernel = ndimage.gaussian_filter1d(np.eye(256)[128], sigma)
    blur = np.abs(np.fft.fft(kernel))[:, None] * np.abs(np.fft.fft(kernel))[None]
    expected = ((laplacian * blur) ** 2).mean() / (laplacian**2).mean()
    blurred = ndimage.gaussian_filter(noise, (sigma, sigma, 0))
    assert quality.sharpness(blurred) / quality.sharpness(noise) == pytest.approx(expected, rel=0.15)


def test_sharpness_ignores_brightness_and_squares_contrast(noise: np.ndarray) -> None:
    assert quality.sharpness(noise + 50) == pytest.approx(quality.sharpness(noise))
    assert quality.sharpness(128 + (noise - 128) / 2) == pytest.approx(quality.sharpness(noise) / 4)
    assert np.isnan(quality.sharpness(noise[:2]))


@given(st.lists(st.floats(-50, 90), min_size=4, max_size=4))
def test_pixel_boxes_stay_inside_the_frame(edges: list[float]) -> None:
    left, right = sorted(edges[:2])
    top, bottom = sorted(edges[2:])
    found = quality.pixel_box((left, top, right, bottom), (40, 30))
    assert 0 <= found[0] <= found[2] <= 40 and 0 <= found[1] <= found[3] <= 30


def test_joint_ratio_tells_a_jump_from_steady_movement() -> None:
    changes = np.full(40, 2.0)
    changes[0] = np.nan
    joints = np.arange(40) % 8 == 0
    assert quality.joint_ratio(changes, joints) == pytest.approx(1.0)
    changes[8::8] = 3.0
    assert quality.joint_ratio(changes, joints) == pytest.approx(1.5)
    assert np.isnan(quality.joint_ratio(changes, np.zeros(40, bool)))


def synthetic_track(frames: int, centre: float, width: float) -> MouthTrack:
    """A still, upright face in the published proportions, `width` px wide in the aligned crop's units."""
    scale = width / 75
    anchors = np.array([[17, 20], [58, 20], [37.5, 40]]) * scale + centre - 37.5 * scale
    boxes = np.tile(np.array([centre - 10, centre + 5, centre + 10, centre + 20]), (frames, 1))
    return MouthTrack(np.arange(frames) / 25, np.zeros(frames), boxes, np.tile(anchors, (frames, 1, 1)))


def test_the_touched_region_is_the_published_mask_put_back() -> None:
    from latentsync.faces import alignment, masks

    track, size = synthetic_track(2, 150.0, 120.0), (300, 320)
    matrix = alignment.Aligner(masks.MASK_RESOLUTION).matrix(track.anchors[0])
    region = track.touched(0, size)
    seen = alignment.crop(np.repeat(region[..., None], 3, 2).astype(np.uint8) * 255, matrix, masks.MASK_RESOLUTION)
    mask = masks.inpaint_mask(masks.MASK_RESOLUTION) > 0
    assert (seen[..., 0] > 127)[mask].all()
    assert (seen[..., 0] > 127).sum() < 1.5 * mask.sum()
    track.anchors[1] = np.nan
    assert not track.touched(1, size).any()


def ledger(frames: list[tuple[np.ndarray, np.ndarray]], track: MouthTrack) -> quality.Comparison:
    sums = quality._Ledger(track)
    for index, (original, made) in enumerate(frames):
        sums.add(index, original, made)
    return sums.close()


def test_a_comparison_separates_mouth_and_surroundings() -> None:
    track = synthetic_track(3, 60.0, 40.0)
    rng = np.random.default_rng(3)
    frames = []
    for index in range(3):
        original = rng.integers(0, 200, (120, 120, 3), np.uint8)
        made = original.copy()
        made[65:80, 50:70] = 90 + 20 * index
        frames.append((original, made))
    found = ledger(frames, track)
    assert found.frames == 3 and found.psnr_outside == float("inf")
    assert found.psnr_mouth < 20 and found.sharpness_share == pytest.approx(0.0, abs=1e-6)
    assert found.changes[1:] == pytest.approx([20, 20]) and np.isnan(found.changes[0])
    same = ledger([(original, original) for original, _ in frames], track)
    assert same.sharpness_share == pytest.approx(1.0) and same.edit_changes[1:] == pytest.approx([0, 0])


@settings(max_examples=20)
@given(st.integers(-3000, 3000))
def test_audio_offset_finds_a_shift_to_the_sample(shift: int) -> None:
    speech = np.random.default_rng(4).normal(size=AUDIO_SAMPLE_RATE)
    later = np.concatenate([np.zeros(max(shift, 0)), speech[max(-shift, 0) :]])
    found = timing.offset_between(later, speech)
    assert found.seconds == pytest.approx(shift / AUDIO_SAMPLE_RATE)
    assert found.agreement == pytest.approx(1.0)


def test_audio_offset_of_another_recording_does_not_agree() -> None:
    first, second = np.random.default_rng(6).normal(size=(2, AUDIO_SAMPLE_RATE))
    assert timing.offset_between(first, second).agreement < 0.1
    with pytest.raises(ValueError, match="silent"):
        timing.offset_between(first, np.zeros(100))
