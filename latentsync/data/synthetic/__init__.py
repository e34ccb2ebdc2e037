"""Talking heads whose truth is known exactly: a drawn face that speaks with a synthetic voice.

speech = synthesize_speech(1, seconds=3.0)
speaker = SyntheticSpeaker(1000, 256, emotion="happy")
write_clip("clip.mp4", speaker.frames(speech, motion_seed=7), waveform=speech.waveform)
counterfactual(1000, seconds=3.0).write("triple")  # a video, other speech for it, and the right answer
"""

from latentsync.data.synthetic.camera import Camera
from latentsync.data.synthetic.clip import SyntheticSpeaker, render, write_clip
from latentsync.data.synthetic.emotion import EMOTIONS, Emotion
from latentsync.data.synthetic.identity import Identity
from latentsync.data.synthetic.speech import Articulation, Phoneme, Speech, synthesize_speech
from latentsync.data.synthetic.triple import Counterfactual, counterfactual
from latentsync.data.synthetic.truth import Truth
from latentsync.data.synthetic.voice import Voice

__all__ = [
    "EMOTIONS",
    "Articulation",
    "Camera",
    "Counterfactual",
    "Emotion",
    "Identity",
    "Phoneme",
    "Speech",
    "SyntheticSpeaker",
    "Truth",
    "Voice",
    "counterfactual",
    "render",
    "synthesize_speech",
    "write_clip",
]
