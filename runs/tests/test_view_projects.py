from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from accounts.tests.objects import make_device, make_project, make_run, make_user
from runs.models import Membership, Project, Role
from runs.states import RunState

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def grace() -> User:
    return make_user("grace")


@pytest.fixture
def mallory() -> User:
    return make_user("mallory")


@pytest.fixture
def project(ada: User, grace: User) -> Project:
    """Owned by ada, with grace as a member."""
    return make_project(ada, "Digits", member="grace")


def as_user(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def roles(project: Project) -> dict[str, str]:
    return dict(project.memberships.values_list("user__username", "role"))


def said(client: Client) -> list[str]:
    """The messages that the next page shows."""
    return [str(message) for message in client.get(reverse("project_list")).context["messages"]]


# --- List


def test_the_list_shows_the_own_projects_with_their_last_run(ada: User, mallory: User, project: Project) -> None:
    make_run(project, name="older", state=RunState.FINISHED)
    make_run(project, name="newer", state=RunState.RUNNING)
    make_project(mallory, "Not for ada")
    response = as_user(ada).get(reverse("project_list"))
    (row,) = response.context["listing"].page
    assert (row.name, row.run_count, row.active_count, row.member_count, row.role) == ("Digits", 2, 1, 2, "owner")
    assert (row.last_run_name, row.last_run_state) == ("newer", RunState.RUNNING)


def test_the_list_says_what_to_do_when_it_is_empty(mallory: User) -> None:
    page = as_user(mallory).get(reverse("project_list")).content.decode()
    assert "No projects yet" in page
    assert page.count(f'href="{reverse("project_create")}"') == 2


def test_the_list_is_searched_sorted_and_paged_by_its_url(ada: User) -> None:
    for number in range(30):
        make_project(ada, f"Study {number:02}")
    client = as_user(ada)

    def names(query: str) -> list[str]:
        return [row.name for row in client.get(reverse("project_list") + query).context["listing"].page]

    assert names("?q=study+07") == ["Study 07"]
    assert names("?q=nothing") == []
    assert names("?sort=name&page=2") == [f"Study {number:02}" for number in range(25, 30)]
    assert names("?sort=-name")[0] == "Study 29"
    assert names("?sort=password&page=x")[0] == "Study 29"


def test_the_list_needs_the_same_queries_for_many_projects(
    ada: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = as_user(ada)
    make_run(make_project(ada, "One"))
    with django_assert_num_queries(4):
        client.get(reverse("project_list"))
    for number in range(10):
        make_run(make_project(ada, f"Study {number}"))
    with django_assert_num_queries(4):
        client.get(reverse("project_list"))


# --- Create, edit, delete


def test_whoever_creates_a_project_owns_it(ada: User) -> None:
    response = as_user(ada).post(reverse("project_create"), {"name": "Digits", "description": "Four sites"})
    project = Project.objects.get()
    assert response.headers["Location"] == project.get_absolute_url()
    assert (project.name, project.description, project.created_by) == ("Digits", "Four sites", ada)
    assert roles(project) == {"ada": "owner"}


def test_a_project_needs_a_name(ada: User) -> None:
    response = as_user(ada).post(reverse("project_create"), {"name": " "})
    assert response.status_code == 200
    assert "This field is required." in response.content.decode()
    assert not Project.objects.exists()


def test_its_owner_edits_a_project(ada: User, project: Project) -> None:
    url = reverse("project_edit", args=[project.pk])
    assert as_user(ada).get(url).status_code == 200
    as_user(ada).post(url, {"name": "Letters", "description": ""})
    project.refresh_from_db()
    assert project.name == "Letters"


def test_its_owner_deletes_a_project_without_runs(ada: User, project: Project) -> None:
    response = as_user(ada).post(reverse("project_delete", args=[project.pk]))
    assert response.headers["Location"] == reverse("project_list")
    assert not Project.objects.exists()


def test_a_project_with_runs_is_not_deleted(ada: User, project: Project) -> None:
    make_run(project)
    client = as_user(ada)
    client.post(reverse("project_delete", args=[project.pk]))
    assert said(client) == ["A project that has runs cannot be deleted: their results would be lost."]
    assert Project.objects.exists()


@pytest.mark.parametrize("name", ["project_edit", "project_delete", "member_add"])
def test_a_member_may_not_do_what_owners_do(grace: User, project: Project, name: str) -> None:
    fields = {"name": "Stolen", "username": "grace", "role": "owner"}
    assert as_user(grace).post(reverse(name, args=[project.pk]), fields).status_code == 403
    project.refresh_from_db()
    assert project.name == "Digits"
    assert roles(project) == {"ada": "owner", "grace": "member"}


@pytest.mark.parametrize("name", ["project_edit", "project_delete", "member_add"])
def test_a_stranger_finds_nothing_to_change(mallory: User, project: Project, name: str) -> None:
    fields = {"name": "Stolen", "username": "mallory", "role": "owner"}
    assert as_user(mallory).post(reverse(name, args=[project.pk]), fields).status_code == 404
    project.refresh_from_db()
    assert project.name == "Digits"
    assert roles(project) == {"ada": "owner", "grace": "member"}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("project_list", "post"),
        ("project_create", "delete"),
        ("project_detail", "post"),
        ("project_edit", "put"),
        ("project_delete", "get"),
        ("member_add", "get"),
    ],
)
def test_a_wrong_method_does_nothing(ada: User, project: Project, name: str, method: str) -> None:
    arguments = [] if name in ("project_list", "project_create") else [project.pk]
    assert getattr(as_user(ada), method)(reverse(name, args=arguments)).status_code == 405
    assert Project.objects.get() == project


