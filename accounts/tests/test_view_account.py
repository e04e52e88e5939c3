import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from accounts.tests.objects import PASSWORD, make_configuration, make_device, make_project, make_user

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "a quite different one"


@pytest.fixture
def ada(client: Client) -> User:
    user = make_user("ada")
    client.force_login(user)
    return user


def change(client: Client, old: str, new: str = NEW_PASSWORD) -> int:
    fields = {"old_password": old, "new_password1": new, "new_password2": new}
    return client.post(reverse("password_change"), fields).status_code


def test_it_shows_the_own_account(client: Client, ada: User) -> None:
    grace = make_user("grace")
    make_device(ada)
    make_device(grace)
    make_project(ada)
    make_project(grace)
    make_configuration(grace)
    response = client.get(reverse("account"))
    counts = {name: response.context[f"{name}_count"] for name in ("device", "project", "configuration")}
    assert counts == {"device": 1, "project": 1, "configuration": 0}


@pytest.mark.parametrize("name", ["account", "password_change", "home"])
def test_it_sends_a_stranger_to_sign_in(client: Client, name: str) -> None:
    assert client.get(reverse(name)).headers["Location"] == f"{reverse('login')}?next={reverse(name)}"


@pytest.mark.parametrize("name", ["account", "home"])
def test_it_takes_no_post(client: Client, ada: User, name: str) -> None:
    assert client.post(reverse(name)).status_code == 405


def test_it_changes_the_password_and_ends_other_sessions(client: Client, ada: User) -> None:
    elsewhere = Client()
    elsewhere.force_login(ada)
    assert change(client, PASSWORD) == 302
    ada.refresh_from_db()
    assert ada.check_password(NEW_PASSWORD)
    assert client.get(reverse("account")).status_code == 200
    assert elsewhere.get(reverse("account")).status_code == 302


@pytest.mark.parametrize(("old", "new"), [("guess", NEW_PASSWORD), (PASSWORD, "12345678"), (PASSWORD, "ada")])
def test_it_refuses_a_wrong_old_or_a_weak_new_password(client: Client, ada: User, old: str, new: str) -> None:
    assert change(client, old, new) == 200
    ada.refresh_from_db()
    assert ada.check_password(PASSWORD)
