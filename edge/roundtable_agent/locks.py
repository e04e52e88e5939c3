"""Locks between processes, by flock: the kernel frees them when their holder dies."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

POLL_SECONDS = 0.1


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Take a lock if it is free.

    Parameters:
        path: the lock's file, made when missing and never removed.
        shared: several holders may share it.

    Returns:
        A file descriptor to close with `unlock`, or None where somebody else holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def lock(path: Path, *, shared: bool = False, checkpoint: Callable[[], None] = lambda: None) -> int:
    """Wait for a lock; `checkpoint` is called meanwhile and may raise to give up."""
    while True:
        descriptor = try_lock(path, shared=shared)
        if descriptor is not None:
            return descriptor
        checkpoint()
        time.sleep(POLL_SECONDS)


def unlock(descriptor: int) -> None:
    """Free a lock."""
    os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, checkpoint: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock for the length of a block; parameters as `lock`."""
    descriptor = lock(path, shared=shared, checkpoint=checkpoint)
    try:
        yield
    finally:
        unlock(descriptor)
