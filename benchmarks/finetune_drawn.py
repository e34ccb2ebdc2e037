"""Two minutes of one drawn person whom the checkpoint never saw: what a LoRA and what all weights make of them.

Every kind of fine-tuning learns from the same forty takes for the same number of updates; the same person then says
other sentences, for which the right answer is known, before and after. Needs no clips. Runs again where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import common
from articulation import cell, describe
from counterfactual import FIGURES, Known, score_clip
from dubs import Dubber

from latentsync.config import load_config
from latentsync.data.synthetic import SyntheticSpeaker, Voice, counterfactual, synthesize_speech, write_clip
from latentsync.evaluation.articulation import spread

EXAMPLE = "python benchmarks/finetune_drawn.py --only lora --triples 2 --steps 20"
PERSON = 700  # seed of the person and of their voice; no training and no other test has it
TAKES, FIRST_TAKE, FIRST_TRIPLE = 40, 7000, 7500  # of 3 s: two minutes; seeds of what is said
SECONDS, SIDE = 3.0, 256  # of a take and of a triple
SHOWN = ("r_target", "r_leak", "lip_distance", "gap_error", "mouth_error", "flicker", "sharpness_share")


@dataclass(frozen=True)
class Kind:
    """One way to fine-tune."""

    title: str
    full: bool = False
    rate: float | None = None  # None: the configuration's

    def changes(self, steps: int) -> list[str]:
        """Of its configuration."""
        given = [] if self.rate is None else [f"training.run.learning_rate={self.rate}"]
        return [f"training.run.steps={steps}", *given]


KINDS = {
    "lora": Kind("LoRA"),
    "lora_fast": Kind("LoRA, ten times its learning rate", rate=0.005),
    "full": Kind("all weights", full=True),
    "full_fast": Kind("all weights, five times their learning rate", full=True, rate=0.0005),
}


def takes(folder: Path) -> list[Path]:
    """What is learned from, drawn where it is not there."""
    speaker, paths = SyntheticSpeaker(PERSON, SIDE), []
    for seed in range(FIRST_TAKE, FIRST_TAKE + TAKES):
        path = folder / f"take_{seed}.mp4"
        if not path.exists():
            speech = synthesize_speech(seed, seconds=SECONDS, voice=Voice.random(PERSON))
            with common.made_whole(path) as partial:
                write_clip(partial, speaker.frames(speech, seed), waveform=speech.waveform)
        paths.append(path)
    return paths


def triples(folder: Path, count: int) -> list[Known]:
    """The same person with other sentences and their right answers; every second one in another's voice."""
    found = []
    for index in range(count):
        path = folder / f"{index:04}"
        if not (path / "truth.json").exists():
            seed, own = FIRST_TRIPLE + 2 * index, Voice.random(PERSON)
            said = (own, Voice.random(seed) if index % 2 else own)
            made = counterfactual(
                PERSON, seconds=SECONDS, size=SIDE, speech_seeds=(seed, seed + 1), motion_seed=seed, voices=said
            )
            made.write(path)
        found.append(Known(path))
    return found


def share(link: Path, folder: Path) -> None:
    """All kinds learn from the same prepared takes."""
    folder.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(folder.resolve())


def tuned(kind: str, arguments: argparse.Namespace, work: Path) -> tuple[Path, int]:
    """The fine-tuned checkpoint, and the update whose weights it has."""
    from latentsync.training.finetune import PREPARED, FineTuning

    chosen = KINDS[kind]
    facts = json.dumps([arguments.checkpoint, arguments.steps, chosen.full, chosen.rate])
    folder = work / "tuned" / f"{kind}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    share(folder / PREPARED, work / f"prepared_{hashlib.sha256(arguments.checkpoint.encode()).hexdigest()[:8]}")
    listed = ",".join(f"'{take}'" for take in takes(work / "takes"))
    given = [f"videos=[{listed}]", f"folder='{folder}'", f"checkpoint='{arguments.checkpoint}'", "name=drawn"]
    config = load_config("finetune_full" if chosen.full else "finetune", [*given, *chosen.changes(arguments.steps)])
    found = FineTuning(config).run(progress=False)
    return found.checkpoint, json.loads((found.run / "exported.json").read_text())["updates"]


