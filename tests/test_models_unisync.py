"""UniSync: the printed size, its properties by construction, every pair of representations, shapes told beforehand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from latentsync.config import load_config
from latentsync.hub import Settings, load_unisync, save_folder
from latentsync.models.unisync import UniSync
from latentsync.models.unisync_shapes import check_network
from latentsync.types import CheckpointError, InputError

WIDTHS = {"rgb": 3, "parsing": 7, "landmarks": 40, "3dmm": 58, "mel": 80, "features": 96}


def described(config: str = "unisync", visual: str = "rgb", audio: str = "mel") -> dict[str, Any]:
    found: Any = OmegaConf.to_container(load_config(config).network, resolve=True)
    size = load_config(config).visual.size
    return {
        **found,
        "visual": {"kind": visual, "width": WIDTHS[visual], "size": size},
        "audio": {"kind": audio, "width": WIDTHS[audio]},
    }


def inputs(network: UniSync, batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    side, width = network.visual.size, network.visual.width
    visual = {
        "rgb": torch.randn(batch, 15, side // 2, side),
        "parsing": torch.randint(width, (batch, 5, side, side), dtype=torch.uint8),
    }.get(network.visual.kind, torch.randn(batch, 5, width))
    heard = network.audio
    return visual, torch.randn(batch, 1, 80, 16) if heard.kind == "mel" else torch.randn(batch, 10, heard.width)


def test_the_published_size() -> None:
    network = UniSync(described())
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(16.3e6, rel=0.01)
    allowed = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.BatchNorm2d)
    leaves = [module for module in network.modules() if not list(module.children())]
    assert all(isinstance(leaf, (*allowed, torch.nn.Sequential)) for leaf in leaves)


@pytest.mark.parametrize("visual", ["rgb", "parsing", "landmarks", "3dmm"])
@pytest.mark.parametrize("audio", ["mel", "features"])
def test_every_pair_gives_a_share_that_both_sides_learn_from(visual: str, audio: str) -> None:
    torch.manual_seed(0)
    network = UniSync(described("unisync_small", visual, audio))
    shown, heard = inputs(network)
    likely = network(shown, heard)
    assert likely.shape == (4,) and ((likely >= 0) & (likely <= 1)).all()
    likely.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    network.eval()
    seen, spoken = network.see(shown), network.hear(heard)
    assert (seen >= 0).all() and (spoken >= 0).all()
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(4))
    crossed = network(shown, heard, torch.tensor([0, 0, 3]), torch.tensor([1, 2, 3]))
    expected = torch.cosine_similarity(seen[[0, 0, 3]], spoken[[1, 2, 3]])
    torch.testing.assert_close(crossed, expected, atol=1e-5, rtol=1e-4)


def test_it_begins_where_independent_vectors_agree() -> None:
    """The cosine of two vectors of independent normal numbers behind a ReLU is 1 / pi on average."""
    torch.manual_seed(0)
    network = UniSync(described("unisync_small"))
    assert float(network(*inputs(network, 32)).mean().detach()) == pytest.approx(1 / math.pi, abs=0.06)


@pytest.mark.parametrize("visual", ["rgb", "parsing", "landmarks"])
def test_the_order_of_frames_and_of_sound_matters(visual: str) -> None:
    torch.manual_seed(0)
    network = UniSync(described("unisync_small", visual, "features")).eval()
    shown, heard = inputs(network, 2)
    turned = shown.unflatten(1, (5, 3)).flip(1).flatten(1, 2) if visual == "rgb" else shown.flip(1)
    assert not torch.allclose(network.see(shown), network.see(turned), atol=1e-3)
    assert not torch.allclose(network.hear(heard), network.hear(heard.flip(1)), atol=1e-3)


WRONG: dict[str, dict[str, Any]] = {
    r"visual\.kind is 'depth': choose one of rgb": {"visual": {"kind": "depth"}},
    r"audio\.kind is 'noise'": {"audio": {"kind": "noise"}},
    r"visual\.size is 63: give an even": {"visual": {"size": 63}},
    r"pictures must end at 5x8.*48x96 -> 24x48 -> 12x24 -> 3x6: lower a stride in height and width, or raise visual": {
        "pictures": {"widths": [32, 64, 128], "strides": [2, 2, 4], "residuals": [1, 1, 1]}
    },
    r"pictures ends in 64 channels and network\.channels is 128": {
        "pictures": {"widths": [32, 64], "strides": [2, 2], "residuals": [1, 1]}
    },
    r"network\.mel has 1 widths, 2 strides, 1 residuals": {
        "mel": {"widths": [128], "strides": [1, 1], "residuals": [1]}
    },
    r"trunk: widths must be at least 1": {"trunk": {"widths": [0], "residuals": [1]}},
}


@pytest.mark.parametrize("told", WRONG)
def test_a_network_that_cannot_be_is_told_with_what_to_change(told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_network({**described(), **WRONG[told]})


@pytest.mark.parametrize("config", ["unisync", "unisync_small"])
@pytest.mark.parametrize("visual", ["rgb", "parsing", "landmarks"])
def test_the_configurations_can_be(config: str, visual: str) -> None:
    check_network(described(config, visual))


def test_a_folder_gives_back_what_was_saved(tmp_path) -> None:
    torch.manual_seed(1)
    network = UniSync(described("unisync_small", "3dmm"))
    network.basis = torch.randn(56, 12)
    network(*inputs(network))  # so that the norms have seen something
    loaded = load_unisync(save_folder(tmp_path / "own", unisync=network, settings=Settings()))
    assert loaded.config == network.config and loaded.visual == network.visual and not loaded.training
    shown, heard = inputs(network)
    torch.testing.assert_close(loaded(shown, heard), network.eval()(shown, heard))
    assert loaded.basis is not None and torch.equal(loaded.basis, network.basis)
    with pytest.raises(CheckpointError, match="holds no stable_syncnet"):
        from latentsync.hub import load_stable_syncnet

        load_stable_syncnet(tmp_path / "own")
    (tmp_path / "file.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file"):
        load_unisync(tmp_path / "file.pt")
