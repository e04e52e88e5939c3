"""Is this device able to train? One line a question, with what to do where the answer is no."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from .durable import read_json, write_json
from .home import Home, Identity
from .link import Link
from .locks import try_lock, unlock
from .platform_http import Refused, Unreachable, get_json
from .processes import is_running
from .runtime_choice import AUTO, DOCKER, PROCESS, sdk_is_here

OLDEST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 2**30
BROKER_SECONDS = 10.0
SESSION_SECONDS = 86_400


@dataclass(frozen=True)
class Finding:
    """The answer to one question; `required` findings that are not ok make the whole check fail."""

    name: str
    ok: bool
    text: str
    required: bool = True


def check_device(
    home: Home, identity: Identity | None, broker: Callable[[], Finding] | None = None, runtime: str = AUTO
) -> dict[str, Any]:
    """Ask every question, store the result beside the identity, and return it.

    Parameters:
        broker: how to look at the broker; by default with a connection of our own, or by what the running agent says.
        runtime: `auto`, `docker` or `process`, as the agent was told; where it was not, an engine is welcome.

    Returns:
        `{ok, time, items: [{name, ok, text, required}]}`, part of the agent's presence from then on.
    """
    findings = [_python(), _environment(), _disk(home), _server(identity)]
    findings.append(broker() if broker is not None else _broker(home, identity))
    findings += _engine(home, identity, runtime)
    result = {
        "ok": all(finding.ok for finding in findings if finding.required),
        "time": round(time.time(), 3),
        "items": [asdict(finding) for finding in findings],
    }
    write_json(home.check, result)
    return result


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    rows = []
    for item in result["items"]:
        mark = "ok" if item["ok"] else "FAILED" if item["required"] else "no"
        rows.append(f"{item['name']:<12} {mark:<7} {item['text']}")
    return "\n".join(rows)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= OLDEST_PYTHON:
        return Finding("python", True, version)
    return Finding("python", False, f"{version} is too old: install Python 3.11 or newer")


def _environment() -> Finding:
    try:
        import ensurepip  # noqa: F401 - Debian leaves it out of python3
        import venv  # noqa: F401
    except ImportError:
        return Finding("venv", False, "the venv module is missing: apt-get install python3-venv")
    return Finding("venv", True, "environments for packages can be made")


def _disk(home: Home) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=home.root):
            pass
        free = shutil.disk_usage(home.root).free
    except OSError as error:
        return Finding("disk", False, f"cannot write to {home.root}: {error.strerror}")
    text = f"{free / 2**30:.1f} GiB free at {home.root}"
    if free < LEAST_DISK_BYTES:
        return Finding("disk", False, f"{text}: packages need at least {LEAST_DISK_BYTES / 2**30:.0f} GiB")
    return Finding("disk", True, text)


def _server(identity: Identity | None) -> Finding:
    if identity is None:
        return Finding("server", False, "this device is not bound yet: run.sh CODE --server URL")
    try:
        if get_json(identity.server, "/healthz").get("status") == "ok":
            return Finding("server", True, f"{identity.server} answers")
    except (Unreachable, Refused, AttributeError) as error:
        return Finding("server", False, str(error))
    return Finding("server", False, f"{identity.server} answers, but not as a Roundtable platform")


def _broker(home: Home, identity: Identity | None) -> Finding:
    if identity is None:
        return Finding("broker", False, "this device is not bound yet")
    descriptor = try_lock(home.lock)
    if descriptor is None:
        return _as_the_agent_says(home)
    try:
        # The agent's own client id, with its session kept: what waits for the agent stays unacknowledged.
        link = Link(identity.agent, client_id=identity.client_id, session_seconds=SESSION_SECONDS)
        link.start()
        connected = link.wait_connected(BROKER_SECONDS)
        problem = link.problem
        link.stop()
    finally:
        unlock(descriptor)
    address = f"{identity.agent.host}:{identity.agent.port}"
    if connected:
        return Finding("broker", True, f"{address} accepts the credential of {identity.agent.username}")
    return Finding("broker", False, problem)


def _as_the_agent_says(home: Home) -> Finding:
    state = read_json(home.state) or {}
    if not is_running(state.get("pid"), state.get("process")):
        return Finding("broker", False, "another agent is just starting in this folder; ask again in a moment")
    if state.get("connected") is True:
        return Finding("broker", True, f"the running agent (process {state['pid']}) is connected")
    return Finding("broker", False, f"the running agent is not connected: {state.get('problem')}")


def _engine(home: Home, identity: Identity | None, runtime: str) -> list[Finding]:
    """What there is to open containers with; without it instances are processes, so that is no failure."""
    if runtime == PROCESS:
        return [Finding("docker", False, "not used (--runtime process); instances run as processes", required=False)]
    if not sdk_is_here():
        text = "the docker package is not installed in the agent's environment; instances run as processes"
        return [Finding("docker", False, text, required=runtime == DOCKER)]
    from .engine_checks import check_engine

    registry = identity.registry if identity is not None else None
    return check_engine(home.images, registry, required=runtime == DOCKER)
