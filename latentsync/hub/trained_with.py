"""Which sync critics a checkpoint says that it was trained with: what these say of its dubs is no judgement."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from latentsync.hub import remote
from latentsync.hub.folder import CARD
from latentsync.hub.networks import PUBLISHED_RESOLUTION

STABLE_SYNCNET, UNISYNC = "stable_syncnet", "unisync"
CONFIGURATION = re.compile(r"```yaml\n(.*?)\n```", re.DOTALL)  # of a card made from a run
RUN_CONFIG = "config.yaml"  # beside the export folder of a run


def sync_critics(checkpoint: str) -> frozenset[str]:
    """Names of critics, empty where the checkpoint's card and configuration name none.

    checkpoint: as `load_components` takes it. The published LatentSync was trained with StableSyncNet (arXiv
    2412.09262); of a folder its card is read, and the configuration of the run that it lies in.
    """
    path, name = Path(checkpoint), remote.parse_name(checkpoint)
    if name is not None and not path.exists():
        return frozenset({STABLE_SYNCNET} if name.repo in PUBLISHED_RESOLUTION else ())
    found = (_critic(config) for config in _configurations(path))
    return frozenset(critic for critic in found if critic)


def _configurations(folder: Path) -> Iterator[Mapping[str, Any]]:
    card, config = folder / CARD, folder.parent / RUN_CONFIG
    texts = CONFIGURATION.findall(card.read_text(encoding="utf-8")) if card.is_file() else []
    if folder.is_dir() and config.is_file():
        texts.append(config.read_text(encoding="utf-8"))
    for text in texts:
        try:
            read = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        except (YAMLError, OmegaConfBaseException):
            continue  # somebody's own text between the marks of a configuration
        if isinstance(read, Mapping):
            yield read  # type: ignore[misc]


def _critic(config: Mapping[str, Any]) -> str | None:
    weights, losses = config.get("weights"), config.get("losses")
    if not isinstance(weights, Mapping) or not isinstance(losses, Mapping) or not weights.get("sync"):
        return None
    named = config.get("sync_critic") or losses.get("sync_critic")  # its kind, or in older runs a file alone
    return UNISYNC if UNISYNC in str(named).lower() else STABLE_SYNCNET
