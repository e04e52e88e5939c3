"""Packages, and uploaded training data."""

from __future__ import annotations

from datetime import datetime
from typing import IO, Annotated, Any, Literal, cast

from django.conf import settings
from django.core.files import File
from django.http import Http404, HttpRequest, UnreadablePostError
from ninja import Field, Query, Router, Schema, Status

from api.auth import READ, WRITE, user_of
from api.problems import ApiProblem
from api.schemas import Digest, Page, PageQuery, rows_page, sort_query
from configurations.access import package_for_user
from configurations.forms import data_token
from configurations.models import Package, PackageKind
from configurations.services import package_store, synthetic_data_store
from mlops_site.lists import ListSpec

router = Router()

PACKAGES = ListSpec(
    search=("file_name", "sha256"),
    sorts={"name": "file_name", "size": "size", "uploaded": "uploaded_at"},
    default_sort="-uploaded",
)
_FILE = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_UPLOAD: dict[str, Any] = {"requestBody": {"required": True, "content": _FILE}}
FileName = Annotated[str, Query(min_length=1, max_length=255, description="what the file was called")]


class PackageOut(Schema):
    """A package, named by its content."""

    sha256: str
    kind: PackageKind
    file_name: str
    size: int = Field(description="bytes")
    uploaded_at: datetime
    entry_file: str | None = None
    warnings: list[str] = Field(description="what is odd about it, though it can be used")


class DataOut(Schema):
    """Training data that were uploaded; a configuration refers to them by ``token``."""

    name: str
    sha256: str
    size: int = Field(description="bytes")
    token: str


@router.get("/packages", auth=READ, response=Page[PackageOut], summary="List packages")
def package_list(
    request: HttpRequest,
    query: Query[PageQuery],
    sort: str = sort_query(PACKAGES),
    kind: Literal["", "server", "client"] = "",
) -> dict[str, Any]:
    """Those that you uploaded, and those of configurations that you see."""
    found = Package.objects.visible_to(user_of(request))
    rows, page = rows_page(found.filter(kind=kind) if kind else found, PACKAGES, query, sort)
    return {"items": [_package_out(row) for row in rows], **page}


@router.post(
    "/packages",
    auth=WRITE,
    response={201: PackageOut},
    summary="Upload a package",
    openapi_extra=_UPLOAD,
)
def package_upload(request: HttpRequest, kind: PackageKind, file_name: FileName = "package.zip") -> Status[PackageOut]:
    """The body is the zip itself. The same bytes are stored once, so that sending them again changes nothing."""
    file = _body(request, file_name, settings.PACKAGE_MAX_BYTES)
    try:
        return Status(201, _package_out(package_store(file, kind.value, user_of(request))))
    except UnreadablePostError as error:
        raise ApiProblem(400, "bad-request", "The upload broke off. Send it again.") from error


@router.get("/packages/{kind}/{sha256}", auth=READ, response=PackageOut, summary="Show a package")
def package_show(request: HttpRequest, kind: PackageKind, sha256: Digest) -> PackageOut:
    package = package_for_user(user_of(request), kind.value, sha256)
    if package is None:
        raise Http404
    return _package_out(package)


@router.post(
    "/data",
    auth=WRITE,
    response={201: DataOut},
    summary="Upload training data",
    openapi_extra=_UPLOAD,
)
def data_upload(request: HttpRequest, file_name: FileName) -> Status[DataOut]:
    """The body is the file itself, ``.npz`` or ``.csv`` by its name: each client gets its part of it."""
    user = user_of(request)
    try:
        data = synthetic_data_store(_body(request, file_name, settings.DATA_MAX_BYTES))
    except UnreadablePostError as error:
        raise ApiProblem(400, "bad-request", "The upload broke off. Send it again.") from error
    return Status(201, DataOut(name=data.name, sha256=data.sha256, size=data.size, token=data_token(data, user)))


def _body(request: HttpRequest, file_name: str, size_max: int) -> File[bytes]:
    length = request.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and (len(length) > 15 or int(length) > size_max):
        raise ApiProblem(413, "too-large", f"The file is larger than the {size_max // settings.MIB} MiB allowed here.")
    return File(cast(IO[bytes], request), name=file_name)


def _package_out(package: Package) -> PackageOut:
    manifest = package.manifest
    return PackageOut(
        sha256=package.sha256,
        kind=PackageKind(package.kind),
        file_name=package.file_name,
        size=package.size,
        uploaded_at=package.uploaded_at,
        entry_file=manifest.get("entry_file"),
        warnings=[f"{each['file']}: {each['message']} {each['fix']}" for each in manifest.get("warnings", [])],
    )
