"""Errors in one shape, problem details (RFC 9457): what went wrong, and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from django import forms
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic import Field

from configurations.problems import Refused
from devices.broker import BrokerError
from runs.lifecycle import RunRefused
from runs.projects import ProjectRefused

MEDIA_TYPE = "application/problem+json"
NOT_FOUND = (
    "There is nothing here that you may see. Check the address and the id, and that you are a member of its project."
)

logger = logging.getLogger(__name__)


class FieldProblem(Schema):
    """One thing that is wrong with what was sent."""

    field: str = Field(description="where: a field of the body, a parameter, or a file of a package")
    message: str = Field(description="what is wrong, and what to do")
    line: int | None = Field(default=None, description="line of the file, from 1")


class ProblemDetails(Schema):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="names the kind of problem: urn:roundtable:problem:KIND")
    title: str
    status: int
    detail: str = Field(description="a sentence that says what to do")
    errors: list[FieldProblem] = Field(
        default=[], description="everything that is wrong with the request, where it is known"
    )


class ApiProblem(Exception):
    """An error to answer with.

    Args:
        status: of the answer.
        kind: a short name that programs can rely on, such as ``scope-missing``.
        detail: a sentence that says what to do.
        errors: everything that is wrong, where there is more to say.
        headers: to send with the answer.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.errors = list(errors)
        self.headers = headers or {}


def problem_response(problem: ApiProblem) -> HttpResponse:
    """Return the answer that tells of ``problem``."""
    details = ProblemDetails(
        type=f"urn:roundtable:problem:{problem.kind}",
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=str(problem),
        errors=problem.errors,
    )
    content = orjson.dumps(details.model_dump())
    return HttpResponse(content, status=problem.status, content_type=MEDIA_TYPE, headers=problem.headers)


def form_problem(form: forms.BaseForm) -> ApiProblem:
    """Say what is wrong with a form of the pages that was filled from a request."""
    errors = [
        FieldProblem(field="" if name == "__all__" else name, message=str(message))
        for name, messages in form.errors.items()
        for message in messages
    ]
    return ApiProblem(422, "invalid", _sentence(errors), errors=errors)


def handlers_add(api: NinjaAPI) -> None:
    """Teach ``api`` how to answer each exception."""
    for kind, convert in _CONVERTERS:

        def handle(request: HttpRequest, error: Any, convert: Any = convert) -> HttpResponse:
            return problem_response(convert(error))

        api.add_exception_handler(kind, handle)
    api.add_exception_handler(Exception, _unexpected)


def _unexpected(request: HttpRequest, error: Any) -> HttpResponse:
    logger.exception("the API failed at %s", request.path, exc_info=error)
    return problem_response(
        ApiProblem(500, "internal", "The platform made a mistake and has logged it. Tell whoever runs it.")
    )


def _refused(error: Refused) -> ApiProblem:
    errors = [
        FieldProblem(field=problem.file, line=problem.line, message=f"{problem.message} {problem.fix}")
        for problem in error.problems
    ]
    return ApiProblem(422, "refused", _sentence(errors), errors=errors)


def _invalid(error: ValidationError) -> ApiProblem:
    errors = []
    for each in error.errors:
        source, *rest = each["loc"]
        place = ".".join(str(part) for part in (rest[1:] if source == "body" and len(rest) > 1 else rest))
        errors.append(FieldProblem(field=place or str(source), message=f"{each['msg']}."))
    return ApiProblem(422, "invalid", _sentence(errors), errors=errors)


def _sentence(errors: Sequence[FieldProblem]) -> str:
    if len(errors) == 1:
        return f"{errors[0].field}: {errors[0].message}" if errors[0].field else errors[0].message
    return f"The request has {len(errors)} problems, listed under errors. Put them right and send it again."


def _database_away(error: Exception) -> ApiProblem:
    logger.error("the database does not answer: %s", error)
    return ApiProblem(
        503, "unavailable", "The platform's database does not answer. Try again.", headers={"Retry-After": "5"}
    )


_CONVERTERS: list[tuple[type[Exception], Any]] = [
    (ApiProblem, lambda error: error),
    (Http404, lambda error: ApiProblem(404, "not-found", NOT_FOUND)),
    (
        PermissionDenied,
        lambda error: ApiProblem(403, "forbidden", str(error) or "You may not change this."),
    ),
    (RunRefused, lambda error: ApiProblem(409, "refused", str(error))),
    (ProjectRefused, lambda error: ApiProblem(409, "refused", str(error))),
    (Refused, _refused),
    (BrokerError, lambda error: ApiProblem(503, "unavailable", str(error), headers={"Retry-After": "5"})),
    (OperationalError, _database_away),
    (InterfaceError, _database_away),
    (ValidationError, _invalid),
    (AuthenticationError, lambda error: unauthenticated("Send a token as `Authorization: Bearer TOKEN`, or sign in.")),
    (HttpError, lambda error: ApiProblem(error.status_code, "bad-request", _http_sentence(error))),
]


def _http_sentence(error: HttpError) -> str:
    if error.status_code == 400:
        return "The body is not valid JSON in UTF-8. Numbers must be finite, and text must hold no NUL character."
    return str(error)


def unauthenticated(sentence: str) -> ApiProblem:
    """A refusal of who did not say who they are."""
    return ApiProblem(401, "unauthenticated", sentence, headers={"WWW-Authenticate": 'Bearer realm="roundtable"'})
