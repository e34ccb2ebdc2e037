"""LoRAs as folders: what is added to the weights is what the paper says, and what does not belong is refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_samples import SETTINGS, small_mel_encoder, small_unet, small_vae
from safetensors.torch import load_file, save_file

from latentsync.cli import main
from latentsync.hub import Components, load_components, save_folder
from latentsync.hub.card import retold
from latentsync.hub.loras import LoraCard, WeightedLora, add_adapter, find_loras, read_card, save_lora, unet_digest
from latentsync.hub.loras import with_loras as add
from latentsync.types import CheckpointError, InputError

RANK, ALPHA = 2, 6.0
LAYERS = ["to_q", "to_out.0"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("loras") / "base"
    return save_folder(folder, unet=small_unet(), vae=small_vae(), audio_encoder=small_mel_encoder(), settings=SETTINGS)


def write_lora(checkpoint: Path, folder: Path, seed: int, name: str = "anna") -> Path:
    """Random matrices that are not nothing."""
    unet = load_components(checkpoint).unet
    card = LoraCard(name, str(checkpoint), unet_digest(unet), clips=3, seconds=12.5, steps=7, figures={"loss": 0.25})
    add_adapter(unet, RANK, ALPHA, LAYERS, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in unet.named_parameters():
            if ".lora_" in key:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return save_lora(unet, folder, card)


def loaded(checkpoint: Path, *loras: str) -> Components:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return add(load_components(checkpoint), loras)


def test_each_layer_gets_its_weighted_product_and_nothing_else_changes(checkpoint, tmp_path) -> None:
    """W + sum of weight * alpha / rank * B A (equation 3 of arXiv 2106.09685, scaled as in its section 4.1)."""
    folders = [write_lora(checkpoint, tmp_path / name, seed) for seed, name in enumerate("ab")]
    before = load_components(checkpoint)
    expected = before.unet.state_dict()
    for folder, weight in zip(folders, (0.5, -2.0), strict=True):
        tensors = load_file(folder / "adapter_model.safetensors")
        downs = {name.removesuffix(".lora_A.weight"): a for name, a in tensors.items() if ".lora_A." in name}
        assert {name.rpartition(".to_")[2] for name in downs} == {"q", "out.0"}
        for name, a in downs.items():
            expected[f"{name}.weight"] = (
                expected[f"{name}.weight"] + weight * ALPHA / RANK * tensors[f"{name}.lora_B.weight"] @ a
            )
    after = loaded(checkpoint, f"{folders[0]}:0.5", f"{folders[1]}:-2")
    found = after.unet.state_dict()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
    assert after.digest != before.digest != loaded(checkpoint, str(folders[0])).digest != after.digest
    assert loaded(checkpoint).digest == before.digest


def test_a_lora_does_not_hang_on_how_its_checkpoint_is_packed(checkpoint, tmp_path) -> None:
    whole = load_components(checkpoint)
    lora = write_lora(checkpoint, tmp_path / "lora", 1)
    networks = {"unet": whole.unet, "vae": whole.vae, "audio_encoder": whole.audio_encoder}
    other = save_folder(tmp_path / "other", **networks, settings=replace(SETTINGS, resolution=64), card="# Anew\n")  # type: ignore[arg-type]
    assert load_components(other).digest != whole.digest
    loaded(other, str(lora))  # a warning would be an error here


def test_another_checkpoint_is_told(checkpoint, tmp_path) -> None:
    lora = write_lora(checkpoint, tmp_path / "lora", 1)
    rest = {"vae": small_vae(), "audio_encoder": small_mel_encoder(), "settings": SETTINGS}
    alike = save_folder(tmp_path / "alike", unet=small_unet(seed=9), **rest)
    with pytest.warns(UserWarning, match=r"lora was trained on another checkpoint .*base"):
        add(load_components(alike), [str(lora)])
    wider = save_folder(tmp_path / "wider", unet=small_unet(block_out_channels=(16, 48)), **rest)
    with pytest.raises(CheckpointError, match=r"does not hold the network it describes: misshapen"):
        add(load_components(wider), [str(lora)])


def test_what_is_no_lora_is_refused_and_no_entry_of_its_file_is_believed(checkpoint, tmp_path) -> None:
    lora = write_lora(checkpoint, tmp_path / "lora", 1)
    shape = json.loads((lora / "adapter_config.json").read_text())
    harmless = {**shape, "megatron_config": {"a": 1}, "megatron_core": "no.such.module", "init_lora_weights": "eva"}
    (lora / "adapter_config.json").write_text(json.dumps(harmless))
    loaded(checkpoint, str(lora))
    (lora / "adapter_config.json").write_text(json.dumps({**shape, "peft_type": "BOFT"}))
    with pytest.raises(CheckpointError, match="describes no LoRA of ours"):
        loaded(checkpoint, str(lora))
    (lora / "adapter_config.json").write_text(json.dumps({**shape, "target_modules": ["nowhere"]}))
    with pytest.raises(CheckpointError, match="does not fit this checkpoint"):
        loaded(checkpoint, str(lora))
    (lora / "adapter_config.json").write_text(json.dumps(shape))
    tensors = load_file(lora / "adapter_model.safetensors")
    save_file({**tensors, "more.weight": torch.zeros(1)}, lora / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"surplus: more\.weight"):
        loaded(checkpoint, str(lora))
    with pytest.raises(CheckpointError, match=r"base is no LoRA of ours \(it has no lora\.json\)"):
        loaded(checkpoint, str(checkpoint))
    with pytest.raises(InputError, match="base exists and is no LoRA"):
        save_lora(load_components(checkpoint).unet, checkpoint, LoraCard("a", "b", "c"))
    (lora / "lora.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not of the format"):
        read_card(lora)


def test_a_path_may_carry_its_weight() -> None:
    assert WeightedLora.parse("a/b:0.25") == WeightedLora(Path("a/b"), 0.25)
    assert WeightedLora.parse("a/b") == WeightedLora(Path("a/b"), 1.0)
    assert WeightedLora.parse("C:/loras/anna") == WeightedLora(Path("C:/loras/anna"), 1.0)
    for text in ("a:5", "a:nan", "a:-inf"):
        with pytest.raises(InputError, match="lies between -4 and 4"):
            WeightedLora.parse(text)


def test_loras_are_listed_and_merged(checkpoint, tmp_path, capsys) -> None:
    folder = tmp_path / "some"
    first, second = (write_lora(checkpoint, folder / name / "lora", 1, name) for name in ("anna", "bert"))
    assert [card.name for _, card in find_loras(folder)] == ["anna", "bert"]
    assert main(["lora", "list", str(folder)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith(f"bert: {second}, for {checkpoint}") and "7 updates on 3 clips, 12 s" in told[1]
    to = tmp_path / "merged"
    assert main(["lora", "merge", str(checkpoint), str(first), f"{second}:0.5", "--to", str(to)]) == 0
    merged, added = load_components(to), loaded(checkpoint, str(first), f"{second}:0.5")
    for name, tensor in added.unet.state_dict().items():
        torch.testing.assert_close(merged.unet.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)  # kept in fp16
    assert merged.settings == added.settings
    card = (to / "README.md").read_text()
    assert "- `anna`, weight 1: 7 updates on 3 clips" in card and "- `bert`, weight 0.5:" in card
    assert str(tmp_path) not in card, "so that it can be shared as it is"
    assert "What the card of" in card and retold((checkpoint / "README.md").read_text()) in card
    assert main(["share", str(to), "--to", str(tmp_path / "shared")]) == 0
    assert "- `bert`, weight 0.5:" in (tmp_path / "shared" / "README.md").read_text()
    for arguments, said in (
        (["list", str(tmp_path / "merged")], "there is no LoRA in"),
        (["list", str(tmp_path / "gone")], "is no folder"),
        (["merge", str(checkpoint), str(checkpoint), "--to", str(tmp_path / "x")], "is no LoRA of ours"),
        (["merge", str(checkpoint), str(checkpoint), "--to", f"{checkpoint}/."], "would replace the checkpoint"),
    ):
        assert main(["lora", *arguments]) == 2 and said in capsys.readouterr().err
