"""The losses of the UNet: against formulas, diffusers, torch and the published layouts; what they see and what not."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel

from latentsync.diffusion.schedulers import scheduler_config
from latentsync.diffusion.targets import min_snr_weight, original_estimate, training_target
from latentsync.hub.videomae import load_video_features
from latentsync.losses.noise import noise_loss
from latentsync.losses.perceptual import Lpips, load_lpips, perceptual_loss
from latentsync.losses.trepa import trepa_loss
from latentsync.losses.weighted_sum import WeightedSum
from latentsync.models.videomae import VideoFeatures, from_v2, small_config
from latentsync.types import CheckpointError, InputError

TINY_VIDEO = {**small_config(size=16, patch=8, width=16, layers=2, heads=2), "decoder_num_attention_heads": 1}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def schedule(prediction: str) -> DDIMScheduler:
    return DDIMScheduler(**scheduler_config({"prediction_type": prediction, "set_alpha_to_one": True}))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_one_step_estimate_is_that_of_diffusers(prediction) -> None:
    found = schedule(prediction)
    noisy, answer = torch.randn(2, 3, 4, 2, 5, 5).unbind(1)[:2]
    timesteps = torch.tensor([40, 900])
    estimate = original_estimate(found, noisy, answer, timesteps)
    found.set_timesteps(1000)
    for one, z, a, t in zip(estimate, noisy, answer, timesteps.tolist(), strict=True):
        torch.testing.assert_close(one, found.step(a, t, z).pred_original_sample, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_answer_gives_back_the_clean_latents(prediction) -> None:
    found = schedule(prediction)
    latents, noise = torch.randn(2, 3, 4, 2, 5, 5)[:2]
    timesteps = torch.tensor([10, 500, 800])
    target = training_target(found, latents, noise, timesteps)
    if prediction == "v_prediction":
        torch.testing.assert_close(target, found.get_velocity(latents, noise, timesteps))
    estimate = original_estimate(found, found.add_noise(latents, noise, timesteps), target, timesteps)
    torch.testing.assert_close(estimate, latents, atol=1e-4, rtol=1e-4)


def test_min_snr_weighs_noisy_timesteps_down() -> None:
    weights = min_snr_weight(schedule("epsilon"), torch.tensor([0, 300, 600, 999]), gamma=5.0)
    assert weights[0] == 1.0 and (weights.diff() <= 0).all() and weights[-1] < 0.01
    signal = schedule("epsilon").alphas_cumprod[600]
    assert weights[2] == pytest.approx(float(signal / (1 - signal)) / 5)


def test_the_noise_loss_counts_what_is_regenerated() -> None:
    target, mask = torch.zeros(2, 4, 3, 8, 8), torch.zeros(8, 8)
    mask[4:] = 1
    above, below = target.clone(), target.clone()
    above[0, :, :, 0, 0], below[0, :, :, 7, 7] = 1.0, 1.0
    losses = [noise_loss(answer, target, mask, kept_weight=0.1) for answer in (above, below)]
    assert losses[1][0] == pytest.approx(10 * float(losses[0][0])) and losses[1][1] == 0
    assert noise_loss(above, target)[0] == pytest.approx(float(F.mse_loss(above[0], target[0])))


def test_a_loss_without_weight_is_not_wanted() -> None:
    weights = WeightedSum({"noise": 1.0, "sync": 0.05, "trepa": 0.0})
    assert weights.wants("sync", "trepa") and not weights.wants("trepa")
    ledger = weights.ledger({"noise": torch.tensor([1.0, 3.0]), "sync": torch.tensor(4.0)})
    assert ledger["noise"] == 2.0 and ledger["sync"] == pytest.approx(0.2)
    for wrong in ({"noise": -1.0}, {"noise": 0.0}):
        with pytest.raises(InputError, match="weights of the losses"):
            WeightedSum(wrong)


def lpips_by_hand(network: Lpips, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The paper's equation 1, layer by layer with functions of torch."""
    total = torch.zeros(len(one))
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    pair = [(image - shift[:, None, None]) / scale[:, None, None] for image in (one, other)]
    convolutions, head = [layer for layer in network.features if isinstance(layer, torch.nn.Conv2d)], 0
    for number, layer in enumerate(convolutions, start=1):
        pair = [F.relu(F.conv2d(image, layer.weight, layer.bias, padding=1)) for image in pair]
        if number in (2, 4, 7, 10, 13):
            a, b = (F.normalize(image, dim=1, eps=1e-10) for image in pair)
            total += ((a - b).square() * network.heads[head].weight[0]).sum(1).mean((1, 2))
            head += 1
            pair = [F.max_pool2d(image, 2) for image in pair]
    return total


