"""What training sees: samples that hang on (seed, index), references from elsewhere, sound as dubbing hears it."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models_tiny_vae import tiny_vae

from latentsync.audio.features import ArrayWaveform
from latentsync.audio.mel_encoder import MARGIN, MelEncoder
from latentsync.audio.windows import audio_windows
from latentsync.data.arrays import StoredTensor
from latentsync.data.augmentation import Look, Voice
from latentsync.data.cached import LatentCache, cached, kept
from latentsync.data.crops import ClipCrops, load_folder
from latentsync.data.preparation.store import Unwritable
from latentsync.data.sampling import CONTEXT_DISTANCE, REFERENCE_DISTANCE, FrameSampler, clip_weights, sample_generator
from latentsync.data.sound import SILENT_COLUMN, ClipSound
from latentsync.data.windows import MelSound, WindowClip, WindowRecipe, Windows, window_starts
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


def latent_clip(name: str, frames: int, window: int, voices: float = 0.0) -> WindowClip:
    """Latents of frame i are the number i, and with the mouth hidden -i."""
    clip = clip_of(name, frames)
    numbered = torch.arange(frames, dtype=torch.float16)[None, :, None, None].expand(4, -1, 2, 2)
    starts, sound = window_starts(clip, window), MelSound(clip.waveform, voices)
    return WindowClip(clip, starts, sound, latents=numbered, masked=-numbered)


def drawn(clips: list[WindowClip], count: int, seed: int = 0, **recipe) -> dict[str, torch.Tensor]:
    """The first `count` windows as a batch."""
    windows = Windows(clips, WindowRecipe(**recipe), seed, latent_shape=(4, 2, 2), timesteps=1000)
    samples = [windows.sample(index) for index in range(count)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def test_a_window_is_a_function_of_seed_and_index() -> None:
    clips = [latent_clip("a_1", 60, 6, voices=0.5), latent_clip("b_1", 40, 6, voices=0.5)]
    first, again, other = (drawn(clips, 4, seed, frames=6, swapped_context=0.5) for seed in (5, 5, 6))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["latents"], other["latents"]) and not torch.equal(first["mel"], other["mel"])


def test_references_come_from_at_least_sixteen_frames_away() -> None:
    batch = drawn([latent_clip("a_1", 75, 16)], 160)
    distance = (batch["latents"] - batch["reference"])[:, 0, :, 0, 0].abs()
    assert distance.min() >= REFERENCE_DISTANCE
    short = drawn([latent_clip("a_1", 40, 16)], 40)  # a window in the middle of it has nothing that far away
    assert (short["latents"] - short["reference"]).abs().min() >= REFERENCE_DISTANCE
    assert torch.equal(batch["masked"], -batch["latents"])


def test_references_share_no_frame_with_a_longer_window() -> None:
    batch = drawn([latent_clip("a_1", 90, 24)], 160, frames=24)
    assert (batch["latents"] - batch["reference"])[:, 0, :, 0, 0].abs().min() >= 24


def test_swapped_surroundings_are_those_of_the_moment_most_alike() -> None:
    batch = drawn([latent_clip("a_1", 75, 8)], 64, frames=8, swapped_context=1.0)
    distance = (batch["latents"] + batch["masked"])[:, 0, 0, 0, 0].abs()  # frames are numbered, so near is alike
    assert distance.min() >= CONTEXT_DISTANCE
    assert distance.mean() < 16  # the nearest of six; any of them would be 28 away on average


def test_a_clip_too_short_for_the_distance_takes_its_farthest_frames() -> None:
    batch = drawn([latent_clip("a_1", 20, 10)], 16, frames=10)
    starts, references = batch["latents"][:, 0, 0, 0, 0], batch["reference"][:, 0, 0, 0, 0]
    assert torch.equal((references - starts).abs(), torch.maximum(starts, 10 - starts))


@pytest.mark.parametrize("others", [0, 1, 15])
def test_a_clip_whose_reference_would_show_the_answer_is_refused(others) -> None:
    """One window with faces was its own reference; neighbouring ones share frames with theirs."""
    clip = clip_of("a_1", 75)
    clip.landmarks[: 75 - 16 - others] = np.nan
    with pytest.raises(InputError, match=rf"a_1 shows a face .* {others} frames apart.*reference.*leave it out"):
        window_starts(clip, 16)


def test_the_shortest_clip_has_a_reference_that_shares_no_frame() -> None:
    clip = clip_of("a_1", 75)
    clip.landmarks[16:59] = np.nan  # a face in the first and in the last window
    assert window_starts(clip, 16).tolist() == [0, 59]
    clip.landmarks[16:32] = 0.0
    clip.landmarks[32:] = np.nan
    sound = MelSound(clip.waveform, 0.0)
    latents = torch.arange(75, dtype=torch.float16)[None, :, None, None].expand(4, -1, 2, 2)
    batch = drawn([WindowClip(clip, window_starts(clip, 16), sound, latents=latents, masked=-latents)], 16)
    assert (batch["latents"] - batch["reference"]).abs().min() == 16


def test_windows_are_drawn_as_often_as_the_recipe_says() -> None:
    """Shares over 400 windows lie within 4 standard deviations of what is asked for."""
    batch = drawn([latent_clip("a_1", 40, 2)], 400, frames=2, late_share=0.5, audio_dropout=0.1, swapped_context=0.3)
    swapped = (batch["latents"] + batch["masked"]).abs().amax(dim=(1, 2, 3, 4)) > 0
    shares = {0.75: batch["timesteps"] >= 500, 0.9: batch["heard"] == 1, 0.3: swapped}
    for wanted, found in shares.items():
        assert abs(float(found.float().mean()) - wanted) < 4 * (wanted * (1 - wanted) / 400) ** 0.5
    plain = drawn([latent_clip("a_1", 40, 2)], 400, frames=2)
    assert abs(float((plain["timesteps"] >= 500).float().mean()) - 0.5) < 0.1


def test_training_hears_what_dubbing_hears() -> None:
    """Tokens of training windows equal those that the dubbing pipeline takes from the encoder's stream."""
    torch.manual_seed(0)
    encoder, clip = MelEncoder(width=8, levels=2, hidden=16), latent_clip("a_1", 75, 16)
    batch = drawn([clip], 4)
    with torch.no_grad():
        heard = encoder.rows_at(batch["mel"], batch["rows"])
    for window, latents in zip(heard, batch["latents"], strict=True):
        times = [float(number) / FPS for number in latents[0, :, 0, 0]]
        expected = audio_windows(encoder.stream(ArrayWaveform(clip.clip.waveform)), times)
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


