"""Metrics against independent implementations, closed forms and exact truths."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation_talks import talk
from models_tiny_unisync import tiny_unisync

from latentsync.data.synthetic.phonemes import BILABIALS, LEXICON
from latentsync.evaluation.evaluate import DUB
from latentsync.evaluation.families import articulation, stability, sync
from latentsync.evaluation.families.distribution import (
    NO_TORCHMETRICS,
    Distributions,
    FaceFeatures,
    frechet_distance,
)
from latentsync.evaluation.families.pictures import Moment
from latentsync.evaluation.families.quality import SSIM_REACH, ssim
from latentsync.evaluation.instruments import load_instruments
from latentsync.evaluation.items import Said, read_times
from latentsync.evaluation.quality import psnr
from latentsync.evaluation.registry import Missing
from latentsync.evaluation.report import moments
from latentsync.hub import Settings, load_audio_encoder, save_folder
from latentsync.pipelines.windows import WindowPlanner
from latentsync.types import InputError


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """(60, 70, 3) uint8: a smooth picture, and the same with noise and less contrast."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.uniform(0, 255, (60, 70, 3)), (3, 3, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth) * 255
    other = 0.8 * smooth + 20 + rng.normal(0, 8, smooth.shape)
    return smooth.astype(np.uint8), other.clip(0, 255).astype(np.uint8)


def test_ssim_agrees_with_opencv(pair) -> None:
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "quality"):
        pytest.skip("this OpenCV was built without its quality module")
    _, places = cv2.quality.QualitySSIM_compute(*pair)
    inside = places[SSIM_REACH:-SSIM_REACH, SSIM_REACH:-SSIM_REACH]
    assert ssim(*pair) == pytest.approx(float(inside.mean()), abs=2e-4)


def test_ssim_agrees_with_scikit_image(pair) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    settings = {"channel_axis": 2, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert ssim(*pair) == pytest.approx(metrics.structural_similarity(*pair, data_range=255, **settings), abs=1e-4)
    assert psnr(*pair) == pytest.approx(metrics.peak_signal_noise_ratio(*pair, data_range=255))


def test_ssim_and_psnr_agree_with_torchmetrics(pair) -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    first, second = (torch.from_numpy(side).permute(2, 0, 1)[None].double() for side in pair)
    _, places = image.structural_similarity_index_measure(first, second, data_range=255.0, return_full_image=True)
    inside = places[..., SSIM_REACH:-SSIM_REACH, SSIM_REACH:-SSIM_REACH]  # beyond, it looks at a mirrored border
    assert ssim(*pair) == pytest.approx(float(inside.mean()), abs=1e-4)
    assert psnr(*pair) == pytest.approx(float(image.peak_signal_noise_ratio(first, second, data_range=255.0)), abs=1e-3)


def test_ssim_of_equals_is_one_and_of_opposites_is_low(pair) -> None:
    assert ssim(pair[0], pair[0]) == pytest.approx(1)
    assert ssim(pair[0], 255 - pair[0]) < 0 and np.isnan(ssim(pair[0][:8], pair[0][:8]))


def test_the_distance_of_two_gaussians_is_the_closed_form() -> None:
    """Fréchet distance of diagonal Gaussians: squared distance of means plus that of standard deviations."""
    pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(1)
    means, spreads = rng.normal(size=(2, 4)), rng.uniform(0.5, 2, (2, 4))
    sets = []
    for mean, spread in zip(means, spreads, strict=True):
        white = np.linalg.qr(rng.normal(size=(400, 5)) - 0)[0][:, :4]
        white -= white.mean(axis=0)
        white = np.linalg.qr(white)[0] * np.sqrt(399)  # exactly uncorrelated, variance 1
        sets.append(torch.from_numpy(white * spread + mean))
    expected = np.square(means[0] - means[1]).sum() + np.square(spreads[0] - spreads[1]).sum()
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-3)


def test_loudness_is_the_root_mean_square_of_a_frame() -> None:
    waveform = np.concatenate([np.full(640, 0.5), np.zeros(640), np.full(640, 0.1)]).astype(np.float32)
    found = articulation.loudness(waveform, np.array([0.02, 0.06, 0.1]))
    assert found == pytest.approx([0.5, 0.0, 0.1])


def test_an_offset_is_looked_for_in_the_first_minute_alone() -> None:
    """What comes later costs nothing and changes nothing: here the sound is a second late from then on."""
    rng = np.random.default_rng(4)
    given = rng.normal(0, 0.1, 200 * 16000).astype(np.float32)
    heard = np.concatenate([given[: 61 * 16000], rng.normal(0, 0.1, 16000).astype(np.float32), given[61 * 16000 :]])
    material = SimpleNamespace(info=lambda path: SimpleNamespace(has_audio=True), sound=lambda path: heard)
    row = SimpleNamespace(video="a.mp4", audio="b.wav", waveform=given, material=material)
    assert sync.audio_late(row) == 0.0  # type: ignore[arg-type]


