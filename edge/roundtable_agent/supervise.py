"""Runs ONE instance (an aggregator) to its end and reports on it, for every backend of the platform.

    python -m roundtable_agent.supervise SPEC.json

Start it as a detached program in a session of its own, with `PYTHONPATH` naming the folder that holds
`roundtable_agent` and an interpreter that has `edge/requirements.txt`. SPEC.json holds secrets: make it 0600. It is an
object with these keys:

| key | value |
|---|---|
| `run_id`, `edge_id` | integers; edge 0 is the aggregator |
| `home` | absolute path of the instance's folder; `conf/`, `fedml-package/`, `data/`, `supervise.json` are made in it |
| `runtime` | `process` (when missing), `docker` or `swarm` |
| `package_dir` | process: absolute path of the unpacked package (that holds `conf/`, or one above it); it is copied |
| `package_zip` | process, instead of `package_dir`: absolute path of a package.zip |
| `python` | process: absolute path of the interpreter that runs the instance (of a venv already built) |
| `image` | docker and swarm: `{"reference": by digest, "main": whether its package has a main.py}` |
| `engine` | docker and swarm: where the engine is; as `DOCKER_HOST` says when missing |
| `network` | docker and swarm: `host`, or a network's name, which is made where it is missing |
| `registry_auth_file` | docker and swarm: null, or absolute path of a 0600 file `{"username", "password"}` |
| `labels` | docker and swarm: labels besides `roundtable.run`, `roundtable.edge` and `roundtable.home` |
| `placement` | swarm: conditions on the node, such as `node.labels.zone==a` |
| `reservations` | swarm: `{"memory_mb", "cpus"}` that the node must have free; each may be missing |
| `entry` | `{"file": path in the package, "arguments": [string, ...]}`, rendered |
| `config` | the rendered fedml.yaml as an object |
| `token` | the run token, given to the instance as ROUNDTABLE_TOKEN |
| `url` | the platform's URL, given as ROUNDTABLE_URL |
| `mqtt` | `{"host", "port", "tls", "username", "password"}`, for the instance and for the supervisor (`aggregator-R`) |
| `limits` | `{"memory_mb": MiB, "cpus": number, "pids": n}`; each may be missing |
| `s3` | null, or `{"endpoint_url", "bucket", "access_key", "secret_key", "region"}` |
| `package_name`, `package_url` | passed to the package's main.py |
| `system_interval` | seconds between two messages of system figures; 5 when missing |
| `status_topic` | `runs/R/E/status` when missing |
| `log_level` | `INFO` when missing |

It publishes `runs/R/E/status`, `runs/R/E/log` and `runs/R/E/system` (docs/protocol.md, section 3) over any number of
broker restarts. SIGTERM and SIGINT stop the instance; its final status is then KILLED.

`home/supervise.json` always tells the truth as far as it is known (keys: see `record.RunRecord`): `pid`, `process`
(identity of that process) and `start_time` of the supervisor, `state`, `reason`, `exit_code`, `instance_pid`, `opened`,
`ended`, `acknowledged`. A supervisor that was killed is started again with the same spec: it adopts the living
instance, or reports how it ended. A new attempt at a run needs a new `home`.

Exit codes: 0 the broker acknowledged the final status for somebody who hears it; 1 it did not within 60 s after the
end, or 6 s where nobody ever heard anything (it stands in `supervise.json`); 2 the spec is unusable (a sentence on
stderr); 3 another supervisor holds this home.
"""

import json
import logging
import secrets
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from .durable import read_json
from .fields import Fields, Invalid
from .gpu import GpuReader
from .instance import UNHEARD_SECONDS, Instance, Topics
from .link import Link
from .locks import try_lock
from .plan import (
    EDGE_ID_HIGH,
    LOG_LEVELS,
    RUN_ID_HIGH,
    ImageReference,
    InstancePlan,
    LocalPackage,
    read_entry,
    read_image,
    read_limits,
    read_mqtt_login,
    read_registry_login,
    read_s3,
)
from .record import RunRecord
from .runtime import Runtime
from .runtime_process import ProcessRuntime
from .unpacking import unpack

ACKNOWLEDGE_SECONDS = 60.0
STORED_SECONDS = 5.0  # how long it waits at the end for the platform to have stored what the broker holds
SESSION_SECONDS = 3600

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spec:
    """What a spec file says, checked."""

    plan: InstancePlan
    status_topic: str
    system_seconds: float
    runtime: str
    container: "ContainerSpec"


@dataclass(frozen=True)
class ContainerSpec:
    """What a spec says of the container; empty for a process."""

    engine: str
    network: str
    labels: dict[str, str]
    placement: tuple[str, ...]
    reserved_memory_mb: int
    reserved_cpus: float


