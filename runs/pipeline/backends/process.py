"""The backend of one machine without a container engine: folders, virtual environments and processes.

Build unpacks the package into a folder named by its digest and makes an environment for its requirements; push
publishes the content-addressed package, which devices fetch from the platform itself; launch starts a supervisor
(``edge/roundtable_agent/supervise.py``) that opens the aggregator in a folder of its own, with limits, and reports on
it like any device's agent. The supervisor outlives the worker. Instances run as the platform's own user: where packages
are not trusted, use a backend with containers.

A run's folder is ``RUNS_DIR/<run id>``; in it each attempt has ``server-<attempt>`` with the supervisor's spec
(secrets, mode 0600, removed when it is stopped or cleaned up), its record ``supervise.json`` and the instance's own
folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from configurations.archive import ArchiveRefused, unpack
from configurations.models import Package, PackageKind
from configurations.services import package_path
from runs.models import Run
from runs.pipeline.backends.interface import (
    AggregatorSpec,
    FoundAggregator,
    Handle,
    InstanceState,
    StageContext,
    StageFailed,
    StageResult,
)
from runs.pipeline.processes import process_runs, process_signal
from runs.pipeline.venvs import file_lock, venv_make
from runs.states import InstanceStatus

EDGE_DIR = settings.BASE_DIR / "edge"
START_SECONDS = 20.0
STOP_SECONDS = 20.0  # the supervisor gives its instance ten, then kills it
RESTARTS = 3
POLL_SECONDS = 0.05
CHUNK_BYTES = 1024 * 1024
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE", "SSL_CERT_DIR")


class ProcessBackend:
    """Builds folders and opens aggregators as processes on the worker's machine."""

    name = "process"
    label = "Processes on this machine"

    def available(self) -> tuple[bool, str]:
        if not (EDGE_DIR / "roundtable_agent" / "supervise.py").exists():
            return False, "The folder edge/ of the platform is missing."
        return True, f"Aggregators run as processes of Python {sys.version.split()[0]}."

    def build(self, context: StageContext, kind: PackageKind) -> StageResult:
        package = _package(context.run, kind)
        folder = _packages_dir() / package.sha256
        done = []
        if not folder.exists():
            context.log(f"Unpacking {package.file_name} ({package.sha256[:12]}).")
            try:
                unpack(package_path(package), folder)
            except ArchiveRefused as error:
                raise StageFailed(f"The {kind} package cannot be unpacked. {error}") from error
            except OSError as error:
                raise StageFailed(f"The {kind} package cannot be unpacked: {error.strerror or error}.") from error
            done.append("unpacked")
        context.progress(0.2)
        context.check()
        requirements = folder / "requirements.txt"
        python = Path(sys.executable)
        if requirements.is_file() and package.manifest.get("requirements"):
            venv = venv_make(context, settings.VENVS_DIR, requirements, f"the {kind} package")
            python = venv.python
            if venv.made:
                done.append("installed")
        else:
            context.log("The package has no requirements; it runs on the platform's own interpreter.")
        data = {"package_dir": str(folder), "python": str(python), "sha256": package.sha256}
        unchanged = "" if done else "unchanged: this package was unpacked, and its requirements installed, before"
        return StageResult(data, unchanged)

    def push(self, context: StageContext, kind: PackageKind, built: Mapping[str, Any]) -> StageResult:
        package = _package(context.run, kind)
        try:
            path = package_path(package)
            stat = path.stat()
        except OSError as error:
            raise StageFailed(
                f"The {kind} package {package.sha256[:12]} is not in the store any more. Upload it again."
            ) from error
        data = {"url": f"/api/edge/packages/{package.sha256}", "sha256": package.sha256, "size": stat.st_size}
        known = _packages_dir() / f"{package.sha256}.published.json"
        mark = {"size": stat.st_size, "modified": stat.st_mtime_ns, "path": str(path)}
        if _read_json(known) == mark:
            return StageResult(data, f"unchanged: package {package.sha256[:12]} was published before")
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                context.check()
                context.progress(file.tell() / max(1, stat.st_size))
        if digest.hexdigest() != package.sha256:
            raise StageFailed(
                f"The {kind} package in the store is damaged: its digest is not {package.sha256[:12]}. Upload it again."
            )
        known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_json(known, mark)
        context.log(f"Published {data['url']} ({stat.st_size} bytes).")
        return StageResult(data)

    def client_image(self, built: Mapping[str, Any], pushed: Mapping[str, Any]) -> dict[str, Any] | None:
        return None

    def launch(
        self, context: StageContext, built: Mapping[str, Any], pushed: Mapping[str, Any], spec: AggregatorSpec
    ) -> Handle:
        folder = _run_dir(spec.run_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = _handle(spec.run_id, spec.attempt_id)
        home = _home(handle)
        with file_lock(folder / "launch.lock", context):
            for other in folder.glob("server-*"):
                if other != home:
                    _home_stop(other)
            context.check()
            if not (home / "spec.json").exists():
                home.mkdir(mode=0o700, exist_ok=True)
                _write_json(home / "spec.json", _supervisor_spec(home, built, spec))
        self.watch(handle)
        context.log(f"The aggregator's supervisor runs (process {_record(home).get('pid')}).")
        return handle

    def aggregator_find(self, run: Run) -> Handle | None:
        if not run.attempt_id:
            return None
        handle = _handle(run.pk, run.attempt_id)
        return handle if (_home(handle) / "spec.json").exists() else None

    def watch(self, handle: Handle) -> None:
        """Start the supervisor where it does not run; it takes up a living aggregator, or reports how it ended."""
        _reap_children()
        home = _home(handle)
        record = _record(home)
        if _ended(record) or _supervisor_runs(record) or not (home / "spec.json").exists():
            return
        starts = _read_json(home / "starts.json").get("starts", 0)
        if starts > RESTARTS:
            raise StageFailed(f"The aggregator's supervisor was lost {starts} times; see {home.name}/supervisor.log.")
        _write_json(home / "starts.json", {"starts": starts + 1})
        _supervisor_start(home)

    def aggregator_state(self, handle: Handle) -> InstanceState:
        _reap_children()
        home = _home(handle)
        record = _record(home)
        if _ended(record):
            return InstanceState(
                InstanceStatus(record["state"]),
                record.get("exit_code"),
                str(record.get("reason") or ""),
                record.get("ended"),
            )
        if _supervisor_runs(record) or _instance_runs(home):
            return InstanceState(None)
        starts = _read_json(home / "starts.json").get("starts", 0)
        if (home / "spec.json").exists() and not (home / "stopped").exists() and starts <= RESTARTS:
            return InstanceState(None)  # it is being started, or will be
        if (home / "stopped").exists():
            return InstanceState(InstanceStatus.KILLED, reason="It was stopped.")
        return InstanceState(InstanceStatus.FAILED, reason="It is gone, and nobody knows how it ended.")

    def stop_aggregator(self, handle: Handle) -> None:
        _home_stop(_home(handle))

    def aggregators_find(self) -> list[FoundAggregator]:
        found = []
        for home in settings.RUNS_DIR.glob("*/server-*"):
            if home.parent.name.isdigit() and not _ended(_record(home)) and _alive(home):
                found.append(FoundAggregator(int(home.parent.name), {"home": f"{home.parent.name}/{home.name}"}))
        return found

    def clean(self, run: Run) -> None:
        shutil.rmtree(_run_dir(run.pk), ignore_errors=True)


def _package(run: Run, kind: PackageKind) -> Package:
    return run.server_package if kind == PackageKind.SERVER else run.client_package


def _packages_dir() -> Path:
    return Path(settings.RUNS_DIR) / "packages"


def _run_dir(run_id: int) -> Path:
    return Path(settings.RUNS_DIR) / str(run_id)


def _handle(run_id: int, attempt_id: str) -> Handle:
    return {"home": f"{run_id}/server-{attempt_id[:8]}"}


def _home(handle: Handle) -> Path:
    return Path(settings.RUNS_DIR) / str(handle["home"])


def _supervisor_spec(home: Path, built: Mapping[str, Any], spec: AggregatorSpec) -> dict[str, Any]:
    return {
        "run_id": spec.run_id,
        "edge_id": 0,
        "home": str(home.resolve()),
        "package_dir": str(Path(str(built["package_dir"])).resolve()),
        "python": str(built["python"]),
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
        "s3": None,
        "package_name": spec.package_name,
        "package_url": spec.package_url,
        "system_interval": 5.0,
    }


_children: list[subprocess.Popen[bytes]] = []


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
    for process in list(_children):
        if process.poll() is not None:
            _children.remove(process)


def _home_stop(home: Path) -> None:
    """Stop the supervisor and its aggregator, and see to it that neither is started again."""
    if not home.exists():
        return
    (home / "stopped").touch(mode=0o600)
    _reap_children()
    record = _record(home)
    if not _ended(record):
        pid, identity = record.get("pid"), record.get("process")
        process_signal(pid, identity, signal.SIGTERM)
        if not _wait_ended(home, STOP_SECONDS):
            process_signal(pid, identity, signal.SIGKILL)
        _instance_stop(home)
    with contextlib.suppress(FileNotFoundError):
        (home / "spec.json").unlink()


def _wait_ended(home: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _reap_children()
        record = _record(home)
        if _ended(record) or not _supervisor_runs(record):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _instance_stop(home: Path) -> None:
    """End an instance whose supervisor is not there to do it."""
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        process_signal(*_launched(home, "instance"), number, group=True)
        deadline = time.monotonic() + seconds
        while _instance_runs(home) and time.monotonic() < deadline:  # its launcher writes down how it ended
            time.sleep(POLL_SECONDS)


def _ended(record: Mapping[str, Any]) -> bool:
    return record.get("state") in InstanceStatus.ended()


def _supervisor_runs(record: Mapping[str, Any]) -> bool:
    return process_runs(record.get("pid"), record.get("process"))


def _instance_runs(home: Path) -> bool:
    return any(process_runs(*_launched(home, name)) for name in ("instance", "launcher"))


def _alive(home: Path) -> bool:
    return _supervisor_runs(_record(home)) or _instance_runs(home)


def _launched(home: Path, name: str) -> tuple[int | None, str | None]:
    """The process that ``launch.json`` names: the instance itself, or the launcher that is its parent."""
    entry = _read_json(home / "launch.json").get(name)
    if isinstance(entry, dict) and isinstance(entry.get("pid"), int):
        return entry["pid"], entry.get("identity")
    return None, None


def _record(home: Path) -> dict[str, Any]:
    return _read_json(home / "supervise.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_json(path: Path, value: Any) -> None:
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
