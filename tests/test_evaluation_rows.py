"""Dubs of a drawn person whose right answer is known: copies, the wrong words, faults, and input that is no dub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import evaluation_material as make
import numpy as np
import pytest
import torch
from cli_material import write_faceless_clip

from latentsync.evaluation.evaluate import DUB, NOTHING, TRUTH, Evaluation, evaluate
from latentsync.evaluation.families.sync import KEYS
from latentsync.evaluation.instruments import Instruments
from latentsync.evaluation.items import RECONSTRUCTION, SILENT, Item
from latentsync.evaluation.registry import BY_KEY, HIGHER, LIKE, LOWER, METRICS, ONE, POOLED, ZERO, Missing
from latentsync.evaluation.report.content import as_json
from latentsync.evaluation.report.html import html
from latentsync.evaluation.report.tables import markdown, missing, remarks
from latentsync.evaluation.sync.critic import MAX_SHIFT, Talk
from latentsync.media.audio import write_wav
from latentsync.types import AUDIO_SAMPLE_RATE, InputError

pytest.importorskip("mediapipe")


class Known:
    """A critic that hears every window's sound two frames late, and likes it by half."""

    name, frames, threshold = "known", 5, 0.5

    def scores(self, talk: Talk, max_shift: int = MAX_SHIFT) -> np.ndarray:
        assert len(talk.waveform) == 640 * len(talk) and talk.waveform.any()
        scores = np.full((len(talk) - 4, 2 * max_shift + 1), 0.25)
        scores[:, max_shift : max_shift + 3] = (0.75, 0.75, 1.0)
        return scores


@pytest.fixture(scope="module")
def triple(tmp_path_factory) -> Path:
    return make.write_triple(tmp_path_factory.mktemp("triple"))


@pytest.fixture(scope="module")
def items(triple: Path, tmp_path_factory) -> list[Item]:
    """A perfect copy, and the old words under the new audio."""
    folder = tmp_path_factory.mktemp("dubs")
    copy = Path(shutil.copy(triple / "truth.mp4", folder / "copy.mp4"))
    speech = make.sound(triple / "speech.wav")
    swapped = make.rewrite(triple / "source.mp4", folder / "swapped.mp4", waveform=speech)
    return [make.item(triple, copy), make.item(triple, swapped)]


