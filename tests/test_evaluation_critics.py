"""Critics on talks whose truth is known: SyncNet's crop and stream, StableSyncNet of pixels and latents, UniSync."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from data_talkers import talker
from evaluation_talks import talk
from models_tiny_unisync import tiny_unisync
from models_tiny_vae import tiny_vae
from safetensors.numpy import load_file
from scipy.signal import medfilt

from latentsync.data.representations import LandmarkBasis, representation
from latentsync.data.sampling import pixels
from latentsync.data.sync_scores import minus_distance, shift_scores
from latentsync.data.sync_vectors import BATCH, StableVectors
from latentsync.data.unisync import unisync_clip
from latentsync.evaluation.sync.critic import Talk
from latentsync.evaluation.sync.judgement import judge
from latentsync.evaluation.sync.protocols import lse
from latentsync.evaluation.sync.stable_syncnet import StableSyncNetCritic
from latentsync.evaluation.sync.syncnet import SyncNetCritic, face_crops, hear, see
from latentsync.evaluation.sync.talks import prepared_talk
from latentsync.evaluation.sync.unisync import UniSyncCritic
from latentsync.hub import load_syncnet
from latentsync.models import autoencoder
from latentsync.models.stable_syncnet import StableSyncNet, VisualInput, lower_half
from latentsync.models.unisync import Audio, Visual
from latentsync.types import InputError


class Brightness(torch.nn.Module):
    """Stands in for SyncNet: the brightness of five pictures against the energy of their sound, each about its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def see(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[:2] == (1, 3) and images.shape[3:] == (224, 224) and images.max() > 1
        return self.unit(images.mean(dim=(1, 3, 4)).unfold(1, 5, 1))

    def hear(self, mfcc: torch.Tensor) -> torch.Tensor:
        assert mfcc.shape[1:] == (1, 13, 20)
        return self.unit(mfcc[:, 0, 0].unflatten(1, (5, 4))[..., 0])  # the first column of a picture is its own sound

    @staticmethod
    def unit(curve: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(curve - curve.mean(dim=-1, keepdim=True), dim=-1)


@pytest.mark.parametrize("late", [-11, -3, 0, 1, 7])
def test_syncnet_finds_sound_that_was_moved(late: int) -> None:
    critic = SyncNetCritic(Brightness())
    moved = talk(1).shifted(late)
    scores = critic.scores(moved)
    assert scores.shape == (60 - 5, 31), "the public evaluation leaves the last window out"
    found = lse(scores)
    assert found.offset == late and found.published_offset == -late
    assert found.lse_d < 0.5 and found.lse_c > 0.5
    swapped = lse(critic.scores(talk(1).with_sound(talk(2).waveform)))
    assert swapped.lse_d > 1.5 * found.lse_d and swapped.lse_c < 0.5 * found.lse_c
    assert judge(critic, [moved]).accuracy is None


def test_the_public_distances_come_out_of_pictures_and_mfcc(parity_dir) -> None:
    network = load_syncnet(parity_dir / "syncnet_v2_random.model")
    stored = load_file(parity_dir / "syncnet_v2_io.safetensors")
    frames = np.load(parity_dir / "syncnet_v2_frames.npz")["frames_bgr"][..., ::-1]
    seen = see(network, iter(frames))[: len(frames) - 5]
    found = lse(shift_scores(seen, hear(network, stored["mfcc"][0, 0], len(seen)), 15, minus_distance))
    assert found.lse_d == pytest.approx(float(stored["lse_d"][0]), rel=1e-4)
    assert found.lse_c == pytest.approx(float(stored["lse_c"][0]), abs=1e-4 * found.lse_d)
    assert found.published_offset == int(stored["av_offset"][0])


def cropped_by_the_book(image: np.ndarray, half: float, x: float, y: float) -> np.ndarray:
    """The public `crop_video`, which puts a border around the whole picture."""
    import cv2

    border = int(half * (1 + 2 * 0.40))
    framed = np.pad(image, ((border, border), (border, border), (0, 0)), constant_values=110)
    rows = slice(int(y + border - half), int(y + border + half * (1 + 2 * 0.40)))
    columns = slice(int(x + border - half * (1 + 0.40)), int(x + border + half * (1 + 0.40)))
    return cv2.resize(framed[rows, columns], (224, 224))


@pytest.mark.parametrize("place", [(250.3, 190.8), (20.0, 30.5), (395.2, 280.0)])
def test_the_face_is_cut_as_the_public_pipeline_cuts_it(place: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (300, 400, 3), np.uint8) for _ in range(15)]
    size = 60 + 10 * rng.random(15)
    corners = np.array(place) + rng.normal(size=(15, 2)) * 4
    landmarks = np.stack([c + s * (rng.random((478, 2)) - 0.5) for c, s in zip(corners, size, strict=True)])
    one = replace(talk(0, 15), landmarks=landmarks, pictures=lambda: iter(frames))
    left, top, right, bottom = one.boxes.T
    half = medfilt(np.maximum(bottom - top, right - left) / 2, 13)
    x, y = medfilt((left + right) / 2, 13), medfilt((top + bottom) / 2, 13)
    for number, found in enumerate(face_crops(one)):
        expected = cropped_by_the_book(frames[number], half[number], x[number], y[number])
        np.testing.assert_array_equal(found, expected)


class _Loudness(torch.nn.Module):
    """Stands in for StableSyncNet: the brightness of 16 pictures against the level of their sound."""

    def __init__(self, looks_at: VisualInput) -> None:
        super().__init__()
        self.input = looks_at

    def visual_encoder(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[1:] == self.input.shape
        return Brightness.unit(images.unflatten(1, (self.input.frames, -1)).mean(dim=(2, 3, 4)))

    def audio_encoder(self, mel: torch.Tensor) -> torch.Tensor:
        assert mel.shape[1:] == (1, 80, 52)
        return Brightness.unit(torch.nn.functional.interpolate(mel.mean(dim=2), 16, mode="linear"))[:, 0]


@pytest.mark.parametrize("late", [-9, 0, 4])
def test_stable_syncnet_finds_sound_that_was_moved(late: int) -> None:
    critic = StableSyncNetCritic(_Loudness(VisualInput(size=64)))
    scores = critic.scores(talk(1).shifted(late))
    assert scores.shape == (60 - 15, 31) and critic.frames == 16
    assert judge(critic, [talk(1).shifted(late)]).offset == late
    assert judge(critic, [talk(1)]).in_step > 0.5 > judge(critic, [talk(1).with_sound(talk(2).waveform)]).in_step


def tiny_network(space: str, side: int) -> StableSyncNet:
    torch.manual_seed(0)
    visual = {"in_channels": 64 if space == "latent" else 48, "block_out_channels": (32,) * 3}
    audio = {"in_channels": 1, "block_out_channels": (32,) * 3, "downsample_factors": (2, 2, 2)}
    return StableSyncNet(
        {
            "visual_encoder": {**visual, "downsample_factors": ((1, 2), 2, 2), "attn_blocks": (0, 0, 0)},
            "audio_encoder": {**audio, "attn_blocks": (0, 0, 0)},
            "input": {"space": space, "frames": 16, "size": side},
        }
    ).eval()


def textured(one: Talk) -> Talk:
    def crops(resolution: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        return (rng.integers(0, 255, (resolution, resolution, 3), np.uint8) for _ in range(len(one)))

    return replace(one, crops=crops)


@torch.no_grad()
@pytest.mark.parametrize("space", ["pixel", "latent"])
def test_a_stream_of_pictures_gives_the_vectors_of_every_window(space: str) -> None:
    vae = tiny_vae().eval() if space == "latent" else None
    network = tiny_network(space, 16)
    critic = StableSyncNetCritic(network, vae)
    one = textured(talk(0, 20))
    found = critic.seen(one)
    side = 256 if vae is None else 16 * autoencoder.scale(vae)
    shown = pixels(np.stack(list(one.crops(side))))
    for start in (0, 1, 4):
        window = shown[None, start : start + 16]
        if vae is not None:
            window = autoencoder.encode(vae, window).movedim(1, 2)
        expected = network.visual_encoder(lower_half(window, network.input))[0]
        np.testing.assert_allclose(found[start], expected, atol=1e-5)
    assert len(found) == 5
    thinned = StableVectors(network, vae).seen(one.crops(side), step=4)
    np.testing.assert_allclose(thinned, found[::4], atol=1e-5)


def test_a_network_of_latents_wants_its_autoencoder_and_its_crops() -> None:
    network = tiny_network("latent", 16)
    with pytest.raises(InputError, match="name the autoencoder"):
        StableSyncNetCritic(network)
    with pytest.raises(InputError, match=r"talker_0 has crops of 24 px, and the critic needs 64"):
        StableSyncNetCritic(network, tiny_vae()).scores(prepared_talk(talker(0, size=24)))


def alive(pictures: Iterator[np.ndarray], most: list[int]) -> Iterator[np.ndarray]:
    """The same pictures; notes how many of them anybody still holds."""
    held: set[int] = set()
    for number, picture in enumerate(pictures):
        held.add(number)
        weakref.finalize(picture, held.discard, number)
        most.append(len(held))
        yield picture
        del picture


@pytest.mark.parametrize("frames", [50, 150])
def test_no_more_pictures_are_held_of_a_longer_talk(frames: int) -> None:
    one, most = talk(0, frames), []
    watched = replace(
        one,
        pictures=lambda: alive((p.copy() for p in one.pictures()), most),
        crops=lambda side: alive((c.copy() for c in one.crops(side)), most),
    )
    SyncNetCritic(Brightness()).scores(watched)
    StableSyncNetCritic(_Loudness(VisualInput(size=32))).scores(watched)
    assert max(most) <= 2 * BATCH  # one batch is read while the one before it is looked at


def test_a_prepared_clip_is_a_talk_without_pictures() -> None:
    clip = talker(0, frames=40, size=32, speaker="anna")
    late = replace(clip, times=clip.times + 1.0, waveform=np.concatenate([np.zeros(16000, np.float32), clip.waveform]))
    for one in (prepared_talk(clip), prepared_talk(late)):
        assert len(one) == 40 and one.speaker == "anna" and np.array_equal(one.waveform, clip.waveform)
        assert np.array_equal(np.stack(list(one.crops(256))), clip.crops)
        with pytest.raises(InputError, match="without whole pictures: give its video"):
            SyncNetCritic(Brightness()).scores(one)
    landmarks = clip.landmarks.copy()
    landmarks[7] = np.nan
    with pytest.raises(InputError, match="lacks a face in places"):
        prepared_talk(replace(clip, landmarks=landmarks))


class _LoudUniSync(torch.nn.Module):
    """Stands in for UniSync of colours and mel: the brightness of five pictures against the level of their sound."""

    visual, audio, basis = Visual(size=32), Audio(), None

    def see(self, visual: torch.Tensor) -> torch.Tensor:
        assert visual.shape[1:] == self.visual.shape
        return Brightness.unit(visual.unflatten(1, (5, 3)).mean(dim=(2, 3, 4)))

    def hear(self, sound: torch.Tensor) -> torch.Tensor:
        assert sound.shape[1:] == (1, 80, 16)
        return Brightness.unit(torch.nn.functional.interpolate(sound.mean(dim=2), 5, mode="linear"))[:, 0]


@pytest.mark.parametrize("late", [-13, 0, 6])
def test_unisync_finds_sound_that_was_moved(late: int) -> None:
    critic = UniSyncCritic(_LoudUniSync())  # type: ignore[arg-type]
    assert critic.scores(talk(1)).shape == (60 - 4, 31)
    found = judge(critic, [talk(1).shifted(late)])
    assert found.offset == late and found.accuracy is not None
    assert judge(critic, [talk(1)]).in_step > 0.5 > judge(critic, [talk(1).with_sound(talk(2).waveform)]).in_step


@torch.no_grad()
@pytest.mark.parametrize("kind", ["rgb", "landmarks", "parsing", "3dmm"])
def test_unisync_judges_what_it_was_trained_on(kind: str) -> None:
    people = [talker(seed, frames=80, size=64) for seed in range(3)]
    made_by = representation(kind, 32, None, None, people)
    told = {"kind": kind} if made_by is None else {"kind": kind, "width": made_by.width, "source": made_by.source}
    network = tiny_unisync(visual=told)
    if isinstance(made_by, LandmarkBasis):
        network.basis = torch.from_numpy(made_by.components)
    critic, clip = UniSyncCritic(network), people[0]
    shown = clip.crops if made_by is None else made_by.make(clip)
    cut = unisync_clip(clip, network.visual, network.audio, represent=lambda _: shown)
    found = critic.scores(prepared_talk(clip))
    assert len(found) == 76
    for start in (0, 60, 70):  # the last lies in the second run of pictures
        one = network(cut.images(start, network.visual, None)[None], cut.mel(start)[None])
        assert found[start, 15] == pytest.approx(float(one), abs=1e-4)


def test_unisync_is_not_given_other_than_it_was_trained_on() -> None:
    other = tiny_unisync(visual={"kind": "parsing", "width": 12, "source": "a network"})
    with pytest.raises(InputError, match=r"parsing \(a network\), and what is given makes drawn from the landmarks"):
        UniSyncCritic(other)
    shapes = tiny_unisync(visual={"kind": "3dmm", "width": 58, "source": "52 blendshapes"})
    with pytest.raises(InputError, match="looks at 52 blendshapes: give the landmarker"):
        UniSyncCritic(shapes)
    with pytest.raises(InputError, match="needs the encoder that made them"):
        UniSyncCritic(tiny_unisync(audio={"kind": "features", "width": 8}))
