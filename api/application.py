"""The API as one object: its routers, how it reads and writes JSON, and its OpenAPI schema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import wraps
from typing import Any

import orjson
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern
from ninja import NinjaAPI, Router
from ninja.openapi.schema import OpenAPISchema
from ninja.parser import Parser
from ninja.renderers import BaseRenderer

from api.auth import Needs
from api.idempotency import REPLAYED_HEADER
from api.problems import MEDIA_TYPE, ApiProblem, ProblemDetails, handlers_add, problem_response
from api.routers import (
    account,
    configurations,
    devices,
    logs,
    members,
    models,
    packages,
    projects,
    runs,
    series,
    stages,
)

VERSION = "1.0.0"
DEPTH_MAX = 20  # of a body's lists and objects
DESCRIPTION = """\
Everything that the pages do, for programs. Send a personal access token, made on your account page, as
`Authorization: Bearer TOKEN`; each operation names the scope that the token needs. A browser may use its session and
the CSRF token instead. Times are ISO 8601 in UTC. Errors are problem details (RFC 9457): `detail` says what to do."""

_ROUTERS: list[tuple[str, Router]] = [
    ("account", account.router),
    ("projects", projects.router),
    ("members", members.router),
    ("packages", packages.router),
    ("configurations", configurations.router),
    ("devices", devices.router),
    ("runs", runs.router),
    ("stages", stages.router),
    ("series", series.router),
    ("logs", logs.router),
    ("models", models.router),
]
# What an operation may be refused with, besides what it declares itself.
_PROBLEMS = {
    "400": "The request cannot be read.",
    "401": "Nobody known: the token is missing, wrong or has expired.",
    "403": "The token's scopes or your role do not allow this.",
    "404": "There is nothing here that you may see.",
    "422": "What was sent is not right; `errors` lists everything.",
    "429": "Too many calls; `Retry-After` says how long to wait.",
    "503": "The database or the broker is away; try again.",
}
_WRITING = {"409": "This cannot be done in the present state.", "413": "The body is too large."}


class _JsonParser(Parser):
    """Reads JSON strictly: what no database column and no other program could hold is refused."""

    def parse_body(self, request: HttpRequest) -> Any:
        value = orjson.loads(request.body)
        _check(value, DEPTH_MAX)
        return value

    def parse_querydict(self, data: Any, list_fields: list[str], request: HttpRequest) -> Any:
        found = super().parse_querydict(data, list_fields, request)
        if any("\0" in text for values in data.lists() for text in values[1]):
            raise ApiProblem(400, "bad-request", "A parameter holds a NUL character. Leave it out.")
        return found


class _JsonRenderer(BaseRenderer):
    """Writes JSON; what is no number travels as null."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


class _Api(NinjaAPI):
    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        """Return the schema with the errors and the scope of each operation."""
        schema = super().get_openapi_schema(path_prefix=path_prefix or "/api/v1/", path_params=path_params)
        components = schema["components"]
        components["schemas"] |= ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")["$defs"]
        details = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        details.pop("$defs")
        components["schemas"]["ProblemDetails"] = details
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "A personal access token."},
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": "sessionid",
                "description": "The browser's session; whatever changes something also needs the header X-CSRFToken.",
            },
        }
        for bound in self._get_bound_routers():
            for path_view in bound.path_operations.values():
                for operation in path_view.operations:
                    self._complete(schema, operation)
        return schema

    def _complete(self, schema: Mapping[str, Any], operation: Any) -> None:
        found = next(
            details
            for methods in schema["paths"].values()
            for details in methods.values()
            if details["operationId"] == (operation.operation_id or self.get_openapi_operation_id(operation))
        )
        needs: Needs = operation.auth_callbacks[0]
        found["security"] = [{"session": []}] if needs.session_only else [{"token": []}, {"session": []}]
        found["x-scope"] = "session" if needs.session_only else needs.scope.value if needs.scope else "any"
        for parameter in found["parameters"]:
            _without_null(parameter)
        changes = not set(operation.methods) <= {"GET", "HEAD"}
        for status, description in {**_PROBLEMS, **(_WRITING if changes else {})}.items():
            found["responses"].setdefault(
                status,
                {
                    "description": description,
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
                },
            )
        found["responses"] = {str(status): details for status, details in found["responses"].items()}

    def get_openapi_operation_id(self, operation: Any) -> str:
        """Name an operation as its function is named."""
        return str(operation.view_func.__name__)


def _without_null(parameter: dict[str, Any]) -> None:
    """A parameter is there or is not; it cannot be null, as what it defaults to within."""
    choices = parameter["schema"].pop("anyOf", None)
    if choices is not None:
        (only,) = [choice for choice in choices if choice != {"type": "null"}]
        parameter["schema"] |= only


def _check(value: Any, depth: int) -> None:
    if depth < 0:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("text with a NUL character")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number that is not finite")
    elif isinstance(value, list):
        for each in value:
            _check(each, depth - 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            _check(key, depth - 1)
            _check(each, depth - 1)


def api_make() -> NinjaAPI:
    """Return the API with all of its routers."""
    made = _Api(
        title="Roundtable",
        version=VERSION,
        description=DESCRIPTION,
        docs_url=None,
        openapi_url=None,
        urls_namespace="api",
        parser=_JsonParser(),
        renderer=_JsonRenderer(),
    )
    handlers_add(made)
    for tag, router in _ROUTERS:
        made.add_router("", router, tags=[tag])
    return made


def api_urls(api: NinjaAPI) -> list[URLPattern]:
    """Return the API's URL patterns, opened to callers without a session and with every error in one shape."""
    made = [pattern for pattern in api.urls[0] if isinstance(pattern, URLPattern)]
    patterns = [pattern for pattern in made if pattern.name != "api-root"]
    for pattern in patterns:
        pattern.callback = _opened(pattern.callback)
    return patterns


def _opened(view: Any) -> Any:
    """Let the view be called without a session: its operations ask for a token or a session themselves."""

    def finish(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code == 405:
            allowed = response.headers["Allow"]
            response = problem_response(
                ApiProblem(405, "method-not-allowed", f"Use {allowed} here.", headers={"Allow": allowed})
            )
        if getattr(request, "idempotency_replayed", False):
            response.headers[REPLAYED_HEADER] = "true"
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    if iscoroutinefunction(view):

        @wraps(view)
        async def answer_later(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return finish(request, await view(request, *args, **kwargs))

        answer: Any = answer_later
    else:

        @wraps(view)
        def answer_now(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return finish(request, view(request, *args, **kwargs))

        answer = answer_now
    answer.csrf_exempt = True
    answer.login_required = False
    return answer


api = api_make()
