"""Published `.pt` files: read without running them, completed from beside or the hub, converted there and back."""

from __future__ import annotations

import pytest
import torch
from hub_samples import SETTINGS, published_unet, same_tensors, small_unet, small_vae, write_whisper

from latentsync.hub import Settings, convert, load_components, load_stable_syncnet, load_unet, load_whisper, save_folder
from latentsync.models.stable_syncnet import PUBLISHED_CONFIG, StableSyncNet
from latentsync.types import CheckpointError, InputError


class Intruder:
    """Unpickled, it would make a folder."""

    def __init__(self, trace: str):
        self.trace = trace

    def __reduce__(self):
        import os

        return os.mkdir, (self.trace,)


@pytest.fixture
def unet_file(tmp_path):
    path = tmp_path / "latentsync_unet.pt"
    torch.save({"global_step": 7, "state_dict": published_unet(), "train_step_list": [1, 2]}, path)
    return path


@pytest.mark.parametrize("load", [load_unet, load_whisper, load_stable_syncnet, load_components])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, load):
    trace = tmp_path / "intruded"
    torch.save({"global_step": 1, "state_dict": Intruder(str(trace))}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt is damaged or holds more than tensors"):
        load(tmp_path / "evil.pt")
    assert not trace.exists()


def test_damaged_and_foreign_files_are_named(tmp_path, unet_file):
    short = tmp_path / "short.pt"
    short.write_bytes(unet_file.read_bytes()[:5000])
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"weights": {}}, tmp_path / "other.pt")
    for name, told in (
        ("short.pt", "damaged or holds more"),
        ("list.pt", "holds a list"),
        ("other.pt", r"no tensors in its entry 'state_dict' \(it has weights\)"),
    ):
        with pytest.raises(CheckpointError, match=rf"{name} .*{told}|{name} {told}"):
            load_unet(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "tensor", "told"),
    [
        ("conv_in.weight", None, r"conv_in\.weight is missing"),
        ("conv_norm_out.bias", None, r"missing: conv_norm_out\.bias"),
        (
            "up_blocks.0.resnets.0.conv2.bias",
            torch.zeros(5),
            r"misshapen: up_blocks\.0\.resnets\.0\.conv2\.bias \(5,\)",
        ),
        ("down_blocks.7.stray", torch.zeros(5), "down_blocks"),
        (
            "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe",
            None,
            r"missing: .*attention_blocks\.0\.pos_encoder\.pe",
        ),
    ],
)
def test_published_tensors_must_fit_and_are_named_as_in_the_file(tmp_path, name, tensor, told):
    state = published_unet()
    state.pop(name, None)
    if tensor is not None:
        state[name] = tensor
    torch.save({"state_dict": state}, tmp_path / "unet.pt")
    with pytest.raises(CheckpointError, match=told) as caught:
        load_unet(tmp_path / "unet.pt")
    assert "unet.pt" in str(caught.value)


def test_a_unet_is_completed_from_beside_it(unet_file, tmp_path):
    small_vae().save_pretrained(tmp_path / "vae")
    write_whisper(tmp_path / "whisper" / "tiny.pt")
    with pytest.warns(UserWarning, match="does not say for which resolution"):
        loaded = load_components(unet_file)
    assert loaded.settings.resolution == 256 and loaded.trained_resolution is None
    assert loaded.settings.audio_encoder == {"type": "whisper", "levels": 2}
    assert loaded.vae.config.scaling_factor == 0.7 and loaded.audio_encoder.width == 384
    with pytest.warns(UserWarning):
        folder = load_components(convert(unet_file, tmp_path / "within"), resolution=512)
    assert folder.settings.resolution == 512


@pytest.mark.parametrize(
    ("missing", "place"), [("its autoencoder", "vae"), ("its Whisper encoder", r"whisper/tiny\.pt")]
)
def test_what_a_unet_lacks_is_said_with_what_to_do(unet_file, tmp_path, monkeypatch, missing, place):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    if place != "vae":
        small_vae().save_pretrained(tmp_path / "vae")
    told = rf"holds a UNet alone, and {missing} is not beside it: put it at {tmp_path}/{place}, or let it be fetched"
    with pytest.raises(CheckpointError, match=told):
        load_components(unet_file)


