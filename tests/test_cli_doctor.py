"""`latentsync doctor` sees each gap that is there, and says what to do about it."""

from __future__ import annotations

import json
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from latentsync.cli import checks, main, packages
from latentsync.cli.checks import Check, Status
from latentsync.types import CheckpointError, InputError


def one(found) -> Check:
    (check,) = list(found)
    return check


@pytest.mark.parametrize(
    ("version", "demand", "words"),
    [
        ("1.26.4", "numpy>=1.26,<2", ""),
        ("2.1.0", "numpy>=1.26,<2", "too new for mediapipe, which asks for numpy<2,>=1.26"),
        ("1.20", "numpy>=1.26,<2", "too old"),
        ("2.13.0+cpu", "torch>=2.4", ""),
        ("2.4.0.dev1", "torch>=2.4", "too old"),
        ("5.0", "protobuf==4.25", "too new"),
        ("4.0", "protobuf~=4.25", "too old"),
    ],
)
def test_versions_out_of_range_are_told_apart(version, demand, words):
    told = packages.problem(version, Requirement(demand), "mediapipe")
    assert told == words if not words else words in told


def test_a_package_that_another_one_cannot_stand_is_a_gap(monkeypatch):
    asked = {"latentsync": ["numpy>=1.26", "mediapipe>=0.10.21"], "mediapipe": ["numpy<2"]}
    real = metadata.version
    monkeypatch.setattr(packages.metadata, "requires", lambda name: asked.get(name, []))
    monkeypatch.setattr(packages.metadata, "version", lambda name: "2.4.0" if name == "numpy" else real(name))
    found = {package.name: package for package in packages.wanted_packages()}
    assert found["numpy"].problem == "too new for mediapipe, which asks for numpy<2"
    assert found["mediapipe"].problem == ""


def test_missing_packages_are_gaps_unless_they_are_extras(monkeypatch):
    lines = ["not-there>=1", "nor-there>=2; extra == 'train'", "numpy>=1; python_version < '3'"]
    monkeypatch.setattr(packages.metadata, "requires", lambda name: lines if name == "latentsync" else [])
    found = {check.name: check for check in checks.packages()}
    assert found["not-there"].status is Status.GAP and found["not-there"].advice == "pip install 'not-there>=1'"
    assert found["nor-there (extra train)"].status is Status.NOTE
    assert "latentsync[train]" in found["nor-there (extra train)"].advice
    assert "numpy" not in found


def test_this_installation_is_examined_in_full():
    names = {package.name for package in packages.wanted_packages()}
    assert {"torch", "av", "mediapipe", "accelerate", "xformers"} <= names and "pytest" not in names


def test_a_codec_that_is_missing_is_a_gap_only_when_dubs_need_it(monkeypatch):
    monkeypatch.setattr(checks, "_encodes", lambda name: name != "libvpx-vp9")
    check = one(checks.codecs())
    assert check.status is Status.NOTE and "without libvpx-vp9 (for webm)" in check.found
    monkeypatch.setattr(checks, "_encodes", lambda name: name != "libx264")
    assert one(checks.codecs()).status is Status.GAP


def test_codecs_of_this_installation():
    assert one(checks.codecs()).status is Status.OK
    assert not checks._encodes("no-such-codec")


def test_face_models_are_tried(monkeypatch, tmp_path):
    monkeypatch.delenv("LATENTSYNC_FACE_TASK", raising=False)
    assert "FaceMeshDetector" in one(checks.face_models()).found
    monkeypatch.setenv("LATENTSYNC_FACE_TASK", str(tmp_path / "gone.task"))
    with pytest.raises(InputError, match=r"gone\.task"):
        list(checks.face_models())


def test_a_tampered_embedded_checkpoint_is_a_gap(monkeypatch):
    def tampered(name: str):
        raise CheckpointError(f"{name}: its SHA-256 differs")

    monkeypatch.setattr("latentsync.hub.load_components", tampered)
    monkeypatch.setattr(checks, "GROUPS", {"checkpoint": checks.embedded_checkpoint, "space": checks.space})
    found = {check.name: check for check in checks.all_checks()}
    assert found["checkpoint"].status is Status.GAP and "SHA-256" in found["checkpoint"].found
    assert "memory" in found


def test_offline_and_a_full_disk_are_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "offline" in one(checks.hub()).found
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1e8}))
    assert "0.1 GB free" in next(iter(checks.space())).found
    assert next(iter(checks.space())).status is Status.NOTE


@pytest.mark.parametrize(("status", "code"), [(Status.OK, 0), (Status.NOTE, 0), (Status.GAP, 1)])
def test_exit_status_and_json(monkeypatch, capsys, status, code):
    monkeypatch.setattr(checks, "all_checks", lambda: iter([Check("thing", status, "found", "do this")]))
    assert main(["doctor", "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "works": code == 0,
        "checks": [{"name": "thing", "status": status.value, "found": "found", "advice": "do this"}],
    }
    assert main(["doctor"]) == code
    assert "do this" in capsys.readouterr().out
