"""Faces: detection, tracking through gaps and cuts, alignment, masks and paste-back."""
