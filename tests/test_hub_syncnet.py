"""SyncNet v2's file: loaded strictly, told apart from other files, turned into a folder and back."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from latentsync.hub import convert, load_syncnet
from latentsync.models.syncnet import SyncNet
from latentsync.types import CheckpointError


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(SyncNet().state_dict())


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_plain_state_dict_loads_and_comes_back_from_a_folder(state, tmp_path) -> None:
    torch.save(state, tmp_path / "syncnet_v2.model")
    loaded = load_syncnet(tmp_path / "syncnet_v2.model")
    assert same(loaded.state_dict(), state) and not loaded.training
    folder = convert(tmp_path / "syncnet_v2.model", tmp_path / "folder")
    assert same(load_syncnet(folder).state_dict(), state)
    assert same(torch.load(convert(folder, tmp_path / "back.model"), weights_only=True), state)


def test_old_files_without_counters_and_safetensors_load(state, tmp_path) -> None:
    old = {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}
    torch.save(old, tmp_path / "old.model", _use_new_zipfile_serialization=False)
    save_file(old, tmp_path / "old.safetensors")
    for name in ("old.model", "old.safetensors"):
        assert same(load_syncnet(tmp_path / name).state_dict(), state)
    assert same(load_syncnet(convert(tmp_path / "old.model", tmp_path / "folder")).state_dict(), state)


def test_faults_are_named(state, tmp_path) -> None:
    path = tmp_path / "broken.model"
    broken = {**state, "extra": torch.zeros(1), "netfcaud.0.bias": torch.zeros(7)}
    del broken["netcnnlip.4.weight"]
    torch.save(broken, path)
    told = r"missing: netcnnlip\.4\.weight; surplus: extra; misshapen: netfcaud\.0\.bias \(7,\) instead of \(512,\)"
    for load in (load_syncnet, lambda file: convert(file, tmp_path / "never")):
        with pytest.raises(CheckpointError, match=told):
            load(path)
    assert not (tmp_path / "never").exists()
    torch.save({"global_step": 3, "state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="its entry 'global_step' is no tensor"):
        load_syncnet(path)
    with pytest.raises(CheckpointError, match="there is no file"):
        load_syncnet(tmp_path / "none.model")
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(CheckpointError, match="damaged or holds more than tensors"):
        load_syncnet(path)
