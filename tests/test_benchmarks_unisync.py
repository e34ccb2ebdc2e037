"""UniSync's sweep: no speaker on both sides, both protocols apart, the ordering as it is, a killed sweep goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data_talkers import talker
from models_tiny_unisync import tiny_unisync

from latentsync.types import InputError

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
INDEX = {"one_a": "p1", "one_b": "p1", "two_a": "p2", "three_a": "p3", "four_a": "p4", "odd_a": "p5", "grid_x": "p6"}


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def write(folder: Path, name: str) -> None:
    clip = talker(sum(map(ord, name)), frames=40)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.crops.npy", clip.crops)
    np.savez(folder / f"{name}.npz", lm=clip.landmarks, times=clip.times, wav=clip.waveform)


@pytest.fixture
def material(tmp_path, monkeypatch):
    """Clips of six recorded speakers, of whom one is suspect, of GRID's s1, and of drawn people."""
    import common
    import unisync_training

    rows = [
        f"{name}.mp4\t{speaker}\t{'suspect' if name == 'odd_a' else 'supported'}" for name, speaker in INDEX.items()
    ]
    (tmp_path / "shared" / "clips").mkdir(parents=True)
    (tmp_path / "shared" / "clips" / "INDEX.tsv").write_text("\n".join(["file\tspeaker\tsync check", *rows]) + "\n")
    monkeypatch.setattr(common, "clips_dir", lambda: tmp_path / "shared" / "clips")
    monkeypatch.setattr(unisync_training, "UNSEEN", ("four_a", "odd_a"))
    monkeypatch.setattr(unisync_training, "NEW_PEOPLE", range(2000, 2002))
    monkeypatch.setattr(unisync_training, "RESOLUTION", 16)
    for name in (*INDEX, "synth_000_0", "synth_000_1", "synth_001_0", *(f"aa{number}" for number in range(4))):
        write(tmp_path / "crops", name)
    for identity in (2000, 2001):
        for take in (0, 1):
            write(tmp_path / "work" / "new_people", f"synth_{identity}_{take}")
    return unisync_training.Material(tmp_path / "crops", tmp_path / "work")


def test_no_speaker_is_on_both_sides(material, monkeypatch) -> None:
    import common
    import unisync_training

    assert unisync_training.held_out_speakers() == ["p3", "p4"]  # the unseen one, and the third of p1, p2, p3
    trained = {clip.name: clip.speaker for clip in material.training}
    assert trained == {
        "one_a": "p1", "one_b": "p1", "two_a": "p2", "grid_x": "p6", "synth_000_0": "synth_000",
        "synth_000_1": "synth_000", "synth_001_0": "synth_001", "aa2": "grid_s1",
    }  # fmt: skip
    held_out = {kind: {clip.speaker for clip in clips} for kind, clips in material.held_out.items()}
    assert held_out == {"drawn": {"synth_2000", "synth_2001"}, "recorded": {"p3", "p4"}}
    assert not set(trained.values()) & (held_out["drawn"] | held_out["recorded"])
    monkeypatch.setattr(common, "held_out", lambda: ["aa1", "aa3"])
    fresh = unisync_training.Material(material.crops, material.work)
    assert [clip.name for clip in fresh.measured["known"]] == ["aa1", "aa3"]  # of one who is in training
    assert not {"aa1", "aa3"} & {clip.name for clip in fresh.training} and {*fresh.measured} == {*held_out, "known"}


def test_the_new_drawn_people_are_nobody_elses() -> None:
    import claims_training
    import unisync_training
    from counterfactual_set import TRIPLES, plan
    from stable_syncnet import FIRST_SEED, TAKES

    people = unisync_training.NEW_PEOPLE
    faces = {FIRST_SEED + number for number in people}
    speech = {FIRST_SEED + 10 * number + take for number in people for take in range(TAKES)}
    others = {FIRST_SEED + number for number in (*range(100), *claims_training.JUDGES_PEOPLE)}
    said = {FIRST_SEED + 10 * n + take for n in (*range(100), *claims_training.JUDGES_PEOPLE) for take in range(TAKES)}
    tested = {seed for p in map(plan, range(TRIPLES)) for seed in (p.identity_seed, *p.speech_seeds)}
    assert not faces & (others | tested) and not speech & (said | tested)


