"""The example clip is what its script makes, and stays small."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from latentsync.data.synthetic import SyntheticSpeaker
from latentsync.media.audio import read_waveform

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MAX_BYTES = 1_500_000


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("make_example", EXAMPLES / "make_example.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def speaker(recipe) -> SyntheticSpeaker:
    return SyntheticSpeaker(recipe.IDENTITY, recipe.SIZE)


def test_the_example_is_small():
    assert sum(path.stat().st_size for path in EXAMPLES.iterdir() if path.is_file()) < MAX_BYTES


def test_the_stored_truth_is_that_of_the_script(recipe, speaker):
    stored = json.loads((EXAMPLES / "truth.json").read_text(encoding="utf-8"))
    assert (stored["identity"], stored["motion"], stored["size"]) == (recipe.IDENTITY, recipe.MOTION, recipe.SIZE)
    for name, speech in zip(("talk", "speech"), recipe.sentences(), strict=True):
        made = recipe.truth(speaker, speech)
        assert stored[name]["text"] == made["text"]
        assert np.allclose(stored[name]["opening"], made["opening"], atol=1e-3)
        assert np.allclose(stored[name]["lip_gap"], made["lip_gap"], atol=1e-4)
        assert len(made["opening"]) == round(recipe.SECONDS * stored["fps"])


def test_the_stored_clip_shows_the_scripts_frames(recipe, speaker):
    import av

    talk, _ = recipe.sentences()
    with av.open(str(EXAMPLES / "talk.mp4")) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(stored) == round(recipe.SECONDS * 25)
    for index in (0, 40):
        drawn = next(itertools.islice(speaker.frames(talk, recipe.MOTION), index, None))
        error = np.square(stored[index].astype(float) - drawn).mean()
        assert 10 * np.log10(255**2 / error) > 33


def test_the_stored_sound_is_the_scripts(recipe):
    talk, speech = recipe.sentences()
    for name, wanted in (("speech.wav", speech.waveform), ("talk.mp4", talk.waveform)):
        with read_waveform(EXAMPLES / name) as heard:
            samples = heard.read(0, len(wanted))
        assert np.corrcoef(samples, wanted)[0, 1] > 0.98, name
