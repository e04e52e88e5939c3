"""A run as a file to download: for its page and the Web API."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from exports.tables import csv_pieces, json_pieces
from exports.tensorboard import tensorboard_archive
from mlops_site.downloads import file_response
from runs.models import Run


def csv_response(request: HttpRequest, run: Run) -> StreamingHttpResponse:
    """Answer with every point of the run as a table."""
    return _streamed(request, run, csv_pieces, "csv", "text/csv; charset=utf-8")


def json_response(request: HttpRequest, run: Run) -> StreamingHttpResponse:
    """Answer with the run, its configuration, its models and every point as JSON."""
    return _streamed(request, run, json_pieces, "json", "application/json")


def tensorboard_response(request: HttpRequest, run: Run) -> StreamingHttpResponse:
    """Answer with TensorBoard event files in an archive."""
    folder = Path(tempfile.mkdtemp(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="export-"))
    try:
        with tensorboard_archive(run) as made:
            kept = made.rename(folder / made.name)
        return file_response(request, kept, file_name=f"{_name(run)}-tensorboard.zip", content_type="application/zip")
    finally:
        shutil.rmtree(folder)  # what is open can still be read


def _streamed(
    request: HttpRequest, run: Run, pieces: Callable[[Run], Iterator[bytes]], suffix: str, content_type: str
) -> StreamingHttpResponse:
    iterator = pieces(run)
    return StreamingHttpResponse(
        _pieces_async(iterator) if isinstance(request, ASGIRequest) else iterator,
        content_type=content_type,
        headers={
            "Content-Disposition": f'attachment; filename="{_name(run)}.{suffix}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


async def _pieces_async(iterator: Iterator[bytes]) -> AsyncIterator[bytes]:
    take = sync_to_async(lambda: next(iterator, None))
    while (piece := await take()) is not None:
        yield piece


def _name(run: Run) -> str:
    """A file name without anything that a header or a file system could take amiss."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run.name).strip("-.") or f"run-{run.pk}"
