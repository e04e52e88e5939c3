"""Who calls, and the tokens of their account."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema, Status

from api.auth import ANY_SCOPE, READ, SESSION, caller_of, user_of
from api.models import AccessToken
from api.problems import ApiProblem
from api.schemas import Id
from api.scopes import Scope
from api.tokens import TokenRefused, token_create, token_revoke

router = Router()

TokenName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]


class TokenOut(Schema):
    """A personal access token, without its secret."""

    id: int
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class AccountOut(Schema):
    """The account that calls."""

    id: int
    username: str
    email: str
    is_administrator: bool
    token: TokenOut | None = Field(description="the token that this request came with; null for a session")


class TokenIn(Schema):
    """A token to make."""

    name: TokenName
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope.values))
    expires_at: datetime | None = Field(default=None, description="with a time zone; null: never")


class TokenMade(TokenOut):
    """A token that was made now. ``text`` is shown in this answer alone."""

    text: str


@router.get("/account", auth=ANY_SCOPE, response=AccountOut, summary="Show the account that calls")
def account_show(request: HttpRequest) -> dict[str, object]:
    """A token of any scope may ask this, so that a program can tell whether its token works."""
    caller = caller_of(request)
    user = caller.user
    return {
        "id": user.pk,
        "username": user.get_username(),
        "email": user.email,
        "is_administrator": user.is_superuser,
        "token": caller.token,
    }


@router.get("/account/tokens", auth=READ, response=list[TokenOut], summary="List your access tokens")
def token_list(request: HttpRequest) -> list[AccessToken]:
    """All of them, also those that have expired; secrets are never shown again."""
    return list(AccessToken.objects.filter(user=user_of(request)))


@router.post("/account/tokens", auth=SESSION, response={201: TokenMade}, summary="Make an access token")
def token_make(request: HttpRequest, payload: TokenIn) -> Status[TokenMade]:
    """Only a session may: a token that leaks must not outlive its own end by making others."""
    if payload.expires_at is not None and payload.expires_at.tzinfo is None:
        raise ApiProblem(422, "invalid", "expires_at: give the time zone, such as 2030-01-31T00:00:00Z.")
    try:
        token, text = token_create(
            user=user_of(request),
            name=payload.name.strip(),
            scopes=[scope.value for scope in payload.scopes],
            expires_at=payload.expires_at,
        )
    except TokenRefused as refused:
        raise ApiProblem(422, "refused", str(refused)) from refused
    return Status(201, TokenMade(**TokenOut.from_orm(token).dict(), text=text))


@router.delete("/account/tokens/current", auth=ANY_SCOPE, response={204: None}, summary="Revoke the token in use")
def token_revoke_current(request: HttpRequest) -> Status[None]:
    """The token that this request came with ends at once."""
    token = caller_of(request).token
    if token is None:
        raise ApiProblem(409, "refused", "This request came with a session, not with a token. Name the token's id.")
    token_revoke(token)
    return Status(204, None)


@router.delete("/account/tokens/{token_id}", auth=SESSION, response={204: None}, summary="Revoke an access token")
def token_revoke_one(request: HttpRequest, token_id: Id) -> Status[None]:
    """It ends at once."""
    token_revoke(get_object_or_404(AccessToken, user=user_of(request), pk=token_id))
    return Status(204, None)
