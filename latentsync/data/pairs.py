"""Pairs of a window of mouths and a window of sound, half of them from one moment: what sync networks learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from einops import rearrange
from numpy.lib.stride_tricks import sliding_window_view

from latentsync.audio.mel import syncnet_length
from latentsync.audio.windows import SYNCNET_COLUMNS, syncnet_start
from latentsync.data.arrays import Array, StoredTensor
from latentsync.data.augmentation import Look
from latentsync.data.cached import encoded, kept, module_digest
from latentsync.data.crops import ClipCrops
from latentsync.data.sampling import clip_weights, other_looks, pixels, sample_generator
from latentsync.data.sound import SyncSound
from latentsync.models import autoencoder
from latentsync.models.stable_syncnet import VisualInput, lower_half
from latentsync.types import MODEL_FPS, InputError

NAMED_REASONS = 3  # of skipped clips, in a message
CROSSED = 4  # pairs of two moments
HALVES = "halves"  # latents, in their file


@dataclass(frozen=True)
class PairRecipe:
    """How pairs are drawn."""

    negative_distance: int = 5  # frames between picture and sound of a pair that does not match, at least
    cross_speaker: float = 0.0  # share of the pairs that do not match whose sound is another speaker's
    changed_looks: float = 0.0  # share of the windows in other colours, on another shape of face (pixels only)
    latent_looks: int = 0  # with how many such looks each clip is also encoded (latents only)
    crossed: bool = False  # pairs come in fours, two moments' pictures with each other's sounds: see `PairSampler`


@dataclass(frozen=True)
class PairBatch:
    """Pairs, as a sync network takes them; a window that several pairs share is there once."""

    images: torch.Tensor  # (n, ...) e.g. (n, f*c, h, w) lower halves, pixels in [-1, 1] or scaled latents
    mel: torch.Tensor  # (m, ...) e.g. (m, 1, 80, 52)
    match: torch.Tensor  # (b,) float32: 1 = both of one moment
    other_speaker: torch.Tensor  # (b,) float32: 1 = the sound is another speaker's
    shown: torch.Tensor  # (b,) int64: which images
    heard: torch.Tensor  # (b,) int64: which mel


class Wanted(Protocol):
    """What a network looks at."""

    @property
    def pixels(self) -> bool:
        """Whether it is colours, so that a clip can be given another look."""
        ...


Looked = TypeVar("Looked", bound=Wanted, contravariant=True)
Change = Callable[[np.ndarray], np.ndarray]
"""pictures (f, r, r, 3) uint8 -> the same with another look"""


@dataclass(frozen=True)
class PairClip(Generic[Looked]):
    """One clip, cut into windows. A subclass says what a window is."""

    name: str
    speaker: str  # "" where it is not known
    pictures: Array | StoredTensor  # (f, ...) what is looked at, or what that is made of
    sound: SyncSound
    columns: np.ndarray  # (f,) column of the mel (or row of the features) at each frame
    starts: np.ndarray  # (windows,) first frames of whole windows: faces throughout, 25 frames a second, with sound
    silent: np.ndarray  # (f,) bool: the window from this frame on is silent

    @property
    def usable(self) -> np.ndarray:
        """(windows,) bool, what the clip's share of the samples is reckoned from."""
        return np.ones(len(self.starts), bool)

    def images(self, start: int, wanted: Looked, look: Change | None) -> torch.Tensor:
        """What the network looks at in the window from frame `start` on, with another look where one is given."""
        raise NotImplementedError

    def mel(self, start: int) -> torch.Tensor:
        """What the network listens to."""
        raise NotImplementedError


