"""Dub a video: the same video, speaking other audio."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentsync.pipelines.dub import DubbingPipeline

__version__ = "0.1.0"
__all__ = ["DubbingPipeline", "__version__"]

# How long torch's OpenMP threads spin before they sleep; read when torch is loaded. With libgomp's own 300,000 turns,
# threads that wait take the cores from those that work as soon as anything else runs: two dubs at once on two cores
# took 29 s each, and 12 s with this; one alone is as quick as before (34 s, measured 32 to 35 s).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> object:
    """Load the pipeline (torch, diffusers) on first use, so that importing the package stays quick."""
    if name == "DubbingPipeline":
        from latentsync.pipelines.dub import DubbingPipeline

        return DubbingPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