def test_where_nobody_speaks_no_moment_is_called_loud() -> None:
    """Of noise and silence only lips that are apart are bad; of speech a mouth that is shut where it is loud."""
    ticks = np.arange(40)
    gaps, speaks = np.where(ticks == 12, 0.05, 0.001), ticks >= 20
    level = np.repeat(np.where(speaks, ticks / 40, 0.05), 640)
    row = SimpleNamespace(
        gaps=gaps, times=ticks / 25, waveform=level, speaker=None, gaps_of=lambda path: None,
        heard=lambda: np.ones(40, bool), spoken=lambda: speaks,
    )  # fmt: skip
    found = moments.worst_moments(SimpleNamespace(takes={DUB: row}))  # type: ignore[arg-type]
    assert found == {12: "lips apart while nobody speaks", 39: moments.BY_SOUND[0], 31: moments.BY_SOUND[0]}


def test_words_with_closed_lips_are_those_that_the_lexicon_says() -> None:
    for word, sounds in LEXICON.items():
        assert articulation.has_bilabial(word) == bool(BILABIALS & set(sounds)), word
    spelled = {"phone": False, "lamb": True, "thumb": True, "psalm": True, "bin": True, "sit": False, "pneu": False}
    assert {word: articulation.has_bilabial(word) for word in spelled} == spelled


def take(gaps: np.ndarray, **said) -> SimpleNamespace:
    known = {"phonemes": (), "words": (), **said}
    return SimpleNamespace(gaps=gaps, times=np.arange(len(gaps)) / 25, item=SimpleNamespace(**known))


def test_lips_hit_the_sounds_on_which_they_shut() -> None:
    gaps = np.full(50, 0.05)
    gaps[10] = 0.001  # at 0.40 s
    gaps[30:33] = np.nan
    sounds = (Said("P", 0.38, 0.42), Said("M", 0.8, 0.9), Said("AA0", 0.0, 0.1), Said("B", 1.24, 1.24))
    assert articulation.closed_lips(take(gaps, phonemes=sounds)) == 0.5  # the last one was not seen
    assert articulation.closed_lips(take(gaps, words=(Said("bin", 0.3, 0.5), Said("set", 0, 1)))) == 1.0
    assert articulation.closed_lips(take(gaps)).reason == "give --phonemes or --words"
    assert "nothing with /p b m/" in articulation.closed_lips(take(gaps, words=(Said("set", 0, 1),))).reason


def test_times_are_read_from_json_and_from_grid(tmp_path) -> None:
    (tmp_path / "a.align").write_text("0 23750 sil\n23750 29500 bin\n")
    assert read_times(tmp_path / "a.align")[1] == Said("bin", 0.95, 1.18)
    (tmp_path / "a.json").write_text('[["M", 0.1, 0.25]]')
    assert read_times(tmp_path / "a.json") == (Said("M", 0.1, 0.25),)
    for other in ('{"frames": []}', '{"truth": [1]}', '{"truth": {}}'):  # such as a dub's report
        (tmp_path / "c.json").write_text(other)
        with pytest.raises(InputError, match=r"c\.json' holds no times"):
            read_times(tmp_path / "c.json")
    (tmp_path / "b.json").write_text('[["M", "early"]]')
    with pytest.raises(InputError, match=r"b\.json: times must be a list"):
        read_times(tmp_path / "b.json")


@pytest.mark.parametrize("overlap", [0, 3, 4, 8])
def test_joints_are_where_the_pipeline_plans_windows(overlap: int) -> None:
    for frames in (5, 16, 17, 28, 29, 60, 100):
        windows = list(WindowPlanner(overlap).plan(frames, ended=True))
        assert stability.fresh_starts(frames, overlap) == [window.fresh for window in windows[1:]], frames


def test_joints_follow_tracks_and_frame_rates() -> None:
    rows = [{"time": n / 30, "dubbed": n != 20, "track": 0 if n < 20 else 1} for n in range(60)]
    report = {"fps": 30.0, "options": {"overlap": 4}, "frames": rows}
    found = np.flatnonzero(stability.joints(report, 50))
    starts = [*range(12, 17), *range(21 + 12, 21 + 17), *range(21 + 24, 21 + 29)]
    assert found.tolist() == sorted({round(n / 30 * 25) for n in starts})
    assert not stability.joints({**report, "fps": 60.0}, 50).any()


