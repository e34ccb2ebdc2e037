"""`latentsync evaluate` and `latentsync dub --check`: what they write, how they end, what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import evaluation_material as material
import pytest
from cli_material import write_faceless_clip

from latentsync.cli import build_parser, main
from latentsync.cli.checked import CheckedPipeline, CheckFailed, Gate
from latentsync.cli.settings import dub_settings
from latentsync.evaluation import gate
from latentsync.evaluation.gate import Limit, Verdict
from latentsync.evaluation.instruments import Instruments
from latentsync.evaluation.registry import METRICS
from latentsync.hub.trained_with import sync_critics
from latentsync.pipelines.dub import DubbingPipeline

pytest.importorskip("mediapipe")


def told(capsys) -> str:
    return capsys.readouterr().err


def test_the_list_names_every_metric_with_origin_and_direction(capsys) -> None:
    assert main(["evaluate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(METRICS) + 2
    assert all(line.count("|") == 7 and "| |" not in line for line in lines[2:])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "nothing was given to be measured"),
        (["--dubbed", "a.mp4", "--manifest", "b.jsonl"], "--dubbed and --manifest was given"),
        (["--manifest", "b.jsonl", "--audio", "a.wav"], "--audio does not go with --manifest"),
        (["--checkpoint", "embedded", "--video", "a.mp4"], "--checkpoint needs --video"),
        (["--dubbed", "gone.mp4"], "the dubbed 'gone.mp4' is not a file"),
        (["--manifest", "gone.jsonl"], "gone.jsonl' cannot be read"),
        (["--dubbed", "a.mp4", "--lpips-heads", "h.pth"], "belong together"),
        (["--dubbed", "a.mp4", "--unisync-encoder", "hubert"], "--unisync-encoder goes with --unisync"),
        (["--dubbed", "a.mp4", "--identity-weights", "gone.ckpt"], "gone.ckpt do not exist"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_done(flags, words, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *flags]) == 2
    assert words in told(capsys) and not list(tmp_path.iterdir())


def test_a_manifest_is_measured_and_names_what_it_leaves_out(dubbing_material, tmp_path, capsys) -> None:
    video = Path(shutil.copy(dubbing_material.video, tmp_path / "talk.mp4"))
    write_faceless_clip(tmp_path / "nobody.mp4", 12)
    rows = [
        {"dubbed": "nobody.mp4", "audio": "talk.mp4"},
        {"dubbed": "talk.mp4", "audio": "talk.mp4", "source": "talk.mp4", "phonemes": [["M", 0.1, 0.2]]},
    ]
    facts = {"frames_out": 30, "fps": 25.0, "total_seconds": 6.0, "seconds": {}, "frames": []}
    (tmp_path / "r.json").write_text(json.dumps({**facts, "checkpoint": "ByteDance/LatentSync-1.6"}))
    rows[1]["dub_report"] = "r.json"
    manifest = tmp_path / "dubs.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "report"
    assert main(["evaluate", "--manifest", str(manifest), "--out", str(out)]) == 1
    content = json.loads((out / "evaluation.json").read_text())
    assert [item["name"] for item in content["items"]] == [video.stem]
    assert "shows a face in 0 of 12 frames" in content["left_out"]["nobody (as given)"]
    figures = content["items"][0]["rows"]["dubbed"]["figures"]
    assert figures["psnr_mouth"] == 100 and "closed_lips" in figures
    assert content["trained_with"] == ["stable_syncnet"], "the report names a checkpoint that was trained with it"
    assert (out / "evaluation.md").read_text() in capsys.readouterr().out
    assert "data:image/png" in (out / "evaluation.html").read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", "'dubbed' is missing"),
        ('{"dubbed": "a.mp4", "adio": "b.wav"}', "did you mean audio"),
        ('{"dubbed": "a.mp4", "audio": 3}', "audio is 3, which is no text"),
        ('{"dubbed": "talk.mp4", "setting": "loud"}', "setting is 'loud'"),
        ('{"dubbed": "talk.mp4", "words": [["a", 1]]}', "times must be a list"),
    ],
)
def test_a_line_that_is_no_dub_is_named(line, words, tmp_path, capsys) -> None:
    (tmp_path / "talk.mp4").touch()
    manifest = tmp_path / "dubs.jsonl"
    manifest.write_text(f"\n{line}\n")
    assert main(["evaluate", "--manifest", str(manifest)]) == 2
    error = told(capsys)
    assert words in error and "line 2" in error


class CopyingPipeline:
    """Dubs by giving the video the audio; notes what it was asked for."""

    def __init__(self) -> None:
        self.components = SimpleNamespace(digest="copying")
        self.asked: list[str] = []

    def dub(self, video, audio, out, *, seed=0, report=None, progress=True):
        self.asked.append(Path(out).name)
        material.rewrite(Path(video), Path(out), waveform=material.sound(Path(audio)))
        facts = {"frames_out": 30, "fps": 25.0, "total_seconds": 6.0, "seconds": {"denoise": 3.0}, "options": {}}
        made = {"frames": [], **facts, "peak_memory_mib": 500.0, "peak_device_memory_mib": None}
        if report is not None:
            Path(report).write_text(json.dumps(made, indent=1) + "\n")
        return SimpleNamespace(**made, seed=seed)


def test_a_checkpoint_is_measured_in_four_settings(dubbing_material, tmp_path, monkeypatch) -> None:
    copying = CopyingPipeline()
    monkeypatch.setattr(DubbingPipeline, "from_pretrained", lambda name, device: copying)
    flags = ["--checkpoint", "any", "--video", str(dubbing_material.video), "--audio", str(dubbing_material.audio)]
    assert main(["evaluate", *flags, "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "evaluation.json").read_text())
    settings = ["reconstruction", "cross", "silent audio", "noise"]
    assert [item["setting"] for item in content["items"]] == settings
    assert [(row["setting"], row["row"]) for row in content["summary"]] == [
        (setting, row) for setting in settings for row in ("ground truth", "nothing done", "dubbed")
    ]
    first = content["items"][0]
    assert first["rows"]["dubbed"]["figures"]["cost_seconds"] == pytest.approx(6.0 / 1.2)
    assert first["seconds_a_second_by_stage"] == {"denoise": 2.5}
    text = (tmp_path / "evaluation.md").read_text()
    assert "by stage, which run side by side: denoise 2.50" in text
    assert "give --syncnet (reconstruction, cross); nobody speaks in the audio (silent audio, noise)" in text
    assert "talk (reconstruction), talk (cross), talk (silent audio), talk (noise): no truth was given" in text
    again = build_parser().parse_args(["evaluate", *flags, "--out", str(tmp_path)])
    assert [item.setting for item in dub_settings(again)] == settings
    assert copying.asked == ["reconstruction.mp4", "cross.mp4", "silent.mp4", "noise.mp4"]  # none made twice


def test_a_checkpoint_tells_which_critic_it_was_trained_with(tmp_path) -> None:
    assert sync_critics("ByteDance/LatentSync-1.6") == {"stable_syncnet"}
    assert sync_critics("embedded") == sync_critics(str(tmp_path / "gone.pt")) == frozenset()
    card = "# mine\n\n```yaml\nweights:\n  sync: {weight}\nlosses:\n  sync_critic: {name}\n```\n"
    for weight, name, found in ((0.05, "critic/export", "stable_syncnet"), (0.1, "unisync-mel", "unisync")):
        (tmp_path / "README.md").write_text(card.format(weight=weight, name=name))
        assert sync_critics(str(tmp_path)) == {found}
    (tmp_path / "README.md").write_text(card.format(weight=0.0, name="critic"))
    assert sync_critics(str(tmp_path)) == frozenset()


# dub --check


class Seeds:
    """A pipeline whose dub says in its file which seed made it."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def dub(self, video, audio, out, *, seed, report=None):
        self.seeds.append(seed)
        Path(out).write_text(f"seed {seed}")
        if report is not None:
            Path(report).write_text(f'{{"frames": [\n{{"frame": 0}}\n],\n "seed": {seed}\n}}\n')
        return SimpleNamespace(seed=seed)


