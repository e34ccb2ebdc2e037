"""Stage 1: is it a video with sound at all? Nothing but the header and the first picture is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentsync.data.preparation.store import Dropped
from latentsync.media.probe import probe_audio, probe_video
from latentsync.types import InputError

NO_SOUND = "no sound"


def probe(path: Path) -> dict[str, Any]:
    """What the file says of itself: {width, height, fps, seconds (None where it does not say), codec}.

    InputError where it is no video that can be read, Dropped where it has no sound.
    """
    video = probe_video(path)
    try:
        probe_audio(path)
    except InputError as error:
        raise Dropped(NO_SOUND, str(error)) from error
    return {
        "width": video.width,
        "height": video.height,
        "fps": float(video.fps),
        "seconds": video.duration,
        "codec": video.codec,
    }
