"""How good the pictures are: against the right ones where these are known, against the source everywhere else."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from latentsync.evaluation.families.pictures import Moment
from latentsync.evaluation.material import Take
from latentsync.evaluation.mouths import MouthTrack
from latentsync.evaluation.quality import WHITE, RegionError, cut, pixel_box, sharpness
from latentsync.evaluation.registry import RIGHT, SOURCE, Figure, Figures, Missing, known
from latentsync.faces import alignment
from latentsync.losses.perceptual import Lpips, perceptual_loss

PSNR_CEILING = 100.0  # dB, told of equal pictures: JSON has no infinity
SSIM_SIGMA, SSIM_REACH = 1.5, 5  # px, of the Gaussian window and how far it reaches (11 x 11)
SSIM_C1, SSIM_C2 = (0.01 * WHITE) ** 2, (0.03 * WHITE) ** 2
LPIPS_SIZE = 256  # px of the aligned face
LPIPS_EVERY = 5  # frames
NO_FACE = "no frame shows the face"


class PictureQuality:
    """PSNR, SSIM and LPIPS against the right answer; sharpness, and what changed outside the face, against the source.

    Regions are those of the right answer and of the source, so that a dub cannot choose where it is looked at.
    """

    def __init__(self, take: Take, lpips: Lpips | None) -> None:
        self._take, self._lpips = take, lpips
        self._source = None if take.source is None else take.material.mouths(take.source)
        self._right = None if take.right is None else take.material.mouths(take.right)
        self._outside, self._inside = RegionError(), RegionError()
        self._ssim: list[float] = []
        self._lpips_found: list[float] = []
        self._sharp: list[tuple[float, float]] = []

    def add(self, moment: Moment) -> None:
        """See Watcher."""
        if self._source is not None and moment.source is not None and moment.index < len(self._source.times):
            self._beside_source(moment, moment.source, self._source)
        if self._right is not None and moment.right is not None and moment.index < len(self._right.times):
            self._beside_right(moment, moment.right, self._right)

    def _beside_source(self, moment: Moment, source: np.ndarray, mouths: MouthTrack) -> None:
        size = source.shape[1], source.shape[0]
        self._outside.add(moment.made, source, ~mouths.touched(moment.index, size))
        box = mouths.boxes[moment.index]
        if np.isfinite(box).all():
            place = pixel_box(box, size)
            self._sharp.append((sharpness(cut(moment.made, place)), sharpness(cut(source, place))))

    def _beside_right(self, moment: Moment, right: np.ndarray, mouths: MouthTrack) -> None:
        box = mouths.boxes[moment.index]
        if not np.isfinite(box).all():
            return
        place = pixel_box(box, (right.shape[1], right.shape[0]))
        made, wanted = cut(moment.made, place), cut(right, place)
        self._inside.add(made, wanted)
        self._ssim.append(ssim(made, wanted))
        if self._lpips is not None and moment.index % LPIPS_EVERY == 0:
            faces = [face_pixels(image, mouths.anchors[moment.index]) for image in (moment.made, right)]
            with torch.inference_mode():
                self._lpips_found.append(float(perceptual_loss(self._lpips, *(face[None, None] for face in faces))))

    def figures(self) -> Figures:
        """See Watcher."""
        return {**self._against_right(), **self._against_source()}

    def _against_right(self) -> Figures:
        if self._right is None:
            return dict.fromkeys(("psnr_mouth", "ssim_mouth", "lpips"), Missing(f"give {RIGHT}"))
        alike = np.array(self._ssim)
        return {
            "psnr_mouth": _decibels(self._inside),
            "ssim_mouth": known(float(np.nanmean(alike)) if np.isfinite(alike).any() else float("nan"), NO_FACE),
            "lpips": self._perceptual(),
        }

    def _perceptual(self) -> Figure:
        if self._lpips is None:
            return Missing("give --lpips-backbone (torchvision's vgg16 file) and --lpips-heads (lpips_v0.1_vgg.pth)")
        return float(np.mean(self._lpips_found)) if self._lpips_found else Missing(NO_FACE)

    def _against_source(self) -> Figures:
        if self._source is None:
            return dict.fromkeys(("psnr_outside", "sharpness"), Missing(f"give {SOURCE}"))
        pairs = np.array(self._sharp).reshape(-1, 2)
        made, source = np.nanmean(pairs, axis=0) if np.isfinite(pairs).all(axis=1).any() else (0.0, 0.0)
        return {
            "psnr_outside": _decibels(self._outside),
            "sharpness": known(float(made / source) if source else float("nan"), NO_FACE),
        }


def _decibels(error: RegionError) -> Figure:
    if error.count == 0:
        return Missing(NO_FACE)
    return min(error.psnr, PSNR_CEILING)


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity of two (h, w, 3) uint8, mean over colours and places; nan under 11 px.

    Wang et al. 2004, equation 13, with its Gaussian window; places at which the window leaves the picture do not count.
    """
    if min(image.shape[:2]) < 2 * SSIM_REACH + 1:
        return float("nan")
    first, second = image.astype(np.float64), reference.astype(np.float64)

    def local(picture: np.ndarray) -> np.ndarray:
        blurred = gaussian_filter(picture, (SSIM_SIGMA, SSIM_SIGMA, 0), radius=(SSIM_REACH, SSIM_REACH, 0))
        return blurred[SSIM_REACH:-SSIM_REACH, SSIM_REACH:-SSIM_REACH]

    mean, other = local(first), local(second)
    spread, other_spread = local(first * first) - mean**2, local(second * second) - other**2
    together = local(first * second) - mean * other
    alike = (2 * mean * other + SSIM_C1) * (2 * together + SSIM_C2)
    return float((alike / ((mean**2 + other**2 + SSIM_C1) * (spread + other_spread + SSIM_C2))).mean())


def face_pixels(image: np.ndarray, anchors: np.ndarray) -> torch.Tensor:
    """(3, LPIPS_SIZE, LPIPS_SIZE) pixel_values of the face at anchors (3, 2) px of (h, w, 3) uint8."""
    crop = alignment.crop(image, alignment.Aligner(LPIPS_SIZE).matrix(anchors), LPIPS_SIZE)
    return torch.from_numpy(crop).permute(2, 0, 1).float() / (WHITE / 2) - 1
