"""The stages before the UNet: killed in the middle they go on bit for bit, and their results hold what was trained."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_task import Killed, lines
from training_unet import RESOLUTION, write_clips

from latentsync.config import load_config
from latentsync.hub import load_audio_encoder, load_vae
from latentsync.training import articulation, autoencoder
from latentsync.training.embedded import EmbeddedRecipe
from latentsync.training.loop.recipe import train
from latentsync.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
STAGES = {"autoencoder": autoencoder, "articulation": articulation}
SMALL = (
    "validate_on=[c_1]", f"stage1.resolution={RESOLUTION}",
    "stage1.audio_encoder.mel={width: 8, levels: 2, hidden: 8}", "autoencoder.block_out_channels=[8,8]",
    "autoencoder.norm_groups=4",
    *(f"{name}.run.{key}={value}" for name in STAGES for key, value in
      {"steps": 5, "batch": 2, "warmup": 2, "save_every": 2, "validate_every": 2, "log_every": 1}.items()),
)  # fmt: skip


def recipe(folder: Path) -> EmbeddedRecipe:
    """The recipe, its clips prepared; their lips move at random."""
    made = EmbeddedRecipe(load_config("embedded", [f"run_folder={folder}", *SMALL]))
    write_clips(made.crops)
    for seed, path in enumerate(sorted(made.crops.glob("*.npz"))):
        with np.load(path) as arrays:
            values = dict(arrays)
        values["lm"] = np.random.default_rng(seed).normal(100, 30, values["lm"].shape).astype(np.float32)
        np.savez(path, **values)
    return made


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor that a stage exported."""
    (file,) = folder.rglob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_killed_in_the_middle_goes_on_bit_for_bit(name, tmp_path, monkeypatch) -> None:
    module = STAGES[name]
    stages = {kind: getattr(recipe(tmp_path / kind), name) for kind in ("whole", "killed")}
    train(stages["whole"], module.build)
    _killed(stages["killed"], module, monkeypatch)
    assert lines(Path(stages["killed"].run_folder))[-1]["step"] == 3  # one more than the checkpoint holds
    train(stages["killed"], module.build)
    whole, killed = (Path(stages[kind].run_folder) for kind in ("whole", "killed"))
    assert lines(killed) == lines(whole)
    assert len({entry["loss"] for entry in lines(whole) if "loss" in entry}) == 5
    found, expected = (weights(folder / "export") for folder in (killed, whole))
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_what_the_stages_leave_is_what_the_unet_loads(tmp_path) -> None:
    made = recipe(tmp_path)
    train(made.autoencoder, autoencoder.build)
    train(made.articulation, articulation.build)
    vae, encoder = load_vae(made.stage1.vae), load_audio_encoder(made.stage1.audio_encoder.load)
    assert encoder.width == 8
    task, _ = autoencoder.build(made.autoencoder)
    images = task.batch(range(autoencoder.SCALED_BY))["images"]
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.mode() * vae.config["scaling_factor"]
    assert float(latents.std()) == pytest.approx(1.0, abs=1e-3)


def test_two_videos_of_one_name_are_not_mixed_up(tmp_path) -> None:
    videos = [tmp_path / name / "clip.mp4" for name in ("ann", "bob")]
    for video in videos:
        video.parent.mkdir()
        video.touch()
    made = EmbeddedRecipe(load_config("embedded", [f"run_folder={tmp_path / 'run'}", f"videos=[{tmp_path}]"]))
    with pytest.raises(InputError, match="have the same name"):
        made.prepare()


def _killed(stage, module: ModuleType, monkeypatch) -> None:
    """Begin a stage that ends before its fourth update."""

    def build(config):
        task, data_hash = module.build(config)
        losses = task.losses

        def until(network, batch, step):
            if step == 3:
                raise Killed
            return losses(network, batch, step)

        monkeypatch.setattr(task, "losses", until)
        return task, data_hash

    with pytest.raises(Killed):
        train(stage, build)
