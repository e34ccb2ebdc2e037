"""The command line: bad input gives one sentence and status 2, good input a video; flags and options are one list."""

from __future__ import annotations

import importlib
import json
import shutil
import warnings
import wave
from dataclasses import fields
from pathlib import Path

import av
import cli_material as make
import numpy as np
import pytest
import torch

from latentsync.cli import COMMANDS, build_parser, main
from latentsync.cli import convert as convert_command
from latentsync.cli import dub as dub_command
from latentsync.cli.train import NETWORKS


class Command:
    """Runs `latentsync dub` in this process, in a folder whose new files are counted."""

    def __init__(self, folder: Path, material, capsys: pytest.CaptureFixture[str]):
        self.folder, self.material, self._capsys = folder, material, capsys
        self.video = Path(shutil.copy(material.video, folder / "talk.mp4"))
        self.audio = Path(shutil.copy(material.audio, folder / "new.wav"))
        self.out = folder / "out.mp4"

    def flags(self, **changes) -> list[str]:
        values = {
            "video": self.video,
            "audio": self.audio,
            "out": self.out,
            "checkpoint": self.material.checkpoint,
            "device": "cpu",
            **changes,
        }
        return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]

    def dub(self, *more: str, **changes) -> tuple[int, str]:
        status = main(["dub", *self.flags(**changes), "--quiet", *more])
        return status, self._capsys.readouterr().err

    def refused(self, *more: str, **changes) -> str:
        """The sentence of a dub that must not work, which must leave nothing behind."""
        before = sorted(self.folder.rglob("*"))
        status, told = self.dub(*more, **changes)
        assert status == 2, told
        lines = [line for line in told.splitlines() if line.startswith("latentsync: ")]
        assert len(lines) == 1 and "Traceback" not in told, told
        assert sorted(self.folder.rglob("*")) == before
        return lines[0]


@pytest.fixture
def command(tmp_path, dubbing_material, capsys) -> Command:
    return Command(tmp_path, dubbing_material, capsys)


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_every_option_of_a_job_has_its_flag_and_no_flag_goes_nowhere():
    from latentsync.pipelines.options import DubOptions

    parser = build_parser()._subparsers._group_actions[0].choices["dub"]
    flags = {action.dest for action in parser._actions} - {"help"}
    options = flags - {*dub_command.PATHS, *dub_command.LOADING, *dub_command.RUNNING}
    assert options == {field.name for field in fields(DubOptions)} - {"progress"}


def test_the_examples_of_help_parse():
    parser = build_parser()
    for examples in [module.EXAMPLES for module in COMMANDS.values()] + [n.examples for n in NETWORKS.values()]:
        whole = examples.replace("\\\n", " ").splitlines()
        lines = [line.strip() for line in whole if line.startswith("  latentsync ")]
        assert lines
        for line in lines:
            parser.parse_args(line.split()[1:])


def test_the_public_commands_flags_are_aliases():
    public = (
        "--video_path a.mp4 --audio_path b.wav --video_out_path c.mp4 --inference_ckpt_path d.pt "
        "--inference_steps 7 --guidance_scale 2.5 --seed 1247"
    )
    ours = "--video a.mp4 --audio b.wav --out c.mp4 --checkpoint d.pt --steps 7 --guidance-scale 2.5 --seed 1247"
    parser = build_parser()
    assert parser.parse_args(["dub", *public.split()]) == parser.parse_args(["dub", *ours.split()])
    assert dub_command.job_options(parser.parse_args(["dub", *ours.split()])) == {
        "num_inference_steps": 7,
        "guidance_scale": 2.5,
        "seed": 1247,
    }


def test_a_dub_keeps_frames_and_says_what_it_did(command, capsys):
    report = command.folder / "r.json"
    status, told = command.dub("--report", str(report))
    assert status == 0, told
    assert count_frames(command.out) == count_frames(command.video)
    rows = json.loads(report.read_text())["frames"]
    assert len(rows) == count_frames(command.video) and all(row["dubbed"] for row in rows)


def test_a_dry_run_writes_nothing(command):
    before = sorted(command.folder.iterdir())
    status, told = command.dub("--dry-run")
    assert status == 0, told
    assert sorted(command.folder.iterdir()) == before


