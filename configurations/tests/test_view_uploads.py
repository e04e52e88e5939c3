"""The uploads of packages and data."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from configurations.draft import UploadedData
from configurations.forms import data_from_token
from configurations.models import Package
from configurations.tests.conftest import stored_files
from configurations.tests.packages import package_bytes, upload

PACKAGES = reverse("package_upload")
DATA = reverse("configuration_data_upload")
CSV = b"x1,x2,label\n0.1,0.2,0\n"


def _nothing_left(store: Path, uploads: Path) -> bool:
    return (stored_files(store), list(uploads.iterdir()), Package.objects.count()) == ([], [], 0)


def test_a_package_is_answered_with_what_was_read(as_owner: Client, owner: User, uploads: Path) -> None:
    content = package_bytes()
    answer = as_owner.post(PACKAGES, {"kind": "server", "file": upload(content, "mine.zip")})
    package = Package.objects.get()
    assert answer.status_code == 200
    assert answer.json() == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "file_name": "mine.zip",
        "size": len(content),
        "manifest": package.manifest,
        "problems": [],
    }
    assert list(package.uploaders.all()) == [owner]
    assert list(uploads.iterdir()) == []


def test_data_are_answered_with_a_token_for_who_uploaded_them(
    as_owner: Client, owner: User, stranger: User, uploads: Path
) -> None:
    answer = as_owner.post(DATA, {"file": SimpleUploadedFile("train.csv", CSV)}).json()
    data = UploadedData("train.csv", hashlib.sha256(CSV).hexdigest(), len(CSV))
    assert data_from_token(answer["token"], owner) == data
    assert data_from_token(answer["token"], stranger) is None
    assert data_from_token(answer["token"][:-1], owner) is None
    assert list(uploads.iterdir()) == []


def test_data_that_are_refused_leave_nothing(as_owner: Client, store: Path, uploads: Path) -> None:
    answer = as_owner.post(DATA, {"file": SimpleUploadedFile("train.pkl", b"\x80\x04]")})
    assert answer.status_code == 400
    assert answer.json()["error"] == "The data are neither .npz nor .csv. Use numpy.savez, or save a table as CSV."
    assert _nothing_left(store, uploads)


@pytest.mark.parametrize("kind", ["", "aggregator"])
def test_a_package_of_no_kind_is_refused(as_owner: Client, store: Path, uploads: Path, kind: str) -> None:
    answer = as_owner.post(PACKAGES, {"kind": kind, "file": upload(package_bytes())})
    assert answer.status_code == 400
    assert answer.json()["error"] == "The kind of the package is missing. Send kind=server or kind=client."
    assert _nothing_left(store, uploads)


@pytest.mark.parametrize("url", [PACKAGES, DATA])
def test_an_upload_without_a_file_is_refused(as_owner: Client, url: str) -> None:
    answer = as_owner.post(url, {"kind": "server", "file": "text"})
    assert (answer.status_code, answer.json()["error"]) == (400, "No file came with the request. Choose one.")


@pytest.mark.parametrize("url", [PACKAGES, DATA])
def test_an_upload_that_is_too_large_is_refused_while_it_arrives(
    as_owner: Client, settings: Any, store: Path, uploads: Path, url: str
) -> None:
    settings.PACKAGE_MAX_BYTES = settings.DATA_MAX_BYTES = 1024 * 1024
    file = upload(bytes(1024 * 1024 + 1), "x.csv")
    answer = as_owner.post(url, {"kind": "server", "file": file})
    assert answer.status_code == 413
    assert answer.json()["error"] == "The file is larger than the 1 MiB that are allowed."
    assert _nothing_left(store, uploads)


@pytest.mark.parametrize("url", [PACKAGES, DATA])
def test_an_upload_that_declares_too_much_is_not_read_at_all(as_owner: Client, url: str) -> None:
    answer = as_owner.post(url, {"file": upload(b"x")}, CONTENT_LENGTH=str(10**13))
    assert answer.status_code == 413


@pytest.mark.parametrize("url", [PACKAGES, DATA])
def test_who_is_not_signed_in_is_told_so_as_json(db: None, store: Path, uploads: Path, url: str) -> None:
    answer = Client().post(url, {"kind": "server", "file": upload(package_bytes(), "x.csv")})
    assert answer.status_code == 401
    assert answer.json()["error"] == "Your session has ended. Sign in again in another tab, then retry."
    assert _nothing_left(store, uploads)


@pytest.mark.parametrize("url", [PACKAGES, DATA])
def test_an_upload_needs_the_token_against_forged_requests(owner: User, store: Path, uploads: Path, url: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    answer = client.post(url, {"kind": "server", "file": upload(package_bytes(), "x.csv")})
    assert answer.status_code == 403
    assert _nothing_left(store, uploads)


def test_an_upload_with_that_token_is_taken(owner: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    client.get(reverse("configuration_create"))
    token = client.cookies["csrftoken"].value
    answer = client.post(PACKAGES, {"kind": "server", "file": upload(package_bytes())}, headers={"X-CSRFToken": token})
    assert answer.status_code == 200


@pytest.mark.parametrize("url", [PACKAGES, DATA])
def test_uploads_are_for_posting(as_owner: Client, url: str) -> None:
    assert as_owner.get(url).status_code == 405


def test_the_name_of_an_upload_cannot_lead_anywhere(as_owner: Client, store: Path) -> None:
    answer = as_owner.post(PACKAGES, {"kind": "server", "file": upload(package_bytes(), "../../../evil.zip")})
    assert answer.json()["file_name"] == "evil.zip"
    assert stored_files(store) == [f"packages/{answer.json()['sha256'][:2]}/{answer.json()['sha256']}.zip"]
