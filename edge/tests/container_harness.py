"""An image with a package in it, and looks at a real container engine, for the tests of the container runtimes.

The engine and the registry are the fixtures of the repository; the agent itself imports nothing of it.
"""

import io
import tarfile
from pathlib import Path
from typing import Any

import docker

from deploy.local.engine import Engine, Registry
from tests.containers import BASE_IMAGE

PACKAGE = Path(__file__).resolve().parents[2] / "build-mlops-package" / "mlops-core" / "fedml-client" / "package"
ENTRY = "import sys\nexec(sys.argv[1])\n"
CONFIG = "entry_config: {entry_file: fedml/entry.py}\nentry_arguments: {}\n"
DOCKERFILE = f"""FROM {BASE_IMAGE}
ENTRYPOINT []
RUN mkdir -p /fedml/conf /fedml/fedml-package /fedml/data && chown 10001:10001 /fedml/conf /fedml/data
COPY package /fedml/fedml-package
WORKDIR /fedml/fedml-package
USER 10001:10001
"""


def client_of(engine: Engine) -> Any:
    """A connection to an engine."""
    return docker.APIClient(base_url=engine.url, version="auto", timeout=120)


def publish(engine: Engine, registry: Registry, name: str = "client") -> str:
    """Build an image whose entry file runs the code that it is given, push it; returns its name by digest."""
    files = {
        "Dockerfile": DOCKERFILE,
        "package/main.py": (PACKAGE / "main.py").read_text(),
        "package/fedml/entry.py": ENTRY,
        "package/conf/fedml.yaml": CONFIG,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in files.items():
            information = tarfile.TarInfo(path)
            information.size = len(text.encode())
            information.mode = 0o644
            archive.addfile(information, io.BytesIO(text.encode()))
    buffer.seek(0)
    repository = f"{registry.address}/{name}"
    connection = client_of(engine)
    try:
        build = {"fileobj": buffer, "custom_context": True, "rm": True, "network_mode": "none"}
        for message in connection.build(tag=f"{repository}:1", decode=True, **build):
            assert "error" not in message, message
        login = {"username": registry.username, "password": registry.password}
        digest = ""
        for message in connection.push(repository, "1", stream=True, decode=True, auth_config=login):
            assert "error" not in message, message
            digest = (message.get("aux") or {}).get("Digest") or digest
        return f"{repository}@{digest}"
    finally:
        connection.close()


def containers_of(engine: Engine, **labels: str) -> list[dict[str, Any]]:
    """The containers of an engine with these labels, as `docker inspect` shows them."""
    connection = client_of(engine)
    try:
        wanted = {"label": [f"roundtable.{name}={value}" for name, value in labels.items()]}
        return [connection.inspect_container(found["Id"]) for found in connection.containers(all=True, filters=wanted)]
    finally:
        connection.close()