# --- One project


def test_the_page_shows_the_runs(ada: User, project: Project) -> None:
    device = make_device(ada)
    run = make_run(
        project,
        [device],
        name="quiet-heron",
        state=RunState.RUNNING,
        total_rounds=10,
        round_index=2,
        best_metric={"name": "accuracy", "value": 0.931279, "round": 2},
        started_by=ada,
    )
    page = as_user(ada).get(project.get_absolute_url()).content.decode()
    for text in (run.get_absolute_url(), f'data-live="run:{run.pk}:state"', "Running", "3 / 10", "0.9313"):
        assert text in page


def test_the_page_shows_a_value_that_is_no_number(ada: User, project: Project) -> None:
    make_run(project, best_metric={"name": "loss", "value": "NaN", "round": 0})
    assert "NaN" in as_user(ada).get(project.get_absolute_url()).content.decode()


def test_the_page_counts_what_the_project_has(ada: User, grace: User, mallory: User, project: Project) -> None:
    idle, busy = make_device(ada, "idle"), make_device(grace, "busy")
    make_device(ada, "gone", online=False)
    make_device(mallory, "elsewhere")
    make_run(project, [busy], hold=True, state=RunState.RUNNING)
    make_run(project, [idle], state=RunState.FINISHED)
    context = as_user(ada).get(project.get_absolute_url()).context
    assert context["run_counts"] == {"total": 2, "active": 1}
    assert context["device_counts"] == {"offline": 1, "idle": 1, "busy": 1, "unbound": 0}


def test_the_runs_are_filtered_by_state_and_name(ada: User, project: Project) -> None:
    make_run(project, name="quiet-heron", state=RunState.FAILED)
    make_run(project, name="bold-otter", state=RunState.FINISHED)

    def names(query: str) -> list[str]:
        return [run.name for run in as_user(ada).get(project.get_absolute_url() + query).context["listing"].page]

    assert names("?state=FAILED") == ["quiet-heron"]
    assert names("?q=otter") == ["bold-otter"]
    assert names("?state=NONSENSE") == ["bold-otter", "quiet-heron"]


def test_htmx_gets_the_runs_alone(ada: User, project: Project) -> None:
    make_run(project, name="quiet-heron")
    page = as_user(ada).get(project.get_absolute_url(), headers={"HX-Request": "true"}).content.decode()
    assert "quiet-heron" in page
    assert "<html" not in page
    assert "Members" not in page


