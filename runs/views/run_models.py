"""All stored models of a run; a snapshot of the live page carries the last ones alone."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

from runs.access import run_for_user
from runs.live.payloads import model_item

MODELS_MAX = 10_000


@require_safe
def run_model_list(request: HttpRequest, run_id: int) -> HttpResponse:
    """The run's models, the newest 10,000, as ``{"models": [items of runs.live.payloads]}``."""
    run = run_for_user(request.user, run_id)
    models = run.models.order_by("-pk")[:MODELS_MAX]
    return JsonResponse({"models": [model_item(model) for model in models]})


urlpatterns = [path("runs/<int:run_id>/models/", run_model_list, name="run_model_list")]
