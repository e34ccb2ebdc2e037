"""Packages of this installation against what latentsync, and they of each other, ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

EXTRAS = ("train", "xformers")  # those that users install


@dataclass(frozen=True)
class Package:
    """One package that latentsync asks for. extra: the optional group that wants it, "" when dubbing needs it."""

    name: str
    wanted: str
    extra: str
    version: str | None
    problem: str  # "", "missing", "too old ..." or "too new ..."


def wanted_packages() -> Iterator[Package]:
    """Every package that the installed latentsync names, with what is there. PackageNotFoundError: not installed."""
    requirements = [Requirement(line) for line in metadata.requires("latentsync") or []]
    demands = _demands({canonicalize_name(requirement.name) for requirement in requirements})
    for extra in ("", *EXTRAS):
        for requirement in requirements:
            if _belongs(requirement, extra):
                yield _examine(requirement, extra, demands)


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    if marker is None:
        return extra == ""
    return marker.evaluate({"extra": extra}) and (extra == "" or not marker.evaluate({"extra": ""}))


def _demands(askers: set[str]) -> dict[str, list[tuple[str, Requirement]]]:
    """What the installed ones of `askers` ask of each package, e.g. mediapipe of numpy: (asker, requirement)."""
    demands: dict[str, list[tuple[str, Requirement]]] = {}
    for asker in askers & {canonicalize_name(found.name) for found in metadata.distributions()}:
        for demand in map(Requirement, metadata.requires(asker) or []):
            if _belongs(demand, ""):
                demands.setdefault(canonicalize_name(demand.name), []).append((asker, demand))
    return demands


def _examine(requirement: Requirement, extra: str, demands: dict[str, list[tuple[str, Requirement]]]) -> Package:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Package(requirement.name, str(requirement.specifier), extra, None, "missing")
    asked = [("latentsync", requirement), *demands.get(canonicalize_name(requirement.name), [])]
    problems = (problem(version, demand, asker) for asker, demand in asked)
    return Package(requirement.name, str(requirement.specifier), extra, version, next(filter(None, problems), ""))


def problem(version: str, demand: Requirement, asker: str) -> str:
    """Nothing when `version` meets the demand, else whether it is too old or too new, and for whom."""
    if demand.specifier.contains(version, prereleases=True):
        return ""
    floors = [Version(part.version) for part in demand.specifier if part.operator in (">=", ">", "==", "~=")]
    old = any(Version(version) < floor for floor in floors)
    return f"too {'old' if old else 'new'} for {asker}, which asks for {demand.name}{demand.specifier}"
