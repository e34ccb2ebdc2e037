"""From raw videos to a manifest: stages that each leave a result keyed by content, and what runs them.

probe -> resample -> cuts -> segments -> track -> sync -> quality -> features, then the split, the manifest, the report.
"""
