"""Making, finding and ending personal access tokens."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db.models import Q
from django.utils import timezone

from api.models import AccessToken
from api.scopes import Scope
from devices.tokens import secret_digest, secret_matches

PREFIX = "rtp"
TOKEN_MAX_LENGTH = 200
TOKENS_MAX = 100  # of one user: who makes them in a loop has lost the ones before
# How exactly a token's last use is known; it spares a write at each request.
LAST_USED_STEP = timedelta(minutes=1)

logger = logging.getLogger(__name__)


class TokenRefused(Exception):
    """A token cannot be made; ``str(error)`` is a sentence that says what to do."""


def token_create(
    *, user: User, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[AccessToken, str]:
    """Make a token and return it with its text, ``rtp_<id>_<secret>``, which exists nowhere else.

    Args:
        user: whose token it is.
        name: what it is for.
        scopes: at least one value of :class:`api.scopes.Scope`.
        expires_at: when it ends; None: never.

    Raises:
        TokenRefused: with a sentence that says what to do.
    """
    wanted = set(scopes)
    if not wanted or not wanted <= set(Scope.values):
        raise TokenRefused(f"A token has at least one scope of: {', '.join(Scope.values)}.")
    if expires_at is not None and expires_at <= timezone.now():
        raise TokenRefused("This token would have expired already. Choose a later end.")
    AccessToken.objects.filter(user=user, expires_at__lt=timezone.now() - timedelta(days=90)).delete()
    if AccessToken.objects.filter(user=user).count() >= TOKENS_MAX:
        raise TokenRefused(f"You have {TOKENS_MAX} tokens. Revoke those that nothing uses.")
    secret = secrets.token_urlsafe(32)
    token = AccessToken.objects.create(
        user=user,
        name=name,
        scopes=[scope for scope in Scope.values if scope in wanted],
        secret_hash=secret_digest(secret),
        expires_at=expires_at,
    )
    logger.info("user %d made the access token %d", user.pk, token.pk)
    return token, f"{PREFIX}_{token.pk}_{secret}"


def token_find(text: str) -> AccessToken | None:
    """Return the usable token whose text this is, with its user, or None."""
    if len(text) > TOKEN_MAX_LENGTH or not text.isascii():
        return None
    prefix, _, rest = text.partition("_")
    digits, _, secret = rest.partition("_")
    if prefix != PREFIX or not digits.isdigit() or len(digits) > 18 or not secret:
        return None
    token = AccessToken.objects.usable().select_related("user").filter(pk=int(digits)).first()
    return token if token is not None and secret_matches(secret, token.secret_hash) else None


def token_used(token: AccessToken) -> None:
    """Note that a token is in use."""
    now = timezone.now()
    if token.last_used_at is None or token.last_used_at < now - LAST_USED_STEP:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_STEP)
        AccessToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)


def token_revoke(token: AccessToken) -> None:
    """End a token at once. One that has gone already is fine."""
    AccessToken.objects.filter(pk=token.pk).delete()
    logger.info("user %d revoked the access token %d", token.user_id, token.pk)
