"""Who may listen: read from the database each time, because a socket outlives a login and a membership."""

from __future__ import annotations

import enum
from importlib import import_module
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from runs.models import Run


class Access(enum.Enum):
    """What a socket is to this user at this moment."""

    GRANTED = "granted"
    LOGGED_OUT = "logged out"
    NONE = "no access"


def session_user_id(session_key: str | None) -> int | None:
    """Return the id of the active user whom the session belongs to now.

    None when the session was ended or has expired, and when the user's password has changed since it began.
    """
    if not session_key:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(cast(HttpRequest, _SessionHolder(store)))
    return user.pk if user.is_authenticated and user.is_active else None


def access_read(session_key: str | None, run_id: int) -> tuple[Access, int]:
    """Return whether the session's user may see the run, and the run's last frame number (-1 without access)."""
    user_id = session_user_id(session_key)
    if user_id is None:
        return Access.LOGGED_OUT, -1
    head = (
        Run.objects.filter(pk=run_id, project__memberships__user=user_id).values_list("frame_number", flat=True).first()
    )
    return (Access.NONE, -1) if head is None else (Access.GRANTED, head)


class _SessionHolder:
    """What ``django.contrib.auth.get_user`` reads of a request."""

    def __init__(self, session: Any) -> None:
        self.session = session
