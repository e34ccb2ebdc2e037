"""The losses of the UNet's critics in training, against their formulas: what counts how much, and what is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_unet import RESOLUTION, SYNCNET, options, write_material

from latentsync.hub import Settings, save_folder
from latentsync.models.stable_syncnet import StableSyncNet
from latentsync.training.unet import critics as critics_room
from latentsync.training.unet.build import build
from latentsync.training.unet.task import UNetTask

pytestmark = pytest.mark.usefixtures("one_thread")
LATENT_SYNCNET = {
    "visual_encoder": {
        "in_channels": 64, "block_out_channels": [32, 32, 64], "downsample_factors": [[1, 2], 2, 2],
        "attn_blocks": [0] * 3,
    },
    "audio_encoder": SYNCNET["audio_encoder"],
    "input": {"space": "latent", "frames": 16, "size": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = write_material(tmp_path_factory.mktemp("unet_losses"))
    torch.manual_seed(7)
    judge = {"stable_syncnet": StableSyncNet(LATENT_SYNCNET), "settings": Settings(resolution=RESOLUTION)}
    save_folder(folder / "critics" / "latent", **judge)
    return folder


class Squares(torch.nn.Module):
    """Stands for LPIPS where only what it is shown matters: the mean squared difference of two pictures."""

    def forward(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        return (images - others).square().mean(dim=(1, 2, 3))


def task_of(folder, *changes: str) -> UNetTask:
    task, _ = build(options(folder, "windows.audio_dropout=0", *changes))
    assert isinstance(task, UNetTask)
    task.prepare(torch.device("cpu"))
    for parameter in task.module.unet.conv_out.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return task


def batch_at(task: UNetTask, timesteps: list[int]) -> dict[str, torch.Tensor]:
    return {**task.batch(range(len(timesteps))), "timesteps": torch.tensor(timesteps)}


@torch.no_grad()
def estimate_of(task: UNetTask, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """x_0 = (z_t - sigma_t eps) / alpha_t of what the network answers to the batch."""
    answers: list[torch.Tensor] = []
    hook = task.module.register_forward_hook(lambda module, given, found: answers.append(found))
    task.losses(task.module, batch, 0)
    hook.remove()
    signal = task.frozen.schedule.alphas_cumprod[batch["timesteps"]].view(-1, 1, 1, 1, 1)
    noisy = signal.sqrt() * task.conditions(batch)[0] + (1 - signal).sqrt() * batch["noise"]
    return (noisy - (1 - signal).sqrt() * answers[0]) / signal.sqrt()


@torch.no_grad()
def test_min_snr_weighs_every_critic_by_the_timestep_and_leaves_the_noise_alone(material) -> None:
    chosen = ["weights.sync=1", "weights.trepa=1", *(f"losses.{name}" for name in named(material))]
    task = task_of(material, "losses.min_snr=5", *chosen)
    timesteps = [20, 300, 800]
    batch = batch_at(task, timesteps)
    found = task.losses(task.module, batch, 0)
    task.options = replace(task.options, min_snr=None)
    alone = [
        task.losses(task.module, {name: tensor[i : i + 1] for name, tensor in batch.items()}, 0)
        for i in range(len(timesteps))
    ]
    signal = task.frozen.schedule.alphas_cumprod[timesteps]
    counts = [min(float(ratio), 5.0) / 5.0 for ratio in signal / (1 - signal)]
    assert counts[0] == 1 > counts[1] > counts[2] > 0
    for name in ("sync", "trepa"):
        expected = sum(count * losses[name] for count, losses in zip(counts, alone, strict=True)) / len(counts)
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-3)
    plain = task.losses(task.module, batch, 0)
    assert plain["noise"] == found["noise"] and plain["sync"] > found["sync"] and plain["trepa"] > found["trepa"]


def named(folder) -> list[str]:
    """The critics of pixels and of motion, as options of `losses`."""
    return [f"sync_critic={folder / 'critics' / 'sync'}", f"trepa_critic={folder / 'critics' / 'videomae'}"]


def test_a_critic_of_latents_judges_the_estimate_itself_and_nothing_is_decoded(material, monkeypatch) -> None:
    task = task_of(material, "weights.sync=1", f"losses.sync_critic={material / 'critics' / 'latent'}")
    monkeypatch.setattr("latentsync.models.autoencoder.decode", lambda *_: pytest.fail("nothing has to be decoded"))
    batch = batch_at(task, [300, 500])
    assert not {"decoded", "frames"} & set(batch)
    batch["heard"] = torch.tensor([1.0, 0.0])
    found = task.losses(task.module, batch, 0)["sync"]
    critic, estimate = task.frozen.critics.sync.module, estimate_of(task, batch)  # type: ignore[union-attr]
    lower = estimate[:, :, :, 4:].transpose(1, 2).reshape(2, 64, 4, 8)  # all channels of frame 0 first
    with torch.no_grad():
        seen, heard = critic(lower, batch["sync_mel"])
    likely = (seen * heard).sum(dim=1)
    assert 0.01 < likely[0] < 0.99
    torch.testing.assert_close(found, -likely[0].log() / 2, atol=1e-6, rtol=1e-4)
    found.backward()
    assert task.module.unet.conv_out.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("also", [(), ("weights.sync=1",)])
def test_of_a_window_only_the_frames_that_were_drawn_are_compared(material, monkeypatch, also) -> None:
    monkeypatch.setattr(critics_room, "load_lpips", lambda *_: Squares())
    judge = f"losses.sync_critic={material / 'critics' / 'latent'}"  # it goes on to look at the whole window
    task = task_of(material, "weights.perceptual=1", "losses.decoded_frames=3", judge, *also)
    batch = batch_at(task, [300, 500])
    chosen = batch["decoded"]
    assert chosen.shape == (2, 3) and not torch.equal(*chosen) and batch["frames"].shape[1] == 16
    found = task.losses(task.module, batch, 0)
    estimate, vae, expected = estimate_of(task, batch), task.frozen.vae, []
    for window in range(2):
        for frame in chosen[window].tolist():
            raw = estimate[window, :, frame] / vae.config["scaling_factor"]
            with torch.no_grad():
                shown = vae.decode(raw[None]).sample[0]  # type: ignore[union-attr, arg-type]
            real = batch["frames"][window, frame] / 127.5 - 1
            expected.append((shown - real)[:, RESOLUTION // 2 :].square().mean())
    torch.testing.assert_close(found["perceptual"].detach(), torch.stack(expected).mean(), atol=1e-6, rtol=1e-4)
    assert set(found) == {"noise", "perceptual", *(["sync"] if also else [])}
