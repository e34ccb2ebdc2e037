"""Waveform -> features on the audio clock -> windows of tokens on the video clock; every reader streams."""
