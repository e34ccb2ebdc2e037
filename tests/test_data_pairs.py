"""Pairs: the published clock, half of them from elsewhere, the same whoever draws them, clips refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_talkers import talker
from diffusers import AutoencoderKL

from latentsync.audio.mel import syncnet_length, syncnet_mel
from latentsync.audio.windows import syncnet_start
from latentsync.data.crops import Prepared
from latentsync.data.pairs import HalfLatents, PairRecipe, PairSampler, sync_clip, sync_clips
from latentsync.data.sampling import other_looks
from latentsync.models import autoencoder
from latentsync.models.stable_syncnet import VisualInput
from latentsync.types import InputError

SEEN = VisualInput(frames=16, size=16)
DISTANCE = 5


def sampler(*clips, seed: int = 0, **recipe) -> PairSampler:
    return PairSampler([sync_clip(clip, 16, DISTANCE) for clip in clips], SEEN, PairRecipe(**recipe), seed)


def test_a_window_starts_at_the_published_column() -> None:
    frames = range(5000)
    assert [syncnet_start(frame / 25) for frame in frames] == [int(80 * frame / 25) for frame in frames]


def test_the_sound_of_a_window_is_a_slice_of_the_whole_clips_mel() -> None:
    clip = talker(1)
    cut, whole = sync_clip(clip, 16, DISTANCE), syncnet_mel(clip.waveform)
    assert cut.starts[0] == 0 and cut.starts[-1] == len(clip) - 16
    for start in (0, 7, int(cut.starts[-1])):
        column = int(80 * start / 25)
        torch.testing.assert_close(cut.mel(start)[0], whole[:, column : column + 52], atol=1e-5, rtol=0)


def test_a_mel_that_was_prepared_is_heard_and_one_of_another_waveform_is_not(tmp_path: Path) -> None:
    clip = talker(1)
    np.save(tmp_path / "mel.npy", np.full((80, syncnet_length(clip.waveform)), 3.0, np.float32))
    prepared = replace(clip, prepared=Prepared(clip.crops, b"name", clip.waveform, tmp_path / "mel.npy"))
    assert (sync_clip(prepared, 16, DISTANCE).mel(5) == 3).all()
    moved = replace(prepared, waveform=np.roll(clip.waveform, 640))
    expected = syncnet_mel(moved.waveform)[:, 16 : 16 + 52]
    torch.testing.assert_close(sync_clip(moved, 16, DISTANCE).mel(5)[0], expected, atol=1e-5, rtol=0)


def numbered(clip):
    """The same clip, each picture as grey as its number."""
    numbers = np.arange(len(clip), dtype=np.uint8)[:, None, None, None]
    return replace(clip, crops=np.broadcast_to(numbers, clip.crops.shape))


def places(drawn: PairSampler, index: int) -> tuple[int, str, int]:
    """First frame of the pictures, and whose window the sound is."""
    images, mel, _ = drawn.pair(index)
    first = round((float(images[0, 0, 0]) + 1) * 127.5)
    windows = [(clip, int(start)) for clip in drawn.clips for start in clip.starts]
    [(heard, start)] = [(clip.name, start) for clip, start in windows if torch.equal(clip.mel(start), mel)]
    return first, heard, start


def test_half_of_the_pairs_are_from_another_moment_of_the_same_clip() -> None:
    drawn = sampler(numbered(talker(1)), numbered(talker(2)))
    match = drawn.batch(range(20)).match
    assert match.tolist() == [1.0, 0.0] * 10
    found = [places(drawn, index) for index in range(20)]
    assert all(first == start for first, _, start in found[::2])
    apart = [abs(first - start) for first, _, start in found[1::2]]
    assert min(apart) >= DISTANCE and len(set(apart)) > 3
    assert len({first for first, _, _ in found}) > 8 and {name for _, name, _ in found} == {"talker_1", "talker_2"}


def test_a_pair_is_a_function_of_seed_and_index() -> None:
    clips = [talker(1), talker(2)]
    batch, again = sampler(*clips).batch([5, 2]), sampler(*clips).batch([2])
    assert torch.equal(batch.images[1], again.images[0]) and torch.equal(batch.mel[1], again.mel[0])
    other = sampler(*clips, seed=1).batch([5, 2])
    assert not torch.equal(batch.images, other.images)


def test_another_look_changes_the_picture_and_not_the_sound() -> None:
    plain, changed = (sampler(talker(1), changed_looks=share).batch(range(4)) for share in (0.0, 1.0))
    assert torch.equal(plain.mel, changed.mel) and not torch.equal(plain.images, changed.images)
    assert changed.images.abs().max() <= 1


def test_cross_speaker_pairs() -> None:
    clips = [talker(1, speaker="ann"), talker(2, speaker="bob"), talker(3)]
    drawn = sampler(*clips, cross_speaker=1.0)
    own = {id(clip.pictures): clip.name for clip in drawn.clips}
    assert len(own) == 3
    heard = [name for index in range(1, 40, 2) for name in [whose(drawn, index)] if name]
    assert heard and all(heard)
    with pytest.raises(InputError, match=r"name only one speaker \(ann\).*cross_speaker=0"):
        sampler(clips[0], clips[2], cross_speaker=0.2)
    with pytest.raises(InputError, match="name no speakers"):
        sampler(clips[2], cross_speaker=0.2)


def whose(drawn: PairSampler, index: int) -> str:
    """Empty for a clip of no known speaker; else asserts that picture and sound are of two speakers."""
    images, mel, _ = drawn.pair(index)
    shown = {clip.name for clip in drawn.clips for s in clip.starts if torch.equal(clip.images(s, SEEN, None), images)}
    heard = {clip.name for clip in drawn.clips for s in clip.starts if torch.equal(clip.mel(s), mel)}
    if shown == {"talker_3"}:
        assert heard == {"talker_3"}
        return ""
    assert len(heard) == 1 and not heard & shown and heard <= {"talker_1", "talker_2"}
    return heard.pop()


def test_crossed_pairs_are_two_moments_with_each_others_sounds() -> None:
    drawn = sampler(numbered(talker(1)), numbered(talker(2)), crossed=True)
    for first in range(0, 24, 4):
        one, other, other_again, one_again = (places(drawn, first + number) for number in (0, 1, 2, 3))
        assert one[0] == one[2] == other[0] == one_again[2]  # the first moment's pictures, and its sound
        assert other_again[0] == other_again[2] == other[2] == one_again[0]
        assert abs(one[0] - other_again[0]) >= DISTANCE
    batch = drawn.batch(range(24))
    assert batch.match.tolist() == [1.0, 0.0] * 12 and len(batch.images) == len(batch.mel) == 12
    for index in range(24):
        images, mel, match = drawn.pair(index)
        assert torch.equal(batch.images[batch.shown[index]], images)
        assert torch.equal(batch.mel[batch.heard[index]], mel) and batch.match[index] == match
    part = drawn.batch([6, 9])  # what another process would draw
    assert torch.equal(part.images[0], batch.images[batch.shown[6]])


def test_crossed_pairs_are_in_one_look_and_may_be_of_two_speakers() -> None:
    looks = sampler(talker(1), crossed=True, changed_looks=1.0)
    assert torch.equal(looks.pair(0)[0], looks.pair(1)[0])
    still = sampler(
        replace(talker(1), crops=np.repeat(talker(1).crops[:1], 60, axis=0)), crossed=True, changed_looks=1.0
    )
    assert torch.equal(still.pair(0)[0], still.pair(2)[0]) and not torch.equal(still.pair(0)[0], still.pair(4)[0])
    two = sampler(talker(1, speaker="ann"), talker(2, speaker="bob"), crossed=True, cross_speaker=1.0)
    assert all(whose(two, index) for index in range(1, 12, 2))


def cut_short(clip, frames: int):
    return replace(clip, crops=clip.crops[:frames], landmarks=clip.landmarks[:frames], times=clip.times[:frames])


def without_face(clip, frames: slice):
    landmarks = clip.landmarks.copy()
    landmarks[frames] = np.nan
    return replace(clip, landmarks=landmarks)


BAD = {
    "has 31 frames, and pairs need two windows, 32 frames": lambda clip: cut_short(clip, 31),
    "shows a face in no 16 frames in a row": lambda clip: without_face(clip, slice(None, None, 10)),
    "has 30 frames a second where 25 are wanted": lambda clip: replace(clip, times=clip.times * 25 / 30),
    "has 100 samples of sound": lambda clip: replace(clip, waveform=clip.waveform[:100]),
    "has sound that is no number": lambda clip: replace(clip, waveform=clip.waveform * np.nan),
    "has 0 samples of sound": lambda clip: replace(clip, waveform=clip.waveform[:0]),
    "no two windows of 16 frames 5 frames apart": lambda clip: without_face(clip, slice(19, None)),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_clip_that_gives_no_pairs_is_refused_by_name(reason: str) -> None:
    with pytest.raises(InputError, match=f"talker_1 .*{reason}"):
        sync_clip(BAD[reason](talker(1)), 16, DISTANCE)


def test_refused_clips_are_left_out_and_named() -> None:
    kept, skipped = sync_clips([talker(1), cut_short(talker(2), 20)], SEEN, DISTANCE)
    assert [clip.name for clip in kept] == ["talker_1"]
    assert len(skipped) == 1 and skipped[0].startswith("talker_2 has 20 frames")
    with pytest.raises(InputError, match=r"no clip can be used.*talker_2 has 20 frames"):
        sync_clips([cut_short(talker(2), 20)], SEEN, DISTANCE)


def test_every_start_has_a_partner() -> None:
    clip = sync_clip(cut_short(talker(1), 33), 16, 12)
    assert len(clip.starts) and all((np.abs(clip.starts - start) >= 12).any() for start in clip.starts)
    PairSampler([clip], SEEN, PairRecipe(negative_distance=12), 0).batch(range(40))


def tiny_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, **kinds)  # type: ignore[arg-type]
    return vae.eval()


def test_latents_are_encoded_once_for_the_very_pictures(tmp_path, monkeypatch) -> None:
    vae, seen = tiny_vae(), VisualInput(space="latent", frames=16, size=8)
    encode, clip = HalfLatents(vae, seen, tmp_path), talker(1)
    cut, _ = sync_clips([clip], seen, DISTANCE, encode)
    assert not list(tmp_path.iterdir())  # a dry run comes this far
    kept = [one.encoded(encode) for one in cut]
    with torch.no_grad():
        images = torch.from_numpy(clip.crops).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
        expected = autoencoder.encode(vae, images)[0, :, 3:19, 4:].transpose(0, 1).flatten(0, 1)
    made = PairSampler(kept, seen, PairRecipe(), 0).clips[0].images(3, seen, None)
    torch.testing.assert_close(made, expected, atol=2e-3, rtol=1e-3)
    looked = cut[0].with_looks(2, seed=5)[2]
    changed = replace(clip, crops=other_looks(clip, 2, 5)[1](clip.crops))
    fresh = HalfLatents(vae, seen, tmp_path / "fresh")
    assert torch.equal(looked.encoded(encode).pictures[:], fresh(changed)[:])
    assert not torch.equal(fresh(changed)[:], kept[0].pictures[:])
    assert looked.encoded(encode).sound is cut[0].sound
    other = replace(clip, crops=clip.crops[:, ::-1])  # the same name, other pictures
    encode(other)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    monkeypatch.setattr(autoencoder, "encode", None)
    assert torch.equal(HalfLatents(vae, seen, tmp_path)(clip)[:], torch.as_tensor(kept[0].pictures[:]))
    with pytest.raises(InputError, match="talker_1 has crops of 16 px, and latents of size 12 need 24 px"):
        sync_clips([clip], seen, DISTANCE, HalfLatents(vae, VisualInput(space="latent", size=12), tmp_path))
