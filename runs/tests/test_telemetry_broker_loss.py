"""The broker is restarted and killed while a program reports with the SDK: what ``log`` took is stored, each once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from devices.broker import device_credentials_create
from runs.models import Point, Run
from runs.tests.ingest_process import Publisher, ingest_process, is_subscribed, until
from runs.tests.rows import edges, run_make
from tests.servers import MosquittoServer

pytestmark = pytest.mark.django_db(transaction=True)

# Logs numbered points until it is asked to end, then says how many. What it logs while the broker is away counts too.
PROGRAM = """
import logging, sys, threading, time
import roundtable
logging.basicConfig(level=logging.INFO)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
count = 0
while not ended.is_set():
    roundtable.log({"n": count}, step=count)
    count += 1
    time.sleep(0.001)
print(count, roundtable.flush(60), flush=True)
roundtable.close()
"""


def program_start(run: Run, edge: int, broker: MosquittoServer, home: Path) -> subprocess.Popen[str]:
    """Start the program as an instance of the run on the device, with the device's own credential."""
    login = device_credentials_create(edge)
    (home / "conf").mkdir(parents=True)
    (home / "conf" / "mqtt_config.yaml").write_text(
        f'BROKER_HOST: "127.0.0.1"\nBROKER_PORT: {broker.port}\n'
        f'MQTT_USER: "{login.instance_user}"\nMQTT_PWD: "{login.instance_password}"\nMQTT_TLS: false\n'
    )
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(settings.BASE_DIR / "edge" / "sdk"),
            "ROUNDTABLE_URL": "http://127.0.0.1:1",
            "ROUNDTABLE_RUN_ID": str(run.pk),
            "ROUNDTABLE_EDGE_ID": str(edge),
            "ROUNDTABLE_TOKEN": "none",
            "ROUNDTABLE_HOME": str(home),
        },
    )


@pytest.mark.parametrize("ingest_dies_too", [False, True])
def test_what_a_program_logged_outlives_the_broker(tmp_path: Path, redis_url: str, ingest_dies_too: bool) -> None:
    """A clean restart, then two kills; in the second case the broker is killed while it holds what nobody stored."""
    run = run_make()
    edge = edges(run)[0]
    points = Point.objects.filter(series__run=run, series__edge_id=edge)

    def goes_on() -> None:
        before = points.count()
        until(lambda: points.count() > before)

    with (
        MosquittoServer(tmp_path) as broker,
        override_settings(MQTT_PORT=broker.port),
        ingest_process(broker) as worker,
    ):
        worker.start()
        publisher = Publisher()
        until(lambda: is_subscribed(publisher, run))
        publisher.close()
        program = program_start(run, edge, broker, tmp_path / "home")
        try:
            for end in (broker.stop, broker.kill, broker.kill):
                goes_on()
                if ingest_dies_too:
                    worker.end(signal.SIGKILL)
                    time.sleep(0.5)  # the broker takes what the program sends, for nobody
                end()
                broker.start()
                if ingest_dies_too:
                    worker.start()
            goes_on()
            said, complained = program.communicate("\n", timeout=90)
        finally:
            program.kill()
            program.wait()
        count, delivered = said.split()
        assert (delivered, program.returncode) == ("True", 0), complained
        until(lambda: points.count() >= int(count))
        worker.end()
    steps = list(points.order_by("step").values_list("step", "value"))
    assert steps == [(float(n), float(n)) for n in range(int(count))]
    assert "dropped" not in complained
