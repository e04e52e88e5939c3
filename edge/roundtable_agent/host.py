"""What a device tells about itself (HOST in docs/protocol.md)."""

import os
import platform
from pathlib import Path
from typing import Any

import psutil

from . import __version__
from .gpu import GpuReader


def host_facts(gpu: GpuReader, runtime: str) -> dict[str, Any]:
    """System, processor, memory and GPUs of this machine, and what runs on it."""
    return {
        "os": _system(),
        "arch": platform.machine()[:100],
        "python": platform.python_version(),
        "cpu": _processor()[:200],
        "cpu_count": os.cpu_count() or 1,
        "memory_bytes": int(psutil.virtual_memory().total),
        "gpu": gpu.devices(),
        "agent_version": __version__,
        "runtime": runtime,
    }


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return (name or f"{platform.system()} {platform.release()}")[:200]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model", "Hardware")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
