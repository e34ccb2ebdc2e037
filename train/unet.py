r"""Train the dubbing UNet.

    python train/unet.py --config unet/stage1 data.manifest=data/manifest.jsonl \
        audio_encoder.load=checkpoints/whisper/tiny.pt
    python train/unet.py --config unet/stage2 data.manifest=data/manifest.jsonl start_from=runs/unet_stage1/export \
        losses.sync_critic=runs/stable_syncnet/export losses.trepa_critic=MCG-NJU/videomae-base \
        losses.perceptual_backbone=vgg16.pth losses.perceptual_heads=lpips_v0.1_vgg.pth
    python train/unet.py --config unet/small --dry-run data.crops=crops start_from=embedded

The checkpoint is in RUN_FOLDER/export. A killed run goes on where it stopped when the same command is given again.
Several cards or machines: `accelerate launch train/unet.py ...`.
"""

from __future__ import annotations

from latentsync.training.recipe import command
from latentsync.training.unet_build import build

if __name__ == "__main__":
    command(__doc__, "unet/stage1", build)
