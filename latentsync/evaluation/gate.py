"""The quality gate: cheap figures of one dub against limits, so that a bad one is not handed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from latentsync.config import load_config, unknown_key
from latentsync.evaluation.evaluate import DUB, measure_take, takes_of
from latentsync.evaluation.families import sync
from latentsync.evaluation.families.distribution import Distributions
from latentsync.evaluation.instruments import Instruments
from latentsync.evaluation.items import Item
from latentsync.evaluation.material import Material
from latentsync.evaluation.registry import BY_KEY, Figure, Figures, Missing
from latentsync.evaluation.report.content import figures
from latentsync.types import InputError

LIMITS = "check"  # configuration with the limits


@dataclass(frozen=True)
class Limit:
    """What one figure may be; None is no limit."""

    low: float | None = None
    high: float | None = None

    def complaint(self, key: str, found: Figure) -> str | None:
        """What is wrong with a figure, None where nothing is."""
        metric = BY_KEY[key]
        if isinstance(found, Missing):
            return f"{metric.title}: {found.reason}" if found.fault else None
        shown = f"{metric.title} is {found:.{metric.digits}f}"
        if self.low is not None and found < self.low:
            return f"{shown}, under {self.low:g}"
        return f"{shown}, over {self.high:g}" if self.high is not None and found > self.high else None

    def excess(self, found: Figure) -> float:
        """How far a figure lies outside, in shares of the limit; 0 inside or where it is missing through no fault."""
        if isinstance(found, Missing):
            return 1.0 if found.fault else 0.0
        low = 0.0 if self.low is None else (self.low - found) / max(abs(self.low), 1e-6)
        high = 0.0 if self.high is None else (found - self.high) / max(abs(self.high), 1e-6)
        return max(low, high, 0.0)


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one dub."""

    figures: Figures
    limits: Mapping[str, Limit]
    complaints: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.complaints

    @property
    def badness(self) -> tuple[int, float]:
        """Smaller is better: complaints, and the largest excess over a limit."""
        worst = max((limit.excess(self.figures[key]) for key, limit in self.limits.items()), default=0.0)
        return len(self.complaints), worst

    def as_json(self) -> dict[str, Any]:
        """For the dub's report: figures, limits and what was wrong."""
        return {
            "passed": self.passed,
            "complaints": list(self.complaints),
            "limits": {key: {"low": limit.low, "high": limit.high} for key, limit in self.limits.items()},
            **figures(self.figures),
        }

    def describe(self) -> str:
        """The sentence that a failure is told with."""
        return "; ".join(self.complaints)


def read_limits(name: str = LIMITS) -> dict[str, Limit]:
    """Limits by key, of a configuration of the package or a file of one's own (`base:` names what it changes).

    InputError for a figure that there is not, or a limit of another form.
    """
    content = OmegaConf.to_container(load_config(name), resolve=True)
    assert isinstance(content, dict)
    limits = {}
    for key, value in content.items():
        if key not in BY_KEY:
            raise unknown_key(str(key), BY_KEY, f"the limits {name}")
        if not isinstance(value, dict) or set(value) - {"low", "high"}:
            raise InputError(f"the limits {name}: {key} is {value!r}; write {{low: ..., high: ...}}, null for no limit")
        limits[str(key)] = Limit(**value)
    return limits


def check(item: Item, limits: Mapping[str, Limit], instruments: Instruments | None = None) -> Verdict:
    """Measure one dub and compare it with the limits. instruments: a face recognition network, where one is there."""
    instruments, material = instruments or Instruments(), Material(item)
    try:
        take = takes_of(item, material)[DUB]
        heard = sync.measure(take, instruments.critics)
        found = measure_take(take, heard.figures, instruments, Distributions(None, None))
    except InputError as error:  # such as a dub without a face
        nothing: Figures = {key: Missing(str(error), fault=True) for key in limits}
        return Verdict(nothing, limits, (str(error),))
    kept = {key: found[key] for key in limits}
    complaints = [limit.complaint(key, kept[key]) for key, limit in limits.items()]
    return Verdict(kept, limits, tuple(complaint for complaint in complaints if complaint))
