"""Configuration as difference: one full default, small deltas, overrides. Also: where the package's own files lie.

A delta names the file that it changes in its key `base`, relative to its own folder; a group within a file may do so
too. A key that the base does not have is an error, so a misspelt option cannot be ignored in silence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from latentsync.types import InputError

NEAR = 0.7  # share of equal letters from which two keys count as spelled alike
WORDS = ("on", "off", "yes", "no")  # texts, although YAML 1.1 takes them for true and false
PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """Path of a file or folder that travels with the package, e.g. `configs/unet/default.yaml`.

    In a wheel these lie inside the package, in a checkout beside it. InputError when it is in neither place.
    """
    for root in (PACKAGE, PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise InputError(f"{name} is not in this installation of latentsync ({PACKAGE}): install it again")


def unknown_key(key: str, known: Iterable[str], where: str) -> InputError:
    """The error for a `key` that nothing reads; it names up to three known keys that are spelled alike."""
    last_parts = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(key.rpartition(".")[2], last_parts, n=3, cutoff=NEAR)
    if near:
        hint = f"did you mean {' or '.join(last_parts[name] for name in near)}?"
    else:
        hint = f"known are: {', '.join(sorted(last_parts.values()))}"
    return InputError(f"{where}: unknown option {key!r}; {hint}")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Merge a configuration file, the chain of files it is `base`d on, and `overrides` ("training.seed=3").

    path: a yaml file, or the name of one of the package's own without suffix ("unet/stage2").
    InputError names an unknown key and its near matches, or a value of another kind than the default's.
    """
    found = _find(path)
    config = _read_chain(found)
    try:
        changes = OmegaConf.from_dotlist([_worded(override) for override in overrides])
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise InputError(f"overrides {list(overrides)} are not of the form key=value: {error}") from error
    return _merge(config, changes, "the overrides")


def _worded(override: str) -> str:
    """`run.log=off` as a text: YAML 1.1 reads false there, and true or false are written out everywhere else."""
    key, equals, value = override.partition("=")
    return f"{key}='{value}'" if equals and value.lower() in WORDS else override


def save_config(config: DictConfig, path: str | Path) -> None:
    """Write the merged configuration, every default included, so that a run explains itself."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, Path(path), resolve=True)


def _find(path: str | Path) -> Path:
    if Path(path).is_file():
        return Path(path)
    configs = resource("configs")
    if (named := configs / f"{path}.yaml").is_file():
        return named
    names = sorted(str(file.relative_to(configs).with_suffix("")) for file in configs.rglob("*.yaml"))
    raise InputError(f"there is no configuration {path}: give a yaml file or one of {', '.join(names)}")


def _read_chain(path: Path) -> DictConfig:
    return _based(_read(path), path)


def _based(config: DictConfig, path: Path) -> DictConfig:
    """A file or a group of it, merged over its base where it names one."""
    for key in list(config):
        if not OmegaConf.is_interpolation(config, key) and isinstance(group := config[key], DictConfig):
            config[key] = _based(group, path)
    base = config.pop("base", None)
    if base is None:
        return config
    if not (path.parent / base).is_file():
        raise InputError(f"{path}: its base {base} is not in {path.parent}")
    return _merge(_read_chain(path.parent / base), config, str(path))


def _read(path: Path) -> DictConfig:
    try:
        config = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable yaml file: {' '.join(str(error).split())}") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{path} holds a list where options with names are wanted")
    return config


def _merge(default: DictConfig, delta: Any, where: str) -> DictConfig:
    known, given = (OmegaConf.to_container(part, resolve=False) for part in (default, delta))
    _check(known, given, where, prefix="")
    return OmegaConf.merge(default, delta)  # type: ignore[return-value]


def _check(known: Any, given: Any, where: str, prefix: str) -> None:
    for key, value in given.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise unknown_key(name, [f"{prefix}{other}" for other in known], where)
        if _kind(known[key]) not in (_kind(value), "anything"):
            raise InputError(f"{where}: {name} is {value!r} where {_kind(known[key])} is wanted")
        if isinstance(value, Mapping) and known[key] is not None:  # where the default says nothing, any group will do
            _check(known[key], value, where, prefix=f"{name}.")


def _kind(value: Any) -> str:
    if value is None or (isinstance(value, str) and value.startswith("${")):
        return "anything"
    kinds = ((bool, "true or false"), (Number, "a number"), (str, "a text"), (Mapping, "a group of options"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a list")
