"""Redis, the MQTT broker and the platform's processes as one group on loopback, for the demo, development and tests.

The group is run by honcho from the ``Procfile`` beside this file: when one process ends, all end. Everything that it
writes stands in one folder, so that two groups with two folders do not know of each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).resolve().parent.parent.parent
STOP_SECONDS = 20


class StackError(Exception):
    """The group could not be started; the message says why and what to do."""


@dataclass(frozen=True)
class Ports:
    """Loopback ports of the group."""

    web: int
    broker: int
    redis: int


DEFAULT_PORTS = Ports(web=8000, broker=1883, redis=6379)


def _ports_asked() -> dict[str, int]:
    """Return the ports that the environment asks for, by name.

    Raises:
        StackError: one is no port, or is taken.
    """
    asked = {}
    for name in asdict(DEFAULT_PORTS):
        variable = f"{name.upper()}_PORT"
        if not os.environ.get(variable):
            continue
        text = os.environ[variable]
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise StackError(f"{variable}={text} is no port. Give a number from 1 to 65535.")
        if not port_is_free(int(text)):
            raise StackError(f"Port {text} is taken. Choose another {variable}, or leave it out to take a free one.")
        asked[name] = int(text)
    return asked


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_choose(preferred: int) -> int:
    """Return the preferred port when it is free, or else the first free one of the hundred above it, or any."""
    for port in range(preferred, preferred + 100) if preferred else ():
        if port_is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalStack:
    """One group of processes with its own folder, ports and database.

    Args:
        var: the folder that holds everything the group writes; made when missing.
        preferred: ports to take where they are free; 0 means any. By default those of the environment variables
            ``WEB_PORT``, ``BROKER_PORT`` and ``REDIS_PORT``. Once chosen they are kept in ``var/ports.json``, so
            that devices find the platform again after a restart.
        environment: further settings, such as ``ROUNDTABLE_BACKEND``.
        processes: names of the Procfile to run; all by default.
    """

    def __init__(
        self,
        var: Path,
        *,
        preferred: Ports | None = None,
        environment: dict[str, str] | None = None,
        processes: tuple[str, ...] = (),
    ) -> None:
        self.var = var.resolve()
        self.var.mkdir(parents=True, exist_ok=True)
        self.processes = processes
        self.log = self.var / "log" / "stack.log"
        self.ports, self.ports_changed = self._ports_keep(preferred)
        self._environment = environment or {}
        self._group: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the web pages."""
        return f"http://127.0.0.1:{self.ports.web}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of the group, and of commands that speak with it."""
        return {
            **os.environ,
            "PYTHON": sys.executable,
            "PYTHONUNBUFFERED": "1",
            "WEB_PORT": str(self.ports.web),
            "REDIS_PORT": str(self.ports.redis),
            "ROUNDTABLE_VAR": str(self.var),
            "ROUNDTABLE_URL": self.url,
            "ROUNDTABLE_REDIS_URL": f"redis://127.0.0.1:{self.ports.redis}/0",
            "ROUNDTABLE_MQTT_HOST": "127.0.0.1",
            "ROUNDTABLE_MQTT_PORT": str(self.ports.broker),
            "ROUNDTABLE_NODE": f"roundtable-{self.ports.web}",
            "DJANGO_SETTINGS_MODULE": "mlops_site.settings",
            **self._environment,
        }

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py`` with the group's environment and return what it printed.

        Raises:
            StackError: the command failed; the message holds the end of its output.
        """
        done = subprocess.run(  # noqa: S603  our own command
            [sys.executable, "manage.py", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"manage.py {arguments[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def start(self, timeout: float = 60) -> None:
        """Prepare database, broker configuration and static files, start the processes and wait until pages answer.

        Raises:
            StackError: a program is missing, a step failed, or a process ended early.
        """
        for program in ("redis-server", "mosquitto"):
            if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin") is None:
                raise StackError(f"{program} is not installed. Type: apt-get install redis-server mosquitto")
        for folder in ("redis", "broker", "log"):
            (self.var / folder).mkdir(exist_ok=True)
        self.manage("migrate", "--no-input")
        self.manage("broker_config", "--directory", str(self.var / "broker"), "--port", str(self.ports.broker))
        self._static_files_collect()
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"
        with self.log.open("ab") as log:
            self._group = subprocess.Popen(  # noqa: S603  our own command
                [
                    sys.executable,
                    "-m",
                    "honcho",
                    "-f",
                    str(Path(__file__).with_name("Procfile")),
                    "-d",
                    str(REPOSITORY),
                    "--no-colour",
                    "start",
                    *self.processes,
                ],
                cwd=REPOSITORY,
                env={**self.environment, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_it_answers(timeout)

    def alive(self) -> bool:
        """Tell whether the whole group still runs."""
        return self._group is not None and self._group.poll() is None

    def log_tail(self, lines: int = 30) -> str:
        """Return the last lines of what the processes printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End every process of the group and wait for it."""
        if self._group is None:
            return
        if self._group.poll() is None:
            self._group.send_signal(signal.SIGTERM)
            try:
                self._group.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._group.pid, signal.SIGKILL)
                self._group.wait()
        self._group = None

    def __enter__(self) -> LocalStack:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ports_keep(self, preferred: Ports | None) -> tuple[Ports, bool]:
        """Return the ports kept from before when all are free, or newly chosen ones, and whether they changed."""
        asked = {} if preferred else _ports_asked()
        preferred = preferred or Ports(**{**asdict(DEFAULT_PORTS), **asked})
        kept_file = self.var / "ports.json"
        if kept_file.exists():
            kept = Ports(**json.loads(kept_file.read_text()))
            wanted = asked.items() <= asdict(kept).items()
            if wanted and all(map(port_is_free, asdict(kept).values())):
                return kept, False
        chosen = Ports(**{name: port_choose(port) for name, port in asdict(preferred).items()})
        kept_file.write_text(json.dumps(asdict(chosen)))
        return chosen, True

    def _static_files_collect(self) -> None:
        """Collect and compress the static files when one of them changed since the last time."""
        digest = hashlib.sha256()
        for path in sorted((REPOSITORY / "static").rglob("*")):
            if path.is_file():
                digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
        stamp = self.var / "staticfiles.stamp"
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        self.manage("collectstatic", "--no-input")
        stamp.write_text(digest.hexdigest())

    def _wait_until_it_answers(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.alive():
                raise StackError(f"A process of the platform ended at once. The end of {self.log}:\n{self.log_tail()}")
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):  # noqa: S310  our own loopback address
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise StackError(f"{self.url} did not answer in {timeout:.0f} s. The end of {self.log}:\n{self.log_tail()}")
