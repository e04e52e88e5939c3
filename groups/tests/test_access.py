"""What a group gives its members, and what ends when they leave: in the one table that every page and socket asks."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from accounts.tests.objects import make_device, make_project, make_run, make_user
from devices.models import Device
from devices.services import device_audience
from groups.models import Group, GroupMembership
from groups.services import GroupRefused, group_create, group_delete, member_join, member_leave, member_role_set
from runs.live.access import Access, access_read
from runs.models import Project, Role, Run
from runs.projects import (
    ProjectRefused,
    member_remove,
    member_set,
    project_create,
    project_group_set,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def grace() -> User:
    return make_user("grace")


@pytest.fixture
def group(ada: User, grace: User) -> Group:
    """Owned by ada, with grace as a member."""
    return group_create(user=ada, name="Hospitals", people=[grace])


@pytest.fixture
def project(ada: User, group: Group) -> Project:
    return project_create(user=ada, name="Digits", group=group)


def roles(project: Project) -> dict[str, tuple[str, str]]:
    """The role that counts and the one given by name, of every member."""
    return {each.user.username: (each.role, each.role_by_name) for each in project.memberships.select_related("user")}


def place(group: Group, user: User) -> GroupMembership:
    return group.memberships.get(user=user)


def test_a_groups_members_have_their_role_in_its_projects(project: Project) -> None:
    assert roles(project) == {"ada": ("owner", "owner"), "grace": ("member", "")}


def test_who_joins_later_is_in_every_project_with_devices_bound_later(group: Group, project: Project) -> None:
    mary = make_user("mary")
    assert member_join(group=group, user=mary, role=Role.VIEWER) is True
    assert member_join(group=group, user=mary, role=Role.OWNER) is False
    assert roles(project)["mary"] == ("viewer", "")
    device = make_device(mary, "late")
    assert list(Device.objects.of_project(project)) == [device]


def test_devices_are_seen_by_those_in_the_group_and_by_no_stranger(ada: User, grace: User, group: Group) -> None:
    device = make_device(grace)
    stranger = make_user("mallory")
    assert list(Device.objects.visible_to(ada)) == [device]
    assert list(Device.objects.visible_to(stranger)) == []
    assert device_audience(device) == {ada.pk, grace.pk}


def test_a_change_of_role_reaches_every_project(grace: User, group: Group, project: Project) -> None:
    member_role_set(membership=place(group, grace), role=Role.VIEWER)
    assert roles(project)["grace"] == ("viewer", "")


def test_the_greater_of_two_roles_counts(grace: User, group: Group, project: Project) -> None:
    member_set(project=project, username="grace", role=Role.OWNER)
    assert roles(project)["grace"] == ("owner", "owner")
    member_set(project=project, username="grace", role=Role.VIEWER)
    assert roles(project)["grace"] == ("member", "viewer")
    member_remove(membership=project.memberships.get(user=grace))
    assert roles(project)["grace"] == ("member", "")
    with pytest.raises(ProjectRefused, match="is here by the group Hospitals"):
        member_remove(membership=project.memberships.get(user=grace))


def test_who_leaves_loses_every_role_in_the_groups_projects_and_no_other(
    ada: User, grace: User, group: Group, project: Project
) -> None:
    elsewhere = make_project(ada, "Elsewhere", member="grace")
    own = project_create(user=grace, name="Made by grace", group=group)
    run = make_run(project)
    client = Client()
    client.force_login(grace)
    key = client.cookies["sessionid"].value
    assert access_read(key, run.pk)[0] is Access.GRANTED
    member_leave(membership=place(group, grace), by=ada)
    assert access_read(key, run.pk)[0] is Access.NONE
    assert set(Project.objects.visible_to(grace)) == {elsewhere}
    assert list(Run.objects.visible_to(grace)) == []
    assert roles(own) == {"ada": ("owner", "")}


def test_the_last_owner_stays(ada: User, grace: User, group: Group, project: Project) -> None:
    with pytest.raises(GroupRefused, match="A group needs an owner"):
        member_leave(membership=place(group, ada), by=ada)
    with pytest.raises(GroupRefused, match="A group needs an owner"):
        member_role_set(membership=place(group, ada), role=Role.MEMBER)
    assert roles(project)["ada"] == ("owner", "owner")


def test_who_has_a_device_at_work_for_the_group_stays(grace: User, ada: User, group: Group, project: Project) -> None:
    make_run(project, [make_device(grace)], hold=True)
    with pytest.raises(GroupRefused, match="A run uses a device of grace"):
        member_leave(membership=place(group, grace), by=ada)
    with pytest.raises(ProjectRefused, match="A run uses a device of grace"):
        project_group_set(project=project, user=ada, group=None)
    assert roles(project)["grace"] == ("member", "")


def test_a_project_leaves_its_group_with_those_named_in_it(ada: User, group: Group, project: Project) -> None:
    member_join(group=group, user=make_user("mary"), role=Role.OWNER)
    member_set(project=project, username="grace", role=Role.VIEWER)
    project_group_set(project=project, user=User.objects.get(username="mary"), group=None)
    assert roles(project) == {
        "ada": ("owner", "owner"),
        "grace": ("viewer", "viewer"),
        "mary": ("owner", "owner"),
    }
    group_delete(group=group)


def test_a_project_moves_between_groups(ada: User, group: Group, project: Project) -> None:
    other = group_create(user=ada, name="Labs", people=[make_user("mary")])
    project_group_set(project=project, user=ada, group=other)
    assert roles(project) == {"ada": ("owner", "owner"), "mary": ("member", "")}
    with pytest.raises(GroupRefused, match="has projects"):
        group_delete(group=other)


def test_viewers_and_strangers_put_no_project_into_a_group(group: Group) -> None:
    viewer = make_user("mary")
    member_join(group=group, user=viewer, role=Role.VIEWER)
    for user in (viewer, make_user("mallory")):
        with pytest.raises(ProjectRefused, match="cannot put projects into it"):
            project_create(user=user, name="Mine", group=group)
    assert not Project.objects.exists()


def test_pages_of_a_run_obey_the_group(ada: User, grace: User, group: Group, project: Project) -> None:
    run = make_run(project, [make_device(grace)])
    client = Client()
    client.force_login(grace)
    urls = [
        project.get_absolute_url(),
        run.get_absolute_url(),
        reverse("run_create", args=[project.pk]),
        reverse("alert_list", args=[project.pk]),
        group.get_absolute_url(),
    ]
    assert [client.get(url).status_code for url in urls] == [200] * len(urls)
    member_leave(membership=place(group, grace), by=ada)
    assert [client.get(url).status_code for url in urls] == [404] * len(urls)
