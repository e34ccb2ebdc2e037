"""Talks from files: drawn speakers whose truth is known, other frame rates, and files that are no use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import data_clips
import numpy as np
import pytest
from evaluation_talks import unit
from numpy.lib.stride_tricks import sliding_window_view

from latentsync.data.synthetic import Speech, write_clip
from latentsync.evaluation.sync import protocols
from latentsync.evaluation.sync.critic import Talk
from latentsync.evaluation.sync.judgement import judge
from latentsync.evaluation.sync.talks import Film, read_talks
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.evaluation.timing import offset_between
from latentsync.faces.lips import lip_gap
from latentsync.types import Frame, InputError

SEED = 5


class KnowsTheSpeech(VectorCritic):
    """Hears which part of one speech it is, and knows how far the mouth opens there."""

    name, frames = "oracle", 9

    def __init__(self, speech: Speech) -> None:
        super().__init__()
        self.speech = speech

    def seen(self, talk: Talk) -> np.ndarray:
        return unit(sliding_window_view(np.array([lip_gap(points) for points in talk.landmarks]), self.frames))

    def heard(self, talk: Talk) -> np.ndarray:
        late = offset_between(talk.waveform, self.speech.waveform).seconds
        opening = self.speech.articulation(np.arange(len(talk)) / 25 - late).opening
        return unit(sliding_window_view(opening, self.frames))


@pytest.fixture(scope="module")
def spoken() -> tuple[list[np.ndarray], Speech]:
    return data_clips.spoken(SEED)


@pytest.fixture(scope="module")
def talks(spoken, tmp_path_factory) -> list[Talk]:
    return read_talks(data_clips.write_speaker(tmp_path_factory.mktemp("talks") / "anna.mp4", SEED))


def test_a_drawn_speaker_is_one_talk(talks, spoken) -> None:
    (one,) = talks
    frames, speech = spoken
    assert len(one) == len(frames) and one.name == "anna" and one.notes == ()
    assert len(one.waveform) == 640 * len(one)
    assert offset_between(one.waveform, speech.waveform).seconds == pytest.approx(0, abs=1e-3)
    for _ in range(2):  # every pass begins anew
        shown = list(one.pictures())
        assert len(shown) == len(frames)
        assert np.abs(shown[9].astype(int) - frames[9]).mean() < 4, "the picture itself, but for its encoding"
    crops = list(one.crops(64))
    assert crops[0].shape == (64, 64, 3) and len(crops) == len(one)
    left, top, right, bottom = one.boxes[0]
    assert 0 < left < right < data_clips.SIZE and 0 < top < bottom < data_clips.SIZE


@pytest.mark.parametrize("late", [-6, 0, 5])
def test_a_critic_that_knows_the_truth_finds_the_shift_of_a_drawn_speaker(talks, spoken, late: int) -> None:
    critic = KnowsTheSpeech(spoken[1])
    found = judge(critic, [talks[0].shifted(late)])
    assert abs(found.offset - late) <= 1 and found.confidence > 0.3
    best = protocols.offset_accuracy([critic.scores(talks[0].shifted(late))], critic.frames, late)
    assert best[19] > 0.5


def test_another_frame_rate_is_resampled_by_times_and_said(spoken, tmp_path) -> None:
    frames, speech = spoken
    slow = [frames[round(i * 25 / 30)] for i in range(int(len(frames) * 30 / 25) - 1)]
    write_clip(tmp_path / "thirty.mp4", slow, waveform=speech.waveform, fps=30)
    (one,) = read_talks(tmp_path / "thirty.mp4")
    assert abs(len(one) - len(slow) * 25 / 30) <= 1
    assert one.notes == ("thirty.mp4 has 30 frames a second: measured at 25, of each tick the nearest picture",)
    shown = list(one.pictures())
    assert np.abs(shown[20].astype(int) - frames[20]).mean() < 5
    assert abs(judge(KnowsTheSpeech(speech), [one]).offset) <= 1


def test_a_cut_makes_two_talks(spoken, tmp_path) -> None:
    frames, speech = spoken
    others = data_clips.spoken(SEED + 1)[0]
    write_clip(tmp_path / "cut.mp4", [*frames[:20], *others[:20]], waveform=speech.waveform)
    first, second = read_talks(tmp_path / "cut.mp4")
    assert len(first) == len(second) == 20
    assert offset_between(second.waveform, speech.waveform).seconds == pytest.approx(-20 / 25, abs=1e-3)
    assert np.abs(next(second.pictures()).astype(int) - others[0]).mean() < 5


def test_parts_of_a_film_in_order_are_decoded_once() -> None:
    """Any passes show what they should; only one that goes back, or was given up, costs a decoding of its own."""
    opened, decoded = [], []

    def frames() -> Iterator[Frame]:
        opened.append(len(decoded))
        for index in range(30):
            decoded.append(index)
            yield Frame(index, index / 25, np.full((1, 1, 3), index, np.uint8))

    def shown(pictures: Iterable[np.ndarray]) -> list[int]:
        return [int(image[0, 0, 0]) for image in pictures]

    film = Film(frames)
    parts = [(0, 8), (8, 9), (12, 20), (20, 30)]
    assert [shown(film.between(*part)) for part in parts] == [list(range(*part)) for part in parts]
    assert opened == [0] and decoded == list(range(30))
    given_up = film.between(2, 10)
    assert next(given_up)[0, 0, 0] == 2
    assert shown(film.between(4, 6)) == [4, 5] and shown(given_up) == list(range(3, 10))
    assert shown(film.between(25, 40)) == list(range(25, 30)) and shown(film.between(0, 2)) == [0, 1]


def test_files_that_cannot_be_judged_say_why(spoken, tmp_path) -> None:
    frames, speech = spoken
    mute = data_clips.write_speaker(tmp_path / "mute.mp4", SEED, sound=False)
    with pytest.raises(InputError, match=r"mute\.mp4.* (sound|audio)"):
        read_talks(mute)
    with pytest.raises(InputError, match="no face was found in any picture"):
        read_talks(data_clips.write_faceless(tmp_path / "nobody.mp4", SEED))
    write_clip(tmp_path / "short.mp4", frames[:10], waveform=speech.waveform)
    with pytest.raises(InputError, match=r"pictures with sound last 0\.40 s, and 0\.64 s are needed"):
        read_talks(tmp_path / "short.mp4")
    write_clip(tmp_path / "cutoff.mp4", frames, waveform=speech.waveform[:3000])
    with pytest.raises(InputError, match="pictures with sound last"):
        read_talks(tmp_path / "cutoff.mp4")
    with pytest.raises(InputError, match=r"none\.mp4"):
        read_talks(tmp_path / "none.mp4")


def test_a_moment_without_a_face_splits_and_is_said(spoken, tmp_path) -> None:
    frames, speech = spoken
    grey = [np.full_like(frames[0], 128)] * 16
    write_clip(tmp_path / "gap.mp4", [*frames[:18], *grey, *frames[18:24]], waveform=speech.waveform)
    (one,) = read_talks(tmp_path / "gap.mp4")
    assert len(one) == 18 and one.notes[0].startswith("18 of 40 pictures were judged")


def test_sound_is_cut_or_filled_to_the_pictures(talks) -> None:
    one = talks[0]
    assert len(one.with_sound(np.ones(5, np.float32)).waveform) == len(one.with_sound(np.ones(10**6)).waveform)
    late = one.shifted(2)
    assert not late.waveform[:1280].any() and np.array_equal(late.waveform[1280:], one.waveform[:-1280])
    early = one.shifted(-3)
    assert not early.waveform[-1920:].any() and np.array_equal(early.waveform[:-1920], one.waveform[1920:])
    assert np.array_equal(one.shifted(0).waveform, one.waveform)