@pytest.mark.parametrize("shares", [{"a": 0.8, "b": 0.4}, {"a": -0.1}, {"a": 0.0, "b": 0.0}])
def test_shares_that_cannot_be_are_told(shares) -> None:
    with pytest.raises(InputError, match=r"data\.shares"):
        clip_weights([clip_of("a_1", 30), clip_of("b_1", 30)], shares)
    assert clip_weights(
        [clip_of(f"{name}_1", 30) for name in "abc"], {"a": 0.7, "b": 0.2, "c": 0.1}
    ).sum() == pytest.approx(1)


def test_frames_without_a_face_are_never_shown(monkeypatch) -> None:
    monkeypatch.setattr(Look, "__call__", lambda look, crops: crops)
    clip = clip_of("a_1", 40)
    clip.landmarks[10:] = np.nan
    sampler = FrameSampler([clip], {})
    seen = torch.stack([sampler.image(sample_generator(0, index)) for index in range(128)])
    assert ((seen[:, 0, 0, 0] + 1) * 127.5).round().max() < 10


def test_an_empty_folder_says_what_to_do(tmp_path) -> None:
    with pytest.raises(InputError, match="no prepared clips"):
        load_folder(tmp_path)


def test_latents_of_a_clip_hide_the_mouth(tmp_path) -> None:
    """Whatever stands inside the mask, the masked latents are the same."""
    torch.manual_seed(0)
    mask = torch.zeros(16, 16)
    mask[8:] = 1
    cache, clip = LatentCache(tiny_vae().eval(), mask, tmp_path), clip_of("a_1", 3, 16)
    altered = np.array(clip.crops)
    altered[:, 8:] = 255 - altered[:, 8:]
    (first, masked), (second, also_masked) = cache(clip), cache(replace(clip, crops=altered))
    assert torch.equal(masked[:], also_masked[:])
    assert not torch.equal(first[:], second[:])
    assert first.shape == (4, 3, 4, 4)


