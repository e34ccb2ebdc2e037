"""What is read off run folders: of manifests, of the embedded recipe, of metrics; and what is kept back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hub_samples import SETTINGS, small_mel_encoder, small_unet, small_vae
from omegaconf import OmegaConf
from training_unet import write_clips

from latentsync.data.licences import Licence, licence_of, read_licences
from latentsync.data.manifest import ManifestEntry, write_manifest
from latentsync.hub import save_folder
from latentsync.hub.card import ClipCount, SourceShare
from latentsync.training.loop.history import draw_curves, find_run, read_facts
from latentsync.training.loop.provenance import base_model, own_name, without_paths
from latentsync.training.loop.records import note_exported
from latentsync.training.unet.data import read_clips
from latentsync.types import InputError


def entry(source: str, speaker: str, split: str, frames: int = 50) -> ManifestEntry:
    return ManifestEntry(
        source=source, source_sha256="0" * 64, start=0.0, end=frames / 25, fps=25.0, frames=frames, speaker=speaker,
        av_offset=0.0, confidence=1.0, quality=1.0, split=split, clip="clips/x", mel="clips/x.mel.npy",
    )  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    """A run on a manifest, as `train/` leaves it."""
    entries = [
        entry("videos/grid/s1/bbaf.mp4", "s1", "train", 75),
        entry("videos/grid/s2/lbax.mp4", "s2", "train", 75),
        entry("shards/p-0.tar::anna/talk.mp4", "anna", "train", 100),
        entry("shards/p-0.tar::carl/talk.mp4", "carl", "validation", 25),
    ]
    manifest = write_manifest(tmp_path / "data" / "manifest.jsonl", entries, {}) if make(tmp_path / "data") else None
    assert manifest is not None
    folder = tmp_path / "run"
    folder.mkdir()
    start = tmp_path / "runs" / "critic" / "export"
    options = {"manifest": str(manifest.path), "start_from": str(start), "run": {"steps": 300}}
    OmegaConf.save(OmegaConf.create(options), folder / "config.yaml")
    (folder / "run.json").write_text(json.dumps({"data": manifest.digest, "git": "abc", "version": "1"}))
    lines = [
        {"step": 100, "loss": 0.7, "loss/sync": 0.7, "gradient_norm": 1.0},
        {"step": 200, "loss": math.nan, "loss/sync": math.nan},
        {"step": 300, "loss": 0.5, "loss/sync": 0.5},
        {"step": 300, "validation/auc": 0.9},
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_a_manifest_is_counted_by_split_speaker_and_licence(run, tmp_path) -> None:
    (tmp_path / "data" / "licences.csv").write_text("source,licence\ngrid,CC-BY-4.0\nanna,by consent\n")
    data = read_facts(run, None, True).data
    assert data.training == ClipCount(3, 10.0, 3) and data.held_out == ClipCount(1, 1.0, 1) and data.note == ""
    assert data.sources == [
        SourceShare("grid", "CC-BY-4.0", 2, 6.0),
        SourceShare("anna", "by consent", 1, 4.0),
        SourceShare("all others", None, 1, 1.0),
    ]
    (tmp_path / "given.tsv").write_text("source\tlicence\torigin\n*\tmit\tEverything\n")
    assert read_facts(run, tmp_path / "given.tsv", True).data.sources == [SourceShare("Everything", "mit", 4, 11.0)]


def test_a_damaged_table_is_not_passed_over(run, tmp_path) -> None:
    for text, told in (("source,terms\n", "has no column licence"), ("source,licence\ngrid,\n", "line 2: source or")):
        (tmp_path / "data" / "licences.csv").write_text(text)
        with pytest.raises(InputError, match=told):
            read_facts(run, None, True)


def test_figures_are_those_of_the_metrics(run) -> None:
    facts = read_facts(run, None, True)
    assert [(c.name, list(c.steps), list(c.values)) for c in facts.losses] == [("loss", [100, 300], [0.7, 0.5])]
    assert [(c.name, c.row[1:]) for c in facts.validation] == [("auc", ["0.9 (update 300)"] * 3)]
    assert facts.updates == 300 and facts.git == "abc" and facts.began_from == "critic/export"
    picture = facts.pictures["losses.png"]
    assert picture == draw_curves(facts.losses, facts.validation), "the same figures give the same bytes"
    assert list(facts.pictures) == ["losses.png"] and _size(picture) == (800, 272)


def test_what_a_run_did_after_its_export_is_not_told_of_the_weights(run) -> None:
    note_exported(run, 100)
    for step in (100, 300):
        (run / "validation" / f"step_{step:08}").mkdir(parents=True)
        (run / "validation" / f"step_{step:08}" / "dub.png").write_bytes(f"{step}".encode())
    facts = read_facts(run, None, True)
    assert (facts.updates, facts.ended) == (100, 300)
    assert [(c.name, list(c.steps)) for c in facts.losses] == [("loss", [100])] and not facts.validation
    assert facts.pictures["examples/dub.png"] == b"100"


def _size(png: bytes) -> tuple[int, int]:
    import cv2

    height, width, _ = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape
    return width, height


def test_a_manifest_that_grew_since_is_not_counted(run, tmp_path) -> None:
    write_manifest(tmp_path / "data" / "manifest.jsonl", [entry("a.mp4", "a", "train")], {})
    with pytest.warns(UserWarning, match="have changed since the run"):
        data = read_facts(run, None, True).data
    assert data.training is None and data.sources == ()


def write_inner(outer: Path, name: str, data: dict) -> Path:
    """A finished run in the folder of a recipe of several steps, which went on from another of its runs."""
    inner = make(outer / name)
    networks = {"unet": small_unet(), "vae": small_vae(), "audio_encoder": small_mel_encoder()}
    save_folder(inner / "export", **networks, settings=SETTINGS)
    first = make(outer / "stage1")
    (first / "metrics.jsonl").write_text('{"step": 4600, "loss": 1.0}\n')
    options = {"data": data, "start_from": str(first / "export"), "run": {"steps": 3}}
    OmegaConf.save(OmegaConf.create(options), inner / "config.yaml")
    return inner


@pytest.mark.parametrize("name", ["stage2", "run"])
def test_of_a_recipe_of_several_steps_the_last_one_counts(tmp_path, name) -> None:
    data = {"crops": str(write_clips(tmp_path / "crops")), "validation": ["c_1"], "leave_out": []}
    data |= {"manifest": None, "most_frames": 25}
    inner = write_inner(tmp_path / "outer", name, data)
    digest = read_clips(OmegaConf.create({"data": data}))[2]
    (inner / "run.json").write_text(json.dumps({"data": digest}))
    found = find_run(tmp_path / "outer")
    assert (found.weights, found.folder) == (inner / "export", inner) == (find_run(inner).weights, inner)
    (tmp_path / "outer" / "report").mkdir()
    (tmp_path / "outer" / "report" / "segment_1.png").write_bytes(b"sheet")
    spread = {"mean": 0.5, "low": 0.25, "high": 0.75, "count": 4}
    figures = {"before": {"r_target": spread}, "after": {"r_target": {**spread, "mean": 0.625}}}
    (tmp_path / "outer" / "report" / "report.json").write_text(json.dumps({"name": "anna", **figures}))
    facts = read_facts(inner, None, True)
    assert facts.data.training == ClipCount(2, 2.0, None) and facts.data.held_out == ClipCount(1, 1.0, None)
    assert facts.began_from == "stage1/export (4,600 updates)" and facts.losses == []
    rows = [compared.row for compared in facts.comparison]
    if name == "run":  # of a fine-tuning
        assert rows == [["r_target", "0.50 [0.25, 0.75]", "0.62 [0.25, 0.75]"]]
        assert facts.pictures == {"examples/segment_1.png": b"sheet"}
    else:
        assert rows == [] and facts.pictures == {}
    assert read_facts(inner, None, False).pictures == {}
    OmegaConf.save(OmegaConf.create({"data": {"crops": data["crops"]}}), inner / "config.yaml")
    with pytest.warns(UserWarning, match="could not be read"):  # an option is missing that this version asks for
        assert read_facts(inner, None, True).data.digest == digest


def test_a_recipe_that_has_not_ended_says_how_far_it_is(tmp_path) -> None:
    inner = write_inner(tmp_path / "outer", "stage2", {})
    (inner / "metrics.jsonl").write_text('{"step": 70, "loss": 1.0}\n')
    (inner / "export").rename(tmp_path / "elsewhere")
    (tmp_path / "outer" / "config.yaml").write_text("run_folder: outer\n")
    with pytest.raises(InputError, match=r"no finished weights yet \(70 updates are noted\)"):
        find_run(tmp_path / "outer")
    make(tmp_path / "anna" / "prepared")
    with pytest.raises(InputError, match=r"no finished weights yet \(0 updates"):
        find_run(tmp_path / "anna")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/home/anna/runs/first/export", "first/export"), ("/home/anna/clips", "clips"),
        (r"C:\Users\anna\a.pt", "a.pt"),
        ("~/a/b.yaml", "b.yaml"), ("../up/b.yaml", "b.yaml"), ("someone/model@v2", "someone/model@v2"),
        ("embedded", "embedded"), ("a+b", "a+b"),
    ],
)  # fmt: skip
def test_of_a_path_only_its_last_part_is_told(name, told) -> None:
    assert own_name(name) == told


def test_a_configuration_is_told_without_paths(tmp_path, monkeypatch) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "anna").touch()
    monkeypatch.chdir(tmp_path)
    config = OmegaConf.create({"a": {"b": ["/x/y", 3, None]}, "c": "clients/anna", "d": 0.5})
    assert OmegaConf.to_container(without_paths(config)) == {"a": {"b": ["y", 3, None]}, "c": "anna", "d": 0.5}


def test_only_published_names_are_a_base_model() -> None:
    assert base_model("ByteDance/LatentSync-1.6@main") == "ByteDance/LatentSync-1.6"
    assert base_model("runs/first") is None and base_model("/x/y") is None and base_model("") is None


@pytest.mark.parametrize(
    ("pattern", "source", "covered"),
    [
        ("grid_*", "grid_brbk7n", True), ("grid_*", "other/grid_1.mp4", True), ("s1", "grid/s1/a.mp4", True),
        ("anna", "p.tar::anna/talk.mp4", True), ("p", "p.tar::anna/talk.mp4", True), ("a", "grid/s1/ab.mp4", False),
        ("GRID", "grid/a.mp4", False),
    ],
)  # fmt: skip
def test_which_sources_a_row_covers(pattern, source, covered) -> None:
    assert (licence_of(source, [Licence(pattern, "x")]) is not None) == covered


def test_the_first_row_that_covers_counts(tmp_path) -> None:
    (tmp_path / "l.tsv").write_text("source\tlicence\na_1\tone\na_*\ttwo\n")
    table = read_licences(tmp_path / "l.tsv")
    found = [licence_of(name, table) for name in ("a_1", "a_2", "b")]
    assert [row.licence if row else None for row in found] == ["one", "two", None]
