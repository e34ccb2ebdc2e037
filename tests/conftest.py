"""What tests of several rooms share: where stored answers and real clips lie, and how many parity tests ran.

Small stored answers live in `tests/data/parity`. The larger ones, the clips and the measuring networks live in a folder
beside the checkout, `../shared`, or wherever the environment variable LATENTSYNC_SHARED points. Tests that need what is
not there are skipped with the reason.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).resolve().parent
LOCAL_PARITY = TESTS / "data" / "parity"


def pytest_configure() -> None:
    # No test reaches for the network; a test of the hub's own behaviour sets this itself.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A busy machine makes no fault of an example that took long.
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")


def shared_dir() -> Path:
    """The folder with the large material; it need not exist."""
    return Path(os.environ.get("LATENTSYNC_SHARED") or TESTS.parent.parent / "shared")


class MaterialFolder:
    """Folders searched in order: `folder / "name"` is the first that has it, and skips the test where none has."""

    def __init__(self, *folders: Path):
        self.folders = folders

    def __truediv__(self, name: str) -> Path:
        for folder in self.folders:
            if (folder / name).exists():
                return folder / name
        looked = " nor ".join(str(folder) for folder in self.folders)
        pytest.skip(f"{name} is in neither {looked} (LATENTSYNC_SHARED names another place)")


@pytest.fixture(scope="session")
def parity_dir() -> MaterialFolder:
    """Stored answers of the public networks: `parity_dir / "mask_256.npy"`."""
    return MaterialFolder(LOCAL_PARITY, shared_dir() / "parity")


def _shared_folder(name: str) -> Path:
    folder = shared_dir() / name
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist (LATENTSYNC_SHARED names another place)")
    return folder


@pytest.fixture(scope="session")
def clips_dir() -> Path:
    """Real clips of people speaking."""
    return _shared_folder("clips")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Small real networks for measuring."""
    return _shared_folder("weights")


@dataclass(frozen=True)
class DubbingMaterial:
    """What a dub needs, small: a checkpoint of random weights, a drawn face that speaks, other sound."""

    checkpoint: Path
    video: Path
    audio: Path


@pytest.fixture(scope="session")
def dubbing_material(tmp_path_factory: pytest.TempPathFactory) -> DubbingMaterial:
    """Made once for each worker; see `cli_material`."""
    import cli_material as make

    folder = tmp_path_factory.mktemp("material")
    return DubbingMaterial(
        make.write_tiny_checkpoint(folder / "tiny"),
        make.write_talking_clip(folder / "talk.mp4"),
        make.write_tone(folder / "new.wav"),
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "parity_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.parity)


def pytest_terminal_summary(terminalreporter) -> None:
    def parity(outcome: str) -> int:
        reports = terminalreporter.stats.get(outcome, [])
        return sum("parity" in getattr(report, "keywords", ()) for report in reports)

    passed, failed, skipped = parity("passed"), parity("failed") + parity("error"), parity("skipped")
    terminalreporter.write_line(f"parity tests: {passed} passed, {failed} failed, {skipped} skipped")


@pytest.fixture
def one_thread():
    """Sums in one order, so that two runs can be equal bit for bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
