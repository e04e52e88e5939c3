"""run.sh: what the person on the device types and reads."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from edge_harness import CODE, EDGE_FOLDER, Platform, PlatformServer, wait_for

PRESENCE = "edges/3/presence"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def bound(home: Path, server: PlatformServer, platform: Platform) -> Iterator["subprocess.Popen[str]"]:
    """A device that was bound by run.sh and whose agent is online."""
    process = subprocess.Popen(
        command(home, CODE, "--server", server.url, "--name", "porch"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: [found for found in platform.heard(PRESENCE) if found["state"] == "ONLINE"], what="ONLINE")
    yield process
    process.terminate()
    process.communicate(timeout=20)


def command(home: Path, *arguments: str) -> list[str]:
    return ["bash", str(EDGE_FOLDER / "run.sh"), "--home", str(home), *arguments]


def environment(**more: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "ROUNDTABLE_EDGE_VENV": sys.prefix, **more}


def run_sh(home: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    result = subprocess.run(
        command(home, *arguments), env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )
    print(result.stdout, result.stderr)
    return result


def tools(folder: Path, python: str = "") -> dict[str, str]:
    """Variables for a machine whose only python3 is this shell script, or that has none."""
    folder.mkdir()
    for name in ("bash", "dirname", "mkdir", "flock", "cat", "rm"):
        (folder / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    if python:
        (folder / "python3").write_text(f"#!/bin/bash\n{python}\n")
        (folder / "python3").chmod(0o755)
    return {"PATH": str(folder), "ROUNDTABLE_EDGE_VENV": ""}


def test_the_code_is_in_no_command_line_and_no_environment_of_the_agent(
    bound: "subprocess.Popen[str]", server: PlatformServer
) -> None:
    agent = psutil.Process(bound.pid)
    assert agent.cmdline()[1:4] == ["-m", "roundtable_agent", "run"]
    assert CODE not in " ".join(agent.cmdline())
    assert CODE not in "".join(agent.environ().values())
    assert server.enrolled[0]["name"] == "porch"


def test_check_prints_a_table_and_says_how_the_running_agent_is(bound: "subprocess.Popen[str]", home: Path) -> None:
    result = run_sh(home, "--check")
    assert result.returncode == 0
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()}
    assert {name: rows[name] for name in ("python", "venv", "disk", "server", "broker")} == dict.fromkeys(
        ("python", "venv", "disk", "server", "broker"), "ok"
    )
    assert f"the running agent (process {bound.pid}) is connected" in result.stdout
    bound.terminate()
    bound.communicate(timeout=20)
    assert "accepts the credential of agent-3" in run_sh(home, "--check").stdout


def test_a_server_that_does_not_answer_is_named(home: Path) -> None:
    result = run_sh(home, CODE, "--server", "http://127.0.0.1:9")
    expected = "cannot reach http://127.0.0.1:9/api/edge/enrol: [Errno 111] Connection refused\n"
    assert (result.returncode, result.stderr) == (1, expected)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 1, "holds no identity: bind this device with run.sh CODE --server URL"),
        ([CODE], 2, "run.sh: a code needs --server URL, the address of the platform that made it"),
        ([CODE, "--server", "ftp://x"], 1, "--server must be the platform's address, such as https://fl.example.org"),
        (["a/b", "--server", "http://x"], 1, "that is no enrolment code: copy the command from the page"),
        (["--sever"], 2, "run.sh: unknown option --sever; see run.sh --help"),
        (["--home"], 2, "run.sh: --home needs a value"),
    ],
)
def test_wrong_usage_is_answered_with_what_to_do(home: Path, arguments: list[str], status: int, sentence: str) -> None:
    result = run_sh(home, *arguments)
    assert result.returncode == status
    assert sentence in result.stderr


def test_a_machine_without_python_is_told_what_to_install(home: Path, tmp_path: Path) -> None:
    result = run_sh(home, **tools(tmp_path / "tools"))
    expected = "there is no python3: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
    assert (result.returncode, result.stderr) == (1, f"run.sh: {expected}\n")


def test_an_old_python_is_named(home: Path, tmp_path: Path) -> None:
    old = 'if [ "$1" = --version ]; then echo "Python 3.9.2"; else exit 1; fi'
    result = run_sh(home, **tools(tmp_path / "tools", old))
    expected = "python3 is Python 3.9.2, too old: install Python 3.11 or newer, or name one with PYTHON="
    assert (result.returncode, result.stderr) == (1, f"run.sh: {expected}\n")


def test_a_missing_venv_module_is_named(home: Path, tmp_path: Path) -> None:
    bare = 'case "$2" in *ensurepip*) exit 1 ;; *hashlib*) echo 0 ;; esac'
    result = run_sh(home, **tools(tmp_path / "tools", bare))
    expected = "python3 has no venv module: install it (Debian: apt-get install python3-venv)"
    assert (result.returncode, result.stderr) == (1, f"run.sh: {expected}\n")


def test_its_own_environment_is_made_once(home: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    python = (
        f'echo "$*" >> {calls}\n'
        'case "$*" in *hashlib*) echo digest ;;\n'
        f'"-m venv"*) mkdir -p "$3/bin" && ln -s "$0" "$3/bin/python" ;; esac'
    )
    variables = tools(tmp_path / "tools", python)
    (tmp_path / "tools" / "ln").symlink_to("/bin/ln")
    assert run_sh(home, "--check", **variables).returncode == 0
    assert run_sh(home, "--check", **variables).returncode == 0
    made = calls.read_text().splitlines()
    assert [line for line in made if line.startswith("-m venv")] == [f"-m venv {home}/.venv"]
    assert len([line for line in made if line.startswith("-m pip install")]) == 1
    assert len([line for line in made if line.startswith("-m roundtable_agent check")]) == 2
    assert home.stat().st_mode & 0o777 == 0o700
