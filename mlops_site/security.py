"""The content security policy of every page.

Nothing inline runs: scripts and styles come from this server's files alone. plotly.js styles its figures through the
CSSOM, which a policy does not touch, and finds the one style sheet that it would otherwise inject inline in
``static/css/plotly.css``, so that the run page needs no exception either.
"""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # Tabler's controls are data: images; a figure is saved as a picture from a blob:
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

SyncHandler = Callable[[HttpRequest], HttpResponseBase]
AsyncHandler = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def content_security_policy(get_response: SyncHandler | AsyncHandler) -> SyncHandler | AsyncHandler:
    """Add ``Content-Security-Policy`` to every response that does not carry one of its own."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            response = await cast(AsyncHandler, get_response)(request)
            response.headers.setdefault("Content-Security-Policy", POLICY)
            return response

        return asynchronous

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        response = cast(SyncHandler, get_response)(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return synchronous
