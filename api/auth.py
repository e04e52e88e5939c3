"""Who calls: a personal access token in the header, or the session of the browser with its CSRF token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from api.models import AccessToken
from api.problems import ApiProblem, unauthenticated
from api.scopes import Scope
from api.throttle import calls_wait, guess_failed, guessing_is_blocked
from api.tokens import token_find, token_used


@dataclass(frozen=True)
class Caller:
    """The user on whose behalf a request acts, and the token that it came with (None: a session)."""

    user: User
    token: AccessToken | None


class Needs(AuthBase):
    """Lets a request through that comes with a token of this scope, or with a session.

    Args:
        scope: the scope that a token needs; None: a token of any scope will do.
        session_only: refuse tokens, whatever their scopes.
    """

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, scope: Scope | None, *, session_only: bool = False) -> None:
        super().__init__()
        self.scope = scope
        self.session_only = session_only

    def __call__(self, request: HttpRequest) -> Caller:
        """Return who calls.

        Raises:
            ApiProblem: nobody that is known, or one who may not do this, or one who calls too often.
        """
        caller = _by_token(request) if request.headers.get("Authorization") else _by_session(request)
        if wait := calls_wait(caller.user.pk):
            raise ApiProblem(
                429,
                "too-many-requests",
                f"You call too often. Wait {wait} seconds.",
                headers={"Retry-After": str(wait)},
            )
        if caller.token is not None:
            self._check_scope(caller.token)
            token_used(caller.token)
        return caller

    def _check_scope(self, token: AccessToken) -> None:
        if self.session_only:
            raise ApiProblem(403, "session-only", "Tokens cannot do this. Sign in with a browser and do it there.")
        if self.scope is not None and self.scope not in token.scopes:
            raise ApiProblem(
                403,
                "scope-missing",
                f"This needs a token with the scope `{self.scope.value}`; yours has {', '.join(token.scopes)}. Make "
                "one on your account page.",
            )


READ = Needs(Scope.READ)
WRITE = Needs(Scope.WRITE)
RUN = Needs(Scope.RUN)
DEVICES = Needs(Scope.DEVICES)
ANY_SCOPE = Needs(None)
SESSION = Needs(None, session_only=True)


def caller_of(request: HttpRequest) -> Caller:
    """Return who calls; the operation's ``Needs`` has let them through."""
    return cast(Caller, request.auth)  # type: ignore[attr-defined]


def user_of(request: HttpRequest) -> User:
    """Return the user on whose behalf the request acts."""
    return caller_of(request).user


def _by_token(request: HttpRequest) -> Caller:
    address = str(request.META.get("REMOTE_ADDR", ""))
    if guessing_is_blocked(address):
        raise ApiProblem(
            429,
            "too-many-requests",
            "Too many wrong tokens came from your address. Wait ten minutes.",
            headers={"Retry-After": "600"},
        )
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.casefold() != "bearer" or not text.strip():
        raise unauthenticated("The header Authorization reads `Bearer TOKEN`, with a token of your account page.")
    token = token_find(text.strip())
    if token is None:
        guess_failed(address)
        raise unauthenticated("This token is wrong, was revoked, or has expired. Make a new one on your account page.")
    return Caller(token.user, token)


def _by_session(request: HttpRequest) -> Caller:
    if not request.user.is_authenticated:
        raise unauthenticated("Send a token as `Authorization: Bearer TOKEN`, or sign in with the browser.")
    if check_csrf(request):
        raise ApiProblem(
            403, "csrf", "The CSRF token is missing or wrong. Send the cookie's value as X-CSRFToken, or use a token."
        )
    return Caller(request.user, None)
