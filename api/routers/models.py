"""Models of a run: aggregated ones and those of clients."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, Literal

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema

from api.auth import READ, user_of
from api.schemas import Id, Page, PageQuery, rows_page, sort_query
from mlops_site.downloads import file_response
from mlops_site.lists import ListSpec
from runs.access import run_for_user
from runs.live.payloads import model_item
from runs.model_store import model_path
from runs.models import ModelKind, StoredModel

router = Router()
logger = logging.getLogger(__name__)

MODELS = ListSpec(
    search=("key", "sha256"),
    sorts={"round": "round_index", "size": "size", "created": "created_at"},
    default_sort="-created",
)


class ModelOut(Schema):
    """Weights of one round."""

    id: int
    kind: ModelKind
    edge_id: int = Field(description="0: the aggregator")
    round_index: int
    key: str
    sha256: str
    size: int = Field(description="bytes")
    metrics: dict[str, Any]
    created_at: datetime
    stored: bool = Field(description="whether the weights have arrived")


@router.get("/runs/{run_id}/models", auth=READ, response=Page[ModelOut], summary="List a run's models")
def model_list(
    request: HttpRequest,
    run_id: Id,
    query: Query[PageQuery],
    sort: str = sort_query(MODELS),
    kind: Literal["", "aggregated", "client"] = "",
) -> dict[str, Any]:
    """The newest first."""
    found = StoredModel.objects.filter(run=run_for_user(user_of(request), run_id))
    rows, page = rows_page(found.filter(kind=kind) if kind else found, MODELS, query, sort)
    return {"items": [_model_out(row) for row in rows], **page}


@router.get("/runs/{run_id}/models/{model_id}", auth=READ, response=ModelOut, summary="Show a model")
def model_show(request: HttpRequest, run_id: Id, model_id: Id) -> ModelOut:
    return _model_out(get_object_or_404(StoredModel, pk=model_id, run=run_for_user(user_of(request), run_id)))


@router.get(
    "/runs/{run_id}/models/{model_id}/file",
    auth=READ,
    summary="Download a model's weights",
    openapi_extra={
        "responses": {200: {"description": "A safetensors file.", "content": {"application/octet-stream": {}}}}
    },
)
def model_file(request: HttpRequest, run_id: Id, model_id: Id) -> HttpResponseBase:
    """A safetensors file; its sha256 is that of the model."""
    run = run_for_user(user_of(request), run_id)
    model = get_object_or_404(StoredModel, pk=model_id, run=run)
    try:
        return file_response(request, model_path(model), file_name=f"run-{run.pk}-{model.key}.safetensors")
    except FileNotFoundError:
        if model.storage_name:
            logger.error("The bytes of model %s of run %d are missing in the store", model.key, run.pk)
        raise Http404("The weights of this model have not arrived at the platform.") from None


def _model_out(row: StoredModel) -> ModelOut:
    return ModelOut(
        id=row.pk,
        kind=ModelKind(row.kind),
        edge_id=row.edge_id,
        round_index=row.round_index,
        key=row.key,
        sha256=row.sha256,
        size=row.size,
        metrics=model_item(row)["metrics"],
        created_at=row.created_at,
        stored=bool(row.storage_name),
    )
