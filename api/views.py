"""Pages beside the API: its reference, and the access tokens of the account."""

from __future__ import annotations

from typing import Any, cast

import orjson
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from api import tokens
from api.application import api
from api.forms import TokenForm
from api.models import AccessToken
from api.problems import ApiProblem, problem_response
from api.reference import reference_sections
from api.scopes import Scope


@login_not_required
@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """The OpenAPI schema. There is nothing secret in it, and programs that read it have no session."""
    return HttpResponse(orjson.dumps(api.get_openapi_schema()), content_type="application/json")


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    """The schema as a page: it needs no script, and nothing from elsewhere."""
    schema = api.get_openapi_schema()
    context = {"sections": reference_sections(schema), "url": settings.PUBLIC_URL, "version": schema["info"]["version"]}
    return render(request, "api/reference.html", {**context, "scopes": list(Scope)})


@csrf_exempt
@login_not_required
def unknown(request: HttpRequest) -> HttpResponse:
    """Whatever else is asked for below ``/api/v1/``."""
    return problem_response(ApiProblem(404, "not-found", "The API has no such address. See /api/v1/docs/."))


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def token_list(request: HttpRequest) -> HttpResponse:
    """The account's access tokens; on POST make one, whose text is shown in this answer alone."""
    user = _user(request)
    form = TokenForm(request.POST or None)
    context: dict[str, Any] = {}
    if form.is_valid():
        try:
            made, text = tokens.token_create(
                user=user,
                name=form.cleaned_data["name"],
                scopes=form.cleaned_data["scopes"],
                expires_at=form.expires_at(),
            )
        except tokens.TokenRefused as refused:
            form.add_error(None, str(refused))
        else:
            context = {"made": made, "text": text}
            form = TokenForm()
    context |= {
        "form": form,
        "tokens": AccessToken.objects.filter(user=user),
        "scopes": list(Scope),
        "chosen": form["scopes"].value() or [],
    }
    return render(request, "api/tokens.html", context)


@require_POST
def token_revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    """End a token at once."""
    token = get_object_or_404(AccessToken, user=_user(request), pk=token_id)
    tokens.token_revoke(token)
    messages.success(request, f"The token {token.name} is revoked.")
    return redirect("token_list")


def _user(request: HttpRequest) -> User:
    """The signed-in user; LoginRequiredMiddleware lets nobody else through."""
    return cast(User, request.user)
