"""Packages, data and configurations: what is stored, what is refused, what is removed again."""

from __future__ import annotations

import datetime
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.utils import timezone

from configurations.draft import ConfigurationDraft, UploadedData
from configurations.models import Configuration, Package
from configurations.services import (
    ConfigurationRefused,
    PackageRefused,
    configuration_clone,
    configuration_copy,
    configuration_create,
    configuration_delete,
    configuration_update,
    package_path,
    package_store,
    packages_prune,
    synthetic_data_path,
    synthetic_data_prune,
    synthetic_data_store,
)
from configurations.tests.conftest import stored_files
from configurations.tests.packages import make_configuration, make_package, package_bytes, upload, zip_of
from runs.models import Project, Run
from runs.states import RunState

LONG_AGO = datetime.timedelta(days=2)
CSV = b"x1,x2,label\n0.1,0.2,0\n0.3,0.4,1\n"


def _aged(package: Package) -> Package:
    Package.objects.filter(pk=package.pk).update(uploaded_at=timezone.now() - LONG_AGO)
    package.refresh_from_db()
    return package


def _run(configuration: Configuration, project: Project, state: RunState) -> Run:
    return Run.objects.create(
        project=project,
        name="eye_rain",
        configuration=configuration,
        configuration_copy=configuration_copy(configuration),
        server_package=configuration.server_package,
        client_package=configuration.client_package,
        backend="process",
        state=state,
    )


def test_a_package_is_named_by_its_content(owner: User, store: Path) -> None:
    content = package_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    package = package_store(upload(content, "mine.zip"), "server", owner)
    assert (package.sha256, package.size, package.file_name) == (sha256, len(content), "mine.zip")
    assert stored_files(store) == [f"packages/{sha256[:2]}/{sha256}.zip"]
    assert package_path(package).read_bytes() == content
    assert list(package.uploaders.all()) == [owner]


def test_the_same_file_twice_is_stored_once(owner: User, stranger: User, store: Path, uploads: Path) -> None:
    first, second = make_package(owner, "server"), make_package(stranger, "server")
    assert first == second
    assert set(first.uploaders.all()) == {owner, stranger}
    assert (len(stored_files(store)), list(uploads.iterdir())) == (1, [])


def test_the_same_file_as_server_and_client_shares_its_bytes(owner: User, store: Path) -> None:
    assert make_package(owner, "server").pk != make_package(owner, "client").pk
    assert len(stored_files(store)) == 1


def test_a_wrapped_package_is_stored_as_itself(owner: User) -> None:
    inner = package_bytes()
    wrapped = zip_of({"dist-packages/server/package.zip": inner, "dist-packages/client/package.zip": b"other"})
    package = package_store(upload(wrapped, "dist-packages.zip"), "server", owner)
    assert package.sha256 == hashlib.sha256(inner).hexdigest()


@pytest.mark.django_db(transaction=True)
def test_two_identical_uploads_at_once_make_one_package(store: Path, uploads: Path) -> None:
    users = [User.objects.create_user(f"user{number}") for number in range(4)]
    barrier = threading.Barrier(len(users))
    packages: list[Package] = []
    errors: list[BaseException] = []

    def work(user: User) -> None:
        try:
            barrier.wait()
            packages.append(package_store(upload(package_bytes()), "server", user))
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=[user]) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({package.pk for package in packages}) == 1
    assert set(Package.objects.get().uploaders.all()) == set(users)
    assert (len(stored_files(store)), list(uploads.iterdir())) == (1, [])


