"""The installed command as a process: one clean sentence on stderr, and nothing half-written however it ends."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

LONG = 60  # times that the material is looped, so that there is time to interfere
PATIENCE = 400  # seconds
PARTIAL = ".out.mp4.*.partial.mp4"
SMALL = 100_000  # bytes that a process may write to a file when the disk is to look full


def command(material, folder: Path, out: str = "out.mp4", **changes) -> list[str]:
    values = {"video": material.video, "audio": material.audio, "out": folder / out, **changes}
    flags = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    return [
        *(sys.executable, "-m", "latentsync", "dub", *flags),
        *("--checkpoint", str(material.checkpoint), "--device", "cpu"),
    ]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def finish(argv: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=PATIENCE, **options)


@pytest.fixture
def long_audio(tmp_path: Path) -> Path:
    import cli_material as make

    return make.write_tone(tmp_path / "long.wav", seconds=LONG)


def started(argv: list[str], folder: Path) -> subprocess.Popen[str]:
    """The process, once it has begun to write the video. It heeds SIGINT even where whoever runs the tests does not."""
    process = subprocess.Popen(
        argv,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + PATIENCE
    while not any(path.stat().st_size for path in folder.glob(PARTIAL)):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"nothing was written: {process.stderr.read()}")
        time.sleep(0.02)
    return process


def test_bad_input_is_one_line_and_status_2(dubbing_material, tmp_path):
    done = finish(command(dubbing_material, tmp_path, video=tmp_path / "gone.mp4"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"latentsync: '{tmp_path / 'gone.mp4'}' does not exist; check the path.\n"


def test_the_script_is_the_command(tmp_path):
    script = Path(__file__).resolve().parent.parent / "inference.py"
    done = finish([sys.executable, str(script), "--video", "a.mp4"], cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--audio and --out must be given" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_killed_and_run_again(dubbing_material, tmp_path, long_audio):
    folder = tmp_path / "results"
    folder.mkdir()
    process = started(command(dubbing_material, folder, audio=long_audio, fit="loop"), folder)
    process.kill()
    process.wait()
    assert not (folder / "out.mp4").exists() and list(folder.glob(PARTIAL))
    done = finish(command(dubbing_material, folder))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["out.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupted(dubbing_material, tmp_path, long_audio):
    folder = tmp_path / "results"
    folder.mkdir()
    process = started(command(dubbing_material, folder, audio=long_audio, fit="loop"), folder)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "latentsync: interrupted, nothing unfinished was kept" and "Traceback" not in told
    assert not list(folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk(dubbing_material, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    done = finish(
        command(dubbing_material, folder),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL)),
    )
    assert done.returncode == 2, done.stderr
    assert "is full" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not list(folder.iterdir())


def test_two_jobs_at_once_in_one_folder(dubbing_material, tmp_path):
    names = ("one.mp4", "two.mp4")
    jobs = [
        subprocess.Popen(command(dubbing_material, tmp_path, out=name), stderr=subprocess.PIPE, env=environment())
        for name in names
    ]
    for job in jobs:
        _, told = job.communicate(timeout=PATIENCE)
        assert job.returncode == 0, told
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    first, second = (pictures(tmp_path / name) for name in names)
    assert first and first == second


def pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
    ids=["default", "own count", "own policy"],
)
def test_waiting_threads_sleep_soon_unless_the_user_decides(given, spins):
    """Set before torch is loaded, whatever is imported first of the package."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import latentsync.types, os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept | given, check=True)
    assert done.stdout.split() == [spins, "False"]
