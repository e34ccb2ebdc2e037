"""The renderer: every frame leaves once and in order, whatever tracks and gaps there are, with the right references."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines_fakes import FollowedNetworks, FollowedVoice, face, item, shots
from pipelines_tiny import RESOLUTION as TINY
from pipelines_tiny import LevelEncoder, tiny_components

from latentsync.diffusion.schedulers import make_scheduler
from latentsync.pipelines.networks import Networks
from latentsync.pipelines.progress import Stopwatch
from latentsync.pipelines.render import Renderer, RenderSettings
from latentsync.pipelines.scan import Shot
from latentsync.pipelines.sequences import Slot
from latentsync.pipelines.windows import WindowPlanner
from latentsync.types import WINDOW_FRAMES


def render_settings(**changes) -> RenderSettings:
    base = {
        "make_scheduler": partial(make_scheduler, "ddim"),
        "num_inference_steps": 1,
        "guidance_scale": 1.0,
        "amplitude": 1.0,
        "seed": 3,
        "overlap": 4,
        "batch_size": 1,
        "sequences": 1,
        "other_reference": True,
        "reference_latents": None,
    }
    return RenderSettings(**(base | changes))


def render(tracks, fps: float = 25.0, **changes) -> tuple[list[Slot], FollowedNetworks, FollowedVoice, int]:
    networks, voice = FollowedNetworks(), FollowedVoice()
    renderer = Renderer(networks, render_settings(**changes), voice, Stopwatch())
    left: list[Slot] = []
    most_waiting = 0
    for count, shot in enumerate(shots(tracks, fps), 1):
        left += renderer.feed(shot)
        most_waiting = max(most_waiting, count - len(left))
    left += renderer.finish()
    return left, networks, voice, most_waiting


RUNS = st.lists(st.tuples(st.sampled_from([None, 0, 1, 2]), st.integers(1, 45)), min_size=1, max_size=5)


@given(runs=RUNS, batch_size=st.integers(1, 3), sequences=st.integers(1, 3), overlap=st.integers(0, 8))
@settings(max_examples=40)
def test_every_frame_leaves_once_in_order_and_as_itself(runs, batch_size, sequences, overlap) -> None:
    tracks = [track for track, length in runs for _ in range(length)]
    left, _, _, _ = render(tracks, batch_size=batch_size, sequences=sequences, overlap=overlap)
    assert [slot.shot.item.out_index for slot in left] == list(range(len(tracks)))
    for index, (track, slot) in enumerate(zip(tracks, left, strict=True)):
        if track is None:
            assert slot.result is None
        else:
            assert slot.result is not None and (slot.result == index % 251).all()


def test_references_are_32_frames_away_and_each_picture_is_encoded_once() -> None:
    _, networks, _, _ = render([0] * 100)
    for frames, references, _ in networks.windows:
        for frame, reference in zip(frames, references, strict=True):
            assert abs(frame - reference) == 32
            assert reference == frame - 32 if frame >= 32 else reference == frame + 32
    for masked in (True, False):
        assert len(networks.encoded[masked]) == len(set(networks.encoded[masked]))
    assert sorted(networks.encoded[True]) == list(range(100))


def test_references_stay_inside_their_run() -> None:
    _, networks, _, _ = render([0] * 20 + [None] + [1] * 40)
    for frames, references, _ in networks.windows:
        first = range(20) if frames[0] < 20 else range(21, 61)
        assert set(frames) <= set(first) and set(references) <= set(first)
    short = [(f, r) for frames, references, _ in networks.windows if frames[0] < 20
             for f, r in zip(frames, references, strict=True)]  # fmt: skip
    assert all(abs(f - r) == max(f, 19 - f) for f, r in short), "on a short track the farthest frame"


def test_same_and_picture_references() -> None:
    _, same, _, _ = render([0] * 30, other_reference=False)
    assert all(frames == references for frames, references, _ in same.windows)
    picture = torch.full((4, 4, 4), 77.0)
    _, fixed, _, _ = render([0] * 30, reference_latents=picture)
    assert all(set(references) == {77} for _, references, _ in fixed.windows)
    assert fixed.encoded[False] == []


@pytest.mark.parametrize("length", [1, 2, 15])
def test_short_tracks_are_padded_by_their_last_frame(length: int) -> None:
    left, networks, _, _ = render([0] * length)
    ((frames, _, _),) = networks.windows
    assert frames == list(range(length)) + [length - 1] * (WINDOW_FRAMES - length)
    assert len(left) == length


def test_a_frame_has_the_same_noise_in_every_window_and_another_in_each_track() -> None:
    _, networks, _, _ = render([0] * 60 + [1] * 60)
    noises: dict[int, torch.Tensor] = {}
    for frames, _, noise in networks.windows:
        for place, frame in enumerate(frames):
            assert torch.equal(noises.setdefault(frame, noise[:, place]), noise[:, place])
    assert not torch.equal(noises[0], noises[1]) and not torch.equal(noises[0], noises[60])
    _, again, _, _ = render([0] * 60 + [1] * 60, seed=4)
    assert not torch.equal(again.windows[0][2], networks.windows[0][2])


def test_at_50_frames_a_second_two_sequences_share_their_noise() -> None:
    _, networks, voice, _ = render([0] * 120, fps=50.0, sequences=2)
    even, odd = ([w for w in networks.windows if w[0][0] % 2 == parity] for parity in (0, 1))
    assert len(even) == len(odd) > 3
    for (frames, _, noise), (others, references, other_noise) in zip(even, odd, strict=True):
        assert frames == list(range(frames[0], frames[0] + 32, 2))
        assert others == [frame + 1 for frame in frames]
        assert torch.equal(noise, other_noise)
        assert all(abs(f - r) == 32 for f, r in zip(others, references, strict=True)), "16 frames of its sequence"
    for times in voice.times:
        assert np.diff(times) == pytest.approx(0.04), "each sequence runs at 25 frames a second"


def test_windows_hear_each_frames_own_time() -> None:
    _, networks, voice, _ = render([0] * 40, fps=22.13)
    for (frames, _, _), times in zip(networks.windows, voice.times, strict=True):
        assert times == pytest.approx([frame / 22.13 for frame in frames])


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("sequences", [1, 2])
def test_few_frames_wait_however_long_the_video(batch_size: int, sequences: int) -> None:
    changes = {"batch_size": batch_size, "sequences": sequences}
    tracks = [0] * 230 + [None] * 400 + [1] * 5 + [None] * 400 + [2] * 150
    *_, networks, _, waiting = render(tracks, **changes)
    assert waiting <= render_settings(**changes).most_waiting + 1
    assert max(networks.batches) == batch_size
    *_, longer = render(tracks * 3, **changes)
    assert longer == waiting


def test_only_what_a_window_can_still_ask_for_is_kept() -> None:
    renderer = Renderer(FollowedNetworks(), render_settings(), FollowedVoice(), Stopwatch())
    most = 0
    for shot in shots([0] * 400):
        list(renderer.feed(shot))
        most = max(most, len(renderer._sequences[0]._members))
    assert most <= 32 + 3 * WINDOW_FRAMES


def test_no_joint_of_windows_stands_out() -> None:
    """The change of latents from frame to frame where windows fade, over that elsewhere, with frames that interact."""
    components = tiny_components()
    draw = torch.Generator().manual_seed(0)
    for name, weight in components.unet.named_parameters():
        if "motion_modules" in name and "proj_out" in name:
            weight.data.normal_(0, 0.3, generator=draw)
    networks = Networks(components, torch.device("cpu"), torch.float32, "sdpa", low_memory=False)
    schedule = partial(make_scheduler, "ddim", components.settings.scheduler)
    changes = {"make_scheduler": schedule, "num_inference_steps": 2, "guidance_scale": 1.5}
    renderer = Renderer(networks, render_settings(**changes), LoudnessVoice(), Stopwatch())
    finished: list[torch.Tensor] = []
    decode = networks.decode
    networks.decode = lambda latents: (finished.append(latents.clone()), decode(latents))[1]  # type: ignore[method-assign]
    for shot in moving_shots(110):
        list(renderer.feed(shot))
    list(renderer.finish())
    latents = torch.cat(finished)
    change = (latents[1:] - latents[:-1]).square().mean((1, 2, 3)).sqrt()
    joint = torch.zeros(len(latents), dtype=torch.bool)
    planner = WindowPlanner()
    _, *later = planner.plan(len(latents), ended=True)
    for window in later:
        joint[window.fresh : window.fresh + planner.overlap + 1] = True
    assert change[joint[1:]].mean() / change[~joint[1:]].mean() <= 1.05


class LoudnessVoice:
    """Tokens that follow the time."""

    def tokens(self, times) -> torch.Tensor:
        return torch.stack([torch.full((10, LevelEncoder.width), float(np.sin(9 * time))) for time in times])


def moving_shots(count: int):
    """Crops of a picture that moves on by a pixel a frame."""
    picture = np.random.default_rng(0).uniform(30, 220, (TINY, TINY + count, 3)).astype(np.uint8)
    for index in range(count):
        crop = np.ascontiguousarray(picture[:, index : index + TINY])
        yield Shot(item(index), "", face(0), np.eye(2, 3, dtype=np.float32), crop)
