"""How long it takes from Start until the last device's client runs, against a plain shell script.

    python benchmarks/pipeline.py --repetitions 5

Starts a container engine, a registry, the whole platform and four agents of its own, on loopback. Each repetition
measures both sides with the same two packages, which nobody has built before, on an engine that has the base image
alone and a registry that is empty:

    script     ``docker build``, ``docker push`` (server, then client), ``docker run`` of the server and of each client
    platform   the same by a run: from the call that starts it until the last client's container runs

and then both again with the packages unchanged. The clock of both ends with the engine's own time of the last
container's start. Writes its section of ``benchmarks/RESULTS.md``. Needs root, dockerd and docker-registry.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")

import django
import docker

from deploy.local.demo import LocalDevices
from deploy.local.engine import SYSTEM_PATH, Engine, Registry
from deploy.local.stack import REPOSITORY, LocalStack, Ports

if TYPE_CHECKING:
    from configurations.models import Configuration
    from runs.models import Run

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "## From Start to the last client (benchmarks/pipeline.py)"
BASE = "roundtable-base:benchmark"
REQUIREMENTS = REPOSITORY / "build-mlops-package" / "mlops-core" / "fedml-server" / "package" / "requirements.txt"
CLIENTS = 4
WAITS = "import time\ntime.sleep(3600)\n"
PAYLOAD_BYTES = 1024 * 1024
HARDENED = (
    "--init --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --pids-limit 256 --memory 1g "
    "--cpus 2 --network host"
)
DOCKERFILE = f"""FROM {BASE}
RUN mkdir -p /fedml/conf /fedml/fedml-package /fedml/data && chown 10001:10001 /fedml/conf /fedml/data
COPY requirements.txt /fedml/requirements.txt
RUN python -m pip install --no-cache-dir --no-input --progress-bar off -r /fedml/requirements.txt
COPY package /fedml/fedml-package
WORKDIR /fedml/fedml-package
USER 10001:10001
"""
SCRIPT = f"""set -e
for kind in server client; do
    docker build --network host -t $REGISTRY/script-$kind:$TAG $CONTEXTS/$kind
    docker push $REGISTRY/script-$kind:$TAG
done
date +%s.%N > $CONTEXTS/built
docker run -d --label script=1 {HARDENED} $REGISTRY/script-server:$TAG python fedml/main.py
for client in $(seq {CLIENTS}); do
    docker run -d --label script=1 {HARDENED} $REGISTRY/script-client:$TAG python fedml/main.py