def test_paths_of_any_script_with_spaces_and_quotes(command):
    folder = command.folder / 'it\'s a "test" 夜の видео'
    folder.mkdir()
    video = Path(shutil.copy(command.video, folder / "clip: one & two.mp4"))
    audio = Path(shutil.copy(command.audio, folder / "-голос $HOME.wav"))
    out = folder / "ergebnis ü%d.mkv"
    status, told = command.dub(video=video, audio=audio, out=out)
    assert status == 0, told
    assert sorted(path.name for path in folder.iterdir()) == sorted((video.name, audio.name, out.name))


# What is not a video, or not sound


def test_missing_video(command):
    assert "gone.mp4' does not exist" in command.refused(video=command.folder / "gone.mp4")


def test_missing_audio(command):
    assert "gone.wav' does not exist" in command.refused(audio=command.folder / "gone.wav")


def test_a_folder_instead_of_a_video(command):
    assert "is a folder" in command.refused(video=command.folder)


def test_an_empty_file(command):
    empty = command.folder / "empty.mp4"
    empty.touch()
    assert "empty.mp4' is empty" in command.refused(video=empty)


def test_a_text_instead_of_a_video(command):
    text = command.folder / "notes.mp4"
    text.write_text("this is no video\n" * 50)
    assert "notes.mp4" in command.refused(video=text)


def test_a_picture_instead_of_a_video(command):
    import cv2

    picture = command.folder / "face.png"
    cv2.imwrite(str(picture), np.full((64, 64, 3), 127, np.uint8))
    assert "face.png" in command.refused(video=picture)


def test_sound_instead_of_a_video(command):
    assert "new.wav" in command.refused(video=command.audio, audio=command.audio)


def test_sound_without_samples(command):
    silent = command.folder / "none.wav"
    with wave.open(str(silent), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "none"))
    assert "none.wav" in command.refused(audio=silent)


def test_a_video_without_sound_as_audio(command):
    mute = make.write_faceless_clip(command.folder / "mute.mp4")
    assert "mute.mp4" in command.refused(audio=mute)


def test_no_face_anywhere(command):
    nobody = make.write_faceless_clip(command.folder / "nobody.mp4")
    assert "nobody.mp4' has no face" in command.refused(video=nobody)


# Where the result goes


def test_missing_output_folder(command):
    assert "does not exist" in command.refused(out=command.folder / "gone" / "out.mp4")


def test_output_that_is_an_input(command):
    assert "same file" in command.refused(out=command.video)
    link = command.folder / "link.mp4"
    link.symlink_to(command.video)
    assert "same file" in command.refused(out=link)


def test_output_of_unknown_kind(command):
    assert ".mp4, .mov, .mkv or .webm" in command.refused(out=command.folder / "out.avi")


# Options


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--fit", "stretch", "Unknown fit 'stretch'"),
        ("--scheduler", "heun", "heun"),
        ("--steps", "0", "num_inference_steps is 0"),
        ("--steps", "many", "invalid int value: 'many'"),
        ("--amplitude", "3", "Amplitude is 3.0"),
        ("--face", "left", "face is 'left'"),
        ("--reference", "gone.jpg", "gone.jpg"),
        ("--quality", "best", "Unknown quality 'best'"),
        ("--device", "tpu", "no device 'tpu'"),
        ("--dtype", "fp8", "no precision 'fp8'"),
        ("--attention", "flash", "no attention 'flash'"),
        ("--identity-photo", "anna.jpg", "belong together"),
        ("--landmarks-model", "gone.task", "gone.task"),
        ("--gidance-scale", "2", "did you mean --guidance-scale"),
    ],
)
def test_impossible_options(command, flag, value, words):
    assert words in command.refused(flag, value)


def test_forgotten_files_are_named(capsys):
    assert main(["dub", "--video", "a.mp4"]) == 2
    assert "--audio and --out must be given" in capsys.readouterr().err


def test_a_stray_word_is_named(command):
    assert "nothing takes 'clip.mp4'" in command.refused("clip.mp4")


def test_debug_shows_the_traceback(command):
    _, told = command.dub("--debug", video=command.folder / "gone.mp4")
    assert "Traceback" in told and told.splitlines()[-1].startswith("latentsync: ")


def test_a_warning_is_a_line_without_code(monkeypatch, capsys):
    monkeypatch.setattr(convert_command, "run", lambda arguments: warnings.warn("used at 256 px", stacklevel=1) or 0)
    assert main(["convert", "a", "b"]) == 0
    assert capsys.readouterr().err == "latentsync: used at 256 px\n"


# Checkpoints


