"""The Flower side of ``fedavg.py``: SuperLink and SuperNodes as processes, and the app in ``flower_app/``."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
VERSION = "1.41.0"
REQUIREMENTS = (f"flwr=={VERSION}", "numpy==2.4.6")
LIBRARY = os.pathsep.join(str(REPOSITORY / part) for part in ("build-mlops-package", "edge/sdk"))


class Flower:
    """An installation of Flower in a virtual environment of its own.

    Args:
        folder: holds the environment and Flower's own files.
        seconds_max: how long one call of ``rounds`` may take.
    """

    def __init__(self, folder: Path, seconds_max: float) -> None:
        self.folder = folder.resolve()
        self.seconds_max = seconds_max
        self._bin = folder / "venv" / "bin"

    def install(self) -> None:
        """Install Flower from the package index, where that was not done before."""
        stamp = self.folder / "installed"
        if stamp.exists() and stamp.read_text() == repr(REQUIREMENTS):
            return
        print(f"installing {', '.join(REQUIREMENTS)} ...", flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.folder / "venv")], check=True)  # noqa: S603
        subprocess.run([str(self._bin / "pip"), "install", "-q", *REQUIREMENTS], check=True)  # noqa: S603
        stamp.write_text(repr(REQUIREMENTS))

    def rounds(self, data: Path, clients: int, **config: Any) -> tuple[list[float], float, float]:
        """Run the app once, on freshly started processes.

        Args:
            data: the folder with the clients' parts and the test set.
            clients: how many SuperNodes.
            config: the app's configuration besides.

        Returns:
            The seconds of each round, the accuracy after the last, and the seconds since then. There are fewer rounds
            than asked for where the time was up.
        """
        home = self.folder / "home"
        self.end_all()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        ends = data / "ends.jsonl"
        ends.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": LIBRARY,
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
        }
        port = free_port()
        address = f"127.0.0.1:{port}"
        with ExitStack() as processes, (self.folder / "log").open("wb") as log:
            processes.callback(self.end_all)

            def start(*command: str) -> None:
                process = subprocess.Popen(  # noqa: S603  our own command
                    [str(self._bin / command[0]), *command[1:]], env=environment, cwd=home, stdout=log, stderr=log
                )
                processes.callback(process.wait)
                processes.callback(process.kill)

            link = ("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port))
            start(*link, "--disable-runtime-dependency-installation")
            wait_for_port(port)
            for index in range(1, clients + 1):
                node = ("--superlink", address, "--port", str(free_port()))
                start("flower-supernode", "--insecure", *node, "--node-config", f"partition-id={index}")
            (home / "config.toml").write_text(
                f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
            )
            app = shutil.copytree(HERE / "flower_app", home / "app")
            settings = " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())
            settings += f" clients={clients} folder={json.dumps(str(data))}"
            command = [str(self._bin / "flwr"), "run", str(app), "bench", "--run-config", settings]
            subprocess.run(command, env=environment, cwd=home, stdout=log, stderr=log, check=True)  # noqa: S603
            deadline = time.monotonic() + self.seconds_max
            said: list[dict[str, float]] = []
            while len(said) <= config["num-rounds"] and time.monotonic() < deadline:
                time.sleep(0.2)
                said = [json.loads(line) for line in ends.read_text().splitlines()] if ends.exists() else []
        waited = time.monotonic() - said[-1]["time"] if said else self.seconds_max  # the clock of the whole machine
        seconds = [after["time"] - before["time"] for before, after in itertools.pairwise(said)]
        return seconds, float(said[-1]["accuracy"]) if said else 0.0, waited

    def end_all(self) -> None:
        """End every process of this installation: those that a SuperNode started outlive it."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(word.startswith(f"{self._bin}/") for word in process.cmdline()[:2]):
                    process.kill()


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until something listens there."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")
