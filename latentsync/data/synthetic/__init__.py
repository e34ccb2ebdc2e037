"""Talking heads whose truth is known exactly: a drawn face that speaks with a synthetic voice."""

from latentsync.data.synthetic.clip import SyntheticSpeaker, Truth, render, write_clip
from latentsync.data.synthetic.speech import Articulation, Phoneme, Speech, synthesize_speech
from latentsync.data.synthetic.voice import Voice

__all__ = [
    "Articulation",
    "Phoneme",
    "Speech",
    "SyntheticSpeaker",
    "Truth",
    "Voice",
    "render",
    "synthesize_speech",
    "write_clip",
]
