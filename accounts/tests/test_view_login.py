from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.tests.objects import PASSWORD, make_user
from accounts.throttle import FAILURES_ALLOWED

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def counting(redis_url: str) -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def sign_in(client: Client, password: str, username: str = "ada", address: str = "192.0.2.1") -> str:
    """Try to sign in and return the page's text, or where it leads."""
    response = client.post(reverse("login"), {"username": username, "password": password}, REMOTE_ADDR=address)
    return response.headers.get("Location", response.content.decode())


def test_it_lets_the_owner_of_the_account_in(client: Client, ada: User) -> None:
    assert sign_in(client, PASSWORD) == reverse("home")
    assert client.session["_auth_user_id"] == str(ada.pk)


def test_it_refuses_a_wrong_password_and_says_so(client: Client, ada: User) -> None:
    assert "do not match" in sign_in(client, "guess")
    assert "_auth_user_id" not in client.session


def test_it_leads_back_to_the_page_that_was_asked_for(client: Client, ada: User) -> None:
    wanted = reverse("account")
    assert client.get(wanted).headers["Location"] == f"{reverse('login')}?next={wanted}"
    response = client.post(reverse("login"), {"username": "ada", "password": PASSWORD, "next": wanted})
    assert response.headers["Location"] == wanted


def test_it_does_not_lead_to_another_site(client: Client, ada: User) -> None:
    response = client.post(
        reverse("login"), {"username": "ada", "password": PASSWORD, "next": "https://elsewhere.example/"}
    )
    assert response.headers["Location"] == reverse("home")


def test_it_sends_home_who_is_signed_in_already(client: Client, ada: User) -> None:
    client.force_login(ada)
    assert client.get(reverse("login")).headers["Location"] == reverse("home")


def test_it_blocks_even_the_right_password_after_ten_failures(client: Client, ada: User, counting: None) -> None:
    for _ in range(FAILURES_ALLOWED):
        assert "do not match" in sign_in(client, "guess")
    assert "Too many failed attempts for this account. Wait 5 minutes" in sign_in(client, PASSWORD)
    assert "_auth_user_id" not in client.session


def test_it_blocks_an_unknown_name_in_the_same_way(client: Client, counting: None) -> None:
    for _ in range(FAILURES_ALLOWED):
        sign_in(client, "guess", username="nobody")
    assert "Too many failed attempts" in sign_in(client, "guess", username="nobody")


def test_failures_from_elsewhere_or_for_others_do_not_count(client: Client, ada: User, counting: None) -> None:
    for _ in range(FAILURES_ALLOWED):
        sign_in(client, "guess", address="198.51.100.7")
        sign_in(client, "guess", username="grace")
    assert sign_in(client, PASSWORD) == reverse("home")


def test_signing_in_forgets_the_failures(client: Client, ada: User, counting: None) -> None:
    for _ in range(2):
        for _ in range(FAILURES_ALLOWED - 1):
            sign_in(client, "guess")
        assert sign_in(client, PASSWORD) == reverse("home")
        client.logout()


def test_it_goes_on_while_redis_is_away(client: Client, ada: User) -> None:
    assert "do not match" in sign_in(client, "guess")
    assert sign_in(client, PASSWORD) == reverse("home")


def test_signing_up_is_closed(client: Client) -> None:
    for path in ("/register/", "/signup/", "/accounts/register/"):
        assert client.get(path).status_code in (302, 404)
    assert "administrator" in client.get(reverse("login")).content.decode()
