"""The runner of an aggregator as a job of a real swarm."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from container_harness import client_of
from edge_harness import PASSWORDS, Broker, Platform, program, wait_for
from roundtable_agent.engine import Engine as EngineAddress
from roundtable_agent.plan import Entry, ImageReference, InstancePlan, Limits, MqttLogin
from roundtable_agent.runtime import Failed, Steps
from roundtable_agent.runtime_swarm import SwarmRuntime

from deploy.local.engine import Engine, Registry

STATUS, LOG = "runs/7/0/status", "runs/7/0/log"
COUNTING = "import time\nfor i in range(30):\n    print('line', i)\n    time.sleep(0.1)\n"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def manager(engine: Engine) -> Iterator[Any]:
    """The session's engine as a swarm of one node, for as long as this module's tests run."""
    client = client_of(engine)
    client.init_swarm(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:0")
    yield client
    client.leave_swarm(force=True)
    client.close()


@pytest.fixture
def start(
    tmp_path: Path, broker: Broker, engine: Engine, registry: Registry, image: str, manager: Any
) -> Iterator[Start]:
    """Starts a supervisor for a job that runs this code."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, **changes: Any) -> "subprocess.Popen[str]":
        login = tmp_path / "registry.json"
        login.write_text(json.dumps({"username": registry.username, "password": registry.password}))
        mqtt = {"host": "127.0.0.1", "port": broker.port, "tls": False, "username": "aggregator-7"}
        spec = {
            "run_id": 7,
            "edge_id": 0,
            "runtime": "swarm",
            "home": str(tmp_path / "home"),
            "image": {"reference": image, "main": True},
            "engine": engine.url,
            "network": "host",
            "registry_auth_file": str(login),
            "labels": {"roundtable.platform": "here"},
            "placement": ["node.role==manager"],
            "reservations": {"memory_mb": 32, "cpus": 0.1},
            "entry": {"file": "fedml/entry.py", "arguments": [code]},
            "config": {"entry_config": {"entry_file": "fedml/entry.py"}, "entry_arguments": {}},
            "token": "rtr_7_0_secret",
            "url": "http://127.0.0.1:1",
            "mqtt": mqtt | {"password": PASSWORDS["aggregator-7"]},
            "limits": {"memory_mb": 128, "cpus": 1.0, "pids": 64},
            "s3": None,
            "package_name": "server-package",
            "package_url": "http://127.0.0.1:1/api/edge/packages/0",
            "system_interval": 1,
            **changes,
        }
        path = tmp_path / "spec.json"
        path.write_text(json.dumps(spec))
        path.chmod(0o600)
        started.append(program("roundtable_agent.supervise", str(path)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
    for service in manager.services():
        manager.remove_service(service["ID"])


def left(manager: Any) -> list[Any]:
    return [*manager.services(), *manager.configs(), *manager.secrets()]


def stdout(platform: Platform) -> list[str]:
    return [line["line"] for line in platform.lines(LOG, "stdout")]


def test_a_job_runs_to_its_end_and_nothing_is_left(start: Start, platform: Platform, manager: Any) -> None:
    code = (
        "import os, time, pathlib\n"
        "print(os.environ['ROUNDTABLE_TOKEN'], os.getuid(), os.environ['ROUNDTABLE_HOME'])\n"
        "print(sorted(path.name for path in pathlib.Path('/fedml/conf').iterdir()))\n"
        "pathlib.Path('/fedml/data/written').write_text('')\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line[:7] in ('NoNewPr', 'CapBnd:')])\n"
        "time.sleep(2)\n"
    )
    supervisor = start(code)
    platform.wait_status(STATUS, 7, "TRAINING", 40)
    [service] = manager.services(filters={"label": ["roundtable.run=7", "roundtable.platform=here"]})
    spec = service["Spec"]
    assert spec["Mode"] == {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
    assert spec["TaskTemplate"]["RestartPolicy"]["Condition"] == "none"
    assert spec["TaskTemplate"]["Placement"]["Constraints"] == ["node.role==manager"]
    assert spec["TaskTemplate"]["Resources"] == {
        "Limits": {"NanoCPUs": 10**9, "MemoryBytes": 128 * 2**20, "Pids": 64},
        "Reservations": {"NanoCPUs": 10**8, "MemoryBytes": 32 * 2**20},
    }
    assert "rtr_7_0_secret" not in json.dumps(spec)
    assert PASSWORDS["aggregator-7"] not in json.dumps([spec, manager.configs()])
    [task] = manager.tasks(filters={"service": service["ID"]})
    container = manager.inspect_container(task["Status"]["ContainerStatus"]["ContainerID"])
    host = container["HostConfig"]
    assert (container["Config"]["User"], host["ReadonlyRootfs"], host["CapDrop"]) == ("10001:10001", True, ["ALL"])
    assert (host["PidsLimit"], host["Memory"], host["NanoCpus"]) == (64, 128 * 2**20, 10**9)
    assert {mount["Type"] for mount in container["Mounts"]} <= {"volume", "tmpfs"}
    assert supervisor.wait(40) == 0
    assert stdout(platform) == [
        "main.py: server-package runs fedml/entry.py",
        "rtr_7_0_secret 10001 /fedml",
        "['fedml.yaml', 'mqtt_config.yaml']",
        "['0000000000000000', '1']",
    ]
    assert platform.wait_status(STATUS, 7, "FINISHED")["exit_code"] == 0
    assert left(manager) == []


def test_a_job_has_a_network_over_all_nodes_where_one_is_named(start: Start, platform: Platform, manager: Any) -> None:
    code = "import os; print(sorted(os.listdir('/sys/class/net')))"
    try:
        assert start(code, network="jobs").wait(60) == 0
        assert stdout(platform)[1:] == ["['eth0', 'eth1', 'lo']"]  # eth1 leads out of the swarm
        [network] = manager.networks(names=["jobs"])
        assert (network["Driver"], network["Scope"]) == ("overlay", "swarm")
        assert network["Labels"] == {"roundtable.network": "1"}
    finally:
        manager.remove_network("jobs")
    assert left(manager) == []


def test_a_supervisor_started_again_goes_on_without_losing_a_line(
    start: Start, platform: Platform, manager: Any
) -> None:
    first = start(COUNTING)
    wait_for(lambda: len(stdout(platform)) > 5, 40)
    first.kill()
    first.wait()
    time.sleep(0.5)
    assert start(COUNTING).wait(40) == 0
    assert stdout(platform)[1:] == [f"line {i}" for i in range(30)]
    assert platform.wait_status(STATUS, 7, "FINISHED")["exit_code"] == 0
    assert left(manager) == []


def test_it_stops_the_job_on_sigterm(start: Start, platform: Platform, manager: Any) -> None:
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: (print('asked'), sys.exit(0)))\ntime.sleep(60)\n"
    supervisor = start(code)
    platform.wait_status(STATUS, 7, "TRAINING", 40)
    time.sleep(1)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 0
    assert [found["status"] for found in platform.statuses(STATUS, 7)][-2:] == ["STOPPING", "KILLED"]
    assert stdout(platform)[-1] == "asked"
    assert left(manager) == []


def test_it_says_that_the_memory_limit_was_reached(start: Start, platform: Platform, manager: Any) -> None:
    assert start("held = bytearray(10**9)\n").wait(60) == 0
    failed = platform.wait_status(STATUS, 7, "FAILED")
    assert (failed["reason"], failed["exit_code"]) == ("killed by the kernel: the 128 MiB limit was reached", 137)
    assert left(manager) == []


def test_it_says_that_the_registry_refuses_the_login(
    start: Start, platform: Platform, manager: Any, tmp_path: Path, image: str
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"username": "roundtable", "password": "guessed"}))
    assert start("", registry_auth_file=str(wrong)).wait(40) == 0
    host = image.partition("/")[0]
    assert platform.wait_status(STATUS, 7, "FAILED")["reason"] == (
        f"the registry {host} refuses the login of roundtable: the platform's registry user and password must be "
        "corrected"
    )
    assert left(manager) == []


def test_it_gives_up_where_no_node_can_run_it(
    engine: Engine, registry: Registry, image: str, manager: Any, tmp_path: Path
) -> None:
    said: list[str] = []
    runtime = SwarmRuntime(EngineAddress(engine.url), placement=["node.labels.zone==a"], schedule_seconds=3)
    plan = InstancePlan(
        run_id=8,
        edge_id=0,
        root=tmp_path / "home",
        url="http://127.0.0.1:1",
        token="rtr_8_0_secret",
        mqtt=MqttLogin("127.0.0.1", 1, False, "aggregator-8", "secret"),
        entry=Entry("fedml/entry.py", ("",)),
        config={},
        limits=Limits(128, 1.0, 64),
        package=None,
        package_name="",
        package_url="",
        image=ImageReference(image),
    )
    with pytest.raises(Failed, match=r"no node of the swarm can run it: no suitable node"):
        runtime.open(plan, Steps(lambda *_: None, lambda: None, said.append))
    assert [line.partition(":")[0] for line in said] == ["the swarm waits"]
    assert left(manager) == []
