"""Dub a video: the same video, speaking other audio."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentsync.pipelines.dub import DubbingPipeline

__version__ = "0.1.0"
__all__ = ["DubbingPipeline", "__version__"]


def __getattr__(name: str) -> object:
    """Load the pipeline (torch, diffusers) on first use, so that importing the package stays quick."""
    if name == "DubbingPipeline":
        from latentsync.pipelines.dub import DubbingPipeline

        return DubbingPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