@dataclass(frozen=True)
class SyncClip(PairClip[VisualInput]):
    """A clip for StableSyncNet. pictures: (f, r, r, 3) uint8 RGB crops, or (f, 4, h, w) float16 latents of their lower
    halves; no window counts as silent, as in its published training."""

    source: ClipCrops
    look: Look | None = None  # that its latents are of

    def with_looks(self, count: int, seed: int) -> list[SyncClip]:
        """The clip as it is, and `count` times with another look, not encoded yet."""
        return [self, *(replace(self, look=look) for look in other_looks(self.source, count, seed))]

    def encoded(self, encode: HalfLatents) -> SyncClip:
        """The clip with latents for pictures."""
        return replace(self, pictures=encode(self.source, self.look))

    def images(self, start: int, wanted: VisualInput, look: Change | None) -> torch.Tensor:
        """(f*c, h, w): the window from frame `start` on, with another look where one is given."""
        taken = self.pictures[start : start + wanted.frames]
        if wanted.space == "latent":
            assert isinstance(taken, torch.Tensor), "not encoded yet"
            return rearrange(taken.float(), "f c h w -> (f c) h w")
        assert isinstance(taken, np.ndarray)
        return lower_half(pixels(look(taken) if look else taken)[None], wanted)[0]

    def mel(self, start: int) -> torch.Tensor:
        """(1, 80, 52): the sound of the window from frame `start` on."""
        return self.sound.columns(int(self.columns[start]), SYNCNET_COLUMNS)[None]


def sync_clip(clip: ClipCrops, frames: int, distance: int) -> SyncClip:
    """Cut a clip into windows of `frames` frames, of which some are at least `distance` frames apart.

    InputError says why no pair can be drawn from the clip.
    """
    columns = np.array([syncnet_start(time) for time in clip.times])
    starts = pair_starts(clip, frames, distance, columns + SYNCNET_COLUMNS <= syncnet_length(clip.waveform))
    silent = np.zeros(len(clip), bool)
    return SyncClip(clip.name, clip.speaker, clip.crops, clip.sync_sound, columns, starts, silent, clip)


def pair_starts(clip: ClipCrops, frames: int, distance: int, heard: np.ndarray) -> np.ndarray:
    """(windows,) first frames of whole windows, each with another one at least `distance` frames away.

    heard: (f,) bool, by first frame: the sound of the window is there. InputError says why there is no such window.
    """
    if len(clip) < 2 * frames:
        raise InputError(
            f"{clip.name} has {len(clip)} frames, and pairs need two windows, {2 * frames} frames: give a longer clip"
        )
    if not np.isfinite(clip.waveform).all():
        raise InputError(f"{clip.name} has sound that is no number in places: leave it out, or prepare it again")
    whole = _whole_windows(clip, frames, heard)
    starts = np.flatnonzero(np.logical_and.reduce(list(whole.values())))
    for reason, windows in whole.items():
        if not windows.any():
            raise InputError(f"{clip.name} {reason}: prepare the video with train/prepare_data.py, or leave it out")
    if len(starts) == 0 or starts[-1] - starts[0] < distance:
        raise InputError(
            f"{clip.name} has no two windows of {frames} frames {distance} frames apart with face and sound: give a "
            "longer clip, or prepare it again"
        )
    return starts[(starts - starts[0] >= distance) | (starts[-1] - starts >= distance)]


def _whole_windows(clip: ClipCrops, frames: int, heard: np.ndarray) -> dict[str, np.ndarray]:
    """Reason for refusing a clip that has no such window -> (windows,) bool, by first frame."""
    count = len(clip) - frames + 1
    faces = sliding_window_view(clip.usable, frames).all(axis=1)
    spans = clip.times[frames - 1 :] - clip.times[:count]
    steady = np.abs(spans - (frames - 1) / MODEL_FPS) < 0.5 / MODEL_FPS
    rate = (len(clip) - 1) / max(float(clip.times[-1] - clip.times[0]), 1e-6)
    return {
        f"shows a face in no {frames} frames in a row": faces,
        f"has {rate:.4g} frames a second where {MODEL_FPS:g} are wanted": steady,
        f"has {len(clip.waveform)} samples of sound, too few for any window": heard[:count],
    }


