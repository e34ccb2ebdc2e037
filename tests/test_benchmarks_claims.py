"""The sweep of the paper's claims: nobody tested is trained on, verdicts follow the figures, a killed sweep goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data_talkers import talker

from latentsync.types import InputError

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SECONDS = {"pixel_critic": 2.0, "latent_critic": 1.0, "judge": 3.0, "video_critic": 0.5, "none_1": 1.0, "pixel_1": 4.0}


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def write(folder: Path, name: str, fps: float = 25.0) -> None:
    clip = talker(sum(map(ord, name)))
    np.save(folder / f"{name}.crops.npy", clip.crops)
    np.savez(folder / f"{name}.npz", lm=clip.landmarks, times=clip.times * 25 / fps, wav=clip.waveform)


def test_nobody_who_is_dubbed_is_trained_on(tmp_path) -> None:
    import claims_training
    import common
    from articulation import UNSEEN
    from counterfactual_set import TRIPLES, plan
    from stable_syncnet import FIRST_SEED, TAKES

    sentences = [f"aa{number}" for number in range(7)]
    others = ["synth_003_0", "synth_003_1", "obama_talks", *sentences]
    for name in (*UNSEEN, *common.held_out()[:3], "synth_004_0", *others):
        write(tmp_path, name)
    write(tmp_path, "thirty_fps", fps=29.97)  # a window of it does not last as long as the critics' sound
    clips = claims_training.Clips(tmp_path, tmp_path / "work", 16)
    training, held_out = ([clip.name for clip in some] for some in clips.common)
    assert set(training) == {"synth_003_0", "synth_003_1", "obama_talks", "aa2", "aa5"}
    assert set(held_out) == {"synth_004_0", *common.held_out()[:3]}
    for_the_judge = {FIRST_SEED + number for number in claims_training.JUDGES_PEOPLE}
    assert not for_the_judge & {FIRST_SEED + number for number in range(100)}
    says = {FIRST_SEED + 10 * number + take for number in claims_training.JUDGES_PEOPLE for take in range(TAKES)}
    tested = [plan(index) for index in range(TRIPLES)]
    assert not (for_the_judge | says) & {seed for p in tested for seed in (p.identity_seed, *p.speech_seeds)}


def test_the_sweeps_crops_are_of_nobody_who_is_dubbed(clips_dir: Path) -> None:
    import common
    import crops
    from articulation import UNSEEN

    every, third = crops.recorded(1), crops.recorded(3)
    assert not set(UNSEEN) & set(every) and set(common.held_out()) <= set(third) < set(every)
    assert len(every) == len(set(every)) == 32 + 300
    assert len(third) == 32 + 262 // 3 + 38


def test_every_training_keeps_to_its_minutes_and_all_unets_do_the_same_updates() -> None:
    import claims

    steps = claims.steps_within(10, 15, SECONDS)
    assert set(steps) == {"pixel_critic", "latent_critic", "judge", "video_critic", claims.UNET}
    for name, each in SECONDS.items():
        assert steps.get(name, steps[claims.UNET]) * each <= claims.USED * (900 if name in steps else 600)
    assert steps["judge"] == int(claims.USED * 900 / SECONDS["judge"])
    assert steps[claims.UNET] == int(claims.USED * 600 / SECONDS["pixel_1"])


def test_the_judge_is_told_a_moment_from_others() -> None:
    import claims_measures as measures

    curve = np.full((7, 2 * measures.REACH + 1), 0.2)
    curve[:, measures.REACH] = 0.9
    curve[:, measures.REACH + 1] = 0.8  # a neighbouring frame sounds much the same and does not count
    assert measures.margins(curve) == {"sync": pytest.approx(0.9), "sync_margin": pytest.approx(0.7)}


def rows(**figures) -> dict:
    """Measurements of six clips and two seeds; a figure is a function of (seed, clip), or one value."""
    found = {}
    for name, value in figures.items():
        variant, figure = name.split("__")
        for seed in (1, 2):
            for clip in range(6):
                job = [f"{variant}_{seed}", "drawn", f"{clip:04}"]
                row = found.setdefault(json.dumps(job), {"job": job})
                row[figure] = value(seed, clip) if callable(value) else value
    return found


def test_a_verdict_follows_the_differences_clip_by_clip() -> None:
    import claims_report as reports

    spread_out = [0.0, 0.3, 0.6, 0.9, 1.2, 1.5]  # clips differ more than variants do
    found = reports.Found(
        rows(
            none__sync_margin=lambda seed, clip: spread_out[clip],
            pixel__sync_margin=lambda seed, clip: spread_out[clip] + 0.05 + 0.01 * seed,
            latent__sync_margin=lambda seed, clip: spread_out[clip] + 0.2 * (-1) ** clip,
            none__flicker=lambda seed, clip: 1.0 + clip,
            trepa__flicker=lambda seed, clip: 1.2 + clip,
            none__psnr_mouth=lambda seed, clip: float("inf") if clip else 20.0,
        ),
        seeds=[1, 2],
    )
    text, values = reports.claims_table(found)
    verdicts = {value["claim"]: value["verdict"] for value in values}
    assert verdicts["a pixel SyncNet improves sync"] == reports.SHOWN
    assert verdicts["a latent SyncNet improves sync"] == reports.OPEN
    assert verdicts["TREPA steadies the picture"] == reports.REVERSED
    assert "a pixel SyncNet improves articulation" not in verdicts  # nothing was measured
    first = next(value for value in values if value["claim"] == "a pixel SyncNet improves sync")
    assert first["mean"] == pytest.approx(0.065) and reports.SHOWN in text
    table = reports.figures_table(found, "drawn")
    assert "| pixel SyncNet | 2 | 6 |" in table and "0.815 ± 0.512 (0.005)" in table and "inf" not in table


def test_few_clips_and_seeds_that_disagree_show_nothing() -> None:
    import claims_report as reports

    noise = np.random.default_rng(0).normal(size=(2000, 4))
    wrong = [over.low > 0 or over.high < 0 for over in map(reports.over_clips, noise)]
    assert 0.03 < np.mean(wrong) < 0.07  # of 95 % intervals over nothing but noise
    steady = reports.over_clips(np.array([0.4, 0.5, 0.6, 0.5]))
    assert steady.low > 0
    assert reports.verdict(steady, np.array([0.4, 0.6]), True) == reports.SHOWN
    assert reports.verdict(steady, np.array([0.4, 0.6]), False) == reports.REVERSED
    assert reports.verdict(steady, np.array([1.2, -0.2]), True) == reports.OPEN


def test_curves_and_losses_are_read_off_the_logs(tmp_path) -> None:
    import claims_report as reports

    for label, sync in (("none_1", {}), ("pixel_2", {"loss/sync": 0.02})):
        entries = [{"step": n, "loss": 1.0, "loss/noise": 1 / n, **sync} for n in range(1, 101)]
        entries += [{"step": 50, "validation/loss": 0.5}, {"step": 100, "validation/loss": 0.25}]
        (tmp_path / label).mkdir()
        (tmp_path / label / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    found = reports.curves(tmp_path, seeds=[1, 2])
    assert list(found) == ["none_1", "pixel_2"] and found["pixel_2"]["held_out"] == [(50, 0.5), (100, 0.25)]
    ends, values = found["none_1"]["losses"]["noise"]
    assert ends[-1] == 100 and values[0] == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 1 / 4]))
    assert "| pixel 2 | 0.011 | 0.02 |  | 0.2500 |" in reports.losses_table(found)
    reports.picture(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


class Interrupted(Exception):
    pass


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep whose networks train and dub in no time: `calls` notes what was done."""
    import claims
    import claims_measures
    import claims_training
    import common

    calls: list[str] = []

    def train(self, name: str, steps: int) -> Path:
        if not self.export(name).exists():
            calls.append(f"train {name} {steps}")
            self.export(name).mkdir(parents=True)
        return self.export(name)

    def measure(self, dubber, group: str, name: str) -> dict:
        if len(calls) == self.judge.dies_at:
            raise Interrupted
        calls.append(f"measure {dubber} {group} {name}")
        return {"r_target": 0.5, "sync": 0.6}

    judge = SimpleNamespace(dies_at=None)
    known = SimpleNamespace(folder=Path("0000"))
    monkeypatch.setattr(common, "WORK", tmp_path / "work")
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    started = SimpleNamespace(digest="ab" * 32, settings=SimpleNamespace(resolution=16))
    monkeypatch.setattr(claims, "load_components", lambda name: started)
    monkeypatch.setattr(claims, "time_updates", lambda folder, trainer, variants: calls.append("time") or SECONDS)
    monkeypatch.setattr(claims, "load_judge", lambda folder: judge)
    monkeypatch.setattr(claims_training.Trainer, "train", train)
    monkeypatch.setattr(claims_measures.Tests, "triples", [known])
    monkeypatch.setattr(claims_measures.Tests, "measure", measure)
    monkeypatch.setattr(claims_measures.Tests, "ends", lambda self, known: {"nothing done": {"r_target": 0.0}})
    monkeypatch.setattr(claims_measures, "Dubber", lambda checkpoint: Path(checkpoint).parent.name or checkpoint)
    arguments = claims.parse(["--crops", str(tmp_path), "--only", "none", "pixel", "--real", "1", "--minutes", "10"])
    return SimpleNamespace(calls=calls, judge=judge, arguments=arguments, start=lambda: claims.Sweep(arguments))