def test_another_colour_inside_the_border_is_measured_and_a_moved_jaw_is_not() -> None:
    from pipelines_tiny import landmarks

    rng = np.random.default_rng(2)
    points = landmarks((120.0, 100.0), 1.6)
    image = np.repeat(rng.integers(90, 150, (240, 240, 1), np.uint8), 3, axis=2)
    warm = image.astype(int) + np.array([9, 0, -9])
    shift = stability.border_shift(warm.astype(np.uint8), image, points)[0]
    assert shift == pytest.approx(np.sqrt((81 + 81) / 3), abs=0.6)
    moved = image.copy()
    moved[150:, 100:112] = 20
    assert stability.border_shift(moved, image, points)[0] < 1
    assert stability.border_shift(image, image, np.full((478, 2), np.nan)) == []


class Flat(torch.nn.Module):
    """Features of pictures: their mean colours."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        assert pictures.dtype == torch.uint8 and pictures.shape[1:] == (3, 256, 256)
        return pictures.float().mean(dim=(2, 3))


class Moving(torch.nn.Module):
    """Features of videos of 16 frames."""

    frames, size = 16, 32

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        assert videos.shape == (1, 16, 3, 32, 32) and videos.min() >= 0 and videos.max() <= 1
        return videos.mean(dim=(3, 4)).flatten(1)


def test_faces_are_gathered_by_row_and_windows_end_where_the_face_is_lost() -> None:
    from pipelines_tiny import landmarks

    from latentsync.faces.alignment import anchor_points

    anchors = np.tile(anchor_points(landmarks((48.0, 40.0), 0.5)), (50, 1, 1))
    anchors[20] = np.nan
    mouths = SimpleNamespace(times=np.zeros(50), anchors=anchors)
    row = SimpleNamespace(right=None, source="talk.mp4", material=SimpleNamespace(mouths=lambda path: mouths))
    found = Distributions(Flat(), Moving())  # type: ignore[arg-type]
    watcher = FaceFeatures(row, "cross dubbed", found)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    for index in range(50):
        made, source = rng.integers(0, 256, (2, 80, 96, 3), np.uint8)
        watcher.add(Moment(index, made, source, None))
    pictures, windows = found.pictures["cross dubbed"], found.windows["cross dubbed"]
    assert len(pictures.made) == len(pictures.real) == 9  # every fifth of 50 but the lost one
    assert len(windows.made) == len(windows.real) == 2  # frames 0 to 15 and 21 to 36
    figures = found.figures("cross dubbed")
    for figure in figures.values():
        assert figure == Missing(NO_TORCHMETRICS) or figure > 0
    empty = Distributions(None, None).figures("cross dubbed")
    assert empty["fid"].reason == "give --fid-weights" and "VideoMAE" in empty["fvd"].reason


def test_a_network_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="belong together"):
        load_instruments({"lpips_backbone": "vgg16.pth", "lpips_heads": None})
    with pytest.raises(InputError, match=r"gone\.pth' is not a file"):
        load_instruments({"fid_weights": "gone.pth"})
    with pytest.raises(InputError, match=r"gone\.ckpt do not exist"):
        load_instruments({"identity_weights": "gone.ckpt"})


def test_a_unisync_of_features_is_asked_with_what_made_them(tmp_path) -> None:
    encoder = load_audio_encoder("embedded")
    network = tiny_unisync(audio={"kind": "features", "width": encoder.width})
    folder = str(save_folder(tmp_path / "unisync", unisync=network, settings=Settings()))
    with pytest.raises(InputError, match="needs the encoder that made them"):
        load_instruments({"unisync": folder})
    with pytest.raises(InputError, match="--unisync-encoder goes with --unisync"):
        load_instruments({"unisync_encoder": "embedded"})
    found = load_instruments({"unisync": folder, "unisync_encoder": "embedded"})
    assert found.files == {"unisync": "unisync", "unisync_encoder": "embedded"}
    scores = found.critics["unisync"].scores(talk(0, 20))
    assert scores.shape == (16, 31) and scores[:, 15].std() > 0


def test_the_face_of_another_person_is_less_alike(weights_dir, clips_dir) -> None:
    """Two moments of one person against two people, by the network that measures."""
    pytest.importorskip("mediapipe")
    from itertools import islice

    from latentsync.evaluation.landmarks import track_of
    from latentsync.faces.identity import IdentityEmbedder
    from latentsync.media.reader import VideoReader

    embedder, faces = IdentityEmbedder(weights_dir / "mobilefacenet_pytorch_068.ckpt"), []
    for name in ("grid_s1/bbaf3s.mp4", "grid_lrwp9a.mpg"):
        frames = list(islice(VideoReader(clips_dir / name).frames(), 12))
        track = track_of(frames)
        faces.append([embedder.embed(frames[at].image, track.landmarks[at]) for at in (0, 10)])
    assert faces[0][0] @ faces[0][1] > 0.8 > 0.4 > abs(faces[0][0] @ faces[1][0])
