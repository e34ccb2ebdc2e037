"""UniSync's windows and pairs: the published clocks, what a negative is, silence, other speakers, and whole clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from data_talkers import talker
from models_tiny_unisync import tiny_unisync

from latentsync.audio.mel import syncnet_mel
from latentsync.data.pairs import PairRecipe, PairSampler
from latentsync.data.sync_scores import offsets, shift_scores
from latentsync.data.unisync import UniSyncClip, UniSyncVectors, mel_window, silent_windows, unisync_clip, visual_window
from latentsync.models.unisync import ALL_LEVELS, Audio, Visual
from latentsync.types import InputError

VISUAL, AUDIO = Visual(size=16), Audio()
SAMPLES = 640  # of a frame


def loud(seed: int, speaker: str = "", quiet: slice | None = None, frames: int = 60):
    """A clip whose pictures carry their numbers, silent in the frames of `quiet`."""
    clip = talker(seed, speaker=speaker, frames=frames)
    waveform = np.random.default_rng(seed).standard_normal(len(clip.waveform)).astype(np.float32) * 0.1
    if quiet is not None:
        waveform[quiet.start * SAMPLES : quiet.stop * SAMPLES] = 0.0
    crops = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], clip.crops.shape)
    return replace(clip, waveform=waveform, crops=crops)


def cut(clip, silence: float = 0.01) -> UniSyncClip:
    return unisync_clip(clip, VISUAL, AUDIO, silence=silence)


def sampler(*clips, **recipe) -> PairSampler[Visual]:
    chosen = {"negative_distance": 2, **recipe}
    return PairSampler([cut(clip) for clip in clips], VISUAL, PairRecipe(**chosen), seed=0)


def test_windows_of_sound_begin_on_the_published_clocks() -> None:
    clip = loud(1)
    whole, rows = syncnet_mel(clip.waveform), torch.arange(130.0)[:, None, None].expand(-1, 3, 4)
    of_mel = cut(clip)
    of_rows = unisync_clip(clip, VISUAL, Audio("features", 4, level=1), encode=lambda waveform: rows)
    for frame in (0, 7, 13, 41):
        column = int(80 * frame / 25)
        assert of_mel.mel(frame).shape == (1, 80, 16)
        torch.testing.assert_close(of_mel.mel(frame)[0], whole[:, column : column + 16], atol=1e-5, rtol=0)
        torch.testing.assert_close(mel_window(clip.waveform, frame), of_mel.mel(frame))
        assert of_rows.mel(frame)[:, 0].tolist() == list(range(2 * frame, 2 * frame + 10))
    assert of_mel.images(9, VISUAL, None).shape == (15, 8, 16)
    assert (of_mel.images(9, VISUAL, None) * 127.5 + 127.5).round().unique().tolist() == [9, 10, 11, 12, 13]


def test_levels_are_one_by_number_or_all_side_by_side() -> None:
    rows = torch.randn(130, 3, 4)
    clip, encode = loud(1), lambda waveform: rows
    last, whole = (
        unisync_clip(clip, VISUAL, Audio("features", width, level), encode=encode)
        for width, level in ((4, -1), (12, ALL_LEVELS))
    )
    assert torch.equal(last.mel(0), rows[:10, 2]) and torch.equal(whole.mel(0), rows[:10].flatten(1))
    with pytest.raises(InputError, match=r"listens to 5 numbers a row.*gives 4"):
        unisync_clip(clip, VISUAL, Audio("features", 5, 0), encode=encode)


def test_same_speaker_negatives_skip_the_neighbouring_frame_and_may_overlap() -> None:
    drawn = sampler(loud(1), loud(2))
    batch = drawn.batch(range(200))
    assert batch.match.tolist() == [1.0, 0.0] * 100 and not batch.other_speaker.any()
    sounds = {clip.mel(int(s)).numpy().tobytes(): int(s) for clip in drawn.clips for s in clip.starts}
    seen = ((batch.images[batch.shown, 0, 0, 0] + 1) * 127.5).round().int().tolist()  # a picture shows its number
    heard = [sounds[batch.mel[place].numpy().tobytes()] for place in batch.heard.tolist()]
    shifts = [abs(first - start) for first, start in zip(seen, heard, strict=True)]
    assert set(shifts[::2]) == {0}
    assert min(shifts[1::2]) == 2 and {3, 4} & set(shifts) and max(shifts) > 30


@pytest.mark.parametrize("crossed", [False, True])
def test_the_speaker_of_a_cross_speaker_negative_really_differs(crossed: bool) -> None:
    people = {"talker_1": "ann", "talker_2": "ann", "talker_3": "bob", "talker_4": "eve"}
    drawn = sampler(
        *(loud(seed, speaker) for seed, speaker in enumerate(people.values(), 1)), cross_speaker=0.2, crossed=crossed
    )
    sounds = {c.mel(int(s)).numpy().tobytes(): c.name for c in drawn.clips for s in c.starts}
    batch = drawn.batch(range(64))
    for index in range(64):  # a look at the very sounds
        whose = sounds[batch.mel[batch.heard[index]].numpy().tobytes()]
        pair = drawn._moments(index)
        assert people[whose] == drawn.clips[pair.heard[0]].speaker
        assert bool(batch.other_speaker[index]) == (people[whose] != drawn.clips[pair.seen[0]].speaker)
    assert batch.other_speaker.any() and not batch.other_speaker[batch.match > 0].any()
    pairs = [drawn._moments(index) for index in range(1, 2400, 2)]
    others = [drawn.clips[p.seen[0]].speaker != drawn.clips[p.heard[0]].speaker for p in pairs]
    assert np.mean(others) == pytest.approx(0.2, abs=0.04)


def test_no_negative_is_of_two_silent_windows() -> None:
    clips = [loud(1, "ann", slice(0, 30)), loud(2, "bob", slice(25, 60))]
    drawn = sampler(*clips, cross_speaker=0.5)
    silent = {clip.name: clip.silent for clip in drawn.clips}
    assert silent["talker_1"][:25].all() and not silent["talker_1"][30:50].any()
    met = []
    for index in range(1, 400, 2):
        pair = drawn._moments(index)
        (one, start), (other, place) = pair.seen, pair.heard
        met.append((bool(drawn.clips[one].silent[start]), bool(drawn.clips[other].silent[place])))
    assert (True, True) not in met and {(True, False), (False, True), (False, False)} == set(met)
    without = [replace(clip, silent=np.zeros(60, bool)) for clip in drawn.clips]
    blind = PairSampler(without, VISUAL, PairRecipe(negative_distance=2), seed=0)
    pairs = [blind._moments(index) for index in range(1, 400, 2)]
    assert any(
        silent[blind.clips[p.seen[0]].name][p.seen[1]] and silent[blind.clips[p.heard[0]].name][p.heard[1]]
        for p in pairs
    )


def test_silence_is_measured_on_the_window_itself() -> None:
    clip = loud(1, quiet=slice(20, 40))
    flags = silent_windows(clip, 0.01)
    assert flags[20:36].all() and not flags[:19].any() and not flags[41:55].any()
    assert not silent_windows(clip, 0.0).any() and silent_windows(clip, 1.0).all()
    with pytest.raises(InputError, match="talker_1 is silent throughout"):
        cut(replace(clip, waveform=clip.waveform * 1e-3))


def test_a_batch_is_a_function_of_seed_and_index() -> None:
    clips = [loud(seed, speaker) for seed, speaker in ((1, "ann"), (2, "bob"))]
    one, other = (sampler(*clips, cross_speaker=0.5) for _ in range(2))
    whole, part = one.batch(range(10)), other.batch([7])
    assert torch.equal(whole.images[whole.shown[7]], part.images[0]) and torch.equal(
        whole.mel[whole.heard[7]], part.mel[0]
    )
    assert part.other_speaker[0] == whole.other_speaker[7]


WRONG = {
    "looks at 3 colours a frame": (Visual(size=16), lambda clip: clip.crops[..., :2]),
    "looks at 7 regions on 16 x 16 pixels": (Visual("parsing", 7, 16), lambda clip: np.full((60, 16, 16), 9, np.uint8)),
    "looks at 58 numbers a frame": (Visual("3dmm", 58), lambda clip: np.zeros((60, 56), np.float32)),
}


@pytest.mark.parametrize("told", WRONG)
def test_what_the_network_was_not_built_for_is_told(told: str) -> None:
    visual, represent = WRONG[told]
    with pytest.raises(InputError, match=f"{told}.*give what it was trained with"):
        unisync_clip(loud(1), visual, AUDIO, represent=represent)


def test_vectors_of_a_whole_clip_are_those_of_its_windows() -> None:
    network, clip = tiny_unisync(), talker(3, size=40, frames=80)
    vectors, audio = UniSyncVectors(network), clip.waveform
    seen, heard = vectors.seen(clip.crops), vectors.heard(audio, len(clip) - 4)
    assert seen.shape == heard.shape == (76, 32)
    with torch.no_grad():
        for start in (0, 31, 70):
            window = visual_window(clip.crops[start : start + 5], network.visual)
            likely = network(window[None], mel_window(audio, start)[None])
            assert float(likely) == pytest.approx(float(seen[start] @ heard[start]), abs=1e-5)
    late = np.concatenate([np.zeros(5 * SAMPLES, np.float32), audio])[: len(audio)]  # 5 frames are 16 columns
    moved = vectors.heard(late, len(clip) - 4)
    np.testing.assert_allclose(moved[6:66], heard[1:61], atol=1e-4)  # but for the sound's ends
    found = shift_scores(heard, moved, 15)  # a critic that hears both: sound 5 frames late is found there
    assert np.median(offsets(found)) == 5
    with pytest.raises(InputError, match="needs the encoder that made them"):
        UniSyncVectors(tiny_unisync(audio={"kind": "features", "width": 8}))
