"""``GET /healthz``: does this process answer, and reach its database?"""

from unittest import mock

import pytest
from django.db import OperationalError, connection
from django.test import Client


@pytest.mark.django_db
def test_it_is_well() -> None:
    response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_it_says_that_the_database_is_away() -> None:
    with mock.patch.object(connection, "cursor", side_effect=OperationalError("gone")):
        response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (503, {"error": "The database does not answer."})


@pytest.mark.django_db
def test_another_method_is_refused() -> None:
    assert Client().post("/healthz").status_code == 405
