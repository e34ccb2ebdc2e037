"""The network's part of the stream: shots in, frames with new mouths out, in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from latentsync.diffusion.amplitude import branches
from latentsync.diffusion.conditioning import steady_context
from latentsync.diffusion.noise import frame_noise
from latentsync.diffusion.schedulers import Scheduler
from latentsync.pipelines.networks import Networks
from latentsync.pipelines.progress import Stopwatch
from latentsync.pipelines.references import reference_distance, reference_position
from latentsync.pipelines.scan import Shot
from latentsync.pipelines.sequences import Job, Member, ReferenceRule, Sequence, Slot
from latentsync.pipelines.voice import Voice
from latentsync.types import WINDOW_FRAMES

VAE_BATCH = WINDOW_FRAMES  # pictures that the autoencoder takes at once


@dataclass(frozen=True)
class RenderSettings:
    """How windows are formed and denoised; see `DubOptions`.

    sequences: interleaved sequences that a track is dealt to
    reference_latents: (4, h, w) of one picture that all frames take as reference; without it `other_reference` says
        whether the reference is another moment of the track or the frame itself
    context_steadiness: see `diffusion.conditioning.steady_context`
    """

    make_scheduler: Callable[[], Scheduler]
    num_inference_steps: int
    guidance_scale: float
    amplitude: float
    seed: int
    overlap: int
    batch_size: int
    sequences: int
    other_reference: bool
    reference_latents: torch.Tensor | None
    context_steadiness: float = 0.0

    @property
    def distance(self) -> int:
        """How far away in its sequence a frame's reference lies, in positions."""
        looks_away = self.other_reference and self.reference_latents is None
        return reference_distance(self.sequences) if looks_away else 0

    @property
    def most_waiting(self) -> int:
        """Frames that may wait for a full batch; past it a smaller batch runs."""
        stride = WINDOW_FRAMES - self.overlap
        return self.sequences * (2 * WINDOW_FRAMES + self.distance + stride * self.batch_size)

    def rule(self) -> ReferenceRule:
        """Where a sequence finds the reference of a position."""
        if self.distance == 0:
            return lambda position, count, ended: position
        return lambda position, count, ended: reference_position(position, count, ended, self.distance)


