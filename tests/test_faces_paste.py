"""Paste-back: parity of the published one; the product's own leaves the rest alone and does not flicker."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from latentsync.faces import alignment, lips, masks, paste

RESOLUTION = 96


def picture(height: int = 480, width: int = 640) -> np.ndarray:
    """Soft random colours with some detail, like skin and cloth."""
    rng = np.random.default_rng(5)
    coarse = cv2.resize(rng.uniform(40, 210, (12, 16, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    detail = cv2.GaussianBlur(rng.normal(0, 20, (height, width, 3)), (0, 0), 1.5)
    return np.clip(coarse + detail, 0, 255).astype(np.uint8)


def placed(scale: float, angle: float = 0.1, at: tuple[float, float] = (250.0, 120.0), resolution: int = RESOLUTION):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    template = alignment.TEMPLATE * alignment.TEMPLATE_SCALE * resolution / 256
    return alignment.Aligner(resolution).matrix(template @ turn.T + np.array(at))


def mask_on_frame(matrix: np.ndarray, shape: tuple[int, ...], resolution: int = RESOLUTION) -> np.ndarray:
    """Share of the mask at every frame pixel, found by plain arithmetic at each pixel."""
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    face = np.stack([xs, ys], axis=-1) @ matrix[:, :2].T.astype(float) + matrix[:, 2]
    square = (face + 0.5) * resolution / np.array(alignment.crop_size(resolution)) - 0.5
    mask = masks.inpaint_mask(resolution)
    x, y = square[..., 0].astype(np.float32), square[..., 1].astype(np.float32)
    return cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def inverted(crop: np.ndarray) -> np.ndarray:
    return 255 - crop


def test_published_paste_back_matches(parity_dir):
    stored = load_file(parity_dir / "affine_256_io.safetensors")
    for matrix, face, expected in zip(stored["matrices"], stored["faces"], stored["restored"], strict=True):
        restored = paste.restore_published(stored["image"], face[..., ::-1], matrix)
        assert np.abs(restored.astype(float) - expected).mean() < 0.2


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("at", [(250.0, 120.0), (-60.0, 300.0), (600.0, -30.0)])
def test_pixels_outside_the_mask_are_bit_equal(scale, at):
    image = picture()
    matrix = placed(scale, at=at)
    result = paste.paste_back(
        image, inverted(alignment.crop(image, matrix, RESOLUTION)), matrix, masks.inpaint_mask(RESOLUTION)
    )
    changed = (result != image).any(axis=-1)
    assert not changed[mask_on_frame(matrix, image.shape) == 0].any()
    assert image is not result


def test_the_inside_is_taken_from_the_crop():
    image = picture()
    matrix = placed(1.0)
    crop = inverted(alignment.crop(image, matrix, RESOLUTION))
    result = paste.paste_back(image, crop, matrix, masks.inpaint_mask(RESOLUTION))
    back = alignment.crop(result, matrix, RESOLUTION)
    inside = masks.feathered(masks.inpaint_mask(RESOLUTION), 10) == 1
    assert np.abs(back[inside].astype(float) - crop[inside]).mean() < 12


def face_in_crop(centre: tuple[float, float] = (48.0, 50.0)) -> np.ndarray:
    """(478, 2) px of the crop: points spread over an ellipse about as wide as a face stands there."""
    angle = np.linspace(0, 2 * np.pi, alignment.LANDMARKS)
    return np.stack([centre[0] + 26 * np.cos(angle), centre[1] + 36 * np.sin(angle)], axis=-1)


def on_frame(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points in px of the crop -> px of the frame, by plain arithmetic."""
    warped = (points + 0.5) * np.array(alignment.crop_size(RESOLUTION)) / RESOLUTION - 0.5
    return (warped - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2].astype(float)).T


def test_what_lies_beside_the_face_stays_the_sources_though_the_mask_covers_it():
    image, matrix, mask = picture(), placed(1.0), masks.inpaint_mask(RESOLUTION)
    crop, points = inverted(alignment.crop(image, matrix, RESOLUTION)), face_in_crop()
    result = paste.paste_back(image, crop, matrix, mask, landmarks=on_frame(points, matrix))
    back, source = (alignment.crop(frame, matrix, RESOLUTION).astype(float) for frame in (result, image))
    assert np.abs(back[60:70, 8:14] - source[60:70, 8:14]).max() <= 2  # masked, 8 px beside the cheek
    whole = paste.paste_back(image, crop, matrix, mask)
    assert np.abs(alignment.crop(whole, matrix, RESOLUTION)[60:70, 8:14] - source[60:70, 8:14]).mean() > 20
    mouth = (slice(62, 78), slice(36, 60))
    assert np.abs(back[mouth] - alignment.crop(whole, matrix, RESOLUTION)[mouth]).max() <= 1


