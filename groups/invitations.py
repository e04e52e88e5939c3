"""Invitations into groups: links that let a limited number of people in, for a limited time.

The token stands behind the ``#`` of the link, which browsers keep to themselves: no log of a server or a proxy has it.
Its digest alone is stored.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from groups.models import Group, Invitation
from groups.services import GroupRefused, member_join

TOKEN_BYTES = 32
GONE = "This invitation is not valid any more: it was used up or withdrawn, or it has expired. Ask for a new link."


def token_digest(token: str) -> str:
    """The digest under which a token is kept, in hexadecimal."""
    return hashlib.sha256(token.strip().encode()).hexdigest()


def invitation_create(*, group: Group, user: Any, role: str, days: int, people: int) -> tuple[str, Invitation]:
    """Make an invitation and return its link, which is shown only now, and its row.

    Args:
        days: how long the link is good.
        people: how many may join by it.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    row = Invitation.objects.create(
        group=group,
        role=role,
        token_hash=token_digest(token),
        created_by=user,
        expires_at=timezone.now() + timedelta(days=days),
        max_uses=people,
    )
    return f"{settings.PUBLIC_URL}{reverse('join')}#{token}", row


def invitation_find(digest: str) -> Invitation | None:
    """The usable invitation of this digest, or None."""
    return Invitation.objects.usable().select_related("group", "created_by").filter(token_hash=digest).first()


def invitation_accept(*, invitation: Invitation, user: Any) -> bool:
    """Let a person in. A link for one person lets one of two in who come at the same moment.

    Returns:
        Whether the person was no member before; whoever was one uses nothing up.

    Raises:
        GroupRefused: the invitation is not usable any more.
    """
    with transaction.atomic():
        claimed = Invitation.objects.usable().filter(pk=invitation.pk).update(uses=F("uses") + 1)
        if not claimed:
            raise GroupRefused(GONE)
        is_new = member_join(group=invitation.group, user=user, role=invitation.role)
        if not is_new:
            Invitation.objects.filter(pk=invitation.pk).update(uses=F("uses") - 1)
    return is_new


def invitation_revoke(invitation: Invitation) -> None:
    """Withdraw an invitation; who joined by it stays."""
    Invitation.objects.filter(pk=invitation.pk, revoked_at=None).update(revoked_at=timezone.now())
