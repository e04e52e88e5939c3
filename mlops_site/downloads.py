"""Send a file piece by piece, under ASGI and WSGI alike.

Django's ``FileResponse`` iterates synchronously; an ASGI server would have it read the whole file into memory first.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpRequest, StreamingHttpResponse

CHUNK_BYTES = 256 * 1024


def file_response(
    request: HttpRequest, path: Path, *, file_name: str, content_type: str = "application/octet-stream"
) -> StreamingHttpResponse:
    """Answer with the bytes of ``path``, as a download named ``file_name``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    file = path.open("rb")
    response = FileResponse(file, as_attachment=True, filename=file_name, content_type=content_type)
    if isinstance(request, ASGIRequest):
        file.close()
        response.streaming_content = _chunks(path)
    return response


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
