"""The HTTP interface of instances, ``docs/protocol.md`` section 2: the model store, log lines and training data."""

from __future__ import annotations

import logging
import re
from typing import cast

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from configurations.services import synthetic_data_path
from mlops_site.downloads import file_response
from mlops_site.interface import ApiError, bearer_token, interface
from runs import lifecycle
from runs.lifecycle import RunReporter
from runs.model_store import ModelRefused, model_for_reporter, model_keep, model_path
from runs.models import ModelKind, Run
from runs.telemetry.payloads import MESSAGE_MAX_BYTES, LogPayload, PayloadInvalid, payload_parse
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import Report, reports_store
from runs.telemetry.topics import Kind

logger = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROUND = re.compile(r"-1|0|[1-9][0-9]{0,8}")


@interface
@require_POST
def models_post(request: HttpRequest, run_id: int) -> JsonResponse:
    """Keep the weights in the body as the calling reporter's model of a round."""
    reporter = _reporter(request, run_id)
    kind, round_index, sha256 = _model_parameters(request, reporter)
    length = request.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length) > settings.MODEL_MAX_BYTES:
        raise ApiError(413, f"The model is larger than the {settings.MODEL_MAX_BYTES // 2**20} MiB that are allowed.")
    try:
        model, is_new = model_keep(
            run_id=run_id,
            edge_id=reporter.edge_id,
            kind=kind,
            round_index=round_index,
            sha256=sha256,
            body=request,
        )
    except ModelRefused as refusal:
        raise ApiError(413 if refusal.too_large else 400, str(refusal)) from refusal
    except Run.DoesNotExist as error:
        raise ApiError(404, "This run was deleted.") from error
    return JsonResponse({"key": model.key, "sha256": model.sha256, "size": model.size}, status=201 if is_new else 200)


@interface
@require_GET
def models_get(request: HttpRequest, run_id: int, key: str) -> HttpResponseBase:
    """Send the weights of a model that the calling reporter may read."""
    reporter = _reporter(request, run_id)
    model = model_for_reporter(reporter.run, reporter.edge_id, key)
    if model is None:
        raise ApiError(
            404, "There is no such model here. A client reads aggregated models and its own, the aggregator all."
        )
    try:
        return file_response(request, model_path(model), file_name=f"{model.key}.safetensors")
    except FileNotFoundError:
        logger.error("The bytes of model %s of run %d are missing in the store", model.key, run_id)
        raise ApiError(404, "The bytes of this model are missing in the platform's store; send it again.") from None


@interface
@require_GET
def initial_model_get(request: HttpRequest, run_id: int) -> JsonResponse:
    """Say which model the run starts from: ``{"model": {key, sha256, size} or null}``."""
    run = _reporter(request, run_id).run
    model = run.models.filter(key=run.initial_key).first() if run.initial_key else None
    if model is None:
        return JsonResponse({"model": None})
    return JsonResponse({"model": {"key": model.key, "sha256": model.sha256, "size": model.size}})


@interface
@require_POST
def logs_post(request: HttpRequest, run_id: int) -> JsonResponse:
    """Store log lines of the calling reporter. The same message again changes nothing."""
    reporter = _reporter(request, run_id)
    body = request.read(MESSAGE_MAX_BYTES + 1)
    if len(body) > MESSAGE_MAX_BYTES:
        raise ApiError(413, f"The body is larger than {MESSAGE_MAX_BYTES // 1024} KiB. Send fewer lines at once.")
    try:
        payload = cast(LogPayload, payload_parse(Kind.LOG, body))
    except PayloadInvalid as error:
        raise ApiError(400, f"The body is not as docs/protocol.md has it: {error}.") from error
    try:
        reports_store([Report(Kind.LOG, run_id, reporter.edge_id, payload)], SeriesBook())
    except Run.DoesNotExist as error:
        raise ApiError(404, "This run was deleted.") from error
    return JsonResponse({"accepted": len(payload.lines)})


@interface
@require_GET
def data_get(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Send the training data that was uploaded with the run's configuration."""
    copy = _reporter(request, run_id).run.configuration_copy
    sha256 = copy.get("synthetic_data_sha256") or ""
    if not sha256:
        raise ApiError(404, "No training data was uploaded with this run's configuration.")
    try:
        return file_response(
            request, synthetic_data_path(sha256), file_name=copy.get("synthetic_data_name") or "data.npz"
        )
    except FileNotFoundError:
        logger.error("The training data %s of run %d is missing in the store", sha256, run_id)
        raise ApiError(404, "The training data is missing in the platform's store; upload it again.") from None


def _reporter(request: HttpRequest, run_id: int) -> RunReporter:
    reporter = lifecycle.run_token_check(bearer_token(request))
    if reporter is None:
        raise ApiError(401, "This run token is not valid: it is wrong, of an earlier attempt, or its run has ended.")
    if reporter.run.pk != run_id:
        raise ApiError(403, "This token is good for another run.")
    return reporter


def _model_parameters(request: HttpRequest, reporter: RunReporter) -> tuple[ModelKind, int, str]:
    kind, round_text, sha256 = (request.GET.get(name, "") for name in ("kind", "round", "sha256"))
    if kind not in ModelKind.values:
        raise ApiError(400, "The parameter `kind` is `aggregated` or `client`.")
    if (kind == ModelKind.AGGREGATED) != (reporter.edge_id == 0):
        raise ApiError(403, "The aggregator stores aggregated models, and a client those of the kind `client`.")
    if not _ROUND.fullmatch(round_text):
        raise ApiError(400, "The parameter `round` is the number of the round, from 0 (or -1 before the first).")
    if not _SHA256.fullmatch(sha256):
        raise ApiError(400, "The parameter `sha256` is the digest of the body, as 64 hexadecimal digits in lower case.")
    return ModelKind(kind), int(round_text), sha256


urlpatterns = [
    path("api/runs/<int:run_id>/models", models_post, name="api_models"),
    path("api/runs/<int:run_id>/models/<str:key>", models_get, name="api_model"),
    path("api/runs/<int:run_id>/initial-model", initial_model_get, name="api_initial_model"),
    path("api/runs/<int:run_id>/logs", logs_post, name="api_logs"),
    path("api/runs/<int:run_id>/data", data_get, name="api_data"),
]
