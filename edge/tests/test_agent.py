"""The agent, end to end: a real broker, a real HTTP server, real processes."""

import json
import os
import re
import stat
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psutil
import pytest
from edge_harness import (
    CODE,
    PASSWORDS,
    Broker,
    Platform,
    PlatformServer,
    make_zip,
    package_files,
    program,
    wait_for,
)
from paho.mqtt.enums import CallbackAPIVersion

PRESENCE = "edges/3/presence"
COMMAND = "edges/3/command"
STATUS = "edges/3/status"
COUNTING = "import time\nfor i in range({n}):\n    print('line', i)\n    time.sleep(0.1)\n"


class Device:
    """A device under test: its folder and its agent."""

    def __init__(self, folder: Path, server: PlatformServer, platform: Platform) -> None:
        self.platform = platform
        self.home = folder / "device"
        self.server = server
        self.environment: dict[str, str] = {}
        self.agent: subprocess.Popen[str] | None = None
        self.output = ""

    def enrol(self, code: str = CODE, *options: str) -> subprocess.CompletedProcess[str]:
        arguments = ["enrol", "--home", str(self.home), "--server", self.server.url, "--name", "porch", *options]
        process = program("roundtable_agent", *arguments, stdin=subprocess.PIPE)
        output, _ = process.communicate(code, timeout=20)
        return subprocess.CompletedProcess(arguments, process.returncode, output)

    def start(self, *options: str) -> "subprocess.Popen[str]":
        """Start the agent and wait until it says ONLINE."""
        boots = {found["boot"] for found in self.platform.heard(PRESENCE)}
        if not (self.home / "identity.json").exists():
            assert self.enrol().returncode == 0
        arguments = ["run", "--home", str(self.home), *options]
        self.agent = program("roundtable_agent", *arguments, environment=self.environment)
        wait_for(lambda: {found["boot"] for found in self.platform.heard(PRESENCE)} - boots, what="ONLINE")
        return self.agent

    def stop(self) -> None:
        if self.agent is not None:
            self.agent.terminate()
            try:
                self.output, _ = self.agent.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                self.agent.kill()
                self.agent.communicate()
                raise
        for path in self.home.glob("runs/*/instance/launch.json"):
            for entry in json.loads(path.read_text()).values():
                assert entry is None or not alive(entry["pid"]), f"{path} names a process that still runs"

    def kill(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.communicate()

    def launched(self, run_id: int) -> dict[str, Any]:
        value = json.loads((self.home / "runs" / str(run_id) / "instance" / "launch.json").read_text())
        assert isinstance(value, dict)
        return value


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def device(tmp_path: Path, server: PlatformServer, platform: Platform) -> Iterator[Device]:
    device = Device(tmp_path, server, platform)
    yield device
    device.stop()


def start_train(server: PlatformServer, run_id: int, code: str = "", **changes: Any) -> dict[str, Any]:
    """A start_train command for an entry file with this code."""
    return {
        "type": "start_train",
        "command_id": f"c{run_id}",
        "run_id": run_id,
        "edge_id": 3,
        "token": f"rtr_{run_id}_3_secret",
        "package": server.add(make_zip(package_files(code))),
        "image": None,
        "config": {"model_config": {"modelName": "lr", "data": "${FEDSYS.PRIVATE_LOCAL_DATA}"}},
        "entry": {"file": "fedml/entry.py", "arguments": ["--data", "${FEDSYS_PRIVATE_LOCAL_DATA}"]},
        "data": {"private_path": "", "synthetic_url": ""},
        "limits": {"memory_mb": 256, "cpus": 1.0, "pids": 32},
        "s3": None,
        "log_level": "INFO",
        **changes,
    }


def ready(platform: Platform) -> dict[str, Any]:
    """Wait for the agent's ONLINE presence."""
    return wait_for(lambda: [found for found in platform.heard(PRESENCE) if found["state"] == "ONLINE"])[-1]


def test_enrolment_stores_an_identity_for_the_owner_alone(device: Device, server: PlatformServer) -> None:
    result = device.enrol()
    assert (result.returncode, result.stdout) == (0, f"bound as device 3 (porch) to {server.url}\n")
    path = device.home / "identity.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.enrolled[0]["name"] == "porch"
    assert server.enrolled[0]["host"]["runtime"] == "process"
    assert CODE not in path.read_text()
    again = device.enrol()
    assert again.returncode == 0
    assert "enrolled with that code already, as device 3" in again.stdout
    assert len(server.enrolled) == 1


def test_a_code_that_was_used_is_refused_with_the_platforms_sentence(device: Device) -> None:
    result = device.enrol("WRONG-CODE")
    expected = "the code was refused: this code was used already or has expired; make a new one\n"
    assert (result.returncode, result.stdout) == (1, expected)
    assert not (device.home / "identity.json").exists()


def test_a_second_agent_on_one_home_is_refused(device: Device, platform: Platform) -> None:
    agent = device.start()
    ready(platform)
    second = program("roundtable_agent", "run", "--home", str(device.home))
    output, _ = second.communicate(timeout=20)
    expected = (
        f"another agent (process {agent.pid}) uses {device.home}: stop it first, or give this one its own --home\n"
    )
    assert (second.returncode, output) == (1, expected)
    assert agent.poll() is None


def test_presence_follows_the_agent_and_the_will_follows_its_death(device: Device, platform: Platform) -> None:
    device.start()
    online = ready(platform)
    assert online["runs"] == []
    assert online["cpu_count"] == os.cpu_count()
    checked = wait_for(lambda: [found for found in platform.heard(PRESENCE) if found.get("check")])[0]
    assert {item["name"]: item["ok"] for item in checked["check"]["items"] if item["required"]} == {
        "python": True, "venv": True, "disk": True, "server": True, "broker": True,
    }  # fmt: skip
    device.kill()
    offline = wait_for(lambda: [found for found in platform.heard(PRESENCE) if found["state"] == "OFFLINE"])[0]
    assert offline == {"state": "OFFLINE", "boot": online["boot"]}
    device.start()
    assert ready(platform)["boot"] != online["boot"]
    device.stop()
    assert device.agent is not None
    assert device.agent.returncode == 0
    goodbye = wait_for(lambda: [found for found in platform.heard(PRESENCE) if found.get("reason")])[0]
    assert (goodbye["state"], goodbye["reason"]) == ("OFFLINE", "the agent was stopped (SIGTERM)")


def test_a_run_goes_from_the_command_to_finished_with_every_line(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    device.start("--system-interval", "1")
    ready(platform)
    code = "import sys, os, time\nprint(sorted(os.environ))\nprint(sys.argv)\n"
    code += "for i in range(3000): print('line', i)\nsys.stdout.buffer.write(b'\\xff!\\n')\nprint('x' * 20000)\n"
    code += "time.sleep(1.3)\nprint('no newline', end='')\n"
    command = start_train(server, 7, code)
    platform.send(COMMAND, command)
    platform.send(COMMAND, command)
    final = platform.wait_status(STATUS, 7, "FINISHED")
    statuses = platform.statuses(STATUS, 7)
    phases = [(found["status"], found["phase"]) for found in statuses]
    assert list(dict.fromkeys(phases)) == [
        ("INITIALIZING", "fetch"),
        ("INITIALIZING", "install"),
        ("INITIALIZING", "open"),
        ("TRAINING", "run"),
        ("FINISHED", ""),
    ]
    assert len({found["instance"] for found in statuses}) == 1
    assert [found["seq"] for found in statuses] == list(range(1, len(statuses) + 1))
    assert (final["exit_code"], final["reason"], final["progress"]) == (0, "", None)
    lines = platform.lines("runs/7/3/log")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    printed = [line["line"] for line in platform.lines("runs/7/3/log", "stdout")]
    assert printed[1] == "['entry.py', '--data', '']"
    assert printed[2:3002] == [f"line {i}" for i in range(3000)]
    assert printed[3002] == "\N{REPLACEMENT CHARACTER}!"
    assert len(printed[3003]) == 8192
    assert printed[3003].endswith("xxx [cut]")
    assert printed[3004:] == ["no newline"]
    assert all(len(message["lines"]) <= 1000 for message in platform.heard("runs/7/3/log"))
    names = printed[0]
    assert "'ROUNDTABLE_TOKEN'" in names
    assert "PYTHONPATH" not in names
    assert platform.heard("runs/7/3/system")[0]["process_memory_in_use"] > 1
    secrets = ("agent-secret", "device-secret", "rtr_7_3_secret", "instances-secret")
    log = (device.home / "agent.log").read_text()
    assert not any(secret in log for secret in secrets)
    record = json.loads((device.home / "runs" / "7" / "run.json").read_text())
    assert record["command"] is None


def test_an_entry_file_that_fails_gives_its_last_words_as_the_reason(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    device.start()
    platform.send(COMMAND, start_train(server, 7, "import os\nraise ValueError('the data has no labels')\n"))
    final = platform.wait_status(STATUS, 7, "FAILED")
    assert final["reason"] == "the client ended with exit code 1: ValueError: the data has no labels"
    assert final["exit_code"] == 1
    platform.send(COMMAND, start_train(server, 8, "import os\nos.kill(os.getpid(), 11)\n"))
    assert platform.wait_status(STATUS, 8, "FAILED")["reason"] == "the client was ended by signal 11 (SIGSEGV)"


def test_stopping_ends_every_process_of_the_run(device: Device, platform: Platform, server: PlatformServer) -> None:
    device.start()
    stubborn = "import signal, subprocess, time\nsignal.signal(signal.SIGTERM, lambda *_: print('no'))\n"
    stubborn += "subprocess.Popen(['setsid', 'sleep', '77'])\nprint('up')\nwhile True: time.sleep(1)\n"
    platform.send(COMMAND, start_train(server, 7, stubborn))
    wait_for(lambda: platform.lines("runs/7/3/log", "stdout"))
    launcher = psutil.Process(device.launched(7)["launcher"]["pid"])
    below = launcher.children(recursive=True)
    assert sorted(process.name() for process in below)[-1] == "sleep"
    platform.send(COMMAND, {"type": "stop_train", "command_id": "s", "run_id": 7, "reason": "stopped by ada"})
    assert platform.wait_status(STATUS, 7, "STOPPING")["reason"] == "stopped by ada"
    final = platform.wait_status(STATUS, 7, "KILLED")
    assert final["reason"] == "stopped by ada"
    assert not [process for process in [launcher, *below] if alive(process.pid)]
    wait_for(lambda: ready(platform)["runs"] == [])


def test_a_stop_that_comes_first_is_answered_and_remembered(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    device.start()
    platform.send(COMMAND, {"type": "stop_train", "command_id": "s", "run_id": 7, "reason": ""})
    final = platform.wait_status(STATUS, 7, "KILLED")
    assert final["reason"] == "stopped before this device had begun"
    platform.send(COMMAND, start_train(server, 7, "print('never')\n"))
    wait_for(lambda: len([1 for name, message in platform.messages if name == STATUS and message == final]) == 2)
    assert platform.heard("runs/7/3/log")[-1]["lines"][-1]["line"] == f"ended: KILLED: {final['reason']}"


def test_another_command_for_an_ended_run_opens_it_again(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    device.start()
    first = start_train(server, 7, "raise SystemExit('not yet')\n")
    platform.send(COMMAND, first)
    failed = platform.wait_status(STATUS, 7, "FAILED")
    again = start_train(server, 7, "print('now')\n", command_id="retry", token="rtr_7_3_renewed")
    platform.send(COMMAND, again)
    finished = platform.wait_status(STATUS, 7, "FINISHED")
    assert finished["instance"] != failed["instance"]
    assert [line["line"] for line in platform.lines("runs/7/3/log", "stdout")] == ["now"]
    before = len(platform.heard("runs/7/3/log"))
    platform.send(COMMAND, again)
    wait_for(lambda: len([1 for name, message in platform.messages if name == STATUS and message == finished]) == 2)
    assert len(platform.heard("runs/7/3/log")) == before


def test_a_command_for_a_run_that_is_ending_waits_for_the_end(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    device.start()
    slow = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), exit(0)))\n"
    platform.send(COMMAND, start_train(server, 7, slow + "print('up', flush=True)\nwhile True: time.sleep(0.1)\n"))
    wait_for(lambda: platform.lines("runs/7/3/log", "stdout"))
    platform.send(COMMAND, {"type": "stop_train", "command_id": "s", "run_id": 7, "reason": "stopped by ada"})
    platform.wait_status(STATUS, 7, "STOPPING")
    platform.send(COMMAND, start_train(server, 7, "print('again')\n", command_id="retry"))
    platform.wait_status(STATUS, 7, "FINISHED")
    states = list(dict.fromkeys(found["status"] for found in platform.statuses(STATUS, 7)))
    assert states == ["INITIALIZING", "TRAINING", "STOPPING", "KILLED", "FINISHED"]
    assert [line["line"] for line in platform.lines("runs/7/3/log", "stdout")] == ["up", "again"]


def test_a_killed_agent_takes_its_run_up_again(device: Device, platform: Platform, server: PlatformServer) -> None:
    device.start()
    platform.send(COMMAND, start_train(server, 7, COUNTING.format(n=20)))
    wait_for(lambda: len(platform.lines("runs/7/3/log", "stdout")) > 5)
    instance = device.launched(7)["instance"]["pid"]
    device.kill()
    assert alive(instance)
    time.sleep(0.7)
    device.start()
    assert ready(platform)["runs"] == [7]
    platform.wait_status(STATUS, 7, "FINISHED")
    assert device.launched(7)["instance"]["pid"] == instance
    assert [line["line"] for line in platform.lines("runs/7/3/log", "stdout")] == [f"line {i}" for i in range(20)]
    lines = platform.lines("runs/7/3/log")
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))


def test_an_instance_that_ended_without_its_agent_is_reported_with_its_exit_code(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    device.start()
    code = "import sys, time\nprint('up')\ntime.sleep(1)\nprint('late words', file=sys.stderr)\nsys.exit(5)\n"
    platform.send(COMMAND, start_train(server, 7, code))
    wait_for(lambda: platform.lines("runs/7/3/log", "stdout"))
    device.kill()
    wait_for((device.home / "runs" / "7" / "instance" / "exit.json").exists)
    device.start()
    final = platform.wait_status(STATUS, 7, "FAILED")
    assert (final["exit_code"], final["reason"]) == (5, "the client ended with exit code 5: late words")
    assert [line["line"] for line in platform.lines("runs/7/3/log", "stderr")] == ["late words"]


def test_an_agent_killed_while_it_installs_begins_again(
    device: Device, platform: Platform, server: PlatformServer, tmp_path: Path
) -> None:
    device.environment = wheels(tmp_path / "wheels", slow=True)
    device.start()
    files = package_files("import demo_wheel\nprint(demo_wheel.WORD)\n", **{"requirements.txt": "demo-wheel==1.0\n"})
    platform.send(COMMAND, start_train(server, 7, package=server.add(make_zip(files))))
    wait_for(lambda: [found for found in platform.statuses(STATUS, 7) if found["phase"] == "install"])
    device.kill()
    device.environment = wheels(tmp_path / "wheels", slow=False)
    device.start()
    platform.wait_status(STATUS, 7, "FINISHED")
    assert [line["line"] for line in platform.lines("runs/7/3/log", "stdout")] == ["installed"]
    told = [line["line"] for line in platform.lines("runs/7/3/log", "agent")]
    assert "Successfully installed demo-wheel-1.0" in told


def test_requirements_that_do_not_resolve_fail_with_pips_sentence(
    device: Device, platform: Platform, server: PlatformServer, tmp_path: Path
) -> None:
    device.environment = wheels(tmp_path / "wheels", slow=False)
    device.start()
    files = package_files("", **{"requirements.txt": "demo-wheel==9.9\n"})
    platform.send(COMMAND, start_train(server, 7, package=server.add(make_zip(files))))
    reason = platform.wait_status(STATUS, 7, "FAILED")["reason"]
    assert reason == "the requirements could not be installed: No matching distribution found for demo-wheel==9.9"
    assert not list((device.home / "cache" / "environments").glob("*/"))


def test_a_restart_of_the_broker_in_the_middle_of_a_run_loses_nothing(
    device: Device, platform: Platform, server: PlatformServer, broker: Broker
) -> None:
    device.start()
    platform.send(COMMAND, start_train(server, 7, COUNTING.format(n=20)))
    wait_for(lambda: platform.lines("runs/7/3/log", "stdout"))
    broker.stop()
    time.sleep(1.5)
    broker.start()
    platform.wait_status(STATUS, 7, "FINISHED", 30)
    assert [line["line"] for line in platform.lines("runs/7/3/log", "stdout")] == [f"line {i}" for i in range(20)]


def test_a_client_beyond_its_limits_is_killed_with_a_sentence(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    device.start()
    greedy = "import time\nhoard = []\nwhile True:\n    hoard.append(b'x' * 10_000_000)\n    time.sleep(0.02)\n"
    platform.send(COMMAND, start_train(server, 7, greedy))
    many = "import subprocess, time\nall = [subprocess.Popen(['sleep', '60']) for _ in range(20)]\ntime.sleep(60)\n"
    platform.send(COMMAND, start_train(server, 8, many, limits={"memory_mb": 256, "cpus": 1, "pids": 10}))
    reason = platform.wait_status(STATUS, 7, "FAILED")["reason"]
    assert reason == "killed: the 256 MiB memory limit was reached"
    assert platform.wait_status(STATUS, 8, "FAILED")["reason"] == "killed: the limit of 10 processes was reached"


def test_private_data_is_given_from_the_data_folder_and_from_nowhere_else(
    device: Device, platform: Platform, server: PlatformServer, tmp_path: Path
) -> None:
    data = tmp_path / "private"
    data.mkdir()
    (data / "digits.csv").write_text("1,2\n")
    (data / "sneaky").symlink_to("/etc")
    device.start("--data", str(data))
    code = "import sys\nprint(open(sys.argv[2]).read(), open('../../conf/fedml.yaml').read())\n"
    platform.send(COMMAND, start_train(server, 7, code, data={"private_path": "digits.csv", "synthetic_url": ""}))
    platform.wait_status(STATUS, 7, "FINISHED")
    printed = [line["line"] for line in platform.lines("runs/7/3/log", "stdout")]
    assert printed == ["1,2", " model_config:", "  modelName: lr", f"  data: {data / 'digits.csv'}", ""]
    escapes = {8: "../device/identity.json", 9: "/etc/passwd", 10: "sneaky/passwd", 11: "missing.csv"}
    for run_id, path in escapes.items():
        platform.send(COMMAND, start_train(server, run_id, code, data={"private_path": path}))
    reasons = {run_id: platform.wait_status(STATUS, run_id, "FAILED")["reason"] for run_id in escapes}
    leaves = "the private data path {!r} leaves the data folder of this device"
    assert reasons == {
        8: leaves.format("../device/identity.json"),
        9: leaves.format("/etc/passwd"),
        10: leaves.format("sneaky/passwd"),
        11: "the data folder of this device holds no 'missing.csv'",
    }


def test_packages_that_are_not_what_they_should_be_fail_the_run(
    device: Device, platform: Platform, server: PlatformServer, tmp_path: Path
) -> None:
    device.start()
    damaged = server.add(b"right bytes")
    server.packages[damaged["sha256"]] = b"wrong bytes"
    climbing = server.add(make_zip({"../../../../escaped.txt": "x"}))
    elsewhere = {**server.add(b"x"), "url": "http://127.0.0.1:1/x"}
    missing = {"url": f"/api/edge/packages/{'0' * 64}", "sha256": "0" * 64, "size": 3}
    cases = {
        7: (damaged, "the package's bytes do not match its digest: it was damaged or replaced on the way"),
        8: (climbing, "the package's member 'package/../../../../escaped.txt' would leave the package's folder"),
        9: (elsewhere, f"the URL 'http://127.0.0.1:1/x' leads away from the platform at {server.url}"),
        10: (missing, "the platform refused the package: there is no such package"),
        11: (server.add(b"no zip"), "the package is not a sound zip archive: File is not a zip file"),
        12: (None, "the command names neither an image nor a package: there is nothing to open"),
    }
    for run_id, (package, _) in cases.items():
        platform.send(COMMAND, start_train(server, run_id, package=package))
    reasons = {run_id: platform.wait_status(STATUS, run_id, "FAILED")["reason"] for run_id in cases}
    assert reasons == {run_id: reason for run_id, (_, reason) in cases.items()}
    assert not list(tmp_path.rglob("escaped.txt"))


def test_garbage_on_the_command_topic_changes_nothing(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    agent = device.start()
    ready(platform)
    fine = start_train(server, 7, "print('fine')\n")
    garbage: list[Any] = [
        b"", b"\xff\xfe", b"{", b"[" * 100_000, b"null", b"3", b"[]", b'"text"', b"{}", b'{"run_id": 1e999}',
        b'{"type": "start_train", "run_id": ' + b"9" * 5000 + b"}",
        {"type": "start_train"}, {"type": "start_train", "run_id": True}, {"type": "start_train", "run_id": -1},
        {"type": "start_train", "run_id": "7; rm -rf /"}, {"type": "start_train", "run_id": 2**70},
        {**fine, "run_id": 21, "edge_id": 4}, {**fine, "run_id": 22, "token": None},
        {**fine, "run_id": 23, "package": {"url": "x", "sha256": "../../x", "size": 1}},
        {**fine, "run_id": 24, "entry": {"file": "../../bin/sh", "arguments": []}},
        {**fine, "run_id": 25, "entry": {"file": "fedml/entry.py", "arguments": [1]}},
        {**fine, "run_id": 26, "limits": {"memory_mb": "all"}}, {**fine, "run_id": 27, "config": [1]},
        {**fine, "run_id": 28, "type": "launch_missiles"}, {**fine, "run_id": 29, "s3": {"bucket": 3}},
        {**fine, "run_id": 30, "entry": {"file": "fedml/entry.py", "arguments": ["\ud800"]}},
    ]  # fmt: skip
    for message in garbage:
        platform.send(COMMAND, message)
    platform.send(COMMAND, fine)
    platform.wait_status(STATUS, 7, "FINISHED")
    reasons = {run_id: platform.wait_status(STATUS, run_id, "FAILED")["reason"] for run_id in range(21, 31)}
    assert reasons[22] == "the command cannot be followed: command.token must be a string"
    assert reasons[24].endswith("the entry file '../../bin/sh' is not a plain path inside the package")
    assert reasons[28].endswith("command.type must be one of start_train, stop_train")
    assert {message["run_id"] for message in platform.heard(STATUS)} == {7, *range(21, 31)}
    assert agent.poll() is None


def test_an_agent_that_is_stopped_says_so_for_its_runs(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    device.start()
    platform.send(COMMAND, start_train(server, 7, COUNTING.format(n=600)))
    wait_for(lambda: platform.lines("runs/7/3/log", "stdout"))
    instance = device.launched(7)["instance"]["pid"]
    device.stop()
    assert device.agent is not None
    assert device.agent.returncode == 0
    assert platform.wait_status(STATUS, 7, "FAILED")["reason"] == "the agent was stopped"
    assert not alive(instance)
    device.agent = None


def test_an_agent_told_so_leaves_its_instances_running(
    device: Device, platform: Platform, server: PlatformServer
) -> None:
    agent = device.start("--keep-instances")
    platform.send(COMMAND, start_train(server, 7, COUNTING.format(n=20)))
    wait_for(lambda: platform.lines("runs/7/3/log", "stdout"))
    agent.terminate()
    agent.communicate(timeout=20)
    assert alive(device.launched(7)["instance"]["pid"])
    device.start()
    platform.wait_status(STATUS, 7, "FINISHED")
    assert [line["line"] for line in platform.lines("runs/7/3/log", "stdout")] == [f"line {i}" for i in range(20)]


def test_a_rotated_credential_is_taken_up_by_the_running_agent(
    device: Device, platform: Platform, server: PlatformServer, broker: Broker
) -> None:
    device.start()
    ready(platform)
    server.agent_password = "new-agent-secret"
    rotation = program("roundtable_agent", "rotate", "--home", str(device.home))
    output, _ = rotation.communicate(timeout=20)
    assert rotation.returncode == 0, output
    broker.stop()
    broker.set_passwords({**PASSWORDS, "agent-3": "new-agent-secret"})
    broker.start()
    count = len(platform.heard(PRESENCE))
    platform.send(COMMAND, start_train(server, 7, "print('ok')\n"))
    platform.wait_status(STATUS, 7, "FINISHED", 30)
    assert len(platform.heard(PRESENCE)) > count


def test_a_revoked_credential_is_said_clearly_and_the_agent_still_ends_well(
    device: Device, platform: Platform, broker: Broker
) -> None:
    agent = device.start()
    ready(platform)
    broker.stop()
    broker.set_passwords({**PASSWORDS, "agent-3": "something else"})
    broker.start()
    log = device.home / "agent.log"
    wait_for(lambda: "the broker refused the credential of agent-3" in log.read_text())

    def told() -> bool:
        check = program("roundtable_agent", "check", "--home", str(device.home))
        output, _ = check.communicate(timeout=20)
        assert check.returncode == 1
        broker_line = next(line for line in output.splitlines() if line.startswith("broker"))
        return broker_line.startswith("broker       FAILED  the running agent is not connected: the broker refused the")

    wait_for(told)  # the agent notes its state now and then
    agent.terminate()
    agent.communicate(timeout=20)
    assert agent.returncode == 0


def wheels(folder: Path, *, slow: bool) -> dict[str, str]:
    """A package index of one tiny wheel; a slow one never answers. Returns the variables that tell pip."""
    folder.mkdir(exist_ok=True)
    info = "demo_wheel-1.0.dist-info"
    files = {
        "demo_wheel.py": "WORD = 'installed'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: demo-wheel\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "demo_wheel-1.0-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    if slow:
        return {"PIP_INDEX_URL": "http://192.0.2.1/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}


def test_another_credential_cannot_take_over_the_agent_s_session(
    device: Device, platform: Platform, server: PlatformServer, broker: Broker
) -> None:
    device.start()
    ready(platform)
    boots = len(platform.heard(PRESENCE))
    stranger = paho.Client(CallbackAPIVersion.VERSION2, client_id="agent-3", protocol=paho.MQTTv5)
    stranger.username_pw_set("instances-3", PASSWORDS["instances-3"])
    connected = threading.Event()
    stranger.on_connect = lambda *_: connected.set()
    stranger.connect("127.0.0.1", broker.port)
    stranger.loop_start()
    try:
        assert connected.wait(10)
        platform.send(COMMAND, start_train(server, 7, "print('ok')\n"))
        platform.wait_status(STATUS, 7, "FINISHED", 30)
    finally:
        stranger.disconnect()
        stranger.loop_stop()
    assert "OFFLINE" not in {found["state"] for found in platform.heard(PRESENCE)[boots:]}
    assert "another agent has connected" not in (device.home / "agent.log").read_text()


def test_the_session_of_a_device_is_random_and_stays_its_own(device: Device, server: PlatformServer) -> None:
    assert device.enrol().returncode == 0
    identity = device.home / "identity.json"
    session = json.loads(identity.read_text())["session"]
    assert re.fullmatch(r"[0-9a-f]{32}", session)
    output, _ = program("roundtable_agent", "rotate", "--home", str(device.home)).communicate(timeout=20)
    assert json.loads(identity.read_text())["session"] == session, output

    # A device that was bound by an earlier version is given one, which stays too.
    value = json.loads(identity.read_text())
    del value["session"]
    identity.write_text(json.dumps(value))
    made = []
    for _ in range(2):
        program("roundtable_agent", "check", "--home", str(device.home)).communicate(timeout=20)
        made.append(json.loads(identity.read_text())["session"])
    assert made[0] == made[1] != session
    assert re.fullmatch(r"[0-9a-f]{32}", made[0])
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600
