"""The uploads of the configuration page: packages and synthetic data, answered as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import StopUpload, TemporaryFileUploadHandler
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST

from configurations.forms import data_token
from configurations.models import PackageKind
from configurations.problems import Problem, Refused
from configurations.services import package_store, synthetic_data_store

BODY_SLACK = 1024 * 1024  # for the fields beside the file


class LimitedUploadHandler(TemporaryFileUploadHandler):
    """Writes the upload to disk while it arrives, and stops as soon as it is too large."""

    def __init__(self, request: HttpRequest, size_max: int) -> None:
        super().__init__(request)
        self.size_max = size_max
        self.exceeded = False

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if start + len(raw_data) > self.size_max:
            self.exceeded = True
            raise StopUpload(connection_reset=True)
        super().receive_data_chunk(raw_data, start)


Receive = Callable[[HttpRequest, User, "UploadedFile[bytes]"], dict[str, Any]]


def _upload(request: HttpRequest, size_max: int, receive: Receive) -> JsonResponse:
    """Take one file under its size limit, hand it to ``receive``, and answer what that returns, or the refusal."""
    user = request.user
    if not isinstance(user, User):
        return JsonResponse({"error": "Your session has ended. Sign in again in another tab, then retry."}, status=401)
    too_large = JsonResponse(
        {"error": f"The file is larger than the {size_max // settings.MIB} MiB that are allowed.", "problems": []},
        status=413,
    )
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdecimal() and (len(length) > 15 or int(length) > size_max + BODY_SLACK):
        return too_large
    handler = LimitedUploadHandler(request, size_max)
    request.upload_handlers = [handler]
    return _parsed(request, user, handler, receive, too_large)


@csrf_protect
def _parsed(
    request: HttpRequest, user: User, handler: LimitedUploadHandler, receive: Receive, too_large: JsonResponse
) -> JsonResponse:
    """Runs after the upload handler is set, since checking the CSRF token reads the request."""
    upload = request.FILES.get("file")
    if handler.exceeded:
        return too_large
    if not isinstance(upload, UploadedFile):
        return JsonResponse({"error": "No file came with the request. Choose one.", "problems": []}, status=400)
    try:
        return JsonResponse(receive(request, user, upload))
    except Refused as refusal:
        problems = [problem.as_dict() for problem in refusal.problems]
        count = len(problems)
        error = (
            f"{refusal.problems[0].message} {refusal.problems[0].fix}"
            if count == 1
            else f"The file has {count} problems. Put them right and upload it again."
        )
        return JsonResponse({"error": error, "problems": problems}, status=400)


@csrf_exempt  # checked by _parsed, after the upload handler is set
@login_not_required
@require_POST
def package_upload(request: HttpRequest) -> JsonResponse:
    """Take a package (fields ``file`` and ``kind``) and answer what was read from it."""
    return _upload(request, settings.PACKAGE_MAX_BYTES, _package)


def _package(request: HttpRequest, user: User, upload: UploadedFile[bytes]) -> dict[str, Any]:
    kind = request.POST.get("kind", "")
    if kind not in PackageKind:
        raise Refused(
            [Problem("kind", None, "The kind of the package is missing.", "Send kind=server or kind=client.")]
        )
    package = package_store(upload, kind, user)
    return {
        "sha256": package.sha256,
        "file_name": package.file_name,
        "size": package.size,
        "manifest": package.manifest,
        "problems": package.manifest["warnings"],
    }


@csrf_exempt  # as package_upload
@login_not_required
@require_POST
def data_upload(request: HttpRequest) -> JsonResponse:
    """Take synthetic data (field ``file``) and answer the token with which the form refers to it."""
    return _upload(request, settings.DATA_MAX_BYTES, _data)


def _data(request: HttpRequest, user: User, upload: UploadedFile[bytes]) -> dict[str, Any]:
    data = synthetic_data_store(upload)
    return {**asdict(data), "token": data_token(data, user)}
