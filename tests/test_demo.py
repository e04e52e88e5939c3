"""``make demo``: it tells what it does, ends as its run ended, can be started again, and leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from deploy.local.stack import REPOSITORY
from tests.platform import CACHE, wait_for


def demo_start(var: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo in a session of its own, with its data in ``var``, and return its process."""
    (CACHE / "venvs").mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "ROUNDTABLE_VAR": str(var),
        "ROUNDTABLE_VENVS": str(CACHE / "venvs"),
        "ROUNDTABLE_BACKEND": "process",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.local.demo", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes_of(var: Path) -> list[str]:
    """Return the command lines of all processes that were started with ``var`` in their environment or arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(var) in word for word in words):
            found.append(" ".join(process.cmdline()))
    return found


def test_it_shows_a_finished_run_twice_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for _ in range(2):
        demo = demo_start(tmp_path, "--once")
        said, _ = demo.communicate(timeout=300)
        assert demo.returncode == 0, said
        lines = said.splitlines()
        assert re.fullmatch(r"Roundtable is at  http://127\.0\.0\.1:\d+", lines[0])
        assert re.fullmatch(r"  password  \S+", lines[2])
        assert re.findall(r"^  round (\d+)/40  accuracy 0\.\d{4}", said, flags=re.MULTILINE) == [
            str(number) for number in range(1, 41)
        ]
        accuracy = re.search(r"final test accuracy  (0\.\d+)", said)
        assert accuracy, said
        assert float(accuracy[1]) > 0.9
        assert "rounds               40/40" in said
        assert processes_of(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
def test_it_stays_up_until_it_is_told_to_stop(tmp_path: Path, how: signal.Signals) -> None:
    demo = demo_start(tmp_path)
    assert demo.stdout is not None
    said: list[str] = []

    def stays_up() -> bool:
        said.append(demo.stdout.readline() if demo.stdout else "")
        assert said[-1], "".join(said)
        return said[-1].startswith("Run ") and "started" in said[-1]

    wait_for("the run's start", stays_up, 300)
    address = said[0].split()[-1]
    with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:
        assert answer.status == 200
    demo.send_signal(how)  # in the middle of the run
    rest, _ = demo.communicate(timeout=120)
    assert "Stopped." in rest
    assert demo.returncode == 0
    assert processes_of(tmp_path) == []
