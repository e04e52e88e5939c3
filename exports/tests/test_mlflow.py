"""A run sent to a real MLflow server, and what is said of servers that are none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from alerts.tests.receivers import HookReceiver, hook_receiver
from exports import tasks
from exports.models import ExportState, MlflowExport
from runs.models import Role, Run
from runs.tests.rows import edges, user_make
from tests.platform import CACHE, wait_for
from tests.servers import free_port

MLFLOW = "mlflow==3.17.2"


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server, from a virtual environment of its own that is kept for the next time."""
    venv = CACHE / "mlflow"
    if not (venv / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "-q", MLFLOW], check=True)
        (venv / "installed").touch()
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    command = [str(venv / "bin/mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store]
    log = (folder / "log").open("wb")
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # else it has seven more processes
    server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, (folder / "log").read_text()
        try:
            return bool(urllib.request.urlopen(f"{url}/health", timeout=5).status == 200)
        except OSError:
            return False

    try:
        wait_for("MLflow", answers, seconds=180)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # it has children, and takes long to leave
        server.wait(30)
        log.close()


@pytest.fixture(autouse=True)
def _loopback_allowed(settings: Settings) -> None:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]


def send(run: Run, url: str, token: str = "") -> MlflowExport:
    export = MlflowExport.objects.create(run=run, url=url, experiment="Digits", token=token)
    tasks.mlflow_send(export_id=export.pk)
    export.refresh_from_db()
    return export


def ask(url: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_mlflow_has_the_run_once_however_often_it_is_sent(run: Run, mlflow_url: str) -> None:
    first = send(run, mlflow_url)
    assert (first.problem, first.state, first.points_sent, first.points_total) == ("", ExportState.DONE, 7, 7)
    MlflowExport.objects.update(state=ExportState.SENDING)  # as a worker that was killed leaves it
    tasks.mlflow_send(export_id=first.pk)
    experiment = ask(mlflow_url, "experiments/get-by-name?experiment_name=Digits")["experiment"]["experiment_id"]
    [there] = ask(mlflow_url, "runs/search", {"experiment_ids": [experiment]})["runs"]
    assert there["info"]["run_id"] == first.mlflow_run_id
    assert (there["info"]["run_name"], there["info"]["status"]) == ("quiet heron/7", "RUNNING")
    assert {row["key"]: row["value"] for row in there["data"]["params"]} == {"modelName": "lr", "lr": "0.03"}
    tags = {row["key"]: row["value"] for row in there["data"]["tags"]}
    assert tags["roundtable.client_package"] == run.client_package.sha256
    history = f"metrics/get-history?run_id={first.mlflow_run_id}&metric_key="
    loss = ask(mlflow_url, f"{history}device-1/loss")["metrics"]
    assert [(row["step"], row["value"]) for row in loss] == [(0, 1.25), (1, 0.75)]
    accuracy = ask(mlflow_url, f"{history}acc")["metrics"]
    assert [row["step"] for row in accuracy] == [0, 1, 2, 2]
    files = ask(mlflow_url, f"artifacts/list?run_id={first.mlflow_run_id}")["files"]
    assert [file["path"] for file in files] == ["roundtable.json"]
    assert edges(run)  # its devices are as they were


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with hook_receiver() as receiver:
        yield receiver


def test_what_is_no_mlflow_server_is_said_and_the_token_forgotten(run: Run, receiver: HookReceiver) -> None:
    export = send(run, receiver.url.rpartition("/hooks")[0], token="secret-word")
    assert (export.state, export.token) == (ExportState.FAILED, "")
    assert "answered 501" in export.problem
    assert "secret-word" not in export.problem


def test_a_server_that_is_away_is_said(run: Run) -> None:
    export = send(run, f"http://127.0.0.1:{free_port()}")
    assert export.state == ExportState.FAILED
    assert export.problem == "127.0.0.1 could not be reached: [Errno 111] Connection refused."


def test_networks_that_are_not_allowed_are_not_reached(run: Run, settings: Settings) -> None:
    settings.OUTBOUND_NETWORKS = []
    assert "is not a public address" in send(run, "http://127.0.0.1:1").problem


@pytest.mark.parametrize(
    "url", ["mlflow.example.org", "https://user:word@mlflow.example.org", "ftp://x", "http://[::1"]
)
def test_an_address_that_is_none_is_refused_by_the_form(run: Run, url: str) -> None:
    client = Client()
    client.force_login(run.project.memberships.get().user)
    answer = client.post(reverse("run_export", args=[run.pk]), {"url": url, "experiment": "Digits"})
    assert list(answer.context["form"].errors) == ["url"]
    assert not MlflowExport.objects.exists()


def test_viewers_download_and_members_send(run: Run) -> None:
    viewer, stranger = user_make("vera"), user_make("mallory")
    run.project.memberships.create(user=viewer, role=Role.VIEWER)
    path = reverse("run_export", args=[run.pk])
    form = {"url": "https://mlflow.example.org", "experiment": "Digits", "token": "word"}
    for user, seen, sent in ((viewer, 200, 403), (stranger, 404, 404)):
        client = Client()
        client.force_login(user)
        assert client.get(path).status_code == seen
        assert client.post(path, form).status_code == sent
    client.force_login(run.project.memberships.get(role=Role.OWNER).user)
    assert client.post(path, form).status_code == 302
    export = MlflowExport.objects.get()
    assert (export.url, export.state) == ("https://mlflow.example.org", ExportState.WAITING)
    page = client.get(path).content.decode()
    assert "Waiting" in page
    assert 'value="word"' not in page
