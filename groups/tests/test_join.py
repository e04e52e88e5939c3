"""Joining by an invitation: with an account, by making one, and what keeps everybody else out."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from accounts.tests.objects import PASSWORD, make_user
from groups.invitations import invitation_accept, invitation_create, token_digest
from groups.models import Group, Invitation
from groups.services import GroupRefused, group_create, member_leave

pytestmark = pytest.mark.django_db

NEW_ACCOUNT = {"username": "mary", "email": "", "password1": "a long river", "password2": "a long river"}


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def group(ada: User) -> Group:
    return group_create(user=ada, name="Hospitals")


def token_of(link: str) -> str:
    return link.rpartition("#")[2]


def invite(group: Group, people: int = 1) -> tuple[str, Invitation]:
    link, row = invitation_create(group=group, user=group.created_by, role="viewer", days=7, people=people)
    return token_of(link), row


def roles(group: Group) -> dict[str, str]:
    return dict(group.memberships.values_list("user__username", "role"))


def holding(token: str, user: User | None = None) -> Client:
    """A browser whose person followed the link."""
    client = Client()
    if user is not None:
        client.force_login(user)
    client.post(reverse("join"), {"token": token})
    return client


def test_the_link_is_shown_once_and_its_digest_alone_is_stored(ada: User, group: Group) -> None:
    client = Client()
    client.force_login(ada)
    response = client.post(reverse("group_invite", args=[group.pk]), {"role": "member", "days": 7, "people": 3})
    (token,) = set(re.findall(r"/join/#([\w-]{43})", response.content.decode()))
    row = Invitation.objects.get()
    assert (row.token_hash, row.max_uses, row.role) == (token_digest(token), 3, "member")
    assert abs(row.expires_at - timezone.now() - timedelta(days=7)) < timedelta(minutes=5)
    assert token not in client.get(group.get_absolute_url()).content.decode()
    for bad in ({"days": 8}, {"people": 0}, {"role": "king"}):
        client.post(reverse("group_invite", args=[group.pk]), {"role": "member", "days": 7, "people": 3} | bad)
    assert Invitation.objects.count() == 1


def test_a_person_with_an_account_joins_once(group: Group) -> None:
    token, row = invite(group)
    client = holding(token, make_user("grace"))
    page = client.get(reverse("join")).content.decode()
    assert "Join Hospitals" in page
    assert "Join as grace" in page
    response = client.post(reverse("join_accept"))
    assert response.headers["Location"] == group.get_absolute_url()
    assert roles(group) == {"ada": "owner", "grace": "viewer"}
    other = holding(token, make_user("mallory"))
    assert "not valid any more" in other.get(reverse("join")).content.decode()
    other.post(reverse("join_accept"))
    assert "mallory" not in roles(group)
    row.refresh_from_db()
    assert row.uses == 1


def test_the_way_leads_over_the_sign_in_page(group: Group) -> None:
    make_user("grace")
    token, _ = invite(group)
    client = holding(token)
    assert f"{reverse('login')}?next={reverse('join')}" in client.get(reverse("join")).content.decode()
    client.post(reverse("login"), {"username": "grace", "password": PASSWORD, "next": reverse("join")})
    assert "Join as grace" in client.get(reverse("join")).content.decode()


def test_a_member_uses_nothing_up(ada: User, group: Group) -> None:
    token, row = invite(group)
    client = holding(token, ada)
    assert "You are in this group already" in client.get(reverse("join")).content.decode()
    client.post(reverse("join_accept"))
    row.refresh_from_db()
    assert (row.uses, roles(group)) == (0, {"ada": "owner"})


def test_without_the_operators_leave_no_account_is_made(group: Group, settings: Settings) -> None:
    settings.INVITED_ACCOUNTS = False
    client = holding(invite(group)[0])
    assert "Make the account" not in client.get(reverse("join")).content.decode()
    client.post(reverse("join_account"), NEW_ACCOUNT)
    assert not User.objects.filter(username="mary").exists()


def test_an_invited_person_makes_an_account(group: Group, settings: Settings) -> None:
    settings.INVITED_ACCOUNTS = True
    client = holding(invite(group)[0])
    weak = client.post(reverse("join_account"), NEW_ACCOUNT | {"password1": "1234", "password2": "1234"})
    assert "This password is too short" in weak.content.decode()
    client.post(reverse("join_account"), NEW_ACCOUNT)
    assert client.get(group.get_absolute_url()).status_code == 200
    mary = User.objects.get(username="mary")
    assert (roles(group)["mary"], mary.is_staff, mary.is_superuser) == ("viewer", False, False)


def test_without_an_invitation_no_account_is_made(group: Group, settings: Settings) -> None:
    settings.INVITED_ACCOUNTS = True
    token, row = invite(group)
    Client().post(reverse("join_account"), NEW_ACCOUNT)
    client = holding(token)
    Invitation.objects.filter(pk=row.pk).update(uses=1)
    client.post(reverse("join_account"), NEW_ACCOUNT)
    assert not User.objects.filter(username="mary").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"revoked_at": timezone.now()},
        {"uses": 1},
        {"token_hash": "another"},
    ],
)
def test_what_is_not_good_any_more_lets_nobody_in(group: Group, change: dict[str, object]) -> None:
    token, row = invite(group)
    client = holding(token, make_user("grace"))
    Invitation.objects.filter(pk=row.pk).update(**change)
    client.post(reverse("join_accept"))
    assert roles(group) == {"ada": "owner"}


def test_an_owner_withdraws_an_invitation(ada: User, group: Group) -> None:
    token, row = invite(group)
    client = Client()
    client.force_login(ada)
    client.post(reverse("group_invitation_withdraw", args=[group.pk, row.pk]))
    assert "not valid any more" in holding(token).get(reverse("join")).content.decode()


def test_the_invitations_of_one_who_leaves_end(ada: User, group: Group) -> None:
    grace = make_user("grace")
    group.memberships.create(user=grace, role="owner")
    link, _ = invitation_create(group=group, user=grace, role="owner", days=30, people=9)
    member_leave(membership=group.memberships.get(user=grace), by=ada)
    holding(token_of(link), grace).post(reverse("join_accept"))
    assert roles(group) == {"ada": "owner"}


@pytest.mark.django_db(transaction=True)
def test_of_two_at_the_same_moment_one_joins(group: Group) -> None:
    _, row = invite(group)
    people = [make_user("grace"), make_user("mary")]

    def accept(user: User) -> bool:
        try:
            return invitation_accept(invitation=row, user=user)
        except GroupRefused:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(accept, people)) == [False, True]
    assert group.memberships.count() == 2
