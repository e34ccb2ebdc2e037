"""The model card: what a checkpoint is and how to use it, what it was made from, what was measured, what it cannot do.

Only what is known is told; what nobody stated is called so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from latentsync.hub.settings import Settings
from latentsync.types import InputError

NOT_STATED = "not stated"
TAGS = ["lip-sync", "dubbing", "talking-face"]
LIBRARY = "latentsync"
SUMS = "SHA256SUMS"
MINUTE, HOUR = 60, 3600  # seconds
# A path from the root of a disk or from somebody's home: behind a blank, a quote or a bracket, so that no address is
# taken for one.
OWN_PATH = re.compile(r"""(?:^|(?<=[\s"'`(\[=|,:]))(?:file://|~[\w.-]*/|[A-Za-z]:\\|\\\\\w|/(?!/)[\w.~-]{2,})""")
LOADED_AS = re.compile(r"""(?:from_pretrained|load_\w+)\("(?P<name>[^"]+)"\)""")


@dataclass(frozen=True)
class SourceShare:
    """Clips of one origin. licence: None where nobody stated it."""

    name: str
    licence: str | None
    clips: int
    seconds: float


@dataclass(frozen=True)
class ClipCount:
    """How much there was of one split. speakers: None where the data do not say."""

    clips: int
    seconds: float
    speakers: int | None


@dataclass(frozen=True)
class DataFacts:
    """What a run was trained on and validated with; `note` says why less is known than there could be."""

    digest: str = ""  # hash of the data; "" where the run did not note it
    training: ClipCount | None = None
    held_out: ClipCount | None = None
    sources: Sequence[SourceShare] = ()  # of both
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """One figure over a run."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]

    def at(self, place: int) -> str:
        """A value, with the update it belongs to."""
        return f"{self.values[place]:.4g} (update {self.steps[place]:,})"

    @property
    def row(self) -> list[str]:
        """Name, last, lowest, highest."""
        order = sorted(range(len(self.values)), key=lambda place: self.values[place])
        return [self.name, self.at(-1), self.at(order[0]), self.at(order[-1])]


@dataclass(frozen=True)
class Compared:
    """A figure before and after a fine-tuning: mean, and low and high of its 95 % interval."""

    name: str
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def row(self) -> list[str]:
        """Name, before, after."""
        sides = (self.before, self.after)
        return [self.name, *(f"{side['mean']:.2f} [{side['low']:.2f}, {side['high']:.2f}]" for side in sides)]


@dataclass(frozen=True)
class RunFacts:
    """What a run folder tells. Every field may be empty: not every recipe notes everything."""

    updates: int | None = None  # that the shared weights had
    ended: int | None = None  # that the run made in all
    began_from: str = ""  # what its weights began with; "": new ones
    base_model: str | None = None  # the same, where it is a name of the hub
    version: str = ""  # of latentsync
    git: str = ""  # commit, with "+" where files differed from it
    data: DataFacts = field(default_factory=DataFacts)
    losses: Sequence[Curve] = ()
    validation: Sequence[Curve] = ()
    comparison: Sequence[Compared] = ()  # before and after a fine-tuning
    settings: str = ""  # the merged configuration, yaml, without anybody's paths
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # file name -> png


@dataclass(frozen=True)
class PartFacts:
    """One network of a checkpoint."""

    name: str
    kind: str  # its class
    parameters: int
    precision: str  # of the file


@dataclass(frozen=True)
class CardFacts:
    """Everything that a card is made of."""

    name: str  # of the folder or of the hub's repository, as it will be loaded
    settings: Settings
    trained_resolution: int | None  # pixels; None: not known
    parts: Sequence[PartFacts]
    licence: str | None = None  # of the weights
    run: RunFacts | None = None
    earlier: str = ""  # what the folder's own card said, where there is no run to ask
    published: str | None = None  # name of the file in the published layout


def make_card(facts: CardFacts) -> str:
    """A card as the hub reads it: metadata, then text.

    InputError where something that was given to go into it holds a path of this machine.
    """
    from huggingface_hub import ModelCard, ModelCardData

    base = facts.run.base_model if facts.run else None
    data = ModelCardData(license=facts.licence, library_name=LIBRARY, tags=[*TAGS], base_model=base)
    text = "\n\n".join(section for section in _sections(facts) if section)
    card = str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n"))
    check_no_paths(card, "the model card")
    return card


def heading(name: str) -> str:
    """What a card calls a checkpoint of this name: without owner and revision."""
    return name.rpartition("/")[2].partition("@")[0]


def renamed(card: str, name: str) -> str:
    """A card that `make_card` wrote, for the same files under another name."""
    match = LOADED_AS.search(card)
    if match is None:
        return card
    old = match["name"]
    card = card.replace(f'("{old}")', f'("{name}")').replace(f"--checkpoint {old} ", f"--checkpoint {name} ")
    return card.replace(f"\n# {heading(old)}\n", f"\n# {heading(name)}\n", 1)


def retold(card: str) -> str:
    """What a card says, for a card of something that was made from it: without metadata, heading and pictures."""
    from huggingface_hub import ModelCard

    told = ModelCard(card, ignore_metadata_errors=True)
    text = re.sub(r"\A\s*# .*\n", "", told.text)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("![")).strip()
    licence = told.data.license  # type: ignore[union-attr]
    return f"Licence of the weights: {licence}.\n\n{text}" if licence else text


def check_no_paths(text: str, where: str) -> None:
    """InputError that names the line of a text which holds a path of somebody's machine."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := OWN_PATH.search(line):
            told = line[match.start() :].split()[0]
            raise InputError(
                f"{where}, line {number}, names a path of your machine ({told}), which is not for others: take it out"
            )


def _sections(facts: CardFacts) -> Iterator[str]:
    yield f"# {heading(facts.name)}"
    yield _what(facts)
    yield _use(facts)
    run = facts.run
    if run is None:
        yield f"## How it was trained\n\n{facts.earlier or 'The folder does not say.'}"
        yield "\n".join(["## What it cannot do", "", *_bullets(_limits(facts))])
        return
    yield _training(run)
    yield _curves(run)
    yield _data(run.data)
    if examples := [name for name in run.pictures if "/" in name]:
        shown = "\n\n".join(f"![{PurePosixPath(name).stem.replace('_', ' ')}]({name})" for name in examples)
        yield f"## Examples\n\nFrom the validation of the run, on clips held out from it.\n\n{shown}"
    yield "\n".join(["## What it cannot do", "", *_bullets(_limits(facts))])
    if run.settings:
        yield (
            "## Configuration\n\nMerged, every default included; of names of files only the last part.\n\n"
            f"<details>\n\n```yaml\n{run.settings.strip()}\n```\n\n</details>"
        )


def _what(facts: CardFacts) -> str:
    rows = [
        (f"`{part.name}`", f"`{part.kind}`", f"{part.parameters / 1e6:.3g} M", part.precision) for part in facts.parts
    ]
    table = _table(("part", "what", "parameters", "on disk"), rows)
    licence = facts.licence or NOT_STATED
    if not any(part.name == "unet" for part in facts.parts):
        return f"A checkpoint of `latentsync`. Licence of the weights: {licence}.\n\n{table}"
    settings, side = facts.settings, facts.trained_resolution
    defaults = ", ".join(f"{name} {value}" for name, value in sorted(settings.defaults.items()))
    size = f"of {side} px" if side else f"of a size that is {NOT_STATED}"
    return (
        f"A lip-sync checkpoint of `latentsync`: it gives the mouth of a video other audio. Licence of the weights: "
        f"{licence}.\n\n{table}\n\nFace crops {size}, {settings.window_frames} frames a window at {settings.fps:g} "
        f"frames a second. Sampling by default: {defaults}."
    )


def _use(facts: CardFacts) -> str:
    parts = {part.name for part in facts.parts}
    whole, name = {"unet", "vae", "audio_encoder"} <= parts, facts.name
    lines = ["## Use", "", "```python"]
    if "unet" in parts:
        lines += ["from latentsync import DubbingPipeline", "", f'pipeline = DubbingPipeline.from_pretrained("{name}")']
        lines += ['pipeline.dub("talk.mp4", "new.wav", "dubbed.mp4")', "```", ""]
        lines += [f"or `latentsync dub --checkpoint {name} --video talk.mp4 --audio new.wav --out dubbed.mp4`."]
        lines += [] if whole else ["", "What it does not hold is taken from beside it or from the hub."]
    else:
        loads = [f"load_{part}" for part in sorted(parts)]
        lines += [f"from latentsync.hub import {', '.join(loads)}", "", *(f'{load}("{name}")' for load in loads), "```"]
    lines += ["", f"Loading compares every file with its SHA-256; `sha256sum -c {SUMS}` does it for all of them."]
    if facts.published:
        lines += [f"`{facts.published}` holds the same weights in the layout of the published LatentSync files."]
    lines += ["", "A dub puts words into a person's mouth. Dub people who agreed to it, and say that you did."]
    return "\n".join(lines)


def _training(run: RunFacts) -> str:
    updates = f"{run.updates:,}" if run.updates is not None else NOT_STATED
    if run.updates is not None and run.ended is not None and run.ended > run.updates:
        updates += f" (the run went on to {run.ended:,}; these weights are of the earlier point)"
    code = ", ".join(
        filter(None, (run.version and f"latentsync {run.version}", run.git and f"commit `{run.git.rstrip('+')}`"))
    )
    changed = " with changes that are not in it" if run.git.endswith("+") else ""
    began = run.began_from or "new weights"
    rows = [("updates", updates), ("began from", began), ("code", f"{code or NOT_STATED}{changed}")]
    return f"## How it was trained\n\n{_table(('', ''), rows)}"


def _curves(run: RunFacts) -> str:
    if not run.losses and not run.validation:
        return f"## Losses and validation\n\nThe run noted none: {NOT_STATED}."
    told = ["## Losses and validation"]
    if run.losses:
        rows = [curve.row[:3] for curve in run.losses]
        told.append(_table(("loss, weighted, while training", "last", "lowest"), rows))
    if run.validation:
        rows = [curve.row for curve in run.validation]
        told.append(_table(("on held-out clips", "last", "lowest", "highest"), rows))
    if run.comparison:
        rows = [compared.row for compared in run.comparison]
        told.append(_table(("on held-out segments, mean and 95 % interval", "before", "after"), rows))
    told += [f"![{name}]({name})" for name in run.pictures if "/" not in name]
    return "\n\n".join(told)


def _data(data: DataFacts) -> str:
    told = ["## What it was trained on"]
    counts = {"trained on": data.training, "held out": data.held_out}
    rows = [
        (what, f"{count.clips:,}", duration(count.seconds), NOT_STATED if count.speakers is None else count.speakers)
        for what, count in counts.items()
        if count is not None
    ]
    told += [_table(("", "clips", "length", "speakers"), rows)] if rows else []
    told.append(f"Hash of the data: {f'`{data.digest}`' if data.digest else NOT_STATED}.")
    if data.sources:
        told.append(
            _table(
                ("sources", "licence of the sources", "clips", "length"),
                [(s.name, s.licence or NOT_STATED, f"{s.clips:,}", duration(s.seconds)) for s in data.sources],
            )
        )
    else:
        told.append(f"Licence of the sources: {NOT_STATED}.")
    return "\n\n".join([*told, data.note] if data.note else told)


def _limits(facts: CardFacts) -> Iterator[str]:
    if any(part.name == "unet" for part in facts.parts):
        if facts.trained_resolution:
            yield f"Crops are {facts.trained_resolution} px: larger faces lose detail."
        yield "Faces from the side and covered mouths were not provided for: such frames may pass through untouched."
    run = facts.run
    if run is None:
        yield "No figure of this card was measured when the folder was put together."
        return
    data = run.data
    if data.training and data.training.speakers == 1:
        yield "It was trained on one speaker: nothing here tells how it does on others."
    if data.training and not (data.held_out and data.held_out.clips):
        yield "No clips were held out: nothing here tells how it does on clips that it has not seen."
    unknown = sum(source.clips for source in data.sources if source.licence is None)
    if unknown or not data.sources:
        yield f"The licence of {f'{unknown:,} clips' if unknown else 'its sources'} is {NOT_STATED}."
    yield "The figures above are all that was measured here; dubs with another's audio are another question."


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds in words, from the largest that is there."""
    hours, rest = divmod(round(seconds), HOUR)
    minutes, rest = divmod(rest, MINUTE)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
