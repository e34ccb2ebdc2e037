"""Speed and memory of training steps: samples a second, peak memory, time waiting for data, share of the matrix rate.

Networks and clips are random, the runner and the recipes are the real ones. Each case runs in a process of its own;
variants change how a step is computed and not what it computes: each is compared with the plain one, its losses too.
The published size needs a CUDA card, and is told as not run where there is none.
"""

from __future__ import annotations

import argparse
import functools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from run_logs import WARM_UP, speeds, updates
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentsync.config import load_config

EXAMPLE = "python benchmarks/train.py --size small --steps 6 --variants fused channels_last"
FOLDER = common.WORK / "train"
CLIPS, FRAMES = 4, 64  # random clips and their length
MATRIX = 8192  # side of the matrices that a card's rate is measured with
MATRIX_TURNS = 20
HEADER = ("case", "variant", "s an update", "samples a second", "times plain", "losses off by", "peak GiB")
HEADER += ("waiting for data", "matrix rate")
VARIANTS = {
    "plain": "as the recipe runs",
    "fused": "AdamW as one kernel",
    "channels_last": "the UNet and the autoencoder in that memory format",
    "compiled": "the UNet through torch.compile",
    "math_attention": "attention without the flash and memory-efficient kernels that torch chooses by itself",
}
SMALL_CARD = (
    24.0  # GB, what stage 2 of the published size is meant to fit in with the efficient configuration at 256 px
)
EFFICIENT = "stage 2 efficient, 256 px"
UNVERIFIED = "FSDP and DeepSpeed through Accelerate, and more than one card, were not run: unverified."


@dataclass(frozen=True)
class Case:
    """One stage at one size."""

    name: str
    config: str
    size: str  # of the frozen networks: small | published
    changes: tuple[str, ...] = ()


ONE = ("run.batch=1", "run.gradient_accumulation=1")
STAGE2 = ("unet.temporal=decoder", "trained=motion_modules+attentions", "weights.sync=0.05", "weights.trepa=10")
CASES = {
    "small": (
        Case("stage 1, 112 px", "unet/small", "small"),
        Case("stage 2, 112 px", "unet/small", "small", STAGE2),
    ),
    "published": (
        Case("stage 1, 256 px", "unet/stage1", "published", ("run.batch=2",)),
        Case("stage 2, 256 px", "unet/stage2", "published", ONE),
        Case(EFFICIENT, "unet/stage2_efficient", "published", ONE),
        Case("stage 2, 512 px", "unet/stage2_512", "published", ONE),
    ),
}


def write_clips(folder: Path, resolution: int) -> Path:
    """Random crops and noise for sound, as preparation writes them."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(CLIPS):
        crops = rng.integers(0, 256, (FRAMES, resolution, resolution, 3), np.uint8)
        waveform = (0.1 * rng.standard_normal(16_000 * (FRAMES // 25 + 1))).astype(np.float32)
        np.save(folder / f"noise_{number}.crops.npy", crops)
        np.savez(
            folder / f"noise_{number}.npz", lm=np.zeros((FRAMES, 478, 2)), times=np.arange(FRAMES) / 25, wav=waveform
        )
    return folder


def write_vae(folder: Path, size: str) -> Path:
    """The autoencoder of Stable Diffusion or of the embedded checkpoint, with random weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    widths = {"small": (32, 64, 96), "published": (128, 256, 512, 512)}[size]
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),  # type: ignore[arg-type]
        up_block_types=("UpDecoderBlock2D",) * len(widths),  # type: ignore[arg-type]
        block_out_channels=widths,
        layers_per_block=1 if size == "small" else 2,
        norm_num_groups=8 if size == "small" else 32,
    )
    vae.save_pretrained(folder)
    return folder


def write_critics(folder: Path, size: str) -> list[str]:
    """StableSyncNet, VideoMAE and, for the published size, VGG-16; returns the options that name them."""
    from transformers import VideoMAEConfig, VideoMAEModel

    from latentsync.hub import Settings, save_folder
    from latentsync.losses.perceptual import Lpips
    from latentsync.models.stable_syncnet import StableSyncNet
    from latentsync.models.videomae import small_config

    described: Any = load_config("stable_syncnet_small" if size == "small" else "stable_syncnet")
    network = StableSyncNet({**_plain(described.network), "input": _plain(described.input)})
    save_folder(folder / "sync", stable_syncnet=network, settings=Settings())
    giant = {"patch_size": 14, "hidden_size": 1408, "num_hidden_layers": 40, "intermediate_size": 6144}
    shape: dict[str, Any] = small_config() if size == "small" else {**giant, "num_attention_heads": 16}
    VideoMAEModel(VideoMAEConfig(**shape)).save_pretrained(folder / "video")
    named = [f"losses.sync_critic={folder / 'sync'}", f"losses.trepa_critic={folder / 'video'}"]
    if size == "published":
        state = Lpips().state_dict()
        torch.save({key: value for key, value in state.items() if key.startswith("features.")}, folder / "vgg16.pth")
        heads = {f"lin{n}.model.1.weight": state[f"heads.{n}.weight"] for n in range(5)}
        torch.save(heads, folder / "heads.pth")
        named += [
            f"losses.perceptual_backbone={folder / 'vgg16.pth'}",
            f"losses.perceptual_heads={folder / 'heads.pth'}",
        ]
    return named


