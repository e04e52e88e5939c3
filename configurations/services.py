"""Every write of packages and configurations."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files import File
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db import transaction
from django.db.models import ProtectedError
from django.utils import timezone

from configurations import store
from configurations.archive import ArchiveRefused, archive_open, inner_package
from configurations.manifest import manifest_read
from configurations.models import Configuration, Package, PackageKind
from configurations.problems import Problem, Refused


class PackageRefused(Refused):
    """The upload is not a package that can be used; ``problems`` says everything that is wrong with it."""


def package_path(package: Package) -> Path:
    """Return a package's zip on the local disk.

    Raises:
        FileNotFoundError: it is not in the store.
    """
    return store.local_path(package.storage_name)


def package_store(upload: File[bytes], kind: str, user: User) -> Package:
    """Check an uploaded package and keep it, named by its content. The same bytes are stored once.

    An archive that merely wraps the package of this kind (the builder's zipped output folder) is opened, and the
    package inside is what is kept.

    Args:
        upload: the file; it is read in pieces and never held in memory.
        kind: ``server`` or ``client``.
        user: who uploads it, and may use it from then on.

    Raises:
        PackageRefused: with every problem. Nothing is left behind.
    """
    try:
        file = store.to_disk(upload, settings.PACKAGE_MAX_BYTES)
        try:
            inner = _unwrap(file, kind)
            try:
                return _package_keep(inner or file, kind, user, Path(upload.name or "package.zip").name)
            finally:
                if inner is not None:
                    inner.close()
        finally:
            file.close()
    except PackageRefused:
        raise
    except Refused as refusal:
        raise PackageRefused(refusal.problems) from None


def _unwrap(file: TemporaryUploadedFile, kind: str) -> TemporaryUploadedFile | None:
    """Return the package inside an archive that merely wraps one, as a temporary file."""
    try:
        with archive_open(Path(file.temporary_file_path())) as archive:
            name = inner_package(archive, kind)
            if name is None:
                return None
            too_large = ArchiveRefused(f"{name} is too large.", "Leave out what a run does not need.")
            return store.temporary_file("package.zip", archive.chunks(name), settings.PACKAGE_MAX_BYTES, too_large)
    except ArchiveRefused as error:
        raise PackageRefused([Problem("package.zip", None, error.message, error.fix)]) from None


def _package_keep(file: TemporaryUploadedFile, kind: str, user: User, file_name: str) -> Package:
    manifest = manifest_read(Path(file.temporary_file_path()), kind)
    sha256, size = store.sha256_of(file), file.size or 0
    name = store.storage_name("packages", sha256)
    with store.store_lock():
        is_new = store.put(file, name)
        try:
            with transaction.atomic():
                package, _ = Package.objects.update_or_create(
                    sha256=sha256,
                    kind=PackageKind(kind),
                    defaults={"uploaded_at": timezone.now(), "manifest": manifest},
                    create_defaults={
                        "file_name": file_name[:255],
                        "size": size,
                        "storage_name": name,
                        "manifest": manifest,
                    },
                )
                package.uploaders.add(user)
        except BaseException:
            if is_new:
                default_storage.delete(name)
            raise
    return package


def packages_prune(*, unused_for: datetime.timedelta = datetime.timedelta(days=1)) -> int:
    """Remove packages that no configuration and no run is made of, and return how many.

    Args:
        unused_for: what came in later than this long ago is kept: its configuration may not be saved yet.
    """
    removed = 0
    for package in Package.objects.filter(uploaded_at__lt=timezone.now() - unused_for).iterator():
        with store.store_lock():
            try:
                with transaction.atomic():
                    # Configurations and runs protect what they are made of, and so does a fresh upload of the bytes.
                    fresh = Package.objects.select_for_update().filter(pk=package.pk).first()
                    if fresh is None or fresh.uploaded_at != package.uploaded_at:
                        continue
                    fresh.delete()
            except ProtectedError:
                continue
            removed += 1
            if not Package.objects.filter(storage_name=package.storage_name).exists():
                default_storage.delete(package.storage_name)
    return removed


def configuration_copy(configuration: Configuration) -> dict[str, Any]:
    """Return the frozen copy of a configuration that a run keeps (its shape stands at ``runs.models.Run``)."""
    return {
        "name": configuration.name,
        "model_config": configuration.model_config,
        "hyperparameters_config": configuration.hyperparameters_config,
        "private_data_path": configuration.private_data_path,
        "synthetic_data_url": configuration.synthetic_data_url,
        "synthetic_data_name": configuration.synthetic_data_name,
        "synthetic_data_sha256": configuration.synthetic_data_sha256,
        "synthetic_data_size": configuration.synthetic_data_size,
        "server": configuration.server_package.manifest,
        "client": configuration.client_package.manifest,
        "overrides": [],
    }


def synthetic_data_path(sha256: str) -> Path:
    """Return uploaded synthetic data on the local disk.

    Raises:
        FileNotFoundError: it is not in the store.
    """
    return store.local_path(store.storage_name("data", sha256))
