"""Every figure that can be measured of a dub: what it is, where it comes from, which way is better, what it needs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

HIGHER, LOWER, ZERO, ONE, LIKE = "higher", "lower", "nearest 0", "nearest 1", "as the truth's"
FAMILIES = ("sync", "articulation", "silence", "identity", "quality", "stability", "cost")


@dataclass(frozen=True)
class Missing:
    """A figure that could not be measured, and what to give so that it can; `fault`: because the dub itself is bad."""

    reason: str
    fault: bool = False


Figure = float | Missing
Figures = dict[str, Figure]


def known(value: float, reason: str) -> Figure:
    """`value`, or that it is missing for `reason` where it is no finite number."""
    return float(value) if math.isfinite(value) else Missing(reason)


def all_missing(family: str, reason: str) -> Figures:
    """Every figure of a family, missing for one reason."""
    return {metric.key: Missing(reason) for metric in of_family(family)}


@dataclass(frozen=True)
class Metric:
    """One figure."""

    key: str
    family: str
    title: str  # heads the column; with its unit
    direction: str  # HIGHER, LOWER, ZERO, ONE or LIKE: which way is better
    source: str  # paper or origin
    needs: str
    digits: int = 2  # behind the point, in tables


CHUNG = "Chung & Zisserman 2016 (SyncNet)"
PRAJWAL = "Prajwal et al. 2020 (Wav2Lip)"
UNISYNC = "UniSync, arXiv 2503.16357"
LATENTSYNC = "LatentSync, arXiv 2412.09262"
KEYSYNC = "LipLeak of KeySync, arXiv 2505.00497"
OURS = "this project"
AUDIO, SOURCE, REPORT = "the audio", "--source", "--dub-report"
SPEECH_MOUTH = "--truth, or --audio with a picture of its speaker"
PAUSES = "a second of pauses in --audio"
RIGHT = "--truth, or the source's own audio (reconstruction)"

METRICS = (
    Metric("audio_offset_ms", "sync", "sound late ms", ZERO, "cross-correlation", AUDIO, 1),
    Metric("mouth_offset_ms", "sync", "mouth late ms", ZERO, f"{OURS}: lag of the lip gap", SPEECH_MOUTH, 0),
    Metric("syncnet_offset", "sync", "sound late by SyncNet, frames", ZERO, CHUNG, "--syncnet", 1),
    Metric("lse_c", "sync", "LSE-C", HIGHER, PRAJWAL, "--syncnet"),
    Metric("lse_d", "sync", "LSE-D", LOWER, PRAJWAL, "--syncnet"),
    Metric("unisync_offset", "sync", "sound late by UniSync, frames", ZERO, UNISYNC, "--unisync", 1),
    Metric("p_sync", "sync", "p_sync", HIGHER, UNISYNC, "--unisync"),
    Metric("stable_syncnet_offset", "sync", "sound late by StableSyncNet, frames", ZERO, LATENTSYNC,
           "--stable-syncnet", 1),
    Metric("stable_syncnet_accuracy", "sync", "StableSyncNet accuracy", HIGHER, LATENTSYNC, "--stable-syncnet"),
    Metric("face_seen", "articulation", "frames with a face", HIGHER, OURS, "nothing"),
    Metric("r_target", "articulation", "r_target", HIGHER, f"{OURS}: partial correlation", f"{SPEECH_MOUTH}; {SOURCE}"),
    Metric("r_leak", "articulation", "r_leak", ZERO, f"{OURS}: partial correlation", f"{SPEECH_MOUTH}; {SOURCE}"),
    Metric("r_right", "articulation", "lip gap against the right one, r", HIGHER, "Pearson correlation", RIGHT),
    Metric("r_loudness", "articulation", "lip gap against loudness, r", HIGHER, "rank correlation", AUDIO),
    Metric("movement", "articulation", "lip gap's spread in speech, % of face", LIKE, OURS, AUDIO),
    Metric("lmd_px", "articulation", "LMD px", LOWER, "Chen et al. 2018 (ECCV)", RIGHT),
    Metric("lmd", "articulation", "LMD, % of face", LOWER, "Chen et al. 2018 (ECCV)", RIGHT),
    Metric(
        "closed_lips", "articulation", "lips closed on /p b m/", HIGHER, "Edwards et al. 2016 (JALI)",
        "--phonemes or --words",
    ),
    Metric("silence_open", "silence", "lips apart, nobody speaks", LOWER, KEYSYNC, PAUSES),
    Metric("silence_motion", "silence", "movement, nobody speaks, % of face a frame", LOWER, OURS, PAUSES),
    Metric("identity", "identity", "face embedding, cosine", HIGHER, "MobileFaceNet, arXiv 1804.07573",
           f"{SOURCE}; --identity-weights"),
    Metric("psnr_mouth", "quality", "mouth PSNR dB", HIGHER, "ITU-T J.340", RIGHT, 1),
    Metric("ssim_mouth", "quality", "mouth SSIM", HIGHER, "Wang et al. 2004", RIGHT, 3),
    Metric("lpips", "quality", "LPIPS, lower face", LOWER, "Zhang et al. 2018, arXiv 1801.03924",
           f"{RIGHT}; --lpips-backbone, --lpips-heads", 3),
    Metric("psnr_outside", "quality", "PSNR outside the face dB", HIGHER, "ITU-T J.340", SOURCE, 1),
    Metric("sharpness", "quality", "sharpness of the source's mouth", ONE, "variance of the Laplacian", SOURCE),
    Metric("fid", "quality", "FID", LOWER, "Heusel et al. 2017, arXiv 1706.08500",
           f"{SOURCE} or --truth; --fid-weights; torchmetrics, torch-fidelity", 1),
    Metric("fvd", "quality", "FVD", LOWER, "Unterthiner et al. 2018, arXiv 1812.01717; VideoMAE as in 2404.12391",
           f"{SOURCE} or --truth; --fvd-features; torchmetrics", 1),
    Metric("flicker", "stability", "flicker of the source's", ONE, OURS, SOURCE),
    Metric("joint_jitter", "stability", "change across joints of windows", ONE, OURS, f"{SOURCE}; {REPORT}"),
    Metric("colour_shift", "stability", "colour shift at the border, grey levels", LOWER, OURS, SOURCE),
    Metric("cost_seconds", "cost", "seconds a second of video", LOWER, "wall clock", REPORT, 1),
    Metric("peak_memory_mib", "cost", "peak memory MiB", LOWER, "resident size", REPORT, 0),
    Metric("peak_device_memory_mib", "cost", "peak memory of the card MiB", LOWER, "CUDA's allocator", REPORT, 0),
)  # fmt: skip
BY_KEY = {metric.key: metric for metric in METRICS}
POOLED = ("fid", "fvd")  # of all items together: a distance of two sets of pictures


def of_family(family: str) -> list[Metric]:
    """The metrics of one family, in order."""
    return [metric for metric in METRICS if metric.family == family]


def describe(metrics: Iterable[Metric] = METRICS) -> str:
    """A Markdown table of metrics: what each is, which way is better, its origin and what it needs."""
    rows = [("metric", "key", "family", "better", "from", "needs"), ("---",) * 6]
    rows += [(m.title, f"`{m.key}`", m.family, m.direction, m.source, m.needs) for m in metrics]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