def test_a_package_that_cannot_be_recorded_leaves_no_file(
    owner: User, store: Path, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(Package.objects, "update_or_create", fail)
    with pytest.raises(RuntimeError):
        make_package(owner, "server")
    assert (stored_files(store), list(uploads.iterdir())) == ([], [])


def test_prune_removes_what_nothing_uses(owner: User, store: Path) -> None:
    _aged(make_package(owner, "server"))
    assert packages_prune() == 1
    assert (stored_files(store), Package.objects.count()) == ([], 0)
    assert packages_prune() == 0


def test_prune_keeps_what_came_in_lately(owner: User, store: Path) -> None:
    _aged(make_package(owner, "server"))
    make_package(owner, "server")  # again: now it may be saved any moment
    assert packages_prune() == 0
    assert len(stored_files(store)) == 1


def test_prune_keeps_what_a_configuration_or_a_run_is_made_of(owner: User, project: Project, store: Path) -> None:
    configuration = make_configuration(owner)
    for package in Package.objects.all():
        _aged(package)
    assert packages_prune() == 0
    run = _run(configuration, project, RunState.FINISHED)
    configuration_delete(configuration)
    assert packages_prune() == 0
    run.delete()
    assert packages_prune() == 2
    assert stored_files(store) == []


def test_prune_keeps_bytes_that_another_package_shares(owner: User, store: Path) -> None:
    _aged(make_package(owner, "server"))
    make_package(owner, "client")
    assert packages_prune() == 1
    assert len(stored_files(store)) == 1


def test_data_are_stored_once_and_found_again(store: Path, uploads: Path, db: None) -> None:
    first = synthetic_data_store(SimpleUploadedFile("train.csv", CSV))
    second = synthetic_data_store(SimpleUploadedFile("same.csv", CSV))
    assert first == UploadedData("train.csv", hashlib.sha256(CSV).hexdigest(), len(CSV))
    assert second.sha256 == first.sha256
    assert synthetic_data_path(first.sha256).read_bytes() == CSV
    assert (len(stored_files(store)), list(uploads.iterdir())) == (1, [])


def test_data_are_pruned_when_no_configuration_and_no_run_uses_them(owner: User, project: Project, store: Path) -> None:
    data = synthetic_data_store(SimpleUploadedFile("train.csv", CSV))
    now = datetime.timedelta(0)
    assert synthetic_data_prune() == 0
    configuration = make_configuration(
        owner, synthetic_data_name=data.name, synthetic_data_sha256=data.sha256, synthetic_data_size=data.size
    )
    assert synthetic_data_prune(unused_for=now) == 0
    run = _run(configuration, project, RunState.FINISHED)
    configuration.delete()
    assert synthetic_data_prune(unused_for=now) == 0
    run.delete()
    assert synthetic_data_prune(unused_for=now) == 1
    with pytest.raises(FileNotFoundError):
        synthetic_data_path(data.sha256)


def _draft(owner: User, **changes: Any) -> ConfigurationDraft:
    draft = ConfigurationDraft(
        name="FedAvg",
        server_package=make_package(owner, "server"),
        client_package=make_package(owner, "client"),
        model_config=[{"name": "modelName", "type": "string", "value": "mlp"}],
        hyperparameters_config=[
            {"name": "lr", "type": "float", "value": 0.1},
            {"name": "comm_round", "type": "integer", "value": 5},
            {"name": "client_num_per_round", "type": "integer", "value": 2},
        ],
    )
    for name, value in changes.items():
        setattr(draft, name, value)
    return draft


def test_a_configuration_is_saved_as_it_was_drafted(owner: User, project: Project) -> None:
    data = UploadedData("train.csv", "a" * 64, 10)
    draft = _draft(owner, project=project, private_data_path="digits", synthetic_data=data)
    configuration = configuration_create(draft, owner=owner)
    configuration.refresh_from_db()
    assert ConfigurationDraft.of(configuration) == draft
    assert configuration.owner == owner


def test_a_name_is_taken_once_by_each_owner(owner: User, stranger: User) -> None:
    configuration_create(_draft(owner), owner=owner)
    configuration_create(_draft(stranger), owner=stranger)
    with pytest.raises(ConfigurationRefused, match="You have a configuration of this name already"):
        configuration_create(_draft(owner), owner=owner)
    assert Configuration.objects.count() == 2


def test_a_refused_update_changes_nothing(owner: User) -> None:
    configuration = make_configuration(owner)
    with pytest.raises(ConfigurationRefused, match="is absolute"):
        configuration_update(configuration, _draft(owner, private_data_path="/etc"))
    configuration.refresh_from_db()
    assert (configuration.model_config[0]["value"], configuration.private_data_path) == ("lr", "")


def test_clones_have_names_of_their_own_and_are_shared_with_nobody(owner: User, member: User, project: Project) -> None:
    configuration = make_configuration(owner, project=project)
    names = [configuration_clone(configuration, owner=user).name for user in (owner, owner, member)]
    assert names == ["FedAvg (copy)", "FedAvg (copy 2)", "FedAvg (copy)"]
    clone = Configuration.objects.get(owner=member)
    assert (clone.project, clone.server_package) == (None, configuration.server_package)
    assert clone.hyperparameters_config == configuration.hyperparameters_config


def test_a_clone_of_the_longest_name_fits(owner: User) -> None:
    clone = configuration_clone(make_configuration(owner, name="n" * 120), owner=owner)
    assert clone.name == "n" * 113 + " (copy)"


@pytest.mark.parametrize("state", RunState)
def test_delete_is_refused_while_a_run_that_is_not_over_uses_it(owner: User, project: Project, state: RunState) -> None:
    configuration = make_configuration(owner)
    run = _run(configuration, project, state)
    if state in RunState.active():
        with pytest.raises(ConfigurationRefused, match="The configuration is in use by eye_rain"):
            configuration_delete(configuration)
        assert Configuration.objects.filter(pk=configuration.pk).exists()
        return
    configuration_delete(configuration)
    run.refresh_from_db()
    assert (run.configuration, run.configuration_copy["name"]) == (None, "FedAvg")


def test_the_frozen_copy_has_everything_that_a_run_needs(owner: User) -> None:
    configuration = make_configuration(owner, private_data_path="digits")
    assert configuration_copy(configuration) == {
        "name": "FedAvg",
        "model_config": configuration.model_config,
        "hyperparameters_config": configuration.hyperparameters_config,
        "private_data_path": "digits",
        "synthetic_data_url": "",
        "synthetic_data_name": "",
        "synthetic_data_sha256": "",
        "synthetic_data_size": 0,
        "server": configuration.server_package.manifest,
        "client": configuration.client_package.manifest,
        "overrides": [],
    }


def test_a_package_larger_than_allowed_is_refused_before_it_is_all_read(
    owner: User, settings: Any, uploads: Path, store: Path
) -> None:
    settings.PACKAGE_MAX_BYTES = 1024 * 1024
    read = 0

    class Endless(SimpleUploadedFile):
        def chunks(self, chunk_size: int | None = None) -> Any:
            nonlocal read
            while True:
                read += 1
                yield bytes(256 * 1024)

    with pytest.raises(PackageRefused, match="larger than the 1 MiB"):
        package_store(Endless("package.zip", b""), "server", owner)
    assert read == 5
    assert (stored_files(store), list(uploads.iterdir())) == ([], [])


def test_it_goes_on_where_uploads_and_store_are_on_different_file_systems(
    owner: User, store: Path, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def replace(self: Path, target: Any) -> Path:
        if self.parent == uploads:
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    package = make_package(owner, "server")
    assert package_path(package).read_bytes() == package_bytes()
    assert (len(stored_files(store)), list(uploads.iterdir())) == (1, [])
