"""The counterfactual set is the same everywhere, and its scores are those of known dubs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latentsync.data.synthetic import counterfactual as drawn
from latentsync.data.synthetic import write_clip
from latentsync.media.reader import VideoReader
from latentsync.types import InputError

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
PICTURE_TOLERANCE = 1.0  # grey levels, of the mean of a 64th of a picture; neighbouring frames differ by more
SECONDS, SIZE = 1.2, 192
LATE, SHORT = 3, 6  # frames


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def small_set(tmp_path_factory) -> Path:
    """A set of one small triple, and dubs of it: late, with a stain over the hair, shorter."""
    folder = tmp_path_factory.mktemp("set")
    made = drawn(900, seconds=SECONDS, size=SIZE)
    made.write(folder / "0000")
    (folder / "set.json").write_text(json.dumps({"version": 1, "digests": ["-"]}))
    right = [frame.image for frame in VideoReader(folder / "0000" / "truth.mp4").frames()]
    stained = [frame.copy() for frame in right]
    for frame in stained:
        frame[:20] = 255 - frame[:20]
    dubs = {"late": [*right[:1] * LATE, *right[:-LATE]], "stained": stained, "short": right[:-SHORT]}
    for name, frames in dubs.items():
        (folder / "dubs" / name).mkdir(parents=True)
        write_clip(folder / "dubs" / name / "0000.mp4", frames, waveform=made.wanted.waveform, crf=1)
    return folder


@pytest.fixture
def known(small_set):
    pytest.importorskip("mediapipe")
    import counterfactual

    return counterfactual.Known(small_set / "0000")


def test_people_voices_and_sounds_are_those_of_every_machine():
    import counterfactual_set as the_set

    stored = the_set.known()
    assert stored["version"] == the_set.VERSION and len(set(stored["digests"])) == the_set.TRIPLES
    made = the_set.build(the_set.plan(1), size=the_set.SMALL)
    assert the_set.digest(the_set.plan(1), made.spoken, made.wanted) == stored["digests"][1]
    first, *rest = made.wanted.phonemes
    later = replace(made.wanted, phonemes=(replace(first, stop=first.stop + 1e-5), *rest))
    assert the_set.digest(the_set.plan(1), made.spoken, later) != stored["digests"][1]


def test_pictures_and_mouths_are_those_of_every_machine():
    import counterfactual_set as the_set

    stored, found = the_set.known()["samples"][0], the_set.sample(0)
    for side, wanted in stored["pictures"].items():
        assert np.abs(np.array(found["pictures"][side]) - wanted).max() < PICTURE_TOLERANCE
    assert np.abs(np.subtract(*stored["pictures"].values())).max() > 3 * PICTURE_TOLERANCE  # the mouths differ
    assert np.allclose(found["opening"], stored["opening"], atol=1e-3)
    assert np.allclose(found["lip_gap"], stored["lip_gap"], atol=1e-4)


def test_nobody_of_the_set_is_in_training_or_in_the_example():
    import counterfactual_set as the_set

    plans = [the_set.plan(index) for index in range(the_set.TRIPLES)]
    seeds = {seed for p in plans for seed in (p.identity_seed, p.motion_seed, *p.speech_seeds, *p.voice_seeds)}
    assert min(seeds) > 26 and max(seeds) < 1000
    spoken = [seed for p in plans for seed in p.speech_seeds]
    assert len(set(spoken)) == len(spoken) == 2 * the_set.TRIPLES
    assert {p.emotion for p in plans} == set(the_set.EMOTIONS) and len({p.motion for p in plans}) == 3


def test_what_is_not_the_set_is_refused(tmp_path, monkeypatch):
    import counterfactual_set as the_set

    with pytest.raises(InputError, match="24 triples, 25"):
        the_set.make(tmp_path, 25)
    with pytest.raises(InputError, match="no complete set"):
        the_set.triples_of(tmp_path)
    (tmp_path / "set.json").write_text('{"version": 0}')
    with pytest.raises(InputError, match="version 0"):
        the_set.triples_of(tmp_path)
    build = the_set.build
    monkeypatch.setattr(the_set, "build", lambda plan: build(plan, the_set.SMALL))
    monkeypatch.setattr(the_set, "known", lambda: {"digests": ["0" * 16]})
    with pytest.raises(InputError, match="triple 0 of version 1 has the digest"):
        the_set.make(tmp_path / "other", 1)


def test_doing_nothing_and_the_right_answer_are_the_ends_of_the_scale(known):
    import counterfactual

    nothing = counterfactual.score_clip(known, known.folder / "source.mp4")
    right = counterfactual.score_clip(known, known.folder / "truth.mp4")
    assert (nothing["r_target"], nothing["r_leak"]) == pytest.approx((0, 1), abs=1e-6)
    assert (right["r_target"], right["r_leak"]) == pytest.approx((1, 0), abs=1e-6)
    for figure in ("lip_distance_px", "lip_distance", "mouth_error", "outside_error", "flicker"):
        assert right[figure] == 0 < nothing[figure]
    assert nothing["mouth_error"] > 5 * nothing["outside_error"]
    assert np.isnan(nothing["audio_offset_ms"])  # it says something else
    assert right["mouth_offset_ms"] == right["audio_offset_ms"] == 0
    assert 0 < right["gap_error"] < 0.8 * nothing["gap_error"]  # the exact truth against what the tracker sees


def test_known_faults_are_found_and_nothing_else(known, small_set):
    import counterfactual

    late, stained, short = (
        counterfactual.score_folder([known], small_set / "dubs" / name)["0000"] for name in ("late", "stained", "short")
    )
    assert late["mouth_offset_ms"] == pytest.approx(40 * LATE, abs=12)
    assert abs(late["audio_offset_ms"]) < 1
    assert stained["outside_error"] > 20 and stained["mouth_error"] < 4 and stained["r_target"] > 0.97
    assert short["frames_missing"] == SHORT and short["r_target"] > 0.97 and short["outside_error"] < 3


def test_the_table_has_every_system_and_counts_what_is_missing(known, small_set):
    import counterfactual

    row = counterfactual.score_clip(known, known.folder / "truth.mp4")
    text = counterfactual.report({"ours": {"0000": row}}, 2, counterfactual.FIGURES)
    assert "| ours | 1 of 2 |" in text and all(title in text for title, _ in counterfactual.FIGURES.values())
    empty = small_set / "dubs"
    with pytest.raises(InputError, match="holds no dub"):
        counterfactual.score_folder([known], empty)


def test_a_dub_of_another_form_is_refused(known, tmp_path):
    import counterfactual

    write_clip(tmp_path / "0000.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3, fps=30)
    with pytest.raises(InputError, match="64 x 64 px at 30 frames"):
        counterfactual.score_folder([known], tmp_path)
    shutil.copy(known.folder / "truth.mp4", tmp_path / "0000.mp4")
    assert counterfactual.score_folder([known], tmp_path)["0000"]["lip_distance_px"] == 0


def test_two_systems_never_share_a_row(tmp_path) -> None:
    """Folders of one name, or named like a row that is always there, would replace each other's figures."""
    import counterfactual_systems

    named = counterfactual_systems.folders_by_name
    folders = [tmp_path / "a" / "dubs", tmp_path / "b" / "dubs"]
    assert named(folders[:1], "checkpoints/embedded") == {"dubs": folders[0]}
    for given, checkpoint, name in ((folders, None, "dubs"), ([tmp_path / "nothing done"], None, "nothing done"),
                                    ([tmp_path / "embedded"], "embedded", "embedded")):  # fmt: skip
        with pytest.raises(InputError, match=f"called '{name}'"):
            named(given, checkpoint)


