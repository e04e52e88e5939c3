"""Real servers for tests, each in a folder of its own and on a free loopback port.

    with MosquittoServer(tmp_path) as broker, RedisServer(tmp_path) as redis: ...

Most tests want the session's servers, which ``conftest.py`` offers as the fixtures ``broker`` and ``redis_url`` and to
which it points Django's settings. A test that stops or restarts a server starts one of its own from here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from django.conf import settings

from devices.broker_config import broker_config_write

START_SECONDS = 20.0
STOP_SECONDS = 10.0


class ServerFailed(Exception):
    """A server did not start. The message ends with what it logged."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A process that listens on a loopback port. It can be stopped and started again on the same port and folder."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory / f"{name}-{free_port()}"
        self.directory.mkdir(parents=True)
        self.name = name
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """Environment variables that point a process of the platform at this server."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Write what the server reads at its start, and return the command that starts it."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it accepts connections; on a port that was taken meanwhile, on another."""
        for attempt in range(3):
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.directory)
            if self._wait_until_listening():
                return
            self.stop()
            if attempt == 0:
                time.sleep(0.2)  # a restart: the old socket may be closing
            else:
                self.port = free_port()
        raise ServerFailed(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")

    def _wait_until_listening(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                # Something else that took the port would also answer; then this process has ended.
                time.sleep(0.01)
                return self._process.poll() is None
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """Stop the server; nothing happens when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class MosquittoServer(Server):
    """A broker with the platform's production configuration and the platform's credential of the settings."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "mosquitto")

    def environment(self) -> dict[str, str]:
        return {
            "ROUNDTABLE_MQTT_HOST": "127.0.0.1",
            "ROUNDTABLE_MQTT_PORT": str(self.port),
            "ROUNDTABLE_MQTT_USER": settings.MQTT_USER,
            "ROUNDTABLE_MQTT_PASSWORD": settings.MQTT_PASSWORD,
        }

    def command(self) -> list[str]:
        files = broker_config_write(
            self.directory, self.port, username=settings.MQTT_USER, password=settings.MQTT_PASSWORD
        )
        program, *arguments = files.command
        return [_program(program), *arguments]


class RedisServer(Server):
    """A Redis that keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "redis-server")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def environment(self) -> dict[str, str]:
        return {"ROUNDTABLE_REDIS_URL": self.url}

    def command(self) -> list[str]:
        return [
            _program("redis-server"),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "no"),
        ]


def _program(name: str) -> str:
    """Find a server's program; Debian keeps some of them where a user's PATH does not look."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        raise ServerFailed(f"{name} is not installed (on Debian: apt-get install {name})")
    return path
