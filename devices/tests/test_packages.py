"""``GET /api/edge/packages/{sha256}``: the bytes of a package for those who run it, and for nobody else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import AsyncClient, Client
from pytest_django import Settings

from configurations.models import Package
from devices.models import Device
from devices.tests.conftest import SECRET
from devices.tokens import device_token
from runs.models import Run
from runs.states import RunState
from runs.tokens import run_token_digest, run_token_make

CONTENT = bytes(range(256)) * 4000  # several pieces


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Settings) -> None:
    settings.STORE_DIR = tmp_path
    backend = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = settings.STORAGES | {"default": {"BACKEND": backend, "OPTIONS": {"location": tmp_path}}}


@pytest.fixture
def package_fill(store: None) -> Callable[[Package], str]:
    """Give a package bytes, and return their digest."""

    def fill(package: Package) -> str:
        content = CONTENT + str(package.pk).encode()
        package.sha256 = hashlib.sha256(content).hexdigest()
        package.storage_name = default_storage.save(f"packages/{package.sha256}.zip", ContentFile(content))
        package.size = len(content)
        package.save()
        return package.sha256

    return fill


def get(sha256: str, token: str) -> tuple[int, bytes]:
    response = Client().get(f"/api/edge/packages/{sha256}", headers={"Authorization": f"Bearer {token}"})
    return response.status_code, response.getvalue()


def test_a_device_of_an_active_run_gets_its_client_package(
    device: Device, token: str, run_make: Callable[..., Run], package_fill: Callable[[Package], str]
) -> None:
    sha256 = package_fill(run_make(device).client_package)
    status, content = get(sha256, token)
    assert status == 200
    assert hashlib.sha256(content).hexdigest() == sha256


async def test_it_is_sent_in_pieces_by_an_asgi_server(
    transactional_db: None,
    device: Device,
    token: str,
    run_make: Callable[..., Run],
    package_fill: Callable[[Package], str],
) -> None:
    sha256 = await sync_to_async(lambda: package_fill(run_make(device).client_package))()
    response = await AsyncClient().get(f"/api/edge/packages/{sha256}", headers={"Authorization": f"Bearer {token}"})
    pieces = [piece async for piece in response]  # type: ignore[attr-defined]
    assert len(pieces) > 3
    assert hashlib.sha256(b"".join(pieces)).hexdigest() == sha256
    assert response["Content-Length"] == str(sum(map(len, pieces)))


def test_an_instance_gets_the_package_of_its_side(
    device: Device, run_make: Callable[..., Run], package_fill: Callable[[Package], str]
) -> None:
    run = run_make(device, attempt_id="a")
    server, client = package_fill(run.server_package), package_fill(run.client_package)
    tokens = {edge_id: run_token_make(run, edge_id) for edge_id in (0, device.pk)}
    Run.objects.update(aggregator_token_hash=run_token_digest(tokens[0]))
    run.run_devices.update(token_hash=run_token_digest(tokens[device.pk]))
    assert [get(sha256, tokens[0])[0] for sha256 in (server, client)] == [200, 404]
    assert [get(sha256, tokens[device.pk])[0] for sha256 in (server, client)] == [404, 200]


@pytest.mark.parametrize("state", [RunState.CREATED, RunState.FINISHED, RunState.FAILED, RunState.KILLED])
def test_a_run_that_is_not_active_gives_nothing(
    state: RunState,
    device: Device,
    token: str,
    run_make: Callable[..., Run],
    package_fill: Callable[[Package], str],
) -> None:
    sha256 = package_fill(run_make(device, state=state).client_package)
    assert get(sha256, token)[0] == 404


def test_another_device_gets_nothing(
    device: Device,
    device_make: Callable[..., Device],
    run_make: Callable[..., Run],
    package_fill: Callable[[Package], str],
) -> None:
    sha256 = package_fill(run_make(device).client_package)
    other = device_make("other")
    run_make(other)
    status, content = get(sha256, device_token(other.pk, SECRET))
    assert status == 404
    assert content == b'{"error": "No active run in which this token\'s holder takes part uses this package."}'


@pytest.mark.parametrize("token", ["wrong", "rtd_1_wrong", "rtr_1_1_" + "0" * 64])
def test_a_wrong_token_gets_nothing(
    token: str, device: Device, run_make: Callable[..., Run], package_fill: Callable[[Package], str]
) -> None:
    sha256 = package_fill(run_make(device).client_package)
    assert get(sha256, token)[0] == 401


def test_a_signed_in_person_gets_nothing(client: Client, device: Device, run_make: Callable[..., Run]) -> None:
    client.force_login(device.owner)
    assert client.get(f"/api/edge/packages/{run_make(device).client_package.sha256}").status_code == 401


@pytest.mark.parametrize("name", ["0" * 64, "..", "x", "%2e%2e%2fsecret_key"])
def test_an_unknown_name_is_not_found(name: str, device: Device, token: str, run_make: Callable[..., Run]) -> None:
    run_make(device)
    assert get(name, token)[0] == 404


def test_a_package_that_the_store_has_lost_is_said_so(device: Device, token: str, run_make: Callable[..., Run]) -> None:
    run = run_make(device)
    assert get(run.client_package.sha256, token) == (
        404,
        b'{"error": "This package is missing in the platform\'s store; upload it again."}',
    )


def test_another_method_is_refused(token: str) -> None:
    assert Client().post(f"/api/edge/packages/{'0' * 64}").status_code == 405
