"""The machine-readable note that a file is AI-modified (EU AI Act, article 50; IPTC digital source type)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

# https://cv.iptc.org/newscodes/digitalsourcetype/
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
DIGITAL_SOURCE_KEY = "DigitalSourceType"
COMMENT = "AI-modified: the mouth was regenerated to speak another sound track."
# What the source says of itself and a dubbed copy may go on saying.
KEPT_TAGS = ("title", "artist", "album", "date", "creation_time", "copyright", "description", "language")


def output_metadata(source_tags: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Container tags of a dubbed file: the note, the kept tags of the source, and what the caller adds."""
    kept = {key.lower(): value for key, value in source_tags.items() if key.lower() in KEPT_TAGS}
    note = {"comment": COMMENT, DIGITAL_SOURCE_KEY: DIGITAL_SOURCE_TYPE, "software": f"latentsync {_version()}"}
    return kept | {key: str(value) for key, value in extra.items()} | note


def _version() -> str:
    try:
        return version("latentsync")
    except PackageNotFoundError:
        return "(not installed)"
