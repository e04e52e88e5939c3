"""System figures of a machine and of one instance on it (names: docs/protocol.md, section 3)."""

import contextlib
import time
from pathlib import Path

import psutil

from .gpu import GpuReader
from .plan import Limits
from .runtime import Usage

MB = 1_000_000


class FigureSampler:
    """Figures since the last sample; one sampler per instance.

    Parameters:
        disk: a path on the disk to watch.
        limits: what the instance may use.
        gpu: the machine's GPUs.
    """

    def __init__(self, disk: Path, limits: Limits, gpu: GpuReader) -> None:
        self._disk = disk
        self._limits = limits
        self._gpu = gpu
        self._time = time.monotonic()
        self._cpu = _busy_and_total()
        self._network = _network_bytes()
        self._instance_cpu: dict[int, float] = {}

    def sample(self, usage: Usage | None) -> dict[str, float]:
        """The figures now; those of the instance are left out where `usage` is None."""
        now = time.monotonic()
        seconds = max(now - self._time, 0.001)
        memory = psutil.virtual_memory()
        figures: dict[str, float] = {"system_memory_utilization": float(memory.percent)}
        busy, total = _busy_and_total()
        if total > self._cpu[1]:
            figures["cpu_utilization"] = 100 * max(0.0, busy - self._cpu[0]) / (total - self._cpu[1])
        sent, received = _network_bytes()
        figures["network_sent"] = max(0, sent - self._network[0]) / seconds
        figures["network_received"] = max(0, received - self._network[1]) / seconds
        with contextlib.suppress(OSError):
            figures["disk_utilization"] = float(psutil.disk_usage(str(self._disk)).percent)
        if usage is not None:
            spent = sum(max(0.0, value - self._instance_cpu.get(pid, 0.0)) for pid, value in usage.cpu_seconds.items())
            room = self._limits.memory_mb * 2**20 - usage.memory_bytes
            figures["process_cpu_utilization"] = 100 * spent / seconds
            figures["process_memory_in_use"] = usage.memory_bytes / MB
            figures["process_memory_available"] = max(0, min(room, memory.available)) / MB
            figures["process_cpu_threads_in_use"] = usage.threads
            self._instance_cpu = dict(usage.cpu_seconds)
        figures |= self._gpu.figures()
        self._time, self._cpu, self._network = now, (busy, total), (sent, received)
        return {name: round(value, 3) for name, value in figures.items()}


def _busy_and_total() -> tuple[float, float]:
    times = psutil.cpu_times()
    total = sum(times)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _network_bytes() -> tuple[int, int]:
    counters = psutil.net_io_counters()
    return (counters.bytes_sent, counters.bytes_recv) if counters is not None else (0, 0)