@pytest.fixture
def work(monkeypatch, tmp_path):
    import common

    monkeypatch.setattr(common, "WORK", tmp_path / "work")
    return common.WORK


def test_a_random_mouth_moves_like_speech_and_says_the_wrong_thing(known, work):
    import counterfactual
    import counterfactual_systems

    made = counterfactual.random_mouth(known)
    written = made.stat().st_mtime_ns
    assert counterfactual.random_mouth(known) == made and made.stat().st_mtime_ns == written  # made once
    found = counterfactual.score_clip(known, made)
    nothing = counterfactual.score_clip(known, known.folder / "source.mp4")
    assert found["r_target"] < 0.6 and abs(found["r_leak"]) < 0.9 < nothing["r_leak"]
    assert found["mouth_error"] > 3 * found["outside_error"] and found["outside_error"] < 4
    assert found["sharpness_share"] > 0.4 and found["audio_offset_ms"] == pytest.approx(0, abs=1)
    starts = {counterfactual_systems.random_start(str(name), 100) for name in range(30)}
    assert len(starts) > 10 and min(starts) >= 25 and max(starts) <= 75


def test_every_system_is_scored_between_doing_nothing_and_the_right_answer(known, small_set, work):
    import counterfactual

    systems = counterfactual.score(small_set, [small_set / "dubs" / "late"], None)
    assert list(systems) == ["nothing done", "a random mouth", "late", "the right answer"]
    errors = {label: rows["0000"]["lip_distance"] for label, rows in systems.items()}
    assert min(errors, key=errors.__getitem__) == "the right answer"


def test_real_sentences_have_the_same_ends_of_the_scale(clips_dir, work, monkeypatch):
    import counterfactual_grid
    from articulation import grid_pairs

    pytest.importorskip("mediapipe")
    pair = counterfactual_grid.Sentences(grid_pairs(1)[0])
    nothing, right = (counterfactual_grid.score_pair(pair, path) for path in (pair.video, pair.speech))
    assert (nothing["r_target"], nothing["r_leak"]) == pytest.approx((0, 1), abs=1e-6)
    assert (right["r_target"], right["r_leak"]) == pytest.approx((1, 0), abs=1e-6)
    assert right["shape_error"] == right["gap_error"] == right["mouth_offset_ms"] == 0
    assert nothing["shape_error"] > 0.5 and "psnr_outside" not in right
    with pytest.raises(InputError, match=f"{pair.pair.name}.mp4"):
        counterfactual_grid.folder_of(work.parent, [pair])
