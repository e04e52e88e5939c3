"""Create, edit and clone, and the fragments of their form."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from configurations.draft import UploadedData
from configurations.forms import data_token
from configurations.models import Configuration
from configurations.row_fields import RowField
from configurations.tests.packages import FEDML_YAML, form_data, make_configuration, make_package
from runs.models import Membership, Project, Role

CREATE = reverse("configuration_create")
DRAFT = reverse("configuration_draft")
PREVIEW = reverse("configuration_preview")


@pytest.fixture
def data(owner: User) -> dict[str, Any]:
    """What a browser sends to save a new configuration of owner."""
    return form_data(make_package(owner, "server"), make_package(owner, "client"))


def _rows(answer: Any, section: str = "hyperparameters_config") -> list[tuple[str, str, str]]:
    fields: list[RowField] = next(part.rows for part in answer.context["form"].sections if part.name == section)
    return [(field.name, field.type, field.text) for field in fields]


# --- Create ---------------------------------------------------------------------------------------------------------


def test_create_saves_what_was_typed(as_owner: Client, owner: User, project: Project, data: dict[str, Any]) -> None:
    token = data_token(UploadedData("train.csv", "a" * 64, 30), owner)
    data |= {"project": project.pk, "private_data_path": " digits ", "synthetic_data": token}
    data["hyperparameters_config-value"] = ["1e-3", "5", "${FEDSYS_CLIENT_NUM}"]
    answer = as_owner.post(CREATE, data)
    configuration = Configuration.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, configuration.get_absolute_url())
    assert (configuration.owner, configuration.project, configuration.name) == (owner, project, "FedAvg")
    assert configuration.hyperparameters_config == [
        {"name": "lr", "type": "float", "value": 0.001},
        {"name": "comm_round", "type": "integer", "value": 5},
        {"name": "client_num_per_round", "type": "string", "value": "${FEDSYS_CLIENT_NUM}"},
    ]
    assert configuration.private_data_path == "digits"
    assert (configuration.synthetic_data_name, configuration.synthetic_data_size) == ("train.csv", 30)


def test_create_keeps_everything_typed_after_an_error(as_owner: Client, data: dict[str, Any]) -> None:
    data |= {"private_data_path": "../x", "synthetic_data_url": "https://host/x.npz", "name": "Kept <name>"}
    data["hyperparameters_config-name"] = ["lr", "comm_round", "my own"]
    data["hyperparameters_config-value"] = ["zero", "10", "mine"]
    answer = as_owner.post(CREATE, data)
    assert answer.status_code == 200
    assert _rows(answer) == [("lr", "float", "zero"), ("comm_round", "integer", "10"), ("my own", "string", "mine")]
    page = answer.content.decode()
    for text in ("../x", "https://host/x.npz", "Kept &lt;name&gt;", data["server_package"], data["client_package"]):
        assert text in page
    assert "This is not a number." in page
    assert not Configuration.objects.exists()


def test_create_says_that_a_name_is_taken(as_owner: Client, data: dict[str, Any]) -> None:
    as_owner.post(CREATE, data)
    page = as_owner.post(CREATE, data).content.decode()
    assert "You have a configuration of this name already. Type another name." in page
    assert Configuration.objects.count() == 1


def test_create_offers_projects_in_which_the_user_may_start_runs(as_member: Client, member: User, owner: User) -> None:
    for name, role in (("Mine", Role.OWNER), ("Ours", Role.MEMBER), ("Seen", Role.VIEWER)):
        project = Project.objects.create(name=name, created_by=owner)
        Membership.objects.create(project=project, user=member, role=role)
    Project.objects.create(name="Foreign", created_by=owner)
    choices = as_member.get(CREATE).context["form"].fields["project"].queryset
    assert [project.name for project in choices] == ["Mine", "Ours"]


def test_create_refuses_a_package_that_someone_else_uploaded(as_stranger: Client, data: dict[str, Any]) -> None:
    answer = as_stranger.post(CREATE, data)
    assert answer.status_code == 200
    assert sorted(answer.context["form"].errors) == ["client_package", "server_package"]
    assert not Configuration.objects.exists()


def test_create_refuses_data_that_someone_else_uploaded(as_owner: Client, stranger: User, data: dict[str, Any]) -> None:
    data["synthetic_data"] = data_token(UploadedData("train.csv", "a" * 64, 30), stranger)
    assert list(as_owner.post(CREATE, data).context["form"].errors) == ["synthetic_data"]
    assert not Configuration.objects.exists()


def test_create_takes_either_a_url_or_a_file(as_owner: Client, owner: User, data: dict[str, Any]) -> None:
    data["synthetic_data"] = data_token(UploadedData("train.csv", "a" * 64, 30), owner)
    data["synthetic_data_url"] = "https://host/x.npz"
    page = as_owner.post(CREATE, data).content.decode()
    assert "Synthetic data have both a URL and an uploaded file." in page
    assert not Configuration.objects.exists()


def test_create_is_for_reading_and_posting_alone(as_owner: Client) -> None:
    assert as_owner.put(CREATE).status_code == 405


def test_create_sends_who_is_not_signed_in_to_the_sign_in_page(db: None) -> None:
    assert Client().post(CREATE, {}).status_code == 302


def test_rows_beyond_the_limit_are_refused(as_owner: Client, data: dict[str, Any]) -> None:
    count = 151
    data["hyperparameters_config-name"] = [f"v{number}" for number in range(count)]
    data["hyperparameters_config-type"] = ["integer"] * count
    data["hyperparameters_config-value"] = ["1"] * count
    answer = as_owner.post(CREATE, data)
    assert "There are more than 150 rows." in [problem.message for problem in answer.context["form"].problems]


# --- Edit -----------------------------------------------------------------------------------------------------------


def test_edit_shows_and_saves_the_values(as_owner: Client, owner: User, data: dict[str, Any]) -> None:
    configuration = make_configuration(owner, "Old name")
    url = reverse("configuration_edit", args=[configuration.pk])
    shown = as_owner.get(url)
    assert _rows(shown)[0] == ("lr", "float", "0.03")
    assert shown.context["form"]["name"].value() == "Old name"
    data["hyperparameters_config-value"] = ["0.5", "10", "${FEDSYS.CLIENT_NUM}"]
    answer = as_owner.post(url, data | {"name": "New name"})
    configuration.refresh_from_db()
    assert (answer.status_code, configuration.name) == (302, "New name")
    assert configuration.hyperparameters_config[0]["value"] == 0.5


def test_edit_keeps_uploaded_data(as_owner: Client, owner: User, data: dict[str, Any]) -> None:
    configuration = make_configuration(
        owner, synthetic_data_name="train.csv", synthetic_data_sha256="a" * 64, synthetic_data_size=30
    )
    url = reverse("configuration_edit", args=[configuration.pk])
    token = as_owner.get(url).context["form"]["synthetic_data"].value()
    as_owner.post(url, data | {"synthetic_data": token})
    configuration.refresh_from_db()
    assert configuration.synthetic_data_sha256 == "a" * 64


@pytest.mark.parametrize("name", ["configuration_edit", "configuration_delete"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_member_sees_a_shared_configuration_and_may_not_change_it(
    as_member: Client, owner: User, project: Project, data: dict[str, Any], name: str, method: str
) -> None:
    configuration = make_configuration(owner, "Shared", project=project)
    url = reverse(name, args=[configuration.pk])
    assert getattr(as_member, method)(url, data).status_code == 403
    configuration.refresh_from_db()
    assert configuration.name == "Shared"


@pytest.mark.parametrize("name", ["configuration_edit", "configuration_clone", "configuration_delete"])
def test_a_stranger_and_a_bad_id_find_nothing(
    as_stranger: Client, as_owner: Client, owner: User, data: dict[str, Any], name: str
) -> None:
    configuration = make_configuration(owner)
    url = reverse(name, args=[configuration.pk])
    assert as_stranger.get(url).status_code == 404
    assert as_owner.get(reverse(name, args=[configuration.pk + 1])).status_code == 404
    if name != "configuration_clone":
        assert as_stranger.post(url, data).status_code == 404
    assert Configuration.objects.filter(name="FedAvg").count() == 1


def test_edit_is_for_reading_and_posting_alone(as_owner: Client, owner: User) -> None:
    url = reverse("configuration_edit", args=[make_configuration(owner).pk])
    assert as_owner.delete(url).status_code == 405


# --- Clone ----------------------------------------------------------------------------------------------------------


def test_clone_fills_the_form_and_saves_nothing(as_member: Client, owner: User, project: Project) -> None:
    configuration = make_configuration(owner, project=project)
    answer = as_member.get(reverse("configuration_clone", args=[configuration.pk]))
    form = answer.context["form"]
    assert (form["name"].value(), form["project"].value()) == ("FedAvg (copy)", None)
    assert _rows(answer)[0] == ("lr", "float", "0.03")
    assert f'action="{CREATE}"' in answer.content.decode()
    assert Configuration.objects.count() == 1


def test_a_member_may_save_a_clone_of_a_shared_configuration(
    as_member: Client, owner: User, member: User, project: Project
) -> None:
    configuration = make_configuration(owner, project=project)
    data = form_data(configuration.server_package, configuration.client_package, name="Mine")
    assert as_member.post(CREATE, data).status_code == 302
    assert Configuration.objects.get(name="Mine").owner == member


def test_clone_is_for_reading_alone(as_owner: Client, owner: User) -> None:
    url = reverse("configuration_clone", args=[make_configuration(owner).pk])
    assert as_owner.post(url).status_code == 405


# --- Fragments ------------------------------------------------------------------------------------------------------

OTHER_YAML = FEDML_YAML.replace("lr: 0.03", "lr: 0.3").replace("  comm_round: 10", "  comm_round: 10\n  momentum: 0.9")


def _empty(data: dict[str, Any]) -> dict[str, Any]:
    """The form without any rows."""
    return {key: value for key, value in data.items() if "config-" not in key}


def test_a_package_that_came_in_fills_in_the_rows(as_owner: Client, data: dict[str, Any]) -> None:
    answer = as_owner.post(DRAFT, _empty(data) | {"package_new": "server", "client_package": ""})
    assert _rows(answer, "model_config") == [("modelName", "string", "lr")]
    assert _rows(answer) == [
        ("lr", "float", "0.03"),
        ("comm_round", "integer", "10"),
        ("client_num_per_round", "string", "${FEDSYS.CLIENT_NUM}"),
    ]
    page = answer.content.decode()
    assert 'id="package-server" class="conf-package" hx-swap-oob="true"' in page


def test_the_server_packages_values_win_over_those_filled_in_from_the_client(
    as_owner: Client, owner: User, data: dict[str, Any]
) -> None:
    client = make_package(owner, "client", OTHER_YAML)
    first = as_owner.post(
        DRAFT, _empty(data) | {"client_package": client.sha256, "server_package": "", "package_new": "client"}
    )
    assert _rows(first)[0] == ("lr", "float", "0.3")
    rows = {
        "hyperparameters_config-name": [row[0] for row in _rows(first)],
        "hyperparameters_config-type": [row[1] for row in _rows(first)],
        "hyperparameters_config-value": [row[2] for row in _rows(first)],
    }
    both = as_owner.post(DRAFT, data | rows | {"client_package": client.sha256, "package_new": "server"})
    assert _rows(both)[0] == ("lr", "float", "0.03")
    assert _rows(both)[-1] == ("momentum", "float", "0.9")
    page = both.content.decode()
    assert "The packages differ:" in page
    assert "Only the client package has it." in page


def test_a_new_package_keeps_what_was_typed_by_hand(as_owner: Client, owner: User, data: dict[str, Any]) -> None:
    new = make_package(owner, "server", OTHER_YAML)
    data["hyperparameters_config-name"] = ["lr", "comm_round", "client_num_per_round", "mine"]
    data["hyperparameters_config-type"] = ["float", "integer", "string", "integer"]
    data["hyperparameters_config-value"] = ["0.03", "99", "${FEDSYS.CLIENT_NUM}", "1"]
    change = {"server_package": new.sha256, "package_new": "server", "package_before": data["server_package"]}
    assert _rows(as_owner.post(DRAFT, data | change)) == [
        ("lr", "float", "0.3"),
        ("comm_round", "integer", "99"),
        ("momentum", "float", "0.9"),
        ("client_num_per_round", "string", "${FEDSYS.CLIENT_NUM}"),
        ("mine", "integer", "1"),
    ]


def test_a_difference_between_the_packages_can_be_chosen(as_owner: Client, owner: User, data: dict[str, Any]) -> None:
    data["client_package"] = make_package(owner, "client", OTHER_YAML).sha256
    answer = as_owner.post(DRAFT, data | {"row_take": "hyperparameters_config:0:client"})
    assert _rows(answer)[0] == ("lr", "float", "0.3")
    row = answer.context["form"].sections[1].rows[0]
    assert [(offer.kind, offer.text, offer.chosen) for offer in row.offers] == [
        ("server", "0.03", False),
        ("client", "0.3", True),
    ]
    assert answer.context["form"].focus == "hyperparameters_config-0-value"


def test_rows_are_added_removed_and_put_back(as_owner: Client, data: dict[str, Any]) -> None:
    added = as_owner.post(DRAFT, data | {"row_add": "hyperparameters_config"})
    assert _rows(added)[-1] == ("", "float", "")
    assert added.context["form"].focus == "hyperparameters_config-3-name"
    removed = as_owner.post(DRAFT, data | {"row_remove": "hyperparameters_config:0"})
    assert [row[0] for row in _rows(removed)] == ["comm_round", "client_num_per_round"]
    assert removed.context["form"].sections[1].removed == ["lr"]
    assert "Add the value lr again." in removed.content.decode()
    restored = as_owner.post(
        DRAFT,
        data
        | {"row_restore": "hyperparameters_config:lr"}
        | {
            "hyperparameters_config-name": ["comm_round"],
            "hyperparameters_config-type": ["integer"],
            "hyperparameters_config-value": ["10"],
        },
    )
    assert _rows(restored)[-1] == ("lr", "float", "0.03")


@pytest.mark.parametrize(
    "action",
    [
        {"row_remove": "hyperparameters_config:99"},
        {"row_remove": "hyperparameters_config:" + "9" * 5000},
        {"row_remove": "hyperparameters_config:-1"},
        {"row_remove": "owner:0"},
        {"row_add": "owner"},
        {"row_take": "hyperparameters_config:0:owner"},
        {"row_take": "hyperparameters_config:x:server"},
        {"row_restore": "hyperparameters_config:lr"},
        {"row_restore": "hyperparameters_config:unknown"},
        {"package_new": "owner"},
        {},
    ],
    ids=str,
)
def test_an_action_that_makes_no_sense_changes_nothing(
    as_owner: Client, data: dict[str, Any], action: dict[str, str]
) -> None:
    answer = as_owner.post(DRAFT, data | action)
    assert answer.status_code == 200
    assert [row[0] for row in _rows(answer)] == ["lr", "comm_round", "client_num_per_round"]


def test_the_preview_follows_the_rows(as_owner: Client, data: dict[str, Any]) -> None:
    data["hyperparameters_config-value"] = ["0.5", "10", "${hyperparameters_config.comm_rond}"]
    answer = as_owner.post(PREVIEW, data)
    arguments = {argument.name: argument.values for argument in answer.context["arguments"]}
    assert arguments["lr"] == {"server": "0.5", "client": "0.5"}
    assert arguments["clients"] == {"server": "[1,2,3,4]", "client": "[1]"}
    (problem,) = answer.context["preview_problems"]
    assert problem.fix == "Did you mean ${hyperparameters_config.comm_round}?"
    assert not Configuration.objects.exists()


def test_the_preview_shows_nothing_of_packages_of_others(as_stranger: Client, data: dict[str, Any]) -> None:
    assert as_stranger.post(PREVIEW, data).context["previews"] == []


@pytest.mark.parametrize("url", [DRAFT, PREVIEW])
def test_fragments_are_for_posting_by_who_is_signed_in(as_owner: Client, url: str) -> None:
    assert as_owner.get(url).status_code == 405
    assert as_owner.post(url).status_code == 200
    assert Client().post(url).status_code == 302
    assert Client(enforce_csrf_checks=True).post(url).status_code in (302, 403)
