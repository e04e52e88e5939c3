"""Every hostile or broken package and configuration gives its own clear message and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from configurations.forms import ConfigurationForm
from configurations.models import Configuration, Package
from configurations.services import PackageRefused, package_store
from configurations.tests.conftest import stored_files
from configurations.tests.hostile import PACKAGES
from configurations.tests.hostile_configurations import CONFIGURATIONS, HostileConfiguration
from configurations.tests.hostile_yaml import HostilePackage
from configurations.tests.packages import form_data, make_package, upload


@pytest.mark.parametrize("case", PACKAGES, ids=lambda case: case.name)
def test_a_hostile_package_is_refused_with_its_own_message(
    case: HostilePackage, owner: User, store: Path, uploads: Path, settings: Any
) -> None:
    for name, value in case.limits.items():
        setattr(settings, name, value)
    with pytest.raises(PackageRefused) as refusal:
        package_store(upload(case.build()), "server", owner)
    problem = refusal.value.problems[0]
    assert problem.message == case.message
    assert case.fix in problem.fix
    assert problem.line == case.line
    assert len(refusal.value.problems) == 1
    assert (stored_files(store), list(uploads.iterdir())) == ([], [])
    assert not Package.objects.exists()


def test_no_two_hostile_packages_are_told_apart_by_nothing() -> None:
    assert len({case.name for case in PACKAGES}) == len(PACKAGES)
    assert len({case.message for case in PACKAGES}) >= 30


def test_a_hostile_upload_is_answered_with_its_problems(as_owner: Client, store: Path, uploads: Path) -> None:
    case = next(case for case in PACKAGES if case.name == "yaml_octal")
    answer = as_owner.post(reverse("package_upload"), {"kind": "server", "file": upload(case.build())})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "YAML reads batch: 010 as the octal number 8."
        " Write 10 or 8 for the number, or put it in quotes for the text.",
        "problems": [
            {
                "file": "package/conf/fedml.yaml",
                "line": 6,
                "message": "YAML reads batch: 010 as the octal number 8.",
                "fix": "Write 10 or 8 for the number, or put it in quotes for the text.",
            }
        ],
    }
    assert (stored_files(store), list(uploads.iterdir())) == ([], [])


def _error_at(form: ConfigurationForm, place: str) -> str:
    if place == "problems":
        return " ".join(f"{problem.message} {problem.fix}" for problem in form.problems)
    if ":" in place:
        section_name, index = place.split(":")
        section = next(section for section in form.sections if section.name == section_name)
        return section.rows[int(index)].error
    return " ".join(str(error) for error in form.errors.get(place, []))


@pytest.mark.parametrize("case", CONFIGURATIONS, ids=lambda case: case.name)
def test_a_hostile_configuration_is_refused_with_its_own_message(
    case: HostileConfiguration, as_owner: Client, owner: User
) -> None:
    data = form_data(make_package(owner, "server"), make_package(owner, "client"), **case.fields)
    answer = as_owner.post(reverse("configuration_create"), data)
    assert answer.status_code == 200
    assert case.message in _error_at(answer.context["form"], case.place)
    assert not Configuration.objects.exists()
