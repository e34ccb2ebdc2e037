"""Dubbing behind the quality gate: the result is measured, and made again with another seed where it does not pass."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentsync.data.preparation.store import write_whole
from latentsync.media.outputs import PrivateFile
from latentsync.types import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latentsync.evaluation.gate import Limit, Verdict
    from latentsync.evaluation.instruments import Instruments
    from latentsync.pipelines.dub import DubbingPipeline
    from latentsync.pipelines.report import DubReport


class CheckFailed(InputError):
    """A dub was written and does not pass the gate."""


@dataclass(frozen=True)
class Gate:
    """The limits, how many further seeds are tried, and the networks that measure."""

    limits: Mapping[str, Limit]
    retries: int
    instruments: Instruments


def open_gate(limits: str, retries: int, identity_weights: str | None) -> Gate:
    """raises: InputError for limits that cannot be read or a number of retries below 0, CheckpointError for weights"""
    from latentsync.evaluation.gate import read_limits
    from latentsync.evaluation.instruments import load_instruments

    if retries < 0:
        raise InputError(f"--retries is {retries}; give 0 or more")
    return Gate(read_limits(limits), retries, load_instruments({"identity_weights": identity_weights}))


@dataclass
class CheckedPipeline:
    """A pipeline whose dubs are checked; `dub` takes what `DubbingPipeline.dub` takes."""

    pipeline: DubbingPipeline
    gate: Gate

    def dub(self, video: str | Path, audio: str | Path, out: str | Path, **options: Any) -> DubReport:
        """Dub until a seed passes, from the one that was given on; if none does, the least bad dub is kept.

        The verdict is added to the report as `check`, with every attempt.
        raises: CheckFailed that says why, after `out` was written; InputError as `DubbingPipeline.dub`, and for a face
        chosen by a photo, which measuring cannot find again
        """
        from latentsync.evaluation.gate import check
        from latentsync.evaluation.items import Item
        from latentsync.faces.tracking import parse_face

        if options.get("face_photo") is not None:
            raise InputError("--check cannot tell which face a photo chose: choose it by --face INDEX or X,Y")
        face = parse_face(options.get("face"))
        out, first = Path(out), options.pop("seed", 0)
        report_file = None if options.get("report") is None else Path(options["report"])
        files = [path for path in (out, report_file) if path is not None]
        tried: list[tuple[int, Verdict, DubReport]] = []
        best = 0
        for seed in range(first, first + self.gate.retries + 1):
            with _aside(files if tried else []) as keep_new:
                made = self.pipeline.dub(video, audio, out, seed=seed, **options)
                item = Item(out, audio=Path(audio), source=Path(video), face=face)
                tried.append((seed, check(item, self.gate.limits, self.gate.instruments), made))
                if tried[-1][1].badness <= tried[best][1].badness:
                    best = len(tried) - 1
                    keep_new()
            if tried[best][1].passed:
                break
        _, verdict, report = tried[best]
        if report_file is not None:
            _add_to_report(report_file, verdict, tried)
        if not verdict.passed:
            raise CheckFailed(f"'{out}' does not pass the check ({_seeds(len(tried))}): {verdict.describe()}")
        return report


def _seeds(count: int) -> str:
    return "1 seed was tried" if count == 1 else f"the best of {count} seeds was kept"


@contextmanager
def _aside(files: list[Path]) -> Iterator[Any]:
    """While a further attempt is made, what the best one so far wrote waits beside it; it comes back unless the new one
    is kept, by a call of what this gives."""
    with ExitStack() as stack:
        waiting = [(file, PrivateFile(file)) for file in files if file.exists()]
        for file, private in waiting:
            os.replace(file, private.path)
            stack.callback(private.remove)
        kept = []
        try:
            yield lambda: kept.append(True)
        finally:
            for _, private in waiting if not kept else []:
                private.publish()


def _add_to_report(path: Path, verdict: Verdict, tried: list[tuple[int, Verdict, Any]]) -> None:
    """Put `check` behind the other entries of a report."""
    attempts = [{"seed": seed, "passed": one.passed, "complaints": list(one.complaints)} for seed, one, _ in tried]
    entry = json.dumps({**verdict.as_json(), "attempts": attempts}, ensure_ascii=False, indent=1)
    text = path.read_text(encoding="utf-8").rstrip()
    assert text.endswith("}"), path
    text = text[:-1].rstrip() + f',\n "check": {entry}\n}}\n'
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))
