"""The model store: what it takes, what it refuses, who reads what."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from safetensors.numpy import load as safetensors_load
from safetensors.numpy import save as safetensors_save

from configurations.services import synthetic_data_path
from runs.live import broadcast
from runs.live.frames import Frame
from runs.model_store import ModelRefused, model_keep, model_key
from runs.models import LogLine, Membership, ModelKind, Role, Run, RunDevice, StoredModel
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import INSTANCE, edges, report, run_end, run_make, user_make
from runs.tokens import run_token_digest, run_token_make

pytestmark = pytest.mark.django_db(transaction=True)

WEIGHTS = safetensors_save({"layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3)})
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Any) -> Path:
    """A store of the test's own."""
    settings.STORE_DIR = tmp_path / "store"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    (tmp_path / "uploads").mkdir()
    settings.STORAGES = {
        **django_settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": settings.STORE_DIR},
        },
    }
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def frames(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    sent: list[Frame] = []
    monkeypatch.setattr(broadcast, "frames_send", sent.extend)
    return sent


@dataclass
class Reporter:
    """An instance with its token."""

    run: Run
    edge_id: int

    def __post_init__(self) -> None:
        self.headers = {"authorization": f"Bearer {run_token_make(self.run, self.edge_id)}"}
        digest = run_token_digest(self.headers["authorization"])
        if self.edge_id == 0:
            Run.objects.filter(pk=self.run.pk).update(aggregator_token_hash=digest)
        else:
            RunDevice.objects.filter(run=self.run, edge_id=self.edge_id).update(token_hash=digest)

    def post(self, body: bytes = WEIGHTS, **parameters: Any) -> Any:
        """Store a model; parameters take the place of those that are right."""
        query = {
            "kind": "client" if self.edge_id else "aggregated",
            "round": "0",
            "sha256": hashlib.sha256(body).hexdigest(),
            **parameters,
        }
        return Client().post(
            f"/api/runs/{self.run.pk}/models",
            body,
            content_type="application/octet-stream",
            query_params=query,
            headers=self.headers,
        )

    def get(self, key: str) -> Any:
        return Client().get(f"/api/runs/{self.run.pk}/models/{key}", headers=self.headers)

    def may_get(self, key: str) -> bool:
        response = self.get(key)
        response.close()
        assert response.status_code in (200, 404)
        return bool(response.status_code == 200)


@pytest.fixture
def run() -> Run:
    return run_make()


@pytest.fixture
def aggregator(run: Run) -> Reporter:
    return Reporter(run, 0)


@pytest.fixture
def clients(run: Run) -> list[Reporter]:
    return [Reporter(run, edge) for edge in edges(run)]


def files(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    )


@pytest.fixture
def nothing_kept(store: Path) -> Iterator[None]:
    """After the test nothing was stored, neither a row nor a file, whole or half."""
    yield
    assert StoredModel.objects.count() == 0
    assert files(store) == []
    assert files(store.parent / "uploads") == []


def error_of(response: Any) -> str:
    return str(json.loads(response.content)["error"])


def body_of(response: Any) -> bytes:
    return b"".join(response.streaming_content)


def items_of(frames: list[Frame]) -> list[dict[str, Any]]:
    return [item for frame in frames for item in orjson.loads(f"[{frame.data}]")]


def test_a_model_is_kept_told_and_read_back(aggregator: Reporter, store: Path, frames: list[Frame]) -> None:
    response = aggregator.post(round="2")
    assert response.status_code == 201
    key = f"aggregated-0-2-{SHA256[:12]}"
    assert response.json() == {"key": key, "sha256": SHA256, "size": len(WEIGHTS)}
    assert files(store) == [f"models/{aggregator.run.pk}/{SHA256}.safetensors"]
    (item,) = items_of(frames)
    assert (item["t"], item["kind"], item["round_index"], item["size"]) == ("model", "aggregated", 2, len(WEIGHTS))
    read = aggregator.get(key)
    assert read.headers["Content-Length"] == str(len(WEIGHTS))
    assert safetensors_load(body_of(read))["layer.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_same_model_again_changes_nothing(aggregator: Reporter, store: Path, frames: list[Frame]) -> None:
    first, again = aggregator.post(), aggregator.post()
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert StoredModel.objects.count() == 1
    assert len(frames) == 1
    other = aggregator.post(round="1")
    assert other.json()["key"] != first.json()["key"]
    assert len(files(store)) == 1, "the same bytes are stored once"


def test_the_same_model_at_the_same_moment_is_one(aggregator: Reporter, store: Path) -> None:
    answers: list[int] = []

    def post() -> None:
        answers.append(aggregator.post().status_code)
        connection.close()

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 5 + [201]
    assert StoredModel.objects.count() == 1
    assert len(files(store)) == 1
    assert files(store.parent / "uploads") == []


@pytest.mark.parametrize("announced_first", [True, False])
def test_what_is_announced_and_what_is_sent_become_one_row(
    clients: list[Reporter], frames: list[Frame], announced_first: bool
) -> None:
    client = clients[0]
    message = {"instance": INSTANCE, "seq": 1, "round_index": 0, "kind": "client", "key": "?", "sha256": SHA256}
    message |= {"size": 1, "metrics": {"accuracy": 0.5}}

    def announce() -> None:
        reports_store([report(client.run, client.edge_id, Kind.MODEL, message)], SeriesBook())

    steps = [announce, client.post]
    for step in steps if announced_first else reversed(steps):
        step()
    model = StoredModel.objects.get()
    assert model.key == model_key("client", client.edge_id, 0, SHA256)
    assert (model.size, model.metrics) == (len(WEIGHTS), {"accuracy": 0.5})
    last = items_of(frames)[-1]
    assert (last["size"], last["metrics"]) == (len(WEIGHTS), {"accuracy": 0.5})
    assert last["url"] == f"/runs/{client.run.pk}/models/{model.pk}/download"


def test_a_model_that_is_only_announced_cannot_be_read(clients: list[Reporter]) -> None:
    client = clients[0]
    message = {"instance": INSTANCE, "seq": 1, "round_index": 0, "kind": "client", "sha256": SHA256, "size": 1}
    reports_store([report(client.run, client.edge_id, Kind.MODEL, message)], SeriesBook())
    assert client.get(StoredModel.objects.get().key).status_code == 404


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_kept")
def test_another_digest_is_refused(aggregator: Reporter) -> None:
    response = aggregator.post(sha256="0" * 64)
    assert response.status_code == 400
    assert "do not have the digest" in error_of(response)


@pytest.mark.usefixtures("nothing_kept")
def test_too_large_a_model_is_refused_whether_it_says_so_or_not(aggregator: Reporter, settings: Any) -> None:
    settings.MODEL_MAX_BYTES = len(WEIGHTS) - 1
    assert aggregator.post().status_code == 413
    with pytest.raises(ModelRefused, match="larger than") as caught:
        model_keep(
            run_id=aggregator.run.pk,
            edge_id=0,
            kind=ModelKind.AGGREGATED,
            round_index=0,
            sha256=SHA256,
            body=io.BytesIO(WEIGHTS),
        )
    assert caught.value.too_large


@pytest.mark.usefixtures("nothing_kept")
def test_what_is_not_safetensors_is_refused(aggregator: Reporter) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    for body in (b"", b"x", pickle.dumps({"a": 1}), buffer.getvalue(), WEIGHTS[:-1], WEIGHTS + b"\0"):
        response = aggregator.post(body)
        assert response.status_code == 400
        assert error_of(response).startswith("This is not a safetensors file: ")


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"kind": "client"}, 403),
        ({"kind": "other"}, 400),
        ({"kind": ""}, 400),
        ({"round": "-2"}, 400),
        ({"round": "1.5"}, 400),
        ({"round": "01"}, 400),
        ({"round": "9999999999"}, 400),
        ({"round": "\u0661"}, 400),
        ({"sha256": SHA256.upper()}, 400),
        ({"sha256": f"../{SHA256}"}, 400),
        ({"sha256": SHA256 + "\n"}, 400),
        ({"sha256": ""}, 400),
    ],
)
def test_bad_parameters_are_refused(aggregator: Reporter, parameters: dict[str, Any], status: int) -> None:
    response = aggregator.post(**parameters)
    assert response.status_code == status
    assert error_of(response).endswith((".", ")."))


