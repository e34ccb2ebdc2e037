"""SyncNet v2 against the public network's stored answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from latentsync.hub import load_syncnet
from latentsync.models.syncnet import COLUMNS, SyncNet

TOLERANCE = 1e-4  # relative, as the stored answers say


@pytest.fixture(scope="module")
def stored(parity_dir) -> dict[str, np.ndarray]:
    return load_file(parity_dir / "syncnet_v2_io.safetensors")


@pytest.fixture(scope="module")
def network(parity_dir) -> SyncNet:
    return load_syncnet(parity_dir / "syncnet_v2_random.model")


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE * scale)


@torch.no_grad()
def test_sound_ends_in_the_stored_vectors(network, stored) -> None:
    windows = np.lib.stride_tricks.sliding_window_view(stored["mfcc"][0, 0], COLUMNS, axis=1)[:, ::4]
    cut = torch.from_numpy(np.ascontiguousarray(np.moveaxis(windows, 1, 0)))[: len(stored["audio"]), None]
    close(network.hear(cut), stored["audio"])


@torch.no_grad()
def test_pictures_end_in_the_stored_vectors_alone_and_in_a_run(network, stored, parity_dir) -> None:
    frames = np.load(parity_dir / "syncnet_v2_frames.npz")["frames_bgr"][:7]
    images = torch.from_numpy(np.moveaxis(frames, -1, 0)).float()[None]
    together = network.see(images)[0]
    close(together, stored["visual"][:3])
    torch.testing.assert_close(network.see(images[:, :, 2:])[0], together[2:], rtol=1e-4, atol=1e-4)
