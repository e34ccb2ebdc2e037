"""Training: runs that resume as if nothing had happened, an encoder that learns, a recipe that ends in a checkpoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from latentsync.audio.mel_encoder import MelEncoder
from latentsync.config import load_config
from latentsync.data.latents import LatentClip, WindowSampler
from latentsync.data.sound import ClipSound
from latentsync.models.unet import LatentSyncUNet
from latentsync.training import autoencoder
from latentsync.training.denoising import Denoiser, DenoisingRecipe, DenoisingRun
from latentsync.training.embedded import SCHEDULE, EmbeddedRecipe
from latentsync.training.runtime import cosine_rate

TINY_UNET = {
    "block_out_channels": [16, 16],
    "down_block_types": ["DownBlockMotion", "CrossAttnDownBlockMotion"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 8,
    "num_attention_heads": 2,
    "motion_num_attention_heads": 2,
    "motion_norm_num_groups": 8,
}


def tiny_run(folder, steps: int) -> DenoisingRun:
    torch.manual_seed(0)
    unet, encoder = LatentSyncUNet(temporal="decoder", **TINY_UNET), MelEncoder(width=8, levels=2, hidden=8)
    recipe = DenoisingRecipe(
        steps=steps, windows=2, frames=4, learning_rate=1e-3, encoder_rate=0.5, warmup=2, ema_decay=0.9, seed=3,
        save_every=2,
    )  # fmt: skip
    return DenoisingRun(recipe, Denoiser(unet, encoder, DDIMScheduler(**SCHEDULE), torch.ones(8, 8)), folder)


def tiny_sampler() -> WindowSampler:
    rng = np.random.default_rng(0)
    clips = [
        LatentClip(
            f"{name}_1",
            torch.from_numpy(rng.standard_normal((4, 40, 8, 8)).astype(np.float16)),
            torch.from_numpy(rng.standard_normal((4, 40, 8, 8)).astype(np.float16)),
            np.arange(40) * 2,
            ClipSound((rng.standard_normal(16_000 * 2) * 0.1).astype(np.float32)),
        )
        for name in "ab"
    ]
    return WindowSampler(clips, {}, seed=3)


def test_a_killed_run_goes_on_with_the_same_losses(tmp_path) -> None:
    sampler = tiny_sampler()
    whole = tiny_run(tmp_path / "whole", steps=6)
    losses = [whole.train_step(sampler) for _ in range(6)]
    first = tiny_run(tmp_path / "killed", steps=6)
    for _ in range(3):
        first.train_step(sampler)
    first.save()
    second = tiny_run(tmp_path / "killed", steps=6)
    second.resume()
    assert [second.train_step(sampler) for _ in range(3)] == losses[3:]
    whole.average()
    second.average()
    for expected, found in zip(whole.denoiser.parameters(), second.denoiser.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_the_averaged_weights_are_those_of_validation_only(tmp_path) -> None:
    run = tiny_run(tmp_path, steps=2)
    held_out = tiny_sampler().batch(99, 2, 4)
    lines: list[str] = []
    run.run(tiny_sampler(), held_out, lines.append)
    trained = [parameter.clone() for parameter in run.denoiser.parameters()]
    again = tiny_run(tmp_path, steps=2)
    again.resume()
    assert all(torch.equal(a, b) for a, b in zip(trained, again.denoiser.parameters(), strict=True))
    assert len(lines) == 1 and "audio gain" in lines[0]


def test_loss_without_audio_does_not_hear(tmp_path) -> None:
    run, batch = tiny_run(tmp_path, steps=1), tiny_sampler().batch(0, 2, 4)
    for module in run.denoiser.unet.modules():
        if isinstance(module, torch.nn.Linear) and module.weight.abs().sum() == 0:
            torch.nn.init.normal_(module.weight, std=0.1)  # new temporal modules add nothing; let everything count
    still, silent, heard = torch.zeros_like(batch.latents), torch.zeros(2), torch.ones(2)
    swapped = replace(batch, mel=batch.mel.flip(0))
    without, again, with_audio = (
        run.denoiser.loss(windows, torch.tensor([500, 500]), still, hearing)
        for windows, hearing in ((batch, silent), (swapped, silent), (swapped, heard))
    )
    assert torch.equal(without, again)
    assert not torch.equal(again, with_audio)


def test_the_learning_rate_rises_and_falls() -> None:
    rate = cosine_rate(steps=100, warmup=10)
    curve = [rate(step) for step in range(101)]
    assert curve[0] == pytest.approx(0.1) and curve[9] == pytest.approx(1.0) and curve[100] == pytest.approx(0.02)
    assert curve[10:] == sorted(curve[10:], reverse=True)


def test_the_reconstruction_loss_weighs_the_mouth() -> None:
    target = torch.zeros(1, 3, 8, 8)
    weight = torch.ones(8, 8)
    weight[4:] = 3
    above, below = target.clone(), target.clone()
    above[..., 1, 4], below[..., 6, 4] = 0.5, 0.5
    losses = [autoencoder.reconstruction_loss(image, target, weight).item() for image in (above, below)]
    assert losses[1] == pytest.approx(3 * losses[0])


def test_the_recipe_ends_in_a_checkpoint_that_loads(tmp_path) -> None:
    from latentsync.hub import load_components

    overrides = [
        f"run_folder={tmp_path / 'run'}", f"export.folder={tmp_path / 'out'}", "resolution=48", "most_frames=24",
        "synthetic.identities=2", "synthetic.clips_each=1", "synthetic.seconds=1.0", "synthetic.size=160",
        "leave_out=[synth_001_0]", "validate_on=[synth_001_0]", "shares={}",
        "autoencoder.block_out_channels=[8,8]", "autoencoder.norm_groups=4",
        "autoencoder.steps=2", "autoencoder.batch=2",
        "mel_encoder={width: 8, levels: 2, hidden: 8}", "articulation.steps=2", "articulation.batch=2",
        *(f"unet.{key}={value}" for key, value in TINY_UNET.items()),
        *(f"stage{n}.{key}={value}" for n in (1, 2) for key, value in {"steps": 2, "windows": 2, "frames": 4}.items()),
    ]  # fmt: skip
    lines: list[str] = []
    config = load_config("embedded", [text.replace(" ", "") if "[" in text else text for text in overrides])
    folder = EmbeddedRecipe(config, lines.append).run()
    components = load_components(folder)
    assert components.settings.resolution == 48
    assert components.unet.config.temporal == "decoder"
    assert any(line.startswith("stage2") for line in lines)
    before = len(lines)
    EmbeddedRecipe(config, lines.append).run()  # everything is there: nothing is trained again
    assert len(lines) == before
