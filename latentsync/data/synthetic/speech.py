"""Sentences of the synthetic voice: sound, exact phoneme times and the mouth that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import gaussian_filter1d

from latentsync.data.synthetic import voice as synth
from latentsync.data.synthetic.phonemes import BILABIALS, FUNCTION_WORDS, LEXICON, SILENCE, SOUNDS, Mouth
from latentsync.data.synthetic.voice import STEP_SAMPLES, STEP_SECONDS, Voice, VoiceTracks
from latentsync.types import AUDIO_SAMPLE_RATE, InputError

_LEAD_SECONDS = (0.12, 0.3)  # silence before the first and after the last word
_PAUSE_SECONDS = (0.18, 0.5)
_PHRASE_WORDS = (3, 7)
_LIP_SECONDS = 0.035  # how far a sound's claim on the mouth reaches beyond its own time
_CLOSE_SECONDS = 0.07  # lips need so long to shut for p, b, m
_REST_SECONDS = 0.16  # and so long to come to rest in a pause
_NOTHING_LEFT = 39  # standard deviations from which a Gaussian is 0 in float64
_ROOM_NOISE = 10 ** (-62 / 20)  # of full scale: no recording is digitally silent


@dataclass(frozen=True)
class Phoneme:
    """One sound with its exact time."""

    symbol: str
    start: float  # seconds
    stop: float  # seconds
    stressed: bool = False


@dataclass(frozen=True)
class Articulation:
    """Mouth at each of n times; every field is (n,) float64."""

    opening: np.ndarray  # 0 lips closed .. 1 wide open
    width: np.ndarray  # -1 narrow .. 1 spread
    rounding: np.ndarray  # 0 .. 1
    teeth: np.ndarray  # 0 rows as far apart as the jaw .. 1 rows meet
    tongue: np.ndarray  # 0 lies low .. 1 tip at the upper teeth


@dataclass(frozen=True)
class Speech:
    """One utterance."""

    waveform: np.ndarray  # (samples,) float32, 16 kHz, [-1, 1]
    phonemes: tuple[Phoneme, ...]  # without gaps from 0 to the end; pauses are SIL
    text: str
    voice: Voice
    tracks: Articulation  # one row every 2.5 ms, the first at 1.25 ms

    @property
    def seconds(self) -> float:
        return len(self.waveform) / AUDIO_SAMPLE_RATE

    def articulation(self, times: np.ndarray) -> Articulation:
        """Mouth at `times` (n,) seconds; before and after the utterance it rests closed."""
        grid = (np.arange(len(self.tracks.opening)) + 0.5) * STEP_SECONDS
        return Articulation(
            *(np.interp(times, grid, getattr(self.tracks, f.name), left=0.0, right=0.0) for f in fields(Articulation))
        )

    def sounds_at(self, times: np.ndarray) -> tuple[str, ...]:
        """Symbol of the phoneme at each of `times` (n,) seconds; SIL before and after the utterance."""
        stops = np.array([phoneme.stop for phoneme in self.phonemes])
        found = np.searchsorted(stops, times, side="right")
        symbols = [*(phoneme.symbol for phoneme in self.phonemes), SILENCE]
        return tuple(SILENCE if time < 0 else symbols[index] for time, index in zip(times, found, strict=True))


def synthesize_speech(
    seed: int, *, seconds: float | None = None, text: str | None = None, voice: Voice | None = None
) -> Speech:
    """Speak `text` (words of `LEXICON`; a comma or full stop pauses), or random sentences for exactly `seconds`.

    Everything, the voice too where none is given, is a function of the arguments. With both, `text` must fit
    and silence fills the rest. Raises InputError for unknown words and for times that do not fit.
    """
    rng = np.random.default_rng([0x5BEEC4, seed])
    voice = voice or Voice.random(seed)
    if text is not None:
        phonemes, said = _spell(text, voice, rng)
    elif seconds is not None:
        phonemes, said = _babble(seconds, voice, rng)
    else:
        raise InputError("synthesize_speech got neither text nor seconds; give at least one of them.")
    phonemes = _padded(phonemes, seconds)
    steps = round(phonemes[-1].stop / STEP_SECONDS)
    tracks = _voice_tracks(phonemes, steps, voice, rng)
    samples = steps * STEP_SAMPLES
    quiet = _ROOM_NOISE * rng.standard_normal(samples).astype(np.float32)
    waveform = synth.level(synth.synthesize(tracks, voice, rng), _speaking(phonemes, samples)) + quiet
    if seconds is not None:
        samples = round(seconds * AUDIO_SAMPLE_RATE)
        waveform = np.pad(waveform, (0, max(0, samples - len(waveform))))[:samples]
    return Speech(waveform.astype(np.float32), tuple(phonemes), said, voice, _mouth_tracks(phonemes, steps))


def _spell(text: str, voice: Voice, rng: np.random.Generator) -> tuple[list[Phoneme], str]:
    phonemes = [Phoneme(SILENCE, 0.0, rng.uniform(*_LEAD_SECONDS))]
    for word in text.lower().replace(",", " , ").replace(".", " . ").split():
        if word in {",", "."}:
            phonemes.append(_pause(phonemes, rng))
        elif word in LEXICON:
            phonemes += _word(word, phonemes[-1].stop, voice, rng)
        else:
            raise InputError(f"The synthetic voice cannot say {word!r}; use words of phonemes.LEXICON.")
    return phonemes if phonemes[-1].symbol == SILENCE else [*phonemes, _pause(phonemes, rng)], text


def _babble(seconds: float, voice: Voice, rng: np.random.Generator) -> tuple[list[Phoneme], str]:
    """Random phrases: words until none fits."""
    words, said = sorted(LEXICON), []
    phonemes = [Phoneme(SILENCE, 0.0, min(rng.uniform(*_LEAD_SECONDS), seconds))]
    left = int(rng.integers(*_PHRASE_WORDS))
    while True:
        word = words[rng.integers(len(words))]
        if left == 0:
            phonemes.append(_pause(phonemes, rng))
            left, said = int(rng.integers(*_PHRASE_WORDS)), [*said, ","]
        sounds = _word(word, phonemes[-1].stop, voice, rng)
        if sounds[-1].stop + _LEAD_SECONDS[0] > seconds:
            return phonemes, " ".join(said).replace(" ,", ",")
        phonemes += sounds
        said.append(word)
        left -= 1


def _word(word: str, start: float, voice: Voice, rng: np.random.Generator) -> list[Phoneme]:
    """Sounds of a word from `start` seconds on; the first vowel of a content word carries the stress."""
    sounds, stressed = [], word in FUNCTION_WORDS
    for symbol in LEXICON[word]:
        sound = SOUNDS[symbol]
        stress = sound.vowel and not stressed and symbol != "AX"
        stressed = stressed or stress
        length = sound.seconds * rng.uniform(0.85, 1.2) / voice.rate
        length *= 1.3 if stress else 0.8 if word in FUNCTION_WORDS else 1.0
        length = round(length / STEP_SECONDS) * STEP_SECONDS
        sounds.append(Phoneme(symbol, start, start + length, stress))
        start += length
    return sounds


def _pause(phonemes: list[Phoneme], rng: np.random.Generator) -> Phoneme:
    return Phoneme(SILENCE, phonemes[-1].stop, phonemes[-1].stop + rng.uniform(*_PAUSE_SECONDS))


def _padded(phonemes: list[Phoneme], seconds: float | None) -> list[Phoneme]:
    """Close the utterance with silence up to `seconds`."""
    last = phonemes[-1]
    if seconds is None:
        return phonemes
    if last.symbol == SILENCE:
        phonemes, last = phonemes[:-1], Phoneme(SILENCE, last.start, last.start)
        last_start = last.start
    else:
        last_start = last.stop
    if last_start > seconds:
        raise InputError(f"The text takes {last_start:.2f} s and does not fit in {seconds:.2f} s; shorten it.")
    stop = np.ceil(seconds / STEP_SECONDS - 1e-6) * STEP_SECONDS
    return [*phonemes, Phoneme(SILENCE, last_start, float(stop))]


def _speaking(phonemes: list[Phoneme], samples: int) -> np.ndarray:
    mask = np.zeros(samples, bool)
    for p in phonemes:
        if p.symbol != SILENCE:
            mask[int(p.start * AUDIO_SAMPLE_RATE) : int(p.stop * AUDIO_SAMPLE_RATE)] = True
    return mask


def _voice_tracks(phonemes: list[Phoneme], steps: int, voice: Voice, rng: np.random.Generator) -> VoiceTracks:
    """Targets held in the middle of each sound, gliding between them; amplitudes switch in a few milliseconds."""
    knots, values = [], []
    amplitude = np.zeros((steps, 3))
    noise = np.full((steps, 2), (4000.0, 2000.0))
    nasality = np.zeros(steps)
    for i, p in enumerate(phonemes):
        sound, length = SOUNDS[p.symbol], p.stop - p.start
        start = sound.formants
        if p.symbol in {SILENCE, "HH"}:  # they have no shape of their own: take that of what follows
            start = SOUNDS[phonemes[min(i + 1, len(phonemes) - 1)].symbol].formants
        knots += [p.start + 0.35 * length, p.start + 0.7 * length]
        values += [start, sound.glide[0] if sound.glide else start]
        span = slice(round(p.start / STEP_SECONDS), round(p.stop / STEP_SECONDS))
        noise[span], nasality[span] = sound.noise_band, float(sound.nasal)
        _switch(amplitude, p, sound.sources)
    grid = (np.arange(steps) + 0.5) * STEP_SECONDS
    targets = np.array(values, float)
    formants = np.stack([np.interp(grid, knots, targets[:, k]) for k in range(3)], axis=1)
    amplitude = gaussian_filter1d(amplitude, 0.005 / STEP_SECONDS, axis=0)
    return VoiceTracks(
        _pitch(phonemes, steps, voice, rng),
        gaussian_filter1d(formants, 0.008 / STEP_SECONDS, axis=0),
        amplitude[:, 0],
        amplitude[:, 1],
        amplitude[:, 2],
        noise[:, 0],
        noise[:, 1],
        gaussian_filter1d(nasality, 0.008 / STEP_SECONDS),
    )


def _switch(amplitude: np.ndarray, p: Phoneme, sources: tuple[tuple[float, float, float, float], ...]) -> None:
    """Write voicing, aspiration and frication of one sound into `amplitude` (steps, 3)."""
    at = p.start
    for share, *levels in sources:
        stop = at + share * (p.stop - p.start)
        amplitude[round(at / STEP_SECONDS) : round(stop / STEP_SECONDS)] = levels
        if p.stressed:
            amplitude[round(at / STEP_SECONDS) : round(stop / STEP_SECONDS), 0] *= 1.25
        at = stop


def _pitch(phonemes: list[Phoneme], steps: int, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Falls over each phrase, rises on stressed vowels, wanders a little; (steps,) Hz."""
    grid = (np.arange(steps) + 0.5) * STEP_SECONDS
    contour = np.zeros(steps)
    phrase_start = 0.0
    for p in phonemes:
        if p.symbol == SILENCE:
            first, end = np.searchsorted(grid, (phrase_start, p.start))
            contour[first:end] += np.linspace(0.12, -0.2, end - first)
            phrase_start = p.stop
        elif p.stressed:
            centre = (p.start + p.stop) / 2
            near = slice(*np.searchsorted(grid, (centre - _NOTHING_LEFT * 0.07, centre + _NOTHING_LEFT * 0.07)))
            contour[near] += rng.uniform(0.05, 0.22) * np.exp(-0.5 * np.square((grid[near] - centre) / 0.07))
    wander = gaussian_filter1d(rng.standard_normal(steps), 0.1 / STEP_SECONDS) * np.sqrt(0.1 / STEP_SECONDS)
    return voice.pitch * np.exp(voice.liveliness * (contour + 0.02 * wander))


