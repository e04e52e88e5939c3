"""The backend of one machine without a container engine: folders, virtual environments and processes.

Build unpacks the package into a folder named by its digest and makes an environment for its requirements; push
publishes the content-addressed package, which devices fetch from the platform itself; launch starts a supervisor
(``runs.pipeline.supervisors``) that opens the aggregator in a folder of its own, with limits, and reports on it like
any device's agent. Instances run as the platform's own user: where packages are not trusted, use a backend with
containers.
"""

from __future__ import annotations

import hashlib
import signal
import sys
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
from runs.pipeline.supervisors import EDGE_DIR, Supervisors, read_json, write_json
from runs.pipeline.venvs import venv_make

POLL_SECONDS = 0.05
CHUNK_BYTES = 1024 * 1024


class ProcessBackend:
    """Builds folders and opens aggregators as processes on the worker's machine."""

    name = "process"
    label = "Processes on this machine"

    def available(self) -> tuple[bool, str]:
        if not (EDGE_DIR / "roundtable_agent" / "supervise.py").exists():
            return False, "The folder edge/ of the platform is missing."
        return True, f"Aggregators run as processes of Python {sys.version.split()[0]}."

    def recommended(self) -> tuple[bool, str]:
        return self.available()

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
        if read_json(known) == mark:
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
        write_json(known, mark)
        context.log(f"Published {data['url']} ({stat.st_size} bytes).")
        return StageResult(data)

    def client_image(self, built: Mapping[str, Any], pushed: Mapping[str, Any]) -> dict[str, Any] | None:
        return None

    def launch(
        self, context: StageContext, built: Mapping[str, Any], pushed: Mapping[str, Any], spec: AggregatorSpec
    ) -> Handle:
        fields = {"package_dir": str(Path(str(built["package_dir"])).resolve()), "python": str(built["python"])}
        handle = SUPERVISORS.prepare(context, spec, lambda home: fields)
        self.watch(handle)
        context.log("The aggregator's supervisor runs.")
        return handle

    def aggregator_find(self, run: Run) -> Handle | None:
        return SUPERVISORS.find(run)

    def watch(self, handle: Handle) -> None:
        SUPERVISORS.watch(handle)

    def aggregator_state(self, handle: Handle) -> InstanceState:
        return SUPERVISORS.state(handle)

    def stop_aggregator(self, handle: Handle) -> None:
        SUPERVISORS.stop(handle)

    def aggregators_find(self) -> list[FoundAggregator]:
        return SUPERVISORS.found()

    def clean(self, run: Run) -> None:
        SUPERVISORS.clean(run.pk)

    def tidy(self) -> None:
        """Packages and environments are kept: they are small, and a run may need them at any time."""


def _package(run: Run, kind: PackageKind) -> Package:
    return run.server_package if kind == PackageKind.SERVER else run.client_package


def _packages_dir() -> Path:
    return Path(settings.RUNS_DIR) / "packages"


def _instance_runs(home: Path) -> bool:
    return any(process_runs(*_launched(home, name)) for name in ("instance", "launcher"))


def _instance_stop(home: Path) -> None:
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        process_signal(*_launched(home, "instance"), number, group=True)
        deadline = time.monotonic() + seconds
        while _instance_runs(home) and time.monotonic() < deadline:  # its launcher writes down how it ended
            time.sleep(POLL_SECONDS)


def _launched(home: Path, name: str) -> tuple[int | None, str | None]:
    """The process that ``launch.json`` names: the instance itself, or the launcher that is its parent."""
    entry = read_json(home / "launch.json").get(name)
    if isinstance(entry, dict) and isinstance(entry.get("pid"), int):
        return entry["pid"], entry.get("identity")
    return None, None


SUPERVISORS = Supervisors("server", instance_runs=_instance_runs, instance_stop=_instance_stop)
