"""Evaluation: measures of dubbed files against the video that was dubbed and the speech that was given."""
