"""Fine-tuning: what is held out lies apart in time, and training sees what the checkpoint was made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models_tiny_vae import tiny_vae
from training_unet import RESOLUTION, clip
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from latentsync.audio.encoders import WhisperAudioEncoder
from latentsync.audio.mel_encoder import MelEncoder
from latentsync.config import load_config
from latentsync.data.manifest import ManifestEntry
from latentsync.diffusion.targets import training_target
from latentsync.hub import Settings, load_components, save_folder
from latentsync.hub.loras import unet_digest
from latentsync.models.unet import LatentSyncUNet
from latentsync.training.finetune import FineTuning, hold_out
from latentsync.training.loop.recipe import train
from latentsync.training.unet.build import make_task
from latentsync.training.unet.task import UNetTask
from latentsync.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH = 8  # of an audio token
SCHEDULE = {
    "beta_start": 0.00085, "beta_end": 0.02, "beta_schedule": "scaled_linear", "clip_sample": False,
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "steps_offset": 1,
    "prediction_type": "v_prediction", "timestep_spacing": "trailing",
}  # fmt: skip
DEFAULTS = {
    "num_inference_steps": 3,
    "guidance_scale": 2.5,
    "scheduler": "euler",
    "region": "mouth",
    "context_steadiness": 4.0,
}


def encoder_of(kind: str) -> MelEncoder | WhisperAudioEncoder:
    if kind == "mel":
        return MelEncoder(width=WIDTH, levels=1, hidden=8)
    shape = {"d_model": WIDTH, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 8}
    return WhisperAudioEncoder(WhisperEncoder(WhisperConfig(num_mel_bins=80, **shape)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("finetune"), "mel")


def write_checkpoint(folder: Path, kind: str) -> Path:
    """Unlike the recipe's defaults in everything that a checkpoint decides."""
    torch.manual_seed(4)
    unet = LatentSyncUNet(
        block_out_channels=(16, 16),
        down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion"),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        temporal="decoder",
    )
    settings = Settings(resolution=RESOLUTION, scheduler=SCHEDULE, defaults=DEFAULTS)
    return save_folder(folder / kind, unet=unet, vae=tiny_vae(), audio_encoder=encoder_of(kind), settings=settings)


def tuning(checkpoint: Path, folder: Path, *changes: str, config: str = "finetune") -> FineTuning:
    (folder / "anna.mp4").touch()
    given = [f"videos=['{folder / 'anna.mp4'}']", f"folder='{folder / 'anna'}'", f"checkpoint='{checkpoint}'"]
    quick = ["training.validation.windows=2", "training.run.batch=2", "training.run.steps=2", "training.lora.rank=2"]
    return FineTuning(load_config(config, [*given, *(quick if config == "finetune" else []), *changes]))