def test_the_region_of_a_face_leaves_room_for_a_jaw_that_drops():
    points = face_in_crop(centre=(48.0, 40.0))
    region = masks.face_region(points, RESOLUTION)
    bottom, side = int(points[:, 1].max()), int(points[:, 0].max())
    assert region[bottom + 11, 48] == 1 and region[bottom + 18, 48] == 0
    assert region[40, side + 4] == 1 and region[40, side + 8] == 0


def test_the_region_of_a_mouth_leaves_the_cheeks_and_takes_lips_and_chin():
    points = face_in_crop()
    points[list(lips.OUTER_LIP)] = (48.0, 66.0)
    points[lips.NOSE_BASE], points[lips.CHIN] = (48.0, 54.0), (48.0, 86.0)
    region = masks.mouth_region(points, RESOLUTION)
    assert region[66, 48 - 20] == region[66, 48 + 20] == region[88, 48] == 1
    assert region[66, 48 - 26] == region[66, 48 + 26] == region[50, 48] == 0
    assert (region <= masks.face_region(points, RESOLUTION)).all()

    image, matrix, mask = picture(), placed(1.0), masks.inpaint_mask(RESOLUTION)
    crop, where = inverted(alignment.crop(image, matrix, RESOLUTION)), on_frame(points, matrix)
    whole, mouth = (paste.paste_back(image, crop, matrix, mask, None, where, name) for name in ("face", "mouth"))
    cheek = (slice(62, 70), slice(22, 25))
    source, *made = (alignment.crop(frame, matrix, RESOLUTION).astype(float)[cheek] for frame in (image, whole, mouth))
    assert np.abs(made[0] - source).mean() > 4 > 2 >= np.abs(made[1] - source).max()


def test_a_face_wholly_outside_changes_nothing():
    image = picture()
    matrix = placed(1.0, at=(5000.0, 5000.0))
    crop = np.zeros((RESOLUTION, RESOLUTION, 3), np.uint8)
    np.testing.assert_array_equal(paste.paste_back(image, crop, matrix, masks.inpaint_mask(RESOLUTION)), image)


@pytest.mark.parametrize(("scale", "floor"), [(0.3, 38.0), (1.0, 38.0), (2.0, 34.0)])
def test_the_own_crop_pasted_back_is_nearly_the_source(scale, floor):
    image = cv2.GaussianBlur(picture(), (0, 0), max(1.0, 0.8 * scale))
    matrix = placed(scale)
    crop = alignment.crop(image, matrix, RESOLUTION)
    result = paste.paste_back(image, crop, matrix, masks.inpaint_mask(RESOLUTION))
    inside = mask_on_frame(matrix, image.shape) > 0.99
    error = np.square(result[inside].astype(float) - image[inside]).mean()
    assert 10 * np.log10(255**2 / error) > floor


def test_a_colour_cast_is_taken_off_and_the_mouth_keeps_its_contrast():
    image = picture()
    matrix = placed(1.0)
    mask = masks.inpaint_mask(RESOLUTION)
    crop = alignment.crop(image, matrix, RESOLUTION).astype(np.float32)
    crop[60:72, 36:60] = 30  # an open mouth that the source does not have
    cast = np.array([9.0, -7.0, 5.0], np.float32)
    plain = paste.paste_back(image, crop, matrix, mask)
    shifted = paste.paste_back(image, np.clip(crop + cast, 0, 255), matrix, mask)
    difference = np.abs(shifted.astype(float) - plain)[mask_on_frame(matrix, image.shape) > 0.99]
    assert difference.mean() < 1.0
    inner = alignment.crop(plain, matrix, RESOLUTION)[62:70, 40:56]
    assert np.abs(inner.astype(float) - 30).mean() < 3


def test_colour_correction_does_not_flicker():
    image = picture()
    matrix = placed(1.0)
    mask = masks.inpaint_mask(RESOLUTION)
    source = alignment.crop(image, matrix, RESOLUTION)
    rng = np.random.default_rng(0)
    casts = rng.normal(0, 4, (40, 3)).astype(np.float32)  # a network whose colours flicker from frame to frame
    colour = paste.ColourMatch()
    means = np.array([colour.offset(source, source + cast, mask).mean(axis=(0, 1)) for cast in casts])
    alone = np.array([paste.ColourMatch().offset(source, source + cast, mask).mean(axis=(0, 1)) for cast in casts])
    assert np.abs(np.diff(means[10:], axis=0)).mean() < 0.25 * np.abs(np.diff(alone[10:], axis=0)).mean()
    colour.reset()
    np.testing.assert_allclose(colour.offset(source, source + casts[0], mask).mean(axis=(0, 1)), alone[0], atol=1e-4)


def test_other_content_at_the_border_is_not_taken_for_colour():
    image = picture()
    matrix = placed(1.0)
    mask = masks.inpaint_mask(RESOLUTION)
    source = alignment.crop(image, matrix, RESOLUTION).astype(np.float32)
    moved_jaw = source.copy()
    moved_jaw[80:92] = 255 - moved_jaw[80:92]
    offset = paste.ColourMatch().offset(source, moved_jaw, mask)
    assert np.abs(offset).max() < 8
