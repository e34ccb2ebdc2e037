"""The options of a job: one list for Python, the command line and batch files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from latentsync.config import unknown_key
from latentsync.diffusion.amplitude import reach
from latentsync.diffusion.schedulers import make_scheduler
from latentsync.faces.masks import REGIONS
from latentsync.faces.tracking import FaceChoice, parse_face
from latentsync.pipelines.progress import Progress
from latentsync.pipelines.windows import DEFAULT_OVERLAP, WindowPlanner
from latentsync.types import InputError

MAX_STEPS, MAX_GUIDANCE = 1000, 20.0


@dataclass(frozen=True)
class DubOptions:
    """How to dub.

    num_inference_steps, guidance_scale, scheduler: None takes the checkpoint's own defaults
    seed: the same seed gives the same bits on the same machine
    reference: `other` (a frame from another moment), `same` (the frame itself), or an image file with a face
    region: what is taken from the network: face (the lower face), mouth (mouth and chin); None as the checkpoint wants
    fit: what to do when audio and video differ in length: cut, loop, pingpong, hold, keep
    face: None = the largest face; a number = that place by size; (x, y) = the face at that point
    face_photo, identity_weights: the face that looks like the photo, by the recognition network in that file
    amplitude: 0.5 to 1.5, how far the mouth moves
    silence_gate: close the mouth where the audio is silent
    overlap: frames that neighbouring windows share; batch_size: windows at once, None chooses for the device
    quality: of the encoded video, as the writer names it
    report: JSON file about what happened to each frame
    progress: True shows it on stderr, a callable gets `Progress` objects
    """

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    seed: int = 0
    reference: str | Path = "other"
    region: str | None = None
    fit: str = "cut"
    face: FaceChoice = None
    face_photo: str | Path | None = None
    identity_weights: str | Path | None = None
    amplitude: float = 1.0
    silence_gate: bool = True
    overlap: int = DEFAULT_OVERLAP
    batch_size: int | None = None
    quality: str = "high"
    report: str | Path | None = None
    progress: bool | Callable[[Progress], None] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "face", parse_face(self.face))
        _within("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        _within("guidance_scale", self.guidance_scale, 0.0, MAX_GUIDANCE)
        _within("batch_size", self.batch_size, 1, 1024)
        reach(self.amplitude)
        WindowPlanner(self.overlap)
        if self.region not in (None, *REGIONS):
            raise InputError(f"region is {self.region!r}; give one of {', '.join(REGIONS)}.")
        if self.scheduler is not None:
            make_scheduler(self.scheduler)
        if (self.face_photo is None) != (self.identity_weights is None):
            raise InputError("face_photo and identity_weights belong together: give both, or choose by face.")

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any], where: str = "options") -> DubOptions:
        """Options by name. InputError for one that does not exist, naming its near matches, or of a wrong value."""
        known = [field.name for field in fields(cls)]
        for key in options:
            if key not in known:
                raise unknown_key(key, known, where)
        try:
            return cls(**options)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        except TypeError as error:
            raise InputError(f"{where}: an option has a value of the wrong kind ({error}).") from error

    def as_json(self) -> dict[str, Any]:
        """Plain values for reports and fingerprints; what does not change the video is left out."""
        values = asdict(self)
        del values["progress"], values["report"]
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise InputError(f"{name} is {value}; it must lie between {low} and {high}.")
