"""The local process group's ports: free ones, those that are asked for, and the same again the next time."""

import socket
from pathlib import Path

import pytest

from deploy.local.stack import REPOSITORY, LocalStack, StackError
from tests.servers import free_port


def test_a_port_that_is_asked_for_is_taken_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("WEB_PORT", str(port))
    first = LocalStack(tmp_path)
    assert (first.ports.web, first.ports_changed) == (port, True)
    monkeypatch.delenv("WEB_PORT")
    again = LocalStack(tmp_path)
    assert (again.ports, again.ports_changed) == (first.ports, False)


def test_a_kept_port_that_is_taken_meanwhile_is_changed(tmp_path: Path) -> None:
    first = LocalStack(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.ports.web))
        other.listen()
        again = LocalStack(tmp_path)
    assert again.ports_changed
    assert again.ports.web != first.ports.web


@pytest.mark.parametrize("text", ["0", "70000", "http"])
def test_what_is_no_port_is_refused_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BROKER_PORT", text)
    with pytest.raises(StackError, match=f"BROKER_PORT={text} is no port"):
        LocalStack(tmp_path)


def test_a_port_that_somebody_has_is_refused_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("REDIS_PORT", str(port))
        with pytest.raises(StackError, match=f"Port {port} is taken"):
            LocalStack(tmp_path)


def test_live_frames_are_not_compressed_once_for_every_viewer() -> None:
    """What a frame holds is encoded once; each socket's own deflate would cost the web process its time again."""
    lines = (REPOSITORY / "deploy/local/Procfile").read_text().splitlines()
    (web,) = [line.split() for line in lines if line.startswith("web:")]
    assert web[web.index("--ws-per-message-deflate") + 1] == "false"
