"""`python -m latentsync` is the command `latentsync`."""

from __future__ import annotations

import sys

from latentsync.cli import main

sys.exit(main())
