"""Personal access tokens, and the answers that a repeated request gets again."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from api.scopes import Scope


class AccessTokenQuerySet(models.QuerySet["AccessToken"]):
    def usable(self) -> AccessTokenQuerySet:
        """Tokens that have not expired, of accounts that are not switched off."""
        unexpired = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        return self.filter(unexpired, user__is_active=True)


class AccessToken(models.Model):
    """A user's key to the API. The database holds the digest of its secret alone."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="access_tokens")
    name = models.CharField(max_length=100)
    scopes = models.JSONField(default=list, help_text="values of api.scopes.Scope")
    secret_hash = models.CharField(max_length=64, help_text="sha256 of the token's secret")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, help_text="empty: never")
    last_used_at = models.DateTimeField(null=True, help_text="to the minute")

    objects = AccessTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def scope_labels(self) -> list[str]:
        return [scope.label for scope in Scope if scope in self.scopes]


class IdempotentRequest(models.Model):
    """What a request with an ``Idempotency-Key`` was answered: written in the transaction of what it did."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="sha256 of method, path and body")
    status = models.PositiveSmallIntegerField(default=0)
    answer = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="an_idempotency_key_once_per_user")]

    def __str__(self) -> str:
        return self.key
