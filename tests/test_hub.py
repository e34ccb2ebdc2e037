"""Folders of ours: written whole, with the same bytes, read strictly, refused when anything is not as listed."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
import torch
from hub_samples import (
    SETTINGS,
    same_tensors,
    small_mel_encoder,
    small_unet,
    small_vae,
    small_waveform_encoder,
    write_whisper,
)
from safetensors.torch import load_file, save_file

from latentsync.config import resource
from latentsync.hub import (
    Settings,
    load_audio_encoder,
    load_components,
    load_stable_syncnet,
    load_unet,
    load_vae,
    load_whisper,
    save_folder,
)
from latentsync.types import CheckpointError, InputError

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def networks() -> dict:
    return {"unet": small_unet(), "vae": small_vae(), "audio_encoder": small_mel_encoder()}


@pytest.fixture
def folder(tmp_path):
    return save_folder(tmp_path / "own", **networks(), settings=SETTINGS, card="# A test\n")


def change_config(path, change) -> None:
    content = json.loads((path / "config.json").read_text())
    change(content)
    (path / "config.json").write_text(json.dumps(content))


def test_what_was_saved_is_what_is_loaded(folder):
    loaded = load_components(folder)
    for name, network in networks().items():
        assert same_tensors(getattr(loaded, name).state_dict(), network.state_dict()), name
        assert not getattr(loaded, name).training
    said, meant = ({k: v for k, v in u.config.items() if k[0] != "_"} for u in (loaded.unet, small_unet()))
    assert said == meant
    assert loaded.vae.config.scaling_factor == 0.7
    assert loaded.settings == dataclasses.replace(SETTINGS, audio_encoder={"type": "mel", "levels": 2})
    assert loaded.trained_resolution == 96
    assert loaded.digest == load_components(str(folder)).digest and len(loaded.digest) == 64
    assert (folder / "README.md").read_text() == "# A test\n"
    assert same_tensors(load_unet(folder).state_dict(), loaded.unet.state_dict())
    assert same_tensors(load_vae(folder).state_dict(), loaded.vae.state_dict())


def test_every_file_can_be_read_by_others(folder):
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in folder.rglob("*") if file.is_file())


def test_half_precision_on_disk_is_float32_in_memory(folder, tmp_path):
    half = save_folder(tmp_path / "half", **networks(), settings=SETTINGS, dtype=torch.float16)
    stored = load_file(half / UNET_WEIGHTS)
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
    loaded, exact = load_components(half).unet.state_dict(), load_components(folder).unet.state_dict()
    for name, tensor in loaded.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, exact[name], atol=1e-6, rtol=1e-3)
    assert load_components(half).digest != load_components(folder).digest


def test_values_too_large_for_half_precision_are_refused(tmp_path):
    unet = small_unet()
    unet.conv_in.bias.data[0] = 1e6
    with pytest.raises(CheckpointError, match=r"conv_in\.bias has values too large for torch\.float16"):
        save_folder(tmp_path / "half", unet=unet, settings=SETTINGS, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_the_same_networks_give_the_same_bytes(folder, tmp_path):
    unet = small_unet().to(memory_format=torch.channels_last)
    again = save_folder(tmp_path / "again", **{**networks(), "unet": unet}, settings=SETTINGS, card="# A test\n")
    names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    assert len(names) == 8
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.parametrize(
    "name", [UNET_WEIGHTS, "unet/config.json", "vae/config.json", "audio_encoder/model.safetensors", "README.md"]
)
def test_one_changed_bit_is_found_and_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is not the file that config.json lists"):
        load_components(folder)


def test_missing_and_surplus_files_are_named(folder):
    (folder / "vae" / "config.json").rename(folder / "vae" / "other.json")
    with pytest.raises(CheckpointError, match=r"vae/config\.json is missing"):
        load_components(folder)
    change_config(folder, lambda config: config["files"].pop("vae/config.json"))
    with pytest.raises(CheckpointError, match="holds no vae"):
        load_vae(folder)
    (folder / "unet" / "extra.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"extra\.safetensors is not listed"):
        load_unet(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"resolutoin": 5}, r"unknown option 'resolutoin'; did you mean resolution\?"),
        ({"fps": "fast"}, "fps is 'fast', which is no possible value"),
        ({"resolution": -4}, "resolution is -4"),
        ({"mask": "mouth"}, "the mask 'mouth' is not known"),
        ({"format_version": 2}, "format version 2"),
        ({"files": ["unet"]}, "lists no files"),
        ({"files": {"../secret": "0"}}, r"lists \.\./secret, which lies outside"),
        ({"format": "other"}, "neither a checkpoint of ours nor a LatentSyncUNet"),
    ],
)
def test_a_description_that_cannot_be_right_is_refused(folder, change, told):
    change_config(folder, lambda config: config.update(change))
    with pytest.raises(CheckpointError, match=told):
        load_unet(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("conv_in.bias"), r"missing: conv_in\.bias"),
        (lambda state: state.update(stray=torch.zeros(1)), "surplus: stray"),
        (lambda state: state.update({"conv_in.bias": torch.zeros(3)}), r"misshapen: conv_in\.bias \(3,\) .* \(16,\)"),
    ],
)
def test_every_tensor_must_fit(tmp_path, change, told):
    unet = small_unet()
    unet.save_pretrained(tmp_path)  # diffusers' own folder is read as well
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    assert same_tensors(load_unet(tmp_path).state_dict(), unet.state_dict())
    state = load_file(file)
    change(state)
    save_file(state, file)
    with pytest.raises(CheckpointError, match=told):
        load_unet(tmp_path)


def test_networks_that_do_not_fit_together_are_refused(tmp_path):
    path = save_folder(
        tmp_path / "own", **{**networks(), "unet": small_unet(cross_attention_dim=40)}, settings=SETTINGS
    )
    with pytest.raises(CheckpointError, match="tokens of width 40, its audio encoder gives 24"):
        load_components(path)


def test_another_resolution_warns(folder, recwarn):
    assert load_components(folder).settings.resolution == 96
    assert not [warning for warning in recwarn if warning.category is UserWarning]
    with pytest.warns(UserWarning, match="trained for 96 px and is used at 128 px"):
        assert load_components(folder, resolution=128).settings.resolution == 128


def test_a_failed_write_leaves_the_older_folder_and_nothing_else(folder, monkeypatch):
    before = load_components(folder).digest

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("latentsync.hub.folder.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_folder(folder, **networks(), settings=SETTINGS)
    assert [path.name for path in folder.parent.iterdir()] == ["own"]
    assert load_components(folder).digest == before


def test_only_a_checkpoint_folder_is_replaced(folder, tmp_path):
    other = tmp_path / "holiday"
    other.mkdir()
    (other / "photo.jpg").write_bytes(b"me")
    with pytest.raises(InputError, match="holiday exists and is no checkpoint folder"):
        save_folder(other, **networks(), settings=SETTINGS)
    save_folder(folder, unet=small_unet(seed=5), settings=SETTINGS)
    assert same_tensors(load_unet(folder).state_dict(), small_unet(seed=5).state_dict())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday", "own"]


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_waveform_encoders_are_saved_and_read_from_two_kinds_of_folders(tmp_path, kind):
    encoder = small_waveform_encoder(kind)
    ours = load_audio_encoder(save_folder(tmp_path / "own", audio_encoder=encoder, settings=SETTINGS))
    assert type(ours) is type(encoder) and ours.level_indices == encoder.level_indices
    assert same_tensors(ours.module.state_dict(), encoder.module.state_dict())
    encoder.module.save_pretrained(tmp_path / "theirs")
    theirs = load_audio_encoder(tmp_path / "theirs")
    assert type(theirs) is type(encoder) and theirs.level_indices == (0, 1, 2)
    assert same_tensors(theirs.module.state_dict(), encoder.module.state_dict())
    state = load_file(tmp_path / "theirs" / "model.safetensors")
    state.pop("encoder.layers.0.attention.q_proj.weight")
    save_file(state, tmp_path / "theirs" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing encoder\.layers\.0\.attention\.q_proj\.weight"):
        load_audio_encoder(tmp_path / "theirs")


def test_whisper_is_saved_without_the_norm_that_no_level_uses(tmp_path):
    encoder = load_whisper(write_whisper(tmp_path / "tiny.pt", width=32))
    again = load_whisper(save_folder(tmp_path / "own", audio_encoder=encoder, settings=SETTINGS))
    assert (again.width, again.levels) == (encoder.width, encoder.levels) == (32, 2)
    assert same_tensors(again.module.state_dict(), encoder.module.state_dict())
    with pytest.raises(CheckpointError, match="holds a MelEncoder, not a Whisper encoder"):
        load_whisper(save_folder(tmp_path / "mel", audio_encoder=small_mel_encoder(), settings=SETTINGS))


def test_autoencoders_with_old_names_load(tmp_path):
    vae = small_vae()
    vae.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    old = {}
    for name, tensor in load_file(file).items():
        for new_part, old_part in names.items():
            name = name.replace(new_part, old_part)
        old[name] = tensor
    assert old.keys() != vae.state_dict().keys()
    save_file(old, file)
    assert same_tensors(load_vae(tmp_path).state_dict(), vae.state_dict())


def test_every_kind_of_autoencoder_is_saved_and_read(tmp_path):
    from diffusers import AutoencoderTiny

    layout = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    vae = AutoencoderTiny(**layout, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), scaling_factor=0.3)
    vae.save_pretrained(tmp_path / "theirs")
    save_folder(tmp_path / "ours", vae=vae, settings=SETTINGS)
    for place in ("theirs", "ours"):
        loaded = load_vae(tmp_path / place)
        assert isinstance(loaded, AutoencoderTiny) and loaded.config.scaling_factor == 0.3
        assert same_tensors(loaded.state_dict(), vae.state_dict())
    (tmp_path / "theirs" / "config.json").write_text('{"_class_name": "VQModel"}')
    with pytest.raises(CheckpointError, match="describes a VQModel, not AutoencoderKL or AutoencoderTiny"):
        load_vae(tmp_path / "theirs")


def test_what_is_nowhere_is_said(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no .*nothing\.pt: give 'embedded', a \.pt file"):
        load_unet(tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError, match="holds no stable_syncnet"):
        load_stable_syncnet(save_folder(tmp_path / "own", unet=small_unet(), settings=Settings()))


def test_the_embedded_checkpoint_is_as_listed():
    if not (resource("checkpoints") / "embedded" / "config.json").is_file():
        pytest.skip("this checkout has no embedded checkpoint")
    loaded = load_components()
    assert loaded.trained_resolution == loaded.settings.resolution
    weights = [file for file in resource("checkpoints/embedded").rglob("*.safetensors")]
    assert sum(os.path.getsize(file) for file in weights) < 40e6
