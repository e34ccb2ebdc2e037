"""Batch files: read strictly, resumed where they stopped, one failure does not end the rest."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from latentsync.pipelines.batch import read_jobs, run_batch
from latentsync.types import InputError


class CopyingPipeline:
    """In place of `DubbingPipeline`: copies the video; remembers what it was asked for."""

    def __init__(self, digest: str = "d") -> None:
        self.components = SimpleNamespace(digest=digest)
        self.dubbed: list[tuple[str, dict]] = []

    def dub(self, video, audio, out, **options) -> None:
        self.dubbed.append((Path(out).name, options))
        if "broken" in Path(video).name:
            raise InputError(f"'{video}' is not a video")
        Path(out).write_bytes(Path(video).read_bytes())


def job_line(name: str, video: str = "v.mp4", **options) -> str:
    return json.dumps({"video": video, "audio": "a.wav", "out": f"{name}.mp4", **options})


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("v.mp4", "broken.mp4", "a.wav"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def write_jobs(folder: Path, *lines: str) -> Path:
    path = folder / "jobs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_failed_job_is_told_and_the_rest_go_on(folder) -> None:
    told: list[str] = []
    jobs = write_jobs(folder, job_line("one", seed=4), "", job_line("two", video="broken.mp4"), job_line("three"))
    pipeline = CopyingPipeline()
    result = run_batch(pipeline, jobs, tell=told.append)
    assert result.done == [1, 4] and list(result.failed) == [3] and result.exit_code == 1
    assert "broken.mp4' is not a video" in result.failed[3] and "line 3" in told[1]
    assert pipeline.dubbed[0] == ("one.mp4", {"progress": True, "seed": 4})
    assert (folder / "three.mp4").exists() and not (folder / "two.mp4").exists()


def test_a_defect_is_named_with_its_kind_and_its_traceback_is_kept(folder, caplog) -> None:
    class Defective(CopyingPipeline):
        def dub(self, video, audio, out, **options) -> None:
            if "one" in Path(out).name:
                raise KeyError("mouth")
            super().dub(video, audio, out, **options)

    jobs = write_jobs(folder, job_line("one"), job_line("two", video="broken.mp4"), job_line("three"))
    result = run_batch(Defective(), jobs, tell=lambda line: None)
    assert result.failed[1] == "KeyError: 'mouth'" and result.done == [3]
    (record,) = caplog.records
    assert record.exc_info is not None and isinstance(record.exc_info[1], KeyError)


def test_a_second_run_does_only_what_is_left(folder) -> None:
    jobs = write_jobs(folder, job_line("one"), job_line("two"), job_line("three"))
    run_batch(CopyingPipeline(), jobs, tell=lambda line: None)
    (folder / "two.mp4").unlink()
    write_jobs(folder, job_line("one"), job_line("two"), job_line("three", seed=9))
    again = CopyingPipeline()
    result = run_batch(again, jobs, tell=lambda line: None)
    assert result.skipped == [1] and result.done == [2, 3] and result.exit_code == 0
    assert [name for name, _ in again.dubbed] == ["two.mp4", "three.mp4"]


@pytest.mark.parametrize("change", ["input", "output", "checkpoint"])
def test_what_changed_is_done_again(folder, change: str) -> None:
    jobs = write_jobs(folder, job_line("one"))
    run_batch(CopyingPipeline(), jobs, tell=lambda line: None)
    if change != "checkpoint":
        (folder / ("v.mp4" if change == "input" else "one.mp4")).write_bytes(b"something else")
    again = CopyingPipeline("other" if change == "checkpoint" else "d")
    assert run_batch(again, jobs, tell=lambda line: None).done == [1]


def test_a_list_cut_off_by_a_crash_still_counts(folder) -> None:
    jobs = write_jobs(folder, job_line("one"), job_line("two"))
    run_batch(CopyingPipeline(), jobs, tell=lambda line: None)
    done = folder / "jobs.jsonl.done"
    text = done.read_text(encoding="utf-8").rstrip()
    done.write_text(text[:-20], encoding="utf-8")
    for expected in ([2], []):
        assert run_batch(CopyingPipeline(), jobs, tell=lambda line: None).done == expected


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"video": "v.mp4"', "line 2: not a JSON object"),
        ("[1]", "line 2: not a JSON object"),
        ('{"video": "v.mp4", "audio": "a.wav"}', "line 2: 'out' is missing"),
        (job_line("x", sed=1), "line 2: unknown option 'sed'; did you mean seed"),
        (job_line("x", amplitude=9), "line 2: Amplitude is 9"),
        (job_line("x", progress=True), "line 2: unknown option 'progress'"),
        (job_line("first"), "line 2: line 1 writes"),
    ],
)
def test_a_line_that_is_no_job_is_named(folder, line: str, sentence: str) -> None:
    with pytest.raises(InputError) as failure:
        read_jobs(write_jobs(folder, job_line("first"), line))
    assert sentence in str(failure.value)


def test_paths_start_at_the_files_own_folder(folder, monkeypatch) -> None:
    monkeypatch.chdir("/")
    jobs = write_jobs(folder, job_line("ö x", report="r.json", reference="face.png"), job_line("z", reference="same"))
    first, second = read_jobs(jobs)
    assert first.video == folder / "v.mp4" and first.out == folder / "ö x.mp4"
    assert first.options == {"report": folder / "r.json", "reference": folder / "face.png"}
    assert second.options == {"reference": "same"}


def test_missing_and_empty_files(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_jobs(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="has no jobs"):
        read_jobs(tmp_path / "empty.jsonl")
