"""The counterfactual set: drawn people, each with a clip, other speech, and the true clip of saying it.

Version 1 is a function of the numbers below; `splits/counterfactual_v1.json` holds what they must give on any machine.
People and sentences are those of seeds that nothing is trained on (training starts at 1000, the example is 26).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np

from latentsync.data.synthetic import EMOTIONS, Camera, Counterfactual, Identity, Speech, Voice, counterfactual
from latentsync.types import InputError

VERSION = 1
TRIPLES = 24
SIZE = 512  # px, width and height
SECONDS = 4.0
FIRST_SEED = 500  # of people, motions and sentences
MOTIONS = (0.6, 1.0, 1.4)  # times the usual
BLURS = (0.0, 0.0, 0.8)  # px
KNOWN = common.BENCHMARKS / "splits" / f"counterfactual_v{VERSION}.json"
CARD = common.BENCHMARKS / "counterfactual_card.md"
CELLS = 8  # a side, of the grid that a stored picture is averaged over
SMALL = 64  # px, where only the speech of a triple is wanted
SAMPLES = 2
SHOWN_FRAME = 60  # of the stored pictures: a moment in which the mouths differ


@dataclass(frozen=True)
class Plan:
    """One triple before it is drawn."""

    name: str
    identity_seed: int
    motion_seed: int
    speech_seeds: tuple[int, int]  # of what is said in the source and of what is to be said
    voice_seeds: tuple[int, int]
    emotion: str
    motion: float
    blur: float


def plan(index: int) -> Plan:
    """Triple `index`. Every second one is to speak with another person's voice, as in dubbing into another language."""
    seed = FIRST_SEED + index
    return Plan(
        name=f"{index:04}",
        identity_seed=seed,
        motion_seed=seed,
        speech_seeds=(FIRST_SEED + 2 * index, FIRST_SEED + 2 * index + 1),
        voice_seeds=(seed, seed + FIRST_SEED // 2 if index % 2 else seed),
        emotion=list(EMOTIONS)[index % len(EMOTIONS)],
        motion=MOTIONS[index % len(MOTIONS)],
        blur=BLURS[index // len(MOTIONS) % len(BLURS)],
    )


def build(wanted: Plan, size: int = SIZE) -> Counterfactual:
    """The triple, ready to be drawn."""
    first, second = wanted.voice_seeds
    return counterfactual(
        wanted.identity_seed,
        seconds=SECONDS,
        size=size,
        speech_seeds=wanted.speech_seeds,
        motion_seed=wanted.motion_seed,
        voices=(Voice.random(first), Voice.random(second)),
        emotion=wanted.emotion,
        motion=wanted.motion,
        camera=Camera(blur=wanted.blur),
    )


def digest(wanted: Plan, spoken: Speech, said: Speech) -> str:
    """Hash of all that is drawn from seeds: the plan, the person, the mood, both voices, every sound with its time.

    These come from few exact operations on the generator's integers, so every machine has the same; they are rounded
    to a millionth before they are hashed. Samples and pixels go through exp, convolutions and OpenCV, whose last bits
    depend on the processor: they are compared with a tolerance instead (`picture`).
    """
    person = [asdict(Identity.random(wanted.identity_seed)), asdict(EMOTIONS[wanted.emotion])]
    speeches = [[speech.text, asdict(speech.voice), [asdict(p) for p in speech.phonemes]] for speech in (spoken, said)]
    facts = _rounded([VERSION, SIZE, SECONDS, asdict(wanted), person, speeches])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    """`value` with every number that is not whole as a count of millionths."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return round(value * 1e6) if isinstance(value, float) else value


def picture(image: np.ndarray) -> np.ndarray:
    """(CELLS, CELLS, 3) mean grey levels of parts of (h, w, 3) uint8, sides multiples of CELLS; grain averages out."""
    height, width = image.shape[:2]
    cells = image.reshape(CELLS, height // CELLS, CELLS, width // CELLS, 3)
    return cells.mean(axis=(1, 3), dtype=np.float64)


def sample(index: int) -> dict[str, Any]:
    """What is stored of one triple beside its digest: SHOWN_FRAME of source and answer, and the lips' true tracks."""
    made = build(plan(index))
    shown = {"source": made.spoken, "truth": made.wanted}
    images = {name: made.speaker.frame(said, made.motion_seed, SHOWN_FRAME) for name, said in shown.items()}
    pictures = {name: picture(image).round(2).tolist() for name, image in images.items()}
    truth = made.truth()
    return {
        "pictures": pictures,
        "opening": truth.opening.round(4).tolist(),
        "lip_gap": truth.lip_gap.round(5).tolist(),
    }


def facts() -> dict[str, Any]:
    """What KNOWN holds, drawn again: the digest of every triple and samples of the first SAMPLES."""
    drawn = [(plan(index), build(plan(index), size=SMALL)) for index in range(TRIPLES)]
    digests = [digest(wanted, made.spoken, made.wanted) for wanted, made in drawn]
    return {"version": VERSION, "digests": digests, "samples": [sample(index) for index in range(SAMPLES)]}


def known() -> dict[str, Any]:
    """What this version must give: `digests` of all triples, and `samples`."""
    return json.loads(KNOWN.read_text(encoding="utf-8"))


def make(folder: Path, triples: int = TRIPLES) -> list[Path]:
    """Write the first `triples` into `folder`, each in a folder of its name; one that is complete is left alone.

    InputError where this machine draws from the seeds what others do not, or for more triples than the version has.
    """
    digests = known()["digests"]
    if not 1 <= triples <= len(digests):
        raise InputError(
            f"version {VERSION} has {len(digests)} triples, {triples} were asked for: give 1 to all of them"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(CARD.read_text(encoding="utf-8"), encoding="utf-8")
    made = []
    for index in range(triples):
        made.append(folder / plan(index).name)
        if not (made[-1] / "truth.json").exists():
            _draw(index, made[-1], digests[index])
    with common.made_whole(folder / "set.json") as partial:
        partial.write_text(json.dumps({"version": VERSION, "digests": digests[:triples]}) + "\n", encoding="utf-8")
    return made


def _draw(index: int, folder: Path, wanted: str) -> None:
    triple = build(plan(index))
    found = digest(plan(index), triple.spoken, triple.wanted)
    if found != wanted:
        raise InputError(
            f"triple {index} of version {VERSION} has the digest {found} here and {wanted} elsewhere: numpy or the "
            "generator have changed; use the versions of constraints.txt"
        )
    triple.write(folder)


def triples_of(folder: Path) -> list[Path]:
    """The triples of a folder that `make` wrote. InputError: not such a folder, or of another version."""
    facts = folder / "set.json"
    if not facts.is_file():
        raise InputError(f"{folder} holds no complete set: run `python benchmarks/counterfactual.py make {folder}`")
    version = json.loads(facts.read_text(encoding="utf-8"))["version"]
    if version != VERSION:
        raise InputError(f"{folder} holds version {version} of the set and this is version {VERSION}: make it again")
    return sorted(path.parent for path in folder.glob("*/truth.json"))


if __name__ == "__main__":  # a new version: change the numbers above, VERSION first
    KNOWN.write_text(json.dumps(facts()) + "\n", encoding="utf-8")
