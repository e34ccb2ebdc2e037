"""One command: from a person's clips to a LoRA, a checkpoint that dubs with it, and a report of before and after."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import data_clips as make
import numpy as np
import pytest
import torch

from latentsync.cli import main
from latentsync.config import load_config
from latentsync.data.manifest import read_manifest
from latentsync.data.preparation import report as preparation_report
from latentsync.data.preparation.excerpt import write_excerpt
from latentsync.evaluation.quality import psnr
from latentsync.hub import load_components
from latentsync.media.audio import read_waveform
from latentsync.media.reader import VideoReader
from latentsync.pipelines.dub import DubbingPipeline
from latentsync.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = [
    "prepare.workers=1", "prepare.segments.shortest=1.3", "report.seconds=0.8", "report.pairs=2",
    "training.run.steps=2", "training.run.batch=2", "training.run.validate_every=1", "training.run.precision=no",
    "training.run.learning_rate=0.01", "training.validation.windows=2", "training.lora.rank=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("anna")
    for seed in (1, 2, 3):
        make.write_speaker(folder / f"take {seed}.mp4", seed=seed)
    return folder


def finetune(videos: Path, out: Path, checkpoint: Path, *more: str) -> int:
    words = [str(videos), "--out", str(out), "--checkpoint", str(checkpoint), "--quiet", "--set", *QUICK, *more]
    return main(["finetune", *words])


@pytest.fixture(scope="module")
def done(videos, dubbing_material, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finetuned") / "anna"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation_report, "draw_report", lambda file, *_: file.touch())
        assert finetune(videos, out, dubbing_material.checkpoint) == 0
    return out


def test_it_ends_in_a_report_of_the_same_frames_before_and_after(done, dubbing_material) -> None:
    folder = done / "report"
    figures = json.loads((folder / "report.json").read_text())
    losses = figures["held_out_loss"]
    assert [step for step, _ in losses] == [0, 1, 2]  # the checkpoint itself came first
    for side in ("before", "after"):
        assert all(figures[side][name]["count"] == 2 for name in ("r_target", "r_leak", "psnr_mouth"))
    text = (folder / "report.md").read_text()
    assert f"| held-out loss | {losses[0][1]:.4f} | {min(loss for _, loss in losses):.4f}" in text
    assert str(done / "run" / "lora") in text and str(dubbing_material.checkpoint) in text
    import cv2

    for number in (1, 2):
        sheet = cv2.imread(str(folder / f"segment_{number}.png"))
        assert sheet.shape == (6 * 224, 8 * 224, 3)  # true, before, after; their mouths
        rows = sheet.reshape(6, 224, -1)
        assert (rows[0] != rows[1]).any() and (rows[3] != rows[4]).any()
    assert (folder / "loss.png").stat().st_size > 5000
    assert len(list((folder / "dubs").rglob("*.mp4"))) == 2 * 2 * 2


def test_what_came_out_is_shared_with_its_comparison(done, tmp_path) -> None:
    assert main(["share", str(done), "--to", str(tmp_path / "shared")]) == 0
    assert load_components(tmp_path / "shared").settings == load_components(done / "run" / "export").settings
    card = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    found = json.loads((done / "report" / "report.json").read_text())
    before, after = (f"{found[side]['r_leak']['mean']:.2f} [" for side in ("before", "after"))
    assert f"| r_leak | {before}" in card and f"| {after}" in card
    assert "It was trained on one speaker" in card and "(examples/segment_2.png)" in card
    assert (tmp_path / "shared" / "examples" / "segment_1.png").read_bytes() == (
        done / "report" / "segment_1.png"
    ).read_bytes()
    assert str(done.parent) not in card and not list((tmp_path / "shared").rglob("*adapter*"))


def test_what_is_dubbed_was_not_learned_from(done) -> None:
    manifest = read_manifest(done / "prepared" / "one_speaker.jsonl")
    splits = [(Path(entry.source).stem, entry.split, entry.speaker) for entry in manifest.entries]
    assert splits == [("take 1", "train", "anna"), ("take 2", "validation", "anna"), ("take 3", "validation", "anna")]
    dubbed = {path.name.partition("-")[0] for path in (done / "report" / "true").iterdir()}
    assert dubbed == {Path(entry.clip).name[:12] for entry in manifest.entries[1:]}
    card = json.loads((done / "run" / "lora" / "lora.json").read_text())
    assert (card["name"], card["clips"]) == ("anna", 1) and 1.3 < card["seconds"] <= 1.6


def test_the_lora_gives_what_the_exported_checkpoint_does(done, dubbing_material) -> None:
    added = DubbingPipeline.from_pretrained(
        dubbing_material.checkpoint, loras=[str(done / "run" / "lora")], device="cpu", dtype="fp32"
    )
    merged = load_components(done / "run" / "export")
    for name, tensor in added.components.unet.state_dict().items():
        torch.testing.assert_close(merged.unet.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)  # kept in fp16
    assert str(done / "run" / "lora") in added.name


def test_dubbing_takes_loras_and_says_which(done, dubbing_material, tmp_path) -> None:
    lora = f"{done / 'run' / 'lora'}:0.5"
    words = ["--video", dubbing_material.video, "--audio", dubbing_material.audio, "--out", tmp_path / "d.mp4"]
    more = ["--checkpoint", dubbing_material.checkpoint, "--lora", lora, "--report", tmp_path / "r.json", "--quiet"]
    assert main(["dub", *map(str, [*words, *more])]) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["checkpoint"] == f"{dubbing_material.checkpoint} + {lora}"
    assert told["checkpoint_digest"] != load_components(dubbing_material.checkpoint).digest


def test_the_same_command_again_does_nothing_twice(done, videos, dubbing_material, monkeypatch, capsys) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this was done before")

    monkeypatch.setattr(DubbingPipeline, "dub", refuse)
    monkeypatch.setattr("latentsync.data.preparation.chain.track_segment", refuse)
    monkeypatch.setattr("latentsync.training.unet.task.UNetTask.losses", refuse)
    monkeypatch.setattr("latentsync.training.unet.task.UNetTask.export", refuse)
    assert finetune(videos, done, dubbing_material.checkpoint) == 0
    told = capsys.readouterr()
    assert f"LoRA:       {done / 'run' / 'lora'}" in told.out and "only 5 s of the videos can be used" in told.err
    assert finetune(videos, done, dubbing_material.checkpoint, "training.run.batch=4") == 2
    assert "holds a run of another configuration (run.batch was 2 and is 4)" in capsys.readouterr().err


def test_an_excerpt_is_the_source_with_its_own_sound(done, tmp_path) -> None:
    manifest = read_manifest(done / "prepared" / "one_speaker.jsonl")
    entry = manifest.entries[2]
    path = write_excerpt(manifest, entry, tmp_path / "a" / "b.mp4", seconds=0.8)
    found = [frame.image for frame in VideoReader(path).frames()]
    source = [frame.image for frame in VideoReader(entry.source).frames()]
    first = round(entry.start * 25)
    assert len(found) == 20
    assert all(psnr(image, source[first + number]) > 35 for number, image in enumerate(found))
    with read_waveform(path) as sound:
        heard = sound.read(0, len(sound))
    wanted = manifest.clip(entry).waveform[: len(heard)]
    assert np.corrcoef(heard[: len(wanted)], wanted)[0, 1] > 0.95
    with pytest.raises(InputError, match="is not there any more"):
        write_excerpt(manifest, replace(entry, source="gone.mp4"), tmp_path / "c.mp4", 1.0)


def test_a_dry_run_writes_nothing_and_bad_input_is_one_sentence(videos, dubbing_material, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["finetune", str(videos), "--out", str(out), "--checkpoint", str(dubbing_material.checkpoint),
                 "--dry-run", "--set", "prepare.workers=1"]) == 0  # fmt: skip
    told = capsys.readouterr().out
    assert "3 video file(s)" in told and "updates: 1,500 of 4 samples" in told and not out.exists()
    assert main(["finetune", "--out", str(out)]) == 2
    assert "no video is given" in capsys.readouterr().err
    assert main(["finetune", str(videos), "--full", "--config", "mine.yaml"]) == 2


def test_full_is_a_delta_of_the_same_options() -> None:
    lora, full = load_config("finetune"), load_config("finetune_full")
    assert lora.training.lora.rank > 0 and full.training.lora.rank == 0
    assert full.held_out == lora.held_out and full.training.windows == lora.training.windows
