"""The benchmark scripts: what they measure on is what they say, and each explains itself."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from latentsync.pipelines.report import DubReport

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = (
    *("articulation", "dub_clips", "memory", "seams", "amplitude"),
    *("counterfactual", "crops", "prepare", "stable_syncnet", "train", "finetune", "claims", "sync", "unisync"),
)


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_held_out_list_is_what_its_rule_says(clips_dir: Path) -> None:
    import common

    stems = sorted(path.stem for path in (clips_dir / "grid_s1").glob("*.mp4"))
    assert common.held_out() == stems[common.HELD_OUT_FIRST :: common.HELD_OUT_EVERY]


def test_every_held_out_sentence_gives_its_speech_to_another_once() -> None:
    import articulation
    import common

    pairs = articulation.grid_pairs(100)
    assert sorted(pair.video for pair in pairs) == sorted(pair.speech for pair in pairs) == common.held_out()
    assert not any(pair.own for pair in pairs)
    assert articulation.grid_pairs(6) == pairs[:6]


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda path: path.name)
def test_results_name_files_and_not_where_they_lay(path: Path) -> None:
    assert '": "/' not in path.read_text(encoding="utf-8")


def test_a_job_names_its_files_and_not_where_they_lie(monkeypatch, tmp_path) -> None:
    import job

    import latentsync

    made = DubReport("/a/v.mp4", "/b/s.wav", "/c/o.mp4", "x", "", "cpu", "fp32", {})
    loaded = SimpleNamespace(dub=lambda *_, **__: made)
    monkeypatch.setattr(latentsync.DubbingPipeline, "from_pretrained", lambda name: loaded)
    found = job._work({"checkpoint": "x", "video": "/a/v.mp4", "audio": "/b/s.wav", "out": "/c/o.mp4", "options": {}})
    assert [found["report"][key] for key in ("video", "audio", "out")] == ["v.mp4", "s.wav", "o.mp4"]


def test_no_speech_comes_from_a_clip_whose_mouth_may_not_belong_to_it() -> None:
    import articulation

    pairs = articulation.unseen_pairs(100)
    assert {pair.video for pair in pairs} == set(articulation.UNSEEN)
    assert not any(pair.own or pair.speech in articulation.UNSYNCED for pair in pairs)


def test_joints_are_the_frames_over_which_windows_fade() -> None:
    import seams

    found = np.flatnonzero(seams.joints(41))
    assert found.tolist() == [*range(12, 17), *range(24, 29), *range(36, 41)]
    assert not seams.joints(16).any()


def test_loudness_of_a_known_tone() -> None:
    from latentsync.evaluation.families.articulation import loudness

    tone = np.sqrt(2) * np.sin(2 * np.pi * 400 * np.arange(16_000) / 16_000)
    tone[8_000:] = 0
    assert loudness(tone, np.array([0.2, 0.5, 0.8])) == pytest.approx([1.0, np.sqrt(0.5), 0.0], abs=1e-3)


def test_the_table_of_metrics_is_what_the_command_prints() -> None:
    from latentsync.evaluation.registry import describe

    assert (BENCHMARKS / "metrics.md").read_text(encoding="utf-8").endswith(f"\n\n{describe()}")


def test_a_measurement_is_made_once(tmp_path: Path) -> None:
    import common

    common.Measurements(tmp_path / "m.jsonl").add(["a", "b"], {"r_target": 0.5})
    again = common.Measurements(tmp_path / "m.jsonl")
    assert again.get(["a", "b"])["r_target"] == 0.5 and again.get(["b", "a"]) is None


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_ends_with_a_command_to_run(script: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(script).main()
    assert ended.value.code == 0
    assert f"python benchmarks/{script}.py" in capsys.readouterr().out


def test_the_sync_sweep_moves_sound_and_nothing_else(monkeypatch) -> None:
    import stable_syncnet
    from data_talkers import talker

    clip = talker(1)
    offsets = set()
    for number in range(20):
        moved = stable_syncnet.moved(clip, number)
        assert len(moved.waveform) == len(clip.waveform) and moved.crops is clip.crops
        lags = np.correlate(moved.waveform[::8], clip.waveform[::8], "full")
        offsets.add(round((int(lags.argmax()) - len(clip.waveform[::8]) + 1) * 8 / 640))
    assert min(offsets) < -2 and max(offsets) > 2 and max(map(abs, offsets)) <= stable_syncnet.MOST_OFFSET


def test_the_sync_sweep_sees_the_same_windows_in_every_run(tmp_path: Path) -> None:
    import stable_syncnet

    from latentsync.config import load_config

    for run in stable_syncnet.RUNS.values():
        config = load_config(run.config, stable_syncnet.overrides(run, 98_304, tmp_path))
        options, windows_a_pair = config.run, 1 if config.pairs.crossed else 2
        assert options.steps * options.batch * windows_a_pair == run.times * 98_304
        assert options.batch // options.gradient_accumulation == stable_syncnet.PART


def test_fine_tuning_is_measured_on_sentences_that_it_did_not_learn_from(clips_dir: Path) -> None:
    import articulation
    import common
    import finetune

    learned = finetune.training_stems(finetune.CLIPS)
    assert len(set(learned)) == finetune.CLIPS
    asked = {stem for pair in articulation.grid_pairs(38) for stem in (pair.video, pair.speech)}
    assert asked == set(common.held_out()) and not asked & set(learned)


def test_the_gain_of_fine_tuning_is_that_of_each_pair() -> None:
    import finetune

    before = [dict.fromkeys(finetune.FIGURES, value) for value in (0.1, 0.5, 0.9)]
    after = [dict.fromkeys(finetune.FIGURES, value) for value in (0.3, 0.7, 1.1)]
    text, values = finetune.table(before, after)
    assert values["r_target"]["gain"]["mean"] == pytest.approx(0.2)
    assert values["r_target"]["gain"]["std"] < 1e-12 < values["r_target"]["after"]["std"]
    assert "| psnr_mouth | 0.5 [" in text


def test_variants_of_a_step_are_held_against_the_plain_one(monkeypatch, tmp_path) -> None:
    import common

    import train

    assert train.furthest([2.0, 1.1], [2.0, 1.0]) == pytest.approx(0.1)
    assert train.last_words(-11, "50%") == "ended by SIGSEGV" and train.last_words(1, "a\nno memory\n") == "no memory"
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    plain = {"case": "a", "variant": "plain", "samples_per_second": 2.0, "data_share": 0.01, "memory_gib": 3.0}
    plain.update(batch=4, losses=[1.0, 0.5])
    fused = {**plain, "variant": "fused", "samples_per_second": 3.0, "losses": [1.0, 0.505]}
    assert train.row(fused, plain)[2:6] == ["1.33", "3", "1.50", "1.0e-02"]
    failed = {"case": "a", "variant": "compiled", "failed": "no compiler"}
    assert "no compiler" in train.row(failed, plain)[2] and len(train.row(failed, plain)) == len(train.HEADER)


def test_what_needs_a_card_is_told_as_not_run(monkeypatch, tmp_path, capsys) -> None:
    import common

    import train

    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(train.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks/train.py", "--size", "published"])
    train.main()
    text = (tmp_path / "train.md").read_text()
    assert "Not run here, for want of a CUDA card: stage 1, 256 px;" in text and "unverified" in text
    efficient = {"case": train.EFFICIENT, "memory_gib": 21.0}
    assert "22.5 GB, fits in 24 GB" in train.small_card([efficient])
    assert "does not fit" in train.small_card([{**efficient, "memory_gib": 23.0}])


def test_a_result_names_the_command_that_made_it(monkeypatch, tmp_path) -> None:
    import common

    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/seams.py", "--clips", "two words"])
    common.write_results("seams", "# Seams\n\nA machine.\n\nA table.\n", {"one": 1})
    told = "# Seams\n\nCommand: `python benchmarks/seams.py --clips 'two words'`\n\nA machine.\n\nA table.\n"
    assert (tmp_path / "seams.md").read_text() == told
    assert json.loads((tmp_path / "seams.json").read_text()) == {"one": 1}


def test_held_out_speakers_are_asked_one_by_one(tmp_path: Path) -> None:
    import stable_syncnet_measures as measures
    import torch
    from data_talkers import talker

    from latentsync.models.stable_syncnet import VisualInput

    class Same(torch.nn.Module):
        """Says yes to every pair, which is right for half of them."""

        input = VisualInput(size=32)

        def __init__(self) -> None:
            super().__init__()
            self.vector = torch.nn.Parameter(torch.ones(1, 4) / 2)

        def forward(self, images: torch.Tensor, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.vector.expand(len(images), -1), self.vector.expand(len(mel), -1)

    clips = [replace(talker(number), name=name) for number, name in enumerate(("synth_004_0", "bbaf2n", "synth_004_1"))]
    found = measures.answers(Same(), clips, None, pairs=16)  # type: ignore[arg-type]
    assert found == {"bbaf2n": 0.5, "synth_004": 0.5}
    drawn = [replace(clips[0], name=f"synth_{number:03}_0") for number in (0, 99, 100, 199)]
    assert [clip.name for clip in measures.not_known(drawn)] == ["synth_100_0", "synth_199_0"]
    assert measures.kept(tmp_path) == {}
    measures.keep(found, tmp_path)
    assert measures.kept(tmp_path) == found


def test_the_sync_sweep_keeps_what_earlier_sweeps_found(monkeypatch, tmp_path) -> None:
    import common
    import stable_syncnet

    earlier = {"latent-5000-100": {"title": "earlier"}, "grid-5000-20": {"title": "made again"}}
    (tmp_path / "stable_syncnet.json").write_text(json.dumps(earlier))
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(common, "WORK", tmp_path)
    monkeypatch.setattr(stable_syncnet, "curves", lambda folder, run, speakers, before: {"of": speakers})
    for name in ("latent-5000-20", "grid-5000-20"):
        (tmp_path / "stable_syncnet" / name / "export").mkdir(parents=True)
    found = stable_syncnet.finished(stable_syncnet.Material(tmp_path, 20), 5_000)
    assert found["latent-5000-100"] == {"title": "earlier"}
    assert {name: run["of"] for name, run in found.items() if "of" in run} == {
        "latent-5000-20": "16",
        "grid-5000-20": "GRID s1",
    }


def test_a_run_of_the_sync_sweep_goes_on_from_what_another_learned(monkeypatch, tmp_path) -> None:
    import common
    import stable_syncnet

    trained = []
    monkeypatch.setattr(common, "WORK", tmp_path)
    monkeypatch.setattr(stable_syncnet.Material, "clips", lambda *_: ([], []))
    monkeypatch.setattr(stable_syncnet, "make_task", lambda *_: type("Task", (), {"encode": None}))
    monkeypatch.setattr(stable_syncnet, "load_stable_syncnet", lambda folder: None)
    monkeypatch.setattr(stable_syncnet.measures, "answers", lambda *_: {})
    monkeypatch.setattr(stable_syncnet, "train_run", lambda run, config, *_: trained.append(config))
    first = tmp_path / "stable_syncnet" / "latent-5000-20"
    (first / stable_syncnet.LATENTS).mkdir(parents=True)
    (first / stable_syncnet.LATENTS / "known").touch()
    stable_syncnet.train("latent_longer", stable_syncnet.Material(tmp_path, 20), 5_000)
    assert [Path(config.run_folder).name for config in trained] == ["latent-5000-20", "latent_longer-5000-20"]
    assert [config.start_from for config in trained] == [None, str(first / "export")]
    assert (Path(trained[1].run_folder) / stable_syncnet.LATENTS / "known").exists()
    begun = {name: run.before(32_768) for name, run in stable_syncnet.RUNS.items() if run.before(32_768)}
    assert begun == {"latent_longer": 6 * 32_768, "latent_longest": 12 * 32_768}


def test_every_case_of_the_training_benchmark_is_a_run_that_can_begin() -> None:
    import train
    from latentsync.config import load_config
    from latentsync.training.loop.runner import RunConfig

    for case in (case for cases in train.CASES.values() for case in cases):
        options = RunConfig.from_config(load_config(case.config, case.changes).run)
        assert options.share(1) * options.gradient_accumulation == options.batch, case.name


def test_a_dry_run_of_the_sync_sweep_knows_what_is_left(monkeypatch, tmp_path) -> None:
    import common
    import stable_syncnet

    monkeypatch.setattr(common, "WORK", tmp_path)
    monkeypatch.setattr(stable_syncnet, "seconds_a_pair", lambda material: 0.01)
    material = stable_syncnet.Material(tmp_path, 20)
    (stable_syncnet.run_folder("batch_64", material, 6_000) / "export").mkdir(parents=True)
    arguments = type("Given", (), {"pairs": 6_000, "only": ["batch_64", "grid", "latent"]})
    told = stable_syncnet.dry_run(material, arguments)
    assert "1.0 minutes for 6000 pairs" in told and "2 runs to do (grid, latent), 7 minutes" in told
