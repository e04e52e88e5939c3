"""What nvidia-smi tells about the GPUs, where it is installed."""

import shutil
import subprocess
import threading
import time

QUERY = ("index", "name", "memory.total", "memory.used", "utilization.gpu", "temperature.gpu", "power.draw")
TIMEOUT_SECONDS = 10
MIB = 2**20


class GpuReader:
    """Asks nvidia-smi in the background, so that nobody waits for a driver that hangs."""

    def __init__(self) -> None:
        self._program = shutil.which("nvidia-smi")
        self._lock = threading.Lock()
        self._asking = False
        self._figures: dict[str, float] = {}
        self._read_at = float("-inf")

    def figures(self, max_age: float = 2.0) -> dict[str, float]:
        """The last figures by name (docs/protocol.md: `gpu.n...`); asks again when they are older than `max_age` s."""
        if self._program is None:
            return {}
        with self._lock:
            if not self._asking and time.monotonic() - self._read_at > max_age:
                self._asking = True
                threading.Thread(target=self._ask, name="nvidia-smi", daemon=True).start()
            return dict(self._figures)

    def devices(self) -> list[dict[str, object]]:
        """The GPUs as `{name, memory_bytes}`; waits for the answer."""
        devices: list[dict[str, object]] = []
        for row in _query(self._program):
            memory = _number(row[2])
            devices.append({"name": row[1][:200], "memory_bytes": int(memory * MIB) if memory is not None else 0})
        return devices

    def _ask(self) -> None:
        figures: dict[str, float] = {}
        for row in _query(self._program):
            total, used, utilization, temperature, power = (_number(value) for value in row[2:])
            named = {
                "utilization": utilization,
                "memory_allocated": 100 * used / total if used is not None and total else None,
                "temperature": temperature,
                "power_usage": power,
            }
            figures |= {f"gpu.{row[0]}.{name}": value for name, value in named.items() if value is not None}
        with self._lock:
            self._figures = figures
            self._read_at = time.monotonic()
            self._asking = False


def _query(program: str | None) -> list[list[str]]:
    if program is None:
        return []
    try:
        answer = subprocess.run(  # noqa: S603 - the machine's own nvidia-smi, fixed arguments
            [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[value.strip() for value in line.split(",")] for line in answer.splitlines()]
    return [row for row in rows if len(row) == len(QUERY) and row[0].isdigit()]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "[N/A]"
