"""``manage.py ingest --slot N``: stores what devices report. Run one process for each slot, beginning with slot 0."""

from __future__ import annotations

import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from runs.telemetry.ingest import IngestWorker


class Command(BaseCommand):
    help = "Stores what devices report over MQTT. Slot 0 must run; further slots share the telemetry of runs with it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slot", type=int, default=0, help="0, 1, 2, ...: each process has one of its own")
        parser.add_argument(
            "--retire", action="store_true", help="store what the broker holds for the slot, give it up, and end"
        )

    def handle(self, *args: Any, slot: int, retire: bool, **options: Any) -> None:
        if slot < 0:
            raise CommandError("--slot is 0, 1, 2, ...")
        if retire and slot == 0:
            raise CommandError("Slot 0 cannot be given up: it alone hears of the presence of devices.")
        worker = IngestWorker(slot)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        if retire:
            worker.retire()
        else:
            worker.run()
