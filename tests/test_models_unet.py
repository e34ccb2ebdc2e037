"""The UNet against the published network's answers, diffusers' own model and its own construction."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNetMotionModel
from safetensors.torch import load_file

from latentsync.models.unet import (
    LatentSyncUNet,
    TemporalTransformer,
    WindowGroupNorm,
    config_from_state_dict,
    diffusers_to_published,
    published_to_diffusers,
)
from latentsync.types import CheckpointError

TOLERANCE = 1e-4  # absolute, fp32
SMALL = {
    "block_out_channels": (16, 32, 48),
    "down_block_types": ("DownBlockMotion", "CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "motion_norm_num_groups": 16,
    "cross_attention_dim": 24,
    "num_attention_heads": 4,
    "motion_num_attention_heads": 4,
}


def published(parity_dir, stage: str) -> dict[str, torch.Tensor]:
    return torch.load(parity_dir / f"unet_{stage}.pt", weights_only=True)["state_dict"]


def loaded(state_dict: dict[str, torch.Tensor], **changes) -> LatentSyncUNet:
    unet = LatentSyncUNet(**{**config_from_state_dict(state_dict), **changes}).eval()
    unet.load_state_dict(published_to_diffusers(state_dict))
    return unet


def small(seed: int = 0, **changes) -> LatentSyncUNet:
    """A small network whose every parameter is random, the zeroed ones too."""
    torch.manual_seed(seed)
    unet = LatentSyncUNet(**{**SMALL, **changes}).eval()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return unet


def inputs(frames: int, size: int = 8, batch: int = 1, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, 13, frames, size, size, generator=generator)
    audio = torch.randn(batch * frames, 5, SMALL["cross_attention_dim"], generator=generator)
    return sample, torch.full((batch,), 300), audio


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_parity_with_the_published_network(parity_dir, stage, layout):
    unet = loaded(published(parity_dir, stage)).to(memory_format=layout)
    stored = load_file(parity_dir / f"unet_{stage}_io.safetensors")
    answer = unet(stored["sample"], stored["timesteps"], stored["audio_embeds"].flatten(0, 1)).sample
    torch.testing.assert_close(answer, stored["expected"], atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_parity_of_two_different_clips_in_one_batch(parity_dir):
    unet = loaded(published(parity_dir, "stage2"))
    stored = load_file(parity_dir / "unet_stage2_io.safetensors")
    other = torch.randn_like(stored["sample"]), torch.randn_like(stored["audio_embeds"])
    samples = torch.cat([stored["sample"], other[0]])
    audio = torch.cat([stored["audio_embeds"], other[1]])
    both = unet(samples, torch.stack([stored["timesteps"][0], torch.tensor(7)]), audio.flatten(0, 1)).sample
    alone = unet(other[0], 7, other[1].flatten(0, 1)).sample
    torch.testing.assert_close(both[:1], stored["expected"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(both[1:], alone, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_parity_of_the_decoder_only_variant_by_construction(parity_dir):
    stage2 = published(parity_dir, "stage2")
    efficient = {k: v for k, v in stage2.items() if not (k.startswith("down_blocks") and ".motion_modules." in k)}
    silenced = {
        k: v * 0 if k.startswith("down") and ".temporal_transformer.proj_out" in k else v for k, v in stage2.items()
    }
    assert config_from_state_dict(efficient)["temporal"] == "decoder"
    stored = load_file(parity_dir / "unet_stage2_io.safetensors")
    arguments = stored["sample"], stored["timesteps"], stored["audio_embeds"].flatten(0, 1)
    answer = loaded(efficient)(*arguments).sample
    torch.testing.assert_close(answer, loaded(silenced)(*arguments).sample, atol=TOLERANCE, rtol=0)
    assert (answer - stored["expected"]).abs().max() > 0.01


def test_parity_of_names_and_config(parity_dir):
    for stage, temporal in (("stage1", "none"), ("stage2", "all")):
        tensors = published(parity_dir, stage)
        config = config_from_state_dict(tensors)
        assert config["block_out_channels"] == (32, 32, 32, 32) and config["cross_attention_dim"] == 384
        assert config["temporal"] == temporal and config["layers_per_block"] == 2
        back = diffusers_to_published(loaded(tensors).state_dict())
        assert back.keys() == tensors.keys()
        assert all(torch.equal(back[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("temporal", ["all", "decoder", "none"])
def test_config_is_read_off_the_shapes_of_any_variant(temporal):
    unet = small(temporal=temporal, motion_max_seq_length=20)
    names = diffusers_to_published(unet.state_dict())
    config = config_from_state_dict(names)
    for key, value in config.items():
        assert unet.config[key] == value, key
    assert ("motion_max_seq_length" in config) == (temporal != "none")
    assert published_to_diffusers(names).keys() == unet.state_dict().keys()


def test_twin_position_tables_that_differ_are_refused():
    names = diffusers_to_published(small().state_dict())
    twin = next(key for key in names if key.endswith("attention_blocks.1.pos_encoder.pe"))
    names[twin] = names[twin] + 1
    with pytest.raises(CheckpointError, match="differs from its twin"):
        published_to_diffusers(names)


def test_tensors_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match=r"conv_in\.weight is missing"):
        config_from_state_dict({"encoder.weight": torch.zeros(2, 2)})


@torch.no_grad()
def test_one_frame_is_the_network_of_diffusers():
    ours = small(motion_norm_num_groups=SMALL["norm_num_groups"])
    theirs = UNetMotionModel(
        in_channels=13,
        use_motion_mid_block=False,
        motion_max_seq_length=24,
        up_block_types=("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
        **{key: value for key, value in SMALL.items() if key != "motion_norm_num_groups"},
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    arguments = inputs(frames=1)
    torch.testing.assert_close(ours(*arguments).sample, theirs(*arguments).sample, atol=1e-5, rtol=1e-5)
    arguments = inputs(frames=4)
    assert (ours(*arguments).sample - theirs(*arguments).sample).abs().max() > 1e-3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_window_norm_is_group_norm_over_five_axes(layout):
    reference = torch.nn.GroupNorm(4, 8)
    ours = WindowGroupNorm(4, 8)
    torch.nn.init.normal_(reference.weight)
    ours.load_state_dict(reference.state_dict())
    ours.num_frames = 3
    clips = torch.randn(2, 8, 3, 5, 6)
    frames = clips.transpose(1, 2).flatten(0, 1).contiguous(memory_format=layout)
    answer = ours(frames).unflatten(0, (2, 3)).transpose(1, 2)
    torch.testing.assert_close(answer, reference(clips), atol=1e-5, rtol=1e-5)


def test_temporal_module_normalises_each_frame_by_itself():
    module = TemporalTransformer(8, 2, max_frames=4, norm_num_groups=4)
    seen = []
    module.proj_in.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    frames = torch.randn(6, 8, 2, 5) * torch.tensor([1, 10, 100, 1, 10, 100.0])[:, None, None, None]
    module(frames, num_frames=3)
    tokens = seen[0].reshape(2, 2, 5, 3, 8).permute(0, 3, 4, 1, 2).flatten(0, 1)
    torch.testing.assert_close(tokens, torch.nn.functional.group_norm(frames, 4, eps=1e-6))


@torch.no_grad()
def test_new_temporal_modules_change_nothing():
    torch.manual_seed(3)
    still, moving = LatentSyncUNet(**SMALL, temporal="none"), LatentSyncUNet(**SMALL)
    missing, surplus = moving.load_state_dict(still.state_dict(), strict=False)
    assert missing and all(".motion_modules." in key for key in missing) and not surplus
    arguments = inputs(frames=3)
    torch.testing.assert_close(moving.eval()(*arguments).sample, still.eval()(*arguments).sample, atol=0, rtol=0)


def gradients(unet: LatentSyncUNet, interrupt: bool = False) -> list[torch.Tensor]:
    unet.zero_grad()
    loss = unet(*inputs(frames=4, batch=2)).sample.square().mean()
    if interrupt:
        unet(*inputs(frames=2))
    loss.backward()
    return [parameter.grad.clone() for parameter in unet.parameters()]


def test_gradient_checkpointing_recomputes_everything_the_same():
    unet = small()
    plain = gradients(unet)
    calls = []
    motion = unet.up_blocks[0].motion_modules[0].transformer_blocks[0]
    motion.register_forward_pre_hook(lambda *_: calls.append(1))
    unet.enable_gradient_checkpointing()
    for interrupt in (False, True):
        torch.testing.assert_close(gradients(unet, interrupt), plain)
    assert len(calls) == 2 + 3  # each pass and its recomputation, and the interruption
    unet.disable_gradient_checkpointing()
    gradients(unet)
    assert len(calls) == 6


@pytest.mark.parametrize(("frames", "size"), [(1, 12), (16, 6), (5, 7)])
@torch.no_grad()
def test_bf16_autocast_stays_near_fp32(frames, size):
    unet = small().to(memory_format=torch.channels_last)
    arguments = inputs(frames, size)
    exact = unet(*arguments).sample
    with torch.autocast("cpu", torch.bfloat16):
        rough = unet(*arguments).sample
    assert exact.shape == (1, 4, frames, size, size)
    assert (rough - exact).pow(2).mean().sqrt() < 0.05 * exact.std()


def test_config_survives_saving_and_copying(tmp_path):
    unet = small(temporal="decoder")
    unet.save_pretrained(tmp_path)
    again = LatentSyncUNet.from_pretrained(tmp_path)
    twin = copy.deepcopy(unet)
    for other in (again, twin):
        assert other.config.temporal == "decoder"
        assert other.state_dict().keys() == unet.state_dict().keys()
        assert all(torch.equal(tensor, unet.state_dict()[key]) for key, tensor in other.state_dict().items())


def test_unknown_choice_of_temporal_modules_is_an_error():
    with pytest.raises(ValueError, match="temporal is 'some'"):
        LatentSyncUNet(**SMALL, temporal="some")
