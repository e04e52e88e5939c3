"""The runtime for machines without a container engine: an instance is a process group under a small launcher.

It bounds what an instance uses, but it does not hide this user's files from it: that needs containers.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from . import layout
from .durable import read_json
from .fields import Invalid
from .layout import InstanceFolder
from .locks import unlock
from .plan import InstancePlan, LocalPackage, RemotePackage
from .processes import descendants, is_running, send, send_group
from .runtime import Exit, Failed, Opened, Steps, Usage

OPEN_FILES = 4096
LAUNCH_SECONDS = 20.0
PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip


class ProcessRuntime:
    """Opens instances as processes of this user.

    Parameters:
        fetch: brings a package's zip to this machine: (package, steps) -> path; raises `Failed` or `Stopped`.
        environment: makes the interpreter for a requirements file: (requirements or None, transcript, steps)
            -> (interpreter, lock descriptor, lock file); raises `Failed` or `Stopped`.
        unpack: unpacks a zip or copies a folder: (source, destination, steps); raises `Failed` or `Stopped`.
    """

    name = "process"

    def __init__(
        self,
        *,
        fetch: Callable[[RemotePackage, Steps], Path] | None,
        environment: Callable[[Path | None, Path, Steps], tuple[Path, int, Path]] | None,
        unpack: Callable[[Path, Path, Steps], None],
    ) -> None:
        self._fetch = fetch
        self._environment = environment
        self._unpack = unpack

    def open(self, plan: InstancePlan, steps: Steps) -> Opened:
        """Fetch the package, make its interpreter, write the configuration, start the launcher."""
        folder = InstanceFolder(plan.root)
        folder.empty()
        folder.make()
        self._unpack(self._source(plan, steps), folder.package, steps)
        hold: list[tuple[int, Path]] = []
        try:
            python = self._interpreter(plan, folder, steps, hold)
            steps.phase("open", None)
            steps.checkpoint()
            layout.write_conf(plan, folder)
            spec = _launch_spec(plan, folder, python, [path for _, path in hold])
            launcher = _start_launcher(spec)
            return _await_launch(folder, launcher, [descriptor for descriptor, _ in hold])
        except Invalid as error:
            _unlock_all(hold)
            raise Failed(str(error)) from None
        except BaseException:
            _unlock_all(hold)
            raise

    def adopt(self, root: Path) -> Opened | None:
        """Find the launcher and the instance that `launch.json` names."""
        folder = InstanceFolder(root)
        return _OpenedProcess(folder, None, []) if folder.launch.exists() else None

    def clean(self, root: Path) -> None:
        """Nothing lies outside the instance's folder."""

    def _source(self, plan: InstancePlan, steps: Steps) -> Path:
        if isinstance(plan.package, LocalPackage):
            return plan.package.path
        if isinstance(plan.package, RemotePackage) and self._fetch is not None:
            return self._fetch(plan.package, steps)
        raise Failed("the command names no package, and this device runs instances as processes, not as containers")

    def _interpreter(
        self, plan: InstancePlan, folder: InstanceFolder, steps: Steps, hold: list[tuple[int, Path]]
    ) -> Path:
        if plan.python is not None:
            return plan.python
        if self._environment is None:
            raise Failed("no interpreter was given for the instance")
        steps.phase("install", None)
        requirements = folder.package / "requirements.txt"
        present = requirements.is_file() and not requirements.is_symlink()
        python, descriptor, path = self._environment(requirements if present else None, folder.keeper_log, steps)
        hold.append((descriptor, path))
        return python


