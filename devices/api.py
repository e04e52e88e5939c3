"""The HTTP interface of agents, ``docs/protocol.md`` section 2: binding, rotation, packages, and the agent itself."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import condition, require_POST, require_safe
from pydantic import ValidationError

from configurations.models import Package, PackageKind
from configurations.services import package_path
from devices.agent_archive import agent_archive
from devices.broker import BrokerError
from devices.models import Device
from devices.payloads import EnrolmentPayload
from devices.services import CodeUsed, Enrolment, EnrolmentRefused, device_enrol, device_from_token, device_rotate
from devices.throttle import WINDOW_SECONDS, enrolment_failed, enrolment_is_blocked
from mlops_site.downloads import file_response
from mlops_site.interface import ApiError, bearer_token, interface
from runs.states import RunState
from runs.tokens import run_token_check

ENROLMENT_MAX_BYTES = 64 * 1024
AGENT_FOLDER = settings.BASE_DIR / "edge"

logger = logging.getLogger(__name__)


@interface
@require_POST
def edge_enrol(request: HttpRequest) -> JsonResponse:
    """Bind a device by a one-time code and answer with its secrets."""
    address = str(request.META.get("REMOTE_ADDR", ""))
    if enrolment_is_blocked(address):
        minutes = WINDOW_SECONDS // 60
        raise ApiError(429, f"Too many enrolment attempts from this address have failed. Wait {minutes} minutes.")
    payload = _enrolment_read(request)
    try:
        enrolment = device_enrol(payload.code, payload.name, payload.host)
    except EnrolmentRefused as refusal:
        enrolment_failed(address)
        raise ApiError(409 if isinstance(refusal, CodeUsed) else 401, str(refusal)) from refusal
    except BrokerError as error:
        logger.warning("a device could not be bound: %s", error)
        raise ApiError(503, "The platform's MQTT broker does not answer. The code is still good: try again.") from error
    return JsonResponse(_secrets(enrolment))


@interface
@require_POST
def edge_rotate(request: HttpRequest) -> JsonResponse:
    """Give the calling device new secrets; its old ones end."""
    device = _device(request)
    try:
        return JsonResponse(_secrets(device_rotate(device)))
    except EnrolmentRefused as refusal:
        raise ApiError(409, str(refusal)) from refusal
    except BrokerError as error:
        logger.warning("credentials of device %d could not be rotated: %s", device.pk, error)
        raise ApiError(
            503, "The platform's MQTT broker does not answer. The device token is still good: try again."
        ) from error


@interface
@require_safe
def edge_package(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """Send a package to a device or an instance of an active run that is made of it."""
    package = _package_for(bearer_token(request), sha256)
    if package is None:
        raise ApiError(404, "No active run in which this token's holder takes part uses this package.")
    try:
        return file_response(
            request, package_path(package), file_name=f"package-{sha256[:12]}.zip", content_type="application/zip"
        )
    except FileNotFoundError:
        logger.error("package %s is not in the store", sha256)
        raise ApiError(404, "This package is missing in the platform's store; upload it again.") from None


def _agent_etag(request: HttpRequest) -> str:
    return f'"{agent_archive(AGENT_FOLDER).sha256}"'


@login_not_required
@require_safe
@condition(etag_func=_agent_etag)
def edge_archive(request: HttpRequest) -> HttpResponse:
    """Send the agent, for a machine without a clone of the repository."""
    archive = agent_archive(AGENT_FOLDER)
    return HttpResponse(
        archive.content,
        content_type="application/gzip",
        headers={
            "Cache-Control": "no-cache",
            "Content-Disposition": 'attachment; filename="roundtable-edge.tar.gz"',
        },
    )


@interface
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Whether this process answers and reaches its database."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        logger.exception("the database does not answer")
        raise ApiError(503, "The database does not answer.") from None
    return JsonResponse({"status": "ok"})


def _enrolment_read(request: HttpRequest) -> EnrolmentPayload:
    try:
        body = request.read(ENROLMENT_MAX_BYTES + 1)
        if len(body) > ENROLMENT_MAX_BYTES:
            raise ApiError(413, f"The body is larger than {ENROLMENT_MAX_BYTES // 1024} KiB.")
        return EnrolmentPayload.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        where = f" at {place}" if place else ""
        raise ApiError(400, f"The body is not as docs/protocol.md has it{where}: {problem['msg']}.") from error


def _device(request: HttpRequest) -> Device:
    device = device_from_token(bearer_token(request))
    if device is None:
        raise ApiError(401, "This device token is not valid: it was rotated, or the device was unbound. Bind it again.")
    return device


def _package_for(token: str, sha256: str) -> Package | None:
    """Return the package if the token's holder takes part in an active run that is made of it."""
    packages = Package.objects.filter(sha256=sha256)
    device = device_from_token(token)
    if device is not None:
        runs = device.run_devices.filter(run__state__in=RunState.active(), run__client_package__sha256=sha256)
        return packages.filter(kind=PackageKind.CLIENT).first() if runs.exists() else None
    reporter = run_token_check(token)
    if reporter is None:
        raise ApiError(401, "This token is not valid: it was rotated, or its run has ended.")
    own = reporter.run.server_package if reporter.edge_id == 0 else reporter.run.client_package
    return own if own.sha256 == sha256 else None


def _secrets(enrolment: Enrolment) -> dict[str, Any]:
    credentials = enrolment.credentials
    return {
        "edge_id": enrolment.device.pk,
        "device_token": enrolment.token,
        "mqtt": {
            "host": settings.MQTT_PUBLIC_HOST,
            "port": settings.MQTT_PUBLIC_PORT,
            "tls": settings.MQTT_PUBLIC_TLS,
        },
        "agent_mqtt": {"username": credentials.agent_user, "password": credentials.agent_password},
        "instance_mqtt": {"username": credentials.instance_user, "password": credentials.instance_password},
        "registry": _registry(),
    }


def _registry() -> dict[str, str] | None:
    """Return the registry that images come from, with the login that may pull; without one None."""
    if not settings.REGISTRY:
        return None
    return {
        "address": settings.REGISTRY.partition("/")[0],
        "username": settings.REGISTRY_PULL_USER,
        "password": settings.REGISTRY_PULL_PASSWORD,
    }