def test_lpips_loads_torchvisions_names_and_follows_the_paper(tmp_path) -> None:
    network = Lpips()
    with torch.no_grad():
        for head in network.heads:
            head.weight.abs_()
    vgg = {
        f"features.{key.removeprefix('features.')}": value
        for key, value in network.state_dict().items()
        if "feat" in key
    }
    torch.save({**vgg, "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg16.pth")
    heads = {f"lin{i}.model.1.weight": head.weight.data for i, head in enumerate(network.heads)}
    torch.save(heads, tmp_path / "heads.pth")
    loaded = load_lpips(tmp_path / "vgg16.pth", tmp_path / "heads.pth")
    one, other = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(loaded(one, other), lpips_by_hand(network, one, other), atol=1e-6, rtol=1e-4)
    with pytest.raises(CheckpointError, match="does not hold the network"):
        load_lpips(tmp_path / "heads.pth", tmp_path / "heads.pth")
    with pytest.raises(InputError, match=r"weights\.perceptual=0"):
        load_lpips(None, tmp_path / "heads.pth")


def test_the_public_heads_fit(weights_dir, tmp_path) -> None:
    torch.save({k: v for k, v in Lpips().state_dict().items() if k.startswith("features.")}, tmp_path / "vgg16.pth")
    loaded = load_lpips(tmp_path / "vgg16.pth", weights_dir / "lpips_v0.1_vgg.pth")
    assert all((head.weight >= 0).all() for head in loaded.heads)


def test_the_perceptual_loss_sees_the_lower_half_only() -> None:
    network = Lpips()
    real = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    above, below = real.clone(), real.clone()
    above[..., :16, :] *= 0.5
    below[0, ..., 16:, :] *= 0.5
    assert torch.equal(perceptual_loss(network, above, real), torch.zeros(2))
    below.requires_grad_(True)
    losses = perceptual_loss(network, below, real)
    assert losses[0] != 0 and losses[1] == 0
    losses.sum().backward()
    assert below.grad is not None and below.grad.isfinite().all()


def video_features() -> VideoFeatures:
    return VideoFeatures(VideoMAEModel(VideoMAEConfig(**TINY_VIDEO)))


def test_trepa_compares_directions_of_whole_clips() -> None:
    critic = video_features()
    real = torch.rand(2, 16, 3, 16, 16) * 2 - 1
    generated = real.clone()
    generated[1] = generated[1].flip(0)  # the same pictures, the other way round in time
    generated.requires_grad_(True)
    losses = trepa_loss(critic, generated, real)
    with torch.no_grad():
        a, b = (F.normalize(critic.encoder(v / 2 + 0.5).last_hidden_state.mean(1), dim=1) for v in (generated, real))
    torch.testing.assert_close(losses, (a - b).square().mean(1), atol=1e-6, rtol=1e-4)
    assert losses[0] < 1e-10 < losses[1]
    losses.sum().backward()
    assert generated.grad is not None and generated.grad[1].abs().sum() > 0
    with pytest.raises(InputError, match=r"looks at 16 frames and windows have 8: .*windows\.frames"):
        trepa_loss(critic, generated[:, :8], real[:, :8])


def test_trepa_in_half_precision_still_tells_clips_apart_that_are_nearly_alike() -> None:
    """Vectors that were rounded to bf16 before they were compared gave many times the loss."""
    wide = VideoMAEModel(VideoMAEConfig(**small_config(size=32, patch=8, width=96, layers=2, heads=4)))
    exact, half = VideoFeatures(wide), VideoFeatures(deepcopy(wide))
    half.encoder.to(torch.bfloat16)
    real = torch.rand(1, 16, 3, 32, 32) * 2 - 1
    generated = real + 0.05 * torch.randn_like(real)
    expected = trepa_loss(exact, generated, real)
    with torch.autocast("cpu", torch.bfloat16):
        found = trepa_loss(half, generated, real)
    assert float(found) == pytest.approx(float(expected), rel=0.3)


class PublishedBlock(torch.nn.Module):
    """A block as VideoMAE-v2's own code names and computes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (torch.nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn = torch.nn.Module()
        self.attn.qkv, self.attn.proj = torch.nn.Linear(width, 3 * width, bias=False), torch.nn.Linear(width, width)
        self.attn.q_bias, self.attn.v_bias = (torch.nn.Parameter(torch.randn(width)) for _ in range(2))
        self.mlp = torch.nn.Module()
        self.mlp.fc1, self.mlp.fc2 = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, width = x.shape
        bias = torch.cat([self.attn.q_bias, torch.zeros(width), self.attn.v_bias])
        q, k, v = (
            F.linear(self.norm1(x), self.attn.qkv.weight, bias).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        mixed = ((q * (width / self.heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        x = x + self.attn.proj(mixed.transpose(1, 2).reshape(b, n, width))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


def published_video_network(width: int = 16, heads: int = 2, patch: int = 112) -> torch.nn.Module:
    network = torch.nn.Module()
    network.patch_embed = torch.nn.Module()
    network.patch_embed.proj = torch.nn.Conv3d(3, width, (2, patch, patch), (2, patch, patch))
    network.blocks = torch.nn.ModuleList(PublishedBlock(width, heads) for _ in range(2))
    network.fc_norm, network.head = torch.nn.LayerNorm(width, eps=1e-6), torch.nn.Linear(width, 5)
    return network


def test_video_mae_v2_is_read_by_its_published_names(tmp_path) -> None:
    network = published_video_network()
    features = from_v2(network.state_dict(), heads=2)
    videos = torch.rand(1, 16, 3, 224, 224)
    with torch.no_grad():
        hidden = network.patch_embed.proj(videos.transpose(1, 2)).flatten(2).transpose(1, 2)
        hidden = hidden + features.encoder.embeddings.position_embeddings
        for block in network.blocks:
            hidden = block(hidden)
        torch.testing.assert_close(features(videos), network.fc_norm(hidden.mean(1)), atol=1e-5, rtol=1e-4)
    with pytest.raises(CheckpointError, match="surplus"):
        from_v2({**network.state_dict(), "blocks.0.gamma_1": torch.ones(16)}, heads=2)
    torch.save({"module": network.state_dict()}, tmp_path / "v2.pth")
    with pytest.raises(CheckpointError, match="of unknown width"):
        load_video_features(tmp_path / "v2.pth")  # the published widths only: heads cannot be read off


def test_video_mae_is_loaded_as_it_was_saved(tmp_path) -> None:
    videos = torch.rand(1, 16, 3, 16, 16)
    classifier = VideoMAEForVideoClassification(VideoMAEConfig(**{**TINY_VIDEO, "use_mean_pooling": True}))
    torch.nn.init.normal_(classifier.fc_norm.weight)
    pretrained = VideoMAEForPreTraining(VideoMAEConfig(**TINY_VIDEO))
    for name, network in (("classifier", classifier), ("pretrained", pretrained)):
        network.eval().save_pretrained(tmp_path / name)
    with torch.no_grad():
        mean = classifier.videomae(videos).last_hidden_state.mean(1)
        torch.testing.assert_close(load_video_features(tmp_path / "classifier")(videos), classifier.fc_norm(mean))
        own = pretrained.videomae(videos).last_hidden_state.mean(1)
        torch.testing.assert_close(load_video_features(tmp_path / "pretrained")(videos), own)
    with pytest.raises(CheckpointError, match="is no VideoMAE that can be loaded"):
        load_video_features(tmp_path / "nowhere")