def write_whisper(folder: Path) -> Path:
    """Whisper tiny's encoder with random weights."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from latentsync.audio.encoders import WhisperAudioEncoder
    from latentsync.hub import Settings, save_folder

    shape = WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)
    return save_folder(folder, audio_encoder=WhisperAudioEncoder(WhisperEncoder(shape)), settings=Settings())


def _plain(group: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(group, resolve=True)
    return plain


def overrides(case: Case, folder: Path, resolution: int, steps: int, workers: int) -> list[str]:
    """Options of a run of `steps` updates on random material, which is written to `folder`."""
    torch.manual_seed(0)
    return [
        f"run_folder={folder / 'run'}",
        f"data.crops={write_clips(folder / 'crops', resolution)}",
        f"vae={write_vae(folder / 'vae', case.size)}",
        *write_critics(folder / "critics", case.size),
        *([f"audio_encoder.load={write_whisper(folder / 'whisper')}"] if case.size == "published" else []),
        f"run.steps={steps + WARM_UP}", f"run.workers={workers}", "run.log=off", "run.log_every=1",
        f"run.save_every={steps + WARM_UP + 1}", "run.ema_decay=0.999",
        *case.changes,
    ]  # fmt: skip


def work(job: dict[str, Any]) -> dict[str, Any]:
    """One case in this process. Returns its figures."""
    from tempfile import TemporaryDirectory

    from latentsync.training.loop.options import RunConfig
    from latentsync.training.loop.runner import run
    from latentsync.training.unet.build import build

    case = Case(**job["case"])
    resolution = load_config(case.config, [*case.changes, *job["changes"]]).resolution
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=FOLDER) as name:
        options = overrides(case, Path(name), resolution, job["steps"], job["workers"])
        config = load_config(case.config, [*options, *job["changes"]])
        built: Any = build(config)[0]
        vary(built, job["variant"])
        built.export = lambda module, folder: None  # speed is what is asked for
        run(built, RunConfig.from_config(config.run), Path(config.run_folder))
        folder = Path(config.run_folder)
        found = {**speeds(folder), "losses": losses_of(folder), "batch": config.run.batch}
        if torch.cuda.is_available():  # what the card must have, not only what tensors fill of it
            found["memory_gib"] = torch.cuda.max_memory_reserved() / 2**30
        if job["flops"] and job["variant"] == "plain":
            found.update(arithmetic(built, config.run.batch, config.run.batch / found["samples_per_second"]))
    return found


def vary(task: Any, variant: str) -> None:
    """Change how the task is computed."""
    if variant == "channels_last":
        for module in (task.module, task.frozen.vae):
            module.to(memory_format=torch.channels_last)
    elif variant == "compiled":
        task.module.unet.compile()
    elif variant == "fused":
        torch.optim.AdamW = functools.partial(torch.optim.AdamW, fused=True)  # type: ignore[misc,assignment]
    elif variant == "math_attention":
        task.losses = sdpa_kernel(SDPBackend.MATH)(task.losses)


def losses_of(folder: Path) -> list[float]:
    """Of every update: what tells whether a variant computes the same."""
    return [entry["loss"] for entry in updates(folder)]


def furthest(losses: Sequence[float], wanted: Sequence[float]) -> float:
    """The largest difference of two runs' losses, as a share of the loss."""
    return float(max(abs(a - b) / abs(b) for a, b in zip(losses, wanted, strict=True)))


def arithmetic(task: Any, samples: int, seconds: float) -> dict[str, float]:
    """Share of the measured matrix rate that an update of `seconds` seconds reaches; its optimiser counts nothing,
    what gradient checkpointing computes a second time counts."""
    from torch.utils.flop_counter import FlopCounterMode

    from latentsync.training.loop.devices import to_device

    device = next(task.module.parameters()).device
    batch = to_device(task.batch(range(samples)), device)
    with FlopCounterMode(display=False) as counter, torch.autocast(device.type, torch.bfloat16):
        torch.stack(list(task.losses(task.module, batch, 0).values())).sum().backward()
    return {"matrix_share": counter.get_total_flops() / seconds / matrix_rate(device)}


