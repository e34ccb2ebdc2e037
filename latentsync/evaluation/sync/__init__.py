"""Lip sync as critics see it: what they look at, how their answers are scored, and the critics themselves."""
