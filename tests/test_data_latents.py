"""What training sees: samples that hang on (seed, index), references from elsewhere, sound as dubbing hears it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.mel_encoder import MARGIN, MelEncoder
from latentsync.audio.windows import audio_windows, centre_step
from latentsync.data.augmentation import Look, Voice
from latentsync.data.crops import ClipCrops, load_folder
from latentsync.data.latents import LatentClip, WindowSampler, encode_clip, frame_tokens
from latentsync.data.sampling import CONTEXT_DISTANCE, REFERENCE_DISTANCE, FrameSampler, clip_weights, pixels
from latentsync.data.sound import SILENT_COLUMN, ClipSound
from latentsync.types import InputError

FPS = 25


def waveform(seconds: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(int(16_000 * seconds)) * 0.1).astype(np.float32)


def clip_of(name: str, frames: int, resolution: int = 8) -> ClipCrops:
    """Crop i is filled with the number i, so that a picture tells which frame it is."""
    crops = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, resolution, resolution, 3))
    return ClipCrops(
        name, crops, np.zeros((frames, 478, 2), np.float32), np.arange(frames) / FPS, waveform(frames / FPS)
    )


def latent_clip(name: str, frames: int) -> LatentClip:
    numbered = torch.arange(frames, dtype=torch.float16)[None, :, None, None].expand(4, -1, 2, 2)
    rows = np.array([centre_step(i / FPS) for i in range(frames)])
    return LatentClip(name, numbered, -numbered, rows, ClipSound(waveform(frames / FPS, frames)))


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    clips = [latent_clip("a_1", 60), latent_clip("b_1", 40)]
    first, again = (WindowSampler(clips, {}, seed=5).batch(3, 4, 6) for _ in range(2))
    other = WindowSampler(clips, {}, seed=5).batch(4, 4, 6)
    assert torch.equal(first.latents, again.latents) and torch.equal(first.mel, again.mel)
    assert not torch.equal(first.latents, other.latents)


def test_references_come_from_at_least_sixteen_frames_away() -> None:
    sampler = WindowSampler([latent_clip("a_1", 75)], {}, seed=0, swapped_context=0.0)
    for step in range(20):
        batch = sampler.batch(step, 8, 16)
        distance = (batch.latents - batch.reference)[:, 0, :, 0, 0].abs()
        assert distance.min() >= REFERENCE_DISTANCE
        assert torch.equal(batch.masked, -batch.latents)


def test_swapped_surroundings_are_those_of_the_moment_most_alike() -> None:
    batch = WindowSampler([latent_clip("a_1", 75)], {}, seed=0, swapped_context=1.0).batch(0, 64, 8)
    distance = (batch.latents + batch.masked)[:, 0, 0, 0, 0].abs()  # frames are numbered, so near is alike
    assert distance.min() >= CONTEXT_DISTANCE
    assert distance.mean() < 16  # the nearest of six; any of them would be 28 away on average


def test_a_clip_too_short_for_the_distance_takes_its_farthest_frames() -> None:
    batch = WindowSampler([latent_clip("a_1", 20)], {}, seed=0).batch(0, 16, 16)
    starts, references = batch.latents[:, 0, 0, 0, 0], batch.reference[:, 0, 0, 0, 0]
    assert torch.equal((references - starts).abs(), torch.maximum(starts, 4 - starts))


def test_training_hears_what_dubbing_hears(monkeypatch) -> None:
    """Tokens of training windows equal those that the dubbing pipeline takes from the encoder's stream."""
    torch.manual_seed(0)
    encoder, clip = MelEncoder(width=8, levels=2, hidden=16), latent_clip("a_1", 75)
    sound = waveform(75 / FPS, 75)
    sampler = WindowSampler([clip], {}, seed=2)
    monkeypatch.setattr(Voice, "random", classmethod(lambda voice, rng: voice()))
    batch = sampler.batch(0, 4, 16)
    with torch.no_grad():
        heard = frame_tokens(encoder, batch.mel, batch.rows).unflatten(0, (4, 16))
    for window, latents in zip(heard, batch.latents, strict=True):
        times = [float(number) / FPS for number in latents[0, :, 0, 0]]
        expected = audio_windows(encoder.stream(ArrayWaveform(sound)), times)
        torch.testing.assert_close(window, expected, atol=1e-5, rtol=0)


def test_a_gain_is_a_shift_of_the_mel_down_to_silence() -> None:
    loud = waveform(1.0)
    quiet = ClipSound(loud * 10 ** (-6 / 20)).columns(10, 4, MARGIN)
    shifted = ClipSound(loud).columns(10, 4, MARGIN, Voice(gain=-6.0))
    torch.testing.assert_close(shifted, quiet, atol=1e-3, rtol=0)
    beyond = ClipSound(loud).columns(1000, 4, MARGIN)
    assert (beyond == SILENT_COLUMN).all()


def test_shares_hold_whatever_the_number_of_clips() -> None:
    clips = [clip_of(f"synth_{i}", 30) for i in range(9)]
    clips += [clip_of("word", 30), clip_of("a_1", 30), clip_of("b_1", 120)]
    weights = clip_weights(clips, {"synth": 0.2, "grid": 0.5})
    assert weights[:9].sum() == pytest.approx(0.2)
    assert weights[9] == pytest.approx(0.5)
    assert weights[11] / weights[10] == pytest.approx(2.0)  # four times the frames, twice as often


def test_frames_without_a_face_are_never_shown(monkeypatch) -> None:
    monkeypatch.setattr(Look, "__call__", lambda look, crops: crops)
    clip = clip_of("a_1", 40)
    clip.landmarks[10:] = np.nan
    seen = torch.cat([FrameSampler([clip], {}, seed=0).images(step, 16) for step in range(8)])
    assert ((seen[:, 0, 0, 0] + 1) * 127.5).round().max() < 10


def test_an_empty_folder_says_what_to_do(tmp_path) -> None:
    with pytest.raises(InputError, match="no prepared clips"):
        load_folder(tmp_path)


def test_latents_of_a_clip_hide_the_mouth() -> None:
    """Whatever stands inside the mask, the masked latents are the same."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    levels = 2
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        mid_block_add_attention=False,
    ).eval()
    mask = torch.zeros(8, 8)
    mask[4:] = 1
    clip = clip_of("a_1", 3)
    altered = np.array(clip.crops)
    altered[:, 4:] = 255 - altered[:, 4:]
    other = ClipCrops("b_1", altered, clip.landmarks, clip.times, clip.waveform)
    first, second = encode_clip(clip, vae, mask), encode_clip(other, vae, mask)
    assert torch.equal(first.masked, second.masked)
    assert not torch.equal(first.latents, second.latents)
    assert first.latents.shape == (4, 3, 4, 4)
    assert pixels(clip.crops).shape == (3, 3, 8, 8)
