"""What every view of the HTTP interface of agents and instances shares: bearer tokens, and errors as JSON."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """What the caller did wrong, or cannot have now: a status and a sentence that says what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def interface(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Make a view of the interface: no session or CSRF token is needed, and errors are JSON.

    Where the database does not answer the caller gets 503, and may send the same again.
    """

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
        except ApiError as error:
            response = JsonResponse({"error": str(error)}, status=error.status)
            if error.status == 401:
                response["WWW-Authenticate"] = "Bearer"
        except (OperationalError, InterfaceError):
            logger.exception("the database does not answer")
            response = JsonResponse({"error": "The platform's database does not answer. Try again."}, status=503)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return csrf_exempt(login_not_required(answer))


def bearer_token(request: HttpRequest) -> str:
    """Return the token of the request.

    Raises:
        ApiError: there is none.
    """
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.casefold() != "bearer" or not token.strip():
        raise ApiError(401, "This needs a token: send it as `Authorization: Bearer TOKEN`.")
    return token.strip()
