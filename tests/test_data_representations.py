"""What UniSync looks at besides colours: places in the crop, drawn and parsed regions, blendshapes, a fitted basis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from data_talkers import LIPS, SCALE, mesh, talker
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from latentsync.data.representations import (
    SIMILARITY,
    Blendshapes,
    DrawnRegions,
    LandmarkBasis,
    ParsedRegions,
    RepresentationCache,
    TrackedLandmarks,
    representation,
)
from latentsync.data.sampling import pixels
from latentsync.faces.alignment import Aligner, anchor_points, crop, crop_landmarks
from latentsync.faces.lips import INNER_LIP
from latentsync.faces.parsing import FACE_OVAL, LEFT_EYE, REGIONS, RIGHT_EYE, draw_regions
from latentsync.hub.parsing import INPUT_SIZE, MEAN, SPREAD, load_face_parser
from latentsync.types import CheckpointError, InputError


def face(gap: float) -> np.ndarray:
    """(478, 2): the talkers' face with an outline, eyes and inner lips that are `gap` of 1 open."""
    points = mesh(gap)

    def ring(indices: tuple[int, ...], centre: tuple[float, float], radii: tuple[float, float]) -> None:
        angles = np.linspace(0, 2 * np.pi, len(indices), endpoint=False)
        points[list(indices)] = SCALE * (
            np.array(centre) + np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1)
        )

    ring(FACE_OVAL, (37.5, 50.0), (36.0, 48.0))
    ring(LEFT_EYE, (22.0, 30.0), (6.0, 2.5))
    ring(RIGHT_EYE, (53.0, 30.0), (6.0, 2.5))
    ring(INNER_LIP, LIPS, (10.0, 4 * gap))
    return points.astype(np.float32)


