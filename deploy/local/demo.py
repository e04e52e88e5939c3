"""The demo: everything set up on this machine, and one real run on four local devices.

``python -m deploy.local.demo`` starts the platform, binds four devices by the enrolment that every device goes through,
uploads the two packages that ``build.sh`` makes, starts a run and tells how it goes. It stays up until Ctrl-C; with
``--once`` it stops everything after the run and exits with 0 only if the run finished and its models are stored.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.containers import LocalContainers
from deploy.local.stack import REPOSITORY, LocalStack, StackError

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from configurations.models import Configuration
    from devices.models import Device
    from runs.models import Project, Run

DEVICE_NAMES = ("hospital-north", "hospital-south", "lab-east", "lab-west")
PROJECT_NAME = "Handwritten digits"
CONFIGURATION_NAME = "FedAvg on digits"
USER_NAME = "demo"
ONLINE_SECONDS = 90
RUN_SECONDS = 900
ROUNDS = 40  # enough to see the curves move
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class LocalDevices:
    """Agents on this machine, each with its own home, started by ``edge/run.sh`` as on any device.

    Args:
        docker_host: the engine on which they open containers; empty for processes.
        names: one agent each.
    """

    def __init__(self, stack: LocalStack, docker_host: str = "", names: Sequence[str] = DEVICE_NAMES) -> None:
        self.stack = stack
        self.names = tuple(names)
        self.docker_host = docker_host
        self.home = stack.var / "demo" / "devices"
        self._agents: list[subprocess.Popen[bytes]] = []

    def start(self, user: User) -> None:
        """Start the agents; those without an identity are enrolled with a fresh one-time code of ``user``."""
        from devices.models import Device
        from devices.services import enrolment_code_create

        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ROUNDTABLE_")},
            # The agents share the platform's virtual environment and one cache: it is one machine after all.
            "ROUNDTABLE_EDGE_VENV": str(Path(sys.executable).parent.parent),
            "ROUNDTABLE_EDGE_CACHE": str(self.stack.var / "demo" / "cache"),
        }
        if self.docker_host:
            environment["DOCKER_HOST"] = self.docker_host
        runtime = "docker" if self.docker_host else "process"
        for name in self.names:
            home = self.home / name
            home.mkdir(parents=True, exist_ok=True)
            command = [str(REPOSITORY / "edge" / "run.sh")]
            identity = home / "identity.json"
            bound = identity.exists() and Device.objects.bound().filter(owner=user, name=name).exists()
            if not bound or self.stack.ports_changed:
                identity.unlink(missing_ok=True)
                command.append(enrolment_code_create(user))
            command += ["--server", self.stack.url, "--name", name, "--home", str(home), "--runtime", runtime]
            with (home / "console.log").open("ab") as console:
                self._agents.append(
                    subprocess.Popen(  # noqa: S603  our own command
                        command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=console,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def wait_until_online(self, user: User) -> list[Device]:
        """Return the devices once the platform has heard of each.

        Raises:
            DemoError: an agent ended, or did not come online in time; the message holds the end of its output.
        """
        from devices.models import Device

        deadline = time.monotonic() + ONLINE_SECONDS
        while time.monotonic() < deadline:
            devices = list(Device.objects.bound().filter(owner=user, name__in=self.names, online=True))
            if len({device.name for device in devices}) == len(self.names):
                return devices
            for name, agent in zip(self.names, self._agents, strict=True):
                if agent.poll() is not None:
                    raise DemoError(f"The agent of {name} ended:\n{self._console_tail(name)}")
            time.sleep(0.1)
        raise DemoError(f"Not all devices came online in {ONLINE_SECONDS} s:\n{self._console_tail(self.names[0])}")

    def stop(self) -> None:
        """End the agents and what they run."""
        for agent in self._agents:
            if agent.poll() is None:
                agent.send_signal(signal.SIGTERM)
        for agent in self._agents:
            try:
                agent.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(agent.pid, signal.SIGKILL)
                agent.wait()
        self._agents = []

    def _console_tail(self, name: str) -> str:
        console = self.home / name / "console.log"
        return "\n".join(console.read_text(errors="replace").splitlines()[-15:])


def user_prepare(login_file: Path) -> tuple[User, str]:
    """Return the demo's user and password, made at the first call and kept in ``login_file`` (mode 0600)."""
    from django.contrib.auth.models import User

    if login_file.exists():
        password = json.loads(login_file.read_text())["password"]
    else:
        password = secrets.token_urlsafe(9)
        login_file.parent.mkdir(parents=True, exist_ok=True)
        login_file.touch(mode=0o600)
        login_file.write_text(json.dumps({"user": USER_NAME, "password": password}))
    user, _ = User.objects.get_or_create(username=USER_NAME)
    if not user.check_password(password):
        user.set_password(password)
        user.save()
    return user, password


