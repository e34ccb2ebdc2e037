"""Diffusion: what the network is given, the noise it starts from, and the loop that removes it."""
