"""Processes that outlive the worker: told apart by more than their pid, which may belong to somebody else by now."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

POLL_SECONDS = 0.05


def process_identity(pid: int) -> str | None:
    """Name one start of one process: the boot's id and the start in clock ticks since boot.

    It is the identity that agents and supervisors write into their records (``edge/roundtable_agent/processes.py``).

    Returns:
        The identity, or None where no such process runs; a zombie has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
        except psutil.Error:
            return None
    fields = stat.rpartition(")")[2].split()  # the name may hold spaces and brackets; field 3 follows it
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def process_runs(pid: int | None, identity: str | None) -> bool:
    """Return whether that very process still runs."""
    return pid is not None and identity is not None and process_identity(pid) == identity


def process_signal(pid: int | None, identity: str | None, number: signal.Signals, *, group: bool = False) -> None:
    """Send a signal to that very process, or to the group that it leads. One that has ended is no error."""
    if pid is None or not process_runs(pid, identity):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def process_wait(pid: int | None, identity: str | None, seconds: float) -> bool:
    """Wait until the process has ended; return whether it has."""
    deadline = time.monotonic() + seconds
    while process_runs(pid, identity):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
