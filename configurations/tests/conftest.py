"""A store of its own for every test, and people with a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.test import Client

from runs.models import Membership, Project, Role


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Any) -> Path:
    """Point the store and the folder of uploads to empty folders."""
    root = tmp_path / "store"
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    settings.STORE_DIR = root
    settings.FILE_UPLOAD_TEMP_DIR = uploads
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": root}},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    assert storages["default"].path("x") == str(root / "x")
    return root


@pytest.fixture
def uploads(store: Path) -> Path:
    return store.parent / "uploads"


def stored_files(store: Path) -> list[str]:
    """The names of all files in the store, without its lock."""
    if not store.exists():
        return []
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() and path.name != ".lock")


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("owner")


@pytest.fixture
def member(db: None) -> User:
    return User.objects.create_user("member")


@pytest.fixture
def stranger(db: None) -> User:
    return User.objects.create_user("stranger")


@pytest.fixture
def project(owner: User, member: User) -> Project:
    """A project of owner, with member in it."""
    project = Project.objects.create(name="Digits", created_by=owner)
    Membership.objects.create(project=project, user=owner, role=Role.OWNER)
    Membership.objects.create(project=project, user=member, role=Role.MEMBER)
    return project


@pytest.fixture
def as_owner(owner: User) -> Client:
    return _signed_in(owner)


@pytest.fixture
def as_member(member: User) -> Client:
    return _signed_in(member)


@pytest.fixture
def as_stranger(stranger: User) -> Client:
    return _signed_in(stranger)


def _signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client
