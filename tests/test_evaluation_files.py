"""Measures of whole files: a real clip against itself, encoded again by the product's own writer with known changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latentsync.evaluation.articulation import r_target_and_leak
from latentsync.evaluation.mouths import MouthTrack, mouth_track
from latentsync.evaluation.quality import compare
from latentsync.evaluation.timing import audio_offset
from latentsync.media.audio import read_waveform, write_wav
from latentsync.media.reader import VideoReader
from latentsync.media.writer import VideoWriter
from latentsync.types import AUDIO_SAMPLE_RATE

SECONDS = 1.6  # of the clip that is measured: 40 frames, of which the speech begins at 0.6 s


@pytest.fixture(scope="module")
def clip(clips_dir: Path) -> Path:
    return clips_dir / "grid_s1" / "bbil3s.mp4"


@pytest.fixture(scope="module")
def mouths(clip: Path) -> MouthTrack:
    return mouth_track(clip, seconds=SECONDS)


def encode_again(clip: Path, out: Path, audio: Path, mouths: MouthTrack, *, flatten: bool = False) -> Path:
    """The clip through the writer; `flatten` paints every mouth in its mean colour."""
    reader = VideoReader(clip)
    with VideoWriter(out, reader.info, audio=audio, audio_seconds=SECONDS) as writer:
        for frame, box in zip(reader.frames(), mouths.boxes.astype(int), strict=False):
            left, top, right, bottom = box
            image = frame.image.copy()
            if flatten:
                image[top:bottom, left:right] = image[top:bottom, left:right].mean((0, 1))
            writer.write(image, frame.time)
    return out


def test_the_same_video_again_is_not_dubbed_and_as_sharp(clip: Path, mouths: MouthTrack, tmp_path: Path) -> None:
    again = encode_again(clip, tmp_path / "again.mp4", clip, mouths)
    made, other = mouth_track(again), np.roll(mouths.gaps, 12)
    target, leak = r_target_and_leak(made.gaps, other, mouths.gaps)
    assert leak > 0.98 and abs(target) < 0.4  # what the codec leaves over agrees with anything by chance
    pictures = compare(clip, again, mouths)
    assert pictures.frames == len(mouths.times) == len(made.times) == round(SECONDS * 25)
    assert pictures.psnr_outside > 42 and pictures.psnr_mouth > 38
    assert 0.8 < pictures.sharpness_share < 1.2


def test_a_flattened_mouth_is_blurred_and_the_rest_untouched(clip: Path, mouths: MouthTrack, tmp_path: Path) -> None:
    pictures = compare(clip, encode_again(clip, tmp_path / "flat.mp4", clip, mouths, flatten=True), mouths)
    assert pictures.sharpness_share < 0.3
    assert pictures.psnr_outside > 42 and pictures.psnr_mouth < 30


@pytest.mark.parametrize("shift", [0.0, 0.125])
def test_audio_offset_of_a_written_file(clip: Path, mouths: MouthTrack, tmp_path: Path, shift: float) -> None:
    with read_waveform(clip, SECONDS) as spooled:
        speech = spooled.read(0, len(spooled))
    later = np.concatenate([np.zeros(round(shift * AUDIO_SAMPLE_RATE), np.float32), speech])
    for name, samples in (("given.wav", speech), ("later.wav", later)):
        write_wav(tmp_path / name, samples, AUDIO_SAMPLE_RATE)
    written = encode_again(clip, tmp_path / "dub.mp4", tmp_path / "later.wav", mouths)
    found = audio_offset(written, tmp_path / "given.wav")
    assert found.seconds == pytest.approx(shift, abs=0.002) and found.agreement > 0.9
