"""Bytes on disk <-> frames and samples, streaming: the only room that knows containers and codecs."""