@pytest.mark.parametrize("left", [0, 20, -8])
def test_a_damaged_file_of_a_cache_is_named_and_made_again_once_it_is_removed(tmp_path, left: int) -> None:
    """As an error that a training takes a bad sample by; see `UNetTask.batch`."""
    make = lambda: {"x": torch.arange(12.0)}  # noqa: E731
    path = kept(tmp_path, [b"contents"], make)
    path.write_bytes(path.read_bytes()[:left])
    stored = StoredTensor(path, "x")
    for read in (lambda: stored[:2], lambda: len(stored), lambda: cached(tmp_path, [b"contents"], make)):
        with pytest.raises(InputError, match=rf"'{path}' is damaged or cut off .*: remove it, and it is made again"):
            read()
    path.unlink()
    assert torch.equal(StoredTensor(kept(tmp_path, [b"contents"], make), "x")[:2], torch.tensor([0.0, 1.0]))


def test_processes_of_one_number_fill_one_cache(tmp_path, monkeypatch) -> None:
    """Containers that share a disk count their processes alike: the second writes between the first one's two steps."""
    make, replace_file, others = lambda: {"x": torch.arange(12.0)}, Path.replace, [1]

    def replaced(path: Path, target: Path) -> Path:
        if others:
            others.clear()
            kept(tmp_path, [b"contents"], make)
        return replace_file(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    path = kept(tmp_path, [b"contents"], make)
    assert not others and list(tmp_path.iterdir()) == [path]
    assert torch.equal(cached(tmp_path, [b"contents"], make)["x"], torch.arange(12.0))


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(Unwritable, match=r"cannot be written .*: make room, or set data\.cache_folder"):
            kept(tmp_path, [b"contents"], lambda: {"x": torch.zeros(4096)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("computes", [False, True])
def test_clips_are_encoded_in_bf16_only_where_the_processor_computes_in_it(computes, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": computes}, raising=False)
    vae, encoded_in = tiny_vae().eval(), set()
    vae.encoder.conv_in.register_forward_hook(lambda module, given, found: encoded_in.add(found.dtype))
    LatentCache(vae, torch.ones(16, 16), tmp_path)(clip_of("a_1", 3, 16))
    assert encoded_in == {torch.bfloat16 if computes else torch.float32}


def test_latents_are_kept_for_the_very_pictures_and_the_very_look(tmp_path) -> None:
    """Another look is worked out only where its latents are not there yet."""
    torch.manual_seed(0)
    cache, clip = LatentCache(tiny_vae().eval(), torch.ones(16, 16), tmp_path), clip_of("a_1", 3, 16)
    looks = [Look.random(sample_generator(0, number), 16) for number in range(2)]
    plain, first, second = (cache(clip, look)[0][:] for look in (None, *looks))
    assert len(list(tmp_path.iterdir())) == 3
    assert not torch.equal(plain, first) and not torch.equal(first, second)
    torch.testing.assert_close(first, cache(replace(clip, crops=looks[0](clip.crops)))[0][:])

    class Unworkable(Look):
        def __call__(self, crops):
            raise AssertionError("this has been done before")

    again = Unworkable(looks[0].mirrored, looks[0].curves, looks[0].saturation, looks[0].places)
    assert torch.equal(cache(clip, again)[0][:], first)
