"""All of a preparation: every source through its stages in parallel, then the split, the manifest and the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from latentsync.config import save_config
from latentsync.data.manifest import FILE_NAME, Manifest, ManifestEntry, write_manifest
from latentsync.data.preparation.chain import Job, check_tools, prepare, speaker_rule
from latentsync.data.preparation.extract import extract
from latentsync.data.preparation.outcome import DEFECT, FinishedClip, Outcome, failed_to_open, put_together
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
    extracted: tuple[str, ...] = ()  # a line for each representation, for people


def prepare_data(config: DictConfig, *, progress: bool = True) -> Preparation:
    """Prepare the videos of a merged configuration (`configs/prepare.yaml`); what an earlier run has done is kept.

    Writes manifest.jsonl, report.json, report.png and config.yaml into its folder. InputError where an option makes no
    sense, where nothing is found, where a table of speakers has one row for two videos, and where no clip is left (the
    report is written all the same).
    """
    settings = read_settings(config)
    found = find_sources(settings.videos)
    store = StageStore(settings.folder, fingerprints(settings))
    check_tools(settings, found)
    save_config(config, settings.folder / "config.yaml")
    outcome = _gather(Job(settings, store), found, progress)
    speaker_rule(settings.speakers).check(_names(found, outcome.clips))
    entries = [_entry(clip, settings) for clip in outcome.clips]
    report = make_report(settings, outcome, entries)
    write_report(report, settings, outcome, entries)
    if not entries:
        raise InputError(f"no clip is left of {len(found)} file(s): {report.summary_of_drops()}; see {report.path}")
    options: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    manifest = write_manifest(settings.folder / FILE_NAME, entries, options)
    extracted = extract(manifest, settings.visual, settings.workers) if settings.visual.kinds else ()
    return Preparation(manifest, report, tuple(extracted))


def _gather(job: Job, found: list[VideoFile | Shard], progress: bool) -> Outcome:
    """What became of all sources, in their order, so that the result is the same with any number of workers."""
    pool = Pool(partial(prepare, job), job.settings.workers)
    parts: dict[Path, list[Outcome]] = {}
    with tqdm(total=len(found), unit="file", desc="preparing", disable=not progress) as bar:
        for task, outcomes in pool.answers(found):
            parts[task.path] = _died(task) if outcomes is None else outcomes
            bar.update()
    return put_together(outcome for source in found for outcome in parts[source.path])


def _names(found: Iterable[VideoFile | Shard], clips: Iterable[FinishedClip]) -> dict[str, str]:
    """The name below its folder or inside its shard of every video that gave a clip."""
    files = {str(video.path): video.name for video in found if isinstance(video, VideoFile)}
    sources = {clip.place.source for clip in clips}
    return {source: files.get(source, source.rpartition("::")[2]) for source in sorted(sources)}


def _died(task: VideoFile | Shard) -> list[Outcome]:
    told = f"'{task.path}': the process that read it died"
    return [replace(failed_to_open(str(task.path), DEFECT, told), defects=[told])]


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
