"""What is built carries all it needs: the wheel, put into an empty folder, dubs the example there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 900  # seconds; on one core of a busy machine
CARRIED = ("configs", "checkpoints/embedded", "examples")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=PATIENCE)
    (built,) = folder.glob("latentsync-*.whl")
    return built


def carried_files() -> set[str]:
    """Every file of the checkout that has to travel, but scripts and lists for those who work on it."""
    folders = [ROOT / name for name in ("latentsync", *CARRIED)]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if "__pycache__" not in path.parts and not (path.suffix == ".py" and path.is_relative_to(ROOT / "examples"))
    }


def test_the_wheel_holds_the_package_and_its_files_and_no_more(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {name if name.startswith("latentsync/") else f"latentsync/{name}" for name in carried_files()}
    assert names == wanted


def test_the_wheel_dubs_the_example_in_an_empty_folder(wheel, tmp_path):
    site, place = tmp_path / "site", tmp_path / "empty"
    place.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, timeout=PATIENCE)
    environment = os.environ | {"PYTHONPATH": str(site)}  # comes before the checkout; other packages stay in reach

    def call(*argv: str) -> str:
        done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "from latentsync.config import resource; print(resource('examples'))"
    example = Path(call(sys.executable, "-c", code).strip())
    assert example == site / "latentsync" / "examples"
    call(
        *(str(site / "bin" / "latentsync"), "dub", "--quiet", "--device", "cpu", "--steps", "2"),
        *("--video", str(example / "talk.mp4"), "--audio", str(example / "speech.wav")),
        *("--out", "dubbed.mp4", "--report", "r.json"),
    )
    report = json.loads((place / "r.json").read_text())
    assert report["checkpoint"] == "embedded" and report["frames_dubbed"] == report["frames_out"] > 0
    with av.open(str(place / "dubbed.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == report["frames_out"]


def test_the_source_archive_holds_what_a_wheel_is_built_from(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(build, check=True, cwd=ROOT, timeout=PATIENCE, capture_output=True)
    (built,) = tmp_path.glob("latentsync-*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt", "inference.py"}
    assert carried_files() | needed <= names