class Renderer:
    """Collects shots into windows and denoises these in batches.

    What runs when depends on the frames alone, never on timing: the same video gives the same batches.
    """

    def __init__(self, networks: Networks, settings: RenderSettings, voice: Voice, watch: Stopwatch) -> None:
        self._networks, self._settings, self._voice, self._watch = networks, settings, voice, watch
        self._waiting: deque[Slot] = deque()
        self._jobs: deque[Job] = deque()
        self._sequences: list[Sequence] = []
        self._track: int | None = None
        self._position = 0  # in the run of frames that show the track

    def feed(self, shot: Shot) -> Iterator[Slot]:
        """Take the next shot; hand out the frames that are done, in order."""
        slot = Slot(shot, done=shot.face is None)
        self._waiting.append(slot)
        track = None if shot.face is None else shot.face.track
        if track != self._track:
            self._begin(track)
        if shot.crop is not None:
            member = Member(slot, shot.crop, shot.item.out_time)
            self._sequences[self._position % len(self._sequences)].add(member)
            self._position += 1
        self._collect()
        while self._jobs and self._must_run():
            self._run_batch()
        yield from self._leaving()

    def finish(self) -> Iterator[Slot]:
        """The stream has ended: hand out the frames that are left."""
        self._begin(None)
        while self._jobs:
            self._run_batch()
        yield from self._leaving()
        assert not self._waiting

    def _must_run(self) -> bool:
        return len(self._jobs) >= self._settings.batch_size or len(self._waiting) > self._settings.most_waiting

    def _begin(self, track: int | None) -> None:
        """End the run of frames before, begin one of `track`."""
        for sequence in self._sequences:
            sequence.end()
        self._collect()
        settings = self._settings
        self._track, self._position, self._sequences = track, 0, []
        if track is not None:
            for _ in range(settings.sequences):
                sequence = Sequence(track, settings.overlap, settings.distance, settings.rule())
                self._sequences.append(sequence)

    def _collect(self) -> None:
        for sequence in self._sequences:
            self._jobs.extend(sequence.jobs())

    def _leaving(self) -> Iterator[Slot]:
        while self._waiting and self._waiting[0].done:
            yield self._waiting.popleft()

    def _run_batch(self) -> None:
        count = min(self._settings.batch_size, len(self._jobs))
        jobs = [self._jobs.popleft() for _ in range(count)]
        with self._watch.stage("encode"):
            self._encode(jobs)
        with self._watch.stage("denoise"):
            windows = self._denoise(jobs)
        with self._watch.stage("decode latents"):
            self._decode(jobs, windows)

    def _encode(self, jobs: list[Job]) -> None:
        """Fill in the latents that the jobs need and that no job before needed."""
        members = _unique([member for job in jobs for member in job.members if member.masked_latents is None])
        for member, latents in self._latents(members, masked=True):
            member.masked_latents = latents
        if self._settings.reference_latents is not None:
            return
        members = _unique([member for job in jobs for member in job.references if member.whole_latents is None])
        for member, latents in self._latents(members, masked=False):
            member.whole_latents = latents

    def _latents(self, members: list[Member], *, masked: bool) -> Iterator[tuple[Member, torch.Tensor]]:
        for start in range(0, len(members), VAE_BATCH):
            chunk = members[start : start + VAE_BATCH]
            encoded = self._networks.encode(np.stack([member.crop for member in chunk]), masked=masked)
            yield from zip(chunk, encoded, strict=True)

    def _denoise(self, jobs: list[Job]) -> torch.Tensor:
        """(b, 4, f, h, w) finished latents, a window a job."""
        settings = self._settings
        with self._watch.stage("audio"):
            tokens = torch.stack([self._voice.tokens([member.time for member in job.members]) for job in jobs])
            silence = self._networks.silence()
        return self._networks.denoise(
            settings.make_scheduler,
            torch.stack([self._noise(job) for job in jobs]),
            self._context(jobs),
            torch.stack([self._reference(job) for job in jobs]),
            branches(tokens, silence, settings.guidance_scale, settings.amplitude),
            settings.num_inference_steps,
        )

    def _context(self, jobs: list[Job]) -> torch.Tensor:
        masked = torch.stack([_stacked([member.masked_latents for member in job.members]) for job in jobs])
        return steady_context(masked, self._settings.context_steadiness)

    def _noise(self, job: Job) -> torch.Tensor:
        shape, seed, track = self._networks.latent_shape, self._settings.seed, job.sequence.track
        return torch.stack([frame_noise(seed, track, frame, shape) for frame in job.noise_positions()], dim=1)

    def _reference(self, job: Job) -> torch.Tensor:
        latents = self._settings.reference_latents
        if latents is not None:
            return latents[:, None].expand(-1, WINDOW_FRAMES, -1, -1)
        return _stacked([member.whole_latents for member in job.references])

    def _decode(self, jobs: list[Job], windows: torch.Tensor) -> None:
        """Fade every window into the one before it, and turn what is final into crops."""
        members: list[Member] = []
        finished: list[torch.Tensor] = []
        for job, latents in zip(jobs, windows, strict=True):
            final = job.sequence.fade.blend(job.window, latents)
            members += job.finished_members(final.shape[1])
            finished += final.unbind(1)
        for start in range(0, len(members), VAE_BATCH):
            chunk = members[start : start + VAE_BATCH]
            crops = self._networks.decode(torch.stack(finished[start : start + VAE_BATCH]))
            for member, crop in zip(chunk, crops, strict=True):
                self._finish(member, crop)

    def _finish(self, member: Member, crop: np.ndarray) -> None:
        assert member.slot is not None, "a frame is finished once"
        regenerated = self._networks.mask[..., None] >= 0.5
        member.slot.result = np.where(regenerated, crop, member.crop)
        member.slot.done = True
        member.slot = None


def _unique(members: list[Member]) -> list[Member]:
    """Without repetitions, in order."""
    return list({id(member): member for member in members}.values())


def _stacked(latents: list[torch.Tensor | None]) -> torch.Tensor:
    """(4, f, h, w) from f latents that are all there."""
    return torch.stack([one for one in latents if one is not None], dim=1)
