"""A real Celery worker for tests: started, killed, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings

from runs import lifecycle
from tests.servers import MosquittoServer

SECONDS = 60.0
HEARTBEAT_SECONDS = 2


class Worker:
    """A Celery worker as a process group of its own.

    Args:
        options: of the command, such as the queue that it takes tasks from; by default it takes all, one at a time.
    """

    def __init__(
        self, broker: MosquittoServer, log: Path, *, options: Sequence[str] = ("--concurrency", "1"), **environment: str
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "mlops_site", "worker", *options),
                    *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"),
                ],
                cwd=settings.BASE_DIR,
                env={
                    **os.environ,
                    **broker.environment(),
                    "ROUNDTABLE_VAR": str(settings.VAR_DIR),
                    "ROUNDTABLE_REDIS_URL": settings.REDIS_URL,
                    "ROUNDTABLE_DATABASE_URL": f"sqlite:///{settings.DATABASES['default']['NAME']}",
                    "ROUNDTABLE_STAGE_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **environment,
                },
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def end(self, number: int) -> None:
        """Signal the worker (SIGTERM: itself; SIGKILL: with its children) and wait for its end."""
        if self._process.poll() is None:
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
        self._process.wait(30)


def wait_for(condition: Callable[[], Any], log: Path, *, reaping: bool = False) -> Any:
    """Wait until the condition is true; return what it is."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        if reaping:
            lifecycle.reap()
        time.sleep(0.1)
    raise AssertionError(f"it did not come about in time:\n{log.read_text()[-4000:]}")
