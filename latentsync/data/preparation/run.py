"""All of a preparation: every source through its stages in parallel, then the split, the manifest and the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from latentsync.config import save_config
from latentsync.data.manifest import FILE_NAME, Manifest, ManifestEntry, write_manifest
from latentsync.data.preparation.chain import Job, check_tools, prepare
from latentsync.data.preparation.outcome import Drop, FinishedClip, Outcome, Place
from latentsync.data.preparation.report import Report, make_report, write_report
from latentsync.data.preparation.settings import Settings, fingerprints, read_settings
from latentsync.data.preparation.sources import Shard, VideoFile, find_sources
from latentsync.data.preparation.speakers import draw_split
from latentsync.data.preparation.store import StageStore
from latentsync.data.preparation.workers import Pool
from latentsync.types import MODEL_FPS, InputError


@dataclass(frozen=True)
class Preparation:
    """What a run of the preparation leaves."""

    manifest: Manifest
    report: Report


def prepare_data(config: DictConfig, *, progress: bool = True) -> Preparation:
    """Prepare the videos of a merged configuration (`configs/prepare.yaml`); what an earlier run has done is kept.

    Writes manifest.jsonl, report.json, report.png and config.yaml into its folder. InputError where an option makes no
    sense, where nothing is found, and where no clip is left (the report is written all the same).
    """
    settings = read_settings(config)
    found = find_sources(settings.videos)
    store = StageStore(settings.folder, fingerprints(settings))
    check_tools(settings)
    save_config(config, settings.folder / "config.yaml")
    outcome = _gather(Job(settings, store), found, progress)
    clips = without_repeats(outcome)
    entries = [_entry(clip, settings) for clip in clips]
    report = make_report(settings, outcome, entries)
    write_report(report, settings, outcome, entries)
    if not entries:
        raise InputError(f"no clip is left of {len(found)} file(s): {report.summary_of_drops()}; see {report.path}")
    options: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return Preparation(write_manifest(settings.folder / FILE_NAME, entries, options), report)


def _gather(job: Job, found: list[VideoFile | Shard], progress: bool) -> Outcome:
    """What became of all sources, put together in their order, so that the result is that of any number of workers."""
    pool = Pool(partial(prepare, job), job.settings.workers)
    parts: dict[Path, Outcome] = {}
    with tqdm(total=len(found), unit="file", desc="preparing", disable=not progress) as bar:
        for task, outcome in pool.answers(found):
            parts[task.path] = outcome or _died(task)
            bar.update()
            bar.set_postfix(clips=sum(len(part.clips) for part in parts.values()))
    whole = Outcome()
    for source in found:
        part = parts[source.path]
        whole.clips += part.clips
        whole.drops += part.drops
        whole.defects += part.defects
        whole.entered += part.entered
        whole.seconds += part.seconds
    return whole


def _died(task: VideoFile | Shard) -> Outcome:
    told = f"'{task.path}': the process that read it died"
    drop = Drop(Place(str(task.path), ""), "open", "a defect of the program", told)
    return Outcome(drops=[drop], entered=Counter(open=1), defects=[told])


def without_repeats(outcome: Outcome) -> list[FinishedClip]:
    """The clips, those of the first source of each content; the others become drops of `outcome`."""
    first: dict[str, str] = {}
    kept: list[FinishedClip] = []
    repeats: dict[str, Drop] = {}
    for clip in outcome.clips:
        place = clip.place
        original = first.setdefault(place.sha256, place.source)
        if original == place.source:
            kept.append(clip)
        else:
            again = Place(place.source, place.sha256)
            repeats[place.source] = Drop(again, "open", "the same content as another file", original)
    outcome.drops += repeats.values()
    return kept


def _entry(clip: FinishedClip, settings: Settings) -> ManifestEntry:
    assert clip.place.end is not None
    return ManifestEntry(
        source=clip.place.source,
        source_sha256=clip.place.sha256,
        start=clip.place.start,
        end=clip.place.end,
        fps=MODEL_FPS,
        frames=clip.frames,
        speaker=clip.speaker,
        av_offset=clip.measured["offset"],
        confidence=round(clip.measured["confidence"], 4),
        quality=clip.measured["quality"],
        split=clip.split or draw_split(clip.speaker, settings.validation, settings.seed),
        clip=clip.clip,
        mel=clip.mel,
        audio_features=clip.audio_features,
    )
