"""Logging in and out: the token is checked, kept for its owner alone, and revoked."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_django.live_server_helper import LiveServer

from api.models import AccessToken
from deploy.local.stack import REPOSITORY
from tests.cli.conftest import Roundtable


def test_a_login_keeps_the_token_for_its_owner_alone(
    cli: Roundtable, live_server: LiveServer, token: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{token}\n"))
    result = cli("login", live_server.url, "--token-stdin")
    assert result.exit_code == 0, result.err
    assert "Logged in as ada." in result.out
    path = home / "config" / "roundtable" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"url": live_server.url, "token": token}
    shown = cli("whoami", "--json")
    assert (json.loads(shown.out)["username"], token in shown.out) == ("ada", False)

    assert cli("logout").exit_code == 0
    assert (path.exists(), AccessToken.objects.count()) == (False, 0)
    assert cli("whoami").exit_code == 3


def test_a_wrong_token_is_not_kept(
    cli: Roundtable, live_server: LiveServer, token: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{token}x\n"))
    result = cli("login", live_server.url, "--token-stdin")
    assert (result.exit_code, result.out) == (3, "")
    assert "This token is wrong" in result.err
    assert not (home / "config").exists()


def test_a_platform_that_is_away_is_named_as_that(cli: Roundtable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundtable_cli.client.time.sleep", lambda seconds: None)
    monkeypatch.setenv("ROUNDTABLE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ROUNDTABLE_TOKEN", "rtp_1_x")
    result = cli("runs", "list")
    assert (result.exit_code, result.out) == (6, "")
    assert result.err.startswith("Error: The platform cannot be reached")


def test_it_runs_from_a_clone_and_completes_in_every_shell() -> None:
    folder = REPOSITORY / "cli"
    shown = subprocess.run(
        [sys.executable, "-m", "roundtable_cli", "--version"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "roundtable 0.1.0\n"


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete --")])
def test_there_is_completion_for(shell: str, word: str, cli: Roundtable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ROUNDTABLE_COMPLETE", f"source_{shell}")
    result = cli()
    assert result.exit_code == 0
    assert word in result.out
