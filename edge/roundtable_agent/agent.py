"""The agent: waits for commands, opens client instances, says that it is there."""

import json
import logging
import os
import queue
import secrets
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from .checks import Finding, check_device
from .cleaning import clean_containers, clean_runs, trim_cache
from .commands import BadCommand, StartTrain, StopTrain, check_command, read_command
from .durable import read_json, write_json
from .environments import EnvironmentCache
from .fetching import PackageCache
from .fields import Invalid
from .gpu import GpuReader
from .home import Home, Identity
from .host import host_facts
from .instance import Instance, Topics
from .link import Incoming, Link
from .plan import InstancePlan, Limits, MqttLogin, RemotePackage
from .platform_http import absolute_url
from .private_data import private_data, substitute
from .processes import identity as process_identity
from .record import RunRecord, State
from .registry_login import login_for
from .runtime import Failed
from .runtime_choice import AUTO, ChosenRuntime, docker_runtime
from .runtime_process import ProcessRuntime, remove_folder
from .unpacking import unpack

PRESENCE_SECONDS = 30.0
SESSION_SECONDS = 86_400
CLEAN_SECONDS = 600.0
STOP_SECONDS = 25.0
GOODBYE_SECONDS = 3.0
MAX_OPEN = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How an agent behaves.

    Parameters:
        keep_instances: leave instances running when the agent is stopped.
        system_seconds: time between two messages of system figures.
        cache_bytes: budget for cached packages and environments.
        runtime: `auto`, `docker` or `process`; see `runtime_choice.ChosenRuntime`.
        network: what containers are connected to; see `runtime_docker.DockerRuntime`.
        images_bytes: budget for the images that this agent pulled.
    """

    keep_instances: bool = False
    system_seconds: float = 5.0
    cache_bytes: int = 10 * 2**30
    runtime: str = AUTO
    network: str = ""
    images_bytes: int = 20 * 2**30


class Agent:
    """One device's agent.

    1. Adopt the instances that an earlier agent left, or report how they ended.
    2. Follow commands: each is acknowledged once what it asks for stands on disk.
    3. Say ONLINE at each connection and every 30 seconds; the broker says OFFLINE for us when the connection breaks.
    4. On SIGTERM or SIGINT: end the instances (or leave them), say OFFLINE and why, leave.

    Parameters:
        home: the agent's folder, whose lock the caller holds.
        identity: who this device is.
        options: how to behave.
    """

    def __init__(self, home: Home, identity: Identity, options: Options) -> None:
        self._home = home
        self._identity = identity
        self._options = options
        self._edge_id = identity.edge_id
        self._gpu = GpuReader()
        self._boot = secrets.token_hex(8)
        self._docker = docker_runtime(home, self._edge_id, options.network)
        processes = ProcessRuntime(
            fetch=PackageCache(home.cache / "packages").fetch,
            environment=EnvironmentCache(home.cache / "environments").provide,
            unpack=unpack,
        )
        self._runtime = ChosenRuntime(processes, self._docker, options.runtime)
        self._host = host_facts(self._gpu, self._runtime.name)
        self._instances: dict[int, Instance] = {}
        self._postponed: list[Incoming] = []  # begin once the run's earlier instance has reported its end
        self._stopping: list[int] = []
        self._connected = threading.Event()
        self._process = process_identity(os.getpid())
        self._reported: dict[str, Any] = {}
        self._presence_due = 0.0
        self._clean_due = 0.0
        self._checked = False
        will = json.dumps({"state": "OFFLINE", "boot": self._boot}).encode()
        self._link = Link(
            identity.agent,
            client_id=identity.client_id,
            session_seconds=SESSION_SECONDS,
            will=(self._topic("presence"), will),
            topics=(self._topic("command"),),
            stored=f"runs/+/{self._edge_id}/stored",
            on_connected=self._connected.set,
            renewed_login=self._renewed_login,
        )

    def run(self) -> int:
        """Work until a signal asks to stop; returns the program's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._signalled)
        log.info("this is device %d (%s), bound to %s", self._edge_id, self._identity.name, self._identity.server)
        self._adopt()
        clean_containers(self._home, self._docker, self._options.images_bytes)
        self._link.start()
        while not self._stopping:
            try:
                self._turn()
            except OSError as error:  # a full disk must not end the agent
                log.error("the agent cannot write to its folder: %s", error)
                time.sleep(1)
        self._leave()
        return 0

    def _turn(self) -> None:
        try:
            incoming = self._link.inbox.get(timeout=0.2)
        except queue.Empty:
            pass
        else:
            self._obey(incoming)
            return
        if self._connected.is_set():
            self._connected.clear()
            self._presence_due = 0.0
            for instance in self._instances.values():
                instance.repeat_status()
            self._check_once()
        self._let_go()
        now = time.monotonic()
        if self._link.connected and now >= self._presence_due:
            self._presence_due = now + PRESENCE_SECONDS
            self._say_online()
        if now >= self._clean_due:
            self._clean_due = now + CLEAN_SECONDS
            clean_runs(self._home, self._runtime, set(self._instances))
            trim_cache(self._home.cache, self._options.cache_bytes)
            clean_containers(self._home, self._docker, self._options.images_bytes)
        self._note_state()

    def _obey(self, incoming: Incoming) -> None:
        try:
            command = read_command(incoming.payload, self._edge_id)
        except BadCommand as error:
            log.warning("refused a command: %s", error)
            if error.run_id is not None:
                self._answer_without_instance(error.run_id, State.FAILED, str(error))
        else:
            try:
                if self._must_wait(command):
                    self._postponed.append(incoming)
                    return
                self._follow(command)
            except OSError as error:
                log.error("run %d: cannot write to the agent's folder: %s", command.run_id, error)
                self._fail_unrecorded(command.run_id, f"the agent cannot write to its folder: {error.strerror}")
        self._link.acknowledge(incoming)
        self._presence_due = min(self._presence_due, time.monotonic() + 1.0)

    def _follow(self, command: StartTrain | StopTrain) -> None:
        if isinstance(command, StartTrain):
            self._start(command)
        else:
            self._stop(command)

    def _start(self, command: StartTrain) -> None:
        run_id = command.run_id
        if not self._is_new(command):
            self._repeat(run_id)
            return
        if len(self._instances) >= MAX_OPEN:
            self._answer_without_instance(run_id, State.FAILED, f"this device has {MAX_OPEN} open instances already")
            return
        log.info("run %d: told to start a client", run_id)
        root = self._home.instance(run_id)
        if root.exists():
            self._runtime.clean(root)
            remove_folder(root)
        record = self._new_record(run_id, command.limits)
        record.change(command=command.raw, command_id=command.command_id)
        self._keep(record, lambda: self._plan(command))

    def _stop(self, command: StopTrain) -> None:
        instance = self._instances.get(command.run_id)
        if instance is not None and not instance.over:
            log.info("run %d: told to stop", command.run_id)
            instance.stop(command.reason or "stopped on the platform")
        elif not self._repeat(command.run_id):
            self._answer_without_instance(command.run_id, State.KILLED, "stopped before this device had begun")

    def _must_wait(self, command: StartTrain | StopTrain) -> bool:
        """Whether the command opens again what is about to end here."""
        instance = self._instances.get(command.run_id)
        if instance is None or not isinstance(command, StartTrain):
            return False
        is_ending = instance.over or instance.record.stop is not None
        return is_ending and _opens_again(instance.record, command)

    def _is_new(self, command: StartTrain) -> bool:
        """Whether there is something to open: the run is unknown here, or has ended here and is begun again."""
        if command.run_id in self._instances:
            return False
        record = RunRecord.load(self._home.record(command.run_id))
        return record is None or record.status is None or _opens_again(record, command)

    def _repeat(self, run_id: int) -> bool:
        """Repeat the status of a run that is known here; returns whether it is."""
        instance = self._instances.get(run_id)
        if instance is not None:
            instance.repeat_status()
            return True
        record = RunRecord.load(self._home.record(run_id))
        if record is None or record.status is None:
            return False
        self._link.publish(self._topic("status"), json.dumps(record.status, ensure_ascii=False).encode())
        return True

    def _answer_without_instance(self, run_id: int, state: State, reason: str) -> None:
        """Answer for a run of which nothing is opened, and remember the answer."""
        if self._repeat(run_id):
            return
        record = self._new_record(run_id, Limits())
        final = State.FAILED if state is State.FAILED else State.KILLED
        record.stop = {"reason": reason, "state": final.value}
        record.save()
        self._keep(record, None)

    def _fail_unrecorded(self, run_id: int, reason: str) -> None:
        """Answer where not even a record can be written."""
        if run_id in self._instances:
            return
        status = {"run_id": run_id, "status": State.FAILED.value, "reason": reason, "phase": "", "progress": None}
        status |= {"exit_code": None, "time": round(time.time(), 3), "instance": secrets.token_hex(8), "seq": 1}
        self._link.publish(self._topic("status"), json.dumps(status).encode())

    def _new_record(self, run_id: int, limits: Limits) -> RunRecord:
        self._home.instance(run_id).mkdir(mode=0o700, parents=True, exist_ok=True)
        return RunRecord(self._home.record(run_id), run_id, self._edge_id, limits)

    def _keep(self, record: RunRecord, plan: Callable[[], InstancePlan] | None) -> None:
        base = f"runs/{record.run_id}/{self._edge_id}"
        instance = Instance(
            record=record,
            root=self._home.instance(record.run_id),
            runtime=self._runtime,
            link=self._link,
            topics=Topics(self._topic("status"), f"{base}/log", f"{base}/system"),
            subject="the client",
            plan=plan,
            gpu=self._gpu,
            system_seconds=self._options.system_seconds,
        )
        self._instances[record.run_id] = instance
        instance.start()

    def _plan(self, command: StartTrain) -> InstancePlan:
        """Make the plan of an instance; raises `Failed` where the device cannot or will not follow it."""
        identity = self._identity
        data = private_data(identity.data, command.private_path)
        package = None
        url = ""
        if command.package is not None:
            try:
                url = absolute_url(identity.server, command.package.url)
            except Invalid as error:
                raise Failed(str(error)) from None
            found = command.package
            package = RemotePackage(url, found.sha256, found.size, identity.device_token)
        arguments = tuple(substitute(list(command.entry.arguments), data))
        return InstancePlan(
            run_id=command.run_id,
            edge_id=self._edge_id,
            root=self._home.instance(command.run_id),
            url=identity.server,
            token=command.token,
            mqtt=identity.instances,
            entry=replace(command.entry, arguments=arguments),
            config=substitute(command.config, data),
            limits=command.limits,
            package=package,
            package_name=f"client-package-{command.package.sha256[:12]}" if command.package is not None else "",
            package_url=url,
            image=login_for(command.image, identity.registry),
            s3=command.s3,
            private_data=data,
            log_level=command.log_level,
        )

    def _adopt(self) -> None:
        """Take over the runs of an earlier agent in this folder."""
        for run_id in self._home.run_ids():
            path = self._home.record(run_id)
            record = RunRecord.load(path)
            if record is None:
                log.warning("run %d: its record is damaged; looking for its instance all the same", run_id)
                record = RunRecord(path, run_id, self._edge_id, Limits())
                record.opened = time.time()
            if record.state.ended and record.acknowledged and record.drained:
                continue
            log.info("run %d: taking over (%s)", run_id, record.state)
            self._keep(record, self._plan_again(record))

    def _plan_again(self, record: RunRecord) -> Callable[[], InstancePlan] | None:
        if record.command is None:
            return None
        try:
            command = check_command(record.command, self._edge_id)
        except BadCommand as error:
            log.warning("run %d: %s", record.run_id, error)
            return None
        return (lambda: self._plan(command)) if isinstance(command, StartTrain) else None

    def _let_go(self) -> None:
        """Forget the runs whose end the broker knows."""
        for run_id in [run_id for run_id, instance in self._instances.items() if not instance.alive]:
            del self._instances[run_id]
            self._presence_due = 0.0
            self._clean_due = 0.0
            self._postponed, postponed = [], self._postponed
            for incoming in postponed:
                self._obey(incoming)

    def _say_online(self) -> None:
        self._host["runtime"] = self._runtime.name  # an engine may have come or gone
        presence = {
            "state": "ONLINE",
            "time": round(time.time(), 3),
            "boot": self._boot,
            **self._host,
            "runs": self._open_runs(),
            "check": read_json(self._home.check),
        }
        self._link.publish(self._topic("presence"), json.dumps(presence).encode(), retain=True)

    def _check_once(self) -> None:
        """Look at the device once, in the background, so that its page can show it from the start."""
        if self._checked:
            return
        self._checked = True

        def look() -> None:
            broker = Finding("broker", True, f"connected as {self._identity.agent.username}")
            try:
                check_device(self._home, self._identity, lambda: broker, self._options.runtime)
            except OSError as error:
                log.warning("the check of the device failed: %s", error)
            self._presence_due = 0.0

        threading.Thread(target=look, name="check", daemon=True).start()

    def _note_state(self) -> None:
        """Keep the file from which `--check` tells how a running agent is."""
        state = {
            "pid": os.getpid(),
            "process": self._process,
            "connected": self._link.connected,
            "problem": self._link.problem,
            "runs": self._open_runs(),
        }
        if state != self._reported:
            write_json(self._home.state, state)
            self._reported = state

    def _open_runs(self) -> list[int]:
        return sorted(run_id for run_id, instance in self._instances.items() if not instance.over)

    def _renewed_login(self) -> MqttLogin | None:
        """The login after a rotation by `run.sh --rotate`, when the broker refuses the one we have."""
        try:
            renewed = Identity.load(self._home)
        except Invalid:
            return None
        if renewed is None or renewed.edge_id != self._edge_id:
            return None
        self._identity = renewed
        return renewed.agent

    def _signalled(self, number: int, _: FrameType | None) -> None:
        self._stopping.append(number)

    def _leave(self) -> None:
        name = signal.Signals(self._stopping[0]).name
        log.info("%s: the agent is stopping", name)
        instances = list(self._instances.values())
        if not self._options.keep_instances:
            for instance in instances:
                instance.stop("the agent was stopped", final=State.FAILED)
            deadline = time.monotonic() + STOP_SECONDS
            for instance in instances:
                while not instance.over and time.monotonic() < deadline:
                    instance.join(0.1)
                if self._link.connected:
                    instance.join(max(0.0, min(GOODBYE_SECONDS, deadline - time.monotonic())))
        for instance in instances:
            instance.detach()
        for instance in instances:
            instance.join(GOODBYE_SECONDS)
        if self._link.connected:
            goodbye = {"state": "OFFLINE", "time": round(time.time(), 3), "boot": self._boot}
            goodbye["reason"] = f"the agent was stopped ({name})"
            payload = json.dumps(goodbye).encode()
            self._link.publish(self._topic("presence"), payload, retain=True).wait(GOODBYE_SECONDS)
        self._link.stop()
        log.info("the agent has stopped")

    def _topic(self, name: str) -> str:
        return f"edges/{self._edge_id}/{name}"


def _opens_again(record: RunRecord, command: StartTrain) -> bool:
    """Whether the command is another than the one that the record is of. A stop that came first holds for any."""
    if not record.command_id and record.stop is not None and record.stop["state"] == State.KILLED.value:
        return False
    return command.command_id not in ("", record.command_id)
