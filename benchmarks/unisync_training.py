"""What `unisync.py` trains and measures: the clips, the cells of its grid, one training and one measurement of each."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import common
import numpy as np
from articulation import UNSEEN, UNSYNCED
from claims_training import GRID_EVERY, at_model_rate, capped, speaker_of, spread_out
from omegaconf import DictConfig
from stable_syncnet import drawn, prepared, shrunk

from latentsync.config import load_config
from latentsync.data.cached import FeatureCache
from latentsync.data.crops import ClipCrops, load_folder
from latentsync.data.manifest import AUDIO, VISUAL
from latentsync.data.representations import LandmarkBasis, Representation, RepresentationCache, representation
from latentsync.data.unisync import UniSyncVectors
from latentsync.evaluation.sync.critic import PICTURE_SAMPLES, Talk
from latentsync.evaluation.sync.protocols import binary_accuracy, offset_accuracy
from latentsync.evaluation.sync.talks import prepared_talk
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.hub import load_audio_encoder, load_unisync
from latentsync.models.unisync import FRAMES, UniSync
from latentsync.training.loop.recipe import train
from latentsync.training.loop.records import clips_hash
from latentsync.training.loop.runner import EXPORT
from latentsync.training.sync.unisync import make_task

CONFIG = "unisync_small"
VISUALS, AUDIOS = ("rgb", "3dmm", "landmarks", "parsing"), ("features", "mel")  # in the paper's order
NEW_PEOPLE = range(2000, 2016)  # drawn for these tests alone; the common set has 0 to 99
HELD_OUT_EVERY, HELD_OUT_FIRST = 3, 2  # of the recorded speakers, in order of their names
DRAWN, RECORDED, KNOWN = "drawn", "recorded", "known"  # the last: GRID's s1, who is in training, in other sentences
FEW, FEW_HELD_OUT = 10, 2  # clips of a run that is only timed
VALIDATIONS = 5  # of each run
RESOLUTION = 112  # px of prepared crops


@dataclass(frozen=True)
class Cell:
    """One training of the grid, but for its seed."""

    visual: str
    audio: str
    form: str = "printed"
    margins: tuple[float, float] = (0.1, 0.3)  # same speaker, another speaker
    share: float = 0.2  # of the negatives, of another speaker
    encoder: str | None = None  # of the features; None: the sweep's

    @property
    def title(self) -> str:
        """For tables."""
        return f"{self.audio}{f' ({self.encoder})' if self.encoder else ''}, {self.visual}"


PAIRS = {f"{audio}_{visual}": Cell(visual, audio) for audio in AUDIOS for visual in VISUALS}
BASE = "mel_rgb"  # which margins and shares are varied on: of what the paper has too, its best
MARGINS = {
    "margins_0_0": replace(PAIRS[BASE], margins=(0.0, 0.0)),
    "margins_3_7": replace(PAIRS[BASE], margins=(0.3, 0.7)),
    "strict_1_3": replace(PAIRS[BASE], form="strict"),
}
SHARES = {"share_0": replace(PAIRS[BASE], share=0.0), "share_5": replace(PAIRS[BASE], share=0.5)}
EMBEDDED = "embedded"
OTHERS = {"embedded_rgb": replace(PAIRS["features_rgb"], encoder=EMBEDDED)}  # features that were trained to tell mouths
CELLS = {**PAIRS, **MARGINS, **SHARES, **OTHERS}


@dataclass(frozen=True)
class Material:
    """Clips by use, no speaker in two of them: drawn and recorded ones to train on, and of each kind some held out."""

    crops: Path  # folder of prepared clips, drawn and recorded
    work: Path  # where the people drawn for the tests are

    @cached_property
    def training(self) -> list[ClipCrops]:
        """Drawn people 0 to 99, every third sentence of GRID s1, and the recorded speakers that are not held out."""
        people, held, clips, sentences = recorded_speakers(), set(held_out_speakers()), [], 0
        for clip in filter(at_model_rate, load_folder(self.crops, leave_out=frozenset([*UNSEEN, *common.held_out()]))):
            sentence = "_" not in clip.name
            sentences += sentence
            speaker = people.get(clip.name, speaker_of(clip.name))
            if speaker not in held and (not sentence or sentences % GRID_EVERY == 0):
                clips.append(replace(capped(clip), speaker=speaker))
        return clips

    @cached_property
    def held_out(self) -> dict[str, list[ClipCrops]]:
        """New drawn people, and recorded speakers of other collections than GRID: kind -> clips."""
        new = prepared(drawn(NEW_PEOPLE, self.work / "new_people"), self.work / "new_people", RESOLUTION)
        people, held = recorded_speakers(), set(held_out_speakers())
        real = [clip for clip in load_folder(self.crops) if people.get(clip.name) in held and at_model_rate(clip)]
        return {
            DRAWN: [replace(clip, speaker=speaker_of(clip.name)) for clip in new],
            RECORDED: [replace(capped(clip), speaker=people[clip.name]) for clip in real],
        }

    @cached_property
    def measured(self) -> dict[str, list[ClipCrops]]:
        """What the tables are of: the held-out speakers, and held-out sentences of one who is in training."""
        kept = set(common.held_out())
        sentences = [clip for clip in load_folder(self.crops) if clip.name in kept and at_model_rate(clip)]
        return {**self.held_out, KNOWN: [replace(clip, speaker=speaker_of(clip.name)) for clip in sentences]}

    @cached_property
    def _small(self) -> dict[str, ClipCrops]:
        return {}

    def small(self, clip: ClipCrops, size: int) -> ClipCrops:
        """The clip with crops of `size` px in memory, made once."""
        if clip.name not in self._small:
            self._small[clip.name] = shrunk(clip, size)
        return self._small[clip.name]


def recorded_speakers() -> dict[str, str]:
    """Clip -> speaker, of the real clips whose mouth may belong to their sound."""
    with (common.clips_dir() / "INDEX.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {Path(row["file"]).stem: row["speaker"] for row in rows if row["sync check"] != "suspect"}


def held_out_speakers() -> list[str]:
    """Recorded speakers that no UniSync is trained on: those that nothing was trained on, and every third other one.

    None of GRID's: its speakers' names are not known, so that two clips may be of one.
    """
    people = {name: speaker for name, speaker in recorded_speakers().items() if not name.startswith("grid_")}
    unseen = {people[name] for name in UNSEEN if name in people and name not in UNSYNCED}
    others = sorted(set(people.values()) - unseen)
    return sorted([*unseen, *others[HELD_OUT_FIRST::HELD_OUT_EVERY]])


def run_name(cell: str, seed: int) -> str:
    """Of a training."""
    return f"{cell}-{seed}"


@dataclass(frozen=True)
class Trainer:
    """Trains by name in `folder` what is not there yet; a killed training goes on where it was saved last."""

    folder: Path
    material: Material
    encoder: str  # of the features
    landmarker: str | None  # of 3dmm
    parser: str | None  # of parsing
    few: bool = False  # a few clips only, to see how long an update takes

    def config(self, cell: str, seed: int, steps: int) -> DictConfig:
        """Of a training of `steps` updates."""
        made, every = CELLS[cell], max(1, steps // VALIDATIONS)
        encoder = made.encoder or self.encoder
        features = [f"audio.encoder={encoder}"] if made.audio == "features" else []
        features += ["audio.level=all"] if features and encoder == EMBEDDED else []
        extras = [f"visual.{name}={value}" for name, value in self._extras(made.visual).items()]
        return load_config(
            CONFIG,
            [
                f"run_folder={self.folder / run_name(cell, seed)}",
                f"data.cache_folder={self.cache}",
                f"visual.kind={made.visual}",
                *extras,
                f"audio.kind={made.audio}",
                *features,
                f"loss={{form: {made.form}, same_speaker: {made.margins[0]}, cross_speaker: {made.margins[1]}}}",
                f"pairs.cross_speaker={made.share}",
                "pairs.changed_looks=0.0",  # it would help one representation alone
                f"run.seed={seed}",
                f"run.steps={steps}",
                f"run.warmup={max(1, steps // 20)}",
                f"run.save_every={max(1, steps // 10)}",
                f"run.validate_every={steps if self.few else every}",
                "run.log_every=1",
            ],
        )

    def _extras(self, visual: str) -> dict[str, str]:
        known = {"3dmm": {"landmarker": self.landmarker}, "parsing": {"parser": self.parser}}.get(visual, {})
        return {name: value for name, value in known.items() if value}

    @property
    def cache(self) -> Path:
        """Of representations and features."""
        return self.material.work / "cache"

    def train(self, cell: str, seed: int, steps: int) -> Path:
        """Returns the folder of the finished network."""
        export = self.folder / run_name(cell, seed) / EXPORT
        if not export.exists():
            train(self.config(cell, seed, steps), self._task)
        return export

    def _task(self, config: DictConfig) -> tuple[Any, str]:
        training = self.material.training
        if self.few:
            training = spread_out(training, FEW + FEW_HELD_OUT)
            training, held_out = training[FEW_HELD_OUT:], training[:FEW_HELD_OUT]
        else:
            held_out = [clip for group in self.material.held_out.values() for clip in group]
        if config.visual.kind == "rgb":
            size = config.visual.size
            training, held_out = ([self.material.small(clip, size) for clip in some] for some in (training, held_out))
        return make_task(config, training, held_out), clips_hash([*training, *held_out])

    def encodes(self, cell: Cell) -> FeatureCache | None:
        """What makes the features that a cell listens to; None for mel."""
        if cell.audio == "mel":
            return None
        return FeatureCache(load_audio_encoder(cell.encoder or self.encoder), self.cache / AUDIO.name)

    def measure(self, cell: str, export: Path, kinds: Iterable[str]) -> Iterator[tuple[str, dict[str, float]]]:
        """(kind of clips, figures) of a finished network."""
        critic = RunCritic(load_unisync(export), self, self.encodes(CELLS[cell]))
        for kind in kinds:
            yield kind, figures(critic, self.material.measured[kind])

    def represents(self, network: UniSync) -> RepresentationCache | None:
        """What makes the representation that a network looks at; None for rgb."""
        seen, size = network.visual.kind, network.visual.size
        made_by: Representation | None
        if network.basis is not None:
            made_by = LandmarkBasis(network.basis.numpy())
        else:
            made_by = representation(seen, size, self.parser, self.landmarker, ())
        return None if made_by is None else RepresentationCache(made_by, self.cache / VISUAL.name)


class RunCritic(VectorCritic):
    """A trained UniSync as the protocols' critic of clips that were prepared."""

    name, frames = "UniSync", FRAMES

    def __init__(self, network: UniSync, trainer: Trainer, encode: FeatureCache | None = None) -> None:
        super().__init__()
        self._vectors, self._represent = UniSyncVectors(network, encode), trainer.represents(network)
        self._material, self.clips = trainer.material, dict[str, ClipCrops]()

    def talk(self, clip: ClipCrops) -> Talk:
        """A prepared clip as the protocols take it, with silence where its sound ends early; its pictures are known by
        its name."""
        self.clips[clip.name] = clip
        talk = prepared_talk(clip)
        return talk.with_sound(talk.waveform)

    def seen(self, talk: Talk) -> np.ndarray:
        """See VectorCritic."""
        clip = self.clips[talk.name]
        if self._represent is None:
            small = self._material.small(clip, self._vectors.network.visual.size)
            return self._vectors.seen(np.asarray(small.crops))
        return self._vectors.seen(self._represent(clip))

    def heard(self, talk: Talk) -> np.ndarray:
        """See VectorCritic."""
        return self._vectors.heard(talk.waveform, len(talk) - self.frames + 1)


def figures(critic: RunCritic, clips: Sequence[ClipCrops]) -> dict[str, float]:
    """Both protocols: `offset_5` to `offset_15`, and `binary`, `auc`, `auc_shifted`, `auc_swapped`."""
    talks = [critic.talk(clip) for clip in clips if clip.usable.all()]
    found = binary_accuracy(critic, talks)
    accuracies = offset_accuracy([critic.scores(talk) for talk in talks], critic.frames)
    assert found.accuracy is not None and all(len(talk.waveform) == PICTURE_SAMPLES * len(talk) for talk in talks)
    measured = {
        **{f"offset_{context}": accuracy for context, accuracy in accuracies.items()},
        "binary": found.accuracy,
        "auc": found.auc,
        "auc_shifted": found.auc_shifted,
        "auc_swapped": found.auc_swapped,
        "clips": float(len(talks)),
    }
    return {name: value for name, value in measured.items() if math.isfinite(value)}  # one speaker has no other's sound
