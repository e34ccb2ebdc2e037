"""One dub in a process of its own, so that its memory can be told: `run_job` starts it, the script below is it."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KIB = 1024
STATUS = Path("/proc/self/status")


def run_job(
    checkpoint: str, video: Path, audio: Path, out: Path, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Dub in a child process. Returns {"load_seconds", "loaded_mib", "peak_mib", "seconds", "report"}.

    loaded_mib: resident memory once the weights are there; peak_mib: the most the process ever held.
    RuntimeError with the child's last words when it fails.
    """
    paths = {"video": str(video), "audio": str(audio), "out": str(out)}
    job = {"checkpoint": checkpoint, **paths, "options": options or {}}
    out.parent.mkdir(parents=True, exist_ok=True)
    child = subprocess.run(
        [sys.executable, __file__, json.dumps(job)], capture_output=True, text=True, env=os.environ, check=False
    )
    if child.returncode != 0:
        raise RuntimeError(f"dubbing {video.name} failed: {child.stderr.strip()[-2000:]}")
    return json.loads(child.stdout.splitlines()[-1])


def _memory_mib(field: str) -> float:
    """VmRSS or VmHWM of this process; the peak alone where there is no /proc.

    getrusage would also count what the parent held before this program was started in its copy.
    """
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / KIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (KIB * KIB if sys.platform == "darwin" else KIB)


def _work(job: dict[str, Any]) -> dict[str, Any]:
    from latentsync import DubbingPipeline

    start = time.perf_counter()
    pipeline = DubbingPipeline.from_pretrained(job["checkpoint"])
    loaded, load_seconds = _memory_mib("VmRSS"), time.perf_counter() - start
    report = pipeline.dub(job["video"], job["audio"], job["out"], progress=False, **job["options"])
    named = {key: Path(job[key]).name for key in ("video", "audio", "out")}  # where they lie is this machine's affair
    return {
        "load_seconds": load_seconds,
        "loaded_mib": loaded,
        "peak_mib": _memory_mib("VmHWM"),
        "seconds": time.perf_counter() - start - load_seconds,
        "report": {**dataclasses.asdict(report), **named},
    }


if __name__ == "__main__":
    print(json.dumps(_work(json.loads(sys.argv[1])), default=str))
