"""Pages of groups and collaborators: who may see and do what."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from accounts.tests.objects import make_device, make_project, make_user
from groups.models import Group, Invitation
from groups.services import group_create
from runs.models import Project

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def grace() -> User:
    return make_user("grace")


@pytest.fixture
def group(ada: User, grace: User) -> Group:
    return group_create(user=ada, name="Hospitals", people=[grace])


def as_user(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def roles(group: Group) -> dict[str, str]:
    return dict(group.memberships.values_list("user__username", "role"))


def test_a_stranger_finds_no_group_anywhere(group: Group, grace: User) -> None:
    mallory = as_user(make_user("mallory"))
    member = group.memberships.get(user=grace)
    assert mallory.get(group.get_absolute_url()).status_code == 404
    assert mallory.get(reverse("group_edit", args=[group.pk])).status_code == 404
    invitation = Invitation.objects.create(
        group=group, token_hash="0", created_by=grace, expires_at="2100-01-01T00:00Z"
    )
    posts = [
        ("group_delete", [group.pk]),
        ("group_member_add", [group.pk]),
        ("group_member_role", [group.pk, member.pk]),
        ("group_member_remove", [group.pk, member.pk]),
        ("group_invite", [group.pk]),
        ("group_invitation_withdraw", [group.pk, invitation.pk]),
    ]
    assert [mallory.post(reverse(name, args=args)).status_code for name, args in posts] == [404] * 6
    assert [as_user(grace).post(reverse(name, args=args)).status_code for name, args in posts[:3] + posts[4:]] == [
        403
    ] * 5
    assert [as_user(grace).get(reverse(name, args=args)).status_code for name, args in posts] == [405] * 6
    assert roles(group) == {"ada": "owner", "grace": "member"}
    assert mallory.get(reverse("group_list")).context["listing"].total == 0
    assert mallory.get(reverse("collaborators")).context["listing"].total == 0


def test_a_group_is_made_with_collaborators_alone(ada: User, grace: User) -> None:
    make_project(ada, member="grace")
    mallory = make_user("mallory")
    client = as_user(ada)
    refused = client.post(reverse("group_create"), {"name": "Labs", "people": [mallory.pk]})
    assert "is not one of the available choices" in refused.content.decode()
    client.post(reverse("group_create"), {"name": "Labs", "people": [grace.pk]})
    assert roles(Group.objects.get()) == {"ada": "owner", "grace": "member"}


def test_the_page_shows_server_accounts_and_devices(ada: User, grace: User, group: Group) -> None:
    make_device(grace, "ward-north")
    make_device(grace, "ward-south", online=False)
    response = as_user(ada).get(group.get_absolute_url())
    branches = [(b.membership.user.username, [n.device.name for n in b.devices]) for b in response.context["branches"]]
    assert branches == [("grace", ["ward-north", "ward-south"]), ("ada", [])]
    assert response.context["counts"] == {"offline": 1, "idle": 1, "busy": 0, "unbound": 0}


def test_the_page_needs_the_same_queries_for_many_members(
    ada: User, group: Group, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = as_user(ada)
    make_device(ada)
    url = group.get_absolute_url()
    client.get(url)
    with django_assert_num_queries(9):
        client.get(url)
    for number in range(5):
        person = make_user(f"person-{number}")
        group.memberships.create(user=person)
        make_device(person)
    with django_assert_num_queries(9):
        client.get(url)


def test_an_owner_manages_members(ada: User, grace: User, group: Group) -> None:
    client = as_user(ada)
    mary = make_user("mary")
    client.post(reverse("group_member_add", args=[group.pk]), {"person": mary.pk, "role": "viewer"})
    assert "mary" not in roles(group)
    make_project(ada, member="mary")
    client.post(reverse("group_member_add", args=[group.pk]), {"person": mary.pk, "role": "viewer"})
    assert roles(group)["mary"] == "viewer"
    place = group.memberships.get(user=mary)
    client.post(reverse("group_member_role", args=[group.pk, place.pk]), {"role": "king"})
    assert roles(group)["mary"] == "viewer"
    client.post(reverse("group_member_role", args=[group.pk, place.pk]), {"role": "owner"})
    assert roles(group)["mary"] == "owner"
    client.post(reverse("group_member_remove", args=[group.pk, place.pk]))
    assert roles(group) == {"ada": "owner", "grace": "member"}


def test_everybody_may_leave(grace: User, group: Group) -> None:
    client = as_user(grace)
    place = group.memberships.get(user=grace)
    response = client.post(reverse("group_member_remove", args=[group.pk, place.pk]))
    assert response.headers["Location"] == reverse("group_list")
    assert roles(group) == {"ada": "owner"}


def test_a_group_is_edited_and_deleted_by_its_owner(ada: User, group: Group) -> None:
    client = as_user(ada)
    client.post(reverse("group_edit", args=[group.pk]), {"name": "Clinics", "description": ""})
    group.refresh_from_db()
    assert group.name == "Clinics"
    Project.objects.create(name="Digits", group=group)
    client.post(reverse("group_delete", args=[group.pk]))
    assert Group.objects.exists()
    Project.objects.all().delete()
    client.post(reverse("group_delete", args=[group.pk]))
    assert not Group.objects.exists()


def test_collaborators_are_those_who_share_groups_or_projects(ada: User, grace: User, group: Group) -> None:
    make_user("mallory")
    make_user("mary")
    make_project(ada, "Digits", member="mary")
    make_project(grace, "Hidden from ada")
    rows = as_user(ada).get(reverse("collaborators")).context["listing"].page
    found = {
        row.username: (
            [each.group.name for each in row.shared_groups],
            [each.project.name for each in row.shared_projects],
        )
        for row in rows
    }
    assert found == {"grace": (["Hospitals"], []), "mary": ([], ["Digits"])}


def test_the_lists_are_searched_sorted_and_need_few_queries(
    ada: User, group: Group, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = as_user(ada)
    for number in range(12):
        group_create(user=ada, name=f"Labs {number:02}", people=[])
    with django_assert_num_queries(5):
        rows = client.get(reverse("group_list") + "?q=grace").context["listing"].page
    assert [row.name for row in rows] == ["Hospitals"]
    assert client.get(reverse("group_list") + "?sort=-name").context["listing"].page[0].name == "Labs 11"
    with django_assert_num_queries(7):
        client.get(reverse("collaborators"))


def test_a_project_is_put_into_a_group_by_its_form(ada: User, grace: User, group: Group) -> None:
    client = as_user(ada)
    foreign = group_create(user=make_user("mallory"), name="Foreign")
    refused = client.post(reverse("project_create"), {"name": "Digits", "group": foreign.pk})
    assert "Select a valid choice" in refused.content.decode()
    client.post(reverse("project_create"), {"name": "Digits", "group": group.pk})
    project = Project.objects.get()
    assert dict(project.memberships.values_list("user__username", "role")) == {"ada": "owner", "grace": "member"}
    client.post(reverse("project_edit", args=[project.pk]), {"name": "Letters", "group": ""})
    project.refresh_from_db()
    assert (project.name, project.group) == ("Letters", None)
    assert dict(project.memberships.values_list("user__username", "role")) == {"ada": "owner"}
    assert as_user(grace).get(project.get_absolute_url()).status_code == 404
