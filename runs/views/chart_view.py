"""How each user has the charts of a project: kept here, so that it is the same in every browser."""

from __future__ import annotations

from typing import Any

import orjson
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import path
from django.views.decorators.http import require_http_methods

from runs.access import membership_for_user
from runs.models import ChartView

KINDS = ("metric", "system")
BODY_MAX_BYTES = 32 * 1024
# Those of static/js/run/chart_state.js that are kept.
NAMES = frozenset({"x", "smooth", "log", "robust", "devices", "hide", "columns", "layout"})


@require_http_methods(["PUT", "DELETE"])
def chart_view(request: HttpRequest, project_id: int, kind: str) -> HttpResponse:
    """Keep the user's view of a project's charts (PUT, a JSON object of texts by name), or forget it (DELETE)."""
    membership = membership_for_user(request.user, project_id)
    own = ChartView.objects.filter(user=membership.user_id, project=project_id, kind=kind)
    if kind not in KINDS:
        raise Http404("There are no such charts.")
    if request.method == "DELETE":
        own.delete()
        return HttpResponse(status=204)
    if int(request.headers.get("Content-Length") or 0) > BODY_MAX_BYTES:
        return _refusal(f"A view of charts has at most {BODY_MAX_BYTES} bytes.")
    try:
        content = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return _refusal("A view of charts is a JSON object.")
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        return _refusal("A view of charts is a JSON object of texts.")
    if unknown := sorted(set(content) - NAMES):
        return _refusal(f"A view of charts has no {unknown[0]!r}; it has {', '.join(sorted(NAMES))}.")
    if any("\x00" in text for text in content.values()):
        return _refusal("A view of charts has no NUL characters.")
    ChartView.objects.update_or_create(
        user_id=membership.user_id, project_id=project_id, kind=kind, defaults={"content": content}
    )
    return HttpResponse(status=204)


def chart_views_of(user: Any, project_id: int) -> str:
    """Return what the user has kept of the project's charts, as a JSON object by kind."""
    kept = ChartView.objects.filter(user=user, project=project_id).values_list("kind", "content")
    return orjson.dumps(dict(kept)).decode()


def _refusal(sentence: str) -> HttpResponse:
    return HttpResponseBadRequest(sentence, content_type="text/plain; charset=utf-8")


urlpatterns = [path("projects/<int:project_id>/charts/<str:kind>", chart_view, name="chart_view")]
