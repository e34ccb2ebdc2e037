"""The machine-readable note that a file is AI-modified (EU AI Act, article 50; IPTC digital source type)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

# https://cv.iptc.org/newscodes/digitalsourcetype/
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
DIGITAL_SOURCE_KEY = "DigitalSourceType"
COMMENT = "AI-modified: the mouth was regenerated to speak another sound track."
# What the source says of itself and a dubbed copy may go on saying.
KEPT_TAGS = ("title", "artist", "album", "date", "creation_time", "copyright", "description", "language")

XMP_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")  # XMP specification part 3, 1.2.7: XMP in MPEG-4
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">\
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" \
xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><Iptc4xmpExt:DigitalSourceType>\
{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def output_metadata(source_tags: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Container tags of a dubbed file: the note, the kept tags of the source, and what the caller adds."""
    kept = {key.lower(): value for key, value in source_tags.items() if key.lower() in KEPT_TAGS}
    note = {"comment": COMMENT, DIGITAL_SOURCE_KEY: DIGITAL_SOURCE_TYPE, "software": f"latentsync {_version()}"}
    return kept | {key: str(value) for key, value in extra.items()} | note


def xmp_box() -> bytes:
    """A box that, put behind a finished mp4, carries the note where photo and video tools look for it."""
    body = XMP_UUID + XMP.encode()
    return struct.pack(">I4s", 8 + len(body), b"uuid") + body


def _version() -> str:
    try:
        return version("latentsync")
    except PackageNotFoundError:
        return "(not installed)"
