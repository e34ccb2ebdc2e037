"""`latentsync train`: networks from prepared clips. The scripts of `train/` are this command."""

from __future__ import annotations

import argparse
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from latentsync.types import InputError

SUMMARY = "Train a network: the dubbing UNet, a sync critic, a small VideoMAE, the embedded model."
EXAMPLES = """examples:
  latentsync train stable_syncnet manifest=data/manifest.jsonl run.gradient_accumulation=32
  latentsync train unet --config unet/small --dry-run data.crops=crops start_from=embedded
What each takes: `latentsync train unet --help`, and so on.
A run that was stopped goes on when it is given again. Several cards or machines: `accelerate launch train/unet.py ...`.
"""


@dataclass(frozen=True)
class Network:
    """What can be trained."""

    summary: str
    default: str  # name of the configuration
    module: str  # of the package's room `training`; its `build` makes the task of a configuration
    examples: str


NETWORKS = {
    "unet": Network(
        "the dubbing UNet",
        "unet/stage1",
        "unet.build",
        """examples:
  latentsync train unet data.manifest=data/manifest.jsonl audio_encoder.load=checkpoints/whisper/tiny.pt
  latentsync train unet --config unet/stage2 data.manifest=data/manifest.jsonl start_from=runs/unet_stage1/export \\
      losses.sync_critic=runs/stable_syncnet/export losses.trepa_critic=MCG-NJU/videomae-base \\
      losses.perceptual_backbone=vgg16.pth losses.perceptual_heads=lpips_v0.1_vgg.pth
  latentsync train unet --config unet/small --dry-run data.crops=crops start_from=embedded
""",
    ),
    "stable_syncnet": Network(
        "StableSyncNet, the critic that says whether a mouth belongs to a sound",
        "stable_syncnet",
        "sync.stable_syncnet",
        """examples:
  latentsync train stable_syncnet manifest=data/manifest.jsonl run.gradient_accumulation=32
  latentsync train stable_syncnet --config stable_syncnet_small manifest=data/manifest.jsonl run_folder=runs/critic
""",
    ),
    "unisync": Network(
        "UniSync, the critic that says whether a mouth belongs to a sound from any pair of representations",
        "unisync",
        "sync.unisync",
        """examples:
  latentsync train unisync data.manifest=data/manifest.jsonl
  latentsync train unisync --config unisync_small data.manifest=data/manifest.jsonl visual.kind=landmarks
  latentsync train unisync --config unisync_small data.manifest=data/manifest.jsonl audio.kind=features \\
      audio.encoder=facebook/hubert-large-ll60k run_folder=runs/unisync_hubert
""",
    ),
    "videomae": Network(
        "a small VideoMAE on our own clips, as TREPA's critic",
        "videomae",
        "videomae",
        """examples:
  latentsync train videomae data.manifest=data/manifest.jsonl
  latentsync train videomae data.crops=crops data.validation=[clip_7] run_folder=runs/videomae
""",
    ),
    "embedded": Network(
        "the embedded model from scratch, all its stages",
        "embedded",
        "embedded",
        """examples:
  latentsync train embedded videos=[clips,more/clip.mp4] leave_out=[clip_7] validate_on=[clip_8]
  latentsync train embedded videos=[clips] checkpoint=my-checkpoint stage1.run.steps=2000
""",
    ),
}
ENDING = "All options stand in the configuration. A run that was stopped goes on when the same command is given again."
STAGED = "embedded"  # the recipe of several stages, which has no task of its own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A command for each network."""
    commands = parser.add_subparsers(dest="network", required=True, metavar="NETWORK")
    for name, network in NETWORKS.items():
        sub = commands.add_parser(
            name,
            help=network.summary,
            description=f"Train {network.summary}.",
            epilog=network.examples + ENDING,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        default = network.default
        sub.add_argument("--config", default=default, help=f"a yaml file or the name of a configuration ({default})")
        if name != STAGED:
            sub.add_argument("--dry-run", action="store_true", help="print parameters, memory and steps, and stop")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the configuration")
        sub.set_defaults(parser=sub)


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the result is."""
    try:
        checkpoint = _train(arguments)
    except (InputError, OSError):
        raise
    except Exception:
        traceback.print_exc()  # hours of work: where it failed must not take a second run to tell
        raise
    if checkpoint is not None:
        print(f"checkpoint: {checkpoint}")
    return 0


def _train(arguments: argparse.Namespace) -> Path | None:
    """The folder of the checkpoint; None on a dry run and on all processes but the first."""
    from latentsync.config import load_config
    from latentsync.training.loop.recipe import train
    from latentsync.training.loop.runner import EXPORT
    from latentsync.training.loop.runtime import is_main_process

    config = load_config(arguments.config, arguments.overrides)
    training = import_module(f"latentsync.training.{NETWORKS[arguments.network].module}")
    if arguments.network == STAGED:
        return training.EmbeddedRecipe(config).run()
    folder = train(config, training.build, arguments.dry_run)
    return folder / EXPORT if is_main_process() and not arguments.dry_run else None
