"""`latentsync doctor`: what is installed, what will be used, and what to do about each gap."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

SUMMARY = "Say what is installed, which device and precision will be used, and what to do about each gap."
EXAMPLES = """examples:
  latentsync doctor
  latentsync doctor --json
  latentsync doctor --checkpoint my-dub
exit status: 0 when dubbing can work here, 1 when it cannot
"""
GAP_FOUND = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is looked at besides the machine, and the form of the answer."""
    parser.add_argument("--checkpoint", metavar="FOLDER|NAME", help="also: is every file of it as it was written?")
    parser.add_argument("--json", action="store_true", help="the same as JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print every check; 1 when one of them keeps dubbing from working."""
    from latentsync.cli.checks import Status, all_checks, checkpoint_checks

    checks = [*all_checks(), *(checkpoint_checks(arguments.checkpoint) if arguments.checkpoint else ())]
    works = all(check.status is not Status.GAP for check in checks)
    if arguments.json:
        print(json.dumps({"works": works, "checks": [asdict(check) for check in checks]}, indent=1))
        return 0 if works else GAP_FOUND
    for check in checks:
        print(f"{check.status.value:5}{check.name}: {check.found}")
        if check.advice:
            print(f"     -> {check.advice}")
    print("dubbing works here" if works else "dubbing cannot work here: mend what is marked gap")
    return 0 if works else GAP_FOUND
