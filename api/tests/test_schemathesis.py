"""Every operation of the API with input made at random from its schema: no 500, and answers as the schema says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.tests.objects import make_device
from api.models import AccessToken
from api.scopes import Scope
from api.tokens import token_create
from configurations.models import Configuration
from devices.models import Device, EnrolmentCode
from devices.services import enrolment_code_create
from runs.lifecycle import run_create
from runs.models import Project, StoredModel

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SERVERS_AWAY = 503  # no broker and no Redis is up here
EXAMPLES = 6

application = get_wsgi_application()


def application_read(environ: Any, start_response: Any) -> list[bytes]:
    """Read each answer to its end and close it, as a server does."""
    answer = application(environ, start_response)
    try:
        return [b"".join(answer)]
    finally:
        answer.close()


schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application_read)


@pytest.fixture
def ids(owner: User, project: Project, device: Device, configuration: Configuration) -> dict[str, int]:
    """The ids of things that are there, by the names of the parameters that take them."""
    run = run_create(project=project, user=owner, configuration=configuration, device_ids=[device.pk])
    model = StoredModel.objects.create(
        run=run, edge_id=0, kind="aggregated", round_index=0, key="a0", sha256="0" * 64, size=1, storage_name=""
    )
    enrolment_code_create(owner)
    return {
        "project_id": project.pk,
        "membership_id": project.memberships.latest("pk").pk,
        "configuration_id": configuration.pk,
        "device_id": make_device(owner, "spare").pk,
        "code_id": EnrolmentCode.objects.get().pk,
        "run_id": run.pk,
        "model_id": model.pk,
        "token_id": AccessToken.objects.filter(user=owner).latest("pk").pk,
    }


@pytest.fixture
def token(owner: User) -> str:
    return token_create(user=owner, name="schemathesis", scopes=Scope.values)[1]


@pytest.fixture(autouse=True)
def _one_connection() -> Iterator[None]:
    """Requests share the connection, and with it the transaction, of the test, as with Django's own test client."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_it_answers_whatever_it_is_sent(case: Case[Any], token: str, ids: dict[str, int]) -> None:
    for name, value in (case.path_parameters or {}).items():
        if name in ids and str(value).isdecimal() and int(value) % 2:
            case.path_parameters[name] = ids[name]
    if "wait" in (case.query or {}):
        case.query["wait"] = 0
    response = case.call(headers={"Authorization": f"Bearer {token}"})
    if response.status_code != SERVERS_AWAY:
        case.validate_response(response, checks=CHECKS)
