import pytest
from django.test import Client
from django.urls import reverse

from accounts.tests.objects import make_user

pytestmark = pytest.mark.django_db


def test_it_ends_the_session(client: Client) -> None:
    client.force_login(make_user("ada"))
    response = client.post(reverse("logout"))
    assert response.headers["Location"] == reverse("login")
    assert "_auth_user_id" not in client.session
    assert "You are signed out." in client.get(reverse("login")).content.decode()


def test_a_link_cannot_sign_anybody_out(client: Client) -> None:
    ada = make_user("ada")
    client.force_login(ada)
    assert client.get(reverse("logout")).status_code == 405
    assert client.session["_auth_user_id"] == str(ada.pk)


def test_another_site_cannot_sign_anybody_out() -> None:
    ada = make_user("ada")
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    response = client.post(reverse("logout"))
    assert response.status_code == 403
    assert "This form has expired" in response.content.decode()
    assert client.session["_auth_user_id"] == str(ada.pk)
