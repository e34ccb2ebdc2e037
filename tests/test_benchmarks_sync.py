"""The benchmark of sync critics: which clips, shifts that are known, answers that are kept, tables that say both."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from evaluation_talks import GapAndLevel, talk

from latentsync.types import InputError

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_known_shifts_are_found_kept_and_told(monkeypatch, tmp_path) -> None:
    import common
    import sync

    clips = {f"{seed}.mp4": f"speaker {seed}" for seed in range(3)}
    spoken = {name: talk(seed, 80, clips[name]) for seed, name in enumerate(clips)}
    read: list[str] = []

    def read_talks(path: Path):
        read.append(path.name)
        if path.name == "2.mp4":
            raise InputError("no face was found in any picture")
        return [talk(9, 20), spoken[path.name]]

    monkeypatch.setattr(sync, "read_talks", read_talks)
    monkeypatch.setattr(common, "clips_dir", lambda: tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    found = []
    for _ in range(2):  # the second time from what was kept
        critic = GapAndLevel()
        judge, store = sync.Judge(critic, "weights.model", b"digest"), common.Measurements(tmp_path / "kept.jsonl")
        talks = sync.Talks(clips)
        found.append((judge, sync.measure(judge, talks, store), sync.binary(judge, talks, store)))
    assert read == ["0.mp4", "1.mp4", "2.mp4", "2.mp4"] and critic.looked == 0
    assert found[0][1:] == found[1][1:]
    for late, rows in found[0][1].items():
        assert [row["offset"] for row in rows] == [late, late] and min(rows[0]["accuracy"]) > 0.75
    sync.report("tried", 2, found[:1])
    text = (tmp_path / "results" / "tried.md").read_text()
    assert "| gap and level (weights.model, 646967) | nothing | 100.0 (5) |" in text and "chance is 9.7 %" in text
    assert (tmp_path / "results" / "tried.png").stat().st_size > 5000


def test_clips_out_of_step_are_left_out(clips_dir: Path) -> None:
    import sync

    every = sync.listed([], 1000)
    assert len(every) > 20 and "latentsync_demo1.mp4" not in every and all(every.values())
    assert list(sync.listed([], 3)) == sorted(every)[:3]
    with pytest.raises(InputError, match=r"latentsync_demo1\.mp4 is not among the clips"):
        sync.listed(["latentsync_demo1.mp4"], 3)


def test_without_weights_there_is_nothing_to_measure() -> None:
    import sync

    with pytest.raises(InputError, match="no critic: give weights with --syncnet"):
        sync.judges(Namespace(syncnet=[], stable_syncnet=[], unisync=[]))
