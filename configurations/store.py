"""Uploaded files on disk: named by the sha256 of their bytes, so that the same file is stored once."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import TemporaryUploadedFile

from configurations.problems import Problem, Refused

Folder = Literal["packages", "data"]


def storage_name(folder: Folder, sha256: str) -> str:
    """Return the name in the default storage of the file with this digest."""
    suffix = ".zip" if folder == "packages" else ""
    return f"{folder}/{sha256[:2]}/{sha256}{suffix}"


def local_path(name: str) -> Path:
    """Return a stored file on the local disk; one in a remote storage is fetched into a cache first.

    Raises:
        FileNotFoundError: the storage does not hold it.
    """
    try:
        path = Path(default_storage.path(name))
    except NotImplementedError:
        path = Path(settings.VAR_DIR) / "cache" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            work_path = path.with_name(f".{path.name}.{os.getpid()}")
            with default_storage.open(name) as source, work_path.open("wb") as target:
                for chunk in source.chunks():
                    target.write(chunk)
            work_path.replace(path)
    if not path.is_file():
        raise FileNotFoundError(f"{name} is not in the store.")
    return path


def to_disk(upload: File[bytes], size_max: int) -> TemporaryUploadedFile:
    """Return the upload as a temporary file on disk, which is gone when it is closed.

    Args:
        upload: what came in; one that is on disk already is taken as it is.
        size_max: bytes.

    Raises:
        Refused: it is larger than ``size_max``.
    """
    name = Path(upload.name or "upload").name
    too_large = Refused(
        [
            Problem(
                name,
                None,
                f"The file is larger than the {size_max // (1024 * 1024)} MiB that are allowed.",
                "Leave out what a run does not need.",
            )
        ]
    )
    if isinstance(upload, TemporaryUploadedFile):
        if (upload.size or 0) > size_max:
            raise too_large
        return upload
    return temporary_file(name, upload.chunks(), size_max, too_large)


def temporary_file(name: str, chunks: Iterator[bytes], size_max: int, too_large: Exception) -> TemporaryUploadedFile:
    """Write chunks to a temporary file on disk; raise ``too_large`` once they are more than ``size_max`` bytes."""
    file = TemporaryUploadedFile(name, "application/octet-stream", 0, None)
    size = 0
    try:
        for chunk in chunks:
            size += len(chunk)
            if size > size_max:
                raise too_large
            file.write(chunk)
        file.flush()
    except BaseException:
        file.close()
        raise
    file.size = size
    return file


def sha256_of(file: TemporaryUploadedFile) -> str:
    """Return the digest of a file's bytes, read in pieces."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(1024 * 1024):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def put(file: TemporaryUploadedFile, name: str) -> bool:
    """Move a checked file to its place, and return whether it was not there before.

    The same bytes may be put there at the same moment by another process; then one of the two stays, whole.
    """
    try:
        target = Path(default_storage.path(name))
    except NotImplementedError:
        if default_storage.exists(name):
            return False
        default_storage.save(name, file)
        return True
    if target.exists():
        target.touch()  # it came in again just now: not to be pruned as long unused
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    source = Path(file.temporary_file_path())
    source.chmod(0o644)
    source.touch()
    try:
        source.replace(target)
    except OSError:  # the upload folder is on another file system: copy beside the target, then rename
        work_path = target.with_name(f".{target.name}.{source.name}")
        try:
            with work_path.open("wb") as copy:
                for chunk in file.chunks():
                    copy.write(chunk)
            work_path.replace(target)
        finally:
            work_path.unlink(missing_ok=True)
    return True


def names(folder: Folder) -> Iterator[str]:
    """Yield the names of all files of a folder of the store."""
    try:
        prefixes, _ = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    for prefix in prefixes:
        for name in default_storage.listdir(f"{folder}/{prefix}")[1]:
            if not name.startswith("."):
                yield f"{folder}/{prefix}/{name}"


@contextmanager
def store_lock() -> Iterator[None]:
    """Keep the removal of a file and the arrival of the same bytes apart, on every process of this machine."""
    path = Path(settings.STORE_DIR) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
