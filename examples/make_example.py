"""Make the example again: python examples/make_example.py [FOLDER]. It is a function of the numbers below.

The person and both sentences are kept out of every synthetic training set; identities for training start at 1000.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from latentsync.data.synthetic import Speech, SyntheticSpeaker, Voice, synthesize_speech, write_clip
from latentsync.media.audio import write_wav
from latentsync.types import AUDIO_SAMPLE_RATE, MODEL_FPS

IDENTITY, MOTION = 26, 7
SIZE = 512  # pixels, width and height
SECONDS = 4.0
QUALITY = 13  # constant rate factor: small enough to travel with the code
TALK = "my sister opens the window, the people walk away"
SPEECH = "five happy people jump, we love the brown boat"


def voice() -> Voice:
    return Voice(pitch=118.0, formant_scale=1.02, breathiness=0.3, open_quotient=0.6, rate=1.12, liveliness=1.1)


def sentences() -> tuple[Speech, Speech]:
    """What the clip says, and what it is to be made to say."""
    return (
        synthesize_speech(1, text=TALK, seconds=SECONDS, voice=voice()),
        synthesize_speech(2, text=SPEECH, seconds=SECONDS, voice=voice()),
    )


def truth(speaker: SyntheticSpeaker, speech: Speech) -> dict[str, object]:
    """The true mouth of this person saying this, frame by frame."""
    known = speaker.truth(speech, MOTION)
    return {
        "text": speech.text,
        "opening": [round(float(v), 4) for v in known.opening],
        "lip_gap": [round(float(v), 5) for v in known.lip_gap],
    }


def main(folder: Path) -> None:
    talk, speech = sentences()
    speaker = SyntheticSpeaker(IDENTITY, SIZE)
    write_clip(folder / "talk.mp4", speaker.frames(talk, MOTION), waveform=talk.waveform, crf=QUALITY)
    write_wav(folder / "speech.wav", speech.waveform, AUDIO_SAMPLE_RATE)
    facts = {"fps": MODEL_FPS, "identity": IDENTITY, "motion": MOTION, "size": SIZE}
    known = facts | {"talk": truth(speaker, talk), "speech": truth(speaker, speech)}
    (folder / "truth.json").write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
