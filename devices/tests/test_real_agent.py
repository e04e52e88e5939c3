"""The agent of ``edge/`` against the platform's own interface, served over HTTP, and a real broker."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings as platform_settings
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from devices.models import Device
from devices.payloads import PresencePayload
from devices.presence import presence_apply
from devices.services import enrolment_code_create
from devices.tests.mqtt import Mqtt, platform
from tests.servers import MosquittoServer

SECONDS = 30.0
VENV = Path(sys.executable).parent.parent


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROUNDTABLE_")}
    return kept | {"ROUNDTABLE_EDGE_VENV": str(VENV), "HOME": str(home)}


@contextmanager
def agent(program: Path, home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent until the block ends."""
    with (home / "console.log").open("ab") as console:
        process = subprocess.Popen(
            [str(program), *arguments, "--home", str(home)],
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)


def presence_next(listener: Mqtt) -> tuple[int, PresencePayload]:
    """Return the next presence message, as ingest would apply it."""
    topic, payload = listener.received.get(timeout=SECONDS)
    edge_id = re.fullmatch(r"edges/(\d+)/presence", topic)
    assert edge_id is not None
    return int(edge_id[1]), PresencePayload.model_validate_json(payload)


@pytest.mark.django_db(transaction=True)
def test_the_downloaded_agent_binds_itself_comes_online_rotates_and_leaves(
    tmp_path: Path, live_server: LiveServer, broker: MosquittoServer, redis_url: str
) -> None:
    archive = Client().get("/edge/agent.tar.gz").content
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path, filter="data")
    program, home = tmp_path / "roundtable-edge" / "run.sh", tmp_path / "home"
    home.mkdir()
    owner = User.objects.create_user("owner")
    code = enrolment_code_create(owner)

    with platform() as listener:
        listener.subscribe("edges/+/presence")
        with agent(program, home, code, "--server", live_server.url, "--name", "lab-east"):
            edge_id, presence = presence_next(listener)
            device = Device.objects.get(pk=edge_id)
            assert (device.owner, device.name, device.python) == (
                owner,
                "lab-east",
                ".".join(map(str, sys.version_info[:3])),
            )
            assert presence_apply(edge_id, presence, retained=False) is True
            device.refresh_from_db()
            assert device.online is True
            assert device.agent_version != ""
            assert device.memory_bytes > 0

            rotated = subprocess.run(
                [str(program), "--rotate", "--home", str(home)],
                env=environment(home),
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
            assert rotated.returncode == 0, rotated.stderr
            assert Device.objects.get().token_hash != device.token_hash
            rotated_at = Device.objects.get().credentials_rotated_at.timestamp()
            # It was cut off, and comes back with its new credential.
            while (presence := presence_next(listener)[1]).time is None or presence.time <= rotated_at:
                pass
        while (presence := presence_next(listener)[1]).state != "OFFLINE":
            pass
        assert presence_apply(edge_id, presence, retained=False) is True
    log = (home / "console.log").read_text()
    assert code not in log
    assert str(platform_settings.MQTT_PASSWORD) not in log