@pytest.fixture
def sharp(monkeypatch):
    """What the gate finds by seed; sharpness must reach 1."""
    found: dict[int, float] = {}
    limit = Limit(low=1.0)

    def check(item, limits, instruments) -> Verdict:
        value = found[int(item.dubbed.read_text().split()[1])]
        complaint = limit.complaint("sharpness", value)
        return Verdict({"sharpness": value}, {"sharpness": limit}, (complaint,) if complaint else ())

    monkeypatch.setattr(gate, "check", check)
    return found


def checked_dub(folder: Path, retries: int) -> tuple[Seeds, Path]:
    for name in ("talk.mp4", "new.wav"):
        (folder / name).touch()
    seeds, out = Seeds(), folder / "out.mp4"
    pipeline = CheckedPipeline(seeds, Gate({}, retries, Instruments()))  # type: ignore[arg-type]
    pipeline.dub(folder / "talk.mp4", folder / "new.wav", out, seed=7, report=folder / "r.json")
    return seeds, out


def test_the_first_seed_that_passes_is_kept(sharp, tmp_path) -> None:
    sharp |= {7: 0.5, 8: 1.2, 9: 2.0}
    seeds, out = checked_dub(tmp_path, 5)
    assert seeds.seeds == [7, 8] and out.read_text() == "seed 8"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["seed"] == 8 and report["check"]["passed"] and report["frames"] == [{"frame": 0}]
    assert [attempt["passed"] for attempt in report["check"]["attempts"]] == [False, True]
    assert report["check"]["limits"] == {"sharpness": {"low": 1.0, "high": None}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.wav", "out.mp4", "r.json", "talk.mp4"]


def test_where_none_passes_the_least_bad_is_kept_and_it_fails(sharp, tmp_path) -> None:
    sharp |= {7: 0.2, 8: 0.6, 9: 0.4}
    with pytest.raises(CheckFailed, match=r"best of 3 seeds was kept\): sharpness .* is 0.60, under 1"):
        checked_dub(tmp_path, 2)
    assert (tmp_path / "out.mp4").read_text() == "seed 8"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["seed"] == 8 and not report["check"]["passed"] and len(report["check"]["attempts"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.wav", "out.mp4", "r.json", "talk.mp4"]


def test_an_attempt_that_dies_leaves_the_best_one_so_far(sharp, tmp_path, monkeypatch) -> None:
    sharp |= {7: 0.2}
    dub = Seeds.dub

    def dies(self, *paths, seed, **more):
        if seed > 7:
            raise KeyboardInterrupt
        return dub(self, *paths, seed=seed, **more)

    monkeypatch.setattr(Seeds, "dub", dies)
    with pytest.raises(KeyboardInterrupt):
        checked_dub(tmp_path, 2)
    assert (tmp_path / "out.mp4").read_text() == "seed 7"


def test_a_dub_is_checked_by_the_command(dubbing_material, tmp_path, capsys) -> None:
    out, report, limits = tmp_path / "out.mp4", tmp_path / "r.json", tmp_path / "limits.yaml"
    flags = ["dub", "--video", str(dubbing_material.video), "--audio", str(dubbing_material.audio), "--out", str(out)]
    flags += ["--checkpoint", str(dubbing_material.checkpoint), "--device", "cpu", "--quiet", "--report", str(report)]
    limits.write_text("audio_offset_ms: {low: -40.0, high: 40.0}\n")
    assert main([*flags, "--check", str(limits)]) == 0
    assert "passed the check" in capsys.readouterr().out
    limits.write_text("psnr_outside: {low: 99.0}\n")
    assert main([*flags, "--check", str(limits)]) == 1
    lines = [line for line in told(capsys).splitlines() if line.startswith("latentsync: ")]
    assert len(lines) == 1 and "does not pass the check (1 seed was tried)" in lines[0]
    written = json.loads(report.read_text())
    assert written["check"]["complaints"] and out.is_file() and written["out"] == str(out)


def test_retries_want_a_check(tmp_path, capsys) -> None:
    assert main(["dub", "--video", "a", "--audio", "b", "--out", "c.mp4", "--retries", "2"]) == 2
    assert "--retries goes with --check" in told(capsys)
    assert main(["dub", "--video", "a", "--audio", "b", "--out", "c.mp4", "--check", "--retries", "-1"]) == 2
    assert "--retries is -1" in told(capsys)
