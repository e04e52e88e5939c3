"""A real container engine and registry for the tests of the container runtimes, and an image with a package in it.

The two servers are those of the repository's local demo; the agent itself imports nothing of it.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import docker

REPOSITORY = Path(__file__).resolve().parents[2]
BASE = "roundtable-base:local"
PACKAGE = REPOSITORY / "build-mlops-package" / "mlops-core" / "fedml-client" / "package"
ENTRY = "import sys\nexec(sys.argv[1])\n"
CONFIG = "entry_config: {entry_file: fedml/entry.py}\nentry_arguments: {}\n"
DOCKERFILE = f"""FROM {BASE}
ENTRYPOINT []
RUN mkdir -p /fedml/conf /fedml/fedml-package /fedml/data && chown 10001:10001 /fedml/conf /fedml/data
COPY package /fedml/fedml-package
WORKDIR /fedml/fedml-package
USER 10001:10001
"""


def servers() -> Any:
    """The module with `Engine` and `Registry`."""
    if str(REPOSITORY) not in sys.path:
        sys.path.append(str(REPOSITORY))
    from deploy.local import engine

    return engine


def cannot_run() -> str:
    """Why the tests cannot run on this machine; empty where they can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in ("dockerd", "docker-registry", "debootstrap") if not shutil.which(name, path=path)]
    if missing:
        return f"no {', '.join(missing)} on this machine: the container runtimes cannot be tested"
    return "" if os.geteuid() == 0 else "an engine of one's own needs root: the container runtimes cannot be tested"


def short_folder() -> Path:
    """A folder whose path is short enough for a socket."""
    return Path(tempfile.mkdtemp(prefix="rt-edge-", dir="/tmp"))


def client(engine: Any, seconds: float = 120) -> Any:
    """A connection to an engine."""
    return docker.APIClient(base_url=engine.url, version="auto", timeout=seconds)


def base_image(engine: Any) -> None:
    """Make the base image on an engine; its root file system is cached in the repository."""
    environment = {**os.environ, "DOCKER_HOST": engine.url, "ROUNDTABLE_VAR": str(REPOSITORY / "var")}
    script = REPOSITORY / "deploy" / "base-image" / "make.sh"
    subprocess.run([str(script), BASE], env=environment, check=True, capture_output=True)


def publish(engine: Any, registry: Any, name: str = "client", *, main: bool = True) -> str:
    """Build an image whose entry file runs the code that it is given, push it; returns its name by digest."""
    files = {"package/fedml/entry.py": ENTRY, "package/conf/fedml.yaml": CONFIG, "Dockerfile": DOCKERFILE}
    if main:
        files["package/main.py"] = (PACKAGE / "main.py").read_text()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in files.items():
            information = tarfile.TarInfo(path)
            information.size = len(text.encode())
            information.mode = 0o644
            archive.addfile(information, io.BytesIO(text.encode()))
    buffer.seek(0)
    repository = f"{registry.address}/{name}"
    connection = client(engine)
    try:
        arguments = {"fileobj": buffer, "custom_context": True, "rm": True, "decode": True, "network_mode": "none"}
        for message in connection.build(tag=f"{repository}:1", **arguments):
            assert "error" not in message, message
        login = {"username": registry.username, "password": registry.password}
        digest = ""
        for message in connection.push(repository, "1", stream=True, decode=True, auth_config=login):
            assert "error" not in message, message
            digest = (message.get("aux") or {}).get("Digest") or digest
        return f"{repository}@{digest}"
    finally:
        connection.close()
