"""An agent whose clients are containers: a real engine, a real registry, a real broker."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
from container_harness import client_of, containers_of
from edge_harness import CODE, PASSWORDS, Platform, PlatformServer, make_zip, package_files, program, wait_for

from deploy.local.engine import Engine, Registry
from tests.containers import engine_started

PRESENCE, COMMAND, STATUS = "edges/3/presence", "edges/3/command", "edges/3/status"
TMP = "/tmp"  # noqa: S108 - in a container
COUNTING = "import time\nfor i in range({n}):\n    print('line', i, flush=True)\n    time.sleep(0.1)\n"
ASKED = "import signal, sys, time\nsignal.signal(15, lambda *_: (print('asked'), sys.exit(0)))\n"


class Device:
    """A device whose agent has an engine."""

    def __init__(self, folder: Path, server: PlatformServer, platform: Platform, engine: Engine) -> None:
        self.home = folder / "device"
        self.url = server.url
        self.data = folder / "data"
        self.data.mkdir()
        self.platform = platform
        self.engine = engine
        self.address = engine.url
        enrol = ["enrol", "--home", str(self.home), "--server", server.url, "--data", str(self.data)]
        process = program("roundtable_agent", *enrol, stdin=subprocess.PIPE)
        output, _ = process.communicate(CODE, timeout=20)
        assert process.returncode == 0, output
        self.agent: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> dict[str, Any]:
        """Start the agent; returns its first ONLINE presence."""
        boots = {found["boot"] for found in self.platform.heard(PRESENCE)}
        environment = {"DOCKER_HOST": self.address}
        self.agent = program("roundtable_agent", "run", "--home", str(self.home), *options, environment=environment)

        def online() -> list[dict[str, Any]]:
            return [found for found in self.platform.heard(PRESENCE) if found["boot"] not in boots]

        return wait_for(online, what="ONLINE")[0]

    def kill(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.communicate()

    def stop(self) -> str:
        if self.agent is None or self.agent.poll() is not None:
            return ""
        self.agent.terminate()
        return self.agent.communicate(timeout=40)[0]

    def check(self, *options: str) -> "subprocess.CompletedProcess[str]":
        arguments = ["check", "--home", str(self.home), *options]
        process = program("roundtable_agent", *arguments, environment={"DOCKER_HOST": self.address})
        output, _ = process.communicate(timeout=30)
        return subprocess.CompletedProcess(arguments, process.returncode, output)

    def stdout(self, run_id: int) -> list[str]:
        return [line["line"] for line in self.platform.lines(f"runs/{run_id}/3/log", "stdout")][
            1:
        ]  # after main.py's own

    def wait(self, run_id: int, status: str, seconds: float = 40) -> dict[str, Any]:
        return self.platform.wait_status(STATUS, run_id, status, seconds)


def forget(engine: Engine, image: str) -> bool:
    """Remove an image from an engine, but for its layers; returns whether it was there."""
    connection = client_of(engine)
    try:
        connection.tag(image, "kept", "1")
        connection.remove_image(image)
    except docker.errors.NotFound:
        return False
    finally:
        connection.close()
    return True


@pytest.fixture(scope="module")
def second(registry: Registry) -> Iterator[Engine]:
    """An engine with images of its own."""
    with engine_started("two") as engine:
        yield engine


@pytest.fixture
def device(
    tmp_path: Path, server: PlatformServer, platform: Platform, engine: Engine, registry: Registry
) -> Iterator[Device]:
    server.registry = {"address": registry.address, "username": registry.username, "password": registry.password}
    device = Device(tmp_path, server, platform, engine)
    yield device
    device.stop()
    assert containers_of(engine, edge="3") == []


def start_train(run_id: int, image: str, code: str, **changes: Any) -> dict[str, Any]:
    """A command to open a client whose entry file runs this code."""
    return {
        "type": "start_train",
        "command_id": f"c{run_id}",
        "run_id": run_id,
        "edge_id": 3,
        "token": f"rtr_{run_id}_3_secret",
        "package": None,
        "image": {"reference": image, "main": True} if image else None,
        "config": {"entry_config": {"entry_file": "fedml/entry.py"}, "entry_arguments": {}},
        "entry": {"file": "fedml/entry.py", "arguments": [code]},
        "data": {"private_path": "", "synthetic_url": ""},
        "limits": {"memory_mb": 128, "cpus": 1.0, "pids": 48},
        "s3": None,
        "log_level": "INFO",
        **changes,
    }


def test_a_client_in_a_container_finds_what_it_needs_and_can_touch_nothing_else(
    device: Device, image: str, engine: Engine
) -> None:
    private, other = device.data / "private", device.data / "other"
    for folder in (private, other):
        folder.mkdir()
        (folder / "values.csv").write_text("1,2\n")
    code = f"""
