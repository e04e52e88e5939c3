"""The runner of an aggregator, end to end on a real broker."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from edge_harness import PASSWORDS, Broker, Platform, package_files, program, wait_for

STATUS = "runs/7/0/status"
LOG = "runs/7/0/log"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, broker: Broker) -> Iterator[Start]:
    """Starts a supervisor for an entry file with this code."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, **changes: Any) -> "subprocess.Popen[str]":
        package = tmp_path / "built" / "package"
        for name, text in package_files(code).items():
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(text)
        spec = {
            "run_id": 7,
            "edge_id": 0,
            "home": str(tmp_path / "home"),
            "package_dir": str(tmp_path / "built"),
            "python": sys.executable,
            "entry": {"file": "fedml/entry.py", "arguments": ["--model", "lr"]},
            "config": {"model_config": {"modelName": "lr"}},
            "token": "rtr_7_0_secret",
            "url": "http://127.0.0.1:1",
            "mqtt": {
                "host": "127.0.0.1",
                "port": broker.port,
                "tls": False,
                "username": "aggregator-7",
                "password": PASSWORDS["aggregator-7"],
            },
            "limits": {"memory_mb": 512, "cpus": 1.0, "pids": 64},
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


def supervised(tmp_path: Path) -> dict[str, Any]:
    value = json.loads((tmp_path / "home" / "supervise.json").read_text())
    assert isinstance(value, dict)
    return value


def test_it_runs_an_instance_to_its_end_and_reports(start: Start, platform: Platform, tmp_path: Path) -> None:
    supervisor = start(
        "import json, os, sys, time\n"
        "print(json.dumps({'argv': sys.argv, 'cwd': os.getcwd(), 'environment': dict(os.environ)}))\n"
        "for i in range(2500): print('line', i)\n"
        "print('careful', file=sys.stderr)\n"
        "time.sleep(1.5)\n"
    )
    assert supervisor.wait(30) == 0
    assert [found["status"] for found in platform.statuses(STATUS, 7)] == ["INITIALIZING"] * 2 + [
        "TRAINING",
        "FINISHED",
    ]
    final = platform.statuses(STATUS, 7)[-1]
    assert (final["exit_code"], final["reason"]) == (0, "")
    lines = platform.lines(LOG)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    printed = [line["line"] for line in platform.lines(LOG, "stdout")]
    assert printed[1:] == [f"line {i}" for i in range(2500)]
    assert [line["line"] for line in platform.lines(LOG, "stderr")] == ["careful"]
    seen = json.loads(printed[0])
    home = tmp_path / "home"
    assert seen["argv"] == ["entry.py", "--model", "lr"]
    assert seen["cwd"] == str(home / "fedml-package" / "fedml")
    assert seen["environment"]["ROUNDTABLE_TOKEN"] == "rtr_7_0_secret"
    assert seen["environment"]["ROUNDTABLE_HOME"] == str(home)
    assert "PYTHONPATH" not in seen["environment"]
    assert (home / "conf" / "mqtt_config.yaml").read_text().splitlines()[2:4] == [
        'MQTT_USER: "aggregator-7"',
        'MQTT_PWD: "aggregator-secret"',
    ]
    assert (home / "conf" / "mqtt_config.yaml").stat().st_mode & 0o777 == 0o600
    figures = platform.heard("runs/7/0/system")
    assert figures[0]["process_memory_in_use"] > 1
    state = supervised(tmp_path)
    assert (state["state"], state["exit_code"], state["acknowledged"]) == ("FINISHED", 0, True)
    assert state["command"] is None


def test_it_passes_the_arguments_through_the_packages_main(start: Start, platform: Platform, tmp_path: Path) -> None:
    main = tmp_path / "built" / "package" / "main.py"
    main.parent.mkdir(parents=True)
    main.write_text("import sys, os\nprint(sys.argv, os.getcwd())\n")
    assert start("").wait(30) == 0
    home = tmp_path / "home"
    expected = ["main.py", "--package_name", "server-package", "--package_url"]
    expected += ["http://127.0.0.1:1/api/edge/packages/0", "--config", str(home / "conf" / "fedml.yaml"), "--"]
    printed = [line["line"] for line in platform.lines(LOG, "stdout")]
    assert printed == [f"{[*expected, '--model', 'lr']} {home / 'fedml-package'}"]


def test_it_stops_the_instance_on_sigterm(start: Start, platform: Platform, tmp_path: Path) -> None:
    supervisor = start("import subprocess, time\nsubprocess.Popen(['setsid', 'sleep', '60'])\ntime.sleep(60)\n")
    platform.wait_status(STATUS, 7, "TRAINING")
    instance = psutil.Process(supervised(tmp_path)["instance_pid"])
    child = wait_for(instance.children)[0]
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert [found["status"] for found in platform.statuses(STATUS, 7)][-2:] == ["STOPPING", "KILLED"]
    assert not instance.is_running()
    assert not child.is_running()


def test_a_supervisor_started_again_adopts_the_instance(start: Start, platform: Platform, tmp_path: Path) -> None:
    entry = "import time\nfor i in range(20):\n    print('line', i)\n    time.sleep(0.1)\n"
    first = start(entry)
    wait_for(lambda: len(platform.lines(LOG, "stdout")) > 5)
    first.kill()
    first.wait()
    time.sleep(0.5)
    assert start(entry).wait(30) == 0
    assert [line["line"] for line in platform.lines(LOG, "stdout")] == [f"line {i}" for i in range(20)]
    lines = platform.lines(LOG)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert supervised(tmp_path)["state"] == "FINISHED"


def test_it_survives_a_restart_of_the_broker(start: Start, platform: Platform, broker: Broker) -> None:
    supervisor = start("import time\nfor i in range(20):\n    print('line', i)\n    time.sleep(0.1)\n")
    platform.wait_status(STATUS, 7, "TRAINING")
    broker.stop()
    time.sleep(1)
    broker.start()
    assert supervisor.wait(40) == 0
    platform.wait_status(STATUS, 7, "FINISHED")
    assert [line["line"] for line in platform.lines(LOG, "stdout")] == [f"line {i}" for i in range(20)]


def test_it_refuses_a_spec_that_lacks_a_key(start: Start) -> None:
    supervisor = start("", token=None)
    output, _ = supervisor.communicate(timeout=20)
    assert (supervisor.returncode, output) == (2, "spec.token must be a string\n")


def test_it_names_an_entry_file_that_is_missing(start: Start, platform: Platform) -> None:
    assert start("", entry={"file": "fedml/other.py", "arguments": []}).wait(20) == 0
    assert platform.wait_status(STATUS, 7, "FAILED")["reason"] == "the package has no entry file fedml/other.py"