class _OpenedProcess:
    """An instance under a launcher, alive or ended."""

    def __init__(self, folder: InstanceFolder, launcher: "subprocess.Popen[bytes] | None", hold: list[int]) -> None:
        self._folder = folder
        self._popen = launcher
        self._hold = hold
        launched = read_json(folder.launch) or {}
        self._launcher = _named(launched.get("launcher"))
        self._instance = _named(launched.get("instance"))

    @property
    def pid(self) -> int | None:
        return self._instance[0]

    @property
    def described(self) -> str:
        return f"process {self.pid}"

    def outputs(self) -> Mapping[str, Path]:
        return {"stdout": self._folder.stdout, "stderr": self._folder.stderr}

    def poll(self) -> Exit | None:
        if self._popen is not None:
            self._popen.poll()  # reaps the launcher, so that it does not stay a zombie
        ended = read_json(self._folder.exit)
        if ended is None:
            if is_running(*self._launcher):
                if self._instance[0] is None:
                    self._instance = _named((read_json(self._folder.launch) or {}).get("instance"))
                return None
            ended = read_json(self._folder.exit)  # it may have ended between the two looks
        if ended is not None:
            return Exit(code=ended.get("exit_code"), signal=ended.get("signal"), note=str(ended.get("note") or ""))
        if is_running(*self._instance):
            return None  # its launcher was killed, it goes on
        return Exit(note="nobody knows its exit code: its launcher was killed, or the machine was restarted")

    def terminate(self) -> None:
        pid, expected = self._instance
        if pid is not None:
            send_group(pid, expected, signal.SIGTERM)

    def kill(self) -> None:
        pid, expected = self._instance
        below = self._below()
        if pid is not None:
            send_group(pid, expected, signal.SIGKILL)
        for process in below:
            send(process, signal.SIGKILL)

    def usage(self) -> Usage | None:
        memory = processes = threads = 0
        cpu: dict[int, float] = {}
        for process in self._below():
            with contextlib.suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                memory += process.memory_info().rss
                threads += process.num_threads()
                processes += 1
                cpu[process.pid] = times.user + times.system
        return Usage(memory, processes, threads, cpu) if processes else None

    def release(self) -> None:
        for descriptor in self._hold:
            unlock(descriptor)
        self._hold = []
        if self._popen is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(1)
            self._popen.returncode = self._popen.returncode if self._popen.returncode is not None else 0

    def _below(self) -> list[psutil.Process]:
        launcher, expected = self._launcher
        if is_running(launcher, expected):
            return descendants(launcher or 0)
        pid, expected = self._instance
        if not is_running(pid, expected):
            return []
        with contextlib.suppress(psutil.Error):
            return [psutil.Process(pid), *descendants(pid or 0)]
        return []


def _launch_spec(plan: InstancePlan, folder: InstanceFolder, python: Path, hold: list[Path]) -> dict[str, Any]:
    argv, cwd = layout.command(plan, str(python), folder.root, main=layout.has_main(plan, folder.package))
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    variables = {"PATH": os.defpath, "LANG": "C.UTF-8"} | passed | layout.environment(plan, folder.root)
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables['PATH']}"
    return {
        "folder": str(folder.root),
        "argv": argv,
        "cwd": str(cwd),
        "env": variables,
        "stdout": str(folder.stdout),
        "stderr": str(folder.stderr),
        "hold": [str(path) for path in hold],
        "open_files": OPEN_FILES,
    }


def _start_launcher(spec: dict[str, Any]) -> "subprocess.Popen[bytes]":
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(Path(__file__).parent.parent)}
    try:
        launcher = subprocess.Popen(  # noqa: S603 - our own module, no text of others in the command line
            [sys.executable, "-m", f"{__package__}.launch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=spec["folder"],
            env=environment,
            start_new_session=True,
        )
        if launcher.stdin is not None:
            with launcher.stdin as pipe, contextlib.suppress(BrokenPipeError):
                pipe.write(json.dumps(spec).encode())
    except OSError as error:
        raise Failed(f"cannot start the instance's launcher: {error.strerror or error}") from None
    return launcher


def _await_launch(folder: InstanceFolder, launcher: "subprocess.Popen[bytes]", hold: list[int]) -> Opened:
    """Wait until the instance runs, or until it is known that it does not."""
    deadline = time.monotonic() + LAUNCH_SECONDS
    while time.monotonic() < deadline:
        if (read_json(folder.launch) or {}).get("instance") or folder.exit.exists():
            return _OpenedProcess(folder, launcher, hold)
        if launcher.poll() not in (None, 0):
            break
        time.sleep(0.02)
    launcher.kill()
    launcher.wait()
    raise Failed("the instance's launcher did not start it; see the agent's log and the free disk space")


def _named(value: Any) -> tuple[int | None, str | None]:
    """The (pid, identity) pair of an entry in `launch.json`."""
    if isinstance(value, dict) and isinstance(value.get("pid"), int) and isinstance(value.get("identity"), str):
        return value["pid"], value["identity"]
    return None, None


def _unlock_all(hold: list[tuple[int, Path]]) -> None:
    for descriptor, _ in hold:
        unlock(descriptor)


def remove_folder(root: Path) -> None:
    """Remove an ended instance's folder, even where the instance took write permission away from itself."""

    def retry(function: Callable[..., Any], path: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            function(path)

    shutil.rmtree(root, onerror=retry)