done
"""


@dataclass
class Seconds:
    """What was measured, one value a repetition."""

    script_cold: list[float] = field(default_factory=list)
    platform_cold: list[float] = field(default_factory=list)
    script_unchanged: list[float] = field(default_factory=list)
    platform_unchanged: list[float] = field(default_factory=list)
    containers: list[float] = field(default_factory=list)  # the script's docker run alone


class Bench:
    """The engine, the registry and the platform under measurement."""

    def __init__(self, folder: Path, engine: Engine, registry: Registry) -> None:
        self.folder, self.engine, self.registry = folder, engine, registry
        self.client: Any = docker.APIClient(base_url=engine.url, version="auto", timeout=300)
        self.environment = {
            **os.environ,
            "PATH": SYSTEM_PATH,
            "DOCKER_HOST": engine.url,
            "DOCKER_CONFIG": str(folder / "docker"),
            "DOCKER_BUILDKIT": "0",
        }

    def command(self, *words: str, **environment: str) -> None:
        """Run a command; its output is shown only when it fails."""
        done = subprocess.run(  # noqa: S603  our own commands
            words, env={**self.environment, **environment}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def log_in(self) -> None:
        """Give the script's docker the login of the registry."""
        subprocess.run(  # noqa: S603  our own command
            ["docker", "login", "-u", self.registry.username, "--password-stdin", self.registry.address],  # noqa: S607
            env=self.environment,
            input=self.registry.password,
            text=True,
            check=True,
            capture_output=True,
        )

    def forget(self) -> None:
        """Remove every container, every image but the base, and all that the registry has."""
        for container in self.client.containers(all=True):
            self.client.remove_container(container["Id"], force=True, v=True)
        base = self.client.inspect_image(BASE)["Id"]
        while left := [image for image in self.client.images(all=True) if image["Id"] != base]:
            for image in left:
                for name in image["RepoTags"] or [image["Id"]]:
                    try:
                        self.client.remove_image(image["Id"] if name.startswith("<none>") else name, force=True)
                    except docker.errors.APIError:
                        continue  # a child of it goes first
        self.registry.stop()
        shutil.rmtree(self.registry.folder / "data", ignore_errors=True)
        self.registry.start()

    def last_start(self, containers: list[Any]) -> float:
        """Return when the last of these containers was started, by the engine's clock."""
        starts = [self.client.inspect_container(each["Id"])["State"]["StartedAt"] for each in containers]
        return max(
            datetime.fromisoformat(re.sub(r"\.(\d{6})\d*Z", r".\1+00:00", start)).timestamp() for start in starts
        )

    def script(self, contexts: Path, tag: str) -> tuple[float, float]:
        """Run the script; return its seconds, and those of its ``docker run`` alone."""
        began = time.time()
        self.command("sh", "-c", SCRIPT, REGISTRY=self.registry.address, TAG=tag, CONTEXTS=str(contexts))
        containers = self.client.containers(filters={"label": "script=1"})
        if len(containers) != CLIENTS + 1:
            raise SystemExit(f"{len(containers)} containers of the script run")
        ended = self.last_start(containers)
        for container in containers:
            self.client.remove_container(container["Id"], force=True)
        return ended - began, ended - float((contexts / "built").read_text())

    def platform(self, configuration: Configuration, device_ids: list[int]) -> float:
        """Start a run, wait until its last client runs, stop it; return the seconds."""
        from runs.lifecycle import run_create, run_start, run_stop
        from runs.states import RunState

        user = configuration.owner
        project = configuration.project
        if project is None:
            raise SystemExit("the configuration has no project")
        run = run_create(project=project, user=user, configuration=configuration, device_ids=device_ids)
        began = time.time()
        run_start(run=run, user=user)
        clients = wait_for(f"clients of run {run.pk}", lambda: self._clients(run))
        seconds = self.last_start(clients) - began
        wait_for("the run is under way", lambda: _state(run) == RunState.RUNNING)
        run_stop(run=run, user=user)
        wait_for("the run has ended", lambda: _state(run) in RunState.ended())
        wait_for("nothing runs", lambda: not self.client.containers(filters={"label": "roundtable.run"}))
        return seconds

    def _clients(self, run: Run) -> list[Any]:
        found = self.client.containers(filters={"label": f"roundtable.run={run.pk}"})
        clients = [container for container in found if container["Labels"]["roundtable.edge"] != "0"]
        if _state(run) == "FAILED":
            run.refresh_from_db()
            raise SystemExit(f"the run failed: {run.reason}")
        return clients if len(clients) == CLIENTS else []


def _state(run: Run) -> str:
    from runs.models import Run as RunModel

    return RunModel.objects.values_list("state", flat=True).get(pk=run.pk)


