"""Pipelines: read -> track -> align -> encode -> denoise -> decode -> paste -> write, as one stream."""
