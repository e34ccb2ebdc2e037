"""The whole pipeline on tiny random networks: counts, times, pixels, seeds, faults in every thread, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pipelines_tiny import (
    HEIGHT,
    RESOLUTION,
    WIDTH,
    LevelEncoder,
    decoded,
    found_face,
    known_tracker,
    pipeline,
    times,
    tiny_components,
    write_speech,
    write_video,
)

from latentsync.data.synthetic import write_clip
from latentsync.faces.alignment import Aligner, anchor_points
from latentsync.faces.masks import inpaint_mask
from latentsync.faces.paste import paste_back
from latentsync.pipelines import progress
from latentsync.pipelines.dub import DubbingPipeline
from latentsync.types import CheckpointError, InputError

FRAMES = 45


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs with spaces ä")
    return write_video(folder / "talk.mp4", FRAMES), write_speech(folder / "new.wav", FRAMES / 25)


@pytest.fixture(scope="module")
def tiny():
    return pipeline()


def face_region() -> np.ndarray:
    """(h, w) bool: pixels that pasting may touch."""
    matrix = Aligner(RESOLUTION).matrix(anchor_points(found_face().landmarks))
    black, white = (np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in (0, 255))
    crop = np.full((RESOLUTION, RESOLUTION, 3), 128, np.uint8)
    mask = inpaint_mask(RESOLUTION)
    touched = [paste_back(image, crop, matrix, mask) != image for image in (black, white)]
    return (touched[0] | touched[1]).any(axis=-1)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.square(first.astype(float) - second).mean())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_frames_times_and_pixels(tiny, inputs, tmp_path) -> None:
    video, audio = inputs
    out = tmp_path / "dubbed.mp4"
    report = tiny.dub(video, audio, out, progress=False, report=tmp_path / "r.json")
    before, after = decoded(video), decoded(out)
    assert len(after) == len(before) == report.frames_out == report.frames_in == report.frames_dubbed == FRAMES
    assert times(out) == pytest.approx(times(video))
    region = face_region()
    assert psnr(before[:, ~region], after[:, ~region]) > 38, "random mouths cost the encoder bits next to them"
    assert np.abs(before[:, region].astype(int) - after[:, region]).mean() > 5
    assert names(tmp_path) == {"dubbed.mp4", "r.json"}


def test_the_report_tells_every_frame(inputs, tmp_path) -> None:
    video, audio = inputs
    dubbing = pipeline(lambda index: None if 10 <= index < 13 else int(index >= 13))
    report = dubbing.dub(video, audio, tmp_path / "o.mkv", progress=False, report=tmp_path / "r.json", seed=5)
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [row["frame"] for row in told["frames"]] == list(range(FRAMES))
    assert [row["dubbed"] for row in told["frames"]] == [not 10 <= index < 13 for index in range(FRAMES)]
    assert told["frames"][11]["why"] == "no face" and "box" not in told["frames"][11]
    assert told["frames"][14]["track"] == 1 and len(told["frames"][14]["box"]) == 4
    assert told["frames_skipped"] == report.frames_skipped == {"no face": 3}
    assert told["tracks"] == 2 and told["options"]["seed"] == 5 and told["checkpoint_digest"] == "random-0"
    assert {"decode", "track", "align", "encode", "denoise", "decode latents", "paste", "write"} <= set(told["seconds"])
    before, after = decoded(video), decoded(tmp_path / "o.mkv")
    assert psnr(before[10:13], after[10:13]) > 38, "frames without a face pass through"


def test_the_report_tells_scene_cuts(inputs, tmp_path) -> None:
    shots = [decoded(write_video(tmp_path / f"{seed}.mp4", count, seed=seed)) for seed, count in ((5, 20), (6, 14))]
    write_clip(tmp_path / "cut.mp4", np.concatenate(shots), fps=20)
    report = pipeline(tracker=None).dub(
        tmp_path / "cut.mp4", inputs[1], tmp_path / "o.mp4", progress=False, report=tmp_path / "r.json"
    )
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert told["scene_cuts"] == [{"frame": 20, "time": 1.0}] and report.tracks == 2
    assert [row["track"] for row in told["frames"]] == [0] * 20 + [1] * 14
    looped = pipeline(tracker=None).dub(
        tmp_path / "cut.mp4", write_speech(tmp_path / "long.wav", 3.4), tmp_path / "o.mp4", progress=False, fit="loop"
    )
    assert [cut.frame for cut in looped.scene_cuts] == [20, 54], "where the video starts again is a joint, no cut"


def test_the_same_seed_gives_the_same_bits(tiny, inputs, tmp_path) -> None:
    runs = []
    for name, seed in (("a.mkv", 1), ("b.mkv", 1), ("c.mkv", 2)):
        tiny.dub(*inputs, tmp_path / name, progress=False, seed=seed)
        runs.append(decoded(tmp_path / name))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("seconds", [0.8, 3.0])
@pytest.mark.parametrize("fit", ["cut", "loop", "pingpong", "hold", "keep"])
def test_length_policies(tiny, inputs, tmp_path, fit: str, seconds: float) -> None:
    video, _ = inputs
    audio = write_speech(tmp_path / "other.wav", seconds)
    report = tiny.dub(video, audio, tmp_path / "o.mp4", progress=False, fit=fit)
    heard = round(seconds * 25)
    longer = {"cut": FRAMES, "keep": FRAMES}.get(fit, heard)
    shorter = FRAMES if fit == "keep" else heard
    expected = longer if seconds > FRAMES / 25 else shorter
    assert report.frames_out == len(times(tmp_path / "o.mp4")) == expected
    if fit == "keep" and seconds < 1:
        assert report.frames_skipped == {"no face": FRAMES - heard}
    assert np.diff(times(tmp_path / "o.mp4")) == pytest.approx(1 / 25)


def test_high_frame_rates_keep_their_frames(tiny, inputs, tmp_path) -> None:
    fast = write_video(tmp_path / "fast.mp4", 60, fps=50)
    report = tiny.dub(fast, inputs[1], tmp_path / "o.mp4", progress=False)
    assert report.frames_out == report.frames_dubbed == 60
    assert np.diff(times(tmp_path / "o.mp4")) == pytest.approx(0.02)


def test_options_change_the_mouth(tiny, inputs, tmp_path) -> None:
    seen = {}
    for name, options in {
        "plain": {},
        "amplitude": {"amplitude": 0.5},
        "guidance": {"guidance_scale": 1.0},
        "same": {"reference": "same"},
        "scheduler": {"scheduler": "euler"},
        "steps": {"num_inference_steps": 3},
    }.items():
        tiny.dub(*inputs, tmp_path / f"{name}.mkv", progress=False, **options)
        seen[name] = decoded(tmp_path / f"{name}.mkv")
    for name in seen.keys() - {"plain"}:
        assert not np.array_equal(seen[name], seen["plain"]), name


def test_silence_says_the_same_whatever_the_noise_in_it(tiny, inputs, tmp_path) -> None:
    from latentsync.media.audio import write_wav

    hiss = 1e-4 * np.random.default_rng(1).standard_normal(16_000 * 2).astype(np.float32)
    write_wav(tmp_path / "hiss.wav", hiss, 16_000)
    write_wav(tmp_path / "still.wav", 0 * hiss, 16_000)
    seen = {}
    for name in ("hiss", "still"):
        for gate in (True, False):
            out = tmp_path / f"{name}-{gate}.mkv"
            tiny.dub(inputs[0], tmp_path / f"{name}.wav", out, progress=False, silence_gate=gate)
            seen[name, gate] = decoded(out)
    assert np.array_equal(seen["hiss", True], seen["still", True])
    assert np.array_equal(seen["still", False], seen["still", True])
    assert not np.array_equal(seen["hiss", False], seen["hiss", True])


class Fault(Exception):
    """Injected."""


def broken(place: str, kind: type[BaseException], monkeypatch):
    """A pipeline that fails in one of its threads after some frames."""
    if place == "reading":

        def track(frames):
            for item, faces, why in known_tracker()(frames):
                if item.out_index == 30:
                    raise kind("injected")
                yield item, faces, why

        return pipeline(tracker=track)
    if place == "writing":
        from latentsync.media.writer import VideoWriter

        write = VideoWriter.write

        def failing(self, image, time, duration):
            if time > 0.2:
                raise kind("injected")
            write(self, image, time, duration)

        monkeypatch.setattr(VideoWriter, "write", failing)
        return pipeline()
    dubbing = pipeline()

    def stop(*_):
        raise kind("injected")

    dubbing.networks.vae.register_forward_pre_hook(stop)
    monkeypatch.setattr(dubbing.networks, "decode", stop)
    return dubbing


@pytest.mark.parametrize("place", ["reading", "networks", "writing"])
@pytest.mark.parametrize("kind", [Fault, KeyboardInterrupt])
def test_a_fault_in_any_thread_leaves_nothing(place, kind, inputs, tmp_path, monkeypatch) -> None:
    dubbing = broken(place, kind, monkeypatch)
    with pytest.raises(kind, match="injected"):
        dubbing.dub(*inputs, tmp_path / "o.mp4", progress=False, report=tmp_path / "r.json")
    assert names(tmp_path) == set()


def test_no_face_anywhere(inputs, tmp_path) -> None:
    with pytest.raises(InputError, match="has no face that can be dubbed: no face \\(45 frames\\)"):
        pipeline(lambda index: None).dub(*inputs, tmp_path / "o.mp4", progress=False, report=tmp_path / "r.json")
    assert names(tmp_path) == set()


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pipelines_tiny import pipeline
dubbing = pipeline()
decode = dubbing.networks.decode
def slow(latents):
    print("working", flush=True)
    time.sleep(60)
dubbing.networks.decode = slow
dubbing.dub(sys.argv[2], sys.argv[3], sys.argv[4], progress=False, report=sys.argv[5])
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_killed_in_the_middle_nothing_has_the_final_name_and_the_next_run_tidies(tiny, inputs, tmp_path) -> None:
    out, told = tmp_path / "o.mp4", tmp_path / "r.json"
    arguments = [str(Path(__file__).parent), *map(str, inputs), str(out), str(told)]
    job = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None and job.stdout.readline() == "working\n"
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not out.exists() and not told.exists()
    assert names(tmp_path), "temporaries of the killed job"
    tiny.dub(*inputs, out, progress=False, report=told)
    assert names(tmp_path) == {"o.mp4", "r.json"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"amplitud": 1.2}, "unknown option 'amplitud'; did you mean amplitude"),
        ({"amplitude": 2}, "between 0.5 and 1.5"),
        ({"overlap": 12}, "between 0 and 8"),
        ({"num_inference_steps": 0}, "between 1 and 1000"),
        ({"scheduler": "plms"}, "no scheduler 'plms'"),
        ({"face": "left"}, "give a number from 0"),
        ({"face": [1, 2, 3]}, "give a number from 0"),
        ({"seed": 1, "face_photo": "me.jpg"}, "belong together"),
        ({"num_inference_steps": "many"}, "wrong kind"),
        ({"reference": "nobody.jpg"}, "nobody.jpg' cannot be read"),
    ],
)
def test_bad_options_are_one_sentence(tiny, inputs, tmp_path, options, sentence) -> None:
    with pytest.raises(InputError) as failure:
        tiny.dub(*inputs, tmp_path / "o.mp4", progress=False, **options)
    assert sentence in str(failure.value) and "\n" not in str(failure.value)
    assert names(tmp_path) == set()


def test_outputs_never_replace_inputs(tiny, inputs, tmp_path) -> None:
    video, audio = inputs
    before = video.read_bytes()
    for out, report in ((video, None), (tmp_path / "o.mp4", audio), (tmp_path / "o.mp4", tmp_path / "o.mp4")):
        with pytest.raises(InputError, match="same file"):
            tiny.dub(video, audio, out, report=report, progress=False)
    with pytest.raises(InputError, match="does not exist"):
        tiny.dub(video, audio, tmp_path / "none" / "o.mp4", progress=False)
    assert video.read_bytes() == before and names(tmp_path) == set()


def test_a_reference_picture(tiny, inputs, tmp_path) -> None:
    import cv2

    picture = np.random.default_rng(2).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "face.png"), picture)
    tiny.dub(*inputs, tmp_path / "o.mkv", progress=False, reference=tmp_path / "face.png")
    tiny.dub(*inputs, tmp_path / "p.mkv", progress=False)
    assert not np.array_equal(decoded(tmp_path / "o.mkv"), decoded(tmp_path / "p.mkv"))
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match="is not a picture"):
        tiny.dub(*inputs, tmp_path / "q.mkv", progress=False, reference=tmp_path / "text.jpg")


def test_a_photo_chooses_and_sees_every_frame(inputs, tmp_path, monkeypatch) -> None:
    class Matcher:
        """Knows the person from the fifth frame on."""

        def __init__(self, weights, photo, detector):
            assert (weights.name, photo.name) == ("net.ckpt", "me.jpg")
            self.seen = 0

        def watch(self, tracked):
            for item, faces, reason in tracked:
                self.seen += 1
                yield item, faces, reason

        def choose(self, faces, frame_size):
            assert frame_size == (WIDTH, HEIGHT)
            return faces[0] if self.seen >= 5 else None

    monkeypatch.setattr("latentsync.faces.identity.IdentityMatcher", Matcher)
    photo = {"face_photo": "me.jpg", "identity_weights": "net.ckpt"}
    report = pipeline().dub(*inputs, tmp_path / "o.mp4", progress=False, **photo)
    assert report.frames_skipped == {"the chosen face is not in this frame": 4}


def test_a_dry_run_writes_nothing_and_counts(inputs, tmp_path) -> None:
    found = pipeline(lambda index: None if index < 9 else 0).estimate(*inputs, tmp_path / "o.mp4")
    assert found.frames == found.sampled_frames == FRAMES
    assert found.face_share == pytest.approx(36 / 45) and found.skipped == {"no face": 9}
    assert found.windows == 3 and found.seconds is not None and found.seconds > 0
    assert "nothing was written" in found.describe()
    assert names(tmp_path) == set()


def test_low_memory_gives_the_same_picture(tiny, inputs, tmp_path) -> None:
    tiny.dub(*inputs, tmp_path / "a.mkv", progress=False)
    pipeline(low_memory=True).dub(*inputs, tmp_path / "b.mkv", progress=False)
    assert psnr(decoded(tmp_path / "a.mkv"), decoded(tmp_path / "b.mkv")) > 45


def test_progress_reaches_the_end(tiny, inputs, tmp_path) -> None:
    told = []
    tiny.dub(*inputs, tmp_path / "o.mp4", progress=told.append)
    assert [now.frames for now in told] == [*range(1, FRAMES + 1), FRAMES]
    assert told[-1].stage == "done" and told[-1].percent == 100
    assert told[20].percent == pytest.approx(100 * 21 / FRAMES)
    assert told[20].eta > 0 and told[-1].eta == 0


def test_time_to_go_is_time_taken_scaled_by_what_is_left(monkeypatch) -> None:
    clock, told = [100.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    reporter = progress.ProgressReporter(told.append, expected_frames=40)
    for _ in range(30):
        clock[0] += 0.5
        reporter.frame()
    assert told[29].eta == pytest.approx(15.0 * 10 / 30)


@pytest.mark.parametrize("change", [{"window_frames": 24}, {"fps": 30.0}])
def test_a_checkpoint_for_other_windows_is_refused(change) -> None:
    components = tiny_components()
    vars(components.settings).update(change)
    with pytest.raises(CheckpointError, match="this version dubs with 16 at 25"):
        DubbingPipeline(components, device="cpu")


def test_devices_precisions_and_attention_that_are_not_there() -> None:
    from latentsync.pipelines.device import choose_device, choose_dtype

    for name in ("tpu", "cuda:99", "cuda:x"):
        with pytest.raises(InputError, match="device"):
            choose_device(name)
    with pytest.raises(InputError, match="precision"):
        choose_dtype(choose_device("cpu"), "int4")
    with pytest.raises(InputError, match="xformers cannot be used here"):
        pipeline(attention="xformers")
    with pytest.raises(InputError, match="choose sdpa or xformers"):
        pipeline(attention="flash")


@pytest.mark.parametrize(
    ("processor", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"avx512_bf16": False, "amx_bf16": False}, torch.float32)],
)
def test_the_cpu_computes_in_bf16_where_it_can(processor, expected, monkeypatch) -> None:
    from latentsync.pipelines.device import choose_dtype

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    assert choose_dtype(torch.device("cpu")) == expected


def test_a_checkpoint_folder_dubs_as_its_networks_do(inputs, tmp_path) -> None:
    from latentsync.audio.mel_encoder import MelEncoder
    from latentsync.hub import Settings, save_folder

    components = tiny_components()
    components.audio_encoder = MelEncoder(width=LevelEncoder.width, levels=1, hidden=8)
    settings = Settings(RESOLUTION, scheduler=components.settings.scheduler, defaults=components.settings.defaults)
    folder = save_folder(
        tmp_path / "checkpoint", unet=components.unet, vae=components.vae,
        audio_encoder=components.audio_encoder, settings=settings,
    )  # fmt: skip
    loaded = DubbingPipeline.from_pretrained(folder, device="cpu", dtype="fp32")
    loaded._tracker = known_tracker()
    report = loaded.dub(*inputs, tmp_path / "a.mkv", progress=False)
    direct = DubbingPipeline(components, device="cpu", dtype="fp32", tracker=known_tracker())
    direct.dub(*inputs, tmp_path / "b.mkv", progress=False)
    assert np.array_equal(decoded(tmp_path / "a.mkv"), decoded(tmp_path / "b.mkv"))
    assert report.checkpoint == str(folder) and len(report.checkpoint_digest) == 64
    assert report.precision == "fp32" and report.device == "cpu"
