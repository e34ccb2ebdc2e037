"""What is read off run folders: of manifests, of the embedded recipe, of metrics; and what is kept back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_samples import SETTINGS, small_mel_encoder, small_unet, small_vae
from omegaconf import OmegaConf
from safetensors.torch import save_file
from training_unet import write_clips

from latentsync.data.licences import Licence, licence_of, read_licences
from latentsync.data.manifest import ManifestEntry, write_manifest
from latentsync.hub import save_folder
from latentsync.hub.card import ClipCount, SourceShare
from latentsync.training.history import draw_curves, find_run, read_facts
from latentsync.training.provenance import base_model, own_name, without_paths
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


def _size(png: bytes) -> tuple[int, int]:
    import cv2

    height, width, _ = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape
    return width, height


def test_a_manifest_that_grew_since_is_not_counted(run, tmp_path) -> None:
    write_manifest(tmp_path / "data" / "manifest.jsonl", [entry("a.mp4", "a", "train")], {})
    with pytest.warns(UserWarning, match="have changed since the run"):
        data = read_facts(run, None, True).data
    assert data.training is None and data.sources == ()


@pytest.fixture
def embedded(tmp_path) -> Path:
    """A finished run of the embedded recipe, whose weights lie elsewhere, in half precision."""
    folder, weights = tmp_path / "embedded", tmp_path / "weights"
    networks = {"unet": small_unet(), "vae": small_vae(), "audio_encoder": small_mel_encoder()}
    save_folder(weights, **networks, settings=SETTINGS, dtype=torch.float16)
    write_clips(folder / "crops")
    (folder / "stage2").mkdir()
    state = {f"unet.{name}": tensor for name, tensor in small_unet().state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "stage2" / "averaged.safetensors")
    options = {
        "export": {"folder": str(weights)}, "leave_out": ["c_1"], "most_frames": 25, "start_from": None,
        "stage1": {"steps": 30}, "stage2": {"steps": 12},
    }  # fmt: skip
    OmegaConf.save(OmegaConf.create(options), folder / "config.yaml")
    return folder


def test_a_run_of_the_embedded_recipe(embedded, tmp_path) -> None:
    found = find_run(embedded)
    assert (found.weights, found.folder) == (tmp_path / "weights", embedded)
    facts = read_facts(embedded, None, True)
    assert facts.updates == 42 and facts.data.training == ClipCount(2, 2.0, None) and facts.began_from == ""
    assert facts.data.held_out == ClipCount(1, 1.0, None)
    assert facts.pictures == {} and facts.data.digest == ""
    other = {"unet": small_unet(seed=9), "vae": small_vae(), "audio_encoder": small_mel_encoder()}
    save_folder(tmp_path / "weights", **other, settings=SETTINGS, dtype=torch.float16)
    with pytest.raises(InputError, match="are not those of the run"):
        find_run(embedded)
    (embedded / "stage2" / "averaged.safetensors").unlink()
    with pytest.raises(InputError, match="no finished weights yet"):
        find_run(embedded)


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
