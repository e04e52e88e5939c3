"""The periodic task that removes what nothing uses."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from configurations.models import Package
from configurations.services import synthetic_data_path, synthetic_data_store
from configurations.tasks import store_prune
from configurations.tests.conftest import stored_files
from configurations.tests.packages import make_configuration, make_package
from mlops_site.celery import app

LONG_AGO = timezone.now() - datetime.timedelta(days=2)


def test_it_removes_old_packages_and_data_twice_as_well_as_once(owner: User, store: Path) -> None:
    make_package(owner, "server")
    Package.objects.update(uploaded_at=LONG_AGO)
    data = synthetic_data_store(SimpleUploadedFile("train.csv", b"x,label\n1,2\n"))
    os.utime(synthetic_data_path(data.sha256), (LONG_AGO.timestamp(),) * 2)
    assert len(stored_files(store)) == 2
    store_prune()
    assert stored_files(store) == []
    store_prune()


def test_it_keeps_what_is_used_or_new(owner: User, store: Path) -> None:
    make_configuration(owner)
    Package.objects.update(uploaded_at=LONG_AGO)
    synthetic_data_store(SimpleUploadedFile("train.csv", b"x,label\n1,2\n"))
    store_prune()
    assert len(stored_files(store)) == 2


def test_the_worker_knows_it_and_beat_sends_it() -> None:
    app.loader.import_default_modules()
    assert store_prune.name in app.tasks
    assert store_prune.name in {entry["task"] for entry in app.conf.beat_schedule.values()}
