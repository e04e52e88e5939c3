"""MLflow as a peer of the benchmarks: its server, installed from the package index, on a database of one's choice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from deploy.local.stack import REPOSITORY
from tests.servers import free_port

VERSION = "3.17.2"
REQUIREMENTS = (f"mlflow=={VERSION}", "psycopg2-binary")
FOLDER = REPOSITORY / "var" / "bench" / "mlflow"
START_SECONDS = 180.0


def mlflow_install() -> Path:
    """Install MLflow into an environment of its own, where that was not done before; return its ``bin``."""
    stamp = FOLDER / "installed"
    if not stamp.exists() or stamp.read_text() != repr(REQUIREMENTS):
        print(f"installing {', '.join(REQUIREMENTS)} ...", flush=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER / "venv")], check=True)  # noqa: S603
        subprocess.run([str(FOLDER / "venv" / "bin" / "pip"), "install", "-q", *REQUIREMENTS], check=True)  # noqa: S603
        stamp.write_text(repr(REQUIREMENTS))
    return FOLDER / "venv" / "bin"


class MlflowServer:
    """``mlflow server`` as it starts by default: uvicorn with four workers, on loopback.

    Args:
        folder: takes its log and artifacts.
        database_url: of the backend store, in SQLAlchemy's form.
    """

    def __init__(self, folder: Path, database_url: str) -> None:
        self.uri = f"http://127.0.0.1:{free_port()}"
        self._bin = mlflow_install()
        self._folder = folder
        self._database_url = database_url
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ROUNDTABLE_", "DJANGO_"))},
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "NO_PROXY": "127.0.0.1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MlflowServer:
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [str(self._bin / "mlflow"), "server", "--host", "127.0.0.1", "--port", self.uri.rpartition(":")[2]]
        command += ["--backend-store-uri", self._database_url]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "mlflow.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own command
                command, env=self._environment, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                raise SystemExit(f"MLflow did not start:\n{(self._folder / 'mlflow.log').read_text()[-3000:]}")
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and its workers."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None

    def log(self, clients: int, points: int, metrics: int) -> float:
        """Let so many clients log so many points each, each to a run of its own; return the seconds of all together."""
        with self._clients(clients, points, metrics) as processes:
            began = time.monotonic()
            for process in processes:
                assert process.stdin is not None  # noqa: S101
                process.stdin.write(b"go\n")
                process.stdin.flush()
            for process in processes:
                _await(process, b"done\n")
            return time.monotonic() - began

    @contextlib.contextmanager
    def _clients(self, clients: int, points: int, metrics: int) -> Iterator[list[subprocess.Popen[bytes]]]:
        program = str(Path(__file__).with_name("mlflow_log.py"))
        command = [str(self._bin / "python"), program, self.uri, str(points), str(metrics)]
        processes = [
            subprocess.Popen(command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
            for _ in range(clients)
        ]
        try:
            for process in processes:
                _await(process, b"ready\n")
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:  # noqa: S310  our own
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _await(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdout is not None  # noqa: S101
    if (said := process.stdout.readline()) != line:
        raise SystemExit(f"a client of MLflow ended early ({said!r})")
