"""The command line against a real server, with a configuration folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from pytest_django.live_server_helper import LiveServer

from deploy.local.stack import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "cli"))

from roundtable_cli.main import main

from accounts.tests.objects import make_device, make_project, make_user
from api.scopes import Scope
from api.tokens import token_create
from configurations.tests.conftest import store, uploads
from devices.models import Device
from runs.models import Project
from runs.tests.conftest import sent, stub

__all__ = ["sent", "store", "stub", "uploads"]


class Result(NamedTuple):
    """What a command printed, and its exit code."""

    exit_code: int
    out: str
    err: str


Roundtable = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command line keeps its credentials."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("ROUNDTABLE_URL", "ROUNDTABLE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Roundtable:
    """Run a command as a shell would: arguments in, exit code and output out."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["roundtable", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code: Any = ended.value.code
        return Result(int(code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def ada(transactional_db: None) -> User:
    return make_user("ada")


@pytest.fixture
def project(ada: User) -> Project:
    return make_project(ada, "Digits")


@pytest.fixture
def device(ada: User, project: Project) -> Device:
    return make_device(ada, "ward-north")


@pytest.fixture
def token(ada: User) -> str:
    return token_create(user=ada, name="laptop", scopes=Scope.values)[1]


@pytest.fixture
def logged_in(cli: Roundtable, live_server: LiveServer, token: str, monkeypatch: pytest.MonkeyPatch) -> Roundtable:
    """A command line that acts for ada."""
    monkeypatch.setenv("ROUNDTABLE_URL", live_server.url)
    monkeypatch.setenv("ROUNDTABLE_TOKEN", token)
    return cli
