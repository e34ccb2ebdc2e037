"""VideoMAE by a name or a path: transformers' folders and hub names, and VideoMAE-v2's published `.pth`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentsync.hub.tensors import read_pt, state_of
from latentsync.models.videomae import VideoFeatures, from_v2
from latentsync.types import CheckpointError

V2_ENTRIES = ("module", "model")  # under which the published files keep their tensors


def load_video_features(name: str | Path) -> VideoFeatures:
    """A frozen VideoMAE in float32 on the CPU.

    name: a folder or a hub name of transformers' VideoMAE (plain, fine-tuned or as pretrained by `train/videomae.py`),
    or VideoMAE-v2's `.pth`. CheckpointError when it is not exactly such a network.
    """
    path = Path(name)
    if path.is_file():
        content = read_pt(path)
        entry = next((entry for entry in V2_ENTRIES if entry in content), V2_ENTRIES[0])
        return from_v2(state_of(content, entry, path))
    return _from_transformers(str(name))


def _from_transformers(name: str) -> VideoFeatures:
    import transformers

    try:
        config = transformers.VideoMAEConfig.from_pretrained(name)
        described = (getattr(config, "architectures", None) or ["VideoMAEModel"])[0]
        kind: Any = getattr(transformers, described if described.startswith("VideoMAE") else "VideoMAEModel")
        network, told = kind.from_pretrained(name, output_loading_info=True)
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{name} is no VideoMAE that can be loaded ({reason}): give a folder, a hub name or a .pth"
        ) from error
    faults = sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]]))
    if faults:
        raise CheckpointError(f"{name} does not hold the network it describes: missing {', '.join(faults[:5])}")
    return VideoFeatures(getattr(network, "videomae", network), getattr(network, "fc_norm", None))