def wait_for(what: str, look: Callable[[], Any], seconds: float = 300) -> Any:
    """Return what ``look`` finds as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)
    return found


def configuration_make(user: Any, name: str, contexts: Path) -> Configuration:
    """Make two new packages and a configuration of them; unpack the packages for the script too."""
    from configurations.models import Configuration, PackageKind
    from configurations.services import package_path
    from runs.projects import project_create
    from runs.tests.flow import package_real

    packages = {}
    for kind in PackageKind:
        packages[kind] = package_real(
            kind,
            user,
            program=WAITS,
            requirements=f"# {os.urandom(8).hex()}\n{REQUIREMENTS.read_text()}",
            files={"fedml/payload.bin": os.urandom(PAYLOAD_BYTES)},
        )
        folder = contexts / kind.value
        with zipfile.ZipFile(package_path(packages[kind])) as archive:
            archive.extractall(folder)
        shutil.copy(folder / "package" / "requirements.txt", folder)
        (folder / "Dockerfile").write_text(DOCKERFILE)
    return Configuration.objects.create(
        owner=user,
        project=project_create(user=user, name=name, description=""),
        name=name,
        server_package=packages[PackageKind.SERVER],
        client_package=packages[PackageKind.CLIENT],
        model_config=packages[PackageKind.SERVER].manifest["model_config"],
        hyperparameters_config=packages[PackageKind.SERVER].manifest["hyperparameters_config"],
    )


@contextmanager
def bench(folder: Path) -> Iterator[tuple[Bench, LocalStack]]:
    """Start everything."""
    with ExitStack() as everything:
        engine = everything.enter_context(Engine(folder / "engine", bridge="rtbench"))
        registry = everything.enter_context(Registry(folder / "registry"))
        made = Bench(folder, engine, registry)
        everything.callback(made.client.close)
        script = REPOSITORY / "deploy" / "base-image" / "make.sh"
        made.command(str(script), BASE, ROUNDTABLE_VAR=str(REPOSITORY / "var"))
        made.log_in()
        settings = {
            "ROUNDTABLE_BACKEND": "docker",
            "ROUNDTABLE_DOCKER_HOST": engine.url,
            "ROUNDTABLE_BASE_IMAGE": BASE,
            "ROUNDTABLE_BUILD_NETWORK": "host",
            "ROUNDTABLE_REGISTRY": registry.address,
            "ROUNDTABLE_REGISTRY_USER": registry.username,
            "ROUNDTABLE_REGISTRY_PASSWORD_FILE": str(registry.password_file),
            "ROUNDTABLE_LOG_LEVEL": "WARNING",
        }
        stack = LocalStack(folder / "var", preferred=Ports(web=0, broker=0, redis=0), environment=settings)
        yield made, everything.enter_context(stack)


def measure(made: Bench, stack: LocalStack, repetitions: int) -> Seconds:
    """Measure all repetitions, the two sides in turn."""
    os.environ.update(stack.environment)
    django.setup()
    from django.contrib.auth.models import User

    user = User.objects.create_user("bench")
    devices = LocalDevices(stack, made.engine.url)
    seconds = Seconds()
    try:
        devices.start(user)
        device_ids = [device.pk for device in devices.wait_until_online(user)]
        for repetition in range(repetitions):
            contexts = made.folder / f"contexts-{repetition}"
            configuration = configuration_make(user, f"repetition {repetition}", contexts)
            made.forget()
            script_cold, _ = made.script(contexts, str(repetition))
            script_unchanged, containers = made.script(contexts, str(repetition))
            made.forget()
            seconds.script_cold.append(script_cold)
            seconds.script_unchanged.append(script_unchanged)
            seconds.containers.append(containers)
            seconds.platform_cold.append(made.platform(configuration, device_ids))
            seconds.platform_unchanged.append(made.platform(configuration, device_ids))
            print(
                f"cold: script {script_cold:.1f} s, platform {seconds.platform_cold[-1]:.1f} s; unchanged: script "
                f"{script_unchanged:.1f} s (containers {containers:.1f} s), platform "
                f"{seconds.platform_unchanged[-1]:.1f} s",
                flush=True,
            )
    finally:
        devices.stop()
    return seconds


def row(name: str, values: list[float]) -> str:
    return f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |"


def section(seconds: Seconds, engine_version: str) -> str:
    """Return this benchmark's section of the results."""
    ratio = [own / script for own, script in zip(seconds.platform_cold, seconds.script_cold, strict=True)]
    over = [own - start for own, start in zip(seconds.platform_unchanged, seconds.containers, strict=True)]
    lines = [
        TITLE,
        "",
        f"{datetime.now():%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}, Python "
        f"{platform.python_version()}, Django {django.__version__}, engine {engine_version}, one server and {CLIENTS} "
        f"clients on one engine, packages of {PAYLOAD_BYTES // 2**20} MiB with the reference library's requirements, "
        f"base image of 420 MB, {len(ratio)} repetitions, the two sides in turn. Seconds:",
        "",
        "| | median | spread |",
        "|---|---|---|",
        row("shell script, cold", seconds.script_cold),
        row("platform, cold", seconds.platform_cold),
        row("shell script, unchanged", seconds.script_unchanged),
        row("of that `docker run` of five containers", seconds.containers),
        row("platform, unchanged", seconds.platform_unchanged),
        "",
        f"Cold, the platform takes {statistics.median(ratio):.2f} times the script ({min(ratio):.2f} to "
        f"{max(ratio):.2f}; aim: 1.15). Unchanged, it takes {statistics.median(over):.1f} s on top of starting the "
        f"containers ({min(over):.1f} to {max(over):.1f}; aim: 2.0).",
    ]
    return "\n".join(lines) + "\n"


def results_write(text: str) -> None:
    """Replace this benchmark's section of the results."""
    before = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    kept = re.sub(rf"{re.escape(TITLE)}\n.*?(?=^## |\Z)", "", before, flags=re.DOTALL | re.MULTILINE)
    RESULTS.write_text(f"{kept.rstrip()}\n\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--no-results", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as name, bench(Path(name)) as (made, stack):
        seconds = measure(made, stack, options.repetitions)
        text = section(seconds, str(made.client.version()["Version"]))
    print(text)
    if not options.no_results:
        results_write(text)


if __name__ == "__main__":
    main()
