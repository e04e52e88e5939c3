"""What every view of the interface of agents and instances answers."""

import json

import pytest
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase

from mlops_site.interface import ApiError, bearer_token, interface


def call(error: Exception | None = None) -> HttpResponseBase:
    @interface
    def view(request: HttpRequest) -> HttpResponse:
        if error is not None:
            raise error
        return JsonResponse({"fine": True})

    return view(HttpRequest())


def answer(error: Exception) -> tuple[int, dict[str, str]]:
    response = call(error)
    assert isinstance(response, HttpResponse)
    return response.status_code, json.loads(response.content)


def test_answers_are_not_stored() -> None:
    assert [call(error)["Cache-Control"] for error in (None, ApiError(404, "No."))] == ["no-store"] * 2


def test_a_refusal_is_a_status_and_a_sentence() -> None:
    assert answer(ApiError(409, "That was used.")) == (409, {"error": "That was used."})
    assert call(ApiError(401, "Who?"))["WWW-Authenticate"] == "Bearer"
    assert "WWW-Authenticate" not in call(ApiError(403, "No.")).headers


@pytest.mark.parametrize("error", [OperationalError("host db-3 refused"), InterfaceError("closed")])
def test_a_database_that_is_away_may_be_tried_again(error: Exception) -> None:
    assert answer(error) == (503, {"error": "The platform's database does not answer. Try again."})


@pytest.mark.parametrize(("header", "token"), [("Bearer abc", "abc"), ("bearer  abc ", "abc")])
def test_a_token_is_read(header: str, token: str) -> None:
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = header
    assert bearer_token(request) == token


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic abc", "abc"])
def test_what_is_no_token_is_refused(header: str) -> None:
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = header
    with pytest.raises(ApiError, match="This needs a token") as caught:
        bearer_token(request)
    assert caught.value.status == 401