Cut = TypeVar("Cut")


def cut_clips(clips: Iterable[ClipCrops], cut: Callable[[ClipCrops], Cut]) -> tuple[list[Cut], list[str]]:
    """Every clip that samples can be cut from, and why each of the others was skipped.

    cut: raises InputError for a clip that gives none. InputError when no clip is left.
    """
    kept, skipped = [], []
    for clip in clips:
        try:
            kept.append(cut(clip))
        except InputError as error:
            skipped.append(str(error))
    if not kept:
        told = "; ".join(skipped[:NAMED_REASONS]) or "there is none"
        raise InputError(f"no clip can be used: {told}")
    return kept, skipped


def sync_clips(
    clips: Iterable[ClipCrops],
    wanted: VisualInput,
    distance: int,
    encode: HalfLatents | None = None,
) -> tuple[list[SyncClip], list[str]]:
    """`cut_clips` for StableSyncNet.

    encode: what will make their latents, for a network that looks at them; nothing is encoded yet
    """

    def cut(clip: ClipCrops) -> SyncClip:
        if encode is not None:
            encode.check(clip)
        return sync_clip(clip, wanted.frames, distance)

    return cut_clips(clips, cut)


Moment = tuple[int, int]
"""(number of the clip, first frame)"""


@dataclass(frozen=True)
class _Pair:
    """Which moment is seen and which is heard; pairs of one group share windows."""

    group: int
    seen: Moment
    heard: Moment
    rng: np.random.Generator  # what is left to draw: the look


