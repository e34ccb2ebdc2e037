"""Many jobs from one file, with the networks loaded once; a run that was stopped goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentsync.config import unknown_key
from latentsync.pipelines.dub import DubbingPipeline
from latentsync.pipelines.options import DubOptions
from latentsync.types import InputError

logger = logging.getLogger(__name__)

PATHS = ("video", "audio", "out")
PATH_OPTIONS = (*PATHS, "report", "face_photo", "identity_weights")
NOT_IN_FILES = ("progress",)
BATCH_FAILED = 1  # exit status when some jobs failed


@dataclass(frozen=True)
class BatchJob:
    """One line of a batch file; relative paths in it start at the file's folder."""

    line: int
    video: Path
    audio: Path
    out: Path
    options: dict[str, Any]

    def fingerprint(self, checkpoint_digest: str) -> str:
        """Changes when the options, an input file or the checkpoint change."""
        inputs = [(str(path), *_size_and_time(path)) for path in (self.video, self.audio)]
        options = DubOptions.from_mapping(self.options).as_json()
        facts = json.dumps([inputs, str(self.out), options, checkpoint_digest], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()


@dataclass
class BatchResult:
    """What became of the jobs: line numbers, and the reason of each failure."""

    done: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when every job is done or was done before."""
        return BATCH_FAILED if self.failed else 0


def read_jobs(path: str | Path) -> list[BatchJob]:
    """Read a file with one JSON object a line: `video`, `audio`, `out` and the options of `DubbingPipeline.dub`.

    raises: InputError that names the line, for anything that is not a job
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The batch file '{path}' cannot be read: {error}.") from error
    jobs = [_job(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not jobs:
        raise InputError(f"The batch file '{path}' has no jobs; write one JSON object a line.")
    _check_outputs(path, jobs)
    return jobs


def run_batch(
    pipeline: DubbingPipeline,
    path: str | Path,
    *,
    progress: bool = True,
    dub: Callable[..., object] | None = None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> BatchResult:
    """Dub every job of a batch file. A job that fails is told and the rest go on.

    dub: called in place of `pipeline.dub`, with the same arguments; what it raises is the job's failure

    Finished jobs are noted in `<file>.done`, beside it: run again, what is noted there, unchanged and still in its
    place is skipped.
    raises: InputError for a file that is no batch file
    """
    path = Path(path)
    jobs, done, result = read_jobs(path), DoneList(path.with_name(path.name + ".done")), BatchResult()
    for number, job in enumerate(jobs, 1):
        where = f"job {number} of {len(jobs)} (line {job.line}), '{job.out}'"
        try:
            fingerprint = job.fingerprint(pipeline.components.digest)
            if done.holds(fingerprint, job.out):
                result.skipped.append(job.line)
                tell(f"{where}: already done")
                continue
            (dub or pipeline.dub)(job.video, job.audio, job.out, progress=progress, **job.options)
            done.add(fingerprint, job.out)
            result.done.append(job.line)
            tell(f"{where}: done")
        except Exception as error:  # whatever it is, it is this job's: the others go on
            result.failed[job.line] = _why(error)
            tell(f"{where}: failed: {result.failed[job.line]}")
    return result


def _why(error: Exception) -> str:
    """A sentence for what a user or a machine did; a defect of ours comes with its traceback in the log."""
    if isinstance(error, (InputError, OSError)):
        return str(error) or type(error).__name__
    logger.error("a job failed by a defect in latentsync", exc_info=error)
    return f"{type(error).__name__}: {error}"


class DoneList:
    """A file of finished jobs, one JSON object a line, that only grows: a line cut off by a crash is passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = {entry["fingerprint"]: entry for entry in _entries(path)}

    def holds(self, fingerprint: str, out: Path) -> bool:
        """Whether that job was finished and its output is as it was left."""
        entry = self._done.get(fingerprint)
        return entry is not None and [entry.get("size"), entry.get("time")] == _size_and_time(out)

    def add(self, fingerprint: str, out: Path) -> None:
        """Note a finished job."""
        size, changed = _size_and_time(out)
        self._done[fingerprint] = {"fingerprint": fingerprint, "out": str(out), "size": size, "time": changed}
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(self._done[fingerprint], ensure_ascii=False) + "\n")


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a run that was killed
        if isinstance(entry, dict) and "fingerprint" in entry:
            yield entry


def _job(path: Path, number: int, line: str) -> BatchJob:
    where = f"{path}, line {number}"
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not a JSON object ({error.msg}); write one object a line.") from error
    if not isinstance(entry, dict):
        raise InputError(f"{where}: not a JSON object; write {{'video': ..., 'audio': ..., 'out': ...}}.")
    for name in PATHS:
        if not isinstance(entry.get(name), str):
            raise InputError(f"{where}: '{name}' is missing or no text; every job needs video, audio and out.")
    for name in NOT_IN_FILES:
        if name in entry:
            raise unknown_key(name, [], where)
    for name in PATH_OPTIONS:
        if isinstance(entry.get(name), str):
            entry[name] = path.parent / entry[name]
    reference = entry.get("reference", "other")
    if reference not in ("other", "same"):
        entry["reference"] = path.parent / str(reference)
    video, audio, out = (entry.pop(name) for name in PATHS)
    DubOptions.from_mapping(entry, where)
    return BatchJob(number, video, audio, out, entry)


def _check_outputs(path: Path, jobs: list[BatchJob]) -> None:
    seen: dict[Path, int] = {}
    for job in jobs:
        first = seen.setdefault(job.out.absolute(), job.line)
        if first != job.line:
            raise InputError(f"{path}, line {job.line}: line {first} writes '{job.out}' too; give each job its own.")


def _size_and_time(path: Path) -> list[int | None]:
    """Bytes and modification time in nanoseconds; nothing where there is no file."""
    if not path.exists():
        return [None, None]
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
