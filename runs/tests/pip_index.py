"""Package indexes for tests in which pip is real: a folder with one wheel, and one that never answers."""

from __future__ import annotations

import json
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def wheel_write(folder: Path, name: str) -> None:
    """Write the wheel of version 1.0 of a package with one module, which has ``VALUE = 42``."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", "VALUE = 42\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/RECORD,,\n")


@contextmanager
def index_mute() -> Iterator[str]:
    """The URL of an index that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/simple"


def pip_of(environment: Path) -> tuple[int, str] | None:
    """Process id and identity of the pip that installs into an environment, once it does."""
    try:
        left = json.loads((environment / "pip.json").read_text())
        if b"install" in Path(f"/proc/{left['pid']}/cmdline").read_bytes():
            return left["pid"], left["identity"]
    except (OSError, ValueError):
        pass
    return None


@contextmanager
def index_of(folder: Path) -> Iterator[int]:
    """The port of an index, at ``/simple``, of the wheels in a folder."""
    for wheel in folder.glob("*.whl"):
        name = wheel.name.partition("-")[0].replace("_", "-")
        page = folder / "simple" / name
        page.mkdir(parents=True, exist_ok=True)
        (page / "index.html").write_text(f'<!DOCTYPE html><a href="/{wheel.name}">{wheel.name}</a>')
    handler = partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return
