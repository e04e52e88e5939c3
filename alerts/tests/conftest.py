"""A project with people in it, and receivers of alerts."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message as Mail

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from accounts.tests.objects import make_project, make_user
from alerts.tests.receivers import HookReceiver, hook_receiver, mail_receiver
from runs.models import Project


@pytest.fixture
def ada(db: None) -> User:
    return make_user("ada")


@pytest.fixture
def project(ada: User) -> Project:
    """Owned by ada, with grace as a member and vera as a viewer."""
    make_user("grace")
    make_user("vera")
    return make_project(ada, "Digits", member="grace", viewer="vera")


@pytest.fixture
def hook(settings: Settings) -> Iterator[HookReceiver]:
    """A receiver of hooks that this installation may reach."""
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    with hook_receiver() as receiver:
        yield receiver


@pytest.fixture
def mails(settings: Settings) -> Iterator[list[Mail]]:
    """What the mail server of this installation took."""
    with mail_receiver() as (port, taken):
        settings.EMAIL_CONFIGURED = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        yield taken