def test_a_killed_sweep_goes_on_and_does_nothing_twice(sweep, tmp_path) -> None:
    for dies_at in (6, 9, 12, None):
        sweep.judge.dies_at = dies_at
        if dies_at is None:
            sweep.start().run()
        else:
            with pytest.raises(Interrupted):
                sweep.start().run()
    assert len(set(sweep.calls)) == len(sweep.calls)
    runs = [call.split()[1] for call in sweep.calls if call.startswith("train")]
    assert runs == ["pixel_critic", "judge", "none_1", "pixel_1", "none_2", "pixel_2"]  # no critic that nobody needs
    assert sum(call.startswith("measure") for call in sweep.calls) == 2 * 5  # a drawn and a recorded person each
    done = len(sweep.calls)
    sweep.start().run()
    assert len(sweep.calls) == done
    assert {path.suffix for path in (tmp_path / "results").iterdir()} == {".md", ".json", ".png"}


def test_a_sweep_does_not_change_in_the_middle(sweep) -> None:
    sweep.start().run()
    for changed in ("minutes", "critic_minutes"):
        other = sweep.start()
        other.arguments = SimpleNamespace(**{**vars(sweep.arguments), changed: 5.0})
        with pytest.raises(InputError, match="use the same, or another --name"):
            other.run()


