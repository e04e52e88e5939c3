"""Models for people: the download of stored weights."""

from __future__ import annotations

import logging

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import path
from django.views.decorators.http import require_safe

from mlops_site.downloads import file_response
from runs.access import run_for_user
from runs.model_store import model_path
from runs.models import StoredModel

logger = logging.getLogger(__name__)


@require_safe
def model_download(request: HttpRequest, run_id: int, model_id: int) -> HttpResponseBase:
    """Send a model's weights to a member of the run's project, as a file named by where they come from."""
    run = run_for_user(request.user, run_id)
    model = get_object_or_404(StoredModel, pk=model_id, run=run)
    try:
        return file_response(request, model_path(model), file_name=f"run-{run.pk}-{model.key}.safetensors")
    except FileNotFoundError:
        if model.storage_name:
            logger.error("The bytes of model %s of run %d are missing in the store", model.key, run.pk)
        raise Http404("The weights of this model have not arrived at the platform.") from None


urlpatterns = [
    path("runs/<int:run_id>/models/<int:model_id>/download", model_download, name="model_download"),
]