def _mouth_tracks(phonemes: list[Phoneme], steps: int) -> Articulation:
    """Coarticulation by dominance (Cohen & Massaro 1993): each time is the mean of all targets, weighted by a claim
    that fades exponentially outside the sound; then p, b, m and long pauses shut the lips completely."""
    grid = (np.arange(steps) + 0.5) * STEP_SECONDS
    total, weight = np.zeros((steps, 5)), np.full((steps, 1), 1e-9)
    for start, stop, mouth in _claims(phonemes):
        lo, hi = np.searchsorted(grid, (start - 0.4, stop + 0.4))
        outside = np.maximum(np.maximum(start - grid[lo:hi], grid[lo:hi] - stop), 0.0)
        claim = mouth.pull * np.exp(-outside / _LIP_SECONDS)[:, None]
        total[lo:hi] += claim * (mouth.opening, mouth.width, mouth.rounding, mouth.teeth, mouth.tongue)
        weight[lo:hi] += claim
    tracks = gaussian_filter1d(total / weight, 0.014 / STEP_SECONDS, axis=0)
    tracks[:, 0] *= 1.0 - _closure(phonemes, grid)
    return Articulation(*np.ascontiguousarray(tracks.T))


def _claims(phonemes: list[Phoneme]) -> list[tuple[float, float, Mouth]]:
    """(start, stop, target) of every sound; a diphthong makes two."""
    claims = []
    for p in phonemes:
        sound, trim = SOUNDS[p.symbol], 0.15 * (p.stop - p.start)
        middle = 0.5 * (p.start + p.stop)
        if sound.glide:
            claims += [(p.start + trim, middle, sound.mouth), (middle, p.stop - trim, sound.glide[1])]
        else:
            claims.append((p.start + trim, p.stop - trim, sound.mouth))
    return claims


def _closure(phonemes: list[Phoneme], grid: np.ndarray) -> np.ndarray:
    """(steps,) 0 .. 1: 1 where the lips touch. A stop's release opens them before its burst ends."""
    shut = np.zeros_like(grid)
    for p in phonemes:
        if p.symbol in BILABIALS:
            hold, ramp = SOUNDS[p.symbol].sources[0][0], _CLOSE_SECONDS
            start, stop = p.start, p.start + hold * (p.stop - p.start)
        elif p.symbol == SILENCE:
            ramp = _REST_SECONDS
            start, stop = p.start + (0.06 if p.start > 0 else 0.0), p.stop - 0.04
        else:
            continue
        if stop <= start:
            continue
        span = slice(*np.searchsorted(grid, (start - ramp, stop + ramp)))
        outside = np.maximum(np.maximum(start - grid[span], grid[span] - stop), 0.0)
        near = np.clip(outside / ramp, 0.0, 1.0)
        shut[span] = np.maximum(shut[span], 1.0 - near * near * (3 - 2 * near))
    return shut