def test_a_published_file_becomes_a_folder_and_comes_back(parity_dir, tmp_path, capsys):
    source, folder, back = parity_dir / "unet_stage1.pt", tmp_path / "ours", tmp_path / "back.pt"
    assert main(["convert", str(source), str(folder)]) == 0 and main(["convert", str(folder), str(back)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{source} -> {folder}", f"{folder} -> {back}"]
    before, after = (torch.load(path, weights_only=True) for path in (source, back))
    assert before["state_dict"].keys() == after["state_dict"].keys()
    assert all(torch.equal(tensor, after["state_dict"][name]) for name, tensor in before["state_dict"].items())


def test_converting_what_is_no_checkpoint(tmp_path, capsys):
    (tmp_path / "notes.pt").write_text("notes")
    assert main(["convert", str(tmp_path / "notes.pt"), str(tmp_path / "ours")]) == 2
    assert "notes.pt" in capsys.readouterr().err and not (tmp_path / "ours").exists()


def test_a_missing_checkpoint(command):
    assert "nowhere.pt" in command.refused(checkpoint=command.folder / "nowhere.pt")


def test_a_file_that_is_no_checkpoint(command):
    wrong = command.folder / "weights.pt"
    wrong.write_bytes(b"these are not weights" * 100)
    assert "weights.pt" in command.refused(checkpoint=wrong)


def test_a_tampered_checkpoint(command):
    copy = command.folder / "copy"
    shutil.copytree(command.material.checkpoint, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "diffusion_pytorch_model.safetensors is not the file" in command.refused(checkpoint=copy)


def test_an_unknown_option_in_a_checkpoints_config(command):
    copy = command.folder / "copy"
    shutil.copytree(command.material.checkpoint, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "resolutoin": 64}))
    assert "'resolutoin'; did you mean resolution?" in command.refused(checkpoint=copy)


# Damaged files are dubbed as far as they go


def test_a_truncated_video_is_dubbed_and_says_where_it_ended(command):
    whole = make.write_talking_clip(command.folder / "whole.mkv")
    cut = command.folder / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    report = command.folder / "r.json"
    status, told = command.dub("--report", str(report), video=cut)
    assert status == 0, told
    events = json.loads(report.read_text())["events"]
    assert 0 < count_frames(command.out) < count_frames(whole)
    assert events and "cut.mkv" in " ".join(events)


# Batch files


def batch(command: Command, *lines: dict) -> Path:
    path = command.folder / "jobs.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def run_batch(command: Command, path: Path, capsys, *more: str) -> tuple[int, str]:
    flags = ["--checkpoint", str(command.material.checkpoint), "--device", "cpu", "--quiet"]
    status = main(["dub", "--batch", str(path), *flags, *more])
    return status, capsys.readouterr().err


def test_a_batch_goes_on_where_it_stopped(command, capsys):
    job = {"video": "talk.mp4", "audio": "new.wav"}
    path = batch(command, job | {"out": "a.mp4"}, {"video": "gone.mp4", "audio": "new.wav", "out": "b.mp4"})
    status, told = run_batch(command, path, capsys)
    assert status == 1 and "gone.mp4' does not exist" in told and "1 dubbed, 0 done before, 1 failed" in told
    shutil.copy(command.video, command.folder / "gone.mp4")
    status, told = run_batch(command, path, capsys)
    assert status == 0 and "1 dubbed, 1 done before, 0 failed" in told


def test_an_unknown_option_in_a_batch_is_named(command, capsys):
    path = batch(command, {"video": "talk.mp4", "audio": "new.wav", "out": "a.mp4", "sed": 1})
    status, told = run_batch(command, path, capsys)
    assert status == 2 and "line 1" in told and "'sed'; did you mean seed?" in told


def test_options_of_jobs_do_not_go_beside_a_batch(command, capsys):
    status, told = run_batch(command, batch(command, {}), capsys, "--seed", "3")
    assert status == 2 and "seed belongs into the lines" in told


def test_every_network_that_can_be_trained_is_there(capsys):
    """The module named for each is one that trains, with the configuration named: seen by what each says is missing."""
    for name, network in NETWORKS.items():
        assert main(["train", name, "run.stepz=1" if name != "embedded" else "stepz=1"]) == 2
        assert f"unknown option '{'run.stepz' if name != 'embedded' else 'stepz'}'" in capsys.readouterr().err
        module = importlib.import_module(f"latentsync.training.{network.module}")
        assert hasattr(module, "EmbeddedRecipe" if name == "embedded" else "build")
