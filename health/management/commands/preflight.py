"""``manage.py preflight``: is this installation healthy? Prints what the health page shows; exit code 1 if not."""

from __future__ import annotations

import sys
import textwrap
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from health.checks import CHECKS
from health.checks.interface import Level
from health.runner import Finding, check_finding, checks_start

MARKS = {Level.OK: "ok", Level.NEUTRAL: "-", Level.WARNING: "WARNING", Level.FAILED: "FAILED"}
WIDTH = 110


class Command(BaseCommand):
    help = "Look at every part of the installation, and say what to do about what is wrong; exit code 1 then."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"only these: {', '.join(CHECKS)}")
        parser.add_argument(
            "--here", action="store_true", help="make also those checks on this machine that a worker makes otherwise"
        )

    def handle(self, *args: Any, checks: list[str], here: bool, **options: Any) -> None:
        unknown = [name for name in checks if name not in CHECKS]
        if unknown:
            self.stderr.write(f"There is no check {', '.join(unknown)}. There are {', '.join(CHECKS)}.")
            sys.exit(2)
        chosen = [CHECKS[name] for name in checks or CHECKS]
        checks_start(chosen, here=here)
        findings = [check_finding(check, here=here) for check in chosen]
        for finding in findings:
            self._print(finding)
        failed = [finding for finding in findings if finding.outcome.level is Level.FAILED]
        if failed:
            self.stdout.write(f"\n{len(failed)} of {len(findings)} checks failed.")
            sys.exit(1)
        self.stdout.write("\nNo check failed.")

    def _print(self, finding: Finding) -> None:
        outcome = finding.outcome
        self.stdout.write(f"{finding.check.title:<16} {MARKS[outcome.level]:<8} {outcome.text}")
        lines = [f"{name}: {text}" for name, text in outcome.facts]
        lines += [f"What to do: {outcome.fix}"] if outcome.fix else []
        for line in lines:
            self.stdout.write(textwrap.fill(line, WIDTH, initial_indent=" " * 26, subsequent_indent=" " * 28))
