"""The recipe of the embedded default: prepare, autoencoder, mel encoder, UNet in two stages, checkpoint.

Every stage leaves its result in the run folder and is passed over when it is there. Those that train are runs of
`training.loop.runner` in folders of their own, which also resume from their last saved step; the UNet's are those of
`configs/unet/embedded.yaml` and `embedded_stage2.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from latentsync.config import save_config
from latentsync.data.preparation.continuous import prepare_clip
from latentsync.data.preparation.sources import Shard, find_sources
from latentsync.data.synthetic import SyntheticSpeaker, synthesize_speech, write_clip
from latentsync.hub import load_components, save_folder
from latentsync.training import articulation, autoencoder
from latentsync.training.loop.recipe import train
from latentsync.training.loop.runner import EXPORT
from latentsync.training.unet import build as unet_build
from latentsync.training.unet.data import read_clips
from latentsync.types import InputError

FILE_TYPE = torch.float16  # of the checkpoint's weights
NO_TEMPORAL = "none"  # in `unet.temporal`
Log = Callable[[str], None]


class EmbeddedRecipe:
    """The stages, over one merged configuration."""

    def __init__(self, config: DictConfig, log: Log = print) -> None:
        self.config, self.log = config, log
        self.folder = Path(config.run_folder)
        self.crops = self.folder / "crops"
        self.start = load_components(config.start_from) if config.start_from else None
        self.stage1 = self._stage1()
        self.stage2 = self._stage2()
        self.autoencoder, self.articulation = self._before("autoencoder"), self._before("articulation")

    def run(self) -> Path:
        """Every stage in order; returns the exported checkpoint's folder."""
        save_config(self.config, self.folder / "config.yaml")
        self.prepare()
        train(self.autoencoder, autoencoder.build)
        train(self.articulation, articulation.build)
        for stage in (self.stage1, self.stage2):
            train(stage, unet_build.build)
        return self.export()

    def _before(self, name: str) -> DictConfig:
        """The autoencoder or the mel encoder, on the clips of stage 1."""
        first = self.stage1
        shared = {"resolution": first.resolution, "data": first.data, "mel": first.audio_encoder.mel}
        given = {"run_folder": str(self.folder / name), "start_from": self.config.start_from}
        return _changed(self.config[name], {**given, **shared, "run": {"seed": first.run.seed}})

    def _stage1(self) -> DictConfig:
        """Stage 1 on what the stages before it make."""
        config = self.config
        data = {
            "crops": str(self.crops),
            "leave_out": config.leave_out,
            "validation": config.validate_on,
            "cache_folder": str(self.folder / "cache"),
        }
        vae, mel = (str(self.folder / name / EXPORT) for name in ("autoencoder", "articulation"))
        given = {"start_from": config.start_from, "vae": vae, "audio_encoder": {"load": mel}}
        return _changed(config.stage1, {"run_folder": str(self.folder / "stage1"), "data": data, **given})

    def _stage2(self) -> DictConfig:
        """Stage 2 on the same clips from where stage 1 ends, a network of the same shape but for its temporal part."""
        first, own = self.stage1, self.config.stage2
        shared = {
            "resolution": first.resolution,
            "data": first.data,
            "audio_encoder": {"mel": first.audio_encoder.mel},
            "unet": {**first.unet, "temporal": own.unet.temporal},
            "run": {"seed": first.run.seed},
        }
        start = {"start_from": str(Path(first.run_folder) / EXPORT)}
        if self.start and self.start.unet.config["temporal"] != NO_TEMPORAL:  # stage 1 leaves them out
            start["temporal_from"] = self.config.start_from
        return _changed(own, {"run_folder": str(self.folder / "stage2"), **start, **shared})

    def prepare(self) -> None:
        """Crops of every video, real and drawn; a clip without sound or face is named and left out.

        InputError for two videos of one name.
        """
        videos: dict[str, Path] = {}
        for video in self._videos():
            if video.stem in videos:
                raise InputError(
                    f"'{videos[video.stem]}' and '{video}' have the same name, which is what tells clips apart here: "
                    "rename one"
                )
            videos[video.stem] = video
        for video in [*videos.values(), *self._synthetic()]:
            try:
                prepare_clip(video, self.crops, self.stage1.resolution)
            except InputError as error:
                self.log(f"left out: {error}")

    def _videos(self) -> Iterable[Path]:
        for source in find_sources(self.config.videos):
            if isinstance(source, Shard):
                raise InputError(f"'{source.path}' is a shard: unpack it, the embedded recipe reads video files")
            yield source.path

    def _synthetic(self) -> Iterable[Path]:
        wanted = self.config.synthetic
        for identity in range(wanted.identities):
            paths = [self.folder / "synthetic" / f"synth_{identity:03}_{n}.mp4" for n in range(wanted.clips_each)]
            if not all(path.exists() for path in paths):
                paths[0].parent.mkdir(parents=True, exist_ok=True)
                speaker = SyntheticSpeaker(wanted.first_seed + identity, wanted.size)
                for take, path in enumerate(paths):
                    self._shoot(speaker, wanted.first_seed + 10 * identity + take, path)
            yield from paths

    def _shoot(self, speaker: SyntheticSpeaker, seed: int, path: Path) -> None:
        speech = synthesize_speech(seed, seconds=self.config.synthetic.seconds)
        write_clip(path, speaker.frames(speech, seed), waveform=speech.waveform)

    def export(self) -> Path:
        """Write the checkpoint folder in half precision; the card says what can be read off the run."""
        made = load_components(Path(self.stage2.run_folder) / EXPORT)
        return save_folder(
            Path(self.config.checkpoint),
            unet=made.unet,
            vae=made.vae,
            audio_encoder=made.audio_encoder,
            settings=made.settings,
            card=self.card(),
            dtype=FILE_TYPE,
        )

    def card(self) -> str:
        """The model card's first version: sources and recipe; measured figures are added where they are measured."""
        names = ", ".join(sorted(clip.name for clip in read_clips(self.stage1)[0]))
        return f"# Embedded checkpoint\n\nTrained on: {names}\n\n```yaml\n{OmegaConf.to_yaml(self.config)}```\n"


def _changed(config: DictConfig, changes: dict[str, Any]) -> DictConfig:
    """A copy of a configuration with other values in places."""
    return OmegaConf.merge(config, changes)  # type: ignore[return-value]
