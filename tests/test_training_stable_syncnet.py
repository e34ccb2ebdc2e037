"""StableSyncNet's training: parts of a batch add up, it learns, warns when it does not, and ends in a checkpoint."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from data_talkers import SWITCHED, switcher, talker
from diffusers import AutoencoderKL

from latentsync.audio.mel import syncnet_mel
from latentsync.config import load_config
from latentsync.data.manifest import ManifestEntry, write_manifest
from latentsync.data.pair_checks import DataReport
from latentsync.data.pairs import SyncClip
from latentsync.hub import convert, load_stable_syncnet
from latentsync.training.loop.runner import RunConfig, run
from latentsync.training.sync.guard import SILENT_FOR, WATCHED, StuckGuard
from latentsync.training.sync.stable_syncnet import StableSyncNetTask, build, make_task, network_config
from latentsync.training.sync.validation import Scores, offset_figures, shifted_cosines
from latentsync.types import CheckpointError, InputError

TINY = [
    "input.size=16",
    "network.visual_encoder.block_out_channels=[32,32,32,128]",
    "network.visual_encoder.downsample_factors=[[1,2],2,2,2]",
    "network.visual_encoder.attn_blocks=[0,0,1,0]",
    "network.audio_encoder.block_out_channels=[32,32,32,128]",
    "network.audio_encoder.downsample_factors=[3,3,3,3]",
    "network.audio_encoder.attn_blocks=[0,0,1,0]",
    "validation={pairs: 12, offset_clips: 2, offset_reach: 4, offset_windows: 3, batch: 8}",
    "run.learning_rate=0.002", "run.schedule=constant", "run.warmup=0", "run.precision='no'", "run.ema_decay=0",
    "run.log_every=1", "run.workers=0", "pairs={negative_distance: 5, changed_looks: 0.0, crossed: false}",
]  # fmt: skip


def config(*more: str):
    return load_config("stable_syncnet_small", [*TINY, *more])


@pytest.fixture(scope="module")
def clips():
    return [talker(seed) for seed in range(8)]


def task(clips, *more: str) -> StableSyncNetTask:
    return make_task(config(*more), clips[:6], clips[6:])


@pytest.mark.parametrize(
    "name", ["stable_syncnet", "stable_syncnet_small", "stable_syncnet_latent", "stable_syncnet_small_latent"]
)
def test_the_configurations_describe_networks_that_can_be(name: str) -> None:
    network_config(load_config(name))


def test_parts_of_a_batch_give_the_gradient_of_the_whole(clips) -> None:
    made = task(clips)

    def gradients(parts: int) -> list[torch.Tensor]:
        made.module.zero_grad()
        for indices in np.split(np.arange(8), parts):
            loss = made.losses(made.module, made.batch(indices.tolist()), 0)["sync"]
            (loss / parts).backward()
        return [parameter.grad.clone() for parameter in made.module.parameters() if parameter.grad is not None]

    whole, pieces = gradients(1), gradients(4)
    assert len(whole) == len(list(made.module.parameters()))
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_crossed_pairs_cost_what_each_of_them_would_alone(clips) -> None:
    made = task(clips, "pairs.crossed=true")
    together = made.losses(made.module, made.batch(range(8)), 0)["sync"]
    alone = [made.losses(made.module, made.batch([index]), 0)["sync"] for index in range(8)]
    torch.testing.assert_close(together, torch.stack(alone).mean(), atol=1e-6, rtol=1e-5)


def test_it_learns_and_ends_in_a_checkpoint(tmp_path) -> None:
    clips = [switcher(seed) for seed in range(8)]
    options = config(
        "run.steps=8",
        "run.batch=16",
        "run.precision=bf16",
        "run.gradient_accumulation=2",
        f"pairs.negative_distance={SWITCHED}",
    )
    made = make_task(options, clips[:6], clips[6:])
    run(made, RunConfig.from_config(options.run), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 8 and losses[0] > 0.6 and losses[-1] < 0.35
    assert lines[-1]["validation/accuracy"] > 0.9 and lines[-1]["validation/auc"] > 0.95
    assert "validation/offset_accuracy" in lines[-1]
    loaded = load_stable_syncnet(tmp_path / "export")
    assert loaded.input.size == 16
    batch = made.batch(range(3))
    with torch.no_grad():
        for found, expected in zip(loaded(batch.images, batch.mel), made.module(batch.images, batch.mel), strict=True):
            torch.testing.assert_close(found, expected)
    made.figures = {}  # as in a run that was killed behind its last validation
    made.export(made.module.eval(), tmp_path / "export")
    assert "held-out accuracy" in (tmp_path / "export" / "README.md").read_text()
    with pytest.raises(CheckpointError):  # a published file cannot say its strides
        convert(tmp_path / "export", tmp_path / "out.pt")


def test_faults_are_told_before_the_first_step(clips) -> None:
    from dataclasses import replace

    mixed_up = [replace(clip, waveform=clips[0].waveform) for clip in clips]
    with pytest.raises(InputError, match=r"same sound as another clip.*keyed by file name"):
        task(mixed_up)
    short = replace(clips[1], crops=clips[1].crops[:20], landmarks=clips[1].landmarks[:20], times=clips[1].times[:20])
    with pytest.warns(UserWarning, match="1 of 6 clips are left out: talker_1 has 20 frames"):
        task([clips[0], short, *clips[2:]])
    with pytest.raises(InputError, match="no clips to validate on"):
        make_task(config(), clips, [])


def test_wrong_strides_and_a_missing_manifest_are_told_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="visual_encoder must end at 1x1"):
        build(config("input.size=32"))
    with pytest.raises(InputError, match="manifest=FILE"):
        build(config())


def write_manifest_of(clips, folder):
    entries = []
    for number, clip in enumerate(clips):
        np.savez(folder / f"{clip.name}.npz", lm=clip.landmarks, times=clip.times, wav=clip.waveform)
        np.save(folder / f"{clip.name}.crops.npy", clip.crops)
        np.save(folder / f"{clip.name}.mel.npy", syncnet_mel(clip.waveform).numpy())
        entries.append(
            ManifestEntry(
                source=f"{clip.name}.mp4", source_sha256="0" * 64, start=0.0, end=2.4, fps=25.0, frames=len(clip),
                speaker=f"speaker {number}", av_offset=0.0, confidence=1.0, quality=1.0,
                split="train" if number < 6 else "validation", clip=clip.name,
                mel=f"{clip.name}.mel.npy",
            )
        )  # fmt: skip
    return write_manifest(folder / "manifest.jsonl", entries, {})


def test_a_manifest_becomes_a_task(clips, tmp_path) -> None:
    manifest = write_manifest_of(clips, tmp_path)
    made, data_hash = build(config(f"manifest={manifest.path}", "pairs.cross_speaker=0.5"))
    assert data_hash == manifest.digest
    assert len(made.training.clips) == 6 and {clip.speaker for clip in made.held_out.clips} == {
        "speaker 6",
        "speaker 7",
    }
    batch = made.batch([0, 1])
    assert batch.images.shape == (2, 48, 8, 16) and batch.mel.shape == (2, 1, 80, 52)


def test_a_network_of_latents_trains_on_what_the_autoencoder_makes(clips, tmp_path) -> None:
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, **kinds).save_pretrained(  # type: ignore[arg-type]
        tmp_path / "vae"
    )
    changes = (
        "input={space: latent, size: 8}",
        f"vae={tmp_path / 'vae'}",
        f"run_folder={tmp_path}",
        "network.visual_encoder.in_channels=64",
        "network.visual_encoder.downsample_factors=[[1,2],2,2,1]",
        "pairs.latent_looks=2",
    )
    made, other_seed = task(clips, *changes), task(clips, *changes, "run.seed=7")
    looks = [
        [clip.look.contents for clip in some.training.clips if isinstance(clip, SyncClip) and clip.look]
        for some in (made, other_seed)
    ]
    assert len(looks[0]) == 6 * 2 and looks[0] == looks[1]
    assert not (tmp_path / "lower_latents").exists()  # a dry run comes this far
    made.prepare(torch.device("cpu"))
    batch = made.batch([0, 1])
    assert batch.images.shape == (2, 64, 4, 8) and made.resolution == 16
    assert len(made.training.clips) == 6 * 3 and len(made.held_out.clips) == 2  # nobody held out has another look
    assert made.losses(made.module, batch, 0)["sync"].isfinite()


def test_looks_of_latents_are_refused_where_pixels_are_seen(clips) -> None:
    with pytest.raises(InputError, match=r"pairs.latent_looks is 2 and the network looks at pixels.*changed_looks"):
        task(clips, "pairs.latent_looks=2")


def noted(guard: StuckGuard, losses) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step, loss in enumerate(losses):
            guard.note(step, torch.tensor(loss))
    return [str(warning.message) for warning in caught]


def test_a_loss_at_ln_2_is_told_with_the_likely_reasons() -> None:
    faults = {"the same sound as another clip": ["a", "b"]}
    report = DataReport(clips=9, looked_at=9, faults=faults, agreement=0.5, lag=8)
    told = noted(StuckGuard(report, batch=64), [math.log(2)] * (WATCHED + 5))
    assert len(told) == 1
    places = [told[0].index(text) for text in ("same sound as another clip", "lips by 8 frames", "run.batch is 64")]
    assert places == sorted(places)
    assert "pairs.crossed is false" in told[0]
    crossed = noted(StuckGuard(report, 64, crossed=True), [math.log(2)] * WATCHED)[0]
    assert "pairs.crossed" not in crossed and "run.batch" not in crossed  # fours learn from small batches
    clean = DataReport(clips=9, looked_at=9, agreement=0.2)
    assert "offset of sound and pictures" in noted(StuckGuard(clean, batch=1024), [0.69] * WATCHED)[0]


def test_a_silenced_network_is_told_from_one_that_learns_nothing() -> None:
    """Losses as they were seen: a network that early updates had silenced, and one that wavers about ln 2."""
    report, rng = DataReport(clips=9, looked_at=9, agreement=0.5), np.random.default_rng(0)
    for spread, told in ((1e-4, True), (0.02, False)):
        losses = math.log(2) + spread * rng.standard_normal(WATCHED)
        warning = noted(StuckGuard(report, batch=1024), losses.tolist())
        assert ("lower run.learning_rate or a longer run.warmup" in warning[0]) == told


def test_it_is_not_told_too_often_nor_without_cause() -> None:
    report = DataReport(clips=9, looked_at=9, agreement=0.5)
    assert len(noted(StuckGuard(report, 1024), [math.log(2)] * (WATCHED + SILENT_FOR + 5))) == 2
    assert noted(StuckGuard(report, 1024), np.linspace(0.9, 0.5, 600).tolist()) == []
    assert noted(StuckGuard(report, 1024), [0.4] * 600) == []


def test_a_short_run_is_watched_too(clips) -> None:
    """32 updates of 1024 pairs sat at 0.6931 to the end, and nothing was said."""
    report = DataReport(clips=9, looked_at=9, agreement=0.5)
    stuck = [math.log(2)] * 32
    told = noted(StuckGuard(report, 1024, updates=32), stuck)
    assert len(told) == 1 and "in the last 16 updates" in told[0]
    assert len(noted(StuckGuard(report, 1024, updates=12), stuck[:12])) == 1
    assert noted(StuckGuard(report, 1024, updates=8), stuck[:8]) == []  # too few to tell by
    assert noted(StuckGuard(report, 1024, updates=32), np.linspace(0.693, 0.5, 32).tolist()) == []
    assert len(noted(StuckGuard(report, 1024, updates=100_000), [math.log(2)] * WATCHED)) == 1
    assert len(noted(task(clips, "run.steps=32").guard, stuck)) == 1


def test_of_several_processes_one_tells(monkeypatch) -> None:
    report = DataReport(clips=9, looked_at=9, agreement=0.5)
    for process, told in (("0", 1), ("1", 0), ("7", 0)):
        monkeypatch.setenv("RANK", process)
        assert len(noted(StuckGuard(report, 1024), [math.log(2)] * WATCHED)) == told


def test_auc_counts_the_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    cosines, match = rng.random(40).round(1), rng.random(40) < 0.5
    pairs = [(a > b) + 0.5 * (a == b) for a in cosines[match] for b in cosines[~match]]
    assert Scores(cosines, match, 0.0).auc == pytest.approx(np.mean(pairs))
    assert Scores(np.array([0.9, 0.6, 0.5, 0.1]), np.array([True, False, True, False]), 0.0).accuracy() == 0.5


@pytest.mark.parametrize("late", [0, 1, 3])
def test_moved_sound_is_found_where_it_was_moved(late: int) -> None:
    visual = torch.eye(20)
    audio = torch.eye(20).roll(late, 0)  # the sound that belongs to window i is heard at i + late
    curve = shifted_cosines((visual, audio), reach=5)
    assert curve.shape == (10, 11) and (curve.argmax(axis=1) - 5 == late).all()
    expected = float(late <= 1)
    assert offset_figures([curve]) == {"offset_accuracy": expected, "clip_offset_accuracy": expected}
    assert offset_figures([]) == {}


def test_a_run_goes_on_from_a_checkpoint_of_the_same_shape(clips, tmp_path) -> None:
    first = task(clips, "run.seed=5")
    first.figures = {"loss": 0.5}
    first.export(first.module, tmp_path)
    assert not torch.equal(task(clips).module.state_dict()["audio_encoder.conv_in.weight"],
                           first.module.state_dict()["audio_encoder.conv_in.weight"])  # fmt: skip
    after = task(clips, f"start_from={tmp_path}").module.state_dict()
    for name, weight in first.module.state_dict().items():
        assert torch.equal(weight, after[name]), name


def test_a_checkpoint_of_another_shape_is_no_start(clips, tmp_path) -> None:
    first = task(clips)
    first.figures = {"loss": 0.5}
    first.export(first.module, tmp_path)
    strides = "network.visual_encoder.downsample_factors=[2,[1,2],2,2]"  # the weights would fit
    with pytest.raises(InputError, match=r"visual_encoder\.downsample_factors is \[\[1, 2\], 2, 2, 2\] and \[2"):
        task(clips, f"start_from={tmp_path}", strides)
    size = ("input.size=32", "network.visual_encoder.downsample_factors=[[2,4],2,2,2]")
    with pytest.raises(InputError, match=r"input\.size is 16 and 32 is asked for"):
        task(clips, f"start_from={tmp_path}", *size)
    with pytest.raises(CheckpointError):
        task(clips, "start_from=nowhere/at/all")