def moved(points: np.ndarray, turn: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """Points (..., 2) after a similarity."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (scale * points @ rotation.T + np.array(shift)).astype(np.float32)


def clip_of(gaps: np.ndarray, seed: int = 0):
    return replace(talker(seed, frames=len(gaps)), landmarks=np.stack([face(gap) for gap in gaps]))


def test_landmarks_lie_in_the_crop_where_the_crop_shows_them() -> None:
    points = moved(face(0.5), 0.2, 0.8, (90, 60))
    marked = (13, 61, 291, 1)  # an inner lip, both corners of the mouth, the tip of the nose
    shares = crop_landmarks(points[None])[0]
    resolution = 128
    matrix = Aligner(resolution).matrix(anchor_points(points))
    for index in marked:
        image = np.zeros((480, 640, 3), np.uint8)
        x, y = np.round(points[index]).astype(int)
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
        shown = crop(image, matrix, resolution)[..., 0].astype(float)
        rows, columns = np.indices(shown.shape)
        seen = np.array([(columns * shown).sum(), (rows * shown).sum()]) / shown.sum()
        np.testing.assert_allclose(seen, shares[index] * resolution - 0.5, atol=1.0)


def test_a_face_that_moves_as_a_whole_keeps_its_representation() -> None:
    still = clip_of(np.array([0.5] * 6))
    drifting = np.stack([moved(face(0.5), 0.03 * n, 1 + 0.05 * n, (10 * n, -4 * n)) for n in range(6)])
    for made_by in (TrackedLandmarks(), DrawnRegions(32)):
        one, other = made_by.make(still), made_by.make(replace(still, landmarks=drifting))
        if made_by.kind == "parsing":
            assert (one != other).mean() < 0.02
        else:
            np.testing.assert_allclose(one, other, atol=2e-3)


def test_drawn_regions_show_the_mouth_open() -> None:
    size, name = 96, {region: number for number, region in enumerate(REGIONS)}
    areas = [
        np.bincount(draw_regions(crop_landmarks(face(gap)[None])[0], size).ravel(), minlength=7) for gap in (0, 0.5, 1)
    ]
    inner = [found[name["inner mouth"]] for found in areas]
    assert inner[0] < 10 * inner[1] and 0 < inner[1] < inner[2]
    assert all(found[name[region]] > 0 for found in areas for region in ("skin", "nose", "brows", "eyes", "lips"))
    shares = crop_landmarks(face(1.0)[None])[0]
    drawn = draw_regions(shares, size)
    for index, region in ((13, "lips"), (FACE_OVAL[0], "skin"), (LEFT_EYE[0], "eyes")):
        x, y = np.clip((shares[index] * size).astype(int), 1, size - 2)
        assert name[region] in drawn[y - 1 : y + 2, x - 1 : x + 2] or index == FACE_OVAL[0]
    middle = (shares[list(INNER_LIP)].mean(axis=0) * size).astype(int)
    assert drawn[middle[1], middle[0]] == name["inner mouth"]
    assert not draw_regions(np.full((478, 2), np.nan), size).any()
    assert "not independent" in DrawnRegions(size).source


def test_a_basis_finds_the_one_thing_that_moves() -> None:
    rng = np.random.default_rng(0)
    gaps = [rng.random(80), rng.random(60)]
    clips = [clip_of(gap, seed) for seed, gap in enumerate(gaps)]
    basis = LandmarkBasis.fit(clips)
    made = basis.make(clips[0])
    assert made.shape == (80, basis.width) and made.dtype == np.float32
    assert abs(np.corrcoef(made[:, 0], gaps[0])[0, 1]) > 0.99
    assert np.concatenate([basis.make(clip)[:, 0] for clip in clips]).std() == pytest.approx(1, abs=0.1)
    turned = replace(
        clips[0],
        landmarks=np.stack([moved(points, 0.01 * n, 1.0, (n, 0)) for n, points in enumerate(clips[0].landmarks)]),
    )
    places = basis.make(turned)[:, -SIMILARITY:]
    np.testing.assert_allclose(np.diff(places[:, 0]), 0.01, atol=1e-3)
    assert np.abs(places[:, 1]).max() < 0.02  # the size did not change by more than the mouth's opening tells
    with pytest.raises(InputError, match="needs 104 frames with a face, not 20"):
        LandmarkBasis.fit([clip_of(rng.random(20))])


def test_frames_without_a_face_do_not_spoil_the_others() -> None:
    clip = clip_of(np.linspace(0, 1, 120))
    holes = clip.landmarks.copy()
    holes[40:44] = np.nan
    basis = LandmarkBasis.fit([clip])
    for made_by in (TrackedLandmarks(), DrawnRegions(16), basis):
        made = made_by.make(replace(clip, landmarks=holes))
        assert len(made) == 120 and np.isfinite(made).all()


class EverySecond:
    """Finds a face in every second picture; its answer is the picture's number."""

    def __call__(self, picture: np.ndarray) -> np.ndarray | None:
        number = int(picture[0, 0, 0])
        return None if number % 2 else np.full(58, number, np.float32)


def test_between_faces_blendshapes_are_interpolated(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("latentsync.data.representations.FaceExpressions", lambda path: EverySecond())
    made_by = Blendshapes(tmp_path / "any.task")
    clip = talker(1, frames=41)
    numbered = replace(
        clip, crops=np.broadcast_to(np.arange(41, dtype=np.uint8)[:, None, None, None], clip.crops.shape)
    )
    np.testing.assert_allclose(made_by.make(numbered)[:, 7], np.arange(41))
    with pytest.raises(InputError, match="finds no face in the crops"):
        made_by.make(replace(clip, crops=np.full(clip.crops.shape, 1, np.uint8)))


def test_the_landmarkers_jaw_follows_a_drawn_one(weights_dir) -> None:
    from latentsync.data.synthetic import SyntheticSpeaker, synthesize_speech

    made_by = Blendshapes(weights_dir / "mediapipe_face_landmarker_v2_with_blendshapes.task")
    speech, speaker = synthesize_speech(5, seconds=1.2), SyntheticSpeaker(5, 192)
    opening = speaker.truth(speech, 1).opening
    chosen = np.argsort(opening)[[0, 1, 2, len(opening) // 2, -3, -2, -1]]
    shown = np.stack([speaker.frame(speech, 1, int(index)) for index in chosen])
    made = made_by.make(replace(talker(1, frames=len(shown)), crops=shown))
    jaw_open = 25  # the landmarker's own order of blendshapes
    assert made.shape == (7, 58) and ((made[:, :52] >= 0) & (made[:, :52] <= 1)).all()
    assert np.corrcoef(made[:, jaw_open], opening[chosen])[0, 1] > 0.8


@pytest.fixture
def parser_folder(tmp_path):
    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2], hidden_sizes=[8, 16], patch_sizes=[7, 3],
        strides=[8, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=5,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "parser")
    return tmp_path / "parser"


def test_a_parsing_network_names_regions_as_transformers_does(parser_folder) -> None:
    made_by = representation("parsing", 16, str(parser_folder), None, ())
    assert isinstance(made_by, ParsedRegions) and made_by.width == 5 and made_by.source == "network parser"
    clip = replace(talker(1, frames=33), crops=np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), np.uint8))
    made = made_by.make(clip)
    assert made.shape == (5, 16, 16) and made.dtype == np.uint8
    network = SegformerForSemanticSegmentation.from_pretrained(parser_folder).eval()
    with torch.no_grad():
        colours = torch.nn.functional.interpolate(
            (pixels(clip.crops) + 1) / 2, INPUT_SIZE, mode="bilinear", antialias=True
        )
        normal = (colours - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SPREAD)[:, None, None]
        logits = network(normal).logits
        expected = torch.nn.functional.interpolate(logits, (16, 16), mode="bilinear", antialias=True).argmax(1)
    assert (made == expected.numpy()).mean() > 0.99
    (parser_folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no segmentation network that can be loaded.*visual\.parser=null"):
        load_face_parser(parser_folder)


def test_the_cache_goes_by_content_and_by_what_made_it(tmp_path) -> None:
    one, made = clip_of(np.full(6, 0.3)), []

    class Counting(TrackedLandmarks):
        def make(self, clip):
            made.append(clip.name)
            return super().make(clip)

    cache = RepresentationCache(Counting(), tmp_path)
    first = cache(one)
    again = cache(replace(one, name="another name", crops=one.crops[::-1]))  # landmarks are all it hangs on
    assert np.array_equal(first, again) and len(made) == 1
    cache(clip_of(np.full(6, 0.4)))
    assert len(made) == 2
    sizes = [RepresentationCache(DrawnRegions(size), tmp_path)(one).shape for size in (8, 12, 8)]
    assert sizes == [(6, 8, 8), (6, 12, 12), (6, 8, 8)]
    assert len(list((tmp_path / "parsing").iterdir())) == 2
