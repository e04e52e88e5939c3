"""Keeps the agent's disk use within bounds: old runs by number, cached things by budget and last use."""

import contextlib
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .environments import MARKER, environment_bytes
from .home import Home
from .locks import try_lock, unlock
from .record import RunRecord
from .runtime import Runtime
from .runtime_process import remove_folder

if TYPE_CHECKING:
    from .runtime_docker import DockerRuntime

KEPT_INSTANCES = 5
KEPT_RECORDS = 200
IN_USE_SECONDS = 3600

log = logging.getLogger(__name__)


def clean_runs(home: Home, runtime: Runtime, held: set[int]) -> None:
    """Remove what old runs left.

    The folders of the last 5 ended instances are kept for looking into, the records of the last 200 so that a command
    that comes twice is recognised. What is open, or not reported yet, is never touched.

    Parameters:
        held: the runs that the agent holds.
    """
    ended: list[tuple[float, int]] = []
    for run_id in home.run_ids():
        record = RunRecord.load(home.record(run_id))
        if run_id not in held and record is not None and record.state.ended and record.drained:
            ended.append((record.ended or record.created, run_id))
    ended.sort(reverse=True)
    for _, run_id in ended[KEPT_INSTANCES:]:
        root = home.instance(run_id)
        if root.exists():
            with contextlib.suppress(OSError):
                runtime.clean(root)
                remove_folder(root)
    for _, run_id in ended[KEPT_RECORDS:]:
        shutil.rmtree(home.run(run_id), ignore_errors=True)


def clean_containers(home: Home, docker: "DockerRuntime | None", images_bytes: int) -> None:
    """Remove containers that no run of this device knows, and images beyond the budget, the least recently used first.

    Where the engine does not answer nothing happens: it is asked again later.
    """
    if docker is None or not docker.engine.answers():
        return
    records = {run_id: RunRecord.load(home.record(run_id)) for run_id in home.run_ids()}
    kept = {home.instance(run_id) for run_id, record in records.items() if record is None or not record.state.ended}
    docker.tidy(kept, images_bytes)


def trim_cache(cache: Path, budget_bytes: int) -> None:
    """Remove the least recently used packages and environments beyond the budget.

    What was used within the last hour, or is in use by an instance of any agent, stays.
    """
    entries: list[tuple[float, int, Path, Path]] = []
    for path in (cache / "packages").glob("*.zip"):
        with contextlib.suppress(OSError):
            details = path.stat()
            entries.append((details.st_mtime, details.st_size, path, path.with_suffix(".lock")))
    for marker in (cache / "environments").glob(f"*/{MARKER}"):
        with contextlib.suppress(OSError):
            folder = marker.parent
            lock_file = folder.with_name(f"{folder.name}.lock")
            entries.append((marker.stat().st_mtime, environment_bytes(folder), folder, lock_file))
    total = sum(size for _, size, _, _ in entries)
    for used, size, path, lock_file in sorted(entries):
        if total <= budget_bytes or used > time.time() - IN_USE_SECONDS:
            return
        if _remove(path, lock_file):
            log.info("removed %s from the cache to keep within the budget", path.name[:16])
            total -= size


def _remove(path: Path, lock_file: Path) -> bool:
    descriptor = try_lock(lock_file)
    if descriptor is None:
        return False
    try:
        if path.is_dir():
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        unlock(descriptor)
    return True
