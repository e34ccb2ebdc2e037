"""Synthetic talking heads: the voice, the face and the truth agree with each other and with independent measures."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import linalg

from latentsync.data.synthetic import SyntheticSpeaker, Voice, render, synthesize_speech, write_clip
from latentsync.data.synthetic.phonemes import BILABIALS, LEXICON, SILENCE, SOUNDS
from latentsync.types import AUDIO_SAMPLE_RATE, InputError

CALM = Voice(pitch=110.0, formant_scale=1.0, breathiness=0.2, open_quotient=0.6, rate=0.8, liveliness=0.5)
SENTENCE = "my father may move the piano, baby"
SECONDS = 1.6
MOTION = 11


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def sound_of(speech, symbol: str) -> np.ndarray:
    """The middle of every time a phoneme is said, joined."""
    parts = []
    for p in speech.phonemes:
        if p.symbol == symbol:
            quarter = 0.25 * (p.stop - p.start)
            start, stop = (round(t * AUDIO_SAMPLE_RATE) for t in (p.start + quarter, p.stop - quarter))
            parts.append(speech.waveform[start:stop])
    return np.concatenate(parts)


def rms_db(samples: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


def formants(samples: np.ndarray) -> np.ndarray:
    """Hz of the resonances found by linear prediction (autocorrelation method, order 18, with pre-emphasis)."""
    samples = np.diff(samples.astype(np.float64)) * np.hamming(len(samples) - 1)
    correlation = np.correlate(samples, samples, "full")[len(samples) - 1 :][:19]
    roots = np.roots(np.concatenate([[1.0], -linalg.solve_toeplitz(correlation[:18], correlation[1:19])]))
    roots = roots[(roots.imag > 0) & (np.abs(roots) > 0.9)]
    return np.sort(np.angle(roots)) * AUDIO_SAMPLE_RATE / (2 * np.pi)


@pytest.fixture(scope="module")
def sentence():
    return synthesize_speech(3, text=SENTENCE, voice=CALM)


@pytest.fixture(scope="module")
def speaker() -> SyntheticSpeaker:
    return SyntheticSpeaker(5, 192)


def test_speech_is_a_function_of_its_seed_and_has_the_length_asked_for():
    one, two, other = (synthesize_speech(seed, seconds=1.23) for seed in (4, 4, 5))
    assert len(one.waveform) == len(other.waveform) == round(1.23 * AUDIO_SAMPLE_RATE)
    assert digest(one.waveform, one.tracks.opening) == digest(two.waveform, two.tracks.opening)
    assert digest(one.waveform) != digest(other.waveform)
    assert one.phonemes == two.phonemes and one.text == two.text


def test_phonemes_follow_each_other_without_gaps_and_spell_the_text(sentence):
    assert sentence.phonemes[0].start == 0
    assert all(a.stop == pytest.approx(b.start) for a, b in itertools.pairwise(sentence.phonemes))
    assert sentence.phonemes[-1].stop == pytest.approx(sentence.seconds, abs=0.005)
    said = [p.symbol for p in sentence.phonemes if p.symbol != SILENCE]
    assert said == [sound for word in SENTENCE.replace(",", "").split() for sound in LEXICON[word]]


def test_every_word_of_the_lexicon_is_spelled_in_known_sounds():
    assert {sound for spelling in LEXICON.values() for sound in spelling} == set(SOUNDS) - {SILENCE}


def test_levels_are_those_of_recorded_speech():
    speech = synthesize_speech(8, seconds=6.0)
    spoken, silent = np.zeros(len(speech.waveform), bool), np.zeros(len(speech.waveform), bool)
    for p in speech.phonemes:
        start, stop = round(p.start * AUDIO_SAMPLE_RATE), round(p.stop * AUDIO_SAMPLE_RATE)
        if p.symbol != SILENCE:
            spoken[start:stop] = True
        else:
            silent[start + 800 : stop - 320] = True  # the voice rings a little into the pause
    assert rms_db(speech.waveform[spoken]) == pytest.approx(-20, abs=1.0)
    assert rms_db(speech.waveform[silent]) < -50
    assert 0.2 < np.abs(speech.waveform).max() <= 1.0
    assert 0.05 < silent.mean() < 0.6


@pytest.mark.parametrize("word, symbol", [("father", "AA"), ("sea", "IY"), ("very", "EH"), ("saw", "AO")])
def test_vowels_have_their_formants_by_linear_prediction(word, symbol):
    found = formants(sound_of(synthesize_speech(1, text=word, voice=CALM), symbol))
    for wanted in SOUNDS[symbol].formants[:2]:
        assert np.abs(found / wanted - 1).min() < 0.12, (symbol, wanted, found)


def test_hiss_lies_high_and_voice_low():
    speech = synthesize_speech(1, text="sister, sea, father", voice=CALM)

    def high_share(symbol: str) -> float:
        power = np.abs(np.fft.rfft(sound_of(speech, symbol))) ** 2
        return float(power[len(power) // 2 :].sum() / power.sum())

    assert high_share("S") > 0.8
    assert high_share("AA") < 0.02


def test_pitch_is_the_voices():
    for pitch in (100.0, 200.0):
        samples = sound_of(synthesize_speech(1, text="father", voice=Voice(pitch, 1.0, 0.1, 0.6, 0.6, 0.0)), "AA")
        correlation = np.correlate(samples, samples, "full")[len(samples) - 1 :]
        low, high = AUDIO_SAMPLE_RATE // 300, AUDIO_SAMPLE_RATE // 70
        assert AUDIO_SAMPLE_RATE / (low + correlation[low:high].argmax()) == pytest.approx(pitch, rel=0.05)


def test_lips_meet_in_every_p_b_m_and_in_pauses_and_part_in_open_vowels(sentence):
    closed = 0
    for p in sentence.phonemes:
        times = p.start + np.linspace(0.1, 0.5, 9) * (p.stop - p.start)
        if p.symbol in BILABIALS:
            assert np.all(sentence.articulation(times).opening == 0.0), p
            closed += 1
        elif p.symbol == "AA":
            assert sentence.articulation(times).opening.max() > 0.6
        elif p.symbol == SILENCE and p.stop - p.start > 0.2:
            assert sentence.articulation(np.array([0.5 * (p.start + p.stop)])).opening[0] == 0.0
    assert closed == 6
    assert not sentence.articulation(np.array([-1.0, sentence.seconds + 1])).opening.any()


@pytest.mark.parametrize(
    "arguments, found",
    [({"text": "xylophone"}, "'xylophone'"), ({"text": SENTENCE, "seconds": 0.5}, "does not fit"), ({}, "neither")],
)
def test_what_cannot_be_said_is_refused_in_one_sentence(arguments, found):
    with pytest.raises(InputError, match=found):
        synthesize_speech(0, **arguments)


def test_frames_are_a_function_of_the_seeds(speaker, sentence):
    first = list(itertools.islice(speaker.frames(sentence, MOTION), 3))
    again = list(itertools.islice(render(5, sentence, MOTION, size=192), 3))
    assert digest(*first) == digest(*again)
    assert first[0].shape == (192, 192, 3) and first[0].dtype == np.uint8
    moved = next(speaker.frames(sentence, MOTION + 1))
    assert digest(first[0]) != digest(moved)


def test_frames_are_the_same_in_another_process():
    code = (
        "import hashlib, itertools\n"
        "from latentsync.data.synthetic import render, synthesize_speech\n"
        "speech = synthesize_speech(3, seconds=0.3)\n"
        "frames = render(2, speech, 1, size=64)\n"
        "print(hashlib.sha256(speech.waveform.tobytes() + b''.join(f.tobytes() for f in frames)).hexdigest())"
    )
    speech = synthesize_speech(3, seconds=0.3)
    here = digest(speech.waveform, *render(2, speech, 1, size=64))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.strip() == here


def test_the_counterfactual_differs_only_where_speech_moves_the_face(speaker, sentence):
    other = synthesize_speech(9, seconds=sentence.seconds)
    truth = speaker.truth(sentence, MOTION)
    index = int(np.abs(truth.opening - speaker.truth(other, MOTION).opening).argmax())
    pair = [next(itertools.islice(speaker.frames(speech, MOTION), index, None)) for speech in (sentence, other)]
    above = int(truth.lips[index, ..., 1].min() - 0.22 * 192)
    assert above > 60
    assert np.array_equal(pair[0][:above], pair[1][:above])
    assert np.abs(pair[0][above:].astype(int) - pair[1][above:]).max() > 60


def test_any_frame_rate_shows_the_same_moments_and_any_length_streams(speaker, sentence):
    slow, fast = (speaker.truth(sentence, MOTION, fps=fps, seconds=1.0) for fps in (25, 50))
    assert (len(slow.times), len(fast.times)) == (25, 50)
    assert np.array_equal(slow.lips, fast.lips[::2])
    assert next(speaker.frames(sentence, MOTION, seconds=36_000)).shape == (192, 192, 3)


def test_identities_differ_and_the_room_stays_still(sentence):
    scenes = [next(render(seed, sentence, MOTION, size=96)).astype(int) for seed in range(6)]
    assert all(np.abs(a - b).mean() > 8 for a, b in itertools.combinations(scenes, 2))


def landmarks_of(frames) -> list[np.ndarray | None]:
    from mediapipe.python.solutions.face_mesh import FaceMesh

    found = []
    with FaceMesh(refine_landmarks=True, max_num_faces=1) as mesh:
        for frame in frames:
            faces = mesh.process(frame).multi_face_landmarks
            size = np.array(frame.shape[1::-1])
            found.append(np.array([(p.x, p.y) for p in faces[0].landmark]) * size - 0.5 if faces else None)
    return found


@pytest.mark.parametrize("seed", [5, 21, 24])
def test_the_face_mesh_finds_every_frame_and_measures_the_true_mouth(seed):
    pytest.importorskip("mediapipe")
    from latentsync.faces.lips import face_height, lip_gap

    person, speech = (
        SyntheticSpeaker(seed, 256),
        synthesize_speech(seed, text="happy father, may I".replace("I", "eye")),
    )
    truth = person.truth(speech, MOTION)
    found = landmarks_of(person.frames(speech, MOTION))
    assert all(points is not None for points in found)
    measured = np.array([lip_gap(points) for points in found])
    assert np.corrcoef(measured, truth.opening)[0, 1] > 0.95
    assert np.corrcoef(measured, truth.lip_gap)[0, 1] > 0.95
    assert np.abs(measured - truth.lip_gap).mean() < 0.015
    middle = [points[[0, 13, 14]] - lips[[0, 1, 2], 5] for points, lips in zip(found, truth.lips, strict=True)]
    assert np.linalg.norm(middle, axis=-1).mean() < 0.02 * np.mean([face_height(points) for points in found])


def test_a_written_clip_holds_every_frame_and_the_sound_in_its_place(speaker, sentence, tmp_path):
    import av

    frames = list(speaker.frames(sentence, MOTION, seconds=SECONDS))
    path = tmp_path / "a clip, ça.mp4"
    write_clip(path, frames, waveform=sentence.waveform, crf=14)
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0) if f.pts >= 0])
    assert len(decoded) == len(frames) == round(25 * SECONDS)
    error = np.mean([np.square(a.astype(float) - b) for a, b in zip(decoded, frames, strict=True)])
    assert 10 * np.log10(255**2 / error) > 34
    length = min(len(heard), len(sentence.waveform))
    spectrum = np.fft.rfft(heard[:length], 2 * length) * np.conj(np.fft.rfft(sentence.waveform[:length], 2 * length))
    assert abs(np.fft.fftshift(np.fft.irfft(spectrum)).argmax() - length) <= 16  # 1 ms
