"""Whose mouth a dub shows, and how sharp: the checkpoint beside four baselines, on clips it was not trained on.

r_target: how far the dub's lip gap follows that of the speech's own video, beyond what the dubbed video's explains.
r_leak: how far it still follows the dubbed video's, beyond what the speech's own explains. Means over pairs with the
bootstrap interval (95 %) and the standard deviation. Runs again where it stopped; a dub is made once a checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from baselines import GapRegressor
from dubs import Dubber, add_dub_options, dub_options, speech_of

from latentsync.evaluation.articulation import Spread, r_target_and_leak, spread
from latentsync.evaluation.families.articulation import loudness
from latentsync.evaluation.mouths import mouth_track
from latentsync.evaluation.quality import compare

EXAMPLE = "python benchmarks/articulation.py --checkpoint embedded --pairs 6 --steps 4"
UNSEEN = (
    *("latentsync_demo1", "videoretalking_face1", "av2av_src_11", "syncnet_example", "joygen_example_15s"),
    *("grid_lrwp9a", "pcavs_vox2_audio_681100216", "real3dportrait_May_5s"),
)
UNSYNCED = ("latentsync_demo1", "joygen_example_15s")  # mouths that may not belong to their audio: no speech from them
UNSEEN_SECONDS = 5.0
FIGURES = ("r_target", "r_leak", "sharpness_share", "psnr_mouth", "psnr_outside", "own_r")
HEADER = ("mouth", "pairs", "r_target", "r_leak", "sharpness of the source's", "mouth PSNR dB", "outside PSNR dB")


@dataclass(frozen=True)
class Pair:
    """A video to dub and the clip whose speech it gets; both their first `seconds`."""

    video: str
    speech: str
    seconds: float | None

    @property
    def own(self) -> bool:
        """Whether the video gets its own speech again, so that its own mouth is the right one."""
        return self.video == self.speech

    @property
    def name(self) -> str:
        """For file names."""
        return f"{self.video}--{self.speech}"


def grid_pairs(count: int) -> list[Pair]:
    """Held-out GRID sentences, each with the speech of the one half the list away; a longer list holds the shorter."""
    stems = common.held_out()
    order = np.random.default_rng(0).permutation(len(stems))[:count]
    return [Pair(stems[i], stems[(i + len(stems) // 2) % len(stems)], None) for i in order]


def unseen_pairs(count: int) -> list[Pair]:
    """Speakers that were not trained on, each with the speech of the next one whose mouth and audio are in step."""
    pairs = []
    for index, video in enumerate(UNSEEN[:count]):
        others = [name for name in UNSEEN[index + 1 :] + UNSEEN[:index] if name not in UNSYNCED]
        pairs.append(Pair(video, others[0], UNSEEN_SECONDS))
    return pairs


def with_own_speech(pairs: list[Pair]) -> list[Pair]:
    """The same videos with their own speech again."""
    return [Pair(pair.video, pair.video, pair.seconds) for pair in pairs]


def correlations(pair: Pair, gaps: np.ndarray, times: np.ndarray) -> dict[str, float]:
    """r_target and r_leak of `gaps` at `times`; with its own speech the plain correlation with its own mouth."""
    video = common.mouths_of(common.clip(pair.video), pair.seconds)
    speech = common.mouths_of(common.clip(pair.speech), pair.seconds)
    original, wanted = video.gaps_at(times), speech.gaps_at(times)
    if pair.own:
        known = np.isfinite(gaps) & np.isfinite(original)
        return {"own_r": float(np.corrcoef(gaps[known], original[known])[0, 1])}
    target, leak = r_target_and_leak(gaps, wanted, original)
    return {"r_target": target, "r_leak": leak}


def dub_pair(pair: Pair, dubber: Dubber, **more: Any) -> Path:
    """The file of a pair's dub, made if it is missing; `more`: options beside the dubber's own."""
    speech = common.clip(pair.speech)
    audio = speech if pair.seconds is None else speech_of(speech, pair.seconds)
    return dubber(common.clip(pair.video), audio, pair.name, **more)


def measure_dub(pair: Pair, dubber: Dubber) -> dict[str, float]:
    """Dub a pair and measure the file."""
    video, dubbed = common.clip(pair.video), dub_pair(pair, dubber)
    made = mouth_track(dubbed)
    pictures = compare(video, dubbed, common.mouths_of(video, pair.seconds))
    return {
        **correlations(pair, made.gaps, made.times),
        "sharpness_share": pictures.sharpness_share,
        "psnr_outside": pictures.psnr_outside,
        **({"psnr_mouth": pictures.psnr_mouth} if pair.own else {}),
        "frames_without_face": int(np.isnan(made.gaps).sum()),
    }


def measure_mouth(pair: Pair, mouth: Callable[[Pair, np.ndarray], np.ndarray]) -> dict[str, float]:
    """What a baseline scores that is a lip gap without a picture."""
    video = common.mouths_of(common.clip(pair.video), pair.seconds)
    return correlations(pair, mouth(pair, video.times), video.times)


def speech_wave(pair: Pair) -> np.ndarray:
    """(samples,) the speech of a pair."""
    return common.waveform_of(common.clip(pair.speech), pair.seconds)


def train_regressor() -> GapRegressor:
    """The regressor of mel to gap, trained on the speaker's clips that are not held out."""
    kept = set(common.held_out())
    names = [name for name in common.grid_stems() if name not in kept]
    print(f"training the regressor on {len(names)} clips (the first time their mouths are measured: minutes)")
    tracks = {name: common.mouths_of(common.clip(name)) for name in names}
    return GapRegressor([(common.waveform_of(common.clip(name)), t.times, t.gaps) for name, t in tracks.items()])


