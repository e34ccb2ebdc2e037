"""Preparation: bad videos fall where they should, a killed run goes on, content decides and not names."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import data_clips as make
import numpy as np
import pytest
import torch

from latentsync.audio.mel import syncnet_mel
from latentsync.cli import main
from latentsync.config import load_config
from latentsync.data.cached import FeatureCache
from latentsync.data.manifest import read_manifest
from latentsync.data.preparation import chain, continuous, report
from latentsync.data.preparation.outcome import DEFECT
from latentsync.data.preparation.probe import NO_SOUND
from latentsync.data.preparation.quality import quality
from latentsync.data.preparation.run import Preparation, prepare_data
from latentsync.data.preparation.store import UNREADABLE
from latentsync.data.preparation.sync import SyncScore
from latentsync.data.representations import RepresentationCache, TrackedLandmarks
from latentsync.data.synthetic import write_clip
from latentsync.hub import load_audio_encoder
from latentsync.training.unet.data import cache_folder
from latentsync.types import InputError

RESOLUTION = 64
QUICK = [f"resolution={RESOLUTION}", "workers=1", "segments.shortest=1.3", "split.validation=0.5", "split.seed=1"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people in files of the same name, and everything that can be wrong."""
    folder = tmp_path_factory.mktemp("videos")
    talk = make.write_speaker(folder / "anna" / "talk.mp4", seed=1)
    make.write_speaker(folder / "bert" / "talk.mp4", seed=2)
    make.write_speaker(folder / "bert" / "mute.mp4", seed=2, sound=False)
    make.write_faceless(folder / "bert" / "wall.mp4", seed=2)
    make.write_speaker(folder / "bert" / "brief.mp4", seed=1, fps=50)
    (folder / "bert" / "cut_off.mp4").write_bytes(talk.read_bytes()[: talk.stat().st_size // 2])
    shutil.copy(talk, folder / "bert" / "again.mp4")
    return folder


def prepared(videos: Path, folder: Path, *overrides: str) -> Preparation:
    config = load_config("prepare", [f"videos=['{videos}']", f"folder='{folder}'", *QUICK, *overrides])
    return prepare_data(config, progress=False)


@pytest.fixture(scope="module")
def done(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Preparation:
    return prepared(videos, tmp_path_factory.mktemp("prepared") / "all")


@pytest.fixture(autouse=True)
def drawn_once(done: Preparation, monkeypatch) -> None:
    """Drawing takes longer than all else that a repeated run does; `done` has its picture."""
    monkeypatch.setattr(report, "draw_report", lambda file, *_: file.touch())


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Stages of `chain` that must not be computed any more."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this was done before")

    for name in names:
        monkeypatch.setattr(chain, name, refuse)


def test_each_fault_falls_at_its_stage_and_is_counted(done: Preparation) -> None:
    dropped = {count.stage: count.dropped for count in done.report.stages}
    assert dropped == {
        "open": {"the same content as another file": 1},
        "probe": {"cannot be read": 1, "no sound": 1},
        "resample": {},
        "cuts": {},
        "segments": {"shorter than 1.3 s": 1},
        "track": {"no face": 1},
        "sync": {},
        "quality": {},
        "features": {},
    }
    entered = {count.stage: count.entered for count in done.report.stages}
    assert (entered["open"], entered["probe"], entered["resample"], entered["track"]) == (7, 6, 4, 3)
    assert not done.report.defects


def test_two_files_of_one_name_stay_two_people(done: Preparation, videos: Path) -> None:
    manifest = read_manifest(done.manifest.path)
    assert [(entry.speaker, entry.source) for entry in manifest.entries] == [
        (name, str(videos / name / "talk.mp4")) for name in ("anna", "bert")
    ]
    anna, bert = (manifest.clip(entry) for entry in manifest.entries)
    assert anna.crops.shape == bert.crops.shape == (40, RESOLUTION, RESOLUTION, 3)
    assert np.abs(anna.crops[0].astype(int) - bert.crops[0]).mean() > 5
    for clip, seed in ((anna, 1), (bert, 2)):
        spoken = make.spoken(seed)[1].waveform
        assert clip.waveform.shape == (40 * 640,) and clip.usable.all()
        assert np.corrcoef(clip.waveform, spoken[: len(clip.waveform)])[0, 1] > 0.9


def test_the_mel_is_that_of_the_clips_own_sound_and_named_by_it(done: Preparation) -> None:
    for entry in done.manifest.entries:
        clip = done.manifest.clip(entry)
        assert clip.sync_sound.mel is not None
        np.testing.assert_array_equal(np.load(clip.sync_sound.mel), syncnet_mel(clip.waveform).numpy())
        assert "talk" not in entry.mel + entry.clip


def test_the_report_is_on_disk_with_its_picture(done: Preparation) -> None:
    import cv2

    content = json.loads(done.report.path.read_text())
    assert len(content["dropped"]) == 5 and content["clips"] == done.report.clips
    picture = cv2.imread(str(done.report.path.with_suffix(".png")))
    assert picture is not None and picture.std() > 10


def test_a_second_run_does_nothing_again(done: Preparation, videos: Path, monkeypatch) -> None:
    forbid(monkeypatch, "probe", "resample", "cuts", "track_segment", "measure", "quality", "finish_clip")
    before = done.manifest.path.read_bytes()
    assert prepared(videos, done.manifest.path.parent).manifest.path.read_bytes() == before


def test_a_run_killed_between_stages_goes_on_there(done: Preparation, videos: Path, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(chain, "quality", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared(videos / "anna", tmp_path)
    assert not (tmp_path / "manifest.jsonl").exists()
    forbid(monkeypatch, "probe", "resample", "cuts", "track_segment", "measure")
    (resumed,) = prepared(videos / "anna", tmp_path).manifest.entries
    assert resumed.clip == done.manifest.entries[0].clip


def test_another_threshold_repeats_nothing_and_another_size_only_what_hangs_on_it(
    done: Preparation, videos: Path, tmp_path, monkeypatch
) -> None:
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    forbid(monkeypatch, "probe", "resample", "cuts")
    with monkeypatch.context() as patched:
        forbid(patched, "track_segment", "measure", "quality")
        with pytest.raises(InputError, match=r"1 quality too small\): make quality\.smallest smaller, or give sharper"):
            prepared(videos / "anna", folder, "quality.smallest=0.99")
        with pytest.raises(InputError, match=r"no clip is left of 7 file\(s\): most fell at stage probe"):
            prepared(videos, folder, "quality.smallest=0.99")
    report = json.loads((folder / "report.json").read_text())
    assert [count["dropped"] for count in report["stages"] if count["stage"] == "quality"] == [{"quality too small": 2}]
    smaller = prepared(videos / "anna", folder, "resolution=48").manifest
    assert smaller.clip(smaller.entries[0]).crops.shape == (40, 48, 48, 3)


def test_a_file_that_was_lost_is_made_again(done: Preparation, videos: Path, tmp_path, monkeypatch) -> None:
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    entry = done.manifest.entries[0]
    (folder / entry.mel).unlink()
    forbid(monkeypatch, "track_segment", "measure", "quality")
    again = prepared(videos, folder).manifest
    lost, kept = (manifest.clip(entry).sync_sound.columns(0, 40) for manifest in (again, done.manifest))
    assert torch.equal(lost, kept)


def test_a_shard_gives_the_clips_of_the_folder(done: Preparation, videos: Path, tmp_path, monkeypatch) -> None:
    """Read as a stream; the same bytes under other names are the same content, so nothing is computed."""
    samples = {f"x/00{n}": ((videos / name / "talk.mp4").read_bytes(), {"speaker": f"id {name}"})
               for n, name in enumerate(("anna", "bert"))}  # fmt: skip
    shard = make.write_shard(tmp_path / "part.tar", samples)
    forbid(monkeypatch, "probe", "resample", "cuts", "track_segment", "measure", "quality", "finish_clip")
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    entries = prepared(shard, folder).manifest.entries
    assert [entry.clip for entry in entries] == [entry.clip for entry in done.manifest.entries]
    assert [entry.speaker for entry in entries] == ["id anna", "id bert"]
    assert entries[0].source == f"{shard}::x/000.mp4"


def test_a_shard_that_is_cut_off_keeps_what_came_before(done: Preparation, videos: Path, tmp_path) -> None:
    samples = {name: ((videos / name / "talk.mp4").read_bytes(), {}) for name in ("anna", "bert")}
    shard = make.write_shard(tmp_path / "part.tar", samples)
    shard.write_bytes(shard.read_bytes()[: -shard.stat().st_size // 4])
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    result = prepared(shard, folder)
    assert [entry.speaker for entry in result.manifest.entries] == ["part"]
    content = json.loads(result.report.path.read_text())["dropped"]
    assert len(content) == 1 and "in or behind 'bert.mp4'" in content[0]["detail"]
    assert any("one speaker ('part')" in notice for notice in result.report.notices)


def test_features_of_an_encoder_are_kept_where_trainings_read_them(
    done: Preparation, videos: Path, tmp_path, monkeypatch
) -> None:
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    forbid(monkeypatch, "track_segment", "measure", "quality")
    manifest = prepared(videos, folder, "features.audio_encoder=embedded").manifest
    clip, entry = manifest.clip(manifest.entries[0]), manifest.entries[0]
    encoder = load_audio_encoder("embedded")
    expected = encoder.encode(clip.waveform).numpy()
    place = cache_folder(load_config("unet/default", [f"data.manifest={manifest.path}"])) / "audio"
    assert entry.audio_features is not None and (folder / entry.audio_features).parent == place
    monkeypatch.setattr(encoder, "encode", lambda _: pytest.fail("this was computed before"))
    kept = FeatureCache(encoder, place)(clip.waveform).numpy()
    np.testing.assert_allclose(kept, expected, atol=2e-2, rtol=2e-3)


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"cannot be written .*: make it a folder that .* or set data\.cache_folder"):
        FeatureCache(load_audio_encoder("embedded"), tmp_path / "file" / "audio")(np.zeros(16000, np.float32))


def test_a_clip_is_tried_again_once_the_cache_can_be_written(done: Preparation, videos: Path, tmp_path) -> None:
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    encoded = "features.audio_encoder=embedded"
    (folder / "features" / "audio").write_text("not a folder")
    with pytest.raises(InputError, match=r"the cache '.*audio' cannot be written"):
        prepared(videos / "anna", folder, encoded)
    (folder / "features" / "audio").unlink()
    assert len(prepared(videos / "anna", folder, encoded).manifest.entries) == 1


def test_a_full_disk_is_no_fault_of_the_video(videos: Path, tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(chain, "resample", full)
        with pytest.raises(OSError, match="No space left"):
            prepared(videos / "anna", tmp_path)
    assert not [path for path in (tmp_path / "stages").rglob("*.json") if "resample" in str(path)]


def test_an_error_of_the_program_is_told_and_tried_again(
    done: Preparation, videos: Path, tmp_path, monkeypatch
) -> None:
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    shutil.rmtree(next((folder / "stages").glob("quality-*")))
    with monkeypatch.context() as patched:
        patched.setattr(chain, "quality", lambda crops: {}["oops"])
        with pytest.raises(InputError, match="a defect of the program"):
            prepared(videos / "anna", folder)
    assert "KeyError" in json.loads((folder / "report.json").read_text())["defects"][0]
    assert len(prepared(videos / "anna", folder).manifest.entries) == 1


def test_an_error_of_the_program_in_one_segment_leaves_the_others(videos: Path, tmp_path, monkeypatch) -> None:
    frames, sounds = zip(*((frames, speech.waveform) for frames, speech in map(make.spoken, (1, 2))), strict=True)
    write_clip(tmp_path / "two.mp4", [*frames[0], *frames[1]], waveform=np.concatenate(sounds))
    judged = []

    def fails_once(crops: np.ndarray) -> dict:
        judged.append(len(crops))
        return quality(crops) if len(judged) > 1 else {}["oops"]

    monkeypatch.setattr(chain, "quality", fails_once)
    result = prepared(tmp_path / "two.mp4", tmp_path / "out")
    assert judged == [40, 40] and [entry.start for entry in result.manifest.entries] == [1.6]
    [defect] = result.report.defects
    assert "at stage quality, 0.00 to 1.60 s: KeyError" in defect


def test_what_has_changed_in_a_file_counts_in_the_same_process(
    done: Preparation, videos: Path, tmp_path, monkeypatch
) -> None:
    class Written:
        """A critic whose answer is what its file said when it was loaded."""

        def __init__(self, name: str) -> None:
            self.offset = float(Path(name).read_text())

        def score(self, *_: object) -> SyncScore:
            return SyncScore(self.offset, 0.5)

    monkeypatch.setattr(chain, "choose_critic", Written)
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    critic, table = tmp_path / "critic.pt", tmp_path / "people.tsv"
    for offset, speaker in ((2.0, "anna"), (-3.0, "carla")):
        critic.write_text(str(offset))
        table.write_text(f"file\tspeaker\ntalk.mp4\t{speaker}\n")
        [entry] = prepared(videos / "anna", folder, f"sync.critic='{critic}'", f"speakers='{table}'").manifest.entries
        assert (entry.av_offset, entry.speaker) == (offset, speaker)


def test_a_row_that_may_be_of_two_videos_is_no_answer(done: Preparation, videos: Path, tmp_path) -> None:
    """Told of files before any work, and of what shards hold when they have been read."""
    table = tmp_path / "people.tsv"
    table.write_text("file\tspeaker\ntalk.mp4\tanna\n")
    with pytest.raises(InputError, match=r"lists 'talk\.mp4', which may be '.*anna/talk\.mp4' or '.*bert/talk\.mp4'"):
        prepared(videos, tmp_path / "out", f"speakers='{table}'")
    assert not (tmp_path / "out").exists()
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    samples = {f"{name}/talk": ((videos / name / "talk.mp4").read_bytes(), {}) for name in ("anna", "bert")}
    shard = make.write_shard(tmp_path / "part.tar", samples)
    with pytest.raises(InputError, match=r"'.*part\.tar::anna/talk\.mp4' or '.*part\.tar::bert/talk\.mp4'"):
        prepared(shard, folder, f"speakers='{table}'")
    table.write_text("file\tspeaker\nanna/talk.mp4\ta\nbert/talk.mp4\tb\n")
    assert [entry.speaker for entry in prepared(shard, folder, f"speakers='{table}'").manifest.entries] == ["a", "b"]


def test_speakers_that_are_all_in_one_split_are_noted(done: Preparation, videos: Path, tmp_path) -> None:
    assert not any("validation" in notice for notice in done.report.notices)
    folder = shutil.copytree(done.manifest.path.parent, tmp_path / "copy")
    for share, told in (("0.9999", "2 speakers are held out .*: lower"), ("0.0001", "none of 2 speakers .*: raise")):
        noted = prepared(videos, folder, f"split.validation={share}").report.notices
        assert any(re.search(told, notice) for notice in noted)


def test_every_reason_has_a_remedy() -> None:
    code = "".join(path.read_text() for path in Path(chain.__file__).parent.glob("*.py"))
    reasons = re.findall(r'Dropped\(f?"([^"]+)"', code)
    assert {"no face", "quality too small"} < set(reasons)
    for reason in (*reasons, UNREADABLE, NO_SOUND, DEFECT):
        assert report.remedy(reason)


def test_two_processes_give_the_same_clips_as_one(done: Preparation, videos: Path, tmp_path) -> None:
    """The answers of several come as they are ready; the processes inherit nothing and have to load all themselves."""
    some = [str(videos / name) for name in ("anna/talk.mp4", "bert/mute.mp4", "bert/talk.mp4")]
    several = prepared(videos, tmp_path / "out", "workers=2", f"videos={some}")
    assert several.manifest.entries == done.manifest.entries
    for entry in done.manifest.entries:
        ours, theirs = (found.manifest.clip(entry) for found in (done, several))
        np.testing.assert_array_equal(ours.crops, theirs.crops)
        np.testing.assert_array_equal(ours.waveform, theirs.waveform)
    drops = json.loads(several.report.path.read_text())["dropped"]
    assert [(drop["place"]["source"], drop["reason"]) for drop in drops] == [(some[1], NO_SOUND)]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["segments.shortest=1.0"], "two windows of 16 frames at 25 frames a second need at least 1.28 s"),
        (["segments.longest=1.0"], "less than segments.shortest"),
        (["split.validation=1.0"], "from 0 to below 1"),
        (["speakers=people.txt"], "neither folder nor file nor a .tsv or .csv table"),
        (["sync.critic=none.pt"], "there is no none.pt"),
    ],
)
def test_senseless_options_are_told_before_any_work(videos: Path, tmp_path, overrides: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        prepared(videos, tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists()


def test_the_command_plans_without_writing_and_names_an_empty_folder(videos: Path, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    settings = ["--quiet", "--set", *QUICK]
    assert main(["prepare", str(videos), "--out", str(out), "--dry-run", *settings]) == 0
    told = capsys.readouterr().out
    assert "7 video file(s)" in told and "would be dropped" in told and not out.exists()
    (tmp_path / "nothing").mkdir()
    assert main(["prepare", str(tmp_path / "nothing"), "--out", str(out), *settings]) == 2
    assert "holds no video" in capsys.readouterr().err and not out.exists()


def test_a_whole_video_becomes_one_clip_as_a_segment_does(videos, tmp_path, monkeypatch) -> None:
    """Without the manifest's stages, the same pictures on the same clock; made once."""
    source = videos / "anna" / "talk.mp4"
    clip = continuous.prepare_clip(source, tmp_path / "crops", RESOLUTION)
    [segment] = prepared(source, tmp_path / "data", "split.validation=0").manifest.clips("train")
    assert np.array_equal(clip.crops, segment.crops) and np.array_equal(clip.landmarks, segment.landmarks)
    assert np.array_equal(clip.times, segment.times) and clip.name == "talk"
    brief = continuous.prepare_clip(videos / "bert" / "brief.mp4", tmp_path / "crops", RESOLUTION)
    np.testing.assert_allclose(np.diff(brief.times), 1 / 25)  # shot at 50 frames a second
    monkeypatch.setattr(continuous, "on_the_clock", None)
    assert np.array_equal(continuous.prepare_clip(source, tmp_path / "crops", RESOLUTION).crops, clip.crops)


def test_a_video_that_gives_no_clip_is_named(videos, tmp_path) -> None:
    for name, told in {"wall": "wall.mp4: no face", "mute": "mute.mp4", "cut_off": "cut_off.mp4"}.items():
        with pytest.raises(InputError, match=told):
            continuous.prepare_clip(videos / "bert" / f"{name}.mp4", tmp_path, RESOLUTION)
    assert not list(tmp_path.iterdir())


def test_representations_are_extracted_to_where_training_looks(
    done: Preparation, videos: Path, tmp_path, monkeypatch
) -> None:
    folder = tmp_path / "all"
    shutil.copytree(done.manifest.path.parent, folder)
    wanted = ["features.visual=[landmarks,parsing]", "features.visual_size=32"]
    extracted = prepared(videos, folder, *wanted).extracted
    entries = len(done.manifest.entries)
    assert [line.split(",")[0] for line in extracted] == [
        f"{kind}: {entries} of {entries} clips" for kind in ("landmarks", "parsing")
    ]
    sources = json.loads((folder / "features" / "visual" / "sources.json").read_text())
    assert sources["landmarks"].startswith("face tracker") and "not independent" in sources["parsing"]
    for name in ("TrackedLandmarks", "DrawnRegions"):
        monkeypatch.setattr(f"latentsync.data.representations.{name}.make", None)
    assert prepared(videos, folder, *wanted).extracted == extracted  # nothing is made again
    manifest = read_manifest(folder)
    cache = RepresentationCache(TrackedLandmarks(), folder / "features" / "visual")
    clip = manifest.clip(manifest.entries[0])
    assert cache(clip).shape == (len(clip), 956)
    with pytest.raises(InputError, match=r"features\.visual has 'depth': choose among"):
        prepared(videos, folder, "features.visual=[depth]")
    with pytest.raises(InputError, match=r"none\.task does not exist"):
        prepared(videos, folder, "features.visual=[3dmm]", "features.landmarker=none.task")
