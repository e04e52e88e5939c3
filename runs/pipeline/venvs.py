"""Virtual environments of the process backend: one for each set of requirements, made once.

A folder ``<digest>`` holds the environment and ``ready.json``, which is written last: without it the folder is what a
killed attempt left, and is made anew. ``<digest>.lock`` is held while it is made; the kernel frees it when its holder
dies. pip outlives a worker that was killed, so its process is written down and ended by whoever comes next.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import IO

from runs.pipeline.backends.interface import StageContext, StageFailed
from runs.pipeline.pip_errors import pip_failure
from runs.pipeline.processes import process_identity, process_runs, process_signal, process_wait

POLL_SECONDS = 0.1
END_SECONDS = 5.0
# What pip may know of the worker's environment: where the package index is and how it is reached, but no secret of the
# platform's own.
PASSED_ON = re.compile(
    r"PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|PIP_\w+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|(HTTPS?|NO|ALL)_PROXY|"
    r"(https?|no|all)_proxy|LD_LIBRARY_PATH|CC|CXX|CFLAGS|XDG_CACHE_HOME"
)


@dataclass(frozen=True)
class Venv:
    """A virtual environment that is ready.

    Attributes:
        python: its interpreter.
        made: whether this call made it; False where it was there.
    """

    python: Path
    made: bool


def venv_digest(requirements: bytes) -> str:
    """Return the name of the environment for the bytes of a requirements file and this interpreter."""
    version = f"{sys.implementation.cache_tag} {sys.version.split()[0]} {sys.platform}\n"
    return hashlib.sha256(version.encode() + requirements).hexdigest()[:32]


def venv_make(context: StageContext, folder: Path, requirements: Path, what: str) -> Venv:
    """Return the environment for a requirements file, making it first where it is not there.

    Args:
        context: gets pip's output; its ``check`` ends pip.
        folder: where environments are kept.
        requirements: the file.
        what: how reasons name where the file is from, such as ``the server package``.

    Raises:
        StageFailed: a requirement cannot be installed; the sentence names it.
        StageCancelled, StageTimedOut: from ``context.check``; pip is ended first.
    """
    digest = venv_digest(requirements.read_bytes())
    target = folder / digest
    python = target / "bin" / "python"
    ready = target / "ready.json"
    if ready.exists():
        return Venv(python, made=False)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file_lock(folder / f"{digest}.lock", context):
        if ready.exists():
            return Venv(python, made=False)
        _end_leftover(target)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        context.log(f"pip install -r requirements.txt   (environment {digest[:12]})")
        code, lines = 0, list[str]()
        for command in _commands(target, python, requirements):
            code, lines = _run(context, command, target)
            if code != 0:
                break
        if code != 0:
            shutil.rmtree(target, ignore_errors=True)
            raise StageFailed(pip_failure(lines, code, what))
        ready.write_text(json.dumps({"requirements": requirements.read_text(errors="replace"), "made": time.time()}))
    return Venv(python, made=True)


def _commands(target: Path, python: Path, requirements: Path) -> list[list[str]]:
    """The commands that make an environment. The platform's own pip is lent to it: copying one in takes seconds."""
    lent = find_spec("pip") is not None
    venv = [sys.executable, "-I", "-m", "venv", *(["--without-pip"] if lent else []), str(target)]
    pip = [sys.executable, "-I", "-m", "pip", "--python", str(python)] if lent else [str(python), "-I", "-m", "pip"]
    options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    return [venv, [*pip, "install", *options, "-r", str(requirements)]]


@contextmanager
def file_lock(path: Path, context: StageContext) -> Iterator[None]:
    """Hold a lock between processes for the length of a block; ``context.check`` is asked while waiting for it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    context.log("Waiting for another worker that makes the same.")
                    waiting = True
                context.check()
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _run(context: StageContext, command: Sequence[str], folder: Path) -> tuple[int, list[str]]:
    """Run a command with its output in the stage's log; end its process group when the stage is to end.

    Returns:
        Its exit code and its lines.
    """
    environment = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    process = subprocess.Popen(  # noqa: S603 - an argument list of our own
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    lines: list[str] = []
    with process:
        (folder / "pip.json").write_text(json.dumps({"pid": process.pid, "identity": process_identity(process.pid)}))
        assert process.stdout is not None  # noqa: S101 - asked for above
        reader = Thread(target=_read, args=(process.stdout, context, lines), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                context.check()
                time.sleep(POLL_SECONDS)
        except BaseException:
            _end_group(process.pid, process)
            raise
        finally:
            reader.join(END_SECONDS)
    return process.returncode, lines


def _read(stream: IO[str], context: StageContext, lines: list[str]) -> None:
    for line in stream:
        text = line.rstrip("\n")
        lines.append(text)
        context.log(text)


def _end_group(pid: int, process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _end_leftover(target: Path) -> None:
    """End the pip of a worker that was killed."""
    try:
        left = json.loads((target / "pip.json").read_text())
        pid, identity = int(left["pid"]), str(left["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if process_runs(pid, identity):
        process_signal(pid, identity, signal.SIGKILL, group=True)
        process_wait(pid, identity, END_SECONDS)