def packages_build() -> Path:
    """Build both packages with the project's builder and return the folder that holds them."""
    done = subprocess.run(  # noqa: S603  our own command
        [str(REPOSITORY / "build-mlops-package" / "build.sh")],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoError(f"build.sh failed:\n{done.stdout}{done.stderr}")
    return REPOSITORY / "build-mlops-package" / "dist-package"


def configuration_prepare(user: User, project: Project) -> Configuration:
    """Return the demo's configuration, made of the two packages as they are built now."""
    from django.core.files import File

    from configurations.draft import ConfigurationDraft
    from configurations.models import Configuration, PackageKind
    from configurations.services import configuration_create, package_store

    dist = packages_build()
    packages = {}
    for kind in (PackageKind.SERVER, PackageKind.CLIENT):
        with (dist / kind.value / "package.zip").open("rb") as archive:
            packages[kind] = package_store(File(archive, name="package.zip"), kind, user)
    existing = Configuration.objects.filter(
        owner=user, server_package=packages[PackageKind.SERVER], client_package=packages[PackageKind.CLIENT]
    ).first()
    if existing is not None:
        return existing
    taken = Configuration.objects.filter(owner=user, name__startswith=CONFIGURATION_NAME).count()
    manifest = packages[PackageKind.SERVER].manifest
    draft = ConfigurationDraft(
        project=project,
        name=CONFIGURATION_NAME if not taken else f"{CONFIGURATION_NAME} ({taken + 1})",
        server_package=packages[PackageKind.SERVER],
        client_package=packages[PackageKind.CLIENT],
        model_config=manifest["model_config"],
        hyperparameters_config=manifest["hyperparameters_config"],
    )
    return configuration_create(draft, owner=user)


def project_prepare(user: User) -> Project:
    """Return the demo's project, made at the first call."""
    from runs.models import Project
    from runs.projects import project_create

    existing = Project.objects.filter(created_by=user, name=PROJECT_NAME).first()
    return existing or project_create(user=user, name=PROJECT_NAME, description="Four local devices, one shared model.")


def run_watch(run: Run, stack: LocalStack) -> bool:
    """Print a line per stage and per round until the run has ended; tell whether it finished with its models stored."""
    from runs.models import Point
    from runs.states import RunState, StageState

    told_stages: set[str] = set()
    told_rounds = 0
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        if not stack.alive():
            raise DemoError(f"A process of the platform ended. The end of {stack.log}:\n{stack.log_tail()}")
        run.refresh_from_db()
        for stage in run.stages.all():
            if (
                stage.state in (StageState.DONE, StageState.SKIPPED, StageState.FAILED)
                and stage.name not in told_stages
            ):
                told_stages.add(stage.name)
                print(f"  {stage.get_name_display():<22}{stage.get_state_display().lower()}  {stage.reason}".rstrip())
        for told in run.rounds.filter(round_index__gte=told_rounds):
            point = Point.objects.filter(
                series__run=run, series__edge_id=0, series__name="accuracy", round=told.round_index
            ).last()
            value = "" if point is None or point.value is None else f"  accuracy {point.value:.4f}"
            print(f"  round {told.round_index + 1}/{told.total_rounds}{value}  {told.running_time:.1f} s", flush=True)
            told_rounds = told.round_index + 1
        if run.state in RunState.ended():
            break
        if time.monotonic() > deadline:
            raise DemoError(f"The run did not end in {RUN_SECONDS} s; it is {run.get_state_display()}: {run.reason}")
        time.sleep(0.2)
    return run_summary(run)


def run_summary(run: Run) -> bool:
    """Print how the run ended and tell whether it finished with an aggregated model of every round in the store."""
    from django.core.files.storage import default_storage

    from runs.models import ModelKind, Series
    from runs.states import RunState

    models = list(run.models.all())
    missing = [model.key for model in models if not default_storage.exists(model.storage_name)]
    aggregated = {model.round_index for model in models if model.kind == ModelKind.AGGREGATED}
    accuracy = Series.objects.filter(run=run, edge_id=0, name="accuracy", kind="metric").first()
    seconds = (run.ended_at - run.started_at).total_seconds() if run.ended_at and run.started_at else 0.0
    print(f"Run {run.name}: {run.get_state_display()}. {run.reason}".rstrip())
    if accuracy is not None and accuracy.last_value is not None:
        print(f"  final test accuracy  {accuracy.last_value:.4f}")
    print(f"  rounds               {run.round_index + 1}/{run.total_rounds}")
    print(f"  models stored        {len(models)} ({len(aggregated)} aggregated)")
    print(f"  seconds              {seconds:.1f}", flush=True)
    complete = run.total_rounds > 0 and set(range(run.total_rounds)) <= aggregated and not missing
    if run.state == RunState.FINISHED and not complete:
        print("The run finished, but models of some rounds are not in the store.")
    return run.state == RunState.FINISHED and complete


def demo(stack: LocalStack, *, once: bool, docker_host: str) -> int:
    """Run the demo on a started stack and return the exit code.

    Args:
        docker_host: the engine on which the devices open containers; empty for processes.
    """
    import django

    os.environ.update(stack.environment)
    django.setup()
    from runs.lifecycle import run_create, run_start

    user, password = user_prepare(stack.var / "demo" / "login.json")
    print(f"Roundtable is at  {stack.url}\n  user      {USER_NAME}\n  password  {password}", flush=True)
    devices = LocalDevices(stack, docker_host)
    try:
        devices.start(user)
        project = project_prepare(user)
        configuration = configuration_prepare(user, project)
        bound = devices.wait_until_online(user)
        print(f"Devices online: {', '.join(device.name for device in bound)}")
        run = run_create(
            project=project,
            user=user,
            configuration=configuration,
            device_ids=[device.pk for device in bound],
            overrides={"hyperparameters_config.comm_round": ROUNDS},
        )
        run_start(run=run, user=user)
        print(f"Run {run.name} started: {stack.url}{run.get_absolute_url()}", flush=True)
        succeeded = run_watch(run, stack)
        if once:
            return 0 if succeeded else 1
        print("Everything stays up; start another run in the browser. Ctrl-C stops it all.", flush=True)
        while stack.alive():
            time.sleep(0.5)
        raise DemoError(f"A process of the platform ended. The end of {stack.log}:\n{stack.log_tail()}")
    finally:
        for name in STOP_SIGNALS:  # a second Ctrl-C must not interrupt the stopping
            signal.signal(name, signal.SIG_IGN)
        devices.stop()
        aggregators_stop()
        stack.stop()
        aggregators_stop()  # one that the worker was just launching
        supervisors_end(stack.var)


def supervisors_end(var: Path) -> None:
    """End supervisors that still try to report to a broker that is gone; their aggregators have ended."""
    import psutil

    left = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "roundtable_agent.supervise" in words and any(str(var) in word for word in words):
                process.kill()
                left.append(process)
        except psutil.Error:
            continue
    psutil.wait_procs(left, timeout=5)


def aggregators_stop() -> None:
    """End aggregators that still run, since they outlive their worker on purpose, and remove what ended runs left."""
    from runs.models import Run
    from runs.pipeline.backends import BACKENDS, backend_get
    from runs.pipeline.backends.interface import StageTransient
    from runs.states import RunState

    for backend in BACKENDS.values():
        for found in backend.aggregators_find():
            backend.stop_aggregator(found.handle)
    for run in Run.objects.filter(state__in=RunState.ended(), cleaned_at=None):
        with contextlib.suppress(StageTransient):  # its engine may be there no more
            backend_get(run.backend).clean(run)


def main() -> int:
    """Parse the command line, run the demo, and leave no process behind; return the exit code."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop everything after the run")
    parser.add_argument(
        "--backend",
        choices=("auto", "process", "docker", "swarm"),
        default=os.environ.get("ROUNDTABLE_BACKEND", "auto"),
        help="where the aggregator runs; docker and swarm start an engine and a registry where none is named",
    )
    arguments = parser.parse_args()
    for name in STOP_SIGNALS:
        signal.signal(name, signal.default_int_handler)
    var = Path(os.environ.get("ROUNDTABLE_VAR", REPOSITORY / "var"))
    try:
        with contextlib.ExitStack() as parts:
            settings = {"ROUNDTABLE_BACKEND": arguments.backend}
            docker_host = ""
            if arguments.backend in ("docker", "swarm"):
                containers = parts.enter_context(LocalContainers(var, swarm=arguments.backend == "swarm"))
                settings, docker_host = containers.environment, containers.docker_host
            stack = parts.enter_context(LocalStack(var, environment=settings))
            return demo(stack, once=arguments.once, docker_host=docker_host)
    except (StackError, DemoError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0 if not arguments.once else 130


if __name__ == "__main__":
    sys.exit(main())