def test_the_grid_is_the_issues() -> None:
    import unisync_report as reports
    import unisync_training as training

    assert len(training.PAIRS) == 8 and set(training.PAIRS) == set(reports.PAPER)
    assert {cell.margins for cell in training.CELLS.values() if cell.form == "printed"} == {
        (0, 0),
        (0.1, 0.3),
        (0.3, 0.7),
    }
    assert {cell.share for cell in training.CELLS.values()} == {0, 0.2, 0.5}
    assert {cell.visual for cell in training.PAIRS.values()} == {"rgb", "3dmm", "landmarks", "parsing"}
    trainer = training.Trainer(Path("runs"), training.Material(Path("c"), Path("w")), "embedded", None, None)
    config = trainer.config("features_3dmm", 2, 100)
    assert trainer.config("share_5", 1, 9).pairs.cross_speaker == 0.5
    assert (config.visual.kind, config.audio.encoder, config.run.seed, config.run.steps) == (
        "3dmm",
        "embedded",
        2,
        100,
    )
    assert dict(trainer.config("strict_1_3", 1, 9).loss) == {
        "form": "strict",
        "same_speaker": 0.1,
        "cross_speaker": 0.3,
    }


def rows(values: dict[str, float], seeds=(1, 2, 3), group: str = "drawn") -> dict:
    """Measurements in which every figure of a cell is its value, a point more with every seed."""
    import unisync_report as reports

    found = {}
    for cell, value in values.items():
        for seed in seeds:
            job = [f"{cell}-{seed}", group]
            figures = dict.fromkeys([*reports.BINARY, *reports.OFFSETS], value / 100 + 0.01 * (seed - 2))
            del figures["auc_swapped"]  # where there is one speaker only
            found[json.dumps(job)] = {"job": job, **figures}
    return found


def test_the_ordering_is_told_as_it_is() -> None:
    import unisync_report as reports

    alike = reports.Found(rows(reports.PAPER), [1, 2, 3])
    _, values = reports.ordering(alike)
    assert {value["figure"] for value in values} == {"binary", "auc", "offset_5", "offset_15"}
    assert all(
        value["spearman"] == pytest.approx(1) and value["spearman_visual"] == pytest.approx(1) for value in values
    )
    assert all(value["order"] == "rgb > 3dmm > landmarks > parsing" for value in values)
    assert values[0]["features_over_mel"] == pytest.approx(2.38, abs=0.01)
    turned = reports.Found(rows({cell: 180 - value for cell, value in reports.PAPER.items()}), [1, 2, 3])
    assert all(value["spearman"] == pytest.approx(-1) for value in reports.ordering(turned)[1])
    some = {cell: value for cell, value in reports.PAPER.items() if cell != "mel_rgb"}
    assert reports.ordering(reports.Found(rows(some), [1]))[1] == []  # not all was measured


def test_tables_give_mean_and_spread_and_keep_the_protocols_apart() -> None:
    import unisync_report as reports

    found = reports.Found(rows({reports.BASE: 80.0, "share_0": 70.0}), [1, 2, 3])
    margins, shares = reports.variants()
    text = reports.both_protocols(found, shares)
    assert "| 0.2 of the negatives | 3 | 80.0 ± 1.0 | 80.0 ± 1.0 |" in text and "share_5" not in text
    assert "nan" not in text and text.count("pairs\n") == 1 and text.count("contexts of") == 1
    offsets = next(part for part in text.split("\n\n") if "| 5 | 7 |" in part)
    assert "AUC" not in offsets
    assert "printed, margins 0.1 and 0.3" in reports.both_protocols(found, margins)
    assert "| 0.2 | 92.18 | 80.0 ± 1.0 |" in reports.shares_beside(found)


def test_a_network_is_judged_by_the_protocols_on_prepared_clips(material) -> None:
    import unisync_training as training

    from latentsync.evaluation.sync.protocols import offset_accuracy

    trainer = training.Trainer(Path("runs"), material, "embedded", None, None)
    critic = training.RunCritic(tiny_unisync(), trainer)
    clips = material.held_out["recorded"]
    found = training.figures(critic, clips)
    assert found["clips"] == len(clips) and 0 <= found["auc"] <= 1 and {f"offset_{k}" for k in (5, 15)} <= set(found)
    scores = [critic.scores(critic.talk(clip)) for clip in clips]
    assert all(table.shape == (36, 31) for table in scores)
    assert found["offset_5"] == pytest.approx(offset_accuracy(scores, 5)[5])
    of_points = training.RunCritic(tiny_unisync({"kind": "landmarks", "width": 956}), trainer)
    assert of_points.scores(of_points.talk(clips[0])).shape == (36, 31)