@pytest.mark.usefixtures("nothing_kept")
def test_tokens_that_are_not_good_are_refused(aggregator: Reporter, clients: list[Reporter]) -> None:
    other = Reporter(run_make(), 0)
    url = f"/api/runs/{aggregator.run.pk}/models?kind=aggregated&round=0&sha256={SHA256}"
    for headers, status in (
        ({}, 401),
        ({"authorization": "Basic abc"}, 401),
        ({"authorization": "Bearer rtr_1_0_" + "0" * 64}, 401),
        (other.headers, 403),
        (clients[0].headers, 403),
    ):
        response = Client().post(url, WEIGHTS, content_type="application/octet-stream", headers=headers)
        assert response.status_code == status
        assert error_of(response)
    run_end(aggregator.run)
    assert aggregator.post().status_code == 401
    assert Client().get(url, headers=aggregator.headers).status_code == 405


def test_a_client_reads_aggregated_models_and_its_own(aggregator: Reporter, clients: list[Reporter]) -> None:
    mine, other = clients
    aggregated = aggregator.post().json()["key"]
    own = mine.post().json()["key"]
    assert [mine.may_get(key) for key in (aggregated, own)] == [True, True]
    assert [other.may_get(key) for key in (aggregated, own)] == [True, False]
    assert aggregator.may_get(own)
    assert not mine.may_get("client-0-0-000000000000")


