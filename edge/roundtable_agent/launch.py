"""The parent of one instance in the process runtime: starts it, waits for it, writes down how it ended.

It outlives its keeper (it has its own session and ignores the signals that end programs), so that an instance goes on
while an agent is restarted and its exit code is known afterwards. It ends when the instance has ended.

    python -m roundtable_agent.launch < SPEC

The spec is JSON on standard input, so that no secret stands in a command line: `folder` (the instance's folder),
`argv`, `cwd`, `env`, `stdout`, `stderr`, `hold` (lock files to share as long as the instance lives) and `open_files`.

1. Take `launch.lock`; where another launcher was quicker, end.
2. Write `launch.json`, start the instance in a session of its own, add its process to `launch.json`.
3. Wait for it, and reap what it left to us.
4. End what it left running.
5. Write `exit.json`: `{exit_code, signal, note, time}`.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .durable import write_json
from .layout import InstanceFolder
from .locks import try_lock
from .processes import descendants, identity, send

PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_SECONDS = 2.0
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> int:
    """Run one instance to its end; the exit code is 0 unless the spec is unusable."""
    spec = json.load(sys.stdin)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    folder = InstanceFolder(Path(spec["folder"]))
    if try_lock(folder.launch_lock) is None or folder.launch.exists():
        return 0
    for path in spec["hold"]:
        try_lock(Path(path), shared=True)
    _become_subreaper()
    launched: dict[str, Any] = {"launcher": {"pid": os.getpid(), "identity": identity(os.getpid())}, "instance": None}
    write_json(folder.launch, launched)
    try:
        process = _start(spec)
    except OSError as error:
        write_json(folder.exit, _ending(note=f"cannot start {spec['argv'][0]}: {error.strerror or error}"), sync=True)
        return 0
    launched["instance"] = {"pid": process.pid, "identity": identity(process.pid)}
    write_json(folder.launch, launched)
    status = _wait(process.pid)
    _end_leftovers(process.pid)
    code = os.waitstatus_to_exitcode(status)
    write_json(folder.exit, _ending(code=code) if code >= 0 else _ending(signal_number=-code), sync=True)
    return 0


def _start(spec: dict[str, Any]) -> "subprocess.Popen[bytes]":
    def restrict() -> None:
        for number in IGNORED:
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = spec["open_files"] if hard == resource.RLIM_INFINITY else min(spec["open_files"], hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    with contextlib.ExitStack() as stack:
        streams = []
        for name in ("stdout", "stderr"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            streams.append(os.open(spec[name], flags, 0o600))
            stack.callback(os.close, streams[-1])
        return subprocess.Popen(  # noqa: S603 - an argument list made of a checked plan
            spec["argv"],
            cwd=spec["cwd"],
            env=spec["env"],
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            start_new_session=True,
            preexec_fn=restrict,  # safe: this program has one thread
        )


def _wait(pid: int) -> int:
    """Wait for the instance, reaping orphans of it that end meanwhile; returns its wait status."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status


def _end_leftovers(pid: int) -> None:
    """End what the instance started and left: first asked, after a while killed."""
    for process in descendants(os.getpid()):
        send(process, signal.SIGTERM)
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while left := descendants(os.getpid()):
        if time.monotonic() >= deadline:
            for process in left:
                send(process, signal.SIGKILL)
        time.sleep(0.05)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    if not sys.platform.startswith("linux"):  # without a subreaper the group is all that is known
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _become_subreaper() -> None:
    """Make orphaned descendants ours, so that none of them is lost from sight (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _ending(*, code: int | None = None, signal_number: int | None = None, note: str = "") -> dict[str, Any]:
    return {"exit_code": code, "signal": signal_number, "note": note, "time": time.time()}


if __name__ == "__main__":
    sys.exit(main())