def test_the_page_needs_the_same_queries_for_many_runs(
    ada: User, project: Project, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = as_user(ada)
    devices = [make_device(ada, f"device-{number}") for number in range(3)]
    make_run(project, devices)
    with django_assert_num_queries(9):
        client.get(project.get_absolute_url())
    for number in range(20):
        make_run(project, devices, name=f"run-{number}", state=RunState.FINISHED)
    with django_assert_num_queries(9):
        client.get(project.get_absolute_url())


def test_a_stranger_does_not_see_the_page(mallory: User, project: Project) -> None:
    assert as_user(mallory).get(project.get_absolute_url()).status_code == 404
    assert as_user(mallory).get(reverse("project_detail", args=[999])).status_code == 404


def test_a_viewer_sees_the_page_without_what_viewers_cannot_do(ada: User, grace: User) -> None:
    project = make_project(ada, "Digits", viewer="grace")
    page = as_user(grace).get(project.get_absolute_url()).content.decode()
    assert reverse("run_create", args=[project.pk]) not in page
    assert reverse("project_edit", args=[project.pk]) not in page
    assert "Add a member" not in page


def test_names_are_text_and_no_markup(ada: User) -> None:
    project = make_project(ada, "<script>alert(1)</script>")
    make_run(project, name='"><img src=x onerror=alert(1)>')
    page = as_user(ada).get(project.get_absolute_url()).content.decode()
    assert "<script>alert" not in page
    assert "<img src=x" not in page


# --- Members


def add(client: Client, project: Project, username: str, role: str) -> Any:
    return client.post(reverse("member_add", args=[project.pk]), {"username": username, "role": role})


def remove(client: Client, project: Project, username: str) -> Any:
    membership = Membership.objects.get(project=project, user__username=username)
    return client.post(reverse("member_remove", args=[project.pk, membership.pk]))


def test_an_owner_adds_a_member_by_name(ada: User, mallory: User, project: Project) -> None:
    client = as_user(ada)
    add(client, project, "mallory", "viewer")
    assert said(client) == ["mallory is now viewer of Digits."]
    assert roles(project) == {"ada": "owner", "grace": "member", "mallory": "viewer"}
    assert as_user(mallory).get(project.get_absolute_url()).status_code == 200


def test_adding_a_member_again_changes_the_role(ada: User, project: Project) -> None:
    add(as_user(ada), project, "grace", "owner")
    assert roles(project) == {"ada": "owner", "grace": "owner"}


@pytest.mark.parametrize(("username", "role"), [("nobody", "member"), ("grace", "emperor"), ("", "member")])
def test_a_member_without_account_or_role_is_refused(ada: User, project: Project, username: str, role: str) -> None:
    client = as_user(ada)
    add(client, project, username, role)
    assert len(said(client)) == 1
    assert roles(project) == {"ada": "owner", "grace": "member"}


def test_the_last_owner_keeps_the_role(ada: User, project: Project) -> None:
    client = as_user(ada)
    add(client, project, "ada", "member")
    remove(client, project, "ada")
    assert said(client) == ["A project needs an owner. Make another member an owner first."] * 2
    assert roles(project) == {"ada": "owner", "grace": "member"}


def test_an_owner_removes_a_member(ada: User, grace: User, project: Project) -> None:
    remove(as_user(ada), project, "grace")
    assert roles(project) == {"ada": "owner"}
    assert as_user(grace).get(project.get_absolute_url()).status_code == 404


def test_a_member_may_leave_but_remove_nobody(grace: User, project: Project) -> None:
    client = as_user(grace)
    assert remove(client, project, "ada").status_code == 403
    assert remove(client, project, "grace").headers["Location"] == reverse("project_list")
    assert roles(project) == {"ada": "owner"}


def test_a_stranger_removes_nobody(mallory: User, project: Project) -> None:
    assert remove(as_user(mallory), project, "grace").status_code == 404
    assert roles(project) == {"ada": "owner", "grace": "member"}


def test_a_membership_of_another_project_is_not_found(ada: User, mallory: User, project: Project) -> None:
    other = Membership.objects.get(project=make_project(mallory, "Other"))
    assert as_user(ada).post(reverse("member_remove", args=[project.pk, other.pk])).status_code == 404
    assert Membership.objects.filter(pk=other.pk).exists()


def test_a_member_whose_device_works_for_the_project_stays(ada: User, grace: User, project: Project) -> None:
    make_run(project, [make_device(grace)], hold=True, state=RunState.RUNNING)
    client = as_user(ada)
    remove(client, project, "grace")
    assert said(client) == ["A run uses a device of grace. Wait until it ends, or stop it first."]
    assert roles(project) == {"ada": "owner", "grace": Role.MEMBER}
