"""The stages of preparation, each against a truth that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import data_clips
import data_pool
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentsync.data.preparation import workers
from latentsync.data.preparation.critics import StableSyncNetCritic
from latentsync.data.preparation.cuts import cuts, scenes, stands_still
from latentsync.data.preparation.features import aligned_sound
from latentsync.data.preparation.quality import exposure, quality, sharpness
from latentsync.data.preparation.resample import tick_table
from latentsync.data.preparation.segments import split_scene
from latentsync.data.preparation.speakers import Speakers, draw_split
from latentsync.data.preparation.store import Dropped, StageStore, Unwritable
from latentsync.data.preparation.sync import LipLevelCritic, Spoken, measure
from latentsync.data.preparation.workers import Pool
from latentsync.data.synthetic import Speech, synthesize_speech
from latentsync.models.stable_syncnet import VisualInput
from latentsync.types import CheckpointError, InputError


@pytest.mark.parametrize("fps", [15, 23.976, 25, 29.97, 60])
def test_every_tick_shows_the_nearest_picture(fps: float) -> None:
    times = np.arange(round(3 * fps)) / fps
    table = tick_table(times, 3.0)
    ticks = np.arange(75) / 25
    assert len(table) == 75
    nearest = np.abs(times[None] - ticks[:, None]).min(axis=1)
    np.testing.assert_allclose(np.abs(times[table] - ticks), nearest, atol=2e-6)
    if fps == 25:
        assert table.tolist() == list(range(75))


def test_scenes_end_at_cuts_and_where_the_picture_stands_still() -> None:
    ticks = np.array([*range(20), *[20] * 30, *range(21, 51)])  # 20 ticks, one picture for 30, 30 ticks
    found = scenes(ticks, pictures=[10, 40])
    assert found == [(0, 10), (10, 20), (20, 50), (50, 69), (69, 80)]
    assert [stands_still(ticks, *span) for span in found] == [False, False, True, False, False]


def test_a_cut_is_found_in_small_pictures(tmp_path: Path) -> None:
    from latentsync.data.synthetic import write_clip

    frames = [frame for seed in (1, 2) for frame in data_clips.spoken(seed)[0][:20]]
    write_clip(tmp_path / "cut.mp4", frames)
    assert cuts(tmp_path / "cut.mp4") == {"cuts": [20]}


def test_a_source_of_15_pictures_a_second_does_not_stand_still() -> None:
    assert scenes(tick_table(np.arange(45) / 15, 3.0), []) == [(0, 75)]


@given(st.integers(0, 100), st.integers(0, 5000), st.integers(32, 250), st.integers(0, 250))
def test_segments_lie_in_their_scene_one_after_the_other(start: int, length: int, shortest: int, more: int) -> None:
    longest = shortest + more
    found = split_scene(start, start + length, shortest, longest)
    assert all(shortest <= stop - first <= longest for first, stop in found)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert bool(found) == (length >= shortest)
    if found:
        assert found[0][0] == start and found[-1][1] <= start + length
    if longest >= 2 * shortest and found:
        assert found[-1][1] == start + length, "nothing is lost where 5 to 10 s leave the choice"


def lips(opening: np.ndarray) -> np.ndarray:
    """(f, 478, 2) landmarks whose lip gap follows `opening`."""
    points = np.zeros((len(opening), 478, 2), np.float32)
    points[:, 152, 1] = 100  # chin; forehead and upper lip at 0
    points[:, 14, 1] = 20 * opening
    return points


@lru_cache
def speech_of(seed: int) -> Speech:
    return synthesize_speech(seed, seconds=8.0)


def talk(seed: int, late: int, frames: int = 150) -> Spoken:
    """A mouth that speaks from tick 30 on, with the sound of the whole video `late` frames too late."""
    speech = speech_of(seed)
    opening = speech.articulation((30 + np.arange(frames)) / 25).opening
    return Spoken(np.zeros((frames, 2, 2, 3), np.uint8), lips(opening), np.roll(speech.waveform, 640 * late), 30)


@pytest.mark.parametrize("late", [-9, -5, 0, 2, 6, 11])
def test_lips_and_loudness_find_an_offset_that_is_clear(late: int) -> None:
    spoken = talk(5, late)
    score = LipLevelCritic().score(spoken, 15)
    assert abs(score.offset - late) <= (1 if abs(late) > 3 else late), "small ones are left alone"
    assert score.confidence > 0.3


def test_sound_of_somebody_else_has_less_confidence() -> None:
    critic = LipLevelCritic()
    first, second = talk(5, 0), talk(6, 0)
    own = [critic.score(spoken, 15).confidence for spoken in (first, second)]
    swapped = [replace(first, waveform=second.waveform), replace(second, waveform=first.waveform)]
    assert min(own) > 1.3 * max(critic.score(spoken, 15).confidence for spoken in swapped)


def test_the_offset_is_zero_after_alignment() -> None:
    late, right = talk(5, 7), talk(5, 0)
    np.testing.assert_array_equal(aligned_sound(late, 7.0), right.own_sound)
    moved = aligned_sound(right, -40.0)  # from before the file begins
    assert not moved[: 10 * 640].any() and np.array_equal(moved[10 * 640 :], right.waveform[: 140 * 640])


def test_silence_and_offsets_at_the_edge_are_dropped() -> None:
    spoken = talk(5, 9)
    with pytest.raises(Dropped, match="nobody is heard"):
        measure(Spoken(spoken.crops, spoken.landmarks, np.zeros_like(spoken.waveform), 30), LipLevelCritic(), 15)
    with pytest.raises(Dropped, match="out of reach"):
        measure(spoken, LipLevelCritic(), 9)
    assert measure(spoken, LipLevelCritic(), 15)["offset"] == pytest.approx(9, abs=1)


class _Loudness(torch.nn.Module):
    """Stands in for StableSyncNet: pictures tell a level by their brightness, which the sound has too."""

    input = VisualInput()

    def visual_encoder(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[1:] == (48, 128, 256)
        return self._unit(images.unflatten(1, (16, 3)).mean(dim=(2, 3, 4)))

    def audio_encoder(self, mel: torch.Tensor) -> torch.Tensor:
        assert mel.shape[1:] == (1, 80, 52)
        return self._unit(torch.nn.functional.adaptive_avg_pool1d(mel.mean(dim=2), 16))[:, 0]

    @staticmethod
    def _unit(curve: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(curve - curve.mean(dim=-1, keepdim=True), dim=-1)


@pytest.mark.parametrize("late", [-8, 0, 5])
def test_a_network_as_critic_finds_the_shift(late: int) -> None:
    rng = np.random.default_rng(0)
    level = np.clip(np.convolve(rng.standard_normal(200), [0.4, 0.6, 0.4], "same"), -1, 1)
    amplitude = np.repeat(10 ** (level / 2 - 1), 640)
    waveform = np.roll((rng.uniform(-1, 1, len(amplitude)) * amplitude).astype(np.float32), 640 * late)
    grey = (128 + 100 * level[40:120]).astype(np.uint8)
    crops = np.broadcast_to(grey[:, None, None, None], (80, 64, 64, 3))
    score = StableSyncNetCritic(_Loudness()).score(Spoken(crops, lips(level[40:120]), waveform, 40), 15)
    assert score.offset == late and score.confidence > 0.5


def test_a_network_that_takes_latents_is_refused() -> None:
    network = _Loudness()
    network.input = VisualInput(space="latent", size=32)
    with pytest.raises(CheckpointError, match="16 frames of latents"):
        StableSyncNetCritic(network)


def test_blur_and_bad_light_cost_quality() -> None:
    import cv2

    rng = np.random.default_rng(0)
    grain = cv2.GaussianBlur(rng.uniform(0, 255, (96, 96)), (0, 0), 1.0)
    picture = np.repeat(np.clip((grain - 127) * 3 + 127, 20, 235).astype(np.uint8)[:, :, None], 3, axis=2)
    blurred = [cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (1, 2, 4)]
    values = [quality(image[None])["quality"] for image in (picture, *blurred)]
    assert values == sorted(values, reverse=True) and values[0] > 2 * values[-1] > 0
    burnt = np.where(picture > 120, 255, picture).astype(np.uint8)
    assert quality(burnt[None])["exposure"] < 0.7 < quality(picture[None])["exposure"]
    assert sharpness(np.full((32, 32), 99.0)) == 0 and exposure(np.full((4, 4), 99.0)) == 1


def test_a_speaker_keeps_its_split_whoever_else_comes() -> None:
    names = [f"id{n:05}" for n in range(2000)]
    drawn = {name: draw_split(name, 0.1, seed=0) for name in names}
    assert 150 < sum(split == "validation" for split in drawn.values()) < 250
    assert drawn["id00007"] == draw_split("id00007", 0.1, seed=0)
    assert [draw_split(name, 0.1, seed=1) for name in names] != list(drawn.values())
    larger = {name for name in names if draw_split(name, 0.2, seed=0) == "validation"}
    assert {name for name in names if drawn[name] == "validation"} < larger, "a larger share only adds"


def test_who_speaks_by_folder_file_and_table(tmp_path: Path) -> None:
    assert Speakers("folder").of("id7/x/1.mp4", "root", {}) == ("id7", "")
    assert Speakers("folder").of("1.mp4", "root", {}) == ("root", "")
    assert Speakers("file").of("x/1.mp4", "root", {}) == ("x/1", "")
    assert Speakers("file").of("x/1.mp4", "root", {"speaker": 12}) == ("12", "")
    table = tmp_path / "t.tsv"
    table.write_text("file\tsize\tspeaker\tsplit\n1.mp4\t9\tanna\tvalidation\nx/2.mp4\t9\tbert\t\n3.mp4\t9\tanna\t\n")
    speakers = Speakers(str(table))
    assert speakers.of("3.mp4", "root", {}) == ("anna", "validation")  # a speaker is in one split with all files
    assert speakers.of("x/1.mp4", "root", {}) == ("anna", "validation")
    assert speakers.of("x/2.mp4", "root", {}) == ("bert", "")
    with pytest.raises(Dropped, match="not in the table"):
        speakers.of("4.mp4", "root", {})
    for text, told in (
        ("a,b\n", "no column file"),
        ("file,speaker\n1.mp4,\n", "line 2: file or speaker is empty"),
        ("file,speaker,split\n1.mp4,anna,train\n2.mp4,anna,validation\n", "files of 'anna' in both splits"),
    ):
        broken = tmp_path / "t.csv"
        broken.write_text(text)
        with pytest.raises(InputError, match=told):
            Speakers(str(broken))


def test_a_bare_name_in_a_table_stands_for_one_video(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("file,speaker\n1.mp4,anna\n2.mp4,bert\n")
    speakers = Speakers(str(table))
    speakers.check({"d/x/1.mp4": "x/1.mp4", "d/2.mp4": "2.mp4", "d/3.mp4": "3.mp4"})
    for names in (("x/1.mp4", "y/1.mp4"), ("1.mp4", "y/1.mp4")):
        with pytest.raises(InputError, match=r"lists '1\.mp4', which may be 'd/.*1\.mp4' or 'd/y/1\.mp4': write"):
            speakers.check({f"d/{name}": name for name in names})
    with pytest.raises(InputError, match=r"may be 'd/1\.mp4' or 'e/1\.mp4'"):  # of two folders that were given
        speakers.check({"d/1.mp4": "1.mp4", "e/1.mp4": "1.mp4"})
    Speakers("folder").check({"d/1.mp4": "1.mp4", "e/1.mp4": "1.mp4"})
    table.write_text("file,speaker\n1.mp4,anna\ny/1.mp4,bert\n")
    Speakers(str(table)).check({"d/1.mp4": "1.mp4", "d/y/1.mp4": "y/1.mp4"})


def test_a_file_with_two_answers_in_a_table_is_named(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("file,speaker,split\n1.mp4,anna,train\n1.mp4,anna,train\n")
    assert Speakers(str(table)).of("1.mp4", "", {}) == ("anna", "train")
    table.write_text("file,speaker,split\n1.mp4,anna,train\n2.mp4,eve,\n1.mp4,bert,\n")
    with pytest.raises(InputError, match=r"line 4: '1\.mp4' is listed twice, as anna, train and bert: leave one"):
        Speakers(str(table))


def failing(error: Exception, cause: Exception) -> Callable[[], dict[str, Any]]:
    def compute() -> dict[str, Any]:
        raise error from cause

    return compute


def test_only_what_the_content_is_to_blame_for_is_stored(tmp_path: Path) -> None:
    """libav's errors are the content's, also those that are OSError: EIO is where a file is cut off."""
    store = StageStore(tmp_path, {"probe": "1"})
    for cause in (PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")):
        with pytest.raises(InputError, match="told"):
            store.result("probe", "key", failing(InputError("told"), cause))
    with pytest.raises(Unwritable):
        store.result("probe", "key", failing(Unwritable("told"), PermissionError(13, "Permission denied")))
    assert not list(tmp_path.rglob("*.json"))
    for cause in (av.error.PermissionError(1, "Operation not permitted"), ValueError("damaged")):
        found = store.result("probe", type(cause).__name__, failing(InputError("told"), cause))
        assert found["dropped"] == "cannot be read"
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_a_task_that_kills_its_process_is_found_and_the_rest_is_done(monkeypatch) -> None:
    monkeypatch.setattr(workers, "one_thread", data_pool.nothing)
    answers = dict(Pool(data_pool.double, 2).answers([1, 2, 13, 4, 5, 6, 7, 8]))
    assert answers == {n: (None if n == 13 else 2 * n) for n in (1, 2, 13, 4, 5, 6, 7, 8)}


def test_what_a_task_raises_ends_the_work(monkeypatch) -> None:
    monkeypatch.setattr(workers, "one_thread", data_pool.nothing)
    with pytest.raises(TypeError):
        list(Pool(data_pool.double, 2).answers([1, None]))