def test_a_unet_for_no_published_whisper_says_so(tmp_path):
    torch.save({"state_dict": published_unet(cross_attention_dim=40)}, tmp_path / "unet.pt")
    small_vae().save_pretrained(tmp_path / "vae")
    with pytest.raises(CheckpointError, match="no published Whisper gives tokens of width 40"):
        load_components(tmp_path / "unet.pt")


@pytest.mark.parametrize("temporal", ["all", "decoder", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_unet_comes_back_from_our_folder_bit_by_bit(tmp_path, temporal, dtype):
    state = {name: tensor.to(dtype) for name, tensor in published_unet(temporal=temporal).items()}
    torch.save({"global_step": 11, "state_dict": state}, tmp_path / "unet.pt")
    folder = convert(tmp_path / "unet.pt", tmp_path / "folder")
    back = torch.load(convert(folder, tmp_path / "back.pt"), weights_only=True)
    assert back["global_step"] == 11 and same_tensors(back["state_dict"], state)
    assert same_tensors(load_unet(folder).state_dict(), load_unet(tmp_path / "unet.pt").state_dict())
    assert load_unet(folder).config.temporal == temporal


def test_whisper_comes_back_with_its_decoder(tmp_path):
    path = write_whisper(tmp_path / "tiny.pt", width=32)
    folder = convert(path, tmp_path / "folder")
    content, back = (torch.load(p, weights_only=True) for p in (path, convert(folder, tmp_path / "back.pt")))
    assert back["dims"] == content["dims"] and same_tensors(back["model_state_dict"], content["model_state_dict"])
    assert same_tensors(load_whisper(folder).module.state_dict(), load_whisper(path).module.state_dict())
    alone = save_folder(tmp_path / "alone", audio_encoder=load_whisper(path), settings=SETTINGS)
    with pytest.raises(CheckpointError, match="did not come from an OpenAI Whisper file"):
        convert(alone, tmp_path / "no.pt")


def test_stable_syncnet_comes_back(tmp_path):
    towers = {
        name: {**tower, "block_out_channels": (32,) * len(tower["attn_blocks"])}
        for name, tower in PUBLISHED_CONFIG.items()
    }
    state = StableSyncNet(towers).state_dict()
    torch.save({"global_step": 3, "state_dict": state}, tmp_path / "stable_syncnet.pt")
    folder = convert(tmp_path / "stable_syncnet.pt", tmp_path / "folder")
    back = torch.load(convert(folder, tmp_path / "back.pt"), weights_only=True)
    assert back["global_step"] == 3 and same_tensors(back["state_dict"], state)
    assert same_tensors(load_stable_syncnet(folder).state_dict(), state)


@pytest.mark.parametrize("file", ["unet_stage1.pt", "unet_stage2.pt", "stable_syncnet.pt", "whisper_small_random.pt"])
def test_parity_files_come_back(parity_dir, tmp_path, file):
    content = torch.load(parity_dir / file, weights_only=True)
    folder = convert(parity_dir / file, tmp_path / "folder")
    back = torch.load(convert(folder, tmp_path / "back.pt"), weights_only=True)
    entry = "model_state_dict" if "dims" in content else "state_dict"
    assert same_tensors(back.pop(entry), content.pop(entry)) and back == content


def test_what_a_published_file_cannot_say_is_refused(tmp_path):
    own = save_folder(tmp_path / "own", unet=small_unet(), settings=SETTINGS)
    with pytest.raises(CheckpointError, match="cannot say that its scheduler differs"):
        convert(own, tmp_path / "out.pt")
    own = save_folder(tmp_path / "own", unet=small_unet(), settings=Settings())
    with pytest.raises(CheckpointError, match="cannot say that motion_norm_num_groups is 8"):
        convert(own, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_conversion_needs_something_to_convert(tmp_path, unet_file):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="nothing to convert"):
        convert(tmp_path / "empty", tmp_path / "out.pt")
    with pytest.raises(CheckpointError, match="there is no file"):
        convert(tmp_path / "none.pt", tmp_path / "out")
    folder = convert(unet_file, tmp_path / "folder")
    with pytest.raises(InputError, match="empty is a folder"):
        convert(folder, tmp_path / "empty")