def matrix_rate(device: torch.device) -> float:
    """Operations a second in bf16 products of large square matrices."""
    side = MATRIX if device.type == "cuda" else MATRIX // 8
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    for turn in range(MATRIX_TURNS + 1):
        if turn == 1:  # the first one also loads and chooses
            _finish(device)
            started = time.perf_counter()
        _ = one @ one
    _finish(device)
    return 2 * side**3 * MATRIX_TURNS / (time.perf_counter() - started)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measured(case: Case, variant: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One case in a process of its own. A case that fails, for want of memory say, is told with its last words."""
    job = {"case": asdict(case), "variant": variant, "steps": arguments.steps, "workers": arguments.workers}
    job.update(flops=arguments.flops, changes=arguments.set)
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    known = {"case": case.name, "variant": variant}
    if child.returncode:
        return {**known, "failed": last_words(child.returncode, child.stderr)}
    return {**known, **json.loads(child.stdout.splitlines()[-1])}


def last_words(status: int, stderr: str) -> str:
    """Why a process failed: the signal that ended it, or the last line it wrote."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return stderr.strip().splitlines()[-1][-200:]


def row(found: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """One table row; `plain` is the same case without a variant."""
    if "failed" in found:
        return [found["case"], found["variant"], f"failed: {found['failed']}", *[""] * (len(HEADER) - 3)]
    speed, ratio, off = found["samples_per_second"], "", ""
    if "failed" not in plain:
        ratio = f"{speed / plain['samples_per_second']:.2f}"
        off = f"{furthest(found['losses'], plain['losses']):.1e}"
    share = f"{found['matrix_share']:.0%}" if "matrix_share" in found else ""
    return [
        found["case"], found["variant"], f"{found['batch'] / speed:.3g}", f"{speed:.3g}", ratio, off,
        f"{found['memory_gib']:.2f}", f"{found['data_share']:.1%}", share,
    ]  # fmt: skip


def not_run(size: str) -> bool:
    """Whether the cases of this size cannot be run here."""
    return size == "published" and not torch.cuda.is_available()


def small_card(every: Sequence[dict[str, Any]]) -> str:
    """Whether the efficient stage 2 fits in a small card, where it was measured."""
    peaks = [found["memory_gib"] for found in every if found["case"] == EFFICIENT and "memory_gib" in found]
    if not peaks:
        return ""
    peak = peaks[0] * 2**30 / 1e9
    return f"{EFFICIENT}: {peak:.1f} GB, {'fits' if peak < SMALL_CARD else 'does not fit'} in {SMALL_CARD:.0f} GB.\n\n"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = common.parser(__doc__, EXAMPLE)
    parser.add_argument("--size", nargs="+", default=list(CASES), choices=tuple(CASES), help="default: both")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--variants", nargs="*", default=["plain"], choices=tuple(VARIANTS), help="default: plain")
    parser.add_argument("--steps", type=int, default=20, help="counted updates of each (default: 20)")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data (default: 2)")
    parser.add_argument("--flops", action="store_true", help="also count operations, and measure the matrix rate")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to every configuration")
    parser.add_argument("--name", default="train", help="of the result files (default: train)")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def report(arguments: argparse.Namespace, every: list[dict[str, Any]], lines: list[list[str]]) -> None:
    """Write `results/NAME.md` and `.json`."""
    missing = [case.name for size in arguments.size if not_run(size) for case in CASES[size]]
    told = f"Not run here, for want of a CUDA card: {'; '.join(missing)}.\n\n" if missing else ""
    shown = ", ".join(f"{name}: {VARIANTS[name]}" for name in dict.fromkeys(found["variant"] for found in every))
    text = (
        f"# Training\n\n{common.machine()}\n\nMedians of {arguments.steps} updates with random weights and random "
        f"clips, {arguments.workers} workers, caches warm.\n\n"
        f"{common.table(HEADER, lines)}\nVariants: {shown}. Losses off by: the largest difference to the plain run's, "
        f"update by update, as a share.\n\n{told}{small_card(every)}{UNVERIFIED}\n"
    )
    common.write_results(arguments.name, text, every)


def main() -> None:
    """Run every case that this machine can run."""
    arguments = parse()
    if arguments.job:
        print(json.dumps(work(json.loads(arguments.job))))
        return
    every: list[dict[str, Any]] = []
    lines: list[list[str]] = []
    cases = [case for size in arguments.size if not not_run(size) for case in CASES[size]]
    for case in (case for case in cases if arguments.only in case.name):
        found = [measured(case, variant, arguments) for variant in dict.fromkeys(["plain", *arguments.variants])]
        every += found
        lines += [row(one, found[0]) for one in found]
        print(common.table(HEADER, lines), flush=True)
    report(arguments, every, lines)


if __name__ == "__main__":
    main()
