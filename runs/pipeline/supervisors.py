"""Aggregators under supervisors: programs (``edge/roundtable_agent/supervise.py``) that outlive the worker.

Each attempt of a run has a home, ``RUNS_DIR/<run id>/<prefix>-<attempt>``, with the supervisor's spec (secrets, mode
0600, removed when it is stopped), its record ``supervise.json``, and the instance's own folders. A spec is written in
one step; from then on the aggregator is to be found and watched, whoever is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from runs.models import Run
from runs.object_store import object_store
from runs.pipeline.backends.interface import (
    AggregatorSpec,
    FoundAggregator,
    Handle,
    InstanceState,
    StageContext,
    StageFailed,
)
from runs.pipeline.processes import process_runs, process_signal
from runs.pipeline.venvs import file_lock
from runs.states import InstanceStatus

EDGE_DIR = settings.BASE_DIR / "edge"
START_SECONDS = 20.0
STOP_SECONDS = 20.0  # the supervisor gives its instance ten, then kills it
RESTARTS = 3
RECORD_SECONDS = 5.0  # a supervisor that was started has written its record by then, or never will
POLL_SECONDS = 0.05
SYSTEM_INTERVAL_SECONDS = 5.0
PASSED_ON = (
    *("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
)


class Supervisors:
    """The aggregators of one backend on this machine.

    Args:
        prefix: how the names of their homes begin.
        instance_runs: whether the instance of a home runs, whatever became of its supervisor.
        instance_stop: end the instance of a home, whose supervisor is not there to do it; gone already is fine.
    """

    def __init__(
        self, prefix: str, *, instance_runs: Callable[[Path], bool], instance_stop: Callable[[Path], None]
    ) -> None:
        self._prefix = prefix
        self._instance_runs = instance_runs
        self._instance_stop = instance_stop

    def prepare(
        self, context: StageContext, spec: AggregatorSpec, make_spec: Callable[[Path], Mapping[str, Any]]
    ) -> Handle:
        """Stop the aggregators of earlier attempts and write down what this one needs; ``watch`` starts it.

        Args:
            make_spec: returns what the backend adds to the spec, given the home.
        """
        handle = self._handle(spec.run_id, spec.attempt_id)
        home = self.home(handle)
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(home.parent / "launch.lock", context):
            for other in home.parent.glob(f"{self._prefix}-*"):
                if other != home:
                    self._stop(other)
            context.check()
            if not (home / "spec.json").exists():
                home.mkdir(mode=0o700, exist_ok=True)
                write_json(home / "spec.json", {**supervisor_spec(home, spec), **make_spec(home)})
        return handle

    def find(self, run: Run) -> Handle | None:
        """Return the handle of the run's present attempt, where its spec was written."""
        if not run.attempt_id:
            return None
        handle = self._handle(run.pk, run.attempt_id)
        return handle if (self.home(handle) / "spec.json").exists() else None

    def watch(self, handle: Handle) -> None:
        """Start the supervisor where it does not run; it takes up a living aggregator, or reports how it ended.

        Raises:
            StageFailed: it ended at once, or was lost too often.
        """
        _reap_children()
        home = self.home(handle)
        record = _record(home)
        if _ended(record) or _supervisor_runs(record) or not (home / "spec.json").exists():
            return
        starts = read_json(home / "starts.json").get("starts", 0)
        if starts > RESTARTS:
            raise StageFailed(f"The aggregator's supervisor was lost {starts} times; see {home.name}/supervisor.log.")
        write_json(home / "starts.json", {"starts": starts + 1})
        _supervisor_start(home)

    def state(self, handle: Handle) -> InstanceState:
        """Return what is known of an aggregator. One of another machine is taken to run: that machine knows better."""
        _reap_children()
        if handle.get("node", _node()) != _node():
            return InstanceState(None)
        home = self.home(handle)
        record = _record(home)
        if _ended(record):
            return InstanceState(
                InstanceStatus(record["state"]),
                record.get("exit_code"),
                str(record.get("reason") or ""),
                record.get("ended"),
            )
        if _supervisor_runs(record):
            return InstanceState(None)
        starts = read_json(home / "starts.json").get("starts", 0)
        if (home / "spec.json").exists() and not (home / "stopped").exists() and starts <= RESTARTS:
            return InstanceState(None)  # it is being started, or will be
        if self._instance_runs(home):
            return InstanceState(None)
        if (home / "stopped").exists():
            return InstanceState(InstanceStatus.KILLED, reason="It was stopped.")
        return InstanceState(InstanceStatus.FAILED, reason="It is gone, and nobody knows how it ended.")

    def stop(self, handle: Handle) -> None:
        """Stop the aggregator and its supervisor, and see to it that neither is started again."""
        self._stop(self.home(handle))

    def found(self) -> list[FoundAggregator]:
        """Return the aggregators of this machine that run, with or without their supervisor."""
        found = []
        for home in settings.RUNS_DIR.glob(f"*/{self._prefix}-*"):
            record = _record(home)
            if not home.parent.name.isdigit() or _ended(record):
                continue
            if _supervisor_runs(record) or _is_starting(home, record) or self._instance_runs(home):
                handle = {"home": f"{home.parent.name}/{home.name}", "node": _node()}
                found.append(FoundAggregator(int(home.parent.name), handle))
        return found

    def clean(self, run_id: int) -> None:
        """Remove everything of a run that has ended."""
        shutil.rmtree(Path(settings.RUNS_DIR) / str(run_id), ignore_errors=True)

    def home(self, handle: Handle) -> Path:
        """Return the folder of an aggregator."""
        return Path(settings.RUNS_DIR) / str(handle["home"])

    def homes(self, run_id: int) -> Iterator[Path]:
        """Yield the homes of all attempts of a run."""
        yield from (Path(settings.RUNS_DIR) / str(run_id)).glob(f"{self._prefix}-*")

    def _handle(self, run_id: int, attempt_id: str) -> Handle:
        return {"home": f"{run_id}/{self._prefix}-{attempt_id[:8]}", "node": _node()}

    def _stop(self, home: Path) -> None:
        if not home.exists():
            return
        (home / "stopped").touch(mode=0o600)
        _reap_children()
        record = _record_awaited(home)
        if not _ended(record):
            pid, identity = record.get("pid"), record.get("process")
            process_signal(pid, identity, signal.SIGTERM)
            if not _wait_ended(home, STOP_SECONDS):
                process_signal(pid, identity, signal.SIGKILL)
        self._instance_stop(home)
        with contextlib.suppress(FileNotFoundError):
            (home / "spec.json").unlink()


