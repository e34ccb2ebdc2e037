"""UniSync's training: every representation from the same clips, it learns, resumes, and ends in a folder that loads."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_talkers import SWITCHED, switcher, talker
from omegaconf import DictConfig

from latentsync.config import load_config
from latentsync.data.representations import LandmarkBasis
from latentsync.data.unisync import unisync_clip
from latentsync.hub import load_unisync
from latentsync.models.unisync import UniSync
from latentsync.training.loop.records import open_run
from latentsync.training.loop.runner import RunConfig, run
from latentsync.training.sync.unisync import UniSyncTask, build, make_task
from latentsync.types import InputError

TINY = [
    "visual.size=32", "network.channels=8", "network.width=32", "network.trunk={widths: [16], residuals: [0]}",
    "network.pictures={widths: [8], strides: [[2, 4]], residuals: [0]}",
    "network.mel={widths: [8], strides: [[2, 4]], residuals: [0]}", "network.numbers={hidden: 16, residuals: 0}",
    "validation={pairs: 16, offset_clips: 2, offset_reach: 3, offset_windows: 4, batch: 8}",
    "pairs={negative_distance: 2, cross_speaker: 0.0, changed_looks: 0.0, crossed: false}",
    "run.batch=8", "run.steps=4", "run.schedule=constant", "run.warmup=0", "run.workers=0", "run.log_every=1",
    "run.save_every=2", "run.validate_every=4",
]  # fmt: skip


def config(folder: Path, *more: str) -> DictConfig:
    return load_config("unisync_small", [*TINY, f"run_folder={folder / 'run'}", *more])


def clips(make=talker, count: int = 4, **more):
    return [make(seed, **more) for seed in range(count)]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def trained(options: DictConfig, made: UniSyncTask, data: str = "d") -> Path:
    folder = Path(options.run_folder)
    open_run(folder, options, data)
    run(made, RunConfig.from_config(options.run), folder)
    return folder


def test_the_guard_knows_how_short_the_run_is(tmp_path) -> None:
    people = clips(count=6)
    guard = make_task(config(tmp_path, "run.steps=20"), people[:4], people[4:]).guard
    with pytest.warns(UserWarning, match="nothing was learned in the last 10 updates"):
        for step in range(10):
            guard.note(step, torch.tensor(guard.chance))


def test_it_learns_and_ends_in_a_folder(tmp_path) -> None:
    people = [replace(switcher(seed, size=32), speaker=f"{seed}") for seed in range(6)]
    changes = ("run.steps=14", "run.batch=16", "run.learning_rate=0.003", f"pairs.negative_distance={SWITCHED}")
    options = config(tmp_path, *changes, "loss={form: bce}", "run.validate_every=14")
    made = make_task(options, people[:4], people[4:])
    folder = trained(options, made)
    told = lines(folder)
    losses = [line["loss"] for line in told if "loss" in line]
    assert losses[-1] < 0.5 < losses[0]
    assert told[-1]["validation/accuracy"] > 0.85 and told[-1]["validation/auc"] > 0.9
    assert {"validation/offset_accuracy", "validation/clip_offset_accuracy"} <= told[-1].keys()
    loaded, batch = load_unisync(folder / "export"), made.batch(range(5))
    with torch.no_grad():
        found, expected = (
            network.eval()(batch.images, batch.mel, batch.shown, batch.heard) for network in (loaded, made.module)
        )
    torch.testing.assert_close(found, expected)
    card = (folder / "export" / "README.md").read_text()
    assert "held-out auc" in card and "crops" in card and "bce" in card


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, one_thread) -> None:
    people = clips()
    whole, halves = (config(tmp_path / name) for name in ("whole", "halves"))
    trained(whole, make_task(whole, people[:3], people[3:]))
    first = halves.copy()
    first.run.steps = 2
    trained(first, make_task(first, people[:3], people[3:]))
    (tmp_path / "halves" / "run" / "export").rename(tmp_path / "early")
    trained(halves, make_task(halves, people[:3], people[3:]))
    one, other = (load_unisync(tmp_path / name / "run" / "export").state_dict() for name in ("whole", "halves"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("visual", ["rgb", "parsing", "landmarks", "3dmm"])
def test_every_representation_is_trained_on_from_the_same_clips(tmp_path, visual: str) -> None:
    options = config(tmp_path, f"visual.kind={visual}", "audio.kind=features", "audio.encoder=embedded")
    people = clips()
    made = make_task(options, people[:3], people[3:])
    batch = made.batch(range(4))
    assert made.losses(made.module, batch, 0)["sync"].isfinite()
    assert batch.mel.shape == (4, 10, 128)
    expected = {"rgb": (15, 16, 32), "parsing": (5, 32, 32), "landmarks": (5, 956), "3dmm": (5, 56)}[visual]
    assert batch.images.shape == (4, *expected)
    network = made.module
    assert isinstance(network, UniSync)
    assert network.audio.source == "MelEncoder embedded" and network.audio.width == 128
    marks = {"parsing": "not independent", "3dmm": "PCA", "landmarks": "face tracker", "rgb": "crops"}
    assert marks[visual] in network.visual.source


def test_a_fitted_basis_goes_with_the_network(tmp_path) -> None:
    people = clips()
    made = make_task(config(tmp_path, "visual.kind=3dmm"), people[:3], people[3:])
    made.export(made.module.eval(), tmp_path / "export")
    network = load_unisync(tmp_path / "export")
    assert network.basis is not None
    basis = LandmarkBasis(network.basis.numpy())
    cut = unisync_clip(people[0], network.visual, network.audio, represent=basis.make)
    known = next(clip for clip in made.training.clips if clip.name == cut.name)
    torch.testing.assert_close(cut.images(3, network.visual, None), known.images(3, network.visual, None))
    with pytest.raises(InputError, match=r"looks at 56 numbers a frame.*PCA basis"):
        unisync_clip(people[0], network.visual, network.audio, represent=lambda clip: clip.landmarks[:, 0])


def test_what_is_made_of_a_clip_is_made_once_for_its_content(tmp_path, monkeypatch) -> None:
    options = config(tmp_path, "visual.kind=landmarks", f"data.cache_folder={tmp_path / 'cache'}")
    people = clips()
    first = make_task(options, people[:3], people[3:])
    assert len(list((tmp_path / "cache" / "visual" / "landmarks").iterdir())) == 4
    monkeypatch.setattr("latentsync.data.representations.TrackedLandmarks.make", None)
    again = make_task(options, people[:3], people[3:])
    assert torch.equal(first.batch([1]).images, again.batch([1]).images)


def test_margins_change_what_one_answer_costs(tmp_path) -> None:
    people = clips()
    plain = make_task(config(tmp_path, "loss={same_speaker: 0.0, cross_speaker: 0.0}"), people[:3], people[3:])
    assert plain.guard.chance == pytest.approx(math.log(2), abs=1e-5)
    assert make_task(config(tmp_path), people[:3], people[3:]).guard.chance < math.log(2)


def test_what_cannot_be_is_told_before_anything_is_read(tmp_path) -> None:
    for change, told in {
        "audio.kind=features": "needs audio.encoder",
        "visual.kind=depth": "choose one of rgb",
        "visual.size=8": "pictures must end at 5x8",
        "run.seed=2": "no data: give data.manifest",
    }.items():
        with pytest.raises(InputError, match=told):
            build(config(tmp_path, change))
    people = clips()
    with pytest.raises(InputError, match="level is 9 and the encoder has 4"):
        make_task(config(tmp_path, "audio={kind: features, encoder: embedded, level: 9}"), people[:3], people[3:])
    with pytest.raises(InputError, match="name no speakers"):
        make_task(config(tmp_path, "pairs.cross_speaker=0.2"), people[:3], people[3:])
