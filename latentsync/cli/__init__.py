"""The command `latentsync`: composes the rooms, turns what users get wrong into one sentence and an exit status.

Exit status: 0 all is well, 1 something failed (some jobs of a batch, a `doctor` that found a gap, a defect of ours),
2 what was given cannot be used, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from latentsync import __version__
from latentsync.cli import convert, demo, doctor, dub, finetune, lora, prepare, share, train
from latentsync.config import unknown_key
from latentsync.media.outputs import DISK_FULL
from latentsync.types import InputError

COMMANDS = {"dub": dub, "convert": convert, "doctor": doctor, "demo": demo, "prepare": prepare}
COMMANDS |= {"train": train, "finetune": finetune, "lora": lora, "share": share}
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are `InputError`, one sentence like every other."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message} (see {self.prog} --help)")


def build_parser() -> Parser:
    """The parser of the command with all its subcommands."""
    parser = Parser(prog="latentsync", description="Dub a video: the same video, speaking other audio.")
    parser.add_argument("--version", action="version", version=f"latentsync {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(run=module.run, parser=sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's own) and return its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            return _run(argv)
    except KeyboardInterrupt:
        print("latentsync: interrupted, nothing unfinished was kept", file=sys.stderr)
        return INTERRUPTED
    except InputError as error:
        return _complain(error, str(error), argv, BAD_INPUT)
    except OSError as error:
        return _complain(error, _describe(error), argv, BAD_INPUT)
    except Exception as error:
        told = f"a defect in latentsync, {type(error).__name__}: {error} (--debug shows where)"
        return _complain(error, told, argv, FAILED)


def _run(argv: list[str]) -> int:
    arguments, rest = build_parser().parse_known_args(argv)
    for word in rest:
        if word.startswith("--"):
            known = [option for option in arguments.parser._option_string_actions if option.startswith("--")]
            raise unknown_key(word.partition("=")[0], known, arguments.command)
        raise InputError(f"{arguments.command}: nothing takes {word!r}; put a path with spaces in quotes")
    return arguments.run(arguments)


def _show_warning(show: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Warnings to users are a line like any other; those to programmers keep their place in the code."""
    if category is UserWarning:
        print(f"latentsync: {message}", file=sys.stderr)
    else:
        show(message, category, *place)


def _complain(error: BaseException, told: str, argv: list[str], status: int) -> int:
    if "--debug" in argv:
        traceback.print_exception(error)
    print(f"latentsync: {' '.join(told.split())}", file=sys.stderr)
    return status


def _describe(error: OSError) -> str:
    place = f" '{error.filename}'" if error.filename else ""
    advice = "; free some space or write to another disk" if error.errno in DISK_FULL else ""
    return f"{error.strerror or error}{place}{advice}"