def test_unisync_is_compared_by_asking_for_it(sweep) -> None:
    import claims
    import claims_training

    assert "unisync" not in claims.parse(["--crops", "x"]).only
    assert claims_training.needed_critics(["none", "pixel", "unisync"]) == ["pixel_critic", "judge", "unisync_critic"]
    clips = SimpleNamespace(common=None)
    trainer = claims_training.Trainer(Path("made"), clips, "embedded")  # type: ignore[arg-type]
    changed = trainer.config("unisync_1", 10)
    assert changed.sync_critic == "unisync" and changed.losses.sync_critic.endswith("unisync_critic/export")
    assert trainer.config("unisync_critic", 10).visual.kind == "rgb"
    assert trainer.config("pixel_1", 10).sync_critic == "stable_syncnet"
    sweep.start().run()
    sweep.arguments.only = ["unisync"]
    with pytest.raises(InputError, match="planned without the unisync_critic"):
        sweep.start().run()


def test_crops_shrink_as_the_sync_loss_shrinks_frames() -> None:
    import stable_syncnet
    import torch

    from latentsync.data.sampling import pixels
    from latentsync.models.stable_syncnet import VisualInput, lower_half

    clip = talker(3, size=56)
    rng = np.random.default_rng(0)
    clip = replace(clip, crops=rng.integers(0, 256, clip.crops.shape, np.uint8))
    small = stable_syncnet.shrunk(clip, 32)
    wanted = lower_half(pixels(clip.crops[:16])[None], VisualInput(size=32)).clamp(-1, 1)
    found = lower_half(pixels(small.crops[:16])[None], VisualInput(size=32))
    assert float((found - wanted).abs().max()) <= 1.01 / 127.5
    assert torch.is_tensor(found) and small.waveform is clip.waveform
