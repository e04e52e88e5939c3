"""Interpreters for packages: one virtual environment per requirements file, built once, shared by all who need it."""

import contextlib
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import IO

from .durable import read_json, write_json
from .locks import POLL_SECONDS, try_lock, unlock
from .runtime import Failed, Steps

MAX_REQUIREMENTS_BYTES = 1 << 20
INSTALL_SECONDS = 1800
KEPT_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip
MARKER = "roundtable.json"


class EnvironmentCache:
    """Virtual environments on this machine; several agents may share the folder.

    An environment is whole when its marker file is there, which is written last; one without is made anew, elsewhere in
    its folder.

    Parameters:
        folder: where to keep them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def provide(self, requirements: Path | None, transcript: Path, steps: Steps) -> tuple[Path, int, Path]:
        """Find or build the environment of a requirements file.

        Parameters:
            requirements: the file, or None for a package that needs nothing.
            transcript: a file to which pip's output is appended.

        Returns:
            The interpreter; a shared lock that keeps it from being cleaned away, to be given up when it is no longer
            needed; the lock's file.

        Raises:
            Failed: the requirements cannot be installed.
            Stopped: from `steps.checkpoint`.
        """
        try:
            text = b"" if requirements is None else _read(requirements)
            digest = _digest(text)
            folder = self._folder / digest
            lock_file = self._folder / f"{digest}.lock"
            while True:
                # Whoever waits to build must also see that another has built: that one keeps its shared lock for long.
                if (descriptor := try_lock(lock_file, shared=True)) is not None:
                    python = _interpreter(folder)
                    if python is not None:
                        os.utime(folder / MARKER)
                        return python, descriptor, lock_file
                    unlock(descriptor)
                if (descriptor := try_lock(lock_file)) is not None:
                    try:
                        if _interpreter(folder) is None:
                            self._build(folder, requirements if text.strip() else None, transcript, steps)
                    finally:
                        unlock(descriptor)
                else:
                    steps.checkpoint()
                    time.sleep(POLL_SECONDS)
        except OSError as error:
            raise Failed(f"cannot make the environment of the package: {error.strerror or error}") from None

    def _build(self, folder: Path, requirements: Path | None, transcript: Path, steps: Steps) -> None:
        """Build under a name that nobody has used: the pip of an agent that was killed may still be writing."""
        shutil.rmtree(folder, ignore_errors=True)
        place = folder / secrets.token_hex(4)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            started = time.monotonic()
            steps.say("making a virtual environment" + (" and installing the requirements" if requirements else ""))
            with transcript.open("ab") as output:
                pip = _has_pip()
                options = ["--without-pip"] if pip or requirements is None else []
                _run([sys.executable, "-m", "venv", *options, str(place)], output, steps)
                python = str(place / "bin" / "python")
                if requirements is not None:
                    installer = [sys.executable, "-m", "pip", "--python", python] if pip else [python, "-m", "pip"]
                    options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
                    _run([*installer, "install", *options, "-r", str(requirements)], output, steps)
            steps.say(f"the environment is ready after {time.monotonic() - started:.1f} s")
            write_json(folder / MARKER, {"folder": place.name, "bytes": _size(place)})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _interpreter(folder: Path) -> Path | None:
    """The interpreter of a whole environment; None where there is none yet."""
    name = (read_json(folder / MARKER) or {}).get("folder")
    python = folder / str(name) / "bin" / "python"
    return python if name is not None and python.exists() else None


def environment_bytes(folder: Path) -> int:
    """What an environment takes on disk, as its marker says; 0 where it has none."""
    size = (read_json(folder / MARKER) or {}).get("bytes")
    return size if isinstance(size, int) else 0


def _read(requirements: Path) -> bytes:
    """Read a requirements file, which must say all by itself, or its digest would not name the environment."""
    if requirements.stat().st_size > MAX_REQUIREMENTS_BYTES:
        raise Failed(f"requirements.txt is larger than {MAX_REQUIREMENTS_BYTES} bytes")
    raw = requirements.read_bytes()
    for line in raw.decode("utf-8", "replace").splitlines():
        if re.match(r"\s*(-r|-c|-e|--requirement|--constraint|--editable|\.)|.*(\s\./|file:)", line):
            raise Failed(f"requirements.txt refers to another file ({line.strip()[:100]!r}): name packages only")
    return raw


def _digest(text: bytes) -> str:
    facts = [platform.python_implementation(), platform.python_version(), platform.machine(), sys.base_prefix]
    return hashlib.sha256(json.dumps(facts).encode() + b"\n" + text).hexdigest()


def _has_pip() -> bool:
    """Whether our own pip can install into another interpreter (`--python`, since 22.3)."""
    try:
        major, minor = version("pip").split(".")[:2]
        return (int(major), int(minor)) >= (22, 3)
    except (ImportError, ValueError):
        return False


def _run(argv: list[str], output: IO[bytes], steps: Steps) -> None:
    """Run a step of the installation in a session of its own, so that it can be ended with all it started."""
    before = output.tell()
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES or name.startswith("PIP_")}
    process = subprocess.Popen(  # noqa: S603 - an argument list of ours; the requirements are a file
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=kept, start_new_session=True
    )
    deadline = time.monotonic() + INSTALL_SECONDS
    try:
        while process.poll() is None:
            steps.checkpoint()
            if time.monotonic() > deadline:
                raise Failed(f"installing the requirements took longer than {INSTALL_SECONDS // 60} minutes")
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        raise Failed(f"the requirements could not be installed: {_complaint(Path(output.name), before)}")


def _complaint(transcript: Path, offset: int) -> str:
    """The line of the output that says best what went wrong."""
    with transcript.open("rb") as file:
        file.seek(offset)
        lines = [line.strip() for line in file.read(1 << 20).decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no reason given"])[-1][:300]


def _size(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
