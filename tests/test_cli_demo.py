"""The demo's score tells a right mouth from an untouched one, and the demo runs and says where to look."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil

import pytest

from latentsync.cli import demo, main
from latentsync.cli.demo import score
from latentsync.config import resource
from latentsync.data.synthetic import SyntheticSpeaker, write_clip


@pytest.fixture(scope="module")
def right_dub(tmp_path_factory):
    """The pictures that a perfect dub of the example would have."""
    spec = importlib.util.spec_from_file_location("make_example", resource("examples/make_example.py"))
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    _, speech = recipe.sentences()
    path = tmp_path_factory.mktemp("right") / "right.mp4"
    write_clip(path, SyntheticSpeaker(recipe.IDENTITY, recipe.SIZE).frames(speech, recipe.MOTION))
    return path


def test_an_untouched_clip_scores_0_and_1():
    example = resource("examples")
    target, leak = score(example / "talk.mp4", example / "talk.mp4", example / "truth.json")
    assert (target, leak) == (0.0, pytest.approx(1.0))


def test_a_right_dub_scores_nearly_1_and_0(right_dub):
    example = resource("examples")
    target, leak = score(right_dub, example / "talk.mp4", example / "truth.json")
    assert target > 0.9 and abs(leak) < 0.2


def test_the_demo_says_where_to_look(dubbing_material, tmp_path, capsys, monkeypatch):
    example, out = tmp_path / "example", tmp_path / "new" / "demo"
    example.mkdir()
    shutil.copy(dubbing_material.video, example / "talk.mp4")
    shutil.copy(dubbing_material.audio, example / "speech.wav")
    gaps = [0.03 * abs(math.sin(frame)) for frame in range(30)]
    (example / "truth.json").write_text(json.dumps({"speech": {"lip_gap": gaps}}))
    monkeypatch.setattr(demo, "resource", lambda name: example)
    assert main(["demo", "--checkpoint", str(dubbing_material.checkpoint), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert (out / "dubbed.mp4").is_file() and (out / "report.json").is_file()
    assert str(out / "dubbed.mp4") in told and "30 of 30 frames" in told
    assert re.search(r"follows the new speech -?\d\.\d\d, still follows the old one -?\d\.\d\d", told)
