"""Has the checkpoint that a run goes on from the shape that its configuration asks for?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def differing(given: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What a checkpoint has (`found`) otherwise than it is asked for (`given`), a phrase each; keys that it does not
    have are passed over. Tuples and lists are alike: files and configurations write one for the other.
    """
    return [
        f"{key} is {_plain(found[key])!r} and {_plain(value)!r} is asked for"
        for key, value in given.items()
        if key in found and _plain(found[key]) != _plain(value)
    ]


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