def test_several_processes_are_refused_before_anything_is_done(checkpoint, tmp_path, monkeypatch) -> None:
    """Every one of them would prepare, dub and write the same files."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        InputError, match=r"one process and 2 were launched.*without accelerate launch.*train/unet\.py.*lora\.rank"
    ):
        tuning(checkpoint, tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert tuning(checkpoint, tmp_path).name == "anna"


@pytest.mark.parametrize("kind", ["mel", "whisper"])
def test_training_sees_what_the_checkpoint_was_made_with(kind, tmp_path) -> None:
    checkpoint = write_checkpoint(tmp_path, kind)
    base = load_components(checkpoint)
    task = make_task(tuning(checkpoint, tmp_path).training, [clip("a")], [clip("b", seed=1)])
    assert isinstance(task, UNetTask)
    assert dict(task.frozen.schedule.config) | SCHEDULE == dict(task.frozen.schedule.config)
    assert task.settings.resolution == base.settings.resolution and task.settings.defaults == DEFAULTS
    assert task.settings.scheduler == base.settings.scheduler
    assert task.module.encoder is None and task.frozen.audio_encoder is not None
    assert type(task.frozen.audio_encoder) is type(base.audio_encoder)
    task.prepare(torch.device("cpu"))
    batch, noise = task.batch([0, 1]), []
    task.module.register_forward_hook(lambda *told: noise.append(told[2]))
    found = task.losses(task.module, {**batch, "heard": torch.ones(2)}, 0)["noise"]
    velocity = training_target(task.frozen.schedule, batch["latents"], batch["noise"], batch["timesteps"])
    expected = task.frozen.schedule.get_velocity(batch["latents"], batch["noise"], batch["timesteps"])  # type: ignore[arg-type]
    assert torch.equal(velocity, expected)
    weight = 0.05 + 0.95 * task.frozen.latent_mask
    by_hand = ((noise[0] - velocity).square() * weight).mean(dim=(1, 2, 3, 4)) / weight.mean()
    torch.testing.assert_close(found.mean(), by_hand.mean(), atol=1e-5, rtol=1e-4)
    # The UNet that the LoRA lies beside is the checkpoint's own: what it does at first is what that does.
    card = task.options.lora
    assert card is not None and card.base_unet == unet_digest(base.unet) and card.name == "anna"
    sample, tokens = torch.randn(1, 13, 4, 8, 8), torch.randn(4, 2, WIDTH)
    torch.testing.assert_close(task.module.unet(sample, 5, tokens).sample, base.unet(sample, 5, tokens).sample)


def test_a_lora_is_drawn_from_the_seed(checkpoint, tmp_path) -> None:
    drawn = []
    for state, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(state)
        task = make_task(tuning(checkpoint, tmp_path, f"training.run.seed={seed}").training, [clip("a")], [])
        drawn.append({name: p.clone() for name, p in task.module.named_parameters() if p.requires_grad})
    assert all(torch.equal(tensor, drawn[1][name]) for name, tensor in drawn[0].items())
    assert any(not torch.equal(tensor, drawn[2][name]) for name, tensor in drawn[0].items())


def test_both_kinds_end_in_a_checkpoint_and_a_lora_also_in_its_folder(checkpoint, tmp_path, monkeypatch) -> None:
    from latentsync.training import finetune

    monkeypatch.setattr(
        finetune, "read_clips", lambda config: ([clip("a"), clip("b", seed=1)], [clip("c", seed=2)], "x")
    )
    base = load_components(checkpoint)
    for config, changes in (("finetune", []), ("finetune_full", ["training.run.steps=2", "training.run.batch=2"])):
        folder = tmp_path / config
        folder.mkdir()
        changes += [f"training.{option}" for option in ("run.learning_rate=0.01", "run.precision=no")]
        changes += [f"training.{option}" for option in ("validation.windows=2", "run.validate_first=false")]
        job = tuning(checkpoint, folder, *changes, config=config)
        made = train(job.training, job.build)
        after = load_components(made / "export")
        assert after.settings == base.settings
        assert (made / "lora" / "lora.json").is_file() == (config == "finetune")
        before = {**base.unet.state_dict(), **base.audio_encoder.state_dict()}  # type: ignore[union-attr]
        now = {**after.unet.state_dict(), **after.audio_encoder.state_dict()}  # type: ignore[union-attr]
        assert now.keys() == before.keys()
        changed = {name for name, tensor in now.items() if not torch.equal(tensor, before[name].half().float())}
        attention = {name for name in changed if ".to_" in name}
        assert attention and (changed == attention) == (config == "finetune")
        assert not changed & set(base.audio_encoder.state_dict())  # type: ignore[union-attr]


SPANS = st.lists(st.tuples(st.integers(0, 2), st.floats(2.5, 10.0)), min_size=3, max_size=40)


def entries_of(spans: list[tuple[int, float]]) -> list[ManifestEntry]:
    """(source, seconds) of each segment; those of one source follow one another."""
    found, ends = [], {}
    for source, seconds in sorted(spans, key=lambda span: span[0]):
        start = ends.get(source, 0.0)
        ends[source] = start + seconds
        name = f"{source}.mp4"
        found.append(ManifestEntry(name, name, start, ends[source], 25.0, 1, "?", 0.0, 1.0, 1.0, "train", "c", "m"))
    return found


@given(SPANS, st.floats(0.05, 0.5))
def test_what_is_held_out_lies_behind_what_is_learned_from(spans, share) -> None:
    given = entries_of(spans)
    found = hold_out(given, share)
    assert [replace(entry, split="train") for entry in found] == given
    splits = [entry.split for entry in found]
    first = splits.index("validation")
    assert splits == ["train"] * first + ["validation"] * (len(found) - first)
    assert first >= 1 and len(found) - first >= 2
    for learned in found[:first]:
        assert all(kept.source != learned.source or kept.start >= learned.end for kept in found[first:])
    lengths = np.array([entry.end - entry.start for entry in found])
    if first > 1 and len(found) - first > 2:  # enough, and one less would not be
        assert lengths[first:].sum() >= share * lengths.sum() - 1e-5 > lengths[first + 1 :].sum() - 2e-5


def test_a_minute_in_one_take_and_three_second_clips() -> None:
    take = hold_out(entries_of([(0, 10.0)] * 6), 0.2)
    assert [entry.split for entry in take] == ["train"] * 4 + ["validation"] * 2
    clips = [replace(entry, source=str(n)) for n, entry in enumerate(entries_of([(0, 3.0)] * 40))]
    assert [entry.source for entry in hold_out(clips, 0.2) if entry.split == "validation"] == list(
        map(str, range(32, 40))
    )


def test_senseless_options_say_what_to_do(checkpoint, tmp_path) -> None:
    with pytest.raises(InputError, match=r"2 segment\(s\), and fine-tuning needs 3: give more video"):
        hold_out(entries_of([(0, 5.0)] * 2), 0.2)
    shard = tmp_path / "part.tar"
    shard.touch()
    for changes, told in (
        (["videos=[]"], "no video is given"),
        ([f"videos=['{tmp_path}/gone.mp4']"], "does not exist"),
        ([f"videos=['{shard}']"], r"no \.tar shards: unpack them first"),
        (["held_out=0"], "held_out is 0: give a share"),
        (["report.pairs=1"], r"report\.pairs at least 2"),
        (["training.audio_encoder.rate=0.1"], r"leave training\.audio_encoder\.rate at 0"),
        (["training.start_from=other"], r"training\.start_from is decided by the checkpoint"),
        (["training.resolution=64"], r"training\.resolution is decided by the checkpoint"),
        (["prepare.folder=elsewhere"], r"prepare\.folder is decided by the checkpoint"),
        (["checkpoint=nowhere"], "there is no nowhere"),
    ):
        with pytest.raises(InputError, match=told):
            tuning(checkpoint, tmp_path, *changes)


def test_a_lora_of_nothing_is_refused(tmp_path) -> None:
    config = load_config("unet/small", ["lora.rank=2", f"vae={tmp_path}"])
    config.vae = str(_vae(tmp_path / "vae"))
    with pytest.raises(InputError, match=r"lora\.rank changes a checkpoint, and none is named"):
        make_task(config, [], [])


def _vae(folder: Path) -> Path:
    tiny_vae().save_pretrained(folder)
    return folder
