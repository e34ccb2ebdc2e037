"""What `claims.py` measures of a checkpoint's dubs: sync by a critic that nothing was trained with, mouths, flicker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import articulation
import common
import counterfactual
import counterfactual_set
import numpy as np
from dubs import Dubber
from stable_syncnet import shrunk

from latentsync.data.crops import ClipCrops
from latentsync.data.pairs import sync_clip
from latentsync.data.preparation.continuous import prepare_clip
from latentsync.evaluation.quality import WHITE
from latentsync.hub import load_stable_syncnet
from latentsync.models.stable_syncnet import StableSyncNet
from latentsync.training.sync.validation import ValidationRecipe, offset_curves
from latentsync.types import InputError

REACH, APART = 10, 5  # frames that sound is moved by at most, and from which it counts as another moment's
WHOLE = 1000  # windows of a clip: all of them
REAL_SECONDS = 3.0  # of each dub of a real clip
DRAWN, REAL = "drawn", "real"
NOTHING, RIGHT = "nothing done", "the right answer"
FIGURES = {  # name: (title, digits, whether more is better)
    "sync": ("sync: cosine of the unused critic", 3, True),
    "sync_margin": (f"its rise over {APART} to {REACH} frames away", 3, True),
    "r_target": ("r_target", 2, True),
    "r_leak": ("r_leak", 2, False),
    "flicker": ("flicker, grey levels", 2, False),
    "psnr_mouth": ("mouth PSNR dB", 1, True),
    "sharpness_share": ("sharpness", 2, True),
}
Row = dict[str, float]


class Judge:
    """A StableSyncNet of pixels as a measure."""

    def __init__(self, network: StableSyncNet) -> None:
        self.network = network.eval()

    def __call__(self, clip: ClipCrops) -> Row:
        """`sync`: mean cosine of picture and sound; `sync_margin`: less that at APART frames and more.

        Empty for a clip that has no windows for it: of another frame rate, or too short.
        """
        size = self.network.input.size
        try:
            cut = sync_clip(shrunk(clip, size), self.network.input.frames, APART)
        except InputError:
            return {}
        curves = offset_curves(self.network, [cut], self.network.input, ValidationRecipe(1, 1, REACH, WHOLE))
        return margins(curves[0]) if curves else {}


def margins(curve: np.ndarray) -> Row:
    """curve: (windows, 2 * REACH + 1) cosines by the frames that sound is later."""
    far = np.abs(np.arange(-REACH, REACH + 1)) >= APART
    sync = float(curve[:, REACH].mean())
    return {"sync": sync, "sync_margin": sync - float(curve[:, far].mean())}


@dataclass(frozen=True)
class Tests:
    """People that nothing was trained on: drawn ones with their right answers, and recorded ones."""

    folder: Path  # of the drawn set and of crops
    judge: Judge
    drawn: int
    real: int
    resolution: int

    @cached_property
    def triples(self) -> list[counterfactual.Known]:
        """Of the counterfactual set."""
        made = counterfactual_set.make(self.folder / "set", self.drawn) if self.drawn else []
        return [counterfactual.Known(path) for path in made]

    @property
    def pairs(self) -> list[articulation.Pair]:
        """Recorded people with another's speech."""
        return [replace(pair, seconds=REAL_SECONDS) for pair in articulation.unseen_pairs(self.real)]

    def jobs(self) -> Iterator[tuple[str, str]]:
        """(DRAWN or REAL, name) of every dub."""
        yield from ((DRAWN, known.folder.name) for known in self.triples)
        yield from ((REAL, pair.name) for pair in self.pairs)

    def measure(self, dubber: Dubber, group: str, name: str) -> Row:
        """Dub and measure one."""
        if group == DRAWN:
            known = next(known for known in self.triples if known.folder.name == name)
            dubbed = dubber(known.folder / "source.mp4", known.folder / "speech.wav", f"drawn-{name}")
            return self.drawn_row(known, dubbed, self._crops(dubbed, dubber.key()))
        pair = next(pair for pair in self.pairs if pair.name == name)
        row = articulation.measure_dub(pair, dubber)
        return row | self.judge(self._crops(articulation.dub_pair(pair, dubber), dubber.key()))

    def ends(self, known: counterfactual.Known) -> dict[str, Row]:
        """The two ends of the scale on a drawn person."""
        source, truth = (self._crops(known.folder / f"{name}.mp4", known.folder.name) for name in ("source", "truth"))
        unmoved = replace(source, waveform=truth.waveform)
        return {
            NOTHING: self.drawn_row(known, known.folder / "source.mp4", unmoved),
            RIGHT: self.drawn_row(known, known.folder / "truth.mp4", truth),
        }

    def drawn_row(self, known: counterfactual.Known, dubbed: Path, crops: ClipCrops) -> Row:
        """Figures of a video that is to show the right answer of `known`."""
        found = counterfactual.score_clip(known, dubbed)
        error = found["mouth_error"]
        return {
            **self.judge(crops),
            **{name: found[name] for name in ("r_target", "r_leak", "flicker", "sharpness_share")},
            **({"psnr_mouth": 20 * float(np.log10(WHITE / error))} if error > 0 else {}),
        }

    def _crops(self, video: Path, key: str) -> ClipCrops:
        """Prepared as the training clips are; key: tells files of one name apart."""
        return prepare_clip(video, self.folder / "crops" / key, self.resolution)


def load_judge(folder: Path) -> Judge:
    """The critic in a checkpoint folder."""
    return Judge(load_stable_syncnet(folder))


def measurements(tests: Tests, store: common.Measurements, checkpoints: Mapping[str, str | Path]) -> None:
    """Dub and measure with every checkpoint, by label, what is not in `store` yet."""
    for label, checkpoint in checkpoints.items():
        missing = [job for job in tests.jobs() if store.get([label, *job]) is None]
        dubber = Dubber(str(checkpoint)) if missing else None
        for group, name in missing:
            assert dubber is not None
            row = store.add([label, group, name], tests.measure(dubber, group, name))
            shown = {key: round(row[key], 3) for key in FIGURES if key in row}
            print(f"{label} {group} {name} {shown}", flush=True)