import json, os, pathlib, sys, time
def writes(path):
    try:
        pathlib.Path(path, 'x').write_text('')
    except OSError as error:
        return error.strerror
    return 'yes'
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
print(json.dumps({{
    'private': pathlib.Path('{private}', 'values.csv').read_text(),
    'other': os.path.exists('{other}'),
    'writes': {{path: writes(path) for path in ('{private}', '/fedml/conf', '/fedml/data', '/tmp', '/', '/fedml')}},
    'user': os.getuid(),
    'status': [status[name] for name in ('CapBnd', 'CapEff', 'NoNewPrivs')],
    'conf': sorted(os.listdir('/fedml/conf')),
    'environment': {{name: os.environ[name] for name in sorted(os.environ) if name[:3] in ('ROU', 'AWS')}},
    'folder': os.getcwd(),
    's3': open('/fedml/conf/s3_config.yaml').read(),
    'mqtt': open('/fedml/conf/mqtt_config.yaml').read(),
    'data': sys.argv[2],
}}), flush=True)
print('to the error stream', file=sys.stderr)
time.sleep(3)
"""
    s3 = {
        "endpoint_url": "http://127.0.0.1:9", "bucket": "b", "access_key": "key", "secret_key": "word", "region": "r"
    }  # fmt: skip
    assert device.start()["runtime"] == "docker"
    entry = {"file": "fedml/entry.py", "arguments": [code, "${FEDSYS.PRIVATE_LOCAL_DATA}"]}
    changes = {"entry": entry, "data": {"private_path": "private", "synthetic_url": ""}, "s3": s3}
    device.platform.send(COMMAND, start_train(11, image, "", **changes))
    device.wait(11, "TRAINING")
    wait_for(lambda: device.stdout(11))
    [found] = containers_of(engine, run="11", edge="3")
    host = found["HostConfig"]
    assert found["Config"]["Image"] == image
    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["Cmd"][:2] == ["python", "main.py"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"], host["Privileged"]) == (True, ["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"]) == (128 * 2**20, 128 * 2**20)
    assert (host["NanoCpus"], host["PidsLimit"], host["NetworkMode"]) == (10**9, 48, "host")
    assert list(host["Tmpfs"]) == [TMP]
    assert (host["PidMode"], host["IpcMode"], host["Devices"] or []) == ("", "private", [])
    assert sorted((mount["Destination"], mount["RW"]) for mount in found["Mounts"]) == sorted(
        [("/fedml/conf", False), ("/fedml/data", True), (str(private), False)]
    )
    assert "docker.sock" not in json.dumps(found["Mounts"])
    device.wait(11, "FINISHED")
    told = json.loads(device.stdout(11)[0])
    readonly = "Read-only file system"
    writes = {str(private): readonly, "/fedml/conf": readonly, "/fedml/data": "yes", TMP: "yes"}
    assert told["writes"] == writes | {"/": readonly, "/fedml": readonly}
    assert (told["private"], told["other"], told["data"]) == ("1,2\n", False, str(private))
    assert (told["user"], told["status"]) == (10001, ["0000000000000000", "0000000000000000", "1"])
    assert told["conf"] == ["fedml.yaml", "mqtt_config.yaml", "s3_config.yaml"]
    assert told["folder"] == "/fedml/fedml-package/fedml"
    assert told["environment"] == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_DEFAULT_REGION": "r",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_SECRET_ACCESS_KEY": "word",
        "ROUNDTABLE_EDGE_ID": "3",
        "ROUNDTABLE_HOME": "/fedml",
        "ROUNDTABLE_LOG_LEVEL": "INFO",
        "ROUNDTABLE_RUN_ID": "11",
        "ROUNDTABLE_TOKEN": "rtr_11_3_secret",
        "ROUNDTABLE_URL": device.url,
    }
    assert 'BUCKET_NAME: "b"' in told["s3"]
    assert f'MQTT_PWD: "{PASSWORDS["instances-3"]}"' in told["mqtt"]
    errors = [line["line"] for line in device.platform.lines("runs/11/3/log", "stderr")]
    assert errors == ["to the error stream"]
    assert (private / "values.csv").read_text() == "1,2\n"


def test_clients_have_a_network_of_their_own_where_one_is_named(device: Device, image: str, engine: Engine) -> None:
    device.start("--network", "clients")
    code = "import os; print(sorted(os.listdir('/sys/class/net')))"
    connection = client_of(engine)
    try:
        for run_id in (16, 17):  # made for the first, used by the second
            device.platform.send(COMMAND, start_train(run_id, image, code))
            device.wait(run_id, "FINISHED")
            assert device.stdout(run_id) == ["['eth0', 'lo']"]
        [network] = connection.networks(names=["clients"])
        assert (network["Driver"], network["Labels"]) == ("bridge", {"roundtable.network": "1"})
        assert network["Options"] == {"com.docker.network.bridge.enable_icc": "false"}
    finally:
        device.stop()
        connection.remove_network("clients")
        connection.close()


def test_it_pulls_an_image_once_with_the_login_of_its_identity_and_shows_how_far_it_is(
    device: Device, image: str, registry: Registry, second: Engine
) -> None:
    device.address = second.url
    forget(second, image)
    device.start()
    device.platform.send(COMMAND, start_train(12, image, "print('one')"))
    device.wait(12, "FINISHED", 120)
    device.platform.send(COMMAND, start_train(13, image, "print('two')"))
    device.wait(13, "FINISHED")
    checked = device.check("--runtime", "docker")
    output = device.stop()
    fetching = [found["progress"] for found in device.platform.statuses(STATUS, 12) if found["phase"] == "fetch"]
    progress = [share for share in fetching if share is not None]
    assert progress
    assert progress == sorted(progress)
    pulled = [[line["line"] for line in device.platform.lines(f"runs/{n}/3/log", "agent")] for n in (12, 13)]
    assert [any(line.startswith("pulled ") for line in lines) for lines in pulled] == [True, False]
    assert list(json.loads((device.home / "images.json").read_text())) == [image]
    assert "accepts the login of roundtable, and has client@sha256:" in checked.stdout
    assert registry.password not in output + (device.home / "agent.log").read_text() + checked.stdout
    assert containers_of(second) == []


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        ("held = bytearray(10**9)", "killed by the kernel: the 128 MiB limit was reached", 137),
        ("raise SystemExit('no data')", "the client ended with exit code 1: no data", 1),
        ("import os\nos.kill(os.getpid(), 11)", "the client was ended by signal 11 (SIGSEGV)", 139),
    ],
)
def test_it_says_how_a_client_ended(device: Device, image: str, code: str, reason: str, exit_code: int) -> None:
    device.start()
    device.platform.send(COMMAND, start_train(14, image, code))
    failed = device.wait(14, "FAILED")
    assert (failed["reason"], failed["exit_code"]) == (reason, exit_code)


def test_a_stop_asks_first_and_kills_after_ten_seconds(device: Device, image: str, engine: Engine) -> None:
    device.start()
    device.platform.send(COMMAND, start_train(15, image, ASKED + "print('up')\ntime.sleep(60)\n"))
    deaf = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('up')\ntime.sleep(60)\n"
    device.platform.send(COMMAND, start_train(16, image, deaf))
    wait_for(lambda: device.stdout(15) and device.stdout(16), 30)
    began = time.monotonic()
    for run_id in (15, 16):
        stop = {"type": "stop_train", "command_id": f"s{run_id}", "run_id": run_id, "reason": "enough"}
        device.platform.send(COMMAND, stop)
    assert device.wait(15, "KILLED")["reason"] == "enough"
    assert time.monotonic() - began < 8
    assert device.stdout(15) == ["up", "asked"]
    assert device.wait(16, "KILLED")["reason"] == "enough"
    assert 9 < time.monotonic() - began < 16
    assert containers_of(engine, edge="3") == []


def test_an_agent_that_was_killed_finds_its_container_again_and_loses_no_line(device: Device, image: str) -> None:
    device.start()
    device.platform.send(COMMAND, start_train(17, image, COUNTING.format(n=40)))
    wait_for(lambda: len(device.stdout(17)) > 5)
    device.kill()
    time.sleep(1)
    assert device.start()["runs"] == [17]
    assert device.wait(17, "FINISHED")["exit_code"] == 0
    assert device.stdout(17) == [f"line {i}" for i in range(40)]


def test_a_client_that_ended_while_no_agent_ran_is_reported_with_all_its_output(device: Device, image: str) -> None:
    device.start()
    device.platform.send(COMMAND, start_train(18, image, COUNTING.format(n=15) + "raise SystemExit(7)"))
    wait_for(lambda: len(device.stdout(18)) > 2)
    device.kill()
    time.sleep(3)
    device.start()
    assert device.wait(18, "FAILED")["exit_code"] == 7
    assert device.stdout(18) == [f"line {i}" for i in range(15)]


def test_a_container_that_ends_with_its_engine_is_told_so(device: Device, image: str, second: Engine) -> None:
    device.address = second.url
    device.start()
    device.platform.send(COMMAND, start_train(19, image, COUNTING.format(n=600)))
    wait_for(lambda: len(device.stdout(19)) > 3, 90)
    containerd = int((second.folder / "exec" / "containerd" / "containerd.pid").read_text())
    second.kill()
    wait_for(lambda: not psutil.pid_exists(containerd), what="the end of the engine's containerd")
    second.start()
    failed = device.wait(19, "FAILED")
    assert failed["reason"] == (
        "the client ended: the container engine stopped or was restarted, and the container ended with it"
    )
    lines = device.stdout(19)
    assert lines == [f"line {i}" for i in range(len(lines))]
    device.stop()
    assert containers_of(second) == []


def test_images_beyond_the_budget_are_removed_the_least_recently_used_first(
    device: Device, image: str, second: Engine, tmp_path: Path
) -> None:
    forget(second, image)
    device.address = second.url
    device.start()
    device.platform.send(COMMAND, start_train(28, image, ""))
    device.wait(28, "FINISHED", 120)
    device.stop()
    used = device.home / "images.json"
    device.start("--images-mb", "1")
    device.stop()
    assert list(json.loads(used.read_text())) == [image]  # used within the last hour
    used.write_text(json.dumps({image: time.time() - 4000}))
    device.start("--images-mb", "1")
    device.stop()
    assert json.loads(used.read_text()) == {}
    assert not forget(second, image)


def test_it_says_that_the_registry_refuses_the_login_or_lacks_the_image(device: Device, registry: Registry) -> None:
    absent = f"{registry.address}/absent@sha256:{'0' * 64}"
    device.start()
    command = start_train(20, absent, "")
    command["image"]["login"] = {"username": "roundtable", "password": "guessed"}
    device.platform.send(COMMAND, command)
    assert device.wait(20, "FAILED")["reason"] == (
        f"the registry {registry.address} refuses the login of roundtable: the platform's registry user and password "
        "must be corrected"
    )
    device.platform.send(COMMAND, start_train(21, absent, ""))
    assert device.wait(21, "FAILED")["reason"].startswith(
        f"the registry {registry.address} has no image absent@sha256:"
    )


def test_without_an_engine_the_package_is_run_as_a_process(device: Device, image: str, server: PlatformServer) -> None:
    device.address = "unix:///nonexistent/docker.sock"
    assert device.start()["runtime"] == "process"
    package = server.add(make_zip(package_files("print('as a process')")))
    device.platform.send(COMMAND, start_train(22, image, "", package=package, entry={"file": "fedml/entry.py"}))
    assert device.wait(22, "FINISHED")
    assert [line["line"] for line in device.platform.lines("runs/22/3/log", "stdout")] == ["as a process"]
    device.platform.send(COMMAND, start_train(23, image, ""))
    assert device.wait(23, "FAILED")["reason"] == (
        "the command names an image alone, and no container engine answers on this device"
    )


def test_a_device_for_containers_alone_runs_no_package_as_a_process(device: Device, server: PlatformServer) -> None:
    device.start("--runtime", "docker")
    package = server.add(make_zip(package_files("print('as a process')")))
    device.platform.send(COMMAND, start_train(24, "", "", package=package))
    assert "opens nothing but containers" in device.wait(24, "FAILED")["reason"]
    assert device.stdout(24) == []


def test_containers_that_no_run_knows_are_removed_at_the_start(device: Device, image: str, engine: Engine) -> None:
    device.start()
    device.platform.send(COMMAND, start_train(25, image, "import time\ntime.sleep(60)"))
    device.wait(25, "TRAINING")
    device.kill()
    (device.home / "runs" / "25").rename(device.home / "lost")
    stranger = client_of(engine)
    other = stranger.create_container(image, ["true"], labels={"roundtable.edge": "4", "roundtable.agent": "other"})
    try:
        device.start()
        wait_for(lambda: not containers_of(engine, edge="3"))
        assert len(containers_of(engine, agent="other")) == 1
    finally:
        stranger.remove_container(other)
        stranger.close()


def test_private_data_that_holds_the_engines_socket_is_refused(device: Device, image: str, engine: Engine) -> None:
    device.stop()
    identity = json.loads((device.home / "identity.json").read_text())
    (device.home / "identity.json").write_text(json.dumps(identity | {"data": str(engine.folder)}))
    device.start()
    data = {"private_path": ".", "synthetic_url": ""}
    device.platform.send(COMMAND, start_train(26, image, "", data=data))
    assert "holds the container engine's socket" in device.wait(26, "FAILED")["reason"]


def test_a_sigterm_of_the_agent_ends_its_containers(device: Device, image: str, engine: Engine) -> None:
    device.start()
    device.platform.send(COMMAND, start_train(27, image, ASKED + "print('up')\ntime.sleep(60)\n"))
    wait_for(lambda: device.stdout(27))
    assert device.agent is not None
    device.agent.send_signal(signal.SIGTERM)
    device.agent.communicate(timeout=40)
    assert device.wait(27, "FAILED")["reason"] == "the agent was stopped"
    assert containers_of(engine, edge="3") == []