class Apart(torch.nn.Module):
    """Stands in for LPIPS: how far pictures are apart, half of the face each."""

    def forward(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        assert images.shape[-2:] == (128, 256) and images.min() >= -1 and images.max() <= 1
        return (images - others).abs().mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def evaluation(items: list[Item]) -> Evaluation:
    critics = {"stable_syncnet": Known(), "unisync": Known(), "syncnet": Known()}
    measuring = Instruments(critics=critics, lpips=Apart(), trained_with=frozenset({"stable_syncnet"}))  # type: ignore
    return evaluate(items, measuring)


def worse_by(key: str, found: float) -> float:
    """How far a figure is from the best there is."""
    return {HIGHER: -found, LOWER: found, ZERO: abs(found), ONE: abs(found - 1), LIKE: 0}[BY_KEY[key].direction]


def test_a_perfect_copy_scores_best_and_the_wrong_words_worse(evaluation: Evaluation) -> None:
    copy, swapped = (one.rows[DUB] for one in evaluation.measured)
    assert copy["r_target"] == pytest.approx(1) and copy["r_right"] == pytest.approx(1) and abs(copy["r_leak"]) < 1e-6
    assert copy["lmd"] == 0 and copy["psnr_mouth"] == 100 and copy["ssim_mouth"] == pytest.approx(1)
    assert swapped["r_leak"] > 0.9 and swapped["lmd"] > 0.5 and swapped["psnr_mouth"] < 35
    shared = [key for key in copy if not isinstance(copy[key], Missing) and not isinstance(swapped[key], Missing)]
    judged = {"sync": {"mouth_offset_ms"}, "articulation": set(shared), "quality": set(shared)}
    for key in shared:
        if key in judged.get(BY_KEY[key].family, set()) and key not in ("psnr_outside", "sharpness"):
            assert worse_by(key, copy[key]) <= worse_by(key, swapped[key]) + 1e-9, key
    assert copy["closed_lips"] > swapped["closed_lips"] and copy["lpips"] == 0 < swapped["lpips"]


def test_the_ends_of_every_table_are_the_truth_and_doing_nothing(evaluation: Evaluation) -> None:
    copy, swapped = evaluation.measured
    for key, figure in copy.rows[TRUTH].items():
        assert copy.rows[DUB][key] == figure or BY_KEY[key].family == "cost", key  # the copy is the truth
    assert swapped.rows[NOTHING]["r_leak"] == pytest.approx(1) and swapped.rows[NOTHING]["psnr_outside"] == 100
    assert swapped.rows[NOTHING]["flicker"] == swapped.rows[NOTHING]["sharpness"] == 1
    text = markdown(evaluation)
    for table in text.split("## ")[1:]:
        if "| row |" in table:
            assert "| ground truth |" in table and "| nothing done |" in table and "| dubbed |" in table


def test_every_metric_is_measured_or_says_what_it_needs(evaluation: Evaluation) -> None:
    wanted = {metric.key for metric in METRICS} - set(POOLED)
    for one in evaluation.measured:
        for row, figures in one.rows.items():
            assert set(figures) == wanted, row
            assert all(figure.reason for figure in figures.values() if isinstance(figure, Missing))
    told = " ".join(missing(evaluation))
    for words in ("--identity-weights", "--fid-weights", "--fvd-features", "--dub-report"):
        assert words in told


def test_critics_are_asked_and_the_one_trained_with_is_marked(evaluation: Evaluation) -> None:
    figures = evaluation.measured[0].rows[DUB]
    assert figures["p_sync"] == figures["stable_syncnet_accuracy"] - 0.25 == 0.75
    assert figures["unisync_offset"] == figures["syncnet_offset"] == 2
    assert (figures["lse_c"], figures["lse_d"]) == (0.75, -1.0)
    header = next(line for line in markdown(evaluation).splitlines() if "StableSyncNet accuracy" in line)
    assert "StableSyncNet accuracy ↑ †" in header and "p_sync ↑ |" in header
    assert any("trained with StableSyncNet" in line for line in remarks(evaluation))
    assert set(KEYS) == {"syncnet", "stable_syncnet", "unisync"}


def test_the_same_files_give_the_same_bytes_in_any_order(items: list[Item], evaluation: Evaluation) -> None:
    first, again = as_json(evaluation), as_json(evaluate(items[::-1], evaluation.instruments))
    assert first == again
    content = json.loads(first)
    assert [one["name"] for one in content["items"]] == ["copy", "swapped"]
    assert str(items[0].dubbed.parent) not in first


def test_the_page_holds_its_pictures_and_escapes_names(evaluation: Evaluation) -> None:
    page = html(evaluation)
    assert page.count("data:image/png;base64,") == 4 and "data:image/jpeg;base64," in page
    assert "://" not in page and "src=" in page  # nothing from elsewhere; base64 has no colon
    one = evaluation.measured[0]
    object.__setattr__(one.item, "name", "<b>&")
    try:
        odd = html(evaluation)
    finally:
        object.__setattr__(one.item, "name", "copy")
    assert "<b>&" not in odd and odd.replace("&lt;b&gt;&amp;", "copy") == page  # and nothing else has changed


def test_a_mouth_that_moves_in_silence_is_found(triple: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "silence.wav", np.zeros(round(make.SECONDS * AUDIO_SAMPLE_RATE)), AUDIO_SAMPLE_RATE)
    given = Item(triple / "source.mp4", tmp_path / "silence.wav", triple / "source.mp4", setting=SILENT)
    one = evaluate([given]).measured[0]
    dub = one.rows[DUB]
    assert dub["silence_open"] > 0.2 and dub["silence_motion"] > 0.3
    assert isinstance(dub["audio_offset_ms"], Missing) and dub["lse_c"].reason == "nobody speaks in the audio"


def test_rows_that_were_not_dubbed_say_so_and_rows_that_are_not_there_what_to_give(
    triple: Path, items: list[Item], tmp_path: Path
) -> None:
    """The dub's report tells what the dub cost and where its windows meet, at which every row is looked at; a source
    without sound is no ground truth."""
    frames = [{"time": tick / 25, "dubbed": True, "track": 0} for tick in range(50)]
    facts = {"frames_out": 50, "fps": 25.0, "total_seconds": 5.0, "seconds": {}, "options": {"overlap": 4}}
    (tmp_path / "r.json").write_text(json.dumps({**facts, "frames": frames}))
    mute = make.rewrite(triple / "source.mp4", tmp_path / "mute.mp4")
    rows = (
        evaluate([Item(items[1].dubbed, triple / "speech.wav", mute, dub_report=tmp_path / "r.json")]).measured[0].rows
    )
    assert rows[DUB]["cost_seconds"] == 2.5 and rows[NOTHING]["cost_seconds"] == Missing("this row was not dubbed")
    assert rows[NOTHING]["joint_jitter"] == pytest.approx(rows[DUB]["joint_jitter"], rel=0.1)  # the same pictures
    assert {figure.reason for figure in rows[TRUTH].values()} == {"give --truth, or a --source with sound of its own"}


def test_the_sources_own_audio_makes_it_a_reconstruction(triple: Path) -> None:
    one = evaluate([Item(triple / "source.mp4", triple / "source.mp4", triple / "source.mp4")]).measured[0]
    assert one.item.setting == RECONSTRUCTION and one.rows[DUB]["psnr_mouth"] == 100
    assert (
        one.rows[DUB]["r_right"] == pytest.approx(1)
        and "see what is against the right one" in one.rows[DUB]["r_target"].reason
    )


def test_other_frame_rates_sizes_and_lengths_are_told(triple: Path, tmp_path: Path) -> None:
    fast = make.rewrite(
        triple / "truth.mp4",
        tmp_path / "fast.mp4",
        lambda images: [image[:, 16:176] for image in images[:35] for _ in range(2)],
        waveform=make.sound(triple / "speech.wav")[: 35 * 640],
        fps=50,
    )
    one = evaluate([make.item(triple, fast)]).measured[0]
    told = " ".join(one.notes)
    assert "50 frames a second" in told and "different length" in told and "160 x 192 px" in told
    assert len(one.takes[DUB].times) == 35
    assert one.rows[DUB]["r_target"] > 0.9 and isinstance(one.rows[DUB]["psnr_mouth"], Missing)


def test_what_cannot_be_measured_is_one_sentence(triple: Path, items: list[Item], tmp_path: Path) -> None:
    nobody = write_faceless_clip(tmp_path / "nobody.mp4", 20)
    with pytest.raises(InputError, match=r"nobody\.mp4' shows a face in 0 of 20 frames"):
        evaluate([make.item(triple, nobody)])
    with pytest.raises(InputError, match=r"nobody\.mp4' has no sound: give --audio"):
        evaluate([Item(nobody)])
    with pytest.raises(InputError, match=r"new\.wav"):
        Item(nobody, audio=tmp_path / "new.wav")
    (tmp_path / "other").mkdir()
    namesake = Path(shutil.copy(nobody, tmp_path / "other" / nobody.name))
    found = evaluate([make.item(triple, nobody), make.item(triple, namesake), items[0]])
    assert [one.item.name for one in found.measured] == ["copy"]
    told = found.errors["nobody (as given)"]
    assert told.count("0 of 20 frames") == 2 and str(nobody) in told and str(namesake) in told