def _is_starting(home: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether a supervisor was started that has not written its record yet."""
    return not record and (home / "starts.json").exists() and (home / "spec.json").exists()


def _record_awaited(home: Path) -> dict[str, Any]:
    """Return the record of a home; that of a supervisor that was started just now is waited for."""
    deadline = time.monotonic() + RECORD_SECONDS
    while _is_starting(home, record := _record(home)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return record


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Any) -> None:
    """Replace a file in one step; nobody but its owner may read it."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def supervisor_spec(home: Path, spec: AggregatorSpec) -> dict[str, Any]:
    """Return what every supervisor's spec holds, whatever its runtime."""
    return {
        "run_id": spec.run_id,
        "edge_id": 0,
        "home": str(home.resolve()),
        "entry": {"file": spec.entry_file, "arguments": spec.entry_arguments},
        "config": spec.config,
        "token": spec.token,
        "url": settings.PUBLIC_URL,
        "mqtt": {
            "host": settings.MQTT_HOST,
            "port": settings.MQTT_PORT,
            "tls": settings.MQTT_TLS,
            "username": spec.mqtt_username,
            "password": spec.mqtt_password,
        },
        "limits": dict(spec.limits),
        "s3": object_store(),
        "package_name": spec.package_name,
        "package_url": spec.package_url,
        "system_interval": SYSTEM_INTERVAL_SECONDS,
    }


def _node() -> str:
    """Return what names this machine, or the volume that several containers share: whoever sees the same homes."""
    path = Path(settings.VAR_DIR) / "node"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".node.") as file:
            file.write(secrets.token_hex(8))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text()


_children: list[subprocess.Popen[bytes]] = []
_children_lock = threading.Lock()  # tasks of a worker are threads of one process


def _supervisor_start(home: Path) -> None:
    """Start the supervisor in a session of its own, and wait until it has written its record.

    Raises:
        StageFailed: it ended at once; the sentence is its own.
    """
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"PYTHONPATH": str(EDGE_DIR), "PYTHONUNBUFFERED": "1"}
    before = _record(home)
    with (home / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module; secrets stand in the spec
            [sys.executable, "-m", "roundtable_agent.supervise", str((home / "spec.json").resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
    with _children_lock:
        _children.append(process)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        record = _record(home)
        if record.get("pid") == process.pid or (record and record != before):
            return
        code = process.poll()
        if code == 3:  # another supervisor was quicker
            return
        if code is not None:
            said = (home / "supervisor.log").read_text(errors="replace").strip().splitlines()
            raise StageFailed(f"The aggregator's supervisor ended at once: {said[-1] if said else f'exit code {code}'}")
        time.sleep(POLL_SECONDS)
    raise StageFailed(f"The aggregator's supervisor did not begin within {START_SECONDS:.0f} seconds.")


def _reap_children() -> None:
    """Let supervisors of this worker that have ended go, so that they do not stay as zombies."""
    with _children_lock:
        _children[:] = [process for process in _children if process.poll() is None]


def _wait_ended(home: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _reap_children()
        record = _record(home)
        if _ended(record) or not _supervisor_runs(record):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _ended(record: Mapping[str, Any]) -> bool:
    return record.get("state") in InstanceStatus.ended()


def _supervisor_runs(record: Mapping[str, Any]) -> bool:
    return process_runs(record.get("pid"), record.get("process"))


def _record(home: Path) -> dict[str, Any]:
    return read_json(home / "supervise.json")