class Interrupted(Exception):
    pass


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep whose networks train in no time: `calls` notes what was done."""
    import common
    import unisync
    import unisync_report as reports
    import unisync_training as training

    calls: list[str] = []
    state = SimpleNamespace(dies_at=None)

    def train(self, cell: str, seed: int, steps: int) -> Path:
        export = self.folder / f"{cell}-{seed}" / "export"
        if not export.exists():
            calls.append(f"train {cell} {seed} {steps}")
            export.mkdir(parents=True)
        return export

    def measure(self, cell: str, export: Path, kinds):
        for kind in kinds:
            if len(calls) == state.dies_at:
                raise Interrupted
            calls.append(f"measure {export.parent.name} {kind}")
            yield kind, dict.fromkeys([*reports.BINARY, *reports.OFFSETS], 0.5)

    monkeypatch.setattr(common, "WORK", tmp_path / "work")
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(unisync, "time_updates", lambda folder, trainer: dict.fromkeys(training.PAIRS, 0.5))
    monkeypatch.setattr(training.Trainer, "train", train)
    monkeypatch.setattr(training.Trainer, "measure", measure)
    monkeypatch.setattr(unisync, "load_unisync", lambda export: tiny_unisync())
    monkeypatch.setattr(common, "clips_dir", lambda: tmp_path / "shared" / "clips")
    given = ["--crops", str(tmp_path), "--only", "features_rgb", "mel_rgb", "share_0", "--seeds", "1", "2"]
    return SimpleNamespace(
        calls=calls, state=state, given=given, start=lambda *more: unisync.Sweep(unisync.parse([*given, *more]))
    )


def test_a_killed_sweep_goes_on_and_does_nothing_twice(sweep, tmp_path) -> None:
    for dies_at in (1, 5, 10, 13, None):
        sweep.state.dies_at = dies_at
        if dies_at is None:
            sweep.start().run()
        else:
            with pytest.raises(Interrupted):
                sweep.start().run()
    assert len(set(sweep.calls)) == len(sweep.calls) == (1 + 3) * 3 * 2
    trained = [call.split()[1:3] for call in sweep.calls if call.startswith("train")]
    assert [seed for _, seed in trained] == ["1"] * 3 + ["2"] * 3  # every cell has one seed before any has two
    assert len({call.split()[3] for call in sweep.calls if call.startswith("train")}) == 1
    text = " ".join((tmp_path / "results" / "unisync.md").read_text().split())
    assert "not independent of them" in text and "MelEncoder was trained to tell the shape of the lips" in text
    assert json.loads((tmp_path / "results" / "unisync.json").read_text())["rows"]
    with pytest.raises(InputError, match="use the same, or another --name"):
        sweep.start("--minutes", "5").run()


def test_every_training_keeps_to_its_minutes(sweep, capsys) -> None:
    import unisync

    steps = unisync.steps_within(4, {"a": 0.2, "b": 0.5})
    assert steps * 0.5 <= unisync.USED * 240 < (steps + 1) * 0.5
    assert sweep.start("--dry-run", "--minutes", "4").dry_run() == steps
    assert sweep.start("--updates", "77", "--name", "other").plan().steps == 77
    assert "| **all** |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        unisync.parse(["--crops", "x", "--minutes", "16"])


def test_the_report_knows_how_long_trainings_took(tmp_path) -> None:
    import unisync_report as reports

    (tmp_path / "mel_rgb-2").mkdir()
    lines = [{"step": step, "loss": 0.5, "samples_per_second": speed} for step, speed in ((1, 16), (2, 64), (3, 64))]
    (tmp_path / "mel_rgb-2" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = reports.curves(tmp_path, [1, 2], batch=64)
    assert list(found) == ["mel_rgb-2"] and found["mel_rgb-2"]["minutes"] == pytest.approx((4 + 1 + 1) / 60)
