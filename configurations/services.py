"""Every write of packages and configurations."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files import File
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from configurations import store
from configurations.archive import ArchiveRefused, archive_open, inner_package
from configurations.draft import NAME_MAX, ConfigurationDraft, UploadedData
from configurations.manifest import manifest_read
from configurations.models import Configuration, Package, PackageKind
from configurations.problems import Problem, Refused
from configurations.synthetic_data import data_check

UNUSED_FOR = datetime.timedelta(days=1)


class PackageRefused(Refused):
    """The upload is not a package that can be used; ``problems`` says everything that is wrong with it."""


class DataRefused(Refused):
    """The upload is not data that can be trained on."""


class ConfigurationRefused(Refused):
    """The configuration cannot be saved or deleted as it is; ``problems`` says everything that is wrong with it."""


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


def packages_prune(*, unused_for: datetime.timedelta = UNUSED_FOR) -> int:
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


def synthetic_data_store(upload: File[bytes]) -> UploadedData:
    """Check uploaded training data (``.npz`` without pickles, or ``.csv``) and keep it, named by its content.

    Raises:
        DataRefused: with a sentence. Nothing is left behind.
    """
    name = Path(upload.name or "").name[:255]
    try:
        file = store.to_disk(upload, settings.DATA_MAX_BYTES)
        try:
            data_check(Path(file.temporary_file_path()), name, settings.DATA_MAX_BYTES)
            sha256, size = store.sha256_of(file), file.size or 0
            with store.store_lock():
                store.put(file, store.storage_name("data", sha256))
            return UploadedData(name, sha256, size)
        finally:
            file.close()
    except Refused as refusal:
        raise DataRefused(refusal.problems) from None


def synthetic_data_path(sha256: str) -> Path:
    """Return uploaded synthetic data on the local disk.

    Raises:
        FileNotFoundError: it is not in the store.
    """
    return store.local_path(store.storage_name("data", sha256))


def synthetic_data_prune(*, unused_for: datetime.timedelta = UNUSED_FOR) -> int:
    """Remove uploaded data that no configuration and no run uses, and return how many files that were.

    Args:
        unused_for: what came in later than this long ago is kept: its configuration may not be saved yet.
    """
    removed = 0
    runs = apps.get_model("runs", "Run")._default_manager
    for name in store.names("data"):
        sha256 = name.rsplit("/", 1)[-1]
        with store.store_lock():
            used = (
                default_storage.get_modified_time(name) > timezone.now() - unused_for
                or Configuration.objects.filter(synthetic_data_sha256=sha256).exists()
                or runs.filter(configuration_copy__synthetic_data_sha256=sha256).exists()
            )
            if not used:
                default_storage.delete(name)
                removed += 1
    return removed


def configuration_create(draft: ConfigurationDraft, *, owner: User) -> Configuration:
    """Save a new configuration.

    Raises:
        ConfigurationRefused: with every problem; nothing is saved.
    """
    return _configuration_save(Configuration(owner=owner), draft)


def configuration_update(configuration: Configuration, draft: ConfigurationDraft) -> Configuration:
    """Save new values of a configuration. Runs that were made of it keep their own copies.

    Raises:
        ConfigurationRefused: with every problem; nothing is saved.
    """
    return _configuration_save(configuration, draft)


def configuration_clone(configuration: Configuration, *, owner: User, name: str = "") -> Configuration:
    """Save a copy of a configuration for ``owner``, shared with nobody.

    Args:
        name: its name; made from the original's when empty.

    Raises:
        ConfigurationRefused: with every problem; nothing is saved.
    """
    return configuration_create(clone_draft(configuration, owner=owner, name=name), owner=owner)


def clone_draft(configuration: Configuration, *, owner: User, name: str = "") -> ConfigurationDraft:
    """Return what :func:`configuration_clone` would save, under a name that ``owner`` has not used yet."""
    draft = ConfigurationDraft.of(configuration)
    draft.project = None
    draft.name = name or _free_name(configuration.name, owner)
    return draft


def _free_name(name: str, owner: User) -> str:
    taken = set(owner.configurations.values_list("name", flat=True))
    for number in range(1, len(taken) + 2):
        suffix = " (copy)" if number == 1 else f" (copy {number})"
        candidate = name[: NAME_MAX - len(suffix)] + suffix
        if candidate not in taken:
            return candidate
    raise AssertionError("one of n + 1 names is not among n")


def _configuration_save(configuration: Configuration, draft: ConfigurationDraft) -> Configuration:
    problems = draft.problems()
    if problems:
        raise ConfigurationRefused(problems)
    data = draft.synthetic_data or UploadedData("", "", 0)
    configuration.name = draft.name.strip()
    configuration.project = draft.project
    configuration.server_package = draft.server_package
    configuration.client_package = draft.client_package
    configuration.model_config = draft.model_config
    configuration.hyperparameters_config = draft.hyperparameters_config
    configuration.private_data_path = draft.private_data_path
    configuration.synthetic_data_url = draft.synthetic_data_url
    configuration.synthetic_data_name = data.name
    configuration.synthetic_data_sha256 = data.sha256
    configuration.synthetic_data_size = data.size
    try:
        with transaction.atomic():
            configuration.save()
    except IntegrityError:
        same_name = Configuration.objects.filter(owner=configuration.owner, name=configuration.name)
        if not same_name.exclude(pk=configuration.pk).exists():
            raise
        raise ConfigurationRefused(
            [Problem("name", None, "You have a configuration of this name already.", "Type another name.")]
        ) from None
    return configuration


def configuration_delete(configuration: Configuration) -> None:
    """Delete a configuration. Its packages go with the next :func:`packages_prune`, unless something else uses them.

    Raises:
        ConfigurationRefused: a run that is not over was made of it.
    """
    active = configuration.runs.active().order_by("pk").values_list("name", flat=True)
    if names := list(active[:5]):
        raise ConfigurationRefused(
            [
                Problem(
                    "runs",
                    None,
                    f"The configuration is in use by {', '.join(names)}.",
                    "Stop the run or wait for its end, then delete the configuration.",
                )
            ]
        )
    configuration.delete()


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