def read_spec(path: Path) -> Spec:
    """Read a spec file.

    Raises:
        Invalid: it cannot be read or a key is not as agreed; the message names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Invalid(f"cannot read the spec {path}: {error}") from None
    fields = Fields(value, "spec")
    run_id = fields.integer("run_id", low=1, high=RUN_ID_HIGH)
    edge_id = fields.integer("edge_id", low=0, high=EDGE_ID_HIGH)
    runtime = fields.choice("runtime", ("process", "docker", "swarm"), default="process")
    processes = runtime == "process"
    package = "package_dir" if "package_dir" in fields else "package_zip"
    plan = InstancePlan(
        run_id=run_id,
        edge_id=edge_id,
        root=_absolute(fields, "home"),
        url=fields.text("url", most=2_000),
        token=fields.text("token", most=1_000),
        mqtt=read_mqtt_login(fields.object("mqtt")),
        entry=read_entry(fields.object("entry")),
        config=fields.tree("config"),
        limits=read_limits(fields.object("limits")),
        package=LocalPackage(_absolute(fields, package)) if processes else None,
        package_name=fields.text("package_name", most=1_000),
        package_url=fields.text("package_url", most=2_000),
        python=_absolute(fields, "python") if processes else None,
        image=None if processes else _image(fields),
        s3=read_s3(fields.object("s3")) if "s3" in fields else None,
        log_level=fields.choice("log_level", LOG_LEVELS, default="INFO"),
    )
    status_topic = fields.text("status_topic", most=200, pattern=r"[^+#]+", default=f"runs/{run_id}/{edge_id}/status")
    seconds = fields.number("system_interval", low=0.2, high=3600, default=5.0)
    return Spec(plan, status_topic, seconds, runtime, _container(fields))


def _image(fields: Fields) -> ImageReference:
    image = read_image(fields.object("image"))
    if "registry_auth_file" not in fields:
        return image
    path = _absolute(fields, "registry_auth_file")
    login = read_registry_login(Fields(read_json(path), f"the registry's login in {path.name}"))
    return replace(image, login=login)


def _container(fields: Fields) -> ContainerSpec:
    labels = fields.tree("labels") if "labels" in fields else {}
    reserved = fields.object("reservations") if "reservations" in fields else Fields({}, "spec.reservations")
    return ContainerSpec(
        engine=fields.text("engine", most=1_000, default=""),
        network=fields.text("network", most=200, default=""),
        labels={str(name): str(value) for name, value in labels.items()},
        placement=fields.texts("placement", most=20, each=500),
        reserved_memory_mb=reserved.integer("memory_mb", low=0, high=2**24, default=0),
        reserved_cpus=reserved.number("cpus", low=0, high=4096, default=0.0),
    )


def supervise(spec: Spec) -> int:
    """Run the instance to its end; returns the program's exit code."""
    plan = spec.plan
    plan.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if try_lock(plan.root / "supervise.lock") is None:
        print(f"another supervisor holds {plan.root}", file=sys.stderr)
        return 3
    path = plan.root / "supervise.json"
    record = RunRecord.load(path) or RunRecord(path, plan.run_id, plan.edge_id, plan.limits)
    record.runtime = spec.runtime
    record.save()
    connected = threading.Event()
    link = Link(
        plan.mqtt,
        client_id=f"supervise-{plan.run_id}-{plan.edge_id}-{secrets.token_hex(8)}",
        session_seconds=SESSION_SECONDS,
        stored=f"runs/{plan.run_id}/{plan.edge_id}/stored",
        on_connected=connected.set,
    )
    base = f"runs/{plan.run_id}/{plan.edge_id}"
    instance = Instance(
        record=record,
        root=plan.root,
        runtime=_runtime(spec),
        link=link,
        topics=Topics(spec.status_topic, f"{base}/log", f"{base}/system"),
        subject="the aggregator" if plan.edge_id == 0 else "the client",
        plan=lambda: plan,
        gpu=GpuReader(),
        system_seconds=spec.system_seconds,
    )

    def stop(number: int, _: FrameType | None) -> None:
        log.info("stopping: %s", signal.Signals(number).name)
        stopping.append(number)

    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    link.start()
    instance.start()
    code = _wait(instance, link, stopping, connected)
    if unheard := link.unheard:
        log.warning("%d messages were heard by nobody: the platform takes nothing from the broker", unheard)
    elif unstored := link.wait_stored(STORED_SECONDS):
        log.warning("the platform has %d messages still to take from the broker", unstored)
    link.stop()
    return code


def _runtime(spec: Spec) -> Runtime:
    """The runtime of the spec; the engine's SDK is imported only where it is needed."""
    wanted = spec.container
    if spec.runtime == "process":
        return ProcessRuntime(fetch=None, environment=None, unpack=unpack)
    from .engine import Engine, engine_address

    engine = Engine(wanted.engine or engine_address())
    if spec.runtime == "docker":
        from .runtime_docker import DockerRuntime

        return DockerRuntime(engine, network=wanted.network, labels=wanted.labels)
    from .runtime_swarm import SwarmRuntime

    return SwarmRuntime(
        engine,
        network=wanted.network,
        labels=wanted.labels,
        placement=wanted.placement,
        reserved_memory_mb=wanted.reserved_memory_mb,
        reserved_cpus=wanted.reserved_cpus,
    )


def _wait(instance: Instance, link: Link, stopping: list[int], connected: threading.Event) -> int:
    give_up = give_up_unheard = float("inf")
    while instance.alive and time.monotonic() < (give_up_unheard if link.nobody_listens else give_up):
        if stopping:
            instance.stop("the aggregator was stopped")
        if connected.is_set():
            connected.clear()
            instance.repeat_status()
        if instance.over and give_up == float("inf"):
            give_up = time.monotonic() + ACKNOWLEDGE_SECONDS
            give_up_unheard = time.monotonic() + UNHEARD_SECONDS + UNHEARD_SECONDS
        instance.join(0.1)
    instance.detach()
    instance.join(10)
    return 0 if instance.record.acknowledged else 1


def _absolute(fields: Fields, field: str) -> Path:
    path = Path(fields.text(field, most=4_000))
    if not path.is_absolute():
        raise Invalid(f"spec.{field} must be an absolute path")
    return path


def main(arguments: list[str]) -> int:
    """The program; see the module's docstring."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("roundtable_agent.link.client").setLevel(logging.WARNING)
    if len(arguments) != 1:
        print("usage: python -m roundtable_agent.supervise SPEC.json", file=sys.stderr)
        return 2
    try:
        spec = read_spec(Path(arguments[0]))
    except Invalid as error:
        print(error, file=sys.stderr)
        return 2
    return supervise(spec)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
