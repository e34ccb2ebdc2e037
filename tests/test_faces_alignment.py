"""Alignment, mask and lip measures against the published implementation's stored answers and known geometry."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from latentsync.faces import alignment, lips, masks


@pytest.fixture(scope="module")
def affine(parity_dir):
    return load_file(parity_dir / "affine_256_io.safetensors")


def template(resolution: int) -> np.ndarray:
    return alignment.TEMPLATE * alignment.TEMPLATE_SCALE * resolution / 256


def test_matrices_match_the_published_sequence(affine):
    aligner = alignment.Aligner(256)
    for anchors, expected in zip(affine["landmarks"], affine["matrices"], strict=True):
        np.testing.assert_allclose(aligner.matrix(anchors), expected, atol=1e-3)


def test_memory_of_the_frame_before_matters_and_reset_forgets_it(affine):
    aligner = alignment.Aligner(256)
    first = aligner.matrix(affine["landmarks"][0])
    second = aligner.matrix(affine["landmarks"][1])
    aligner.reset()
    assert np.abs(aligner.matrix(affine["landmarks"][1]) - second).max() > 1e-3
    aligner.reset()
    np.testing.assert_array_equal(aligner.matrix(affine["landmarks"][0]), first)


def test_crops_match_the_published_ones(affine):
    for matrix, face in zip(affine["matrices"], affine["faces"], strict=True):
        expected = cv2.resize(face, (256, 256), interpolation=cv2.INTER_LANCZOS4).astype(float)
        crop = alignment.crop(affine["image"], matrix, 256)
        assert np.abs(crop - expected).mean() < 1.0


@pytest.mark.parametrize(
    ("resolution", "size"), [(256, (210, 280)), (512, (420, 560)), (96, (78, 105)), (112, (91, 122)), (128, (105, 140))]
)
def test_crop_size(resolution, size):
    assert alignment.crop_size(resolution) == size


@settings(max_examples=40)
@given(
    resolution=st.sampled_from([96, 112, 128, 256, 512]),
    angle=st.floats(-0.6, 0.6),
    scale=st.floats(0.3, 4.0),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_a_turned_scaled_moved_template_is_put_back(resolution, angle, scale, shift):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    anchors = template(resolution) @ turn.T + np.array(shift)
    matrix = alignment.Aligner(resolution).matrix(anchors)
    off = anchors @ matrix[:, :2].T + matrix[:, 2] - template(resolution)
    np.testing.assert_allclose(off - off.mean(axis=0), 0, atol=2e-2)
    assert np.abs(off).max() < 0.02 + abs(angle)  # the published bias compares points before they are turned upright
    assert alignment.matrix_scale(matrix) == pytest.approx(1 / scale, rel=1e-4)


def test_a_small_crop_of_a_large_face_does_not_alias():
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    matrix = alignment.Aligner(96).matrix(template(96) * 7.7 + 20)
    crop = alignment.crop(stripes, matrix, 96).astype(float)
    assert np.abs(crop - 127.5).max() < 25  # plain bilinear sampling gives moire of the full range


def test_denser_sampling_stays_in_register():
    yy, xx = np.mgrid[0:800, 0:800]
    ramp = np.stack([xx, yy, xx + yy], axis=-1) / 7
    image = ramp.astype(np.uint8)
    matrix = alignment.Aligner(96).matrix(template(96) * 5 + 100)
    crop = alignment.crop(image, matrix, 96).astype(float)
    width, height = alignment.crop_size(96)
    grid = (np.mgrid[0:96, 0:96][::-1].reshape(2, -1).T + 0.5) * np.array([width, height]) / 96 - 0.5
    source = (grid - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    expected = np.concatenate([source, source.sum(axis=1, keepdims=True)], axis=1) / 7
    assert np.abs(crop.reshape(-1, 3) - expected).mean() < 0.8


def test_outside_share_counts_what_the_frame_does_not_hold():
    matrix = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    assert alignment.outside_share(matrix, 256, (640, 480)) == 0.0
    half = np.array([[1, 0, 105], [0, 1, 0]], np.float32)
    assert alignment.outside_share(half, 256, (640, 480)) == pytest.approx(0.5, abs=0.05)


def test_mask_matches_the_published_one(parity_dir):
    expected = np.load(parity_dir / "mask_256.npy")
    mask = masks.inpaint_mask(256) > 0
    assert (mask & expected).sum() / (mask | expected).sum() > 0.998
    assert mask[200, 128] and not mask[20, 128] and not mask[110, 128]  # mouth made anew, brow and nose kept


@pytest.mark.parametrize("resolution", [64, 96, 112, 128, 512])
def test_mask_at_other_sizes_is_the_same_shape(resolution):
    mask = masks.inpaint_mask(resolution)
    large = cv2.resize(mask, (256, 256), interpolation=cv2.INTER_NEAREST)
    assert mask.shape == (resolution, resolution) and set(np.unique(mask)) == {0.0, 1.0}
    assert (large * masks.inpaint_mask(256)).sum() / np.maximum(large, masks.inpaint_mask(256)).sum() > 0.95


def test_feathering_stays_inside_and_reaches_one():
    mask = masks.inpaint_mask(128)
    soft = masks.feathered(mask, 8)
    assert (soft[mask == 0] == 0).all() and soft.max() == 1.0 and soft[96, 64] == 1.0
    assert np.abs(np.diff(soft, axis=0)).max() < 0.2


def test_lip_gap_is_the_opening_over_the_height():
    landmarks = np.zeros((478, 2), np.float32)
    landmarks[lips.FOREHEAD], landmarks[lips.CHIN] = (50, 0), (50, 200)
    landmarks[lips.INNER_TOP], landmarks[lips.INNER_BOTTOM] = (50, 150), (50, 160)
    assert lips.lip_gap(landmarks) == pytest.approx(0.05)
    assert lips.lip_gap(landmarks * 3) == pytest.approx(0.05)
