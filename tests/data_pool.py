"""Work for other processes in the tests; light, because each process imports it anew."""

from __future__ import annotations

import os


def double(number: int) -> int:
    """Twice the number; 13 kills the process."""
    if number == 13:
        os._exit(1)
    return 2 * number


def nothing() -> None:
    """An initialiser that does not import anything."""
