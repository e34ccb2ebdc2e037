"""Keeping mediapipe's start-up chatter off the terminal without losing anybody's errors."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

CHATTER = re.compile(
    rb"^(I|W)\d{4} .*(inference_feedback_manager|landmark_projection_calculator|gl_context|face_landmarker_graph)"
    rb"|^INFO: Created TensorFlow Lite|^WARNING: All log messages before absl::InitializeLog"
)
STANDARD_ERROR = 2  # file descriptor that C++ writes to
_one_at_a_time = threading.RLock()  # the descriptor belongs to the whole process


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back standard error inside the block, then pass on every line but mediapipe's known chatter."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    with _one_at_a_time, tempfile.TemporaryFile() as held:
        original = os.dup(STANDARD_ERROR)
        os.dup2(held.fileno(), STANDARD_ERROR)
        try:
            yield
        finally:
            os.dup2(original, STANDARD_ERROR)
            held.seek(0)
            for line in held:
                if not CHATTER.search(line):
                    os.write(original, line)
            os.close(original)
