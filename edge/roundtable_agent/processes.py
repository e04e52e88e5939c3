"""Processes by identity: a pid alone may belong to somebody else by now."""

import contextlib
import os
import signal
from pathlib import Path

import psutil


def identity(pid: int) -> str | None:
    """Name one start of one process.

    On Linux it is the boot's id and the start in clock ticks since boot, which, unlike the time of day that psutil
    derives, does not move when the clock is set.

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


def is_running(pid: int | None, expected: str | None) -> bool:
    """Whether that very process still runs."""
    return pid is not None and expected is not None and identity(pid) == expected


def descendants(pid: int) -> list[psutil.Process]:
    """Every living process below this one (itself left out)."""
    try:
        return [child for child in psutil.Process(pid).children(recursive=True) if not _is_zombie(child)]
    except psutil.Error:
        return []


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal; a process that has ended meanwhile is no error."""
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)


def send_group(pid: int, expected: str | None, number: signal.Signals) -> None:
    """Send a signal to the group that this process leads, if it is still the same process."""
    if is_running(pid, expected):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