def baselines() -> dict[str, Callable[[Pair, np.ndarray], np.ndarray]]:
    """The four mouths that a dub is placed between."""
    regressor = train_regressor()

    def gaps_of(name: str, pair: Pair, times: np.ndarray) -> np.ndarray:
        return common.mouths_of(common.clip(name), pair.seconds).gaps_at(times)

    return {
        "nothing done": lambda pair, times: gaps_of(pair.video, pair, times),
        "perfect": lambda pair, times: gaps_of(pair.speech, pair, times),
        "loudness alone": lambda pair, times: loudness(speech_wave(pair), times),
        "regressor from mel": lambda pair, times: regressor(speech_wave(pair), times),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Spread]:
    """Spread of every figure over the pairs that have it."""
    return {name: spread([row[name] for row in rows if name in row]) for name in FIGURES}


def cell(found: Spread, digits: int = 2) -> str:
    """Mean, interval and deviation in a few characters."""
    if found.count == 0:
        return ""
    low, high = (f"{value:.{digits}f}" for value in (found.low, found.high))
    return f"{found.mean:.{digits}f} [{low}, {high}] ± {found.std:.{digits}f}"


def line(label: str, rows: list[dict[str, Any]]) -> list[str]:
    """One table row."""
    found = summary(rows)
    figures = [cell(found[name]) for name in ("r_target", "r_leak", "sharpness_share")]
    return [label, str(len(rows)), *figures, cell(found["psnr_mouth"], 1), cell(found["psnr_outside"], 1)]


class Run:
    """All measurements of one call of this script."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.dubber = Dubber(arguments.checkpoint, **dub_options(arguments))
        self.store = common.Measurements(common.WORK / "articulation" / f"{self.dubber.key()}.jsonl")
        self.mouths = {} if arguments.no_baselines else baselines()

    def dubs(self, pairs: list[Pair]) -> list[dict[str, Any]]:
        """Measurements of the checkpoint's dubs, made where they are missing."""
        rows = []
        for index, pair in enumerate(pairs):
            job = [pair.video, pair.speech]
            row = self.store.get(job) or self.store.add(job, measure_dub(pair, self.dubber))
            rows.append(row)
            figures = {name: round(row[name], 2) for name in FIGURES if name in row}
            print(f"{index + 1}/{len(pairs)} {pair.name} {figures}", flush=True)
        return rows

    def section(self, title: str, pairs: list[Pair], own: list[Pair]) -> tuple[str, dict[str, Any]]:
        """A table of one group of clips, and its figures; nothing for an empty group."""
        if not pairs:
            return "", {}
        rows = {name: [measure_mouth(pair, mouth) for pair in pairs] for name, mouth in self.mouths.items()}
        rows["this checkpoint"] = self.dubs(pairs)
        rows["this checkpoint, own speech"] = made = self.dubs(own)
        text = f"## {title}\n\n" + common.table(HEADER, [line(name, found) for name, found in rows.items()])
        text += f"\nOwn speech: plain correlation of the lip gaps {cell(summary(made)['own_r'])}.\n\n"
        return text, {name: {k: asdict(v) for k, v in summary(found).items()} for name, found in rows.items()}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    add_dub_options(parser)
    parser.add_argument("--pairs", type=int, default=24, help="held-out GRID pairs, at most 38 (default: 24)")
    parser.add_argument("--own", type=int, default=6, help="of these also with their own speech (default: 6)")
    parser.add_argument("--unseen", type=int, default=len(UNSEEN), help=f"other speakers (default: {len(UNSEEN)})")
    parser.add_argument("--no-baselines", action="store_true", help="leave the four baselines out")
    parser.add_argument("--name", default="articulation", help="of the result files (default: articulation)")
    return parser.parse_args()


def main() -> None:
    """Dub, measure and write `results/NAME.md`."""
    arguments = parse()
    run = Run(arguments)
    pairs, others = grid_pairs(arguments.pairs), unseen_pairs(arguments.unseen)
    own = with_own_speech(pairs)[: arguments.own]
    sections = {
        "grid": run.section("Held-out sentences of a speaker trained on (GRID s1)", pairs, own),
        "unseen": run.section("Speakers not trained on", others, with_own_speech(others)),
    }
    head = (
        f"# Articulation\n\n{describe(run.dubber)}\n\n{common.machine()}\n\nMean [95 % interval] ± standard deviation "
        "over pairs. Sharpness: variance of the luma's Laplacian in the mouth box.\n\n"
    )
    text = head + "".join(found for found, _ in sections.values())
    values = {name: figures for name, (_, figures) in sections.items()}
    common.write_results(arguments.name, text, {**values, "dubs": list(run.store.done.values())})


def describe(dubber: Dubber) -> str:
    """The checkpoint and the options of a run, in a line."""
    name = Path(dubber.checkpoint).name
    return f"Checkpoint `{name}` ({dubber.digest[:12]}), options {dubber.options or 'as the checkpoint says'}"


if __name__ == "__main__":
    main()
