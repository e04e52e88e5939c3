"""People who look at the health of the installation, and workers for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from health import runner
from mlops_site.celery import TASKS_QUEUE, app

START_SECONDS = 60.0

Start = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_answers_from_before() -> Iterator[None]:
    """Answers of one test are not those of the next."""
    runner._flights.clear()
    yield
    runner._flights.clear()


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def administrator(db: None) -> User:
    return User.objects.create_user("grace", is_staff=True)


@pytest.fixture
def worker_start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a real worker, by default on the queue that tasks are sent to: ``worker_start(queue="...")``."""
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "worker.log"

    def start(queue: str = TASKS_QUEUE) -> None:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "mlops_site", "worker", "--pool", "solo", "-Q", queue),
                    *("--without-gossip", "--without-mingle", "-n", f"health-{queue}@test"),
                ],
                cwd=settings.BASE_DIR,
                env={
                    **os.environ,
                    "ROUNDTABLE_VAR": str(settings.VAR_DIR),
                    "ROUNDTABLE_REDIS_URL": settings.REDIS_URL,
                    "ROUNDTABLE_BACKEND": "process",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        started.append(process)
        deadline = time.monotonic() + START_SECONDS
        while not app.control.ping(timeout=0.5):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        process.wait(30)