class _Windows:
    """Windows in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.made: list[torch.Tensor] = []
        self._places: dict[tuple[int, int, int], int] = {}

    def place(self, key: tuple[int, int, int], make: Callable[[], torch.Tensor]) -> int:
        """Where the window of `key` is, made if it is not there."""
        if key not in self._places:
            self._places[key] = len(self.made)
            self.made.append(make())
        return self._places[key]


class PairSampler(Generic[Looked]):
    """Pairs by number: a pair is a function of (seed, index); those of even index match, the others do not.

    Crossed pairs, 4 k to 4 k + 3, are of two moments, in one look: picture and sound of the first, picture of the first
    and sound of the second, picture and sound of the second, picture of the second and sound of the first. What of the
    gradient comes from a speaker's looks and voice then cancels within the four; what is left is what moves.
    No negative is of two silent windows: nothing tells them apart.
    """

    def __init__(self, clips: Sequence[PairClip[Looked]], wanted: Looked, recipe: PairRecipe, seed: int) -> None:
        """InputError when cross-speaker pairs are asked for and the clips name fewer than two speakers."""
        self.clips, self.wanted, self.recipe, self.seed = clips, wanted, recipe, seed
        self.weights = clip_weights(clips, {})
        speakers = {clip.speaker for clip in clips} - {""}
        if recipe.cross_speaker > 0 and len(speakers) < 2:
            named = f"name only one speaker ({speakers.pop()})" if speakers else "name no speakers"
            raise InputError(
                f"pairs.cross_speaker is {recipe.cross_speaker:g}, but the clips {named}: give clips of two speakers "
                "or more, or set pairs.cross_speaker=0"
            )

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """The pairs of these numbers."""
        images, mels = _Windows(), _Windows()
        shown, heard, matches, others = [], [], [], []
        for index in indices:
            pair = self._moments(index)
            shown.append(images.place((pair.group, *pair.seen), lambda pair=pair: self._images(pair)))
            heard.append(mels.place((pair.group, *pair.heard), lambda pair=pair: self._mel(pair)))
            matches.append(float(pair.seen == pair.heard))
            others.append(float(self._speaker(pair.seen) != self._speaker(pair.heard)))
        told = (torch.tensor(found) for found in (matches, others, shown, heard))
        return PairBatch(torch.stack(images.made), torch.stack(mels.made), *told)

    def pair(self, index: int) -> tuple[torch.Tensor, torch.Tensor, float]:
        """(images (f*c, h, w), mel (1, 80, 52), 1.0 for a pair that matches)."""
        pair = self._moments(index)
        return self._images(pair), self._mel(pair), float(pair.seen == pair.heard)

    def _moments(self, index: int) -> _Pair:
        crossed, match = self.recipe.crossed, index % 2 == 0
        group = index // CROSSED if crossed else index
        rng = sample_generator(self.seed, CROSSED * group if crossed else index)
        clip = self._drawn(rng)
        here = clip, int(rng.choice(self.clips[clip].starts))
        there = here if match and not crossed else self._elsewhere(*here, rng)
        if crossed and index % CROSSED > 1:
            here, there = there, here
        return _Pair(group, here, here if match else there, rng)

    def _images(self, pair: _Pair) -> torch.Tensor:
        clip, start = self.clips[pair.seen[0]], pair.seen[1]
        changed = self.wanted.pixels and pair.rng.random() < self.recipe.changed_looks
        look = Look.random(pair.rng, clip.pictures.shape[1]) if changed else None
        return clip.images(start, self.wanted, look)

    def _speaker(self, moment: Moment) -> str:
        return self.clips[moment[0]].speaker

    def _mel(self, pair: _Pair) -> torch.Tensor:
        return self.clips[pair.heard[0]].mel(pair.heard[1])

    def _drawn(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.clips), p=self.weights))

    def _elsewhere(self, number: int, start: int, rng: np.random.Generator) -> Moment:
        """A moment whose sound does not belong to the pictures at `start` of clip `number`."""
        clip = self.clips[number]
        silent = bool(clip.silent[start])
        if clip.speaker and rng.random() < self.recipe.cross_speaker:
            other = self._drawn(rng)
            while self.clips[other].speaker in ("", clip.speaker):
                other = self._drawn(rng)
            return other, int(rng.choice(_told_apart(self.clips[other], self.clips[other].starts, silent)))
        far = clip.starts[np.abs(clip.starts - start) >= self.recipe.negative_distance]
        return number, int(rng.choice(_told_apart(clip, far, silent)))


def _told_apart(clip: PairClip[Any], starts: np.ndarray, silent: bool) -> np.ndarray:
    """Those of `starts` whose sound differs from that of a window that is `silent` or not."""
    return starts[~clip.silent[starts]] if silent else starts


class HalfLatents:
    """Latents of the lower halves of crops, encoded once for the exact pictures and the exact autoencoder."""

    def __init__(self, vae: autoencoder.Autoencoder, wanted: VisualInput, folder: Path) -> None:
        """folder: of the cache."""
        self.vae, self.wanted, self.folder = vae, wanted, folder
        self.network = module_digest(vae)

    def check(self, clip: ClipCrops) -> None:
        """InputError when the crops are of another size than the network looks at."""
        side = self.wanted.size * autoencoder.scale(self.vae)
        if clip.crops.shape[1] != side:
            raise InputError(
                f"{clip.name} has crops of {clip.crops.shape[1]} px, and latents of size {self.wanted.size} need "
                f"{side} px: prepare the clips at that size, or change input.size"
            )

    def __call__(self, clip: ClipCrops, look: Look | None = None) -> StoredTensor:
        """(f, 4, size / 2, size) float16, with another look where one is given. InputError as `check`."""
        self.check(clip)
        contents = [self.network, clip.picture_contents, *([look.contents] if look else [])]
        return StoredTensor(kept(self.folder, contents, lambda: self._make(np.asarray(clip.crops), look)), HALVES)

    def _make(self, crops: np.ndarray, look: Look | None) -> dict[str, torch.Tensor]:
        whole = encoded(self.vae, look(crops) if look else crops, lambda images: images)[0]
        assert whole.isfinite().all()
        halves = rearrange(whole[:, :, self.wanted.size // 2 :], "c f h w -> f c h w")
        return {HALVES: halves.half().contiguous()}