@pytest.mark.parametrize("key", ["..", "../../secret_key", "%2e%2e%2fsecret_key", "a%00b", "x" * 300])
def test_a_key_is_a_name_and_never_a_path(aggregator: Reporter, key: str) -> None:
    aggregator.post()
    assert not aggregator.may_get(key)


def test_a_file_that_went_missing_is_said_so(aggregator: Reporter, store: Path) -> None:
    key = aggregator.post().json()["key"]
    (store / files(store)[0]).unlink()
    response = aggregator.get(key)
    assert response.status_code == 404
    assert "send it again" in error_of(response)
    assert aggregator.post().status_code == 200
    assert aggregator.may_get(key)


# --- people ---------------------------------------------------------------------------------------------------------


def test_a_member_downloads_a_model(aggregator: Reporter, run: Run) -> None:
    aggregator.post(round="3")
    model = StoredModel.objects.get()
    url = f"/runs/{run.pk}/models/{model.pk}/download"
    viewer, stranger = user_make(), user_make()
    Membership.objects.create(project=run.project, user=viewer, role=Role.VIEWER)
    client = Client()
    assert client.get(url).status_code == 302
    client.force_login(stranger)
    assert client.get(url).status_code == 404
    client.force_login(viewer)
    response = client.get(url)
    assert body_of(response) == WEIGHTS
    name = f"run-{run.pk}-aggregated-0-3-{SHA256[:12]}.safetensors"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert client.post(url).status_code == 405
    other = run_make(user=viewer)
    assert client.get(f"/runs/{other.pk}/models/{model.pk}/download").status_code == 404
    StoredModel.objects.update(storage_name="")
    assert client.get(url).status_code == 404


# --- logs and data --------------------------------------------------------------------------------------------------


def post_logs(reporter: Reporter, body: Any) -> Any:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    url = f"/api/runs/{reporter.run.pk}/logs"
    return Client().post(url, data, content_type="application/json", headers=reporter.headers)


def test_lines_are_posted_once(clients: list[Reporter]) -> None:
    client = clients[0]
    lines = [{"seq": 1, "time": 5.0, "stream": "stdout", "line": "WARNING hot"}]
    message = {"instance": INSTANCE, "seq": 1, "lines": lines}
    for _ in range(2):
        response = post_logs(client, message)
        assert (response.status_code, response.json()) == (200, {"accepted": 1})
    (line,) = LogLine.objects.all()
    assert (line.reporter, line.level, line.line) == (f"edge:{client.edge_id}", "WARNING", "WARNING hot")


def test_bad_lines_are_refused(clients: list[Reporter]) -> None:
    assert post_logs(clients[0], b"{").status_code == 400
    response = post_logs(clients[0], {"instance": INSTANCE, "seq": 1, "lines": [{"time": 1, "stream": "stdout"}]})
    assert response.status_code == 400
    assert "lines[0].line: Field required" in error_of(response)
    assert post_logs(clients[0], b" " * (1024 * 1024 + 1)).status_code == 413
    assert LogLine.objects.count() == 0


def test_training_data_is_sent_to_the_runs_reporters(clients: list[Reporter], run: Run, store: Path) -> None:
    url = f"/api/runs/{run.pk}/data"
    client = clients[0]
    assert "No training data" in error_of(Client().get(url, headers=client.headers))
    sha256 = "ab" * 32
    Run.objects.update(configuration_copy={"synthetic_data_sha256": sha256, "synthetic_data_name": "digits.csv"})
    assert "missing" in error_of(Client().get(url, headers=client.headers))
    path = store / "data" / sha256[:2] / sha256
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1,2\n")
    assert synthetic_data_path(sha256) == path
    response = Client().get(url, headers=client.headers)
    assert body_of(response) == b"1,2\n"
    assert response.headers["Content-Disposition"] == 'attachment; filename="digits.csv"'
    assert Client().get(url).status_code == 401