def measured(checkpoint: str, known: Sequence[Known], store: common.Measurements) -> list[dict[str, float]]:
    """Figures of its dub of every triple."""
    dubber, rows = Dubber(checkpoint), []
    for triple in known:
        job = [dubber.digest, triple.folder.name]
        row = store.get(job)
        if row is None:
            source, speech = triple.folder / "source.mp4", triple.folder / "speech.wav"
            row = store.add(job, score_clip(triple, dubber(source, speech, f"person-{PERSON}-{triple.folder.name}")))
        rows.append(row)
    return rows


def ends(known: Sequence[Known], store: common.Measurements) -> list[dict[str, float]]:
    """Figures of the sources as they are."""
    for triple in known:
        job = ["nothing", triple.folder.name]
        if store.get(job) is None:
            store.add(job, score_clip(triple, triple.folder / "source.mp4"))
    return [row for triple in known if (row := store.get(["nothing", triple.folder.name])) is not None]


def table(systems: dict[str, list[dict[str, float]]], base: str) -> tuple[str, dict[str, Any]]:
    """Markdown, and the same for machines: figures of all, and by triple how far each lies from `base`."""
    lines, values = [], {}
    for title, rows in systems.items():
        pairs = zip(rows, systems[base], strict=True)
        gains = [{name: row[name] - start[name] for name in SHOWN} for row, start in pairs]
        sides = {"figures": rows, "over the base": gains}
        found = {side: {name: spread([row[name] for row in some]) for name in SHOWN} for side, some in sides.items()}
        values[title] = {side: {name: asdict(one) for name, one in some.items()} for side, some in found.items()}
        for side, some in found.items():
            if side == "figures" or title != base:
                label = title if side == "figures" else "— over the base"
                lines.append([label, *(cell(some[name], FIGURES[name][1]) for name in SHOWN)])
    return common.table(("", *(FIGURES[name][0] for name in SHOWN)), lines), values


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    parser.add_argument("--checkpoint", default="embedded", help="to begin with (default: embedded)")
    parser.add_argument("--only", nargs="+", default=list(KINDS), choices=list(KINDS), help="default: all")
    parser.add_argument("--steps", type=int, default=120, help="updates of each (default: 120)")
    parser.add_argument("--triples", type=int, default=6, help="that are dubbed (default: 6)")
    parser.add_argument("--name", default="finetune_drawn", help="of the result files (default: finetune_drawn)")
    return parser.parse_args()


def main() -> None:
    """Fine-tune, dub, measure; the table is written after every kind."""
    arguments, work = parse(), common.WORK / "finetune_drawn"
    store = common.Measurements(work / "measurements.jsonl")
    known = triples(work / "triples", arguments.triples)
    base = "the checkpoint as it is"
    systems = {"nothing done": ends(known, store), base: measured(arguments.checkpoint, known, store)}
    for kind in arguments.only:
        checkpoint, updates = tuned(kind, arguments, work)
        systems[f"{KINDS[kind].title} (best after {updates})"] = measured(str(checkpoint), known, store)
        text, values = table(systems, base)
        head = (
            f"# Fine-tuning on a drawn person\n\n{TAKES} takes of {SECONDS:g} s, {arguments.steps} updates of each "
            f"kind; base {describe(Dubber(arguments.checkpoint))}.\n\n{common.machine()}\n\nMean [95 % interval] ± "
            f"standard deviation over {arguments.triples} other takes of the same person, every second one with "
            "another's voice; `counterfactual_card.md` says what each figure is.\n\n"
        )
        common.write_results(arguments.name, head + text, values)


if __name__ == "__main__":
    main()
