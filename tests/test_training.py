"""Training: a learning rate that rises and falls, a loss that weighs the mouth, a recipe that ends in a checkpoint."""

from __future__ import annotations

from shutil import copytree

import pytest
import torch
from training_unet import TINY_UNET

from latentsync.config import load_config
from latentsync.hub import load_components
from latentsync.training import articulation, autoencoder
from latentsync.training.embedded import EmbeddedRecipe
from latentsync.training.loop.recipe import train
from latentsync.training.loop.runtime import cosine_rate
from latentsync.training.unet import build as unet_build


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


@pytest.mark.usefixtures("one_thread")
def test_the_recipe_ends_in_a_checkpoint_that_loads(tmp_path) -> None:
    out = tmp_path / "out"
    overrides = [
        f"run_folder={tmp_path / 'run'}", f"checkpoint={out}", "synthetic.identities=2",
        "synthetic.clips_each=1", "synthetic.seconds=1.0", "synthetic.size=160", "validate_on=[synth_001_0]",
        "autoencoder.block_out_channels=[8,8]", "autoencoder.norm_groups=4",
        *(f"{name}.run.{key}=2" for name in ("autoencoder", "articulation") for key in ("steps", "batch")),
        "stage1.resolution=48", "stage1.data.most_frames=24", "stage1.data.looks.others=1", "stage1.data.looks.synth=1",
        "stage1.audio_encoder.mel={width: 8, levels: 2, hidden: 8}", *(f"stage1.{option}" for option in TINY_UNET),
        *(f"stage{n}.run.{key}=2" for n in (1, 2) for key in ("steps", "batch")),
        *(f"stage{n}.validation.windows=2" for n in (1, 2)), "stage1.windows.frames=4", "stage2.windows.frames=8",
    ]  # fmt: skip
    told: list[str] = []
    recipe = EmbeddedRecipe(load_config("embedded", overrides), told.append)
    assert recipe.stage2.data == recipe.stage1.data and recipe.stage2.resolution == 48
    components = load_components(recipe.run())
    assert components.settings.resolution == 48
    assert components.settings.scheduler["prediction_type"] == "v_prediction"
    assert components.settings.defaults == {
        "num_inference_steps": 6, "guidance_scale": 2.5, "scheduler": "ddim", "region": "mouth",
        "context_steadiness": 4.0,
    }  # fmt: skip
    assert components.unet.config["temporal"] == "decoder" and components.audio_encoder.width == 8
    stage1, stage2 = (load_components(tmp_path / "run" / name / "export") for name in ("stage1", "stage2"))
    assert torch.equal(stage1.vae.encoder.conv_in.weight.half().float(), components.vae.encoder.conv_in.weight)
    changed = {
        name.partition(".")[0]
        for name, tensor in stage2.unet.state_dict().items()
        if name in stage1.unet.state_dict() and not torch.equal(tensor, stage1.unet.state_dict()[name])
    }
    assert {"conv_in", "down_blocks", "up_blocks"} <= changed  # stage 2 trains everything
    figures = (tmp_path / "run" / "stage2" / "metrics.jsonl").read_text()
    assert "validation/audio_gain" in figures
    assert len(list((tmp_path / "run" / "cache" / "latents").iterdir())) == 3  # a clip, its other look, the held out
    before = len(told)
    EmbeddedRecipe(load_config("embedded", overrides), told.append).run()  # everything is there
    assert len(told) == before and (tmp_path / "run" / "stage2" / "metrics.jsonl").read_text() == figures
    more = EmbeddedRecipe(load_config("embedded", [*overrides, f"run_folder={tmp_path / 'more'}", f"start_from={out}"]))
    copytree(recipe.crops, more.crops)
    train(more.autoencoder, autoencoder.build)
    train(more.articulation, articulation.build)
    task, _ = unet_build.build(more.stage1)
    assert torch.equal(task.module.unet.conv_in.weight, components.unet.conv_in.weight)  # type: ignore[union-attr]
    assert more.stage2.temporal_from == str(out)  # stage 1 has none that could be handed on
