"""Where the consumers' blocking work is done.

Channels' own ``database_sync_to_async`` would put all of it on one thread of the process, behind each other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from channels.db import database_sync_to_async

Result = TypeVar("Result")

_THREADS = 4  # and so at most this many database connections for all sockets of a process
_executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="live")


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call ``function`` on one of the threads kept for sockets; its database connection is closed afterwards."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_executor)
    return cast(Result, await call(*arguments))
